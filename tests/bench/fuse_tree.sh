#!/usr/bin/env bash
# How long `find` takes over 10,000 sockets in a mount of stp-fuse, and what the mount costs while nobody looks. Prints the
# medians; beside `find` over the mount, the rival: `find` over as many directories and files on tmpfs. Not a test: nothing is asserted.
# Usage: fuse_tree.sh BUILD-DIRECTORY [ROUNDS [SOCKETS]]
set -u
export LC_ALL=C
build=$(cd "$1" && pwd)
rounds=${2:-5}
sockets=${3:-10000}
. "$(cd "$(dirname "$0")" && pwd)/../processes.sh"
PATH=$build/tools:$build/fuse:$build/tests/fuse:$PATH
work=$(mktemp -d -p /dev/shm)
cd "$work" || exit 1
end() {
  fusermount3 -u -z mnt
  end_and_remove "$work"
} 2>/dev/null
trap end EXIT
stp format stg --size 512M --medium mapped --hosts 4 --sockets 16384 >/dev/null || exit 1
export STP_AGENT=$work/agent.sock
stpd --stg stg --host alpha --agent "$STP_AGENT" 2>agent.log &
agent=$!
until grep -q serving agent.log; do sleep 0.1; done
mkdir mnt
stp-fuse -f agent mnt &
mount=$!
until mountpoint -q mnt; do sleep 0.1; done
many_sockets "$STP_AGENT" "$sockets" >many.log 2>&1 &
until grep -q ready many.log; do sleep 0.1; done
until [ "$(ls mnt/hosts/alpha/sockets | wc -l)" = "$sockets" ]; do sleep 0.5; done
mkdir rival
(cd rival && seq 0 $((sockets - 1)) | xargs mkdir && for dir in *; do : >"$dir/status"; : >"$dir/local"; : >"$dir/remote"; done)

ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
# timed NAME COMMAND...: the seconds it took go to results; its output is counted, so that nothing half-done counts.
timed() {
  local began=$EPOCHREALTIME lines
  lines=$("${@:2}" | wc -l)
  echo "$1 $(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }') $lines" >>results
}
for _ in $(seq "$rounds"); do
  sleep 2  # longer than anything is remembered
  timed find find mnt/hosts/alpha/sockets
  timed rival find rival
  timed find-stat find mnt/hosts/alpha/sockets -printf '%s %m %T@\n'
  timed rival-stat find rival -printf '%s %m %T@\n'
done
awk '{ t[$1] = t[$1] " " $2; n[$1] = $3 } END { for (name in t) print name, n[name] t[name] }' results | sort | python3 -c '
import statistics, sys
for line in sys.stdin:
    name, lines, *seconds = line.split()
    print("%-12s %8s names %8.3f s" % (name, lines, statistics.median(map(float, seconds))))'
sleep 3
before_mount=$(ticks $mount) before_agent=$(ticks $agent)
sleep 10
after_mount=$(ticks $mount) after_agent=$(ticks $agent)
echo "nobody looks: stp-fuse $((after_mount - before_mount)) ticks, its agent $((after_agent - before_agent)) ticks of $(getconf CLK_TCK) a second, in 10 s"
fusermount3 -u mnt && wait $mount
before_agent=$(ticks $agent)
sleep 10
echo "no mount: the agent $(($(ticks $agent) - before_agent)) ticks in 10 s"
