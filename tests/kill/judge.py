#!/usr/bin/env python3
"""Judges what the players of tests/kill noted: judge.py JOURNAL --ring z,a,b. Shares nothing with what it judges.

The journal has fixed records in the order in which things happened (journal.h): seconds, an event, a host, the number of its life, and more:

  start H L NAME                      the program runs, and its host has joined under NAME
  pass H L TOKEN VALUE ATTEMPT PEER   H, who has VALUE, begins to pass it on
  take H L TOKEN VALUE ATTEMPT FROM FROM_LIFE PEER   H has VALUE now, from that attempt at passing VALUE - 1
  again H L TOKEN VALUE ATTEMPT FROM FROM_LIFE PEER  the same came to H, who has had VALUE
  gone H L TOKEN VALUE                it was confirmed that VALUE + 1 was taken
  open H L NUMBER FROM FROM_LIFE PEER connection NUMBER, in the order of accept, and who said to have made it
  begin H L NUMBER TO LENGTH ENDING   a stream is sent; sent H L NUMBER TO OUTCOME BYTES: how that ended
  hear H L FROM FROM_LIFE NUMBER LENGTH PEER   it arrives; recv H L FROM FROM_LIFE NUMBER OUTCOME BYTES LENGTH
  fail H L CALL PEER ERRNO REASON     a call failed
  BAD H L WORDS                       what must never be, as a player saw it
  stop H L -                          it came to an end in good order
  kill, dead H WHAT                   by the driver: a process of H is about to be killed, and is gone. It may do much between the two
  halt, go H WHAT                     by the driver: a process of H is stopped, and goes on
"""
import argparse
import collections
import math
import sys

RECORD_BYTES = 128
# What the calls of stp.h say of a peer, an agent or a mount that died.
DOCUMENTED = {"ECONNRESET", "EPIPE", "EHOSTDOWN", "ECONNREFUSED", "ETIMEDOUT", "ENOTCONN"}
# Only while there is no agent, while one's own host joins anew, or where the mount is gone.
OWN_HOST = {"ENETDOWN", "ENETUNREACH", "ECONNABORTED", "ENODEV", "EIO", "ENOENT", "EAGAIN"}
# Reasons (STPerror) that tell of the own host: fenced, refused, agent gone. A mount gives none.
OWN_REASONS = {"13", "14", "27", "0"}
JUST_JOINED_S = 2.0


class Judgement:
    """Takes records one by one; `faults` has what is wrong, in words."""

    def __init__(self, ring, tokens=2, explained_s=1.0, exact_names=True):
        self.ring, self.exact_names, self.explained_s = ring, exact_names, explained_s
        self.faults = []
        self.counts = collections.Counter()
        self.failures = collections.Counter()
        self.last_value = {str(t): 0 for t in range(tokens)}  # the highest that was taken
        self.last_of = {}        # (token, host): the last it took
        self.attempts = {}       # (token, value): how often it was passed
        self.passed = set()      # (token, value, attempt, host, life)
        self.received = set()    # (token, value, attempt)
        self.confirmed = set()   # (token, value)
        self.lives = {}          # host: the latest
        self.joined, self.began = {}, collections.Counter()  # host: when its first, its latest life began
        self.opened = collections.defaultdict(dict)  # (host, life): {number: (from, from_life)}
        self.begun, self.sent, self.heard, self.ended = {}, {}, {}, {}
        self.trouble = collections.defaultdict(list)  # host: times at which it was killed, gone, stopped or set going
        self.busy = collections.defaultdict(set)  # host: streams under way in its latest life
        self.program_kills = collections.defaultdict(list)  # host: [when it was about to be killed, when it was gone]
        self.names = collections.defaultdict(set)

    def fault(self, words):
        self.faults.append(words)

    def take_record(self, text):
        words = text.split()
        if len(words) < 3:
            return self.fault(f"a record that is none: {text!r}")
        self.now = float(words[0])
        handler = getattr(self, "on_" + words[1], None)
        self.counts[words[1]] += 1
        if handler is None:
            return self.fault(f"an unknown event: {text!r}")
        handler(words[2], *words[3:])

    # -- Lives

    def on_start(self, host, life, name):
        if int(life) <= self.lives.get(host, 0):
            self.fault(f"{host}: life {life} after {self.lives[host]}")
        self.lives[host] = int(life)
        self.joined.setdefault(host, self.now)
        self.began[host] = self.now
        self.names[host].add(name)
        self.busy[host].clear()
        if self.exact_names and name != host:
            self.fault(f"{host} life {life} joined as {name}")

    def on_stop(self, host, life, _):
        pass

    def on_open(self, host, life, number, sender, sender_life, peer):
        self.opened[host, life][int(number)] = (sender, int(sender_life))
        if self.exact_names and peer != sender:
            self.fault(f"{host}: {sender} life {sender_life} is shown as {peer}")

    def on_kill(self, host, what):
        self.trouble[host].append(self.now)
        if what == "program":
            self.program_kills[host].append([self.now, math.inf])
        if self.busy[host]:
            self.counts["kill with streams under way"] += 1
        self.counts[f"kill of {what}"] += 1

    def on_dead(self, host, what):
        self.trouble[host].append(self.now)
        if what == "program":
            self.program_kills[host][-1][1] = self.now

    def on_halt(self, host, what):
        self.trouble[host].append(self.now)
        self.counts[f"halt of {what}"] += 1

    def on_go(self, host, what):
        self.trouble[host].append(self.now)

    def on_BAD(self, host, life, *words):
        self.fault(f"{host} life {life}: {' '.join(words)}")

    def on_fail(self, host, life, call, peer, error, reason):
        self.failures[call, error, reason] += 1
        if error == "EHOSTUNREACH" and (peer not in self.joined or self.now < max(self.joined[peer], self.began[host]) + JUST_JOINED_S):
            return  # it has not joined yet, or this life of mine has not seen it yet
        if error == "EINTR" and peer == "mount" and self.trouble[host]:
            return  # a stop interrupts what waits in the kernel, as every signal does
        if error not in DOCUMENTED and error not in OWN_HOST:
            self.fault(f"{host} life {life}: {call} {peer}: {error}, reason {reason}")

    # -- Tokens

    def on_pass(self, host, life, token, value, attempt, peer):
        value, attempt = int(value), int(attempt)
        if self.ring[value % len(self.ring)] != host or self.last_of.get((token, host), 0) != value:
            self.fault(f"token {token}: {host} passes {value}, whose last is {self.last_of.get((token, host))}")
        if (token, value) in self.confirmed:
            self.fault(f"token {token}: {host} passes {value} again, which was confirmed")
        if attempt != self.attempts.get((token, value), 0) + 1:
            self.fault(f"token {token}: attempt {attempt} at passing {value} after {self.attempts.get((token, value), 0)}")
        self.attempts[token, value] = attempt
        self.passed.add((token, value, attempt, host, life))

    def check_arrival(self, host, token, value, attempt, sender, sender_life):
        if (token, value - 1, attempt, sender, sender_life) not in self.passed:
            self.fault(f"token {token}: {host} is given {value - 1} attempt {attempt} by {sender} {sender_life}, who never passed it")
        if (token, value - 1, attempt) in self.received:
            self.fault(f"token {token}: {value - 1} attempt {attempt} came twice to {host}")
        self.received.add((token, value - 1, attempt))

    def on_take(self, host, life, token, value, attempt, sender, sender_life, _peer):
        value, attempt = int(value), int(attempt)
        if sender != "-":
            self.check_arrival(host, token, value, attempt, sender, sender_life)
            if value != self.last_value[token] + 1:
                self.fault(f"token {token}: {value} is taken after {self.last_value[token]}")
        if self.ring[value % len(self.ring)] != host:
            self.fault(f"token {token}: {value} is taken by {host}, whose turn it is not")
        self.last_value[token] = self.last_of[token, host] = value

    def on_again(self, host, life, token, value, attempt, sender, sender_life, _peer):
        self.check_arrival(host, token, int(value), int(attempt), sender, sender_life)
        if int(value) > self.last_value[token]:
            self.fault(f"token {token}: {host} has had {value} already, says it, and the highest is {self.last_value[token]}")

    def on_gone(self, host, life, token, value):
        self.confirmed.add((token, int(value)))
        if self.last_value[token] <= int(value):
            self.fault(f"token {token}: {value} is gone from {host} and nobody has taken it")

    # -- Streams

    def on_begin(self, host, life, number, to, length, ending):
        self.begun[host, life, number] = (self.now, to, int(ending))
        self.busy[host].add((host, life, number))

    def on_sent(self, host, life, number, to, outcome, size):
        self.sent[host, life, number] = (self.now, to, outcome)
        self.busy[host].discard((host, life, number))

    def on_hear(self, host, life, sender, sender_life, number, length, peer):
        key = (sender, sender_life, number)
        if key in self.heard:
            self.fault(f"stream {number} of {sender} {sender_life} came twice: to {host} {life}, and {self.heard[key][1]}")
        if key not in self.begun:
            self.fault(f"stream {number} of {sender} {sender_life} was never begun, and came to {host}")
        self.heard[key] = (self.now, f"{host} {life}")
        self.busy[host].add(key)

    def on_recv(self, host, life, sender, sender_life, number, outcome, size, length):
        key = (sender, sender_life, number)
        if key in self.ended:
            self.fault(f"stream {number} of {sender} {sender_life} ended twice")
        self.ended[key] = (self.now, host, outcome)
        self.busy[host].discard(key)
        # The files of a program that is killed are closed, as those of one that ends well.
        if outcome == "cut" and not any(gone >= self.begun[key][0] for _, gone in self.program_kills[sender]):
            self.fault(f"stream {number} of {sender} {sender_life}: an end after {size} bytes of {length}, and its program was not killed")

    # -- At the end

    def in_trouble(self, hosts, begin, end):
        return any(begin - self.explained_s <= at <= end + 0.1 for host in hosts for at in self.trouble[host])

    def finish(self, over=True):
        """`over`: nobody runs any more, so that what did not arrive by now never will."""
        for (host, life), connections in self.opened.items():
            latest = {}
            for number in sorted(connections):
                sender, sender_life = connections[number]
                if sender_life < latest.get(sender, 0):
                    self.fault(f"{host} life {life}: connection {number} is of life {sender_life} of {sender}, after one of {latest[sender]}")
                latest[sender] = max(sender_life, latest.get(sender, 0))
        for key, (began, to, ending) in self.begun.items():
            host, life, number = key
            sent_at, _, outcome = self.sent.get(key, (self.now, to, "unknown"))
            ended_at, _, received = self.ended.get(key, (self.now, to, "nothing"))
            name = f"stream {number} of {host} {life} to {to}"
            troubled = self.in_trouble([host, to], began, max(sent_at, ended_at))
            if outcome == "ok" and received != "end":
                # It was in the memory of the other host, and that is lost with it.
                if not self.in_trouble([to], began, max(sent_at, ended_at)) or (received not in ("nothing",) and received.split(":")[-1] not in OWN_REASONS):
                    self.fault(f"{name}: said to have arrived, and its receiver got {received}")
            if over and not troubled and outcome != "aborted" and (outcome not in ("ok", "closed") or received != "end"):
                self.fault(f"{name}: {outcome} here, {received} there, and nobody was killed")
            self.counts[f"stream {outcome if outcome in ('ok', 'closed', 'aborted') else 'failed'}"] += 1
        return self.faults


def records_of(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if len(text) % RECORD_BYTES != 0:
        raise SystemExit(f"{path}: not a whole number of records")
    return text.splitlines()


def main():
    parser = argparse.ArgumentParser(description="Judges what the players of tests/kill noted")
    parser.add_argument("journal")
    parser.add_argument("--ring", required=True)
    arguments = parser.parse_args()
    judgement = Judgement(arguments.ring.split(","))
    for record in records_of(arguments.journal):
        judgement.take_record(record)
    faults = judgement.finish()
    for name, count in sorted(judgement.counts.items()):
        print(f"{count:8} {name}")
    for fault in faults[:50]:
        print("FAULT:", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
