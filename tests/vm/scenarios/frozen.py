"""Machines that stand still, without a notion of it, and machines that are copies."""
import time

import files
from conversation import Conversation, expect_lost
from lab import DETECTED_WITHIN_S, LOOK_S, expect
from scenario import scenario


@scenario("long")
def frozen_machine_comes_back_anew(lab):
    """Of three machines one is frozen, clocks and all, for longer than its lease: the others reset it and talk on; thawed, it sees that, and comes back."""
    freeze_and_thaw(lab, "virtio512")


@scenario("long")
def frozen_machine_comes_back_anew_on_nvme4096(lab):
    """The same on an NVMe disk of 4096-byte blocks."""
    freeze_and_thaw(lab, "nvme4096")


def freeze_and_thaw(lab, disk):
    alpha, beta, gamma = machines = lab.group(disk, "alpha", "beta", "gamma")
    talk = Conversation(alpha, beta)
    files.serve(gamma)
    before = lab.incarnation(beta, "alpha")

    with lab.at_most(DETECTED_WITHIN_S["local"] + LOOK_S, "frozen: its peer's conversation was reset"):
        alpha.freeze()
        expect_lost(talk.heard, "does not renew its lease", 60)
    talk.expect_heard_what_was_said()
    refused = beta.guest.run("stp pipe -n alpha 700", check=False)
    expect(refused.status == 3 and "does not renew its lease" in refused.text, f"a connection to a dead host: {refused}")
    files.put_and_get(beta, gamma)
    lab.step("the two others talk on")

    alpha.thaw()
    lab.wait_all_see(*machines)
    expect(lab.incarnation(beta, "alpha") > before, "alpha came back with the incarnation that had been refused")
    expect_lost(talk.said, "had called this host dead", 60)
    log = alpha.agent.output()
    expect("comes back" in log, f"alpha's agent does not say what happened:\n{log}")
    files.put_and_get(alpha, gamma)
    lab.step("thawed: its conversation failed, it came back with a new incarnation, and talks again")
    lab.check(beta)


@scenario("fast")
def rolled_back_and_cloned_machines_stop(lab):
    """A machine restored from a snapshot while the disk went on, then two machines from one state: whoever is not the first stops for good and says so."""
    alpha, beta = lab.group("virtio512", "alpha", "beta")
    state = lab.scratch_file("alpha.state")
    files.make_big(alpha)
    files.serve(beta)

    alpha.save(state)
    alpha.thaw()
    beat = lab.hosts(beta)["alpha"]["beat"]
    files.ftp(alpha, "beta", "put /tmp/big first")
    lab.until(lambda: lab.hosts(beta)["alpha"]["beat"] > beat + 3, 60, "some beats of alpha after the snapshot")
    alpha.power_off()
    alpha.start(state)
    alpha.agent = alpha.agent.in_guest(alpha.guest)
    stops_for_good(lab, alpha, "rolled back")
    files.same(alpha, "/tmp/big", beta, "/tmp/served/first")

    alpha.agent.kill()
    lab.join(alpha, beta)
    files.ftp(alpha, "beta", "put /tmp/big second")
    files.same(alpha, "/tmp/big", beta, "/tmp/served/second")
    lab.step("the agent started again is a new life, and talks")

    alpha.save(state)
    clone = lab.machine("alpha", log_name="clone")
    alpha.thaw()
    clone.start(state)
    clone.agent = alpha.agent.in_guest(clone.guest)
    both = [alpha, clone]
    lab.until(lambda: any(has_stopped(machine) for machine in both), 60, "one of two clones stops")
    time.sleep(3)  # some beats: at most one goes on, and none if the two met in one beat
    stopped = [machine for machine in both if has_stopped(machine)]
    lab.step(f"cloned: {len(stopped)} of the two stopped")
    for machine in stopped:
        stops_for_good(lab, machine, "cloned")
    for machine in both:
        if machine not in stopped:
            files.ftp(machine, "beta", "put /tmp/big third")
            files.same(machine, "/tmp/big", beta, "/tmp/served/third")
            lab.step("the other one talks on")
    lab.check(beta)


def has_stopped(machine):
    return "stopped for good" in machine.agent.output()


def stops_for_good(lab, machine, why):
    """The agent says so, and so does every program that asks it."""
    lab.until(lambda: has_stopped(machine), 60, lambda: f"{why}, {machine.name} stops; its agent says:\n{machine.agent.output()}")
    expect("cloned, or rolled back" in machine.agent.output(), f"the agent of {machine.name} does not say why:\n{machine.agent.output()}")
    refused = machine.guest.run("stp pipe -n beta 2021", check=False)
    expect(refused.status == 3 and "stopped for good" in refused.text, f"a program of a host that was {why}: {refused}")
    lab.step(f"{why}: {machine.name} stopped for good, with words")
