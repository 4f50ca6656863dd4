"""What another user of the machine tries, against the agent of `stp run` and the ports of somebody's programs. Each prints what came of it.
run_thief.py claim DOOR PORT | share DOOR PORT | unshare DOOR PORT | clog DOOR PORT | hold DOOR PORT INODE | behind DOOR COOKIE | squat DOOR PORT | mark DOOR PORT | pass PORT | take PORT SECONDS

DOOR is the abstract name of the agent's socket. hostlib/run_protocol.h has the requests, hostlib/run_address.h the names.
"""
import errno
import os
import select
import socket
import struct
import sys
import time

TCP_SOURCE = "127.83.84.80"
VERSION = 5
HELD, ACCEPTER = 4, 8


def ask(door, what, port=0, flags=0, cookie=0, text=b""):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect("\0" + door)
    s.send(struct.pack("=IIIHHiIQII256s", VERSION, what, 0, port, 0, 1, flags, cookie, 0, 0, text))
    _, error, ip, _, _, storage, _ = struct.unpack_from("=IiIIIII", s.recv(1000))
    return errno.errorcode.get(error, error), ip, storage


def name(kind, family, ip, port, peer_ip, peer_port, tail):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"\0stp:{kind}{family}{ip:08x}{port:04x}{peer_ip:08x}{peer_port:04x}{tail:08x}")
    return s


def sources(port):
    """The ports at TCP_SOURCE from which the agent is connected to that port."""
    source = struct.unpack("=I", socket.inet_aton(TCP_SOURCE))[0]
    for line in open("/proc/net/tcp"):
        words = line.split()
        if words[1].startswith(f"{source:08X}:") and words[2].endswith(f":{port:04X}") and words[3] == "01":
            yield int(words[1].split(":")[1], 16)


act = sys.argv[1]
if act == "claim":
    print(ask(sys.argv[2], 4, int(sys.argv[3]))[0])
elif act == "behind":
    print(ask(sys.argv[2], 7, 1, 0, int(sys.argv[3]))[0])
elif act in ("share", "unshare"):
    print(ask(sys.argv[2], 8 if act == "share" else 9, int(sys.argv[3]))[0])
elif act == "clog":  # whoever closes the last copy of a port's name waits for an hour: in its queue lies a TCP socket that lingers
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect("\0" + sys.argv[2])
    s.send(struct.pack("=IIIHHiIQII256s", VERSION, 8, 0, int(sys.argv[3]), 0, 1, 0, 0, 0, 0, b""))
    copy = socket.socket(fileno=socket.recv_fds(s, 1000, 1)[1][0])
    server = socket.create_server(("127.0.0.1", 0))
    lingers = socket.create_connection(server.getsockname())
    nobody_reads, _ = server.accept()
    lingers.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    lingers.setblocking(False)
    try:
        while True:
            lingers.send(bytes(65536))
    except BlockingIOError:
        pass
    copy.listen()
    to_copy = socket.socket(socket.AF_UNIX)
    to_copy.connect(copy.getsockname())
    socket.send_fds(to_copy, [b"x"], [lingers.fileno()])
    if os.fork() == 0:
        for each in (s, copy, lingers, to_copy, server):
            each.close()
        os.close(1)
        while os.path.exists(__file__):  # as long as the test
            time.sleep(0.2)
        os._exit(0)
    print("clogged", flush=True)
elif act == "hold":  # the names of a port of STP, for the TCP socket of somebody
    port = int(sys.argv[3])
    _, ip, storage = ask(sys.argv[2], 1)
    names = [name("L", 4, ip, port, 0, 0, storage), name("L", 6, ip, port, 0, 0, storage), name("B", 4, 0x7f000001, port, int(sys.argv[4]), 1, storage)]
    print(ask(sys.argv[2], 4, port, HELD)[0])
elif act == "squat":
    _, ip, storage = ask(sys.argv[2], 1)
    kept = name("L", 6, ip, int(sys.argv[3]), 0, 0, storage)
    print("there", flush=True)
    select.select([sys.stdin], [], [])
elif act == "mark":  # that a conversation of two other programs, to that port, is to end with a reset
    here = f"{ask(sys.argv[2], 1)[1]:08x}"
    to_port = f"{int(sys.argv[3]):04x}"
    until = time.monotonic() + 20
    found = []
    while not found and time.monotonic() < until:
        texts = [line.split("@")[1].strip() for line in open("/proc/net/unix") if "@stp:C4" in line]
        found = [text for text in texts if text[6:14] == text[18:26] == here and text[26:30] == to_port]
    print(ask(sys.argv[2], 6, flags=2, text=found[0].encode())[0], ask(sys.argv[2], 6, flags=2 | ACCEPTER, text=found[0].encode())[0])
    marks = [socket.socket(socket.AF_UNIX) for _ in "AZ"]
    for mark, kind in zip(marks, "AZ"):
        mark.bind(f"\0stp:{kind}4" + "0" * 8 + found[0][14:])  # as if root had asked for it
        mark.listen()
    print("there", flush=True)
    select.select([sys.stdin], [], [])
elif act == "pass":  # from where another host's conversation came just now
    port = int(sys.argv[2])
    until = time.monotonic() + 20
    while not (seen := list(sources(port))) and time.monotonic() < until:
        pass
    print("seen", flush=True)
    s = socket.socket()
    while time.monotonic() < until:
        try:
            s.bind((TCP_SOURCE, seen[0]))
            s.connect(("127.0.0.1", port))
            break
        except OSError:
            s.close()
            s = socket.socket()
    s.sendall(b"who\n")
    print("taken for", eval(s.recv(1000).decode())[0], flush=True)
elif act == "take":  # TCP's port, as soon as it is free
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    until = time.monotonic() + 20
    while True:
        try:
            s.bind(("127.0.0.1", int(sys.argv[2])))
            s.listen()
            break
        except OSError:
            if time.monotonic() > until:
                raise
    print("there", flush=True)
    got = 0
    until = time.monotonic() + float(sys.argv[3])
    while select.select([s], [], [], max(0, until - time.monotonic()))[0]:
        s.accept()
        got += 1
    print("connections:", got)
