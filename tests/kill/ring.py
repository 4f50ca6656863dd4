"""Hosts in a ring: an agent or none, a player of turns.cc each, what they note, and who kills or stops them."""
import collections
import math
import os
import random
import signal
import threading
import time

from judge import RECORD_BYTES, Judgement
from lab import Failed, Process, need

PORT = 700


class Journal:
    """The players' journal: read as it grows, and written to by the driver."""

    def __init__(self, run, name, ring, exact_names=True):
        self.run, self.ring = run, ring
        self.path = run.work / f"{name}.journal"
        self.fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self.read = 0
        # After a stop others have to notice, and the one who was stopped that he is taken for dead.
        self.judgement = Judgement(ring, explained_s=1.0 if run.timing == "local" else 8.0, exact_names=exact_names)
        self.started, self.lock = {}, threading.Lock()
        for token in (0, 1):
            self.note(f"take {ring[0]} 0 {token} 0 0 - 0 -")

    def note(self, words):
        record = f"{time.monotonic():.6f} {words}"[: RECORD_BYTES - 1].ljust(RECORD_BYTES - 1) + "\n"
        os.write(self.fd, record.encode())

    def look(self):
        """Judges what is new."""
        with self.lock:
            part = os.pread(self.fd, 64 << 20, self.read)
            part = part[: len(part) // RECORD_BYTES * RECORD_BYTES]
            self.read += len(part)
            for record in part.decode().splitlines():
                self.judgement.take_record(record)
                words = record.split()
                if words[1] == "start":
                    self.started[words[2], int(words[3])] = time.monotonic()
            if self.judgement.faults:
                raise Failed("; ".join(self.judgement.faults[:5]))

    def has_started(self, host, life):
        self.look()
        return (host, life) in self.started


class Ring:
    """Hosts in a ring. The first has an agent and a program, and lives through it all."""

    def __init__(self, run, name, hosts, exact_names=True):
        self.run, self.name, self.hosts = run, name, hosts
        self.journal = Journal(run, name, hosts, exact_names)
        self.state = run.work / f"{name}.state"
        self.state.mkdir()
        self.lives = collections.Counter()
        self.agents, self.players = {}, {}

    def socket_of(self, host):
        return self.run.work / f"{host}.sock"

    def start_agent(self, host, wait=True):
        log = self.run.work / f"agent-{host}.log"
        before = log.stat().st_size if log.exists() else 0
        self.agents[host] = Process(self.run, f"agent-{host}", ["stpd", "--stg", self.run.storage, "--host", host, "--agent", self.socket_of(host)])

        def serves():
            need(not self.agents[host].ended(), f"the agent of {host} ended: {self.agents[host].tail()}")
            with open(log, "rb") as file:
                file.seek(before)
                return b"info stpd: serving" in file.read()

        if wait:
            self.run.until(serves, f"the agent of {host} does not serve")

    def start_player(self, host, to, tokens=2, mount=None):
        self.lives[host] += 1
        words = ["turns", "--host", host, "--life", self.lives[host], "--ring", ",".join(self.hosts), "--journal", self.journal.path, "--state", self.state,
                 "--port", PORT, "--patience-ms", int(self.run.patience_s * 1000), "--tokens", tokens, "--streams-to", ",".join(to)]
        if mount:
            words += ["--mount", mount]
        # Without the storage's path: a program that could open it would do so itself while there is no agent.
        by = {"STP_AGENT": str(self.socket_of(host)), "STP_STG": ""} if host in self.agents else {"STP_HOST": host}
        self.players[host] = Process(self.run, f"turns-{host}", words, by)

    def await_player(self, host):
        def joined():
            self.journal.look()
            need(not self.players[host].ended(), f"turns of {host} ended: {self.players[host].tail()}")
            return self.journal.has_started(host, self.lives[host])

        self.run.until(joined, f"{host} did not start")

    def values(self):
        return dict(self.journal.judgement.last_value)

    def await_turns(self):
        """The tokens go round: twice from where they are."""
        self.journal.look()
        wanted = {token: value + 2 * len(self.hosts) for token, value in self.values().items()}

        def went_round():
            self.journal.look()
            return all(self.values()[token] >= value for token, value in wanted.items())

        self.run.until(went_round, lambda: f"the tokens do not go round: {self.values()}, wanted {wanted}", 2 * self.run.patience_s)

    def stats(self, host):
        done = self.run.tool("stats", "--agent", self.socket_of(host))
        need(done.returncode == 0, f"stp stats of {host}: {done.stderr}")
        out = {}
        for line in done.stdout.splitlines():
            if not line.startswith("#"):
                out[line.split("{")[0].split()[0]] = float(line.split()[-1])
        return out

    def leftovers(self, host, descriptors):
        """What an agent without programs should not have."""
        stats = self.stats(host)
        stats["stp_agent_programs"] -= 1  # the one that asks
        left = {name: stats[name] for name in ("stp_agent_programs", "stp_agent_sockets", "stp_extents_held", "stp_send_memory_bytes", "stp_receive_memory_bytes")
                if stats[name] != 0}
        now = collections.Counter(self.agents[host].descriptors())
        more = now - descriptors
        if more:
            left["descriptors"] = dict(more)
        return left

    def check_nothing_left(self, descriptors):
        for host in self.agents:
            self.run.until(lambda: not self.leftovers(host, descriptors[host]), lambda: f"the agent of {host} keeps {self.leftovers(host, descriptors[host])}")
        self.run.until(lambda: not self.run.listed("sockets"), lambda: f"sockets are left: {self.run.listed('sockets')}")
        self.run.until(lambda: not self.run.listed("ports"), lambda: f"ports are left: {self.run.listed('ports')}")

    def end_agents(self):
        for host, agent in self.agents.items():
            agent.end()
            need(not self.socket_of(host).exists(), f"the agent of {host} left its socket")


class Victims:
    """Each in a thread of its own: killed, or halted, and started again, until there were so many."""

    def __init__(self, run, journal, count):
        self.run, self.journal, self.left = run, journal, count
        self.lock, self.failure, self.threads = threading.Lock(), None, []

    def takes_one(self):
        with self.lock:
            if self.left == 0 or self.failure:
                return False
            self.left -= 1
            return True

    def add(self, seed, turn):
        """`turn(random)` is one kill, or halt."""
        def work():
            chance = random.Random(seed)
            try:
                while self.takes_one():
                    turn(chance)
            except Exception as failure:  # noqa: BLE001: it is told by the main thread
                self.failure = failure

        self.threads.append(threading.Thread(target=work))

    def go(self):
        for thread in self.threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in self.threads):
                self.journal.look()
                time.sleep(0.05)
        except Failed as failure:
            self.failure = failure
        for thread in self.threads:
            thread.join()
        try:
            self.journal.look()  # a player that ended by itself has noted why
        except Failed as failure:
            self.failure = failure
        if self.failure:
            raise self.failure


def moment(chance):
    return chance.random() * 0.3


def halt_s(run, chance):
    return run.lease_s * math.exp(chance.uniform(math.log(0.1), math.log(10)))


def kill_or_halt(run, journal, host, what, process, chance, restart):
    """One turn of a victim that runs. `restart()` starts the next."""
    time.sleep(moment(chance))
    need(not process.ended(), f"{process.name} ended by itself: {process.tail()}")
    if run.arguments.halts:
        journal.note(f"halt {host} {what}")
        process.signal(signal.SIGSTOP)
        time.sleep(halt_s(run, chance))
        process.signal(signal.SIGCONT)
        journal.note(f"go {host} {what}")
        need(not process.ended(), f"{process.name} ended while it stood still: {process.tail()}")
        time.sleep(run.lease_s)
    else:
        journal.note(f"kill {host} {what}")
        process.kill()
        journal.note(f"dead {host} {what}")
        restart()


def report(name, judgement):
    counts = judgement.counts
    print(f"{name}: " + ", ".join(f"{counts[key]} x {key}" for key in sorted(counts) if key.startswith(("kill of", "kill with", "halt of"))))
    print(f"  turns {judgement.last_value}, passed again {counts['again']}; streams: {counts['stream ok'] + counts['stream closed']} whole, "
          f"{counts['stream aborted']} aborted, {counts['stream failed']} cut off")
    print("  failed calls: " + ", ".join(f"{call} {error}/{reason} {n}" for (call, error, reason), n in sorted(judgement.failures.items())))
