#!/usr/bin/env bash
# Unmodified programs under `stp run` beside the same on TCP's loopback interface, on one machine, in turns: iperf3, redis-benchmark, nginx with wrk. Prints a
# table with medians and the ratio of each pair. Not a test: nothing is asserted.
# Usage: unmodified.sh PATH-OF-STP [ROUNDS]
set -u
. "$(dirname "$0")/../processes.sh"
PATH=$(cd "$(dirname "$1")" && pwd):$PATH:/usr/sbin
rounds=${2:-5}
work=$(mktemp -d)
chmod 755 "$work"
cd "$work" || exit 1
trap 'end_and_remove "$work"' EXIT
stp format stg --size 256M --medium mapped --hosts 4 --sockets 1024 --timing fast >/dev/null || exit 1
stpd --stg stg --host alpha --agent "$work/agent.sock" 2>agent.log &
until grep -q serving agent.log; do sleep 0.1; done
on() {  # tcp|stp COMMAND...
  local way=$1
  shift
  if [ "$way" = tcp ]; then "$@"; else STP_AGENT=$work/agent.sock stp run -- "$@"; fi
}
host() { [ "$1" = tcp ] && echo 127.0.0.1 || echo alpha.stp; }
for way in tcp stp; do
  on $way iperf3 -s -p 5311 >/dev/null 2>&1 &
  on $way redis-server --port 6411 --bind 0.0.0.0 --protected-mode no --save '' >/dev/null 2>&1 &
  mkdir -p $way/www $way/logs
  head -c 1000 /dev/zero >$way/www/small
  cat >$way/nginx.conf <<END
worker_processes 2; daemon off; pid $work/$way/pid; error_log $work/$way/error.log;
events { worker_connections 1024; }
http { access_log off; sendfile on; keepalive_requests 1000000;
  client_body_temp_path $work/$way/b; proxy_temp_path $work/$way/p; fastcgi_temp_path $work/$way/f; uwsgi_temp_path $work/$way/u; scgi_temp_path $work/$way/s;
  server { listen 8311; root $work/$way/www; } }
END
  on $way nginx -p "$work/$way" -c "$work/$way/nginx.conf" 2>/dev/null &
done
sleep 2
one() {  # ROW WAY: prints a number, more is better
  local where
  where=$(host "$2")
  case $1 in
    'iperf3, Gbit/s') on "$2" iperf3 -c "$where" -p 5311 -t 2 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["end"]["sum_received"]["bits_per_second"] / 1e9)' ;;
    'redis GET -c 50, requests/s') on "$2" redis-benchmark -h "$where" -p 6411 -c 50 -n 100000 -t get --csv | awk -F'"' '/GET/ {print $4}' ;;
    'redis GET -c 50 -P 16, requests/s') on "$2" redis-benchmark -h "$where" -p 6411 -c 50 -P 16 -n 500000 -t get --csv | awk -F'"' '/GET/ {print $4}' ;;
    'nginx and wrk -c 50, requests/s') on "$2" wrk -t 2 -c 50 -d 2 "http://$where:8311/small" | awk '/Requests\/sec/ {print $2}' ;;
  esac
}
printf '%-38s %12s %12s %7s\n' row 'stp run' TCP ratio
for row in 'iperf3, Gbit/s' 'redis GET -c 50, requests/s' 'redis GET -c 50 -P 16, requests/s' 'nginx and wrk -c 50, requests/s'; do
  for _ in $(seq "$rounds"); do
    echo "$(one "$row" stp 2>/dev/null) $(one "$row" tcp 2>/dev/null)"
  done | python3 -c '
import statistics, sys
pairs = [tuple(map(float, line.split())) for line in sys.stdin]
ours, rival = zip(*pairs)
print(f"{sys.argv[1]:38} {statistics.median(ours):12.4g} {statistics.median(rival):12.4g} {statistics.median(a / b for a, b in pairs):7.2f}")' "$row"
done
