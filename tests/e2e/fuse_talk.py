"""What a program can do with the files of a conversation: fuse_talk.py MOUNT OTHER_MOUNT OTHER_HOST."""
import errno
import hashlib
import os
import random
import select
import signal
import sys
import threading
import time

near, far, far_host = sys.argv[1:]


class Ends:
    """A connected pair: descriptors of the data files of both."""

    def __init__(self, port):
        listener = os.open(far + "/net/clone", os.O_RDWR)
        number = os.read(listener, 100).decode().strip()
        os.write(listener, b"announce %d\n" % port)
        ctl = os.open(near + "/net/clone", os.O_RDWR)
        self.ctl = "%s/net/%s/ctl" % (near, os.read(ctl, 100).decode().strip())
        os.write(ctl, b"connect %s %d\n" % (far_host.encode(), port))
        self.near = os.open(os.path.dirname(self.ctl) + "/data", os.O_RDWR)
        accepted = os.open("%s/net/%s/listen" % (far, number), os.O_RDWR)
        self.far = os.open("%s/net/%s/data" % (far, os.read(accepted, 100).decode().strip()), os.O_RDWR)
        for fd in (listener, ctl, accepted):
            os.close(fd)

    def close(self):
        os.close(self.near)
        os.close(self.far)


def events(poller, wanted, seconds=20):
    """Waits until these come."""
    for _ in range(100):
        got = poller.poll(seconds)
        if not got:
            return 0
        if got[0][1] & wanted:
            return got[0][1]
    return 0


def check_epoll():
    ends = Ends(800)
    os.set_blocking(ends.near, False)
    os.set_blocking(ends.far, False)
    poller = select.epoll()
    poller.register(ends.far, select.EPOLLIN)
    assert poller.poll(0.05) == [], "readable before anything came"
    try:
        os.read(ends.far, 10)
        raise AssertionError("it read nothing")
    except BlockingIOError:
        pass
    threading.Timer(0.1, os.write, (ends.near, b"hello")).start()
    assert events(poller, select.EPOLLIN) & select.EPOLLIN
    assert os.read(ends.far, 10) == b"hello"
    assert poller.poll(0.05) == [], "readable after everything was read"

    sent = 0
    block = bytes(range(256)) * 1024
    try:
        while True:
            sent += os.write(ends.near, block)
    except BlockingIOError:
        pass
    room = select.epoll()
    room.register(ends.near, select.EPOLLOUT)
    got = 0
    while got < sent:
        if events(poller, select.EPOLLIN) == 0:
            raise AssertionError("%d of %d came" % (got, sent))
        try:
            got += len(os.read(ends.far, 1 << 20))
        except BlockingIOError:
            pass
    assert events(room, select.EPOLLOUT) & select.EPOLLOUT, "no room"

    several = select.poll()
    several.register(ends.far, select.POLLIN)
    threading.Timer(0.1, os.close, (ends.near,)).start()
    assert several.poll(20000), "the end was not told"
    assert os.read(ends.far, 10) == b""
    os.close(ends.far)


def check_signals():
    ends = Ends(801)

    class Hit(Exception):
        pass

    def hit(*_):
        raise Hit

    signal.signal(signal.SIGALRM, hit)
    for blocked in (lambda: os.read(ends.far, 1), lambda: [os.write(ends.near, bytes(1 << 20)) for _ in range(1000)],
                    lambda: os.open(far + "/net/" + listening + "/listen", os.O_RDWR)):
        ctl = os.open(far + "/net/clone", os.O_RDWR)
        listening = os.read(ctl, 100).decode().strip()
        os.write(ctl, b"announce 0")
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            blocked()
            raise AssertionError("it did not wait")
        except Hit:
            pass
        os.close(ctl)
    os.close(ends.far)
    try:
        os.close(ends.near)
        raise AssertionError("nobody read what was written, and close did not say so")
    except ConnectionResetError:
        pass


def check_errors():
    ends = Ends(802)
    os.write(os.open(ends.ctl, os.O_WRONLY), b"shutdown")
    try:
        os.write(ends.near, b"x")
        raise AssertionError("it wrote after the end")
    except BrokenPipeError:
        pass
    assert os.read(ends.far, 1) == b""
    ends.close()


def pump(fd, other, size, seed, failures):
    """Writes random pieces into fd, while another thread reads random pieces from the other end."""
    sent, got = hashlib.sha256(), hashlib.sha256()

    def write():
        pieces, left = random.Random(seed), size
        while left > 0:
            data = pieces.randbytes(min(left, pieces.choice((1, 100, 4096, 70000, 1 << 20, 3 << 20)) + pieces.randrange(99)))
            done = 0
            while done < len(data):
                done += os.write(fd, data[done:])
            sent.update(data)
            left -= len(data)

    def read():
        pieces, left = random.Random(seed + 1), size
        while left > 0:
            data = os.read(other, min(left, pieces.choice((1, 100, 4096, 70000, 1 << 20, 3 << 20)) + pieces.randrange(99)))
            if not data:
                break
            got.update(data)
            left -= len(data)

    threads = [threading.Thread(target=each) for each in (write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sent.digest() != got.digest():
        failures.append("%d bytes differ" % size)


def check_random():
    ends = Ends(803)
    failures = []
    ways = [threading.Thread(target=pump, args=args) for args in ((ends.near, ends.far, 30 << 20, 1, failures), (ends.far, ends.near, 20 << 20, 2, failures))]
    for way in ways:
        way.start()
    for way in ways:
        way.join()
    assert not failures, failures
    ends.close()


def check_gone():
    """The kernel, and the mount with it, does not keep what is over."""
    ctl = os.open(near + "/net/clone", os.O_RDWR)
    place = near + "/net/" + os.read(ctl, 100).decode().strip()
    os.stat(place + "/ctl")
    seen = os.open(place, os.O_RDONLY)
    os.close(ctl)
    for _ in range(200):
        if os.readlink("/proc/self/fd/%d" % seen).endswith(" (deleted)"):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the kernel was not told that a conversation has gone")
    os.close(seen)


for check in (check_gone, check_epoll, check_signals, check_errors, check_random):
    check()
