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
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from lab import TIMINGS, Failed, Process, Run, need  # noqa: E402
from ring import Ring, Victims, halt_s, kill_or_halt, moment, report  # noqa: E402


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
    ring.end_agents()
    report(name, ring.journal.judgement)


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
            ring.end_agents()
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
    ring.end_agents()
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
