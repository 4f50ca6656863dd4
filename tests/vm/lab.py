"""What a scenario is done with: machines around one disk, and words for what it wants of them."""
import contextlib
import dataclasses
import json
import pathlib
import subprocess
import time

from machine import Machine, SharedDisk

# From the timing profiles of `stp format`, in seconds: how long a host may be silent before it is called dead, and until that was surely noticed.
DETECTED_WITHIN_S = {"fast": 1.4, "local": 12.7, "san": 108}
LEASE_S = {"fast": 0.5, "local": 6, "san": 45}
# What a look by way of the serial port, in a guest whose processor is emulated on a busy machine, may add to a measured time.
LOOK_S = 6


class Wrong(Exception):
    """The product did not do what it promises."""


def expect(condition, words):
    if not condition:
        raise Wrong(words)


@dataclasses.dataclass
class World:
    """What all scenarios of a run share."""

    scratch: pathlib.Path
    kernel: pathlib.Path
    initramfs: pathlib.Path
    accelerator: str
    memory_mib: int = 384
    boot_timeout_s: int = 180


class Lab:
    def __init__(self, world: World, say):
        self._world = world
        self._machines = []
        self._say = say
        self.disk = None
        self.timing = None

    def step(self, words):
        self._say(words)

    def make_disk(self, kind, size_mib=256):
        self.disk = SharedDisk(self._world.scratch / "shared", size_mib, kind)

    def machine(self, name, **options) -> Machine:
        machine = Machine(name, self._world, self.disk, **options)
        self._machines.append(machine)
        return machine

    def boot(self, *names, **options):
        """Starts machines of these names side by side. Each believes in another year: nobody compares wall clocks."""
        machines = [self.machine(name, wall_clock=f"20{21 + 2 * number}-05-01T12:00:00", **options) for number, name in enumerate(names)]
        for machine in machines:
            machine.start()
        for machine in machines:
            machine.wait_ready()
        return machines

    def group(self, disk, *names, timing="local", timeout_s=90):
        """Machines of these names on a disk of this kind, with an agent each, of a group that the first of them formatted."""
        self.make_disk(disk)
        machines = self.boot(*names)
        self.format(machines[0], timing)
        self.join(*machines, timeout_s=timeout_s)
        return machines

    def scratch_file(self, name):
        return self._world.scratch / name

    def make_data_disk(self, name, size_mib=128):
        """A disk of one machine's own, with ext4, which it mounts at /data; it outlives the machine's power."""
        path = self.scratch_file(name)
        path.touch()
        subprocess.run(["mke2fs", "-q", "-t", "ext4", str(path), f"{size_mib}M"], check=True, env={"PATH": "/sbin:/usr/sbin:/bin:/usr/bin"})
        return path

    def format(self, machine, timing, hosts=4):
        self.timing = timing
        machine.guest.run(f"stp format $STP_STG --name lab --hosts {hosts} --sockets 256 --timing {timing}")

    def join(self, *machines, timeout_s=90, observer=None):
        """Starts the agent of each, and waits until everybody sees everybody, as each reads it from the disk, or as the observer does."""
        for machine in machines:
            machine.agent = machine.guest.start(f"stpd --stg $STP_STG --host {machine.name}")
        self.wait_all_see(*machines, timeout_s=timeout_s, observer=observer)

    def wait_all_see(self, *machines, timeout_s=90, observer=None):
        names = {machine.name for machine in machines}

        def all_seen(machine):
            together = {name for name, host in self.hosts(observer or machine).items() if host["state"] == "alive" and names <= {name, *host["sees"]}}
            return names <= together and machine.guest.run("[ -S /run/stp/agent.sock ]", check=False).status == 0

        def as_it_is(machine):
            agents = "".join(f"\n  agent of {other.name}: {other.agent.output()}" for other in machines)
            return f"{', '.join(sorted(names))} together, as {(observer or machine).name} sees it:\n{(observer or machine).guest.text('stp hosts')}{agents}"

        for machine in machines:
            self.until(lambda: all_seen(machine), timeout_s, lambda: as_it_is(machine))

    def hosts(self, machine):
        """`stp hosts`, as that machine reads them from the disk: by name."""
        return {host["name"]: host for host in json.loads(machine.guest.text("stp hosts --json"))["hosts"]}

    def incarnation(self, observer, name):
        return self.hosts(observer)[name]["incarnation"]

    def until(self, condition, timeout_s, words):
        """Calls it until it is true; `words` say what it is when it never was."""
        end = time.monotonic() + timeout_s
        while not condition():
            expect(time.monotonic() < end, f"not within {timeout_s} s: {words() if callable(words) else words}")
            time.sleep(0.2)

    def check(self, machine):
        """`stp check` finds nothing wrong on the disk."""
        output = machine.guest.run("stp check $STP_STG", check=False)
        expect(output.status == 0, f"stp check: {output}")

    @contextlib.contextmanager
    def at_most(self, seconds, words):
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        expect(took <= seconds, f"{words} took {took:.1f} s, more than {seconds:.1f} s")
        self.step(f"{words}: after {took:.1f} s")

    def conditions(self):
        """What there is to say of the machines when something failed."""
        return "".join(machine.condition() + machine.console() for machine in self._machines)

    def close(self):
        for machine in self._machines:
            machine.power_off()
