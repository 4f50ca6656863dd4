#!/usr/bin/env bash
# stp-ftp and stp-ftpd between two hosts: both ways, cut off and resumed, side by side, and what each failure returns.
. "$(dirname "$0")/common.sh"
cd "$work" || exit 1
mkdir root local secret
echo secret >secret/file
dd if=/dev/urandom of=big bs=1M count="$([ -z "$faults" ] && echo 64 || echo 24)" status=none
chmod 640 big
touch -d '2001-02-03 04:05:06.789' big

start_server() {
  stp-ftpd --root root --host beta "$@" 2>>ftpd.log &
  server=$!
}
ftp() { stp-ftp beta --host alpha --wait 20 -c "$1"; }
larger_than() { [ "$(bytes "$1")" -gt "$2" ]; }

echo '- both ways'
start_server
expect 0 ftp 'put big; get big local/'
same big root/big
same big local/big
[ "$(stat -c '%a %Y' big)" = "$(stat -c '%a %Y' local/big)" ] || fail 'mode and time were not kept'

echo '- directories, empty ones too'
mkdir -p tree/a/b tree/empty
for i in $(seq 20); do echo "$i" >"tree/a/file $i"; done
: >tree/a/b/nothing
expect 0 ftp 'put -r tree; get -r tree local/copy'
diff -r tree local/copy >diff.log || fail 'the copy of a directory differs'
[ -d root/tree/empty ] || fail 'an empty directory was left out'

echo '- exit statuses'
ln -s ../secret root/way
ln -s "$work/secret/file" root/link
expect 2 ftp 'frobnicate'
expect 3 stp-ftp beta --port 9 --host alpha -c ls
expect 3 stp-ftp nobody --host alpha -c ls
expect 5 ftp 'get nothing'
expect 11 ftp 'get way/file'
expect 11 ftp 'get link'
expect 11 ftp 'put big way/big'
expect 11 ftp 'cd ..'
expect 13 ftp 'get tree'
expect 14 ftp 'rmdir tree'
touch blocked
mkdir root/blocked
expect 12 ftp 'mput big blocked'
same big root/big
[ ! -e secret/big ] || fail 'the server wrote outside of its root'
rm root/way root/link

echo '- a disk that fills up'
mkdir small
if mount -t tmpfs -o size=8m none small 2>mount.log; then
  expect 7 ftp 'get big small/full'
  [ ! -e small/full ] || fail 'something half-written has the final name'
  mount -o remount,size=80m small
  expect 0 ftp 'get big small/full'
  same big small/full
  umount small
else
  echo "  not tested: $(cat mount.log)"
fi

# cut_off TARGET WORDS...: runs the command and kills it, or the server, with $signal when TARGET.part has grown. Leaves its exit status
# in $status. A transfer that was faster than the look at it is begun again.
cut_off() {
  local target=$1 attempt
  shift
  for attempt in 1 2 3 4 5; do
    rm -f "$target"
    "$@" >client.log 2>&1 &
    client=$!
    until larger_than "$target.part" 4000000 || [ -e "$target" ] || ! kill -0 "$client" 2>/dev/null; do :; done
    kill "-$signal" "$([ -z "$victim" ] && echo "$client" || echo "$server")" 2>/dev/null
    wait "$client" 2>/dev/null
    status=$?
    if [ ! -e "$target" ]; then
      larger_than "$target.part" 0 || fail "$target.part did not grow"
      return
    fi
    [ -z "$victim" ] || start_server
  done
  fail "$target was never caught in the middle"
}
resumed() { sed -n 's/.*"resumed_at":\([1-9][0-9]*\).*/\1/p' "$1"; }
# resume WORDS...: the same command again goes on where it ended.
resume() {
  expect 0 "$@"
  [ -n "$(resumed out.log)" ] || fail "not resumed, but begun again: $*"
}
put_it=(stp-ftp beta --host alpha --wait 20 --json -c 'put big up')
get_it=(stp-ftp beta --host alpha --wait 20 --json -c 'get big local/down')

echo '- the client is killed while it puts'
signal=KILL victim=
cut_off root/up "${put_it[@]}"
resume "${put_it[@]}"
same big root/up

echo '- the client is interrupted while it gets'
signal=INT victim=
# Background jobs of a script ignore SIGINT; the client must not.
cut_off local/down env --default-signal=INT "${get_it[@]}"
[ "$status" = 130 ] || fail "exit status $status instead of 130 after SIGINT"
resume "${get_it[@]}"
same big local/down

echo '- the server is killed while it sends'
signal=KILL victim=server
cut_off local/down "${get_it[@]}"
[ "$status" = 4 ] || fail "exit status $status instead of 4 after the server died"
start_server
resume "${get_it[@]}"
same big local/down

echo '- the server is killed while it receives'
victim=server
cut_off root/up "${put_it[@]}"
[ "$status" = 4 ] || fail "exit status $status instead of 4 after the server died"
start_server
resume "${put_it[@]}"
same big root/up

echo '- several clients at once'
clients=()
for i in 1 2 3; do
  stp-ftp beta --host alpha --wait 20 -c "put big up$i; get up$i local/down$i" >"client$i.log" 2>&1 &
  clients+=("$!")
done
for pid in "${clients[@]}"; do wait "$pid" || fail 'one of several clients'; done
for i in 1 2 3; do same big "local/down$i"; done

echo '- the end'
kill -TERM "$server"
wait "$server" || fail 'stp-ftpd did not end in good order'
! find root local -name '*.part*' | grep . || fail 'partial files were left'
echo passed
