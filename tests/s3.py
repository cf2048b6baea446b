"""A real S3 server for tests, which can be taken away and brought back with what it holds."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from tests.end_to_end.service_process import wait_for

HOST = "127.0.0.1"
PIECE_BYTES = 2**16


class Relay:
    """Passes connections at a port of its own on to another one, as long as it is not stopped."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def start(self) -> None:
        """Take connections."""
        listener = socket.create_server((HOST, self.port))
        self._listener = listener
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and break off those that are open."""
        if self._listener is not None:
            # Closing alone would leave the thread that accepts with one more connection.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # stopped
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._relay, args=[connection], daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        with suppress(OSError), closing(near), closing(socket.create_connection((HOST, self._target))) as far:
            self._open |= {near, far}
            back = threading.Thread(target=_pump, args=[far, near], daemon=True)
            back.start()
            _pump(near, far)
            back.join()
            self._open -= {near, far}


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class S3:
    """A server, and how to reach it."""

    def __init__(self) -> None:
        self._port = free_port()
        self.relay = Relay(self._port)
        self.options = {"endpoint_url": f"http://{HOST}:{self.relay.port}", "key": "test", "secret": "test"}
        """As fsspec wants them."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self._port)], stderr=subprocess.DEVNULL
        )

    @property
    def settings(self) -> dict[str, str]:
        """The variables that tell a service of it."""
        return {f"FSSPEC_S3_{name.upper()}": value for name, value in self.options.items()}

    def listens(self) -> bool:
        """Whether it has started."""
        try:
            socket.create_connection((HOST, self._port)).close()
        except OSError:
            return False
        return True

    def hang(self) -> None:
        """Let it take connections and answer none."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        os.kill(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        """End it, and forget what it holds."""
        self.relay.stop()
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_s3() -> Iterator[S3]:
    """Give an empty server that ends with the block."""
    server = S3()
    try:
        wait_for(server.listens)
        server.relay.start()
        yield server
    finally:
        server.end()
