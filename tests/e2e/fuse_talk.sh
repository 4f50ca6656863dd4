#!/usr/bin/env bash
# Conversations through two mounts, of two hosts, with what every system has: a shell, cat, dd, find, python3.
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:$(cd "$(dirname "$1")/../fuse" && pwd)
cd "$work" || exit 1
storage=$STP_STG
[ -c /dev/fuse ] && { true <>/dev/fuse; } 2>/dev/null || skip 'no use of /dev/fuse here'

unmount() {
  cd "$work" || return
  for name in alpha beta; do fusermount3 -u -z "mnt-$name" 2>/dev/null || umount -l "mnt-$name" 2>/dev/null; done
}
trap 'unmount; clean_up' EXIT

start_agent() {  # NAME
  rm -f "$1.log"
  stpd --stg "$storage" --host "$1" --agent "$work/$1.sock" 2>"$1.log" &
  echo $! >"$1.pid"
}
await_agent() {
  until_true 30 grep -q ' info stpd: serving' "$1.log" || fail "the agent of $1 does not serve"
}
unset STP_STG
start_agent alpha
start_agent beta
for name in alpha beta; do
  await_agent $name
  mkdir "mnt-$name"
  STP_AGENT=$work/$name.sock stp-fuse -f "mnt-$name" 2>"fuse-$name.log" &
  echo $! >"fuse-$name.pid"
  until_true 10 mountpoint -q "mnt-$name" ||
    { grep -qi 'permi\|not permitted\|fusermount' "fuse-$name.log" && skip "can not mount here: $(tail -n 1 "fuse-$name.log")"; fail "no mount of $name"; }
done
a=$work/mnt-alpha b=$work/mnt-beta
dd if=/dev/urandom of=one bs=1M count=24 status=none
dd if=/dev/urandom of=two bs=1M count=9 status=none

echo '- two shells on two hosts: listen, accept, connect, exchange files'
cat >listen.sh <<'SHELL'
cd "$1/net" || exit 1
exec 3<>clone
read -r n <&3
echo "announce 700" >&3 || exit 1
echo "$n" >"$2/listening"
exec 4<>"$n/listen"
read -r m <&4
cat "$m/data" >"$2/one.got" || exit 1
cat "$2/two" >"$m/data"
SHELL
cat >connect.sh <<'SHELL'
cd "$1/net" || exit 1
exec 3<>clone
read -r n <&3
echo "connect beta 700" >&3 || exit 1
cat "$2/one" >"$n/data" || exit 1
cat "$n/data" >"$2/two.got" || exit 1
cat "$n/remote" "$n/status" >"$2/seen"
SHELL
bash listen.sh "$b" "$work" 2>listener.log &
listener=$!
until_true 20 test -s listening || fail 'nobody listens'
timeout 60 bash connect.sh "$a" "$work" 2>dialer.log || fail 'the shell that connects'
wait $listener || fail 'the shell that listens'
same one one.got
same two two.got
[ "$(sed -n 1p seen)" = 'beta!700' ] || fail "what remote says: $(cat seen)"
[ "$(sed -n 2p seen)" = "ended read $(bytes two) written $(bytes one)" ] || fail "what status says: $(cat seen)"
[ "$(ls "$a/net")" = clone ] || fail "what is left of it: $(ls "$a/net")"

echo '- the short way: an announced port, and its data file on the other host'
exec 3<>"$b/net/clone"
read -r n <&3
echo 'announce 701' >&3
[ "$(cat "$b/net/$n/local")" = 'beta!701' ] || fail "what local says: $(cat "$b/net/$n/local")"
until_true 20 test -e "$a/hosts/beta/ports/701/data" || fail "the port is not shown: $(ls "$a/hosts/beta/ports")"
cat "$b/net/$n/data" >one.got &
reader=$!
timeout 60 dd if=one of="$a/hosts/beta/ports/701/data" bs=1M status=none || fail dd
wait $reader || fail 'cat of what dd sent'
same one one.got
cat two >"$b/net/$n/data" &
writer=$!
timeout 60 cat "$a/hosts/beta/ports/701/data" >two.got || fail 'cat of a port'
wait $writer || fail 'cat to who connects'
same two two.got

echo '- what can not be done is an errno, and words'
exec 4<>"$a/net/clone"
read -r m <&4
{ echo 'connect beta 9' >&4; } 2>err.log && fail 'it connected to nobody'
grep -q 'Connection refused' err.log || fail "$(cat err.log)"
grep -q 'nobody listens on that port' "$a/net/$m/err" || fail "what err says: $(cat "$a/net/$m/err")"
{ echo 'announce 701' >&3; } 2>/dev/null && fail 'it was announced twice'
{ cat "$a/net/$m/data" >/dev/null; } 2>err.log && fail 'it read what is not connected'
grep -q 'not connected' err.log || fail "$(cat err.log)"
exec 4<&-
[ "$(ls "$a/net")" = clone ] || fail "what is left of it: $(ls "$a/net")"

echo '- epoll, non-blocking reads and writes, signals, random sizes both ways'
timeout 100 python3 "$here/fuse_talk.py" "$a" "$b" beta 2>python.log || fail 'python'

echo '- 64 readers and 64 writers, and find and stat beside them'
dd if=two of=small bs=1K count=300 status=none
sum=$(cksum <small)
for i in $(seq 64); do { cat "$b/net/$n/data" | cksum >"sum.$i"; } & readers[i]=$!; done
until_true 20 grep -q 'waiting 64' "$b/net/$n/status" || fail "not all wait: $(cat "$b/net/$n/status")"
rm -f enough
{
  looks=0
  until [ -e enough ]; do
    timeout 5 stat "$b/net/$n/data" >/dev/null || exit 1
    timeout 5 find "$a" "$b" >/dev/null 2>find.log  # some go while it looks
    [ $? -lt 124 ] || exit 1
    looks=$((looks + 1))
  done
  echo $looks >looks
} &
looker=$!
for i in $(seq 64); do { timeout 60 bash -c 'exec 5>"$1"; head -c 1000 small >&5; tail -c +1001 small >&5' - "$a/hosts/beta/ports/701/data" || touch bad; } & writers[i]=$!; done
for i in $(seq 64); do wait "${writers[i]}" "${readers[i]}"; done
touch enough
wait $looker || fail 'find or stat hung'
[ ! -e bad ] || fail 'a writer'
for i in $(seq 64); do [ "$(cat "sum.$i")" = "$sum" ] || fail "reader $i got something else"; done
echo "  looked $(cat looks) times"

echo '- a host that is killed is an error, never an end of file'
sleep 1000 >"$a/hosts/beta/ports/701/data" &  # holds it open
holder=$!
cat "$b/net/$n/data" >/dev/null 2>server.log &
server=$!
{ timeout 60 cat "$a/hosts/beta/ports/701/data"; echo $? >status; } >/dev/null 2>cat.log &
reader=$!
cat "$b/net/$n/data" >/dev/null 2>&1 &
until_true 20 sh -c "grep -l established '$a'/net/*/status | wc -l | grep -qx 2" || fail "not connected: $(cat "$a"/net/*/status)"
kill -KILL "$(cat beta.pid)"
wait $reader
[ "$(cat status)" = 1 ] || fail "cat ended with $(cat status)"
grep -q 'Connection reset' cat.log || fail "what cat said: $(cat cat.log)"
wait $server && fail 'its own host saw an end of file'
kill $holder
wait $holder 2>/dev/null
rm -f beta.sock
start_agent beta
await_agent beta

echo '- and so is an agent; the mounts, and what is announced, go on with the next one'
carry() {  # over the port that was announced before
  cat "$b/net/$n/data" >two.got &
  reader=$!
  until_true 20 sh -c "timeout 20 cat two >'$a/hosts/beta/ports/701/data'" 2>retry.log || fail "nothing goes through any more: $1"
  wait $reader || fail "the reader: $1"
  same two two.got
}
carry 'the host was killed'
cat "$b/net/$n/data" >/dev/null 2>&1 &
{ timeout 60 cat "$a/hosts/beta/ports/701/data"; echo $? >status; } >/dev/null 2>cat.log &
reader=$!
until_true 20 sh -c "grep -q established '$a'/net/*/status" 2>/dev/null || fail 'not connected'
kill -KILL "$(cat alpha.pid)"
wait $reader
[ "$(cat status)" = 1 ] || fail "cat ended with $(cat status)"
grep -q 'Connection reset' cat.log || fail "what cat said: $(cat cat.log)"
timeout 10 ls "$a/net" >/dev/null || fail 'the mount hangs'
rm -f alpha.sock
start_agent alpha
await_agent alpha
carry 'the agent was killed'
