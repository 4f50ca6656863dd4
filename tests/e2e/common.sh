# Sourced by the end-to-end tests: NAME.sh STP KIND [FAULTS], where STP is the built `stp` (the other tools lie beside it), KIND the storage:
# direct, mapped, loop512 or loop4096, and FAULTS what STP_FAULTS is to be. Gives them $work (a scratch directory), STP_STG (formatted), the tools in PATH,
# and takes away what they started.

set -uo pipefail
PATH=$(cd "$(dirname "$1")" && pwd):$PATH
kind=$2
faults=${3:-}
unset STP_HOST STP_AGENT STP_IO STP_DEBUG STP_FAULTS JOURNAL_STREAM
work=$(mktemp -d)
loop=

clean_up() {
  local pid
  for pid in $(jobs -p); do kill -KILL "$pid" 2>/dev/null; done
  wait 2>/dev/null
  cd /
  [ ! -d "$work/small" ] || umount "$work/small" 2>/dev/null
  [ -z "$loop" ] || losetup -d "$loop" 2>/dev/null
  rm -rf "$work"
}
trap clean_up EXIT

fail() {
  echo "FAILED: $*" >&2
  local log
  for log in "$work"/*.log; do [ ! -s "$log" ] || { echo "--- ${log##*/}" >&2; tail -n 20 "$log" >&2; }; done
  exit 1
}
skip() { echo "skipped: $*"; exit 77; }

# expect STATUS WORDS...: runs the command, whose exit status must be that.
expect() {
  local wanted=$1 got
  shift
  "$@" >"$work/out.log" 2>"$work/err.log"
  got=$?
  [ "$got" = "$wanted" ] || fail "exit status $got instead of $wanted: $*"
}
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
bytes() { stat -c %s "$1" 2>/dev/null || echo 0; }
# until_true SECONDS WORDS...: repeats the command until it succeeds.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do [ "$SECONDS" -lt "$end" ] || return 1; done
}

make_loop() {
  [ "$(id -u)" = 0 ] || skip 'a loop device needs root'
  truncate -s 256M "$work/backing"
  loop=$(losetup --find --show --sector-size "$1" "$work/backing" 2>"$work/losetup.log") ||
    { loop=; skip "no loop device of $1-byte blocks here: $(cat "$work/losetup.log")"; }
  STP_STG=$loop
}

case $kind in
  direct | mapped) STP_STG=$work/stg; format=(--size 256M --medium "$kind") ;;
  loop512) make_loop 512; format=(--medium direct) ;;
  loop4096) make_loop 4096; format=(--medium direct) ;;
  *) fail "unknown kind of storage \"$kind\"" ;;
esac
export STP_STG
# Not the profile for tests: a busy machine must not look like a dead host. Deaths on one kernel are noticed at once anyway.
# A lease that is damaged when its host leaves stays so: with faults there are more of them.
stp format "$STP_STG" "${format[@]}" --hosts "$([ -z "$faults" ] && echo 4 || echo 12)" --sockets 256 --timing local >"$work/format.log" 2>&1 ||
  { grep -qi 'O_DIRECT\|not supported' "$work/format.log" && skip "$(tail -n 1 "$work/format.log")"; fail 'stp format'; }
[ -z "$faults" ] || export STP_FAULTS=$faults
