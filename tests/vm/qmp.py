"""QEMU's monitor protocol: one JSON object a line, requests answered in order. Events in between are passed over."""
import json
import socket
import time


class MonitorError(Exception):
    """QEMU refused a command, or is gone."""


class Monitor:
    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._buffer = b""
        self._receive(time.monotonic() + 60)  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command, timeout_s=120, **arguments):
        """What the command returns."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise MonitorError(f"{command}: {error}") from error
        until = time.monotonic() + timeout_s
        while True:
            answer = self._receive(until)
            if "error" in answer:
                raise MonitorError(f"{command}: {answer['error']['desc']}")
            if "event" not in answer:
                return answer.get("return")

    def close(self):
        self._connection.close()

    def _receive(self, until):
        while b"\n" not in self._buffer:
            self._connection.settimeout(max(0.001, until - time.monotonic()))
            try:
                got = self._connection.recv(65536)
            except TimeoutError as error:
                raise MonitorError("QEMU's monitor does not answer") from error
            except OSError as error:
                raise MonitorError(f"QEMU's monitor: {error}") from error
            if not got:
                raise MonitorError("QEMU has ended")
            self._buffer += got
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)
