#!/usr/bin/env bash
# STP_FAULTS as an operator meets it: every program that does I/O of its own says that faults are on, or refuses what it does not understand.
. "$(dirname "$0")/common.sh"
cd "$work" || exit 1
said() { grep -q "$1" err.log || fail "not said: $1"; }

echo '- a value that makes no sense is refused, with the place'
export STP_FAULTS='eio=0.1%,tron=1%'
expect 3 stp pipe --host alpha --listen 7000
said 'no such fault.*"tron" (character 10)'
said STP_FAULTS
expect 3 stp-ftp nobody --host alpha -c ls
said '"tron" (character 10)'
mkdir -p agent root
expect 3 stp-ftpd --root root --host alpha
said '"tron" (character 10)'
expect 3 stpd --stg "$STP_STG" --host alpha --agent agent/sock
said '"tron" (character 10)'

echo '- it is said that faults are on, with the seed of this time'
export STP_FAULTS='delay=1ms@1%'
expect 3 stp pipe nobody 7000 --host alpha
said 'FAULTS ARE ON for .*STP_FAULTS=delay=1ms@0.01,seed=[0-9]'

echo '- not by tools that look at the storage from outside, which see it as it is'
export STP_FAULTS='eio=100%'
expect 0 stp check "$STP_STG"
expect 0 stp hosts
! grep -q FAULTS err.log || fail 'a tool without a medium speaks of faults'

echo '- in an agent, and not in the programs that it serves, which say so'
STP_FAULTS='delay=1ms@1%,seed=5' stpd --stg "$STP_STG" --host beta --agent agent/sock 2>agent.log &
until_true 20 test -S agent/sock || fail 'no agent'
until_true 20 grep -q 'FAULTS ARE ON.*seed=5' agent.log || fail 'the agent does not say that faults are on'
export STP_AGENT=$work/agent/sock
expect 3 stp pipe nobody 7000
said 'STP_FAULTS does nothing in this program'
unset STP_FAULTS
expect 3 stp pipe nobody 7000
! grep -q FAULTS err.log || fail 'faults are spoken of that nobody asked for'
echo passed
