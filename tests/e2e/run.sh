#!/usr/bin/env bash
# Real, unmodified programs under `stp run`, between two hosts on one storage and on one of them. What is not installed is named.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/../processes.sh"
here=$(cd "$(dirname "$0")" && pwd)
cd "$work" || exit 1
PATH=$PATH:/usr/sbin
python=/usr/bin/python3
[ -x $python ] || python=python3
storage=$STP_STG
unset STP_STG
left_out=()
both=$((20000 + $$ % 1000 * 10)) # and up to 9 more: ports of the machine's TCP, of which another such test that runs beside this one has others

end_all() {
  kill_descendants
  clean_up
}
trap end_all EXIT

begin_agent() {  # NAME
  rm -f "$work/$1.log"
  stpd --stg "$storage" --stg "$work/second" --host "$1" --agent "$work/$1.sock" 2>"$work/$1.log" &
}
serves() { until_true 30 grep -q ' info stpd: serving' "$work/$1.log" || fail "the agent of $1 does not serve"; }
start_agent() { begin_agent "$1" && serves "$1"; }
on() {  # HOST COMMAND...
  local host=$1
  shift
  STP_AGENT=$work/$host.sock stp run --map "${map:-listen * stp}" -- "$@"
}
have() { command -v "$1" >/dev/null || { left_out+=("$1"); return 1; }; }
answers() { on alpha $python -c 'import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)' "$1" "$2" 2>/dev/null; }
# listens PORT LOG: when the agent knows of it, which STP_DEBUG=1 tells.
listens() { grep -q "listening on port $1 of STP: Success" "$2"; }
may_be() { # USER, who has to be able to load what `stp run` preloads
  if [ "$(id -u)" != 0 ] || ! id "$1" >/dev/null 2>&1; then
    echo "not tried: what $1 does, for only root can be $1, where there is such a user"
  elif ! runuser -u "$1" -- test -x "$(command -v stp)"; then
    echo "not tried: what $1 does, who may not enter $(dirname "$(command -v stp)")"
  else
    return 0
  fi
  return 1
}
section() { printf -- '- %s (%d s)\n' "$*" "$SECONDS"; }

# Its hosts' addresses are to be others than the first one's, which by chance in 256 they are not.
part() { $python -c 'import sys; print(int.from_bytes(bytes.fromhex(sys.argv[1].replace("-", ""))[:8], "little") % 256)' "$(awk '/^UUID/ {print $2}' "$1")"; }
make_second() { stp format "$work/second" --name second --size 64M --medium "$kind" --hosts 4 --sockets 64 --timing local --force >second.format.log 2>&1; }
until make_second && [ "$(part format.log)" != "$(part second.format.log)" ]; do [ -s second ] || fail 'stp format of the second storage'; done
begin_agent alpha
alpha=$!
begin_agent beta
beta=$!
serves alpha
serves beta
dd if=/dev/urandom of=file bs=1M count=20 status=none
mkdir -p www && head -c 3000 file >www/small && cp file www/large

section 'socket calls, one by one, from another host and from the same'
on alpha $python "$here/run_calls.py" serve 7000 >calls.log 2>&1 &
until_true 20 answers alpha.stp 7000 || fail 'nothing answers'
on beta timeout 60 $python "$here/run_calls.py" call alpha.stp 7000 beta.stp >other.log 2>&1 || fail 'from another host'
on alpha timeout 60 $python "$here/run_calls.py" call alpha.stp 7000 alpha.stp >same.log 2>&1 || fail 'on one host'

resets() { [ "$(grep -c 'ended with <reset>' calls.log)" = "$1" ]; }
for host in beta alpha; do
  : >calls.log
  on $host $python "$here/run_calls.py" linger alpha.stp 7000 >linger.log 2>&1 || fail "SO_LINGER, from $host"
  until_true 20 resets 2 || fail "a client's close with SO_LINGER 0, from $host, is no reset: $(grep 'ended with' calls.log)"
done
: >calls.log

map='listen * on wildcard stp' on alpha timeout 60 $python "$here/run_calls.py" to-tcp alpha.stp >to-tcp.log 2>&1 || fail 'a port of STP, and a connect over TCP'

section 'a server that was killed'
on alpha $python -c 'import os, socket, time
s = socket.create_server(("0.0.0.0", 7990))
print(os.getpid(), flush=True)
time.sleep(100)' >killed.log &
until_true 20 test -s killed.log || fail 'no server'
answers_beta() { [ "$(on beta $python "$here/run_calls.py" errno alpha.stp 7990)" = "no error" ]; }
until_true 20 answers_beta || fail 'the server is not found'
kill -KILL "$(cat killed.log)"
refused=$(on beta $python "$here/run_calls.py" errno alpha.stp 7990)
[ "$refused" = ECONNREFUSED ] || fail "a server that was killed is there still, for another host: $refused"

section 'the second storage system of the agents'
on alpha $python "$here/run_calls.py" serve 7000 alpha.second.stp >second.log 2>&1 &
until_true 20 answers alpha.second.stp 7000 || fail 'nothing answers'
on beta timeout 60 $python "$here/run_calls.py" call alpha.second.stp 7000 beta.second.stp >other.log 2>&1 || fail 'from another host'
on alpha timeout 60 $python "$here/run_calls.py" call alpha.second.stp 7000 alpha.second.stp >same.log 2>&1 || fail 'on one host'
expect 1 on beta $python -c 'import socket; socket.gethostbyname("gamma.second.stp")'
expect 1 on beta $python -c 'import socket; s = socket.socket(); s.bind(("beta.stp", 7003)); s.connect(("alpha.second.stp", 7000))'
grep -q 'Invalid argument' err.log || fail 'a socket that is bound in one storage system connects in another one'
[ "$(on beta $python -c 'import socket; print(len({socket.gethostbyname(h + s + ".stp") for h in ("alpha", "beta") for s in ("", ".second")}))')" = 4 ] ||
  fail 'hosts of two storage systems have the same address'

section 'a server that listens on TCP and STP alike'
map="listen $both both" STP_DEBUG=1 on alpha $python "$here/run_calls.py" serve "$both" >both.log 2>&1 &
until_true 20 listens "$both" both.log || fail 'it does not listen'
on beta timeout 60 $python "$here/run_calls.py" call alpha.stp "$both" beta.stp >other.log 2>&1 || fail 'over STP, from another host'
on alpha timeout 60 $python "$here/run_calls.py" call alpha.stp "$both" alpha.stp >same.log 2>&1 || fail 'over STP, on one host'
over_tcp() { # what a TCP client of the machine is seen as, from an address of the machine and a port
  $python -c 'import socket, sys
s = socket.socket()
s.bind((sys.argv[2], int(sys.argv[3])))
s.connect(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"who\n")
print(eval(s.recv(1000).decode())[0] == s.getsockname())' "$both" "$@" 2>both.err.log
}
[ "$(over_tcp 127.0.0.1 0)" = True ] || fail 'over TCP'
map="listen $both both" expect 1 on alpha $python -c 'import socket, sys; socket.create_server(("0.0.0.0", int(sys.argv[1])))' "$both"
expect 1 on alpha $python -c 'import socket, sys; socket.create_server(("0.0.0.0", int(sys.argv[1])))' "$both"

section 'two sockets that share a port'
on alpha $python "$here/run_calls.py" share 7002 one two >share.log 2>&1 &
[ "$(on beta $python "$here/run_calls.py" errno alpha.second.stp 7002)" = ECONNREFUSED ] || fail 'what is bound to 0.0.0.0 listens in the second storage system as well'
shared() { [ "$(grep -c listening share.log)" = 2 ]; }
until_true 20 shared || fail 'two do not share a port'
for host in alpha beta; do
  [ "$(on $host $python "$here/run_calls.py" ask alpha.stp 7002 10 2>ask.log)" = 'one two' ] || fail "from $host not both answer"
done
kill -KILL "$(awk '/listening one/ {print $3}' share.log)"
for host in alpha beta; do
  [ "$(on $host $python "$here/run_calls.py" ask alpha.stp 7002 10 2>ask.log)" = two ] || fail "from $host not the one that is left answers"
done

section 'processes that share a port, started one by one'
declare -A sharing
share_alone() { # PORT NAME, as another user where $as says so
  on alpha ${as:-} $python "$work/run_calls.py" share "$1" "$2" >"share-$2.log" 2>&1 &
  sharing[$2]=$!
  until_true 20 grep -q listening "share-$2.log" || fail "$2 does not share port $1"
}
end_share() { # NAME: it and its parent
  local pid
  pid=$(awk '/listening/ {print $3}' "share-$1.log")
  kill -KILL "$pid" || fail "$1 has ended by itself"
  wait "${sharing[$1]}"
}
answer() { # PORT NAMES
  for host in alpha beta; do
    [ "$(on $host $python "$here/run_calls.py" ask alpha.stp "$1" 30 2>ask.log)" = "$2" ] || fail "from $host other processes than $2 answer at port $1"
  done
}
cp "$here/run_calls.py" "$work"
share_alone 7004 first
share_alone 7004 second
answer 7004 'first second'
end_share first
answer 7004 second
share_alone 7004 third
answer 7004 'second third'
map="listen $((both + 6)) both"
share_alone $((both + 6)) fourth
share_alone $((both + 6)) fifth
answer $((both + 6)) 'fifth fourth'
[ "$($python "$here/run_calls.py" ask 127.0.0.1 $((both + 6)) 20)" = 'fifth fourth' ] || fail 'not both answer over TCP'
end_share fourth
answer $((both + 6)) fifth
map=
share_alone 7005 sixth
share_alone 7005 seventh
end_share sixth
end_share seventh
on alpha $python -c 'import socket; socket.create_server(("0.0.0.0", 7005))' 2>alone.log || fail 'a port that nobody shares any more is not free'
on alpha $python "$here/run_calls.py" rebind 7005 2>alone.log || fail 'a port that was shared is not free at once'
map="listen $((both + 7)) both" on alpha $python "$here/run_calls.py" rebind $((both + 7)) 2>alone.log || fail 'a port of TCP and STP that was shared is not free at once'

[ "$(on beta $python -c 'import socket; print(len({socket.gethostbyname(h) for h in ("alpha.stp", "ALPHA.STP", "alpha.stg.stp")}))')" = 1 ] ||
  fail 'HOST.STG.stp is another host than HOST.stp'
expect 1 on beta $python -c 'import socket; socket.gethostbyname("alpha.other.stp")'

section 'an agent that is started again finds the listening programs'
kill -KILL "$alpha"
wait "$alpha" 2>/dev/null
start_agent alpha
alpha=$!
found() { on beta $python -c 'import socket; s = socket.create_connection(("alpha.stp", 7000), 5); s.sendall(b"count\nA"); s.shutdown(1); exit(s.recv(10) != b"65")' 2>/dev/null; }
until_true 20 found || fail 'the program is not found again'
[ "$(on beta $python "$here/run_calls.py" ask alpha.stp 7002 10 2>ask.log)" = two ] || fail 'the one that shares a port is not found again'
answer 7004 'second third'
# It has no copies of the port's names any more.
expect 1 on alpha $python "$here/run_calls.py" share 7004 eighth
grep -q 'Address already in use' err.log || fail 'what one more is told after the agent was started again'
counts() { [ "$(on "$1" $python -c 'import socket, sys; s = socket.create_connection(("alpha.stp", int(sys.argv[1])), 5); s.sendall(b"count\nA"); s.shutdown(1); print(s.recv(10))' "$2" 2>count.log)" = "b'65'" ]; }
until_true 20 counts beta "$both" || fail 'the one that listens on TCP as well is not found again'
nobody_too=no
if may_be nobody; then
  nobody_too=yes
  chmod 755 "$work"
  # The same port, of the other address family: another user is not to get the conversations.
  on alpha runuser -u nobody -- $python -c 'import socket; s = socket.socket(socket.AF_INET6); s.bind(("::", 7000)); s.listen()' 2>thief.log &&
    fail "another user listens on a port that is somebody's"
  grep -q 'Address already in use' thief.log || fail 'what the other user was told'
  # Nor who says to have a name, and has not; hostlib/run_protocol.h has the request.
  door=$($python -c 'import os, sys
mine = {os.readlink(f"/proc/{sys.argv[1]}/fd/{n}") for n in os.listdir(f"/proc/{sys.argv[1]}/fd")}
print(min((line.split("@")[1].strip() for line in open("/proc/net/unix") if "@stp-run:" in line and f"socket:[{line.split()[6]}]" in mine), key=len))' "$alpha")
  thief() { runuser -u nobody -- $python "$work/run_thief.py" "$@"; }
  cp "$here/run_thief.py" "$work" && chmod 644 "$work/run_thief.py"
  [ "$(thief claim "$door" 7000)" = EADDRINUSE ] && [ "$(thief claim "$door" 7999)" = EINVAL ] || fail 'nobody claims a port'
  found || fail 'the program is not found after that'
  on alpha runuser -u nobody -- $python -c 'import socket; socket.socket().bind(("0.0.0.0", 80))' 2>low.log && fail 'a port of root for nobody'

  section 'another user after a port of TCP and STP, and after one that is shared'
  for port in "$both" 7002 7004; do
    for address in 0.0.0.0 ::; do
      on alpha runuser -u nobody -- $python -c 'import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind((sys.argv[1], int(sys.argv[2])))' $address "$port" 2>thief.log && fail "nobody has port $port at $address, too"
      grep -q 'Address already in use' thief.log || fail 'what the other user was told'
    done
    [ "$(thief claim "$door" "$port")" = EINVAL ] || fail "nobody claims port $port"
    [ "$(thief share "$door" "$port")" = EADDRINUSE ] || fail "nobody gets a name of port $port"
  done
  [ "$(thief share "$door" 80)" = EACCES ] || fail "nobody gets a name of root's port"
  share_alone 7006 ninth
  [ "$(thief unshare "$door" 7006)" = EADDRINUSE ] && [ "$(thief share "$door" 7006)" = EADDRINUSE ] || fail 'nobody takes a port from who shares it'
  share_alone 7006 tenth
  answer 7006 'ninth tenth'
  as='runuser -u nobody --'
  chmod 644 "$work/run_calls.py"
  share_alone 7007 eleventh
  share_alone 7007 twelfth
  as=
  answer 7007 'eleventh twelfth'
  end_share ninth
  end_share tenth
  as='runuser -u nobody --'
  share_alone 7006 another
  as=
  answer 7006 another
  [ "$(thief clog "$door" 7008)" = clogged ] || fail 'the thief does not come that far'
  next=7010
  clogs() {
    next=$((next + 1))
    [ "$(thief share "$door" $next)" = EPERM ]
  }
  until_true 20 clogs || fail 'the agent has not closed what takes so long'
  answer 7006 another
  as='runuser -u nobody --'
  share_alone 7009 late
  expect 1 on alpha $as $python "$work/run_calls.py" share 7009 later
  as=
  share_alone 7001 other
  answer 7001 other
  expect 1 on alpha $python "$here/run_calls.py" share 7007 thirteenth
  grep -q 'Address already in use' err.log || fail 'root shares the port of another user'
  # Somebody's TCP server, which is not to be reached over STP.
  $python -c 'import os, socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(os.fstat(s.fileno()).st_ino, flush=True)
s.accept()' $((both + 1)) >inode &
  until_true 20 test -s inode || fail 'no TCP server'
  [ "$(thief hold "$door" $((both + 1)) "$(cat inode)")" = EINVAL ] || fail "nobody has another user's TCP server reached over STP"
  kill $!
  [ "$(thief behind "$door" 12345)" = ENOENT ] || fail 'who is behind no socket'
  # A name of a port that is not taken yet: the program is told.
  mkfifo rest
  thief squat "$door" $((both + 2)) <rest >squat.log &
  exec 3>rest
  until_true 20 grep -q there squat.log || fail 'the thief has no name'
  map='listen * both' expect 1 on alpha $python -c 'import socket, sys; socket.socket().bind(("0.0.0.0", int(sys.argv[1])))' $((both + 2))
  grep -q 'Address already in use' err.log || fail 'a program whose name is taken is not told'
  exec 3>&-
  wait $!
  # A conversation of two programs of this host: nobody makes its end a reset.
  thief mark "$door" 7000 <rest >mark.log 2>&1 &
  exec 3>rest
  on alpha $python -c 'import socket, time
s = socket.create_connection(("alpha.stp", 7000), 5)
s.sendall(b"count\nA")
until = time.monotonic() + 30
while "there" not in open("mark.log").read() and time.monotonic() < until:
    pass
s.shutdown(1)
print(s.recv(10), s.recv(10))' >marked.log 2>&1
  [ "$(cat marked.log)" = "b'65' b''" ] || fail "another user marks a conversation: $(cat marked.log)"
  exec 3>&-
  wait $! || fail 'the thief does not come that far'
  # From where another host's conversation came, and from nowhere.
  thief pass "$both" >pass.log 2>&1 &
  on beta $python -c 'import socket, sys, time
s = socket.create_connection(("alpha.stp", int(sys.argv[1])))
s.sendall(b"unread\n")
until = time.monotonic() + 30
while "seen" not in open("pass.log").read() and time.monotonic() < until:
    pass
s.recv(2)
s.sendall(b"y")
while s.recv(10):
    pass' "$both" 2>/dev/null
  wait $! || fail 'the thief does not come that far'
  address=$(on beta $python -c 'import socket; print(socket.gethostbyname("alpha.stp"))')
  grep -q "taken for ('$address'" pass.log || fail "who connects as the agent does: $(cat pass.log)"
  [ "$(over_tcp 127.83.84.80 0)" = False ] || fail 'the source address of the agent is believed to be of this machine'
  counts beta "$both" || fail 'the program is not reached any more'
  # The port of TCP, once the program is gone.
  thief take "$both" 3 >take.log 2>&1 &
  kill -KILL "$(awk '/^listening/ {print $2}' both.log)"
  until_true 20 grep -q there take.log || fail 'the thief does not get the TCP port'
  gone() { ! counts beta "$both" && grep -q refused count.log; }
  until_true 20 gone || fail "after its program's end the port is there still: $(cat count.log)"
  wait $!
  grep -q 'connections: 0' take.log || fail "another user gets what comes to a port: $(cat take.log)"
fi

section 'a server on TCP and STP is started again by exec'
map="listen $((both + 3)) both" STP_DEBUG=1 on alpha $python "$here/run_calls.py" exec $((both + 3)) >exec.log 2>&1 &
until_true 20 grep -q 'started again' exec.log || fail 'it is not started again'
counts alpha $((both + 3)) && counts beta $((both + 3)) || fail 'after exec it is not reached'
on beta $python -c 'import socket, sys, time
s = socket.create_connection(("alpha.stp", int(sys.argv[1])), 5)
s.sendall(b"wait\n")
s.recv(2)
print("waits", flush=True)
time.sleep(100)' $((both + 3)) >wait.log 2>&1 &
until_true 20 grep -q waits wait.log || fail 'no conversation'
kill -KILL "$(awk '/started again/ {print $3}' exec.log)"
# Its child, with the conversation, is there still.
map="listen $((both + 3)) both" STP_DEBUG=1 on alpha $python "$here/run_calls.py" serve $((both + 3)) >again.log 2>&1 &
until_true 20 listens $((both + 3)) again.log || fail 'it can not be started again'
until_true 20 counts beta $((both + 3)) || fail 'started again it is not reached'

if [ $nobody_too = yes ]; then
  on beta runuser -u nobody -- "$(command -v stp)" run -- true 2>mode.log || fail 'nobody may not, where everybody may'
  chmod 660 "$work/beta.sock"
  on beta runuser -u nobody -- "$(command -v stp)" run -- true 2>mode.log && fail "the mode of the agent's socket keeps nobody out"
  grep -q 'Permission denied' mode.log || fail 'what nobody was told'
  chgrp "$(id -g nobody)" "$work/beta.sock"
  on beta runuser -u nobody -- "$(command -v stp)" run -- true 2>mode.log || fail 'a member of its group is kept out'
  chmod 666 "$work/beta.sock"
fi

section 'http.server and asyncio'
(cd www && on beta $python -m http.server 8000 >../http.log 2>&1) &
until_true 20 answers beta.stp 8000 || fail 'http.server does not answer'
if have curl; then
  on alpha curl -sSf -o got http://beta.stp:8000/large 2>curl.log || fail 'curl'
  same got file
  expect 7 on alpha curl -sS http://beta.stp:8009/
  expect 6 on alpha curl -sS http://nobody.stp/
fi
on alpha $python - >asyncio.log 2>&1 <<'PY' || fail 'asyncio'
import asyncio, hashlib
async def fetch(host, port, path):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    data = await reader.read()
    writer.close()
    return hashlib.sha256(data.split(b"\r\n\r\n", 1)[1]).hexdigest()
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def exchange(number):
    reader, writer = await asyncio.open_connection("alpha.stp", 8100)
    writer.write(bytes([number]) * 200000)
    writer.write_eof()
    assert await reader.read() == bytes([number]) * 200000
    writer.close()
async def main():
    want = hashlib.sha256(open("file", "rb").read()).hexdigest()
    got = await asyncio.gather(*[fetch("beta.stp", 8000, "/large") for _ in range(4)])
    assert got == [want] * 4, got
    server = await asyncio.start_server(echo, "0.0.0.0", 8100)
    await asyncio.gather(*[exchange(n) for n in range(30)])
    server.close()
asyncio.run(main())
PY

section 'a program compiled with <stp/bsd.h>, without stp run'
library=$(dirname "$(command -v stp)")/../hostlib
mkdir -p include && ln -s "$here/../../hostlib" include/stp
compile_bsd() { cc -Wall -Wextra -Werror -O2 -Iinclude -include stp/bsd.h "$@" "$here/bsd_fetch.c" -o bsd_fetch "$library/libstp.so.0" -Wl,-rpath,"$(realpath "$library")" 2>cc.log; }
if compile_bsd -D_FORTIFY_SOURCE=2; then
  for options in -D_FORTIFY_SOURCE=2 -D_FILE_OFFSET_BITS=64; do
    compile_bsd "$options" || fail "compiling with <stp/bsd.h> and $options"
    for host in alpha beta; do
      STP_AGENT=$work/$host.sock ./bsd_fetch beta.stp 8000 /large >bsd.got 2>bsd.log || fail "bsd_fetch on $host: status $?"
      tail -c "$(bytes file)" bsd.got >got
      same got file
    done
  done
  STP_AGENT=$work/alpha.sock ./bsd_fetch beta.stp 8009 /large 2>bsd.log
  [ $? = 2 ] && grep -q refused bsd.log || fail 'bsd_fetch where nobody listens'
elif command -v cc >/dev/null; then
  fail 'compiling with <stp/bsd.h>'
else
  left_out+=(cc)
fi

if have nc; then
  section 'netcat, each way'
  STP_DEBUG=1 on alpha nc -l -N 7100 <file 2>nc.log &
  until_true 20 listens 7100 nc.log || fail 'nc does not listen'
  on beta nc -d alpha.stp 7100 >got 2>>nc.log || fail 'nc'
  wait $! || fail 'nc -l'
  same got file
  STP_DEBUG=1 on alpha nc -l -d 7101 >got 2>nc.log &
  listener=$!
  until_true 20 listens 7101 nc.log || fail 'nc does not listen'
  on beta nc -N alpha.stp 7101 <file 2>>nc.log || fail 'nc -N'
  wait "$listener" || fail 'nc -l -d'
  same got file
fi

if have socat; then
  section 'socat, a process for each connection'
  on beta socat TCP-LISTEN:7200,fork,reuseaddr EXEC:'sha256sum' 2>socat.log &
  until_true 20 answers beta.stp 7200 || fail 'socat does not answer'
  [ "$(on alpha socat -t 20 - TCP:beta.stp:7200 <file)" = "$(sha256sum <file)" ] || fail 'socat: another checksum'
fi

if have iperf3; then
  for options in '' -R '-P 8' --bidir; do
    section "iperf3 $options"
    rm -f iperf.log
    STP_DEBUG=1 on alpha iperf3 -s -1 -p 5300 >iperf.log 2>&1 &
    server=$!
    until_true 20 listens 5300 iperf.log || fail 'iperf3 does not listen'
    # shellcheck disable=SC2086
    on beta iperf3 -c alpha.stp -p 5300 -t 1 $options --json >iperf.json 2>iperf.err.log || fail "iperf3 $options"
    wait "$server" || fail "iperf3 -s, with $options"
    $python -c '
import json, sys
end = json.load(open("iperf.json"))["end"]
sent, received = end["sum_sent"]["bytes"], end["sum_received"]["bytes"]
# What is on its way when the time is over is not received by iperf3. How much it is, is no matter of a test: the machine may be busy.
sys.exit(0 if sent >= received > 1 << 20 else f"{sent} sent, {received} received")' || fail "iperf3 $options"
  done
fi

if have redis-server && have redis-benchmark; then
  section 'redis, a replica on the other host, redis-benchmark'
  mkdir -p redis1 redis2
  on alpha redis-server --port 6400 --bind 0.0.0.0 --protected-mode no --save '' --repl-diskless-sync-delay 0 --dir redis1 >redis1.log 2>&1 &
  until_true 20 answers alpha.stp 6400 || fail 'redis does not answer'
  on beta redis-server --port 6401 --bind 0.0.0.0 --protected-mode no --save '' --replicaof alpha.stp 6400 --dir redis2 >redis2.log 2>&1 &
  until_true 20 answers beta.stp 6401 || fail 'the replica does not answer'
  [ "$(on beta redis-cli -h alpha.stp -p 6400 set key value)" = OK ] || fail 'redis: SET'
  arrived() { [ "$(on alpha redis-cli -h beta.stp -p 6401 get key)" = value ]; }
  until_true 20 arrived || fail 'the replica does not get what was written'
  for pipeline in 1 16; do
    on beta redis-benchmark -h alpha.stp -p 6400 -c 50 -n 20000 -P $pipeline -t incr --csv >benchmark.log 2>&1 || fail 'redis-benchmark'
  done
  counted() { [ "$(on alpha redis-cli -h beta.stp -p 6401 get counter:__rand_int__)" = 40000 ]; }
  until_true 20 counted || fail "after 40,000 INCR the replica has $(on alpha redis-cli -h beta.stp -p 6401 get counter:__rand_int__)"
fi

if have nginx && have curl; then
  section 'nginx with two workers'
  mkdir -p nginx/logs
  cat >nginx/nginx.conf <<END
worker_processes 2;
daemon off;
pid $work/nginx/pid;
error_log $work/nginx.log;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path $work/nginx/body; proxy_temp_path $work/nginx/proxy; fastcgi_temp_path $work/nginx/f; uwsgi_temp_path $work/nginx/u; scgi_temp_path $work/nginx/s;
  sendfile on;
  server { listen 8080; root $work/www; }
  server { listen 8082 reuseport; root $work/www; }
  server { listen $((both + 4)); root $work/www; }
  server { listen 8081; location / { proxy_pass http://beta.stp:8000; } }
}
END
  chmod 755 "$work" # nginx's workers are another user's
  map="listen $((both + 4)) both; listen * stp" on alpha nginx -p "$work/nginx" -c "$work/nginx/nginx.conf" 2>nginx.err.log &
  until_true 20 answers alpha.stp 8080 || fail 'nginx does not answer'
  on beta curl -sSf -o got http://alpha.stp:8080/large 2>curl.log || fail 'curl from nginx'
  same got file
  on beta curl -sSf -o got http://alpha.stp:8081/large 2>curl.log || fail 'curl from nginx as a proxy'
  same got file
  mkdir -p requests
  for port in 8080 8082 $((both + 4)); do
    rm -f requests/*
    count=$((port == 8080 ? 10000 : 1000))
    on beta curl -sSf -Z --parallel-max 20 -o 'requests/#1' "http://alpha.stp:$port/small?[1-$count]" 2>curl.log || fail "$count requests of curl to port $port"
    find requests -type f | xargs sha256sum | cut -c -64 | sort | uniq -c >sums
    [ "$(cat sums)" = "$(printf '%7d %s' $count "$(sha256sum <www/small | cut -c -64)")" ] || fail "$count requests of curl to port $port: $(head -n 5 sums)"
  done
  curl -sSf -o got "http://127.0.0.1:$((both + 4))/large" 2>curl.log || fail 'curl from nginx over TCP'
  same got file
  for _ in $(seq 52); do cat file; done >www/giant
  on beta curl -sSf http://alpha.stp:8080/giant 2>curl.log | cmp - www/giant || fail '1 GiB from nginx'
  [ "${PIPESTATUS[*]}" = '0 0' ] || fail '1 GiB from nginx'
  rm www/giant
  if have wrk; then
    on beta wrk -t 2 -c 20 -d 2 http://alpha.stp:8080/small >wrk.log 2>&1 || fail wrk
    grep -q 'Socket errors\|Non-2xx' wrk.log && fail 'wrk met errors'
    [ "$(awk '/requests in/ {print $1}' wrk.log)" -gt 500 ] || fail 'wrk had hardly an answer'
  fi
fi

if have rsync; then
  section 'rsync daemon'
  mkdir -p copy
  printf 'use chroot = no\n[www]\npath = %s\nread only = yes\n' "$work/www" >rsyncd.conf
  on alpha rsync --daemon --no-detach --config="$work/rsyncd.conf" --port 8730 2>rsyncd.log &
  until_true 20 answers alpha.stp 8730 || fail 'rsync does not answer'
  on beta rsync -a rsync://alpha.stp:8730/www/ copy/ 2>rsync.log || fail rsync
  same copy/large file
fi

if [ "$(id -u)" = 0 ] && have sshd && have sftp; then
  section 'sshd with ssh, scp and sftp'
  mkdir -p ssh /run/sshd
  ssh-keygen -q -t ed25519 -N '' -f ssh/host && ssh-keygen -q -t ed25519 -N '' -f ssh/user
  cp ssh/user.pub ssh/authorized
  chmod 700 ssh
  printf '%s\n' "HostKey $work/ssh/host" "AuthorizedKeysFile $work/ssh/authorized" 'StrictModes no' 'UsePAM no' 'PermitRootLogin yes' \
    'Subsystem sftp internal-sftp' "PidFile $work/ssh/pid" >ssh/config
  on alpha "$(command -v sshd)" -D -e -f "$work/ssh/config" -p 2200 2>sshd.log &
  until_true 20 answers alpha.stp 2200 || fail 'sshd does not answer'
  options=(-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i ssh/user -F none)
  [ "$(on beta ssh "${options[@]}" -p 2200 root@alpha.stp 'sha256sum' <file 2>ssh.log)" = "$(sha256sum <file)" ] || fail ssh
  on beta ssh "${options[@]}" -p 2200 root@alpha.stp 'exit 42' 2>>ssh.log
  [ $? = 42 ] || fail "ssh: the command's exit status"
  on beta scp "${options[@]}" -q -P 2200 file "root@alpha.stp:$work/by_scp" 2>scp.log || fail scp
  same by_scp file
  echo "get $work/file by_sftp" | on beta sftp "${options[@]}" -q -P 2200 -b - root@alpha.stp >sftp.log 2>&1 || fail sftp
  same by_sftp file
fi

postgres=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
if [ -z "$postgres" ]; then
  left_out+=(postgresql)
elif may_be postgres; then
  section 'PostgreSQL: psql, pgbench, and a database piped into another one'
  mkdir -p pg && chown postgres pg && chmod 755 "$work"
  as_postgres() { (cd pg && PATH=$postgres:$PATH runuser -u postgres -- "$@"); }
  for host in alpha beta; do
    as_postgres initdb -D "$work/pg/$host" -A trust -N --no-locale >initdb.log 2>&1 || fail initdb
    printf "listen_addresses = '0.0.0.0'\nport = 5433\nunix_socket_directories = '%s'\nfsync = off\nshared_buffers = 16MB\n" "$work/pg/$host" >>"pg/$host/postgresql.conf"
    echo 'host all all 198.18.0.0/16 trust' >>"pg/$host/pg_hba.conf"
    (cd pg && on $host runuser -u postgres -- "$postgres/postgres" -D "$work/pg/$host") >"pg.$host.log" 2>&1 &
    until_true 30 answers $host.stp 5433 || fail "PostgreSQL on $host does not answer"
  done
  sql() { on "$1" psql -h "$2.stp" -p 5433 -U postgres -d "${4:-bench}" -Atc "$3" 2>>psql.log; }
  ready() { [ "$(sql beta alpha 'select 1' postgres)" = 1 ] && [ "$(sql alpha beta 'select 1' postgres)" = 1 ]; }
  until_true 30 ready || fail 'psql'
  for host in alpha beta; do sql $host $host 'create database bench' postgres >/dev/null || fail 'create database'; done
  on beta pgbench -h alpha.stp -p 5433 -U postgres -q -i -s 1 bench >pgbench.log 2>&1 || fail 'pgbench -i'
  on beta pgbench -h alpha.stp -p 5433 -U postgres -c 4 -j 2 -t 50 bench >>pgbench.log 2>&1 || fail 'pgbench'
  [ "$(sql beta alpha 'select count(*) from pgbench_history')" = 200 ] || fail 'pgbench: not every transaction is there'
  # From one database into the other, through `stp pipe`: no file in between.
  STP_AGENT=$work/beta.sock stp pipe --listen 7300 2>pipe.listen.log | psql -q -v ON_ERROR_STOP=1 -h "$work/pg/beta" -p 5433 -U postgres bench >restore.log 2>&1 &
  restore=$!
  pg_dump -h "$work/pg/alpha" -p 5433 -U postgres bench | STP_AGENT=$work/alpha.sock stp pipe --wait 20 -- beta 7300 2>pipe.log
  [ "${PIPESTATUS[*]}" = '0 0' ] || fail 'pg_dump | stp pipe'
  wait "$restore" || fail 'stp pipe | psql'
  sums='select (select sum(hashtext(t::text)) from pgbench_accounts t), (select sum(hashtext(t::text)) from pgbench_history t)'
  [ -n "$(sql alpha alpha "$sums")" ] && [ "$(sql alpha alpha "$sums")" = "$(sql beta beta "$sums")" ] || fail 'the copy of the database differs'
fi

section 'a host that is alive and silent'
kill -STOP "$beta"
on alpha $python "$here/run_calls.py" silent beta.stp 7000 1000 >silent.log 2>&1
kill -CONT "$beta"
[ "$(cat silent.log)" = $'ETIMEDOUT\nEINPROGRESS\nETIMEDOUT' ] || fail "a host that is silent: $(cat silent.log)"

section 'an agent is killed in the middle of an upload: both ends are reset, and neither takes it for an end'
STP_DEBUG=1 on beta $python "$here/run_calls.py" upload alpha.stp 7000 >upload.log 2>&1 &
upload=$!
until_true 20 grep -q uploading upload.log || fail 'the upload did not begin'
kill -KILL "$beta"
wait "$upload" || fail 'the uploading side'
until_true 30 grep -q 'upload ended' calls.log || fail 'the other side heard of nothing'
grep -q 'upload ended with <reset>' calls.log || fail "the other side: $(grep 'upload ended' calls.log)"
grep -q 'no agent answers' upload.log || fail 'STP_DEBUG=1 does not say that the agent is gone'
expect 3 on beta true
down() { [ "$(on alpha $python "$here/run_calls.py" errno beta.stp 7000)" = EHOSTUNREACH ]; }
until_true 20 down || fail "a host that is down: $(on alpha $python "$here/run_calls.py" errno beta.stp 7000)"

section 'two storage systems whose hosts would have the same addresses'
printf 'stg = ["%s", "%s"]\nhost = "beta"\nagent = "%s"\nrun_network = "198.18.0.0/24"\n' "$storage" "$work/second" "$work/beta.sock" >stpd.toml
rm beta.log
stpd --config stpd.toml 2>beta.log &
serves beta
grep -q 'second .* has the same part of run_network' beta.log || fail 'nothing is said'
[[ "$(on beta $python -c 'import socket; print(socket.gethostbyname("alpha.stp"))')" = 198.18.0.[12] ]] || fail 'the first one is not served'
expect 1 on beta $python -c 'import socket; socket.gethostbyname("alpha.second.stp")'

section 'what can not be preloaded, and rules that make no sense'
cat >static.c <<'END'
int main(void) { return 0; }
END
if cc -static -o static static.c 2>/dev/null; then
  expect 126 on alpha ./static
  grep -q 'stp forward' err.log || fail 'no way out is named'
fi
expect 127 on alpha ./not-there
map=$'listen 80 stp\nlisten eighty stp' expect 2 on alpha true
grep -q 'line 2' err.log || fail 'the rule that is wrong is not named'
printf '# all of it\n\nlisten 80 on moon stp\n' >rules
map=rules expect 2 on alpha true
grep -q 'rules: line 3: .*moon' err.log || fail 'the line of the rules file that is wrong is not named'
expect 42 on alpha sh -c 'exit 42'

[ ${#left_out[@]} = 0 ] || echo "not installed, and left out: ${left_out[*]}"
