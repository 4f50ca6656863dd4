"""Files in guests: made, moved by stp-ftp, compared."""
import json

from lab import expect

# Both ends make it alike; no two pieces of it are alike.
BIG_LINES = 1_000_000

# Exit statuses of stp-ftp.
CANNOT_CONNECT = 3
PEER_GONE = 4


def make_big(machine, path="/tmp/big", lines=BIG_LINES):
    """A file of about 7 bytes a line, the same with each making: its time, too, so that a transfer may go on after a new start."""
    machine.guest.run(f"seq 1 {lines} >{path} && touch -d '2020-01-01 00:00:00' {path}")


def digest(machine, path):
    return machine.guest.text(f"sha256sum {path} | cut -d ' ' -f 1")


def serve(machine, directory="/tmp/served"):
    return machine.guest.start(f"mkdir -p {directory} && stp-ftpd --root {directory}")


def ftp(machine, peer, commands, attempts=1):
    """Gives the commands, and gives them again where a host that was called dead cut them off."""
    for attempt in range(1, attempts + 1):
        output = machine.guest.run(f"stp-ftp {peer} --wait 60 -c '{commands}'", timeout_s=300, check=attempt == attempts)
        if output.status == 0:
            return
        expect(output.status in (CANNOT_CONNECT, PEER_GONE), f"stp-ftp under way ended with {output}")


def same(first, first_path, second, second_path):
    one, other = digest(first, first_path), digest(second, second_path)
    expect(one == other, f"{first_path} of {first.name} and {second_path} of {second.name} differ: {one}, {other}")


def resumed_at(text):
    """Where a transfer of `stp-ftp --json` went on, 0: at the beginning."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return max((line.get("resumed_at", 0) for line in lines), default=0)


def put_and_get(near, far, attempts=1):
    """One file there and back, by the client of `near` and the server that `far` runs."""
    make_big(near)
    ftp(near, far.name, f"put /tmp/big from-{near.name}", attempts)
    ftp(near, far.name, f"get from-{near.name} /tmp/back", attempts)
    same(near, "/tmp/big", far, f"/tmp/served/from-{near.name}")
    same(near, "/tmp/big", near, "/tmp/back")
