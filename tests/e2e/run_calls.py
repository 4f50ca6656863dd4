"""The socket calls of an unmodified program, as `stp run` answers them:
run_calls.py serve PORT [HOST] | exec PORT | share PORT NAME... | call HOST PORT OWN-HOST | upload HOST PORT | linger HOST PORT |
errno HOST PORT | to-tcp OWN-HOST | silent HOST PORT MILLISECONDS | ask HOST PORT TIMES.

The server does what the first line of each connection asks for; the caller checks what a program on TCP would see.
"""
import ctypes
import errno
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        line += byte
    return line.decode().strip()


def serve_one(connection, address):
    words = read_line(connection).split() or ["nothing"]
    if words[0] == "who":
        connection.sendall(repr([address, connection.getsockname(), connection.getpeername(), connection.family == socket.AF_INET]).encode())
    elif words[0] == "count":  # half-close: reads to the end, then answers
        total = 0
        while data := connection.recv(65536):
            total += sum(data)
        connection.sendall(str(total).encode())
    elif words[0] == "die":  # in the middle of an answer
        connection.sendall(b"x" * 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    elif words[0] == "unread":  # closed with something unread: a reset
        connection.sendall(b"ok")
        select.select([connection], [], [])
    elif words[0] == "linger":  # closed with a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif words[0] == "said":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(b"last")
        time.sleep(0.1)  # on the way to another host a reset overtakes what was not sent yet
    elif words[0] == "lingering":  # reads to the end, answers and says its own; closes when that has arrived
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while connection.recv(65536):
            pass
        connection.sendall(b"l" * 3_000_000)
        connection.shutdown(socket.SHUT_WR)
        time.sleep(1)
    elif words[0] == "wait":
        connection.sendall(b"ok")
        print("upload", len(read_all(connection)), flush=True)
    connection.close()


def read_all(connection):
    parts = []
    try:
        while data := connection.recv(65536):
            parts.append(data)
        parts.append(b"<end>")
    except ConnectionResetError:
        parts.append(b"<reset>")
    print("upload ended with", parts[-1].decode(), flush=True)
    return b"".join(parts)


def serve(port, host="0.0.0.0"):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(64)
    print("listening", os.getpid(), flush=True)
    serve_from(listener)


def serve_from(listener):
    while True:
        connection, address = listener.accept()
        if os.fork() == 0:  # the child has the conversation, as inetd's programs
            listener.close()
            serve_one(connection, address)
            os._exit(0)
        connection.close()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")


def dial(host, port, line):
    connection = socket.create_connection((host, port))
    connection.sendall(line.encode() + b"\n")
    return connection


def errno_of(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno, error.errno)
    return "no error"


def names(host, port, own):
    address = socket.gethostbyname(host)
    expect("a second look", socket.gethostbyname(host), address)
    expect("the name of the address", socket.getnameinfo((address, port), 0)[0], host)
    connection = dial(host, port, "who")
    expect("peer", connection.getpeername(), (address, port))
    mine = connection.getsockname()
    expect("own address", mine[0], socket.gethostbyname(own))
    theirs = eval(connection.recv(1000).decode())
    expect("who the server saw", theirs, [mine, (address, port), mine, True])
    bound = socket.socket()
    bound.bind((mine[0], 0))
    wanted = bound.getsockname()
    bound.connect((address, port))
    expect("the port that was chosen", bound.getsockname(), wanted)
    bound.sendall(b"who\n")
    expect("whom the server saw by that port", eval(bound.recv(1000).decode())[0], wanted)
    bound.close()
    expect("unknown host", errno_of(lambda: socket.gethostbyname("nobody.stp")), -2)
    base = address.rsplit(".", 1)[0]
    expect("no host there", errno_of(lambda: socket.create_connection((base + ".250", port))), "EHOSTUNREACH")
    expect("nobody listens", errno_of(lambda: socket.create_connection((host, 9))), "ECONNREFUSED")
    inet6 = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM)[0][4]
    six = socket.socket(socket.AF_INET6)
    six.connect(inet6)
    expect("peer by IPv6", six.getpeername()[:2], ("::ffff:" + address, port))
    six.sendall(b"who\n")
    six.recv(1000)


def options(host, port):
    connection = dial(host, port, "who")
    connection.recv(1000)
    get = connection.getsockopt
    expect("SO_TYPE", get(socket.SOL_SOCKET, socket.SO_TYPE), socket.SOCK_STREAM)
    expect("SO_DOMAIN", get(socket.SOL_SOCKET, socket.SO_DOMAIN), socket.AF_INET)
    expect("SO_PROTOCOL", get(socket.SOL_SOCKET, socket.SO_PROTOCOL), socket.IPPROTO_TCP)
    expect("SO_ERROR", get(socket.SOL_SOCKET, socket.SO_ERROR), 0)
    expect("TCP_NODELAY before", get(socket.IPPROTO_TCP, socket.TCP_NODELAY), 0)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    expect("TCP_NODELAY", get(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    expect("SO_KEEPALIVE", get(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    connection.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 16)
    expect("TCP_INFO's state", get(socket.IPPROTO_TCP, socket.TCP_INFO, 100)[0], 1)
    early = socket.socket()
    early.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    early.settimeout(7)
    early.connect((host, port))
    expect("TCP_NODELAY from before the connect", early.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
    expect("bind twice", errno_of(lambda: [socket.create_server(("0.0.0.0", 7999)) for _ in range(2)]), "EADDRINUSE")


def without_blocking(host, port):
    address = (socket.gethostbyname(host), port)
    s = socket.socket()
    s.setblocking(False)
    poller = select.epoll()
    poller.register(s, select.EPOLLOUT | select.EPOLLIN)  # before the connect, as some programs do
    code = s.connect_ex(address)
    if code != 0:
        expect("connect", errno.errorcode[code], "EINPROGRESS")
        while True:
            (number, events), = poller.poll(10) or [(0, 0)]
            expect("epoll's descriptor", number, s.fileno())
            if events & select.EPOLLOUT:
                break
    expect("the outcome", s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
    expect("connect again", errno.errorcode.get(s.connect_ex(address), 0), "EISCONN")
    s.send(b"who\n")
    poller.modify(s, select.EPOLLIN)
    number, events = poller.poll(10)[0]
    expect("readable", (number, events & ~select.EPOLLHUP), (s.fileno(), select.EPOLLIN))  # HUP: a peer on this host has closed already
    for several in [socket.socket() for _ in range(3)], [socket.socket()]:  # that are refused, and stay
        codes = []
        for refused in several:
            refused.setblocking(False)
            code = refused.connect_ex((address[0], 9))
            if code == errno.EINPROGRESS:
                refused.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # does not make it connected
                select.select([], [refused], [refused], 10)
                code = refused.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            codes.append(errno.errorcode.get(code))
        expect("nobody listens", codes, ["ECONNREFUSED"] * len(several))
    refused.close()
    plain = socket.socketpair()  # takes the number of one that connected
    expect("an ordinary socket", [errno_of(s.getpeername) for s in plain], ["no error"] * 2)


def copies(host, port):
    first = socket.socket()
    others = [first.dup(), socket.socket(fileno=os.dup(first.fileno())), socket.socket(fileno=os.dup2(first.fileno(), 700))]
    first.connect((host, port))
    for other in others:  # copied before the connect, connected by it
        expect("a copy's peer", other.getpeername(), first.getpeername())
        expect("inherited by a program that is started", other.get_inheritable(), other.fileno() == 700)
    others[0].sendall(b"count\n")
    others[1].sendall(b"ab")
    first.close()
    others[2].shutdown(socket.SHUT_WR)
    expect("what copies wrote", others[0].recv(100), str(sum(b"ab")).encode())
    first = socket.socket()
    other = first.dup()
    first.connect((host, port))
    first.sendall(b"linger\n")
    expect("a reset, at a copy", errno_of(lambda: other.recv(10)), "ECONNRESET")
    first = dial(host, port, "linger")
    other = first.dup()
    first.close()
    expect("a reset, at a copy of one that is connected", errno_of(lambda: other.recv(10)), "ECONNRESET")


def ends(host, port):
    connection = dial(host, port, "count")
    payload = bytes(range(256)) * 4000
    threading.Thread(target=lambda: (connection.sendall(payload), connection.shutdown(socket.SHUT_WR))).start()
    expect("the answer after a half-close", connection.makefile("rb").read(), str(sum(payload)).encode())
    connection = dial(host, port, "die")
    got = b""
    ended = "an end"
    try:
        while data := connection.recv(65536):
            got += data
    except ConnectionResetError:
        ended = "a reset"
    if host == OTHER:
        expect("a process that was killed: its bytes", got in (b"", b"x" * 1000), True)
    for receive in (lambda c: c.recv(10), lambda c: os.read(c.fileno(), 10), lambda c: c.recv_into(bytearray(10)), lambda c: c.recvmsg(10)[0],
                    lambda c: os.readv(c.fileno(), [bytearray(10)]), lambda c: c.recvfrom(10)[0], lambda c: c.recv(10, socket.MSG_PEEK)):
        connection = dial(host, port, "linger")
        expect("closed with SO_LINGER 0", errno_of(lambda: receive(connection)), "ECONNRESET")
        expect("said once", receive(connection) in (b"", 0), True)
    connection = dial(host, port, "linger")
    select.select([connection], [], [])
    expect("its SO_ERROR", connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), errno.ECONNRESET)
    connection = dial(host, port, "said linger")
    expect("what was said before a reset", connection.makefile("rb", buffering=0).read(4), b"last")
    expect("and the reset", errno_of(lambda: connection.recv(10)), "ECONNRESET")
    connection = dial(host, port, "unread")
    expect("before", connection.recv(2), b"ok")
    code = errno_of(lambda: [connection.sendall(b"y" * 100000), connection.recv(10), connection.sendall(b"z"), connection.recv(10)])
    expect("closed with something unread", code in ("ECONNRESET", "EPIPE"), True)


def fork_and_exec(host, port):
    connection = dial(host, port, "count")
    if os.fork() == 0:
        os.dup2(connection.fileno(), 1)
        os.execvp("sh", ["sh", "-c", "printf abc; printf def"])
    os.wait()
    connection.shutdown(socket.SHUT_WR)
    expect("what a child wrote", connection.recv(100), str(sum(b"abcdef")).encode())


def stopped():
    listener = socket.create_server(("0.0.0.0", 7998))
    codes = []
    thread = threading.Thread(target=lambda: codes.append(errno_of(listener.accept)))
    thread.start()
    while not any("S" == line.split()[2] for line in [open(f"/proc/self/task/{thread.native_id}/stat").read()]):
        pass
    listener.shutdown(socket.SHUT_RD)  # how a server stops its accepting thread
    thread.join(10)
    expect("accept of a listener that was shut down", codes, ["EINVAL"])


def many(host, port):
    connections = [dial(host, port, "count") for _ in range(40)]
    for number, connection in enumerate(connections):
        connection.sendall(bytes([number]) * 1000)
        connection.shutdown(socket.SHUT_WR)
    for number, connection in enumerate(connections):
        expect(f"answer {number}", connection.recv(100), str(number * 1000).encode())


def upload(host, port):
    connection = dial(host, port, "wait")
    expect("before", connection.recv(2), b"ok")
    connection.sendall(b"u" * 5000)
    peer = connection.getpeername()
    print("uploading", flush=True)
    expect("the agent was killed", errno_of(lambda: [connection.recv(1), connection.sendall(b"z"), connection.recv(1)]) in ("ECONNRESET", "EPIPE"), True)
    print("reset", flush=True)
    expect("a connect without an agent", errno_of(lambda: socket.create_connection(peer)), "ENETUNREACH")


def linger(host, port):
    connection = dial(host, port, "wait")
    expect("before", connection.recv(2), b"ok")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    connection = socket.socket()  # set before it is connected
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.connect((host, port))
    expect("SO_LINGER after the connect", connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8), struct.pack("ii", 1, 0))
    connection.sendall(b"wait\n")
    expect("before", connection.recv(2), b"ok")
    connection.close()
    connection = dial(host, port, "count")
    for on in 1, 0:  # taken back
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))
    connection.sendall(b"a" * 3_000_000)
    connection.shutdown(socket.SHUT_WR)
    expect("the answer", connection.recv(100), str(3_000_000 * ord("a")).encode())
    connection = dial(host, port, "lingering answer")
    connection.shutdown(socket.SHUT_WR)
    expect("an answer after both ends were told", len(connection.makefile("rb").read()), 3_000_000)


def inherited(host):
    """What is accepted has its listener's options."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 7, 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, 7997))
    listener.listen()
    client = socket.create_connection((host, 7997))
    accepted, _ = listener.accept()
    expect("SO_LINGER of its listener", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8), struct.pack("ii", 1, 0))
    expect("SO_KEEPALIVE of its listener", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
    expect("SO_RCVTIMEO of its listener", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16), struct.pack("ll", 7, 0))
    expect("TCP_NODELAY of its listener", accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
    accepted.close()
    expect("closed with its listener's SO_LINGER 0", errno_of(lambda: client.recv(1)), "ECONNRESET")
    client = socket.create_connection((host, 7997))
    accepted, _ = listener.accept()
    client.close()
    expect("who has SO_LINGER 0 reads the end of who has not", accepted.recv(1), b"")


def kept_options(host, port, own):
    """A connect keeps what was set before it, and what waits for the socket."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.bind((own, 7995))
    waits = select.epoll()
    waits.register(s, select.EPOLLOUT)
    waits.poll(0)
    s.connect((host, port))
    expect("SO_KEEPALIVE after the connect", s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
    expect("epoll that was told before bind and connect", waits.poll(10), [(s.fileno(), select.EPOLLOUT)])
    expect("a second connect", errno_of(lambda: s.connect((host, port))), "EISCONN")
    expect("one to somewhere else", errno_of(lambda: s.connect(("127.0.0.1", port))), "EISCONN")


def resets_of(host):
    """Whatever the number was before, and however it is read: a reset is told as one, and what went before it is whole."""
    listener = socket.create_server((host, 7989))

    def pair():
        client = socket.create_connection((host, 7989))
        return client, listener.accept()[0]

    def cut(client, by_linger):
        client.sendall(b"part")
        if by_linger:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    client, accepted = pair()
    _, ended = pair()
    ended.shutdown(socket.SHUT_RDWR)
    os.dup2(accepted.fileno(), ended.fileno())
    cut(client, True)
    expect("with the number of one that ended itself", [ended.recv(100), errno_of(lambda: ended.recv(100))], [b"part", "ECONNRESET"])
    client, accepted = pair()
    _, ended = pair()
    ended.shutdown(socket.SHUT_WR)
    os.dup2(accepted.fileno(), ended.fileno())
    accepted.close()
    cut(ended, True)
    expect("by one with such a number", [client.recv(100), errno_of(lambda: client.recv(100))], [b"part", "ECONNRESET"])
    client, accepted = pair()
    expect("a shutdown that there is not", errno_of(lambda: libc_shutdown(client.fileno(), 99)), "EINVAL")
    cut(client, True)
    expect("after that", [accepted.recv(100), errno_of(lambda: accepted.recv(100))], [b"part", "ECONNRESET"])
    readers = {
        "recv": lambda s: s.recv(100, socket.MSG_WAITALL),
        "recvfrom": lambda s: s.recvfrom(100, socket.MSG_WAITALL)[0],
        "recvmsg": lambda s: s.recvmsg(100, 0, socket.MSG_WAITALL)[0],
    }
    for name, read in readers.items():
        for low in 1, 100:
            client, accepted = pair()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low)
            accepted.sendall(b"never read")
            cut(client, False)
            expect(f"all by {name}, {low}", [read(accepted), errno_of(lambda: read(accepted))], [b"part", "ECONNRESET"])
    client, accepted = pair()
    parts = [bytearray(3), bytearray(0), bytearray(5)]
    threading.Thread(target=lambda: [client.sendall(bytes([n])) or time.sleep(0.01) for n in range(8)]).start()
    expect("all, into parts", [accepted.recvmsg_into(parts, 0, socket.MSG_WAITALL)[0], bytes(parts[0] + parts[2])], [8, bytes(range(8))])


def libc_shutdown(number, how):
    if ctypes.CDLL(None, use_errno=True).shutdown(number, how) != 0:
        raise OSError(ctypes.get_errno(), "shutdown")


def again(host):
    """A socket that is connected once more keeps what waits for it, and its copies; so does one that shares its port."""
    s = socket.socket()
    s.setblocking(False)
    waits = select.epoll()
    waits.register(s, select.EPOLLOUT)
    errno_of(lambda: s.connect((host, 7988)))
    expect("an event of the failure", len(waits.poll(10)), 1)
    expect("the failure", s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), errno.ECONNREFUSED)
    copy = s.dup()
    listener = socket.create_server((host, 7988))
    errno_of(lambda: s.connect((host, 7988)))
    expect("an event of the second connect", waits.poll(10), [(s.fileno(), select.EPOLLOUT)])
    listener.accept()[0].sendall(b"again")
    copy.setblocking(True)
    expect("what comes to a copy", copy.recv(10), b"again")
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind((host, 7987))
    waits = select.epoll()
    waits.register(s, select.EPOLLOUT)
    expect("reading from what shares a port", errno_of(lambda: s.recv(1)), "ENOTCONN")
    s.connect((host, 7988))
    expect("its event", waits.poll(10), [(s.fileno(), select.EPOLLOUT)])
    abandoned = socket.socket()
    abandoned.setblocking(False)
    errno_of(lambda: abandoned.connect((host, 7986)))
    ordinary = socket.socket(socket.AF_UNIX)
    os.dup2(ordinary.fileno(), abandoned.fileno())
    expect("a Unix socket with the number of one that was connecting",
           errno_of(lambda: socket.socket(fileno=os.dup(abandoned.fileno())).bind(f"/tmp/run-calls-{os.getpid()}")), "no error")
    os.unlink(f"/tmp/run-calls-{os.getpid()}")


def unconnected(host):
    s = socket.socket()
    s.bind((host, 7994))
    expect("reading from what is bound", errno_of(lambda: s.recv(1)), "ENOTCONN")
    expect("its shutdown", errno_of(lambda: s.shutdown(socket.SHUT_WR)), "ENOTCONN")
    s.listen()
    expect("a listener's connect", errno_of(lambda: s.connect((host, 7993))), "EISCONN")
    client = socket.create_connection((host, 7994))
    s.close()
    expect("a port of which nobody listens any more", errno_of(lambda: socket.create_connection((host, 7994))), "ECONNREFUSED")
    expect("one that waited there", errno_of(lambda: client.recv(1)), "ECONNRESET")
    client = socket.socket()
    expect("nobody there", errno_of(lambda: client.connect((host, 7994))), "ECONNREFUSED")
    expect("and reading from that one", errno_of(lambda: client.recv(1)), "ENOTCONN")
    client.setblocking(False)
    errno_of(lambda: client.connect((host, 7993)))
    select.select([client], [], [], 10)
    expect("a refusal that was not asked about, told by reading", errno_of(lambda: client.recv(1)), "ECONNREFUSED")


def to_tcp():
    """A port of STP, and a connect to an address that is none of STP's."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.socket()
    client.bind(("0.0.0.0", 7992))
    client.connect(server.getsockname())
    accepted, peer = server.accept()
    expect("from where that comes", peer, ("127.0.0.1", 7992))
    accepted.sendall(b"over TCP")
    expect("what comes back", client.recv(100), b"over TCP")
    expect("STP's after TCP's", errno_of(lambda: client.connect((OWN, 7000))), "EISCONN")
    client = socket.socket()
    expect("nobody there", errno_of(lambda: client.connect((OWN, 7991))), "ECONNREFUSED")
    client.connect(server.getsockname())  # the next address of a list
    print("to TCP")


def silent(host, port, milliseconds):
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    print(errno_of(lambda: s.connect((host, port))))
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    s.setblocking(False)
    print(errno_of(lambda: s.connect((host, port))))
    select.select([], [s], [])
    print(errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))


def share(port, names):
    """A process of each name, which listens with a socket of its own that all share the port, made by their parent."""
    listeners = []
    for name in names:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("0.0.0.0", port))
        expect("SO_REUSEPORT", listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), 1)
        listener.listen(64)
        listeners.append(listener)
    alone = socket.socket()
    expect("one more that does not share", errno_of(lambda: alone.bind(("0.0.0.0", port))), "EADDRINUSE")
    for number, name in enumerate(names):
        if os.fork() == 0:
            for other in listeners[:number] + listeners[number + 1:]:
                other.close()
            os.write(1, f"listening {name} {os.getpid()}\n".encode())
            while True:
                connection, _ = listeners[number].accept()
                if connection.recv(4) == b"end\n":
                    connection.sendall(name.encode())
                    os._exit(0)
                connection.sendall(name.encode())
                connection.close()
    for listener in listeners:
        listener.close()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def rebind(port):
    """A port is free as soon as the last of its sockets is closed, shared or not."""
    for step, (first, second) in enumerate([(1, 0), (0, 1), (1, 1), (1, 0)]):
        one, other = socket.socket(), socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, first)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, second)
        one.bind(("0.0.0.0", port))
        if step > 1:
            one.listen()
        one.close()
        expect(f"bound again, {step}", errno_of(lambda: other.bind(("0.0.0.0", port))), "no error")
        other.listen()
        other.close()


def held_names(port):
    return sorted("-".join(line.split()[6:8]) for line in open("/proc/net/unix") if re.search(f"@stp:[LB].{{9}}{port:04x}", line))


def ask(host, port, times):
    answers = []
    for _ in range(times):
        connection = dial(host, port, "ask")
        answers.append(connection.recv(100).decode())
    print(*sorted(set(answers)))


if sys.argv[1] == "share":
    share(int(sys.argv[2]), sys.argv[3:])
elif sys.argv[1] == "ask":
    ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
elif sys.argv[1] == "rebind":
    rebind(int(sys.argv[2]))
elif sys.argv[1] == "exec":
    listener = socket.create_server(("0.0.0.0", int(sys.argv[2])))
    listener.set_inheritable(True)
    os.execv(sys.executable, [sys.executable, __file__, "serve-started", str(listener.fileno()), *held_names(int(sys.argv[2]))])
elif sys.argv[1] == "serve-started":
    listener = socket.socket(fileno=int(sys.argv[2]))
    expect("the names after exec, and whether there are three", [held_names(listener.getsockname()[1]), len(sys.argv)], [sys.argv[3:], 6])
    print("started again", os.getpid(), flush=True)
    serve_from(listener)
elif sys.argv[1] == "linger":
    linger(sys.argv[2], int(sys.argv[3]))
elif sys.argv[1] == "to-tcp":
    OWN = sys.argv[2]
    to_tcp()
elif sys.argv[1] == "errno":
    print(errno_of(lambda: socket.create_connection((sys.argv[2], int(sys.argv[3])), 5)))
elif sys.argv[1] == "silent":
    silent(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
elif sys.argv[1] == "upload":
    upload(sys.argv[2], int(sys.argv[3]))
elif sys.argv[1] == "serve":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    serve(int(sys.argv[2]), *sys.argv[3:])
else:
    host, port, own = sys.argv[2], int(sys.argv[3]), sys.argv[4]
    OTHER = None if host == own else host
    names(host, port, own)
    options(host, port)
    without_blocking(host, port)
    copies(host, port)
    ends(host, port)
    fork_and_exec(host, port)
    many(host, port)
    stopped()
    inherited(own)
    kept_options(host, port, own)
    unconnected(own)
    resets_of(own)
    again(own)
    print("all as on TCP")
