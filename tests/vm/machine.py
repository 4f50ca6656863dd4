"""A QEMU machine without any network, its monitor and its guest."""
import json
import os
import pathlib
import re
import socket
import subprocess
import time

from guest import Guest
from qmp import Monitor, MonitorError


def accelerator():
    """"kvm" where the processor virtualizes, else "tcg". (A /dev/kvm alone is not enough: some run only guests that are made for them.)"""
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "kvm" if re.search(r"^flags\s*:.*\b(vmx|svm)\b", flags, re.MULTILINE) and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


# The processes of all machines that are under power.
RUNNING = set()


class SharedDisk:
    """A raw image that several machines have as their disk."""

    def __init__(self, path: pathlib.Path, size_mib, kind):
        self.path = path
        self.kind = kind  # virtio512 or nvme4096
        with open(path, "wb") as image:
            os.posix_fallocate(image.fileno(), 0, size_mib << 20)

    def arguments(self, faults):
        """Host's cache off, no image locks, shared: what one machine writes the others read. `faults`: rules of blkdebug, if any."""
        cache = {"direct": True}
        file = {"driver": "file", "filename": str(self.path), "locking": "off", "cache": cache}
        if faults:
            file = {"driver": "blkdebug", "image": file, **faults}
        raw = {"driver": "raw", "node-name": "shared", "cache": cache, "file": file}
        device = {
            "virtio512": {"driver": "virtio-blk-pci", "logical_block_size": 512, "physical_block_size": 512},
            "nvme4096": {"driver": "nvme", "logical_block_size": 4096, "physical_block_size": 4096},
        }[self.kind]
        return ["-blockdev", json.dumps(raw), "-device", json.dumps({**device, "id": "shared", "serial": "shared", "drive": "shared", "share-rw": True})]


class Machine:
    """One that runs, from start() to its end. Its name is the guest's host name."""

    def __init__(self, name, world, disk: SharedDisk, data: pathlib.Path | None = None, faults=None, wall_clock=None, log_name=None):
        self.name = name
        self._world = world
        self._disk = disk
        self._data = data
        self._faults = faults or {}
        self._wall_clock = wall_clock
        self._log = world.scratch / f"{log_name or name}.log"
        self._process = None
        self.monitor = None
        self.guest = None

    def start(self, state: pathlib.Path | None = None):
        """Boots, or goes on from a state that save() wrote."""
        ours_monitor, theirs_monitor = socket.socketpair()
        ours_guest, theirs_guest = socket.socketpair()
        append = f"console=ttyS0 quiet loglevel=4 panic=0 no_timer_check rcupdate.rcu_cpu_stall_suppress=1 stp_host={self.name}"
        data = []
        if self._data:
            file = {"driver": "file", "filename": str(self._data), "cache": {"direct": True}}
            data = ["-blockdev", json.dumps({"driver": "raw", "node-name": "data", "cache": {"direct": True}, "file": file}), "-device", "virtio-blk-pci,drive=data,serial=data"]
        command = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", "-m", str(self._world.memory_mib), "-smp", "1",
            *(["-accel", "kvm", "-cpu", "host"] if self._world.accelerator == "kvm" else ["-accel", "tcg,tb-size=128", "-cpu", "max"]),
            "-display", "none", "-nic", "none", "-device", "virtio-rng-pci",
            "-kernel", str(self._world.kernel), "-initrd", str(self._world.initramfs), "-append", append,
            "-chardev", f"file,id=console,path={self._log},append=on", "-serial", "chardev:console",
            "-chardev", f"socket,id=agent,fd={theirs_guest.fileno()}", "-serial", "chardev:agent",
            "-chardev", f"socket,id=monitor,fd={theirs_monitor.fileno()}", "-mon", "chardev=monitor,mode=control",
            *self._disk.arguments(self._faults), *data,
        ]
        if self._wall_clock:
            command += ["-rtc", f"base={self._wall_clock}"]
        if state:
            command += ["-incoming", f"exec:cat '{state}'"]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(command, pass_fds=[theirs_guest.fileno(), theirs_monitor.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        RUNNING.add(self._process)
        theirs_monitor.close()
        theirs_guest.close()
        try:
            self.monitor = Monitor(ours_monitor)
        except MonitorError as error:
            raise MonitorError(f"{self.name}: {error}\n{self.console()}") from error
        self.guest = Guest(self.name, ours_guest)
        if state:
            self._wait_while(lambda: self.monitor.execute("query-status")["status"] == "inmigrate", "restored")
            self.thaw()  # as it was saved, it is frozen
        return self

    def wait_ready(self):
        self.guest.wait_ready(self._world.boot_timeout_s)

    # A machine that is frozen does not notice: its clocks stop, too.
    def freeze(self):
        self.monitor.execute("stop")

    def thaw(self):
        self.monitor.execute("cont")

    def reset(self):
        self.monitor.execute("system_reset")
        self.wait_ready()

    def save(self, state: pathlib.Path):
        """Writes memory and devices to a file. The machine is frozen afterwards; thaw() lets it go on."""
        self.freeze()
        # Frozen, it may be written as fast as the file takes it.
        self.monitor.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 33})
        self.monitor.execute("migrate", uri=f"exec:cat >'{state}'")
        self._wait_while(lambda: self.monitor.execute("query-migrate")["status"] not in ("completed", "failed"), "saved")
        if (info := self.monitor.execute("query-migrate"))["status"] != "completed":
            raise MonitorError(f"{self.name}: could not be saved: {info.get('error-desc', '')}")

    def _wait_while(self, condition, words, timeout_s=120):
        until = time.monotonic() + timeout_s
        while condition():
            if time.monotonic() > until:
                raise MonitorError(f"{self.name}: not {words} within {timeout_s} s")
            time.sleep(0.1)

    def throttle(self, **limits):
        """iops, bps: of the shared disk; 0 is without limit."""
        every = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0, **limits}
        device = "shared" if self._disk.kind == "nvme4096" else "shared/virtio-backend"
        self.monitor.execute("block_set_io_throttle", id=device, **every)

    def power_off(self):
        """As if the plug were pulled. What the disk has taken in, it may still write."""
        if self._process:
            self._process.kill()
            self._process.wait()
            RUNNING.discard(self._process)
            self._process = None
            for end in (self.monitor, self.guest):
                if end:
                    end.close()

    def condition(self):
        """Whether it runs, and where: the same place twice, without HLT=1, is a guest that turns in circles; with it, one that waits for an interrupt."""
        def place():
            registers = self.monitor.execute("human-monitor-command", 10, **{"command-line": "info registers"})
            return " ".join(word for word in registers.split() if word.split("=")[0] in ("RIP", "CPL", "HLT"))

        if self._process is None:
            return f"  {self._log.stem}: powered off\n"
        if self._process.poll() is not None:
            return f"  {self._log.stem}: QEMU ended with {self._process.returncode}\n"
        try:
            status = self.monitor.execute("query-status", 10)["status"]
            first = place()
            time.sleep(0.5)
            return f"  {self._log.stem}: {status}, at {first}, then {place()}\n"
        except MonitorError as error:
            return f"  {self._log.stem}: {error}\n"

    def console(self, lines=15):
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        return "".join(f"  {self._log.stem}| {line}\n" for line in text.splitlines()[-lines:])
