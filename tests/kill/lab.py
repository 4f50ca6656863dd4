"""Processes that a run starts, and the storage that they share. No wait is without a bound, which follows from the timing profile."""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Seconds: how long a lease lasts, and within which time a death is noticed (stp/FORMAT.md).
TIMINGS = {"local": (6.0, 12.7), "fast": (0.5, 1.4)}


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
        """Its last words, and how it ended."""
        ended = [f"(exit status {self.popen.returncode})"] if self.popen.returncode is not None else []
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:] + ended)

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
