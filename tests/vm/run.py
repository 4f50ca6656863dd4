#!/usr/bin/env python3
"""Two and three real kernels around one disk: QEMU machines without any network, booted from the distribution's cloud kernel and our build.

  tests/vm/run.py BUILD                 the scenarios that CI runs
  tests/vm/run.py BUILD --long          all of them
  tests/vm/run.py BUILD NAME...         these
  tests/vm/run.py --list

Exit status: 0 all passed, 1 one failed, 2 usage, 77 there can be no machines here (standard output says why).
"""
import argparse
import concurrent.futures
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import initramfs  # noqa: E402
import scenarios  # noqa: E402, F401
from guest import GuestError  # noqa: E402
from initramfs import NotToBeHad  # noqa: E402
from lab import Lab, World, Wrong  # noqa: E402
from machine import RUNNING, accelerator  # noqa: E402
from qmp import MonitorError  # noqa: E402
from scenario import SCENARIOS  # noqa: E402

SKIPPED = 77
output_lock = threading.Lock()


def say(words):
    with output_lock:
        print(words, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", type=pathlib.Path, help="the directory of the build")
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios")
    parser.add_argument("--long", action="store_true", help="all scenarios")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at the same time")
    parser.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="who runs the guests' code")
    parser.add_argument("--keep", action="store_true", help="leave the scratch directory")
    chosen = parser.parse_intermixed_args()
    known = {scenario.name for scenario in SCENARIOS}
    for name in chosen.names:
        if name not in known:
            parser.error(f"no scenario {name}; --list lists them")
    if not chosen.list and chosen.build is None:
        parser.error("the directory of the build is wanted")
    return chosen


def run(scenario, world, scratch):
    """Whether it passed."""
    directory = scratch / scenario.name
    directory.mkdir()
    lab = Lab(World(**{**vars(world), "scratch": directory}), lambda words: say(f"  {scenario.name}: {words}"))
    say(f"- {scenario.name}: {scenario.says}")
    began = time.monotonic()
    try:
        scenario.action(lab)
    except (Wrong, GuestError, MonitorError) as failure:
        say(f"FAILED {scenario.name}: {failure}\n{lab.conditions()}")
        return False
    except Exception:  # a mistake in the scenario: it failed all the same, and the others go on
        say(f"FAILED {scenario.name}: {traceback.format_exc()}\n{lab.conditions()}")
        return False
    finally:
        lab.close()
    say(f"  {scenario.name}: passed in {time.monotonic() - began:.0f} s")
    shutil.rmtree(directory)  # disks are large
    return True


def give_up_on_signals(scratch):
    def give_up(*_):
        for process in list(RUNNING):
            process.kill()
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)  # without waiting for the scenarios

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, give_up)


def main():
    chosen = arguments()
    if chosen.list:
        for scenario in SCENARIOS:
            print(f"{scenario.part}  {scenario.name}: {scenario.says}")
        return 0
    wanted = [scenario for scenario in SCENARIOS if scenario.name in chosen.names or not chosen.names and (chosen.long or scenario.part == "fast")]
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="stp-vm.", dir="/var/tmp"))  # /tmp may be memory, which knows no O_DIRECT
    give_up_on_signals(scratch)
    try:
        if shutil.which("qemu-system-x86_64") is None:
            raise NotToBeHad("QEMU is not installed (Debian: qemu-system-x86)")
        kernel, version = initramfs.kernel_image()
        image = initramfs.build(chosen.build.resolve(), scratch, version, programs=["socat"])
        world = World(scratch, kernel, image, accelerator() if chosen.accel == "auto" else chosen.accel)
        say(f"Linux {version}, {world.accelerator}, {image.stat().st_size >> 20} MiB of initramfs")
        with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
            passed = list(pool.map(lambda scenario: run(scenario, world, scratch), wanted))
    except NotToBeHad as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    finally:
        if not chosen.keep:
            shutil.rmtree(scratch)
    say(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
