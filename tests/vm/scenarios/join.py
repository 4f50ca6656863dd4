"""Machines meet on a disk that one of them formatted, and talk in every way there is."""
import files
from lab import expect
from scenario import scenario


@scenario("fast")
def meet_on_nvme4096(lab):
    """Two machines with an NVMe disk of 4096-byte blocks: join, stp-ftp both ways, a preloaded program, the other one's files in the mount."""
    meet(lab, "nvme4096")


@scenario("long")
def meet_on_virtio512(lab):
    """The same with a virtio disk of 512-byte blocks."""
    meet(lab, "virtio512")


@scenario("long")
def first_transfer_under_san_timing(lab):
    """Under the timing of a storage network, where a first join takes 40 s: stp-ftp both ways."""
    first_transfer(lab, "san", attempts=1)


@scenario("long")
def first_transfer_under_fast_timing(lab):
    """Under the timing of tests, where a machine that gets no processor for a second is dead: stp-ftp both ways, given again where that cut it off."""
    first_transfer(lab, "fast", attempts=20)


def first_transfer(lab, timing, attempts):
    alpha, beta = lab.group("virtio512", "alpha", "beta", timing=timing, timeout_s=180)
    lab.step(f"joined under {timing}: each sees the other")
    files.serve(beta)
    files.put_and_get(alpha, beta, attempts)
    lab.step("stp-ftp: there and back")
    lab.check(beta)


def meet(lab, disk):
    alpha, beta = lab.group(disk, "alpha", "beta", timeout_s=180)
    expect(not alpha.guest.text("ls /sys/class/net | grep -v '^lo$' || true"), "the machine has a network")
    lab.step("joined: each sees the other")
    files.serve(alpha)
    files.serve(beta)
    files.put_and_get(alpha, beta)
    files.put_and_get(beta, alpha)
    lab.step("stp-ftp: there and back, from either side")
    preloaded_conversation(lab, alpha, beta)
    other_machine_in_the_mount(lab, alpha, beta)
    lab.check(beta)


def preloaded_conversation(lab, alpha, beta):
    """A question to its end, then the answer: half-close both ways, by a program that knows nothing of this."""
    if alpha.guest.run("[ -x /bin/socat ]", check=False).status != 0:
        lab.step("not installed, and left out: socat")
        return
    beta.guest.start("stp run -- socat TCP-LISTEN:700,fork EXEC:sha256sum")
    answer = alpha.guest.until("stp run -- socat -t 60 - TCP:beta.stp:700 </tmp/big", 60)
    expect(files.digest(alpha, "/tmp/big") in answer.text, f"socat under stp run answered: {answer}")
    lab.step("socat under stp run: a question of 7 MB and its answer")


def other_machine_in_the_mount(lab, alpha, beta):
    listening = beta.guest.start("stp pipe --listen 801 >/tmp/heard")
    alpha.guest.run("mkdir -p /mnt/stp && stp-fuse /mnt/stp")
    alpha.guest.until("grep '^state alive' /mnt/stp/hosts/beta/status", 30)
    incarnation = alpha.guest.text("cat /mnt/stp/hosts/beta/incarnation")
    expect(incarnation == str(lab.incarnation(alpha, "beta")), f"the mount of alpha says that beta is incarnation {incarnation}")
    alpha.guest.until("grep -h ':801$\\|!801$' /mnt/stp/hosts/beta/sockets/*/local", 30, "the listener of beta in alpha's mount")
    alpha.guest.run("echo through the mount >/mnt/stp/hosts/beta/ports/801/data")
    listening.succeed()
    heard = beta.guest.text("cat /tmp/heard")
    expect(heard == "through the mount", f"beta heard: {heard}")
    alpha.guest.run("umount /mnt/stp")
    lab.step("stp-fuse: the other machine's state and sockets, and a conversation by echo")
