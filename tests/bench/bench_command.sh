#!/usr/bin/env bash
# `stp bench` from a shell, as short as it gets: does it measure everything, and leave nothing behind? The figures are no test.
set -euo pipefail
stp=$1
work=$(mktemp -d "${TMPDIR:-/var/tmp}/bench-command.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$stp" format "$work/storage" --size 256M --hosts 4 --medium direct >/dev/null
"$stp" bench --stg "$work/storage" --rounds 1 --round-ms 50 --idle-ms 100 --json >"$work/rows"
python3 - "$work/rows" <<'PYTHON'
import json
import sys

rows = {row["row"]: row for row in json.load(open(sys.argv[1], encoding="utf-8"))}
for name in ("stream 64 KiB", "16 streams", "round trip 64 B, p50", "round trip 64 B without spin, p99", "connect, accept, close, p50 (rival: 6 writes, 6 reads)"):
    row = rows[name]
    assert row["ours"] > 0 and row["rival"] > 0 and row["ratio"] > 0, row
for name in ("first byte after silence", "idle reads a second"):
    assert rows[name]["ours"] > 0 and rows[name]["rival"] is None, rows[name]
PYTHON
[ "$(ls "$work")" = $'rows\nstorage' ] || { echo "left behind: $(ls "$work")"; exit 1; }
hosts=$("$stp" hosts --stg "$work/storage")
for host in bench-a bench-b; do
  grep -q "$host .* left " <<<"$hosts" || { echo "$host has not left: $hosts"; exit 1; }
done
