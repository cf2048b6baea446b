"""The side of ingestion that the API process holds: starts the server, hands it requests, checks how they ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.ingest.protocol import (
    DISK_FULL_STATUS,
    KEPT_VARIABLES,
    MAX_MESSAGE_BYTES,
    REQUEST_FILE,
    Ending,
    IngestError,
    IngestUnavailableError,
    Limits,
    Message,
    read_reply,
    write_json,
)

STARTUP_SECONDS = 90.0  # importing torch on a busy machine
QUEUE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request brought: plain data, and files in a folder that is removed when the caller is done."""

    result: Mapping[str, Any]
    folder: Path

    def file(self, name: str) -> Path:
        """Return a file of the reply, which must be a plain one."""
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            raise IngestError("file", f"ingestion wrote no {name}", code="ingest_failed")
        return path


class IngestClient:
    """Runs requests in processes of their own. One per service; its methods may be called from any thread."""

    def __init__(self, *, scratch: Path, limits: Limits, concurrency: int = 2) -> None:
        self._scratch = scratch
        self._limits = limits
        self._places = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process of the server, if it was started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server, which then preloads its libraries; returns at once. Does nothing on a closed client."""
        with self._lock:
            if not self._closed:
                self._running()

    def start_later(self, seconds: float) -> None:
        """Start the server after so long, unless a request does before."""
        self._timer = threading.Timer(seconds, self.start)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """End the server and what it runs."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._closed = True
            self._stop()

    @contextmanager
    def run(self, kind: str, parameters: Mapping[str, Any], *, limits: Limits | None = None) -> Iterator[Reply]:
        """Run one request and give its reply for the length of the block.

        Args:
            kind: A name of ``workers.ingest.requests.REQUESTS``.
            parameters: Plain data; files go in as absolute paths.
            limits: What this request may take, if it is not what every request may.

        Raises:
            IngestError: The request was refused, or its process died, ran out of memory or took too long.
            IngestUnavailableError: The server cannot be started, or all places were taken for too long.
        """
        limits = limits or self._limits
        if not self._places.acquire(timeout=QUEUE_SECONDS):
            raise IngestUnavailableError("all places for parsing uploads are taken")
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="ingest-", dir=self._scratch))
            try:
                write_json(folder / REQUEST_FILE, {"kind": kind, "parameters": dict(parameters)})
                ending = self._run(folder, limits)
                yield Reply(_result(ending, read_reply(folder), limits), folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            self._places.release()

    def _run(self, folder: Path, limits: Limits) -> Ending:
        """Send a request; once more if the server died meanwhile, which no request should be able to cause."""
        for _ in range(2):
            ending = self._try(folder, limits)
            if ending is not None:
                return ending
        raise IngestUnavailableError("the process that parses uploads died twice")

    def _try(self, folder: Path, limits: Limits) -> Ending | None:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                control = self._running()
                message = Message(folder=str(folder), limits=limits).encode()
                try:
                    socket.send_fds(control, [message], [theirs.fileno()])
                except OSError:
                    self._stop()
                    return None
            ours.settimeout(limits.seconds + STARTUP_SECONDS)
            try:
                answer = ours.recv(MAX_MESSAGE_BYTES)
            except OSError:  # also a timeout
                answer = b""
        if answer:
            return Ending.decode(answer)
        with self._lock:
            if self._control is control:
                self._stop()
        return None

    def _running(self) -> socket.socket:
        """Return the control socket of a server that runs, starting one if need be. The caller holds the lock."""
        if self._closed:
            raise IngestUnavailableError("the service is stopping")
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        # One thread each: the server forks, and a fork takes along no thread but the one that forks.
        environment |= {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.ingest.server", str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the service, which then ends the server
            )
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()  # the server ends with its control socket
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _result(ending: Ending, reply: dict[str, Any] | None, limits: Limits) -> Mapping[str, Any]:
    if ending.timed_out or (os.WIFSIGNALED(ending.status) and os.WTERMSIG(ending.status) == signal.SIGXCPU):
        raise IngestError("file", f"must be parsed within {limits.seconds:g} s", code="ingest_timeout")
    if os.WIFEXITED(ending.status) and os.WEXITSTATUS(ending.status) == DISK_FULL_STATUS:
        raise IngestUnavailableError("there is no room left on the disk for what parsing an upload writes")
    if ending.status != 0 or reply is None:
        how = f"signal {os.WTERMSIG(ending.status)}" if os.WIFSIGNALED(ending.status) else "no reply"
        raise IngestError("file", f"must be parsed without a crash; parsing it ended with {how}", code="ingest_crashed")
    problem = reply.get("problem")
    if problem is not None:
        raise IngestError(problem["field"], problem["rule"], problem.get("value"), code=problem["code"])
    result = reply.get("result")
    if not isinstance(result, dict):
        raise IngestError("file", "ingestion wrote no result", code="ingest_failed")
    return result
