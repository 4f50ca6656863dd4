#!/usr/bin/env bash
# The mount of a storage as files: what shows. (What flows is in fuse_talk.sh.) The third argument is many_sockets of tests/fuse.
many_sockets=$(realpath "$3")
set -- "$1" "$2"  # a third word would be faults
. "$(dirname "$0")/common.sh"
PATH=$(cd "$(dirname "$1")/../fuse" && pwd):$PATH
[ "$(id -u)" = 0 ] || skip 'needs root, to mount and to be others'
[ -c /dev/fuse ] && : <>/dev/fuse 2>/dev/null || skip '/dev/fuse can not be opened here'
cd "$work" || exit 1
chmod 755 "$work"
storage=$STP_STG
unset STP_STG
m=$work/m
mkdir -p "$m" copy-m user-m other-m
take_away() {
  local dir
  # Those that stand still would hold up the end.
  for dir in "$m" copy-m user-m other-m; do fusermount3 -uzq "$work/${dir##*/}" 2>/dev/null; done
  clean_up
}
trap take_away EXIT
stp format "$storage" --force "${format[@]}" --hosts 4 --sockets 16384 --timing local >format.log 2>&1 || fail 'stp format'

start_agent() {  # NAME
  rm -f "$1.log"
  stpd --stg "$storage" --host "$1" --agent "$work/$1.sock" 2>"$1.log" &
}
serves() { until_true 30 grep -qs ' info stpd: serving' "$1.log" || fail "the agent of $1 does not serve"; }
start_agent alpha
alpha=$!
start_agent beta
beta=$!
serves alpha
serves beta
field() { sed -n "s/^$1 //p" "$2"; }
is() { [ "$(field "$2" "$1" 2>/dev/null)" = "$3" ]; }  # FILE KEY VALUE

echo '- a mount through an agent: every file by every program'
expect 0 env STP_AGENT="$work/alpha.sock" stp-fuse "$m"
[ "$(stat -f -c %T "$m")" = fuseblk ] || fail "no mount: $(stat -f "$m")"
until_true 10 is "$m/status" alive 2 || fail "two hosts: $(cat "$m/status")"
[ "$(ls "$m" | tr '\n' ' ')" = 'conduits ctl events hosts net status status.json storage ' ] || fail "names: $(ls "$m")"
for file in ctl storage/superblock storage/layout hosts/alpha/incarnation; do
  cat "$m/$file" >by-cat || fail "cat $file"
  [ -s by-cat ] || fail "$file is empty"
  cp "$m/$file" by-cp || fail "cp $file"
  same by-cat by-cp
  tail -n 100000 "$m/$file" >by-tail || fail "tail $file"
  same by-cat by-tail
  grep '' "$m/$file" >by-grep || fail "grep $file"
  same by-cat by-grep
  [ "$(wc -c <"$m/$file")" = "$(bytes by-cat)" ] && [ "$(bytes "$m/$file")" = "$(bytes by-cat)" ] || fail "the length of $file"
  tar -cf by.tar -C "$m" "$file" || fail "tar $file"
  tar -xOf by.tar >by-tar
  same by-cat by-tar
  if command -v rsync >/dev/null; then
    rsync -a --no-owner "$m/$file" by-rsync 2>rsync.log || fail "rsync $file"
    same by-cat by-rsync
  fi
done
command -v rsync >/dev/null || echo 'not installed, and left out: rsync'
python3 -m json.tool "$m/status.json" >/dev/null || fail 'status.json is none'
tar -cf all.tar -C "$m" --exclude=./net --exclude=./events . 2>tar.log || fail 'tar of everything'
mkdir all && tar -xf all.tar -C all || fail 'tar -x of everything'
! grep -rlP '\x00' all || fail 'a text was padded'
expect 2 sh -c "echo x >'$m/status'"
expect 1 mkdir "$m/hosts/new"
expect 1 cat "$m/hosts/nobody/status"
is "$m/conduits/alpha-beta/status" state open || fail "the conduit: $(cat "$m/conduits/alpha-beta/status")"
[ ! -s "$m/storage/faults" ] || fail "faults: $(cat "$m/storage/faults")"

echo '- a text stays what it was when it was opened, with its length; a directory that is read again is of now'
timeout 60 python3 - "$m" <<'PYTHON' || fail 'lengths, or a directory'
import os, sys
net = sys.argv[1] + '/net'
listing = os.open(net, os.O_RDONLY)
assert os.listdir(listing) == ['clone']
clone = os.open(net + '/clone', os.O_RDWR)
n = os.read(clone, 100).decode().strip()
assert sorted(os.listdir(listing)) == sorted(['clone', n]), os.listdir(listing)
texts = [(os.open('%s/%s/status' % (net, n), os.O_RDONLY), b'idle\n')]
os.write(clone, b'announce 7002')
for _ in range(2):
    texts.append((os.open('%s/%s/status' % (net, n), os.O_RDONLY), b'announced waiting 0\n'))
for _ in range(2):
    for file, text in texts:
        assert os.fstat(file).st_size == len(text), (os.fstat(file), text)
        assert os.pread(file, 100, 0) == text
    assert len({os.fstat(file).st_ino for file, _ in texts}) == 1
PYTHON

echo '- 10,000 sockets'
"$many_sockets" "$work/alpha.sock" 10000 >many.log 2>&1 &
many=$!
until_true 60 grep -q ready many.log || fail 'no 10,000 sockets'
all_there() { [ "$(ls "$m/hosts/alpha/sockets" | wc -l)" = 10000 ]; }
until_true 30 all_there || fail "$(ls "$m/hosts/alpha/sockets" | wc -l) sockets"
[ "$(find "$m/hosts/alpha/sockets" 2>find.log | wc -l)" = 40001 ] || fail 'find of 10,000 sockets'
is "$m/hosts/alpha/sockets/77/status" state BOUND || fail "socket 77: $(cat "$m/hosts/alpha/sockets/77/status")"
port=$(sed 's/.*://' "$m/hosts/alpha/sockets/77/local")
is "$m/hosts/alpha/ports/$port/status" scb 77 || fail "port $port of socket 77: $(cat "$m/hosts/alpha/ports/$port/status")"

echo '- events: sockets, polls, signals; 64 readers that wait hold up nobody'
cat "$m/events" >events &
reader=$!
readers=()
for _ in $(seq 64); do cat "$m/events" >/dev/null & readers+=($!); done
opened() { [ "$(ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c "$m/events")" -ge 65 ]; }
until_true 30 opened || fail 'not everybody has the events open'
for _ in $(seq 20); do timeout 10 stat "$m/status" "$m/hosts/beta" >/dev/null || fail 'stat waits for those who read'; done
[ "$(timeout 60 find "$m/hosts" | wc -l)" -gt 40000 ] || fail 'find waits for those who read'
kill "$many"
wait "$many" 2>/dev/null
until_true 30 grep -q 'socket closed alpha 77 BOUND alpha:' events || fail "no event of closed sockets: $(tail -n 3 events)"
timeout 60 python3 - "$m/events" "$work/alpha.sock" <<'PYTHON' || fail 'poll, O_NONBLOCK, or EINTR on the events'
import os, select, signal, subprocess, sys
events = os.open(sys.argv[1], os.O_RDONLY)
os.set_blocking(events, False)
while True:  # those of the 10,000
    try:
        assert os.read(events, 65536)
    except BlockingIOError:
        break
os.set_blocking(events, True)
class Hit(Exception): pass
def hit(*_): raise Hit
signal.signal(signal.SIGALRM, hit)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    os.read(events, 100)
    sys.exit('a signal did not end the read')
except Hit:
    pass
poll = select.epoll()
poll.register(events, select.EPOLLIN)
assert poll.poll(0) == []
listener = subprocess.Popen(['stp', 'pipe', '--listen', '7777'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=dict(os.environ, STP_AGENT=sys.argv[2]))
seen = b''
while b'port opened alpha 7777' not in seen:
    assert poll.poll(30), seen
    seen += os.read(events, 65536)
listener.kill()
PYTHON
for pid in "${readers[@]}"; do kill "$pid"; done
wait "${readers[@]}" 2>/dev/null

echo '- a host that is killed is dead, and its sockets are shown so'
kill -KILL "$beta"
until_true 30 is "$m/hosts/beta/status" state dead || fail "beta: $(cat "$m/hosts/beta/status")"
until_true 10 grep -q 'host dead beta' events || fail "no event: $(tail -n 3 events)"

echo '- an agent that is killed is an error at once, and the mount heals when it is back'
kill -KILL "$alpha"
wait "$alpha" 2>/dev/null
lost() { [[ $(LC_ALL=C timeout 5 cat "$m/status" 2>&1) == *'Transport endpoint is not connected' ]]; }
until_true 5 lost || fail "without an agent: $(cat "$m/status" 2>&1)"
[ "$(timeout 5 ls "$m" | wc -l)" = 8 ] || fail 'ls without an agent'
until_true 10 grep -q 'source lost: ' events || fail "no event: $(tail -n 3 events)"
start_agent alpha
alpha=$!
serves alpha
until_true 10 is "$m/hosts/alpha/status" state alive || fail "healed: $(cat "$m/hosts/alpha/status" 2>&1)"
until_true 10 grep -q 'source back' events || fail "no event: $(tail -n 3 events)"

echo '- an agent that stands still is an error after the deadline; what needs no agent goes on'
expect 0 env STP_AGENT="$work/alpha.sock" stp-fuse -o deadline=1 other-m
cat other-m/status >/dev/null || fail 'the second mount'
kill -STOP "$alpha"
slow() { [[ $(LC_ALL=C timeout 20 cat other-m/status 2>&1) == *@('Connection timed out'|'Transport endpoint is not connected') ]]; }
until_true 20 slow || fail 'no error from an agent that stands still'
timeout 5 ls other-m >/dev/null || fail 'ls beside an agent that stands still'
kill -CONT "$alpha"
until_true 20 is other-m/hosts/alpha/status state alive || fail "healed: $(cat other-m/status 2>&1)"

echo '- garbage on the storage is shown as faults, where it lies'
cp --sparse=always "$storage" copy 2>/dev/null || dd if="$storage" of=copy bs=1M status=none || fail 'a copy'
first() { awk -v name="$1" -v slot="$2" '$1 == name && $2 == slot { print $3 }' "$m/storage/layout"; }
spoil() { dd if=/dev/urandom of=copy bs=4096 seek="$1" count=1 conv=notrunc status=none; }
slot=$(field slot "$m/hosts/alpha/status")
other_slot=$((1 - slot))
lease=$(($(first leases -) + other_slot))
table=$(($(first socket-table "$slot") + 2))
spoil "$lease"
spoil "$table"
spoil $(($(first gates -) + 1))
spoil 0
expect 0 stp-fuse -o noagent copy copy-m
is copy-m/hosts/slot:$other_slot/status state unreadable || fail "a spoiled lease: $(ls copy-m/hosts)"
grep -q '^fault lease: ' copy-m/hosts/slot:$other_slot/status || fail "a spoiled lease: $(cat copy-m/hosts/slot:$other_slot/status)"
grep -q '^fault .*socket table' copy-m/hosts/alpha/status || fail "a spoiled table: $(cat copy-m/hosts/alpha/status)"
for block in 0 "$lease" "$table"; do
  grep -q "block $block, " copy-m/storage/faults || fail "block $block is not among the faults: $(cat copy-m/storage/faults)"
done
[ ! -e copy-m/net ] || fail 'conversations without an agent'
find copy-m -path copy-m/events -prune -o -type f -exec cat {} + >everything 2>cat.log || fail 'a walk over a spoiled storage'
uuid=$(field uuid copy-m/ctl)
[ "$uuid" = "$(field uuid "$m/ctl")" ] || fail "the copy: $(cat copy-m/ctl)"
stp format copy --force "${format[@]}" --hosts 4 --sockets 16384 >format.log 2>&1 || fail 'stp format'
renewed() { [ "$(field uuid copy-m/ctl)" != "$uuid" ] && [ ! -s copy-m/storage/faults ]; }
until_true 10 renewed || fail "formatted anew under a mount: $(cat copy-m/ctl copy-m/storage/faults)"
truncate -s 8192 copy
too_short() { ! cat copy-m/hosts/alpha/status copy-m/storage/faults >/dev/null 2>&1; }
until_true 10 too_short || fail 'a storage that was cut short'
ls copy-m >/dev/null || fail 'the mount of a storage that was cut short'
fusermount3 -u copy-m || fail 'fusermount3 -u'
expect 3 stp-fuse -o noagent /dev/null copy-m
expect 3 stp-fuse no-such-group copy-m
expect 3 stp-fuse -o noagent copy no-such-directory
expect 2 stp-fuse -o no-such-option copy copy-m
expect 2 stp-fuse

echo '- who may see'
seen_by_other() { setpriv --reuid 65534 --regid 65534 --clear-groups cat "$1" >/dev/null 2>&1; }
! seen_by_other "$m/status" || fail 'a mount of root is seen by others'
fusermount3 -u other-m
expect 0 env STP_AGENT="$work/alpha.sock" stp-fuse -o allow_other,mode=0440,gid=65534 other-m
seen_by_other other-m/status || fail 'a group that may see does not'
expect 0 fusermount3 -u other-m
expect 0 env STP_AGENT="$work/alpha.sock" stp-fuse -o allow_other,umask=077 other-m
! seen_by_other other-m/status || fail 'umask=077 keeps nobody out'
expect 0 fusermount3 -u other-m

echo '- who may talk'
cat >talk.sh <<'INNER'
exec 3<>"$1/net/clone" || exit 10
read -r n <&3
echo announce 700 >&3 && exit 11
grep -q "root's" "$1/net/$n/err" || exit 12
echo announce 7000 >&3 || exit 13
[ "$(cat "$1/net/$n/status")" = 'announced waiting 0' ] || exit 14
[ "$2" = '' ] || ! cat "$1/net/$2/status" || exit 15
[ "$2" = '' ] || ! : >"$1/net/$2/data" || exit 16
echo "$n" >&4
until [ -e enough ]; do sleep 0.1; done
INNER
talk_as_other() { timeout 60 setpriv --reuid 65534 --regid 65534 --clear-groups bash talk.sh other-m "$1" 4>"$2" 2>talk.log; }
stg=$(field stg "$m/ctl")
expect 0 env STP_AGENT="$work/alpha.sock" stp-fuse -o allow_other "$stg" other-m
talk_as_other '' nobodys
[ $? = 10 ] && grep -q 'Permission denied' talk.log || fail "a mount that is open to look at is open to talk: $(cat talk.log)"
! setpriv --reuid 65534 --regid 65534 --clear-groups sh -c ': >"other-m/hosts/alpha/ports/7000/data"' 2>/dev/null || fail 'a port that is open to all'
expect 0 fusermount3 -u other-m
expect 0 env STP_AGENT="$work/alpha.sock" stp-fuse -o allow_other,talk=all agent other-m
exec 3<>other-m/net/clone || fail 'clone of root'
read -r n <&3
talk_as_other "$n" nobodys &
talker=$!
until_true 30 test -s nobodys || { wait $talker; fail "talk.sh ended with $?: $(cat talk.log)"; }
[ "$(stat -c %u "other-m/net/$(cat nobodys)/ctl")" = 65534 ] || fail 'a conversation belongs to who opened clone'
[ "$(cat "other-m/net/$n/status")" = idle ] || fail "the conversation of root: $(cat "other-m/net/$n/status")"
exec 3<&-
touch enough
wait $talker || fail "talk.sh ended with $?: $(cat talk.log)"
expect 0 fusermount3 -u other-m
# Where others may not open /dev/fuse, and mount(8) does not look for helpers where this one is, a mount namespace helps.
mknod node c 10 229 && chmod 666 node
chown 65534 user-m
mkdir again && chown 65534 again
cat >as-other.sh <<'INNER'
. "$(dirname "$0")/words.sh"
other=(setpriv --reuid 65534 --regid 65534 --clear-groups env STP_AGENT="$work/alpha.sock")
if [ ! -u "$(command -v fusermount3)" ] || ! mount --bind node /dev/fuse || ! "${other[@]}" sh -c ': <>/dev/fuse'; then
  echo 'not tried: a mount by a user who is not root, who may not open /dev/fuse here'
elif ! "${other[@]}" test -x "$(command -v stp-fuse)"; then
  echo "not tried: a mount by a user who is not root, who may not enter $(dirname "$(command -v stp-fuse)")"
else
  expect 0 "${other[@]}" stp-fuse user-m
  "${other[@]}" cat user-m/hosts/alpha/status >user-status || fail 'a mount of a user'
  is user-status state alive || fail "a mount of a user: $(cat user-status)"
  ! "${other[@]}" grep -rq '^pid' user-m/hosts/alpha/sockets || fail 'a user sees the processes of others'
  if ! grep -q '^ *user_allow_other' /etc/fuse.conf 2>/dev/null; then
    expect 3 "${other[@]}" stp-fuse -o allow_other again
    grep -q user_allow_other err.log || fail "no words: $(cat err.log)"
  fi
  expect 0 "${other[@]}" fusermount3 -u user-m
fi
INNER
cat >by-mount.sh <<'INNER'
. "$(dirname "$0")/words.sh"
if ! command -v mount.fuse3 >/dev/null || ! mount --bind "$(dirname "$(command -v stp-fuse)")" /usr/local/sbin; then
  echo 'not tried: mount(8), for there is no mount.fuse3'
else
  expect 0 mount -t fuse.stp-fuse agent other-m -o "agent=$work/alpha.sock,_netdev,nofail,x-systemd.automount"
  is other-m/hosts/alpha/status state alive || fail 'mounted by mount(8)'
  [ "$(findmnt -n -o FSTYPE,SOURCE other-m | tr -s ' ')" = 'fuse.stp-fuse agent' ] || fail "$(findmnt other-m)"
  expect 0 umount other-m
fi
INNER
{ echo "work=$work"; declare -f fail expect is field until_true; } >words.sh
"$many_sockets" "$work/alpha.sock" 3 >many.log 2>&1 &
many=$!
until_true 10 grep -q ready many.log || fail 'no sockets'
three_there() { [ "$(ls "$m/hosts/alpha/sockets" | wc -l)" = 3 ]; }
until_true 30 three_there || fail "$(ls "$m/hosts/alpha/sockets")"
grep -rq '^pid' "$m/hosts/alpha/sockets" || fail 'root does not see processes'
if unshare -m true 2>/dev/null; then
  unshare -m bash "$work/as-other.sh" || exit 1
  echo '- mount(8)'
  unshare -m bash "$work/by-mount.sh" || exit 1
else
  echo 'not tried: a mount by a user who is not root, and mount(8): no mount namespace is to be had here'
fi
kill "$many"

echo '- the end: SIGKILL leaves a mount that says what to do, SIGTERM leaves nothing'
STP_AGENT=$work/alpha.sock stp-fuse -f other-m 2>mount.log &
mounted=$!
until_true 10 test -e other-m/status || fail 'a mount in the foreground'
kill -KILL "$mounted"
wait "$mounted" 2>/dev/null
expect 3 env STP_AGENT="$work/alpha.sock" stp-fuse other-m
grep -q 'fusermount3 -u other-m' err.log || fail "no words: $(cat err.log)"
expect 0 fusermount3 -u other-m
STP_AGENT=$work/alpha.sock stp-fuse -f other-m 2>mount.log &
mounted=$!
until_true 10 test -e other-m/status || fail 'a mount in the foreground'
cat other-m/events >late-events 2>/dev/null &
late=$!
opened() { [ "$(ls -l "/proc/$late/fd" 2>/dev/null | grep -c other-m/events)" = 1 ]; }
until_true 10 opened || fail 'the events are not open'
exec 3<>other-m/net/clone
read -r n <&3
echo 'announce 7001' >&3
waiters=()
for _ in $(seq 64); do cat "other-m/net/$n/listen" >/dev/null 2>&1 & waiters+=($!); done
until_true 30 grep -q 'waiting 64' "other-m/net/$n/status" || fail "not all wait: $(cat "other-m/net/$n/status")"
expect 1 fusermount3 -u other-m
kill -TERM "$mounted"
ended() { ! kill -0 "$mounted" 2>/dev/null; }
until_true 10 ended || fail 'SIGTERM does not end a mount while many wait'
wait "$mounted" || fail "SIGTERM: exit status $?"
wait "$late" && fail 'a reader ends well when the mount goes away'
for pid in "${waiters[@]}"; do wait "$pid" && fail 'who listens ends well when the mount goes away'; done
exec 3<&-
[ "$(stat -f -c %T other-m)" != fuseblk ] || fail 'SIGTERM leaves the mount'
kill "$reader"
wait "$reader" 2>/dev/null
fusermount3 -u "$m" || fail 'fusermount3 -u'
kill -TERM "$alpha"
wait "$alpha" || fail "the agent: exit status $?"
exit 0
