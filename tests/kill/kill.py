#!/usr/bin/env python3
"""Kills what runs on a storage while it is busy, starts it again at once, and looks whether everything kept its promises.

  kill.py BUILD [--kills N] [--halts N] [--medium file|loop512|loop4096|mapped] [--io uring|threads] [--what LIST] [--seed S]

BUILD is the build directory. --what says who is killed, each its share of the kills:

  program   hosts of a ring with the engine inside (turns.cc), beside one with an agent that lives
  agent     agents of a ring and their programs, beside one that lives
  ftp       stp-ftp and stp-ftpd in the middle of transfers
  fuse      stp-fuse under a program that talks through its files, now and then its agent or that program

What the players saw is judged as it comes (judge.py). Afterwards: everybody ends in good order, tokens go round still, files are the same, and nothing
is left: no socket, port, extent, memory or descriptor in an agent that lived through it, no mount, file or name. `stp check` finds no fault.
--halts N stops processes (SIGSTOP) for 0.1 to 10 times as long as a lease lasts instead; that is done with the timing profile `fast`.

No wait of this program is without a bound, which follows from the timing profile. Exit status: 0, 1 with words, 77 skipped with the reason.
"""
import argparse
import collections
import filecmp
import json
import math
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from judge import RECORD_BYTES, Judgement  # noqa: E402

# Seconds: how long a lease lasts, and within which time a death is noticed (stp/FORMAT.md).
TIMINGS = {"local": (6.0, 12.7), "fast": (0.5, 1.4)}
PORT = 700


class Failed(Exception):
    pass


def need(holds, words):
    if not holds:
        raise Failed(words)


class Process:
    """One that was started here, and nobody else: it is killed by its number while it has not been waited for."""

    def __init__(self, run, name, words, environment=None):
        self.run, self.name = run, name
        self.log = run.work / f"{name}.log"
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**run.environment, **(environment or {})}, cwd=run.work)
        run.processes.append(self)

    @property
    def pid(self):
        return self.popen.pid

    def signal(self, number):
        self.popen.send_signal(number)

    def ended(self):
        return self.popen.poll() is not None

    def kill(self):
        """-> whether it was there still."""
        alive = not self.ended()
        self.popen.kill()
        self.wait(self.run.patience_s)
        return alive

    def wait(self, seconds):
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} (process {self.pid}) does not end within {seconds:.0f} s: {self.tail()}") from None
        if self in self.run.processes:
            self.run.processes.remove(self)
        return status

    def end(self):
        self.signal(signal.SIGTERM)
        status = self.wait(self.run.patience_s)
        need(status == 0, f"{self.name} ended with {status}: {self.tail()}")

    def tail(self):
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def descriptors(self):
        out = []
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                out.append(os.readlink(f"/proc/{self.pid}/fd/{number}"))
            except OSError:
                pass
        return out


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.build = pathlib.Path(arguments.build).resolve()
        self.random = random.Random(arguments.seed)
        timing = arguments.timing or ("fast" if arguments.halts else "local")
        self.timing = timing
        self.lease_s, detection_s = TIMINGS[timing]
        # A connect may take twice as long as noticing a death does; the rest is for a machine that is busy.
        self.patience_s = 2 * detection_s + 8
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="stp-kill-"))
        self.processes, self.mounts, self.loop = [], [], None
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("STP_")}
        self.environment["PATH"] = f"{self.build / 'tools'}:{self.build / 'fuse'}:{self.build / 'tests/kill'}:{self.environment['PATH']}"
        self.environment["STP_AGENT"] = "none"
        if arguments.io:
            self.environment["STP_IO"] = arguments.io
        self.make_storage()

    # -- The storage

    def make_storage(self):
        medium = self.arguments.medium
        options = ["--medium", "mapped" if medium == "mapped" else "direct"]
        self.storage = self.work / "stg"
        if medium.startswith("loop"):
            if os.geteuid() != 0:
                self.skip("a loop device needs root")
            backing = self.work / "backing"
            with open(backing, "wb") as file:
                file.truncate(256 << 20)
            made = subprocess.run(["losetup", "--find", "--show", "--sector-size", medium[4:], backing], capture_output=True, text=True)
            if made.returncode != 0:
                self.skip(f"no loop device of {medium[4:]}-byte blocks here: {made.stderr.strip()}")
            self.loop = made.stdout.strip()
            self.storage = self.loop
        else:
            options += ["--size", "256M"]
        made = self.tool("format", self.storage, *options, "--hosts", "8", "--sockets", "1024", "--timing", self.timing)
        if made.returncode != 0:
            if "O_DIRECT" in made.stderr or "not supported" in made.stderr:
                self.skip(made.stderr.strip().splitlines()[-1])
            raise Failed(f"stp format: {made.stderr}")
        self.environment["STP_STG"] = str(self.storage)

    def skip(self, words):
        self.clean_up()
        print(f"skipped: {words}")
        sys.exit(77)

    def tool(self, *words, **environment):
        return subprocess.run(["stp", *map(str, words)], capture_output=True, text=True, env={**self.environment, **environment}, timeout=self.patience_s + 60)

    def listed(self, what, *words):
        done = self.tool(what, "--json", *words)
        need(done.returncode == 0, f"stp {what}: {done.stderr}")
        return json.loads(done.stdout)[what]

    # -- Waiting

    def until(self, holds, words, seconds=None):
        end = time.monotonic() + (seconds or self.patience_s)
        while True:
            got = holds()
            if got:
                return got
            if time.monotonic() > end:
                raise Failed(f"after {seconds or self.patience_s:.0f} s: {words() if callable(words) else words}")
            time.sleep(0.01)

    def clean_up(self):
        for process in list(self.processes):
            process.popen.send_signal(signal.SIGCONT)
            process.popen.kill()
            process.popen.wait()
        for mount in self.mounts:
            subprocess.run(["fusermount3", "-u", "-z", "-q", mount], stderr=subprocess.DEVNULL)
        if self.loop:
            subprocess.run(["losetup", "-d", self.loop])
        if self.arguments.keep:
            print(f"kept: {self.work}")
        else:
            shutil.rmtree(self.work, ignore_errors=True)

    def check_storage(self):
        done = self.tool("check", "--json", self.storage)
        report = json.loads(done.stdout) if done.stdout else {}
        need(done.returncode == 0, f"stp check: {done.stderr} {json.dumps(report.get('findings'), indent=1)}")
        return report["warnings"]


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
        restart()


def ring_scenario(run, count, with_agents):
    name = "agent" if with_agents else "program"
    hosts = ["z", "a", "b"]
    ring = Ring(run, name, hosts, exact_names=not run.arguments.halts)
    for host in hosts if with_agents else hosts[:1]:
        ring.start_agent(host)
    descriptors = {host: collections.Counter(agent.descriptors()) for host, agent in ring.agents.items()}
    others = {host: [other for other in hosts if other != host] for host in hosts}
    for host in hosts:
        ring.start_player(host, others[host])
    for host in hosts:
        ring.await_player(host)
    ring.await_turns()
    victims = Victims(run, ring.journal, count)

    def program_turn(host):
        def turn(chance):
            # Some die while they start.
            if chance.random() < 0.8:
                ring.await_player(host)
            kill_or_halt(run, ring.journal, host, "program", ring.players[host], chance, lambda: ring.start_player(host, others[host]))
        return turn

    def agent_turn(host):
        def turn(chance):
            kill_or_halt(run, ring.journal, host, "agent", ring.agents[host], chance, lambda: ring.start_agent(host, wait=chance.random() < 0.8))
        return turn

    for host in hosts[1:]:
        victims.add(run.random.random(), program_turn(host))
        if with_agents:
            victims.add(run.random.random(), agent_turn(host))
    victims.go()
    for host in hosts:
        ring.await_player(host)
    ring.await_turns()
    for host in hosts:
        ring.players[host].signal(signal.SIGTERM)
    for host in hosts:
        status = ring.players[host].wait(2 * run.patience_s)
        need(status == 0, f"turns of {host} ended with {status}: {ring.players[host].tail()}")
    ring.journal.look()
    faults = ring.journal.judgement.finish()
    need(not faults, "; ".join(faults[:5]))
    if not with_agents or run.arguments.halts:
        ring.check_nothing_left(descriptors)
    else:  # those that were killed have others now
        ring.check_nothing_left({host: descriptors[host] if host == "z" else collections.Counter(ring.agents[host].descriptors()) for host in hosts})
    names = sorted(host["name"] for host in run.listed("hosts") if host["name"] in hosts or "~" in host["name"])
    need(names == sorted(hosts) or run.arguments.halts, f"hosts: {names}")
    for agent in ring.agents.values():
        agent.end()
        ring_sockets = [host for host in ring.agents if ring.socket_of(host).exists() and ring.agents[host] is agent]
        need(not ring_sockets, f"an agent left its socket: {ring_sockets}")
    report(name, ring.journal.judgement)


def report(name, judgement):
    counts = judgement.counts
    print(f"{name}: " + ", ".join(f"{counts[key]} x {key}" for key in sorted(counts) if key.startswith(("kill of", "kill with", "halt of"))))
    print(f"  turns {judgement.last_value}, passed again {counts['again']}; streams: {counts['stream ok'] + counts['stream closed']} whole, "
          f"{counts['stream aborted']} aborted, {counts['stream failed']} cut off")
    print("  failed calls: " + ", ".join(f"{call} {error}/{reason} {n}" for (call, error, reason), n in sorted(judgement.failures.items())))


def is_prefix(part, whole):
    with open(part, "rb") as a, open(whole, "rb") as b:
        while True:
            piece = a.read(1 << 20)
            if not piece:
                return True
            if piece != b.read(len(piece)):
                return False


def ftp_scenario(run, count):
    """One transfer each way and again, and a directory of small files, until everything was killed often enough."""
    work = run.work / "ftp"
    served, local = work / "served", work / "local"
    for directory in (served, local, work / "tree"):
        directory.mkdir(parents=True)
    chance = random.Random(run.random.random())
    whole = local / "whole"
    whole.write_bytes(chance.randbytes(48 << 20))
    for i in range(40):
        (work / "tree" / f"{i}").write_bytes(chance.randbytes(chance.randrange(100_000)))
    server = None
    counts = collections.Counter()

    def start_server():
        nonlocal server
        server = Process(run, "ftpd", ["stp-ftpd", "--root", served, "--host", "beta"])

    def check_what_is_there():
        for target in (served / "up", local / "down"):
            part = target.with_name(target.name + ".part")
            try:
                need(not target.exists() or filecmp.cmp(target, whole, shallow=False), f"{target} has its name and is not what was sent")
                need(not part.exists() or is_prefix(part, whole), f"{part} is no prefix of what is sent")
            except FileNotFoundError:
                pass  # it got its name meanwhile

    start_server()
    left = count
    first = True
    while left > 0 or first:
        for path in (served / "up", local / "down"):
            path.unlink(missing_ok=True)
        shutil.rmtree(served / "tree", ignore_errors=True)
        shutil.rmtree(local / "tree", ignore_errors=True)
        steps = [f"put {whole} up", f"get up {local}/down", f"put -r {work}/tree", f"get -r tree {local}/tree"]
        end = time.monotonic() + 600
        while steps:  # the same command, until it is done
            need(time.monotonic() < end, "the transfers do not come to an end")
            client = Process(run, "ftp", ["stp-ftp", "beta", "--host", "alpha", "--wait", str(int(run.patience_s)), "-c", steps[0]])
            killed = None
            if left > 0:
                try:
                    client.popen.wait(moment(chance) * (1 if chance.random() < 0.7 else 4))
                except subprocess.TimeoutExpired:
                    killed = "client" if chance.random() < 0.5 else "server"
                    left -= 1
                    counts[killed] += 1
                    if any(path.exists() for path in (served / "up.part", local / "down.part")):
                        counts["with a file under way"] += 1
                    need(not server.ended(), f"stp-ftpd ended by itself: {server.tail()}")
                    if run.arguments.halts:
                        halted = client if killed == "client" else server
                        halted.signal(signal.SIGSTOP)
                        time.sleep(halt_s(run, chance))
                        halted.signal(signal.SIGCONT)
                    elif killed == "client":
                        client.kill()
                    else:
                        server.kill()
                        start_server()
            if killed != "client" or run.arguments.halts:
                status = client.wait(4 * run.patience_s)
                counts[f"status {status}"] += 1
                # Gone in the middle; or gone before there was anything to lose.
                need(status == 0 or (status in (3, 4) and (killed == "server" or run.arguments.halts)) or status == 16, f"stp-ftp ended with {status}, killed: {killed}: {client.tail()}")
            check_what_is_there()
            if (killed != "client" or run.arguments.halts) and status == 0:
                steps.pop(0)
        first = False
        need((served / "up").exists() and (local / "down").exists(), "a transfer that went well left nothing")
        for tree in (served / "tree", local / "tree"):
            compared = filecmp.cmpfiles(work / "tree", tree, os.listdir(work / "tree"), shallow=False)
            need(not compared[1] and not compared[2] and len(os.listdir(tree)) == 40, f"{tree} is not what was sent: {compared[1:]} {os.listdir(tree)}")
        counts["rounds"] += 1
    server.end()
    left_behind = [str(path) for path in work.rglob("*.part*")]
    need(not left_behind, f"left behind: {left_behind}")
    names = sorted(host["name"] for host in run.listed("hosts") if host["name"] in ("alpha", "beta") or "~" in host["name"])
    need(names == ["alpha", "beta"] or run.arguments.halts, f"hosts: {names}")
    need(not run.listed("sockets") and not run.listed("ports"), "sockets or ports are left")
    print("ftp: " + ", ".join(f"{n} x {what}" for what, n in sorted(counts.items())))


def fuse_scenario(run, count):
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None:
        print("fuse: left out: no use of /dev/fuse here")
        return
    ring = Ring(run, "fuse", ["y"])
    mount = run.work / "m"
    mount.mkdir()
    run.mounts.append(str(mount))
    mounted = None

    def start_mount():
        nonlocal mounted
        mounted = Process(run, "stp-fuse", ["stp-fuse", "-f", "-o", "deadline=5", mount], {"STP_AGENT": str(ring.socket_of("m"))})

    def await_mount():
        def there():
            need(not mounted.ended(), f"stp-fuse ended: {mounted.tail()}")
            return os.path.ismount(mount)

        run.until(there, "no mount")

    def restart_mount():
        done = subprocess.run(["fusermount3", "-u", "-z", mount], capture_output=True, text=True, timeout=run.patience_s)
        need(done.returncode == 0, f"fusermount3 -u: {done.stderr}")
        start_mount()
        await_mount()

    ring.start_agent("y")
    ring.start_agent("m")
    descriptors = {host: collections.Counter(agent.descriptors()) for host, agent in ring.agents.items()}
    start_mount()
    try:
        await_mount()
    except Failed:
        if "ermi" in mounted.tail():
            print(f"fuse: left out: {mounted.tail()}")
            mounted.kill()
            for agent in ring.agents.values():
                agent.end()
            return
        raise
    ring.start_player("y", ["m"], tokens=0)
    ring.start_player("m", ["y"], tokens=0, mount=mount)
    for host in ("y", "m"):
        ring.await_player(host)
    victims = Victims(run, ring.journal, count)
    agent_was_killed = False

    def turn(chance):
        nonlocal agent_was_killed
        dice = chance.random()
        if dice < 0.7:
            kill_or_halt(run, ring.journal, "m", "stp-fuse", mounted, chance, restart_mount)
        elif dice < 0.85:
            agent_was_killed = True
            kill_or_halt(run, ring.journal, "m", "agent", ring.agents["m"], chance, lambda: ring.start_agent("m"))
        else:
            kill_or_halt(run, ring.journal, "m", "program", ring.players["m"], chance, lambda: ring.start_player("m", ["y"], tokens=0, mount=mount))

    victims.add(run.random.random(), turn)
    victims.go()
    ring.await_player("m")
    # Both ways something gets through, still.
    def whole():
        ring.journal.look()
        return sum(1 for key, (_, _, outcome) in ring.journal.judgement.sent.items() if outcome in ("ok", "closed") and int(key[1]) == ring.lives[key[0]] and key[0] == "m")

    before = whole()
    run.until(lambda: whole() > before, "nothing gets through the mount any more", 2 * run.patience_s)
    for host in ("m", "y"):
        ring.players[host].signal(signal.SIGTERM)
    for host in ("m", "y"):
        status = ring.players[host].wait(2 * run.patience_s)
        need(status == 0, f"turns of {host} ended with {status}: {ring.players[host].tail()}")
    ring.journal.look()
    faults = ring.journal.judgement.finish()
    need(not faults, "; ".join(faults[:5]))
    mounted.end()
    need(not os.path.ismount(mount), "SIGTERM leaves the mount")
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        need(str(mount) not in mounts.read(), "a mount is left")
    mount.rmdir()
    if agent_was_killed:
        descriptors["m"] = collections.Counter(ring.agents["m"].descriptors())
    ring.check_nothing_left(descriptors)
    for agent in ring.agents.values():
        agent.end()
    report("fuse", ring.journal.judgement)


SCENARIOS = {
    "program": lambda run, count: ring_scenario(run, count, with_agents=False),
    "agent": lambda run, count: ring_scenario(run, count, with_agents=True),
    "ftp": ftp_scenario,
    "fuse": fuse_scenario,
}


def main():
    parser = argparse.ArgumentParser(description="Kills what runs on a storage while it is busy", epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--halts", type=int, default=0)
    parser.add_argument("--medium", choices=["file", "loop512", "loop4096", "mapped"], default="file")
    parser.add_argument("--io", choices=["uring", "threads"])
    parser.add_argument("--timing", choices=sorted(TIMINGS))
    parser.add_argument("--what", default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="keep the scratch directory")
    arguments = parser.parse_args()
    if (arguments.kills > 0) == (arguments.halts > 0):
        parser.error("say --kills N or --halts N")
    what = (arguments.what or ",".join(SCENARIOS)).split(",")
    if not set(what) <= set(SCENARIOS):
        parser.error(f"--what {arguments.what}")
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1 << 32)
    print(f"{arguments.kills or arguments.halts} {'kills' if arguments.kills else 'halts'} on {arguments.medium}, {arguments.io or 'default I/O'}, seed {arguments.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is taken along
    run = Run(arguments)
    status = 0
    try:
        for number, name in enumerate(what):
            total = arguments.kills or arguments.halts
            share = total * (number + 1) // len(what) - total * number // len(what)
            began = time.monotonic()
            SCENARIOS[name](run, share)
            print(f"  {share} in {time.monotonic() - began:.0f} s; stp check: no faults, {run.check_storage()} warnings", flush=True)
        left = sorted(path.name for path in run.work.iterdir() if path.suffix not in (".log", ".journal", ".state") and path.name not in ("stg", "backing", "ftp"))
        need(not left, f"left in the directory: {left}")
    except (Failed, subprocess.TimeoutExpired) as failure:
        print(f"FAILED: {failure}")
        status = 1
        arguments.keep = arguments.keep or "STP_KILL_KEEP" in os.environ
    finally:
        run.clean_up()
    return status


if __name__ == "__main__":
    sys.exit(main())
