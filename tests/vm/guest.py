"""Commands in a guest, over a serial port.

The other end is `agent` of initramfs.py, a loop in the guest's shell. A request is `NUMBER LENGTH SCRIPT` (the length of both), its answer `NUMBER STATUS OUTPUT`, script and output in
base64, so that nothing that a program prints can be taken for an answer. A guest that has booted says `READY`.

An emulated serial port may lose something, seldom. So a request is said again while no answer comes: one that was cut short has the wrong length and is passed over,
and one that was carried out before is answered once more, not carried out again.
"""
import base64
import dataclasses
import shlex
import socket
import time


class GuestError(Exception):
    """The guest does not answer, or a command that had to succeed failed."""


@dataclasses.dataclass
class Output:
    status: int
    text: str  # standard output and standard error, as they came

    def __str__(self):
        return f"status {self.status}: {self.text.strip()}"


class Guest:
    LONGEST_REQUEST = 3000  # the guest's terminal buffers 4095 bytes
    SAY_AGAIN_AFTER_S = 10

    def __init__(self, name, connection: socket.socket):
        self.name = name
        self._connection = connection
        self._buffer = b""
        self._number = int(time.time() * 1000) % 1_000_000_000  # a restored guest must not meet the numbers of its earlier life
        self._earlier = set()  # requests that were answered: the answer may come twice

    def wait_ready(self, timeout_s):
        until = time.monotonic() + timeout_s
        while self._line(until, "to boot") != "READY":
            pass

    def run(self, script, timeout_s=120, check=True) -> Output:
        """Runs a shell script to its end."""
        self._number += 1
        words = base64.b64encode(script.encode()).decode()
        request = f"{self._number} {len(str(self._number)) + len(words)} {words}\n".encode()
        assert len(request) < self.LONGEST_REQUEST, script
        try:
            self._connection.sendall(request)
        except OSError as error:
            raise GuestError(f"{self.name}: the machine is gone ({error}), which was to run: {script}") from error
        until = time.monotonic() + timeout_s
        while True:
            number, _, answer = self._line(until, f"to run: {script}", b"\n" + request).partition(" ")
            if number == str(self._number):
                break
            if number not in self._earlier:
                print(f"  {self.name}: said something that answers nothing: {number} {answer[:40]}", flush=True)
        self._earlier.add(number)
        status, _, text = answer.partition(" ")
        output = Output(int(status), base64.b64decode(text).decode(errors="replace"))
        if check and output.status != 0:
            raise GuestError(f"{self.name}: {script}\n  {output}")
        return output

    def text(self, script, timeout_s=120):
        return self.run(script, timeout_s).text.strip()

    def start(self, script) -> "Job":
        """Runs a shell script in the background."""
        self._number += 1
        files = f"/tmp/job.{self._number}"
        wrapped = f"( {script}\n) >{files}.out 2>&1 </dev/null; echo $? >{files}.status.new; mv {files}.status.new {files}.status"
        pid = self.text(f"setsid sh -c {shlex.quote(wrapped)} >/dev/null 2>&1 & echo $!")
        return Job(self, script, files, pid)

    def until(self, script, timeout_s, what=None) -> Output:
        """Repeats the script until it succeeds."""
        until = time.monotonic() + timeout_s
        while True:
            output = self.run(script, check=False)
            if output.status == 0:
                return output
            if time.monotonic() > until:
                raise GuestError(f"{self.name}: not within {timeout_s} s: {what or script}\n  {output}")
            time.sleep(0.2)

    def close(self):
        self._connection.close()

    def _line(self, until, what, again=b""):
        """The next line. After some silence `again` is sent, and later once more: more and more seldom, since it may only be that something takes long."""
        said_at = None
        patience = self.SAY_AGAIN_AFTER_S
        while b"\n" not in self._buffer:
            left = max(0.001, until - time.monotonic())
            self._connection.settimeout(min(left, patience))
            try:
                got = self._connection.recv(65536)
                if not got:
                    raise GuestError(f"{self.name}: the machine has ended, which was {what}")
                self._buffer += got
            except TimeoutError as error:
                if left <= patience:
                    raise GuestError(f"{self.name}: no answer in time {what}") from error
                self._say(again)
                said_at = time.monotonic()
                patience *= 2
            except OSError as error:
                raise GuestError(f"{self.name}: {error}, {what}") from error
        if said_at is not None and time.monotonic() - said_at < 0.5:
            print(f"  {self.name}: silent until told again {what}", flush=True)
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def _say(self, words):
        self._connection.settimeout(self.SAY_AGAIN_AFTER_S)
        try:
            self._connection.sendall(words)
        except OSError:
            pass  # the next recv says so


class Job:
    """A script in the background of a guest."""

    def __init__(self, guest, script, files, pid):
        self.guest = guest
        self.script = script
        self.pid = pid
        self._files = files

    def in_guest(self, guest):
        """The same job, as a restored or copied guest has it."""
        return Job(guest, self.script, self._files, self.pid)

    def output(self):
        return self.guest.run(f"cat {self._files}.out").text

    def wait(self, timeout_s=120) -> Output:
        self.guest.until(f"[ -e {self._files}.status ]", timeout_s, f"the end of: {self.script}")
        return Output(int(self.guest.text(f"cat {self._files}.status")), self.output())

    def running(self):
        return self.guest.run(f"[ -e {self._files}.status ]", check=False).status != 0

    def succeed(self, timeout_s=120):
        output = self.wait(timeout_s)
        if output.status != 0:
            raise GuestError(f"{self.guest.name}: {self.script}\n  {output}")
        return output.text

    def kill(self, signal="TERM"):
        """Ends all its processes."""
        self.guest.run(f"kill -{signal} -{self.pid}", check=False)
        self.guest.until(f"! kill -0 -{self.pid} 2>/dev/null", 60, f"the end of: {self.script}")
