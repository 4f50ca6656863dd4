#!/usr/bin/env bash
# iperf3 under `stp run` between two hosts of this machine, through two agents on a direct medium, beside what raw I/O reaches on the same storage (the best paced
# concurrent O_DIRECT write and read, as `stp bench` measures it), in turns. Prints medians, and the ratio of each pair. Not a test: nothing is asserted.
# Usage: unmodified_two_hosts.sh PATH-OF-STP [ROUNDS [STORAGE]]; STORAGE is formatted: a file, made here if none is named, or a device.
set -u
. "$(dirname "$0")/../processes.sh"
PATH=$(cd "$(dirname "$1")" && pwd):$PATH
rounds=${2:-5}
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}") # /tmp may be memory, which knows no O_DIRECT
storage=$(realpath -m "${3:-$work/stg}")
cd "$work" || exit 1
trap 'end_and_remove "$work"' EXIT
size=(--size 1G)
[ ! -b "$storage" ] || size=()
stp format "$storage" "${size[@]}" --medium direct --hosts 4 --timing local >format.log 2>&1 || { cat format.log >&2; exit 1; }
for host in alpha beta; do
  stpd --stg "$storage" --host $host --agent "$work/$host.sock" 2>$host.log &
done
for host in alpha beta; do until grep -q serving $host.log; do sleep 0.1; done; done
STP_AGENT=$work/alpha.sock stp run --map 'listen * stp' -- iperf3 -s -p 5311 >/dev/null 2>&1 &
sleep 1
iperf() { STP_AGENT=$work/beta.sock stp run -- iperf3 -c alpha.stp -p 5311 -t 2 --json "$@" | python3 -c 'import json, sys; print(json.load(sys.stdin)["end"]["sum_received"]["bits_per_second"] / 8e6)'; }
raw() { STP_AGENT=none stp bench --stg "$storage" --rounds 1 --idle-ms 100 --json 2>bench.log | python3 -c 'import json, sys; print(next(row["rival"] for row in json.load(sys.stdin) if row["row"] == "stream 64 KiB"))'; }
for _ in $(seq "$rounds"); do
  before=$(raw)
  there=$(iperf)
  back=$(iperf -R)
  echo "$there $back $before $(raw)"
done | python3 -c '
import statistics, sys
rows = [tuple(map(float, line.split())) for line in sys.stdin]
print("%-38s %12s %12s %7s" % ("row", "stp run", "raw I/O", "ratio"))
for name, column in (("iperf3 to another host, MB/s", 0), ("iperf3 -R, MB/s", 1)):
    ours = [row[column] for row in rows]
    rival = [(row[2] + row[3]) / 2 for row in rows]
    print(f"{name:38} {statistics.median(ours):12.4g} {statistics.median(rival):12.4g} {statistics.median(a / b for a, b in zip(ours, rival)):7.2f}")'
