#!/usr/bin/env bash
# stpd as an operator runs it: pipes through two agents and through one, configuration, SIGHUP, SIGTERM, readiness, refusals.
. "$(dirname "$0")/common.sh"
cd "$work" || exit 1
storage=$STP_STG

start_agent() {  # NAME [options]
  local name=$1
  shift
  rm -f "$work/$name.log"
  stpd --stg "$storage" --host "$name" --agent "$work/$name.sock" "$@" 2>"$work/$name.log" &
  until_true 30 grep -q ' info stpd: serving' "$work/$name.log" || fail "the agent of $name does not serve"
}

start_agent alpha
alpha=$!
start_agent beta
beta=$!
dd if=/dev/urandom of=a bs=1M count=40 status=none
dd if=/dev/urandom of=b bs=1M count=30 status=none

echo '- a pipe through two agents, both directions, by programs that do not open the storage'
unset STP_STG
dd if=b bs=64k status=none | STP_AGENT=$work/beta.sock stp pipe --listen 7000 2>listen.log | sha256sum >a.sum &
listener=$!
dd if=a bs=64k status=none | STP_AGENT=$work/alpha.sock stp pipe beta 7000 --wait 20 2>dial.log | sha256sum >b.sum
[ "${PIPESTATUS[1]}" = 0 ] || fail 'the side that dials'
wait "$listener" || fail 'the side that listens'
[ "$(cat a.sum)" = "$(sha256sum <a)" ] || fail 'a did not arrive as it was sent'
[ "$(cat b.sum)" = "$(sha256sum <b)" ] || fail 'b did not arrive as it was sent'

echo '- a pipe between two programs of one agent'
STP_AGENT=$work/alpha.sock stp pipe --listen 7001 </dev/null 2>listen.log | sha256sum >a.sum &
listener=$!
STP_AGENT=$work/alpha.sock stp pipe alpha 7001 --wait 20 <a >reply 2>dial.log || fail 'the side that dials'
wait "$listener" || fail 'the side that listens'
[ "$(cat a.sum)" = "$(sha256sum <a)" ] || fail 'a did not arrive as it was sent'

echo '- what the agent counts'
stp stats --agent "$work/alpha.sock" >stats || fail 'stp stats'
grep -q '^# TYPE stp_agent_sockets_opened_total counter' stats || fail "no counter of sockets: $(cat stats)"
count() { sed -n "s/^$1{.*} \([0-9]*\)\(\.0*\)\?\$/\1/p" stats; }
[ "$(count stp_agent_local_connects_total)" = 1 ] || fail "local connects: $(grep local stats)"
[ "$(count stp_agent_sent_bytes_total)" = $((40 << 20)) ] || fail "bytes sent: $(grep sent_bytes stats)"
[ "$(count stp_agent_received_bytes_total)" = $((30 << 20)) ] || fail "bytes received: $(grep received_bytes stats)"
grep -q '^stp_storage_reads_total{.*host="alpha".*}\|^stp_storage_reads_total{.*stg=.*host="alpha"' stats || fail 'no labels'
expect 1 stp stats --agent "$work/nobody.sock"

echo '- bulk of several programs goes between rings and storage without another copy'
sum=$(sha256sum <a)
for port in $(seq 7010 7017); do
  STP_AGENT=$work/beta.sock stp pipe --listen "$port" </dev/null 2>"listen.$port" | sha256sum >"sum.$port" &
  STP_AGENT=$work/alpha.sock stp pipe beta "$port" --wait 20 <a >/dev/null 2>"dial.$port" &
done
for port in $(seq 7010 7017); do
  until_true 60 test -s "sum.$port" || fail "nothing came of port $port: $(cat "dial.$port" "listen.$port")"
  [ "$(cat "sum.$port")" = "$sum" ] || fail "what came at port $port is not what was sent"
done
stp stats --agent "$work/alpha.sock" >stats || fail 'stp stats'
lent=$(count stp_extents_lent_total)
stp stats --agent "$work/beta.sock" >stats || fail 'stp stats'
landed=$(count stp_extents_landed_total)
if [ ! -d /sys/kernel/mm/transparent_hugepage ] || [ "$(printf '6.1\n%s\n' "$(uname -r)" | sort -V | head -n 1)" != 6.1 ]; then
  echo '  skipped: this kernel makes no huge pages of shared memory on demand (Linux 6.1): everything was copied'
else
  [ "$lent" -gt 50 ] || fail "only $lent extents were written from where programs put them"
  [ "$landed" -gt 50 ] || fail "only $landed extents were read to where programs take them"
fi

echo '- which program has which socket, and what it does'
STP_AGENT=$work/alpha.sock stp pipe --listen 7002 </dev/null >/dev/null 2>listen.log &
listener=$!
mkfifo quiet
exec 9<>quiet
STP_AGENT=$work/alpha.sock stp pipe alpha 7002 --wait 20 <quiet 2>dial.log &
dialer=$!
until_true 10 sh -c "stp sockets -p --agent '$work/alpha.sock' >list; grep -q 'established .* alpha:7002 .*stp($listener)' list" ||
  fail "the process is not named: $(cat list)"
stp sockets -p -r 0.2 --json --agent "$work/alpha.sock" >list.json || fail 'sockets -p --json'
python3 - list.json <<'PYTHON' || fail "what sockets -p says: $(cat list.json)"
import json, sys
rows = [r for r in json.load(open(sys.argv[1]))["sockets"] if r["state"] == "established"]
assert len(rows) == 2 and all(r["same_agent"] and len(r["pids"]) == 1 for r in rows), rows
assert all("sent_bytes_a_second" in r for r in rows), rows
PYTHON
stp top -n 2 -d 0.2 --agent "$work/alpha.sock" >top || fail 'stp top'
[ "$(grep -c '^alpha of ' top)" = 2 ] || fail "what stp top says: $(cat top)"
kill "$dialer"
exec 9>&-
wait "$listener" "$dialer" 2>/dev/null

echo '- a second agent for one socket, and bad options, are refused'
expect 3 stpd --stg "$storage" --host gamma --agent "$work/alpha.sock"
expect 2 stpd --host gamma --agent "$work/gamma.sock"
expect 2 stpd --stg "$storage" --host gamma --mode 999
expect 3 stpd --stg "$work/nothing" --host gamma --agent "$work/gamma.sock"
[ ! -e "$work/gamma.sock" ] || fail 'a refused agent left its socket'

echo '- SIGTERM leaves the group and takes the socket away'
kill -TERM "$beta"
wait "$beta" || fail 'the agent of beta did not end well'
[ ! -e "$work/beta.sock" ] || fail 'the socket of beta is still there'
stp hosts --stg "$storage" | grep -q '^beta .* left ' || fail "beta has not left: $(stp hosts --stg "$storage")"

echo '- a configuration file; SIGHUP reads it again; the service manager is told'
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'host = "delta"\nstg = "%s"\nagent = "%s"\nmetrics = "127.0.0.1:%s"\n' "$storage" "$work/delta.sock" "$port" >delta.toml
python3 - "$work/notify" >notify.log <<'PYTHON' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(4096).decode().split("\n")[0], flush=True)
PYTHON
until_true 10 test -S "$work/notify" || fail 'no place for notifications'
NOTIFY_SOCKET=$work/notify WATCHDOG_USEC=400000 stpd --config delta.toml 2>delta.log &
delta=$!
until_true 30 grep -q READY=1 notify.log || fail 'the service manager was not told'
until_true 10 grep -q WATCHDOG=1 notify.log || fail 'the watchdog was not fed'
python3 - "$port" >metrics <<'PYTHON' || fail 'no metrics over HTTP'
import sys, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:%s/metrics" % sys.argv[1], timeout=10).read().decode())
PYTHON
grep -q '^stp_agent_programs{.*host="delta".*} 0' metrics || fail "what it says over HTTP: $(cat metrics)"
expect 3 stpd --stg "$storage" --host epsilon --agent "$work/epsilon.sock" --metrics "127.0.0.1:$port"
echo hello | STP_AGENT=$work/delta.sock stp pipe nobody 1 2>dial.log
grep -q 'no host of that name' dial.log || fail 'the agent of delta does not serve'
printf '[access]\nallow_users = [4242]\n' >>delta.toml
kill -HUP "$delta"
until_true 10 grep -q 'read delta.toml again' delta.log || fail 'SIGHUP was not heard'
STP_AGENT=$work/delta.sock stp pipe nobody 1 </dev/null 2>dial.log
grep -q 'Permission denied' dial.log || fail "a user who is not allowed was let in: $(cat dial.log)"
kill -TERM "$delta"
wait "$delta" || fail 'the agent of delta did not end well'
until_true 10 grep -q STOPPING=1 notify.log || fail 'the service manager was not told of the end'

echo '- an agent that was killed is followed by one that has its name at once'
kill -KILL "$alpha"
wait "$alpha" 2>/dev/null
begin=$(date +%s%N)
start_agent alpha
took=$((($(date +%s%N) - begin) / 1000000))
grep -q ' info stpd: alpha is a host' alpha.log || fail 'it came back under another name'
echo "  after $took ms"

echo '- an agent that stood still for longer than its lease says so, and comes back'
stp format "$work/quick" --size 64M --hosts 2 --sockets 64 --timing fast >format.log || fail 'stp format'
stpd --stg "$work/quick" --host zeta --agent "$work/zeta.sock" 2>zeta.log &
zeta=$!
until_true 30 grep -q ' info stpd: serving' zeta.log || fail 'the agent of zeta does not serve'
kill -STOP "$zeta"
sleep 1
kill -CONT "$zeta"
until_true 10 grep -q ' info stpd: .*zeta is back, as incarnation' zeta.log || fail 'zeta is not back'
grep -q ' warning stpd: .*the lease of "zeta" is .* the program was stopped' zeta.log || fail 'it does not say why'
kill -TERM "$zeta"
wait "$zeta" || fail 'the agent of zeta did not end well'
stp check "$storage" >check.log || fail 'stp check'
