"""The service as a child process: started on a free port, ready when this returns, stopped at the end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx

from service.client import ClientError

HOST = "127.0.0.1"
READY_SECONDS = 90.0
STOP_SECONDS = 20.0
_LOG_TAIL = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildService:
    """A running service: where it answers, where it keeps its data, what it writes."""

    url: str
    home: Path
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def child_service(home: Path, *, port: int = 0) -> Iterator[ChildService]:
    """Run ``tightfit serve`` with its data in ``home`` for the time of the block.

    The child is in a session of its own, so that Ctrl-C reaches it only through the end of the block; being asked to
    terminate ends the block, too.

    Raises:
        ClientError: The service did not become ready; the end of its log is in the message.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = port or _free_port()
    log = home / "service.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--host", HOST, "--port", str(port)],
            env={**os.environ, "TIGHTFIT_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    service = ChildService(url=f"http://{HOST}:{port}", home=home, log=log, process=process)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _wait_until_ready(service)
        yield service
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop(process)


def _wait_until_ready(service: ChildService) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            raise ClientError(f"the service ended at once; the end of {service.log}:\n{_tail(service.log)}")
        try:
            if httpx.get(f"{service.url}/readyz", timeout=5.0).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise ClientError(
        f"the service was not ready after {READY_SECONDS:.0f} s; the end of {service.log}:\n{_tail(service.log)}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:])


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
