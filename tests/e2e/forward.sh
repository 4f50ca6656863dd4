#!/usr/bin/env bash
# `stp forward` between two hosts: -L, -R and -D, Unix sockets, many at once, what each failure looks like to the programs at both ends,
# endpoints added and removed while it runs. On "mapped" both hosts have an agent, elsewhere the engine is in the program.
. "$(dirname "$0")/common.sh"
peer=$(realpath "$(dirname "$0")")/forward_peer.py
cd "$work" || exit 1
read -r server dead http local nobody lost socks extra < <(python3 "$peer" ports 8)

if [ "$kind" = mapped ]; then
  for name in alpha beta; do
    stpd --stg "$STP_STG" --host "$name" --agent "$work/$name.agent" 2>"agent_$name.log" &
    until_true 30 grep -q ' info stpd: serving' "agent_$name.log" || fail "the agent of $name does not serve"
  done
  unset STP_STG
fi
# Not functions of the shell: $! must be the program itself.
forward_as() {  # HOST [options]
  local name=$1
  shift
  local agent=none
  [ "$kind" != mapped ] || agent=$work/$name.agent
  command=(stp forward --host "$name" --agent "$agent" "$@")
}
ask() { stp forward --control "$work/control" --ask "$@" 2>ask.log; }
serves() { until_true 30 grep -qF "serving $2" "$1.log" || fail "$1 does not serve $2"; }
start_beta() {
  : >beta.log
  forward_as beta -R "700:127.0.0.1:$server" -R "701:localhost:$dead" -R "702:$work/server.sock" -R "80:127.0.0.1:$http"
  "${command[@]}" 2>beta.log &
  beta=$!
}

dd if=/dev/urandom of=a bs=1M count=20 status=none
dd if=/dev/urandom of=b bs=1M count=20 status=none
python3 "$peer" serve "$server" "$work/server.sock" b 2>server.log &
python3 -m http.server --bind 127.0.0.1 --directory "$work" "$http" >http.log 2>&1 &
python3 "$peer" stale "$work/in.sock"
until_true 10 test -S server.sock || fail 'the server behind beta does not listen'

echo '- what can not be served is refused'
expect 2 stp forward --host alpha
expect 2 stp forward --host alpha -L "$local:beta"
grep -qF 'expected [ADDR:]PORT:HOST:PORT or /PATH:HOST:PORT' err.log || fail "the words for a wrong specification: $(cat err.log)"
expect 2 stp forward --host alpha --ask list
expect 1 stp forward --control "$work/control" --ask list
refused=(-L "$work/refused.sock:beta:1" -L "$server:beta:700")
forward_as gamma "${refused[@]}"
[ "$kind" != mapped ] || forward_as alpha "${refused[@]}"  # the agents are of alpha and beta
"${command[@]}" 2>gamma.log &
gamma=$!
start_beta
forward_as alpha -L "$local:beta:700" -L "$nobody:beta:999" -L "$lost:beta:701" -L "$work/in.sock:beta:702" -D "$socks" \
  --control "$work/control"
"${command[@]}" 2>alpha.log &
alpha=$!
serves beta "-R 80:"
until_true 30 grep -q 'taking commands' alpha.log || fail 'alpha does not serve'
wait "$gamma"
[ $? = 3 ] || fail 'an address that is in use is not exit status 3'
grep -qF -- "-L 127.0.0.1:$server:beta:700: can not listen on 127.0.0.1:$server: Address already in use" gamma.log ||
  fail 'the words for it'
[ ! -e refused.sock ] || fail 'the socket of an endpoint beside it was left'
[ "$(stat -c %a in.sock) $(stat -c %a control)" = '600 600' ] || fail "modes: $(ls -l in.sock control)"
python3 "$peer" silent "$socks" 2>silent.log &
silent=$!

echo '- 20 MiB both ways at once, through TCP and through Unix sockets'
python3 "$peer" exchange "$local" a b || fail 'TCP'
python3 "$peer" exchange "$work/in.sock" a b || fail 'Unix sockets'

echo '- the end of one direction leaves the other open'
python3 "$peer" half_close "$local" a || fail 'TCP'
python3 "$peer" half_close "$work/in.sock" a || fail 'Unix sockets'
head -c 2M a >few
for buffer in 2500 20000 100000; do
  python3 "$peer" half_close "$work/in.sock" few "$buffer" || fail "a Unix socket with a send buffer of $buffer"
done

echo '- 50 connections at once'
python3 "$peer" many "$local" 50 "$work/control" || fail 'not all of them were served'

echo '- a slow reader stalls nobody'
python3 "$peer" slow_reader "$local" b || fail 'it does'

echo '- where nobody listens the client is reset, and the reason is said'
python3 "$peer" is_reset "$nobody" || fail 'no STP listener'
grep -qF -- "-L 127.0.0.1:$nobody:beta:999: connect to beta:999: nobody listens on that port" alpha.log || fail 'the words of alpha'
python3 "$peer" is_reset "$lost" || fail 'no TCP listener'
grep -qF -- "-R 701:localhost:$dead: can not connect to localhost:$dead: Connection refused" beta.log || fail 'the words of beta'

echo '- a reset goes through, either way'
python3 "$peer" reset_by_server "$local" || fail 'from the server'
python3 "$peer" reset_by_server "$work/in.sock" || fail 'from the server, Unix sockets'
python3 "$peer" reset_by_client "$local" || fail 'from the client'

echo '- SOCKS5'
python3 "$peer" socks "$socks" || fail 'the proxy'
if command -v curl >/dev/null; then
  curl -sS -m 10 --socks5-hostname "127.0.0.1:$socks" -o got http://beta.stp/a 2>curl.log || fail "curl: $(cat curl.log)"
  same a got
  expect 97 curl -sS -m 10 --socks5-hostname "127.0.0.1:$socks" http://www.example.com/
else
  echo '  without curl, which is not installed'
fi

echo '- endpoints come and go'
ask "add -L $extra:beta:700" || fail "add: $(cat ask.log)"
ask "add -L $extra:beta:700" && fail 'an endpoint was added twice'
grep -qF 'served already' ask.log || fail "the words for it: $(cat ask.log)"
ask "add -L $work/a:beta:1" && fail 'a file that is no socket was taken'
grep -qF 'is there and is no socket' ask.log && [ -s a ] || fail "the words for it: $(cat ask.log)"
ask "add -L $work/server.sock:beta:1" && fail 'the socket of another program was taken'
grep -qF 'another program answers' ask.log || fail "the words for it: $(cat ask.log)"
ask 'remove -R 4242:localhost:1' && fail 'an endpoint that is not there was removed'
ask 'frobnicate' && fail 'nonsense was understood'
grep -qF 'the commands are' ask.log || fail "the words for it: $(cat ask.log)"
ask "add -R 7000:127.0.0.1:$server" && ask "add -L $work/x.sock:alpha:7000" || fail "add: $(cat ask.log)"
python3 "$peer" half_close "$work/x.sock" a || fail 'from alpha to alpha'
ask "remove -L $work/x.sock:alpha:7000" && [ ! -e x.sock ] || fail "remove: $(cat ask.log)"
python3 "$peer" removed "$extra" "$work/control" || fail 'remove'
ask list >list || fail 'list'
grep -q "^-L 127.0.0.1:$nobody:beta:999  *listens  *0  *1  *1 " list && grep -q '^ENDPOINT ' list || fail "list: $(cat list)"

wait "$silent" || fail 'a SOCKS client that says nothing is not sent away'

echo '- a killed peer is a reset, and no end; the next one is served'
# Through an agent the loss of a conversation that the peer had ended already is not told yet.
if [ "$kind" = mapped ]; then checks=(killed "$local" "$beta"); else checks=(quiet "$local" "$beta" "$work/control"); fi
python3 "$peer" "${checks[@]}" || fail 'the client was told that all is well, or a lost conversation was kept'
wait "$beta" 2>/dev/null
start_beta
serves beta "-R 80:"
python3 "$peer" half_close "$local" a || fail 'the next one'

echo '- SIGTERM'
python3 "$peer" stopped "$local" "$alpha" || fail 'a connection that was cut off looks whole'
wait "$alpha" || fail 'alpha did not end well'
[ ! -e in.sock ] && [ ! -e control ] || fail "socket files were left: $(ls ./*.sock control)"

echo '- more connections than are carried at a time wait, and cost nothing'
for bound in '--max-connections 5' '-n 90'; do
  : >alpha.log
  forward_as alpha -L "$local:beta:700"
  if [ "$bound" = '-n 90' ]; then
    (ulimit -n 90; exec "${command[@]}" 2>alpha.log) &
  else
    "${command[@]}" --max-connections 5 2>alpha.log &
  fi
  alpha=$!
  serves alpha -L
  python3 "$peer" queue "$local" 40 "$alpha" || fail "with $bound"
  grep -q 'can not accept for the moment' alpha.log || fail "$bound was no bound"
  kill -INT "$alpha"
  wait "$alpha" || fail 'alpha did not end well'
done
echo passed
