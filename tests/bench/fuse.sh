#!/usr/bin/env bash
# `dd bs=1M` through a data file of stp-fuse beside `dd bs=1M` through a plain passthrough mount of a file on tmpfs, on one machine, in turns.
# Prints a table of medians in GB/s and the ratio of each pair. Not a test: nothing is asserted.
#
#   write    dd writes; an STP program takes what comes at the other end (for the rival: the file)
#   read     dd reads; an STP program fills the other end
#   through  in by one dd and out by another: here both at once, for the rival one after the other
#
# The rival has the best of plain buffers, splice, and plain buffers through the page cache; its file has its pages already.
# Usage: fuse.sh BUILD-DIRECTORY [ROUNDS [MIB]]
set -u
export LC_ALL=C
build=$(cd "$1" && pwd)
rounds=${2:-5}
mib=${3:-1024}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../processes.sh"
PATH=$build/tools:$build/fuse:$build/tests/bench:$PATH
work=$(mktemp -d -p /dev/shm)
cd "$work" || exit 1
end() {
  for mount in mnt plain splice cached; do fusermount3 -u -z $mount; done
  end_and_remove "$work"
} 2>/dev/null
trap end EXIT
stp format stg --size 256M --medium mapped --hosts 4 --sockets 1024 --timing fast >/dev/null || exit 1
export STP_AGENT=$work/agent.sock
stpd --stg stg --host alpha --agent "$STP_AGENT" 2>agent.log &
until grep -q serving agent.log; do sleep 0.1; done
mkdir mnt plain splice cached
stp-fuse -f agent mnt &
dd if=/dev/zero of=file bs=1M count="$mib" status=none
passthrough file plain &
passthrough file splice splice &
passthrough file cached cached &
for mount in mnt plain splice cached; do until mountpoint -q $mount; do sleep 0.1; done; done

seconds() { sed -n 's/.* copied, \([0-9.e-]*\) s,.*/\1/p' "$1"; }
# move NAME dd-operands: the time that dd took goes to results.
move() {
  dd "${@:2}" bs=1M iflag=fullblock 2>"$1.dd" || { cat "$1.dd" >&2; exit 1; }
  echo "$1 $(seconds "$1.dd")" >>results
}
exec 3<>mnt/net/clone
read -r n <&3
echo 'announce 700' >&3
# An STP program listens on 701 or 702 for one connection; whoever connects too early is refused.
listen() {  # PORT
  until exec 4<>"mnt/hosts/alpha/ports/$1/data"; do sleep 0.1; done 2>/dev/null
}
for _ in $(seq "$rounds"); do
  stp pipe --listen 701 </dev/null >/dev/null &
  listen 701
  move write-ours if=/dev/zero count="$mib" >&4
  exec 4<&-
  wait $!
  stp pipe --listen 702 </dev/zero >/dev/null 2>&1 &
  listen 702
  move read-ours of=/dev/null count="$mib" <&4
  exec 4<&-
  wait $!
  dd if="mnt/net/$n/data" of=/dev/null bs=1M 2>reader &
  move through-writer if=/dev/zero of=mnt/hosts/alpha/ports/700/data count="$mib"
  wait $!
  echo "through-ours $(seconds reader)" >>results
  for way in plain splice cached; do
    move write-$way if=/dev/zero of=$way/file count="$mib" conv=notrunc
    move read-$way if=$way/file of=/dev/null count="$mib"
    awk -v way=$way '$1 == "write-" way { w = $2 } $1 == "read-" way { r = $2 } END { print "through-" way, w + r }' results >through
    cat through >>results
  done
done
python3 - "$mib" <<'PYTHON'
import collections, statistics, sys
rates = collections.defaultdict(list)
for line in open("results"):
    name, seconds = line.split()
    rates[name].append(int(sys.argv[1]) * 2**20 / float(seconds) / 1e9)
median = {name: statistics.median(values) for name, values in rates.items()}
ways = ("ours", "plain", "splice", "cached")
print("%-8s %8s %8s %8s %8s %8s" % ("", *ways, "ratio"))
for row in ("write", "read", "through"):
    ours, *rivals = (median["%s-%s" % (row, way)] for way in ways)
    print("%-8s %8.2f %8.2f %8.2f %8.2f %8.2f" % (row, ours, *rivals, ours / max(rivals)))
PYTHON
