#!/usr/bin/env python3
"""The programs at both ends of `stp forward` in forward.sh: forward_peer.py WHAT [arguments]. Exit status 0: all was as it must be."""
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

RESET = struct.pack("ii", 1, 0)


def ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(count))]
    print(*(s.getsockname()[1] for s in held))


def connect(to):
    s = socket.socket(socket.AF_UNIX if "/" in to else socket.AF_INET)
    s.settimeout(15)
    s.connect(to if "/" in to else ("127.0.0.1", int(to)))
    return s


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def read_all(s):
    pieces = []
    while piece := s.recv(1 << 18):
        pieces.append(piece)
    return b"".join(pieces)


def read_line(s):
    line = b""
    while not line.endswith(b"\n"):
        byte = s.recv(1)
        if not byte:
            break
        line += byte
    return line.decode().strip()


def is_reset_when(action):
    try:
        got = action()
    except (ConnectionResetError, BrokenPipeError):
        return True
    print(f"no reset, but {got!r:.40}", file=sys.stderr)
    return False


# -- The server behind -R: one line says what it is to do ------------------------------------------------------------


def talk(s, data):
    with s, contextlib.suppress(ConnectionError):
        what = read_line(s)
        if what == "exchange":  # sends all of its file while it reads
            sender = threading.Thread(target=s.sendall, args=(data,))
            sender.start()
            digest = hashlib.sha256(read_all(s)).hexdigest()
            sender.join()
            s.sendall(digest.encode())
        elif what == "digest":  # answers when it has seen the end
            s.sendall(hashlib.sha256(read_all(s)).hexdigest().encode())
        elif what == "echo":
            while piece := s.recv(65536):
                s.sendall(piece)
        elif what == "end":  # has nothing to say, and listens
            s.shutdown(socket.SHUT_WR)
            read_all(s)
        elif what == "reset":
            s.recv(1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)  # a Unix socket is reset by what is unread
        elif what == "is reset":
            s.sendall(b"ready\n")
            reset = is_reset_when(lambda: s.recv(1))
            with open("reset_seen", "w", encoding="ascii") as file:
                file.write(str(reset))


def serve(port, path, file):
    data = contents(file)
    listeners = [socket.create_server(("127.0.0.1", int(port)), backlog=128), socket.socket(socket.AF_UNIX)]
    listeners[1].bind(path)
    listeners[1].listen(128)

    def accept(listener):
        while True:
            s, _ = listener.accept()
            threading.Thread(target=talk, args=(s, data), daemon=True).start()

    for listener in listeners:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    signal.pause()


def stale(path):
    socket.socket(socket.AF_UNIX).bind(path)


# -- Clients ---------------------------------------------------------------------------------------------------------


def exchange(to, mine, theirs):
    mine, theirs = contents(mine), contents(theirs)
    with connect(to) as s:
        s.sendall(b"exchange\n")

        def send():
            s.sendall(mine)
            s.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = read_all(s)
        sender.join()
    return got == theirs + hashlib.sha256(mine).hexdigest().encode()


def half_close(to, file, send_buffer=0):
    data = contents(file)
    with connect(to) as s:
        if send_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, int(send_buffer))
        s.sendall(b"digest\n" + data)
        s.shutdown(socket.SHUT_WR)
        return read_all(s).decode() == hashlib.sha256(data).hexdigest()


def rows(control):
    said = subprocess.run(["stp", "forward", "--control", control, "--ask", "list", "--json"], check=True, capture_output=True).stdout
    return json.loads(said)["endpoints"]


def row_of(control, port):
    return next(r for r in rows(control) if f":{port}:" in r["endpoint"])


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def round_trip(s, data):
    s.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = s.recv(len(data) - len(got))
        if not piece:
            break
        got += piece
    return got == data


def echo_to(to):
    s = connect(to)
    s.sendall(b"echo\n")
    return s


def many(to, count, control):
    before = row_of(control, to)
    sockets = [echo_to(to) for _ in range(int(count))]
    # All of them answer while all of them are open, the last one first.
    good = all([round_trip(s, b"%d " % i * 20000) for i, s in reversed(list(enumerate(sockets)))])
    now = row_of(control, to)
    for s in sockets:
        s.close()
    wait_until(lambda: row_of(control, to)["open"] == 0)
    after = row_of(control, to)
    sent = sum(len(b"%d " % i * 20000) for i in range(int(count)))
    counted = tuple(after[what] - before[what] for what in ("total", "from_stp_bytes", "to_stp_bytes"))
    return good and now["open"] == int(count) and after["open"] == 0 and counted == (int(count), sent, sent + len("echo\n") * int(count))


def slow_reader(to, theirs):
    theirs = contents(theirs)
    with connect(to) as slow, echo_to(to) as quick:
        slow.sendall(b"exchange\n")
        slow.shutdown(socket.SHUT_WR)
        time.sleep(0.5)  # until everything between is full
        began = time.monotonic()
        good = all(round_trip(quick, os.urandom(10000)) for _ in range(50))
        took = time.monotonic() - began
        got = read_all(slow)
    print(f"  50 round trips beside it in {took * 1000:.0f} ms")
    return good and took < 5 and got == theirs + hashlib.sha256(b"").hexdigest().encode()


def is_reset(to):
    with connect(to) as s:
        return is_reset_when(lambda: s.recv(1))


def reset_by_server(to):
    with connect(to) as s:
        s.sendall(b"reset\n12345")
        return is_reset_when(lambda: s.recv(1))


def reset_by_client(to):
    with connect(to) as s:
        s.sendall(b"is reset\n")
        if read_line(s) != "ready":
            return False
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    wait_until(lambda: os.path.exists("reset_seen") and contents("reset_seen"))
    return contents("reset_seen") == b"True"


def exactly(s, count):
    got = b""
    while len(got) < count:
        piece = s.recv(count - len(got))
        if not piece:
            break
        got += piece
    return got


def socks_request(name, port, command=1):
    return b"\5" + bytes([command]) + b"\0\3" + bytes([len(name)]) + name + struct.pack(">H", port)


def socks_reply(to, request):
    with connect(to) as s:
        s.sendall(b"\5\1\0" + request)
        reply = exactly(s, 12)
        return reply[3] if len(reply) == 12 and reply[:2] == b"\5\0" and read_all(s) == b"" else None


def socks(to):
    with connect(to) as s:  # all at once, and a byte at a time: what follows the request is the conversation's
        s.sendall(b"\5\1\0" + socks_request(b"beta.stp", 700) + b"echo\nhello")
        good = exactly(s, 12) == b"\5\0\5\0\0\1\0\0\0\0\0\0" and exactly(s, 5) == b"hello"
    with connect(to) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\5\2\1\0" + socks_request(b"beta.stp", 700) + b"echo\nhello":
            s.sendall(bytes([byte]))
            time.sleep(0.002)
        good = good and exactly(s, 17)[12:] == b"hello"
    wanted = [(socks_request(b"beta.stp", 999), 5), (socks_request(b"nobody.stp", 700), 4), (socks_request(b"example.com", 80), 2),
              (socks_request(b"beta.stp", 700, 2), 7), (b"\5\1\0\1\x7f\0\0\1\0\x50", 8), (b"\5\1\0\x09", 8)]
    for request, code in wanted:
        # What comes behind a request that is refused must not cost the client the reply.
        for behind in (b"", b"x" * 1000):
            if (got := socks_reply(to, request + behind)) != code:
                print(f"{request!r} was answered {got} instead of {code}", file=sys.stderr)
                good = False
    with connect(to) as s:
        s.sendall(b"\4\1\0\x50\1\2\3\4\0")
        good = good and read_all(s) == b""
    return good


def silent(to):
    with connect(to) as s:
        s.sendall(b"\5\1")
        began = time.monotonic()
        got = read_all(s)
        took = time.monotonic() - began
    return got == b"" and 8 < took < 13


def removed(to, control):
    with echo_to(to) as s:
        good = round_trip(s, b"before")
        spec = row_of(control, to)["endpoint"]
        subprocess.run(["stp", "forward", "--control", control, "--ask", "remove " + spec], check=True)
        try:
            connect(to)
            return False
        except ConnectionRefusedError:
            pass
        row = row_of(control, to)
        good = good and not row["listening"] and row["open"] == 1 and round_trip(s, b"after")
    return good and wait_until(lambda: all(r["endpoint"] != spec for r in rows(control)))


def reset_by_signal(to, pid, number):
    with echo_to(to) as s:
        good = round_trip(s, b"alive")
        os.kill(int(pid), number)
        return is_reset_when(lambda: s.recv(1)) and good


def killed(to, pid):
    return reset_by_signal(to, pid, signal.SIGKILL)


def quiet(to, pid, control):
    with connect(to) as s:  # nothing comes and nothing goes any more: that the peer is lost is noticed all the same
        s.sendall(b"end\n")
        good = read_all(s) == b"" and row_of(control, to)["open"] == 1
        return killed(to, pid) and good and wait_until(lambda: row_of(control, to)["open"] == 0)


def stopped(to, pid):
    return reset_by_signal(to, pid, signal.SIGTERM)


def processor_ticks(pid):
    fields = contents(f"/proc/{pid}/stat").decode().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def queue(to, count, pid):
    sockets = [echo_to(to) for _ in range(int(count))]
    time.sleep(0.5)
    before = processor_ticks(pid)
    time.sleep(1)
    busy = (processor_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")
    served = 0
    # One after the other ends, and makes room for the next.
    for s in sockets:
        served += round_trip(s, b"hello")
        s.close()
    print(f"  {served} of {count} served; {busy * 100:.0f} % of a processor while they waited")
    return served == int(count) and busy < 0.4


if __name__ == "__main__":
    sys.exit(0 if globals()[sys.argv[1]](*sys.argv[2:]) in (None, True) else 1)
