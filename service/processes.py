"""Processes that a service starts: they die with it, and are started again when they die alone."""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from workers.parent import end_with

PARENT_VARIABLE = "TIGHTFIT_PARENT"
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
HEALTHY_S = 15.0  # a process that lived so long has done its work, and starts again without delay
TERMINATION_S = 12.0

logger = logging.getLogger(__name__)


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends; nothing if it was started by hand."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:
        end_with(int(parent), by=signal.SIGKILL)


class Supervised:
    """A child process that is started again, with growing delay, until ``stop``."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._arguments = list(arguments)
        self._environment = {**environment, PARENT_VARIABLE: str(os.getpid())}
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # The thread lives as long as the service: its end would be the child's (``die_with_parent``).
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    @property
    def pid(self) -> int | None:
        """The child's process, if it runs."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Start the child and keep it running."""
        self._thread.start()

    def stop(self) -> None:
        """End the child: ask first, kill after a while."""
        self._stopping.set()
        self._thread.join(TERMINATION_S + 5.0)

    def _supervise(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not self._stopping.is_set():
            since = time.monotonic()
            try:
                # Its own session: a Ctrl-C is for the service, which then ends the child in order.
                self._process = subprocess.Popen(self._arguments, env=self._environment, start_new_session=True)
            except OSError as error:  # no memory or no place for a process, say
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
                logger.error("%s cannot be started: %s; trying again in %.1f s", self._arguments[-1], error, backoff_s)
                self._stopping.wait(backoff_s)
                continue
            while self._process.poll() is None and not self._stopping.wait(0.2):
                pass
            if self._stopping.is_set():
                break
            lived_s = time.monotonic() - since
            backoff_s = FIRST_BACKOFF_S if lived_s > HEALTHY_S else min(2 * backoff_s, LONGEST_BACKOFF_S)
            logger.error(
                "%s ended with %s after %.0f s; starting it again in %.1f s",
                self._arguments[-1],
                self._process.returncode,
                lived_s,
                backoff_s,
            )
            self._stopping.wait(backoff_s)
        self._end()

    def _end(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(TERMINATION_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
