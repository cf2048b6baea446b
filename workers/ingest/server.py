"""A preloaded server that forks once per request: ``python -m workers.ingest.server CONTROL``.

Importing torch takes seconds; a fork takes milliseconds and shares the memory. The server itself reads nothing that a
user wrote. It ends, with all it runs, when the control socket closes, which the death of the service does too.
"""

import errno
import os
import selectors
import signal
import socket
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from workers.ingest.protocol import DISK_FULL_STATUS, MAX_MESSAGE_BYTES, Ending, Message


@dataclass(slots=True)
class Child:
    """A request that runs: the socket on which its end is told, and when it must have ended."""

    report: socket.socket
    deadline: float
    timed_out: bool = False


class Server:
    """One thread: waits for requests, ends of children and deadlines."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, Child] = {}
        self._wake, wake = socket.socketpair()
        self._wake.setblocking(False)
        wake.setblocking(False)
        self._wakeup = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that the end of a child wakes the selector
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        """Run until the control socket closes."""
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(self._wake, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select(self._seconds_to_deadline())}
            if self._wake in ready:
                self._wake.recv(4096)
            self._reap()
            if self._control in ready and not self._accept():
                break
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _accept(self) -> bool:
        """Fork for the next request; say whether there may be more."""
        data, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 1)
        if not data:
            return False
        report = socket.socket(fileno=descriptors[0])
        message = Message.decode(data)
        pid = os.fork()
        if pid == 0:
            report.close()
            self._become_child(message)
        self._children[pid] = Child(report, time.monotonic() + message.limits.seconds)
        return True

    def _become_child(self, message: Message) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (
                self._control,
                self._wake,
                self._wakeup,
                *(child.report for child in self._children.values()),
            ):
                other.close()
            from workers.ingest.confinement import confine
            from workers.ingest.requests import answer

            confine(message.limits)
            answer(Path(message.folder))
            status = 0
        except OSError as error:
            traceback.print_exc()
            status = DISK_FULL_STATUS if error.errno == errno.ENOSPC else 1
        except BaseException:  # whatever it is, the server's loop must not run in the child
            traceback.print_exc()
        finally:
            os._exit(status)

    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            if time.monotonic() > child.deadline and not child.timed_out:
                child.timed_out = True
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._children[pid]
                self._tell(child, Ending(status=status, timed_out=child.timed_out))

    @staticmethod
    def _tell(child: Child, ending: Ending) -> None:
        with child.report:
            try:
                child.report.sendall(ending.encode())
            except OSError:  # the client has given up waiting
                return

    def _seconds_to_deadline(self) -> float | None:
        if not self._children:
            return None
        return max(0.0, min(child.deadline for child in self._children.values()) - time.monotonic()) + 0.01


def main() -> None:
    """Preload what requests need, then serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    warnings.simplefilter("ignore")  # of libraries, about themselves

    import workers.ingest.requests as requests

    requests.preload()
    Server(control).serve()


if __name__ == "__main__":
    main()
