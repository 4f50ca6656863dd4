#!/usr/bin/env bash
# format refuses what is there; check names a planted bad block; repair restores a superblock; evict frees a slot; the lists read
# it all without joining. Usage: admin_tool.sh PATH-OF-STP
set -u
stp=$(realpath "$1")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory" || exit 1
unset STP_STG STP_HOST
failures=0

# expect STATUS WORDS COMMAND...: the command ends with that status, and says the words (an extended regular expression).
expect() {
  local status=$1 words=$2
  shift 2
  local said
  said=$("$@" 2>&1)
  local got=$?
  if [ "$got" -ne "$status" ] || ! grep -qE -- "$words" <<<"$said"; then
    printf 'FAIL: %s\n  ended with %s, expected %s and "%s"; it said:\n%s\n' "$*" "$got" "$status" "$words" "$said"
    failures=$((failures + 1))
  fi
}
# damage BLOCK: a block of garbage at that place.
damage() { head -c 4096 /dev/urandom | dd of=disk.img bs=4096 seek="$1" conv=notrunc status=none; }

expect 0 'STG +site-a' "$stp" format disk.img --size 64M --name site-a --timing fast
uuid=$("$stp" hosts disk.img --json | sed -n 's/.*"uuid": "\(.*\)".*/\1/p')
expect 1 "STG \"site-a\" \(UUID $uuid" "$stp" format disk.img
expect 1 '--size 26M or fewer --hosts' "$stp" format small.img --size 8M
expect 1 'small.img: can not|No such file' "$stp" hosts small.img
expect 1 'neither a regular file nor a block device' "$stp" format /dev/null
expect 2 'PATH is required' "$stp" format
expect 2 'subcommand' "$stp"

expect 0 '0 faults, 0 warnings' "$stp" check disk.img
expect 0 '"clean": true' "$stp" check --json --stg disk.img
expect 0 '0 faults' env STP_STG=disk.img "$stp" check
truncate -s 64M zeros.img
expect 8 'holds no STP storage' "$stp" check zeros.img
expect 8 'which storage' "$stp" check

# The lease of slot 3 lies in block 4.
damage 4
expect 4 'fault: block 4, lease of slot 3' "$stp" check disk.img
expect 0 '3 +unreadable' "$stp" hosts disk.img
expect 0 'slot 3 is free' "$stp" evict slot:3 --stg disk.img
expect 0 '0 faults' "$stp" check disk.img
expect 1 'slot 3 is free already' "$stp" evict slot:3 --stg disk.img
expect 1 'no slot carries the name "nobody"' "$stp" evict nobody --stg disk.img

damage 0
expect 4 'block 0, superblock: .*' "$stp" check disk.img
expect 0 'HOST' "$stp" hosts disk.img
expect 0 'restored from its copy' "$stp" repair disk.img
expect 0 'nothing to do' "$stp" repair disk.img
expect 0 '0 faults' "$stp" check disk.img

damage 16383
expect 4 'block 16383, superblock: .*copy' "$stp" check disk.img
expect 0 'copy .* is restored' "$stp" repair disk.img
damage 0
damage 16383
expect 1 'neither the superblock nor a copy' "$stp" repair disk.img
expect 8 'no STP storage' "$stp" check disk.img

expect 1 'data of a kind that is not known' "$stp" format disk.img
expect 0 'warning: .*destroying' "$stp" format disk.img --force --timing fast
for list in hosts sockets ports; do
  expect 0 '"version": 1' "$stp" "$list" disk.img --json
  expect 0 '^$' "$stp" "$list" disk.img -H
done

# Ctrl-C during a format leaves no storage.
expect 0 'STG' "$stp" format disk.img --force --timing fast
"$stp" format disk.img --size 512M --force 2>/dev/null >/dev/null &
pid=$!
# Not before it is stp: until then it is a copy of this shell.
until [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "$stp")" ] || ! kill -0 "$pid" 2>/dev/null; do :; done
while kill -INT "$pid" 2>/dev/null; do :; done
wait "$pid"
status=$?
case $status in
  0) : ;;  # it was done before the signal came
  *) expect 8 'no STP storage|can not be used' "$stp" check disk.img ;;
esac

[ "$failures" -eq 0 ] && echo "all as expected"
exit $((failures > 0))
