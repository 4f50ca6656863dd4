"""Machines that end without a word, in the middle of what they do."""
import files
from conversation import Conversation, expect_lost
from lab import expect
from scenario import scenario

MIB = 1 << 20


@scenario("long")
def powered_off_in_mid_transfer(lab):
    """The sender's plug is pulled in mid-transfer, then the receiver's: each comes back under its name, and the transfer goes on to equal checksums."""
    power_off_in_mid_transfer(lab, "virtio512")


@scenario("long")
def powered_off_in_mid_transfer_on_nvme4096(lab):
    """The same on an NVMe disk of 4096-byte blocks."""
    power_off_in_mid_transfer(lab, "nvme4096")


def power_off_in_mid_transfer(lab, disk):
    lab.make_disk(disk)
    alpha, = lab.boot("alpha")
    beta = lab.machine("beta", data=lab.make_data_disk("beta.data")).start()
    beta.wait_ready()
    lab.format(alpha, "local")
    lab.join(alpha, beta)
    files.make_big(alpha)
    server = files.serve(beta, "/data/served")

    before = lab.incarnation(beta, "alpha")
    start_put(alpha, beta)
    alpha.power_off()
    lab.step("the sender has no power, in mid-transfer")
    alpha.start()
    alpha.wait_ready()
    lab.join(alpha, beta)
    expect(lab.incarnation(beta, "alpha") > before, "alpha came back with an incarnation of its earlier life")
    files.make_big(alpha)
    # It took in what had arrived, and that is how what was sent begins.
    prefix = beta.guest.run(f"cd /data/served && seq 1 {files.BIG_LINES} | head -c $(stat -c %s big.part) | cmp - big.part", check=False)
    expect(prefix.status == 0, f"what had arrived is not what was sent: {prefix}")
    resume(lab, alpha, beta, server, at_least=1)
    beta.guest.run("rm /data/served/big && sync")

    job = start_put(alpha, beta)
    beta.power_off()
    lab.step("the receiver has no power, in mid-transfer")
    beta.start()
    beta.wait_ready()
    lab.join(alpha, beta)
    lost = job.wait(60)
    expect(lost.status == 4, f"stp-ftp, whose server's machine has no power, ended with {lost}")
    server = files.serve(beta, "/data/served")
    # What its file system had not written yet is lost.
    resume(lab, alpha, beta, server, at_least=0)
    lab.check(beta)


def start_put(alpha, beta):
    """Begins a transfer and is back when a part of it has arrived."""
    alpha.throttle(bps_wr=MIB // 2)
    job = alpha.guest.start("stp-ftp beta --wait 60 -c 'put /tmp/big big'")
    beta.guest.until(f"[ $(stat -c %s /data/served/big.part) -ge {MIB} ]", 120, "a part of the file")
    expect(beta.guest.run("[ -e /data/served/big ]", check=False).status != 0, "the transfer was over before its middle")
    return job


def resume(lab, alpha, beta, server, at_least):
    alpha.throttle()
    text = alpha.guest.run("stp-ftp beta --wait 60 --json -c 'put /tmp/big big'", timeout_s=240).text
    at = files.resumed_at(text)
    expect(at >= at_least, f"the transfer was begun again instead of resumed: {text}\nThe server says: {server.output()}")
    files.same(alpha, "/tmp/big", beta, "/data/served/big")
    lab.step(f"resumed at {at / MIB:.1f} MiB, and whole")


@scenario("long")
def reset_machine_comes_back(lab):
    """A machine is reset in mid-conversation and boots: the peer's conversation is reset as soon as it is back, and not taken for the earlier life's."""
    alpha, beta = lab.group("nvme4096", "alpha", "beta")
    talk = Conversation(alpha, beta)
    before = lab.incarnation(beta, "alpha")
    alpha.reset()
    lab.join(alpha, beta)
    expect(lab.incarnation(beta, "alpha") > before, "alpha came back with an incarnation of its earlier life")
    expect_lost(talk.heard, "", 30)
    talk.expect_heard_what_was_said()
    files.serve(beta)
    files.put_and_get(alpha, beta)
    lab.step("reset, back with a new incarnation, and talks again")
    lab.check(beta)
