"""Disks that are slow, that stand still, and that fail."""
import time
from errno import EIO

import files
from conversation import Conversation, expect_lost
from lab import LEASE_S, expect
from scenario import scenario


@scenario("long")
def slow_disk_delays_and_convicts_nobody(lab):
    """A disk that does 40 requests a second: everything arrives, nobody is called dead."""
    alpha, beta = lab.group("virtio512", "alpha", "beta")
    incarnations = [lab.incarnation(beta, name) for name in ("alpha", "beta")]
    files.serve(beta)
    files.make_big(alpha, lines=200_000)
    for machine in (alpha, beta):
        machine.throttle(iops=40)
    began = time.monotonic()
    files.ftp(alpha, "beta", "put /tmp/big big; get big /tmp/back")
    lab.step(f"1.3 MB there and back in {time.monotonic() - began:.1f} s")
    for machine in (alpha, beta):
        machine.throttle()
    files.same(alpha, "/tmp/big", beta, "/tmp/served/big")
    files.same(alpha, "/tmp/big", alpha, "/tmp/back")
    expect(incarnations == [lab.incarnation(beta, name) for name in ("alpha", "beta")], "somebody was called dead over a slow disk")
    lab.check(beta)


@scenario("long")
def stalled_disk_fences_and_is_survived(lab):
    """The disk of one machine all but stands still for longer than its lease: it fences itself and says so; when the disk is back, so is it."""
    alpha, beta = lab.group("nvme4096", "alpha", "beta")
    talk = Conversation(alpha, beta)
    before = lab.incarnation(beta, "alpha")
    alpha.throttle(bps=512)  # a block in 8 s
    expect_lost(talk.said, "this host's own lease ran out", LEASE_S["local"] + 60)
    expect_lost(talk.heard, "", 60)
    talk.expect_heard_what_was_said()
    alpha.throttle()
    lab.wait_all_see(alpha, beta, timeout_s=120)
    expect(lab.incarnation(beta, "alpha") > before, "alpha came back with the incarnation that had been fenced")
    log = alpha.agent.output()
    expect("the storage stalled" in log, f"alpha's agent does not say what happened:\n{log}")
    files.serve(beta)
    files.put_and_get(alpha, beta)
    lab.step("fenced, back with a new incarnation, and talks again")
    lab.check(beta)


@scenario("long")
def failing_disk_delivers_nothing_wrong(lab):
    """Every 25th request of one machine fails: what arrives is what was sent."""
    lab.make_disk("virtio512")
    alpha, = lab.boot("alpha")
    beta = lab.machine("beta", faults=every(25)).start()
    beta.wait_ready()
    lab.format(alpha, "local")
    lab.join(alpha, beta, timeout_s=180, observer=alpha)  # beta's look may be what fails
    files.serve(beta)
    files.put_and_get(alpha, beta)
    files.serve(alpha)
    files.put_and_get(beta, alpha)
    errors = int(beta.guest.text("dmesg | grep -c 'I/O error, dev vda'"))
    expect(errors > 0, "no request has failed: nothing was tested")
    lab.step(f"there and back, from either side, over a disk with errors ({errors} in the kernel's log)")


def every(number):
    """Rules of blkdebug with which each `number`th request fails. Its states count requests; the rule of the state that was entered last holds."""
    events = ["read_aio", "write_aio"]
    states = range(1, number + 1)
    return {
        "inject-error": [{"event": event, "state": state, "errno": EIO if state == number else 0} for event in events for state in states],
        "set-state": [{"event": event, "state": state, "new_state": state % number + 1} for event in events for state in states],
    }
