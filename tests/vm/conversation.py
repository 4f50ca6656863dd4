"""A conversation that stays open, of which everybody knows what has been said so far."""
from lab import expect

LINES = 200_000
BYTES = 1_288_895

PEER_LOST = 4  # exit status of `stp pipe`


class Conversation:
    """Begun by `near`, heard by `far`. Neither has ended its direction."""

    def __init__(self, near, far):
        self._far = far
        self.heard = far.guest.start("rm -f /tmp/open && mkfifo /tmp/open && { sleep 10000 >/tmp/open & } && stp pipe --listen 700 </tmp/open >/tmp/heard")
        self.said = near.guest.start(f"rm -f /tmp/open && mkfifo /tmp/open && {{ (seq 1 {LINES}; sleep 10000) >/tmp/open & }} && stp pipe --wait 60 {far.name} 700 </tmp/open")
        far.guest.until(f"[ $(stat -c %s /tmp/heard) = {BYTES} ]", 90, "what was said")

    def expect_heard_what_was_said(self):
        output = self._far.guest.run(f"seq 1 {LINES} | cmp - /tmp/heard", check=False)
        expect(output.status == 0, f"{self._far.name} heard something else than was said: {output}")


def expect_lost(job, words, timeout_s):
    """One side ended because the other was lost, and says how."""
    ended = job.wait(timeout_s)
    expect(ended.status == PEER_LOST and words in ended.text, f"{job.guest.name}'s conversation, whose peer was lost, ended with {ended}")
