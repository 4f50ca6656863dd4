#!/usr/bin/env bash
# `stp pipe` between two hosts: both directions at once, half-close, and what each failure returns.
. "$(dirname "$0")/common.sh"
cd "$work" || exit 1
# Not functions: a function in the background is a shell that keeps the redirections open beside the program.
listen=(stp pipe --listen 7000 --host beta)
dial=(stp pipe beta 7000 --host alpha --wait 20)

echo '- both directions at once'
dd if=/dev/urandom of=a bs=1M count=40 status=none
dd if=/dev/urandom of=b bs=1M count=30 status=none
dd if=b bs=64k status=none | "${listen[@]}" 2>listen.log | sha256sum >a.sum &
listener=$!
dd if=a bs=64k status=none | "${dial[@]}" 2>dial.log | sha256sum >b.sum
[ "${PIPESTATUS[1]}" = 0 ] || fail 'the side that dials'
wait "$listener" || fail 'the side that listens'
[ "$(cat a.sum)" = "$(sha256sum <a)" ] || fail 'a did not arrive as it was sent'
[ "$(cat b.sum)" = "$(sha256sum <b)" ] || fail 'b did not arrive as it was sent'

echo '- the end of one direction leaves the other open'
mkfifo question answer
"${listen[@]}" <answer >question 2>listen.log &
listener=$!
# Answers only when it has seen the end of the question.
(words=$(cat question | sha256sum); echo "$words") >answer &
"${dial[@]}" <a >reply 2>dial.log || fail 'the side that asks'
wait "$listener" || fail 'the side that answers'
[ "$(cat reply)" = "$(sha256sum <a)" ] || fail 'the answer was cut off'

echo '- exit statuses'
expect 2 stp pipe --host alpha
expect 2 stp pipe beta 70000 --host alpha
expect 3 stp pipe beta 9 --host alpha
expect 3 stp pipe nobody 7000 --host alpha

echo '- a closed standard output'
"${listen[@]}" </dev/null >/dev/full 2>listen.log &
listener=$!
"${dial[@]}" <a >reply 2>dial.log
wait "$listener"
[ $? = 5 ] || fail 'a full standard output is not exit status 5'

echo '- a peer that is killed, and one that had ended what it sends'
mkfifo quiet quiet2
sleep 100 >quiet &
for input in quiet /dev/null; do
  rm -f arrived
  "${listen[@]}" <$input >arrived 2>listen.log &
  listener=$!
  { echo first; exec sleep 100; } >quiet2 &
  "${dial[@]}" <quiet2 >reply 2>dial.log &
  dialer=$!
  until_true 20 test -s arrived || fail 'the two sides did not meet'
  kill -KILL "$listener"
  wait "$dialer"
  [ $? = 4 ] || fail "a killed peer is not exit status 4 (its input: $input)"
done
echo passed
