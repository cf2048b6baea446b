"""Joining Ray: a local one without dashboard, statistics or secrets in its environment, or a cluster by address."""

import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# Read when Ray is imported. Else a call that comes after leaving starts another Ray, with all of this environment.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

import ray
from ray.exceptions import RayError

from workers import cluster_node
from workers.events import Event
from workers.start import DriverStart

OBJECT_STORE_BYTES = 512 * 2**20
"""Local object store: holds one copy of each running job's network and data."""

LISTENING_S = 2.0  # within which somebody must take a connection
NODE_COMES_S = 6.0

KEPT_VARIABLES = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR", "VIRTUAL_ENV"})
KEPT_PREFIXES = ("LANG", "LC_", "PYTHON", "OMP_", "MKL_", "OPENBLAS_", "LD_", "DYLD_", "CUDA_", "NVIDIA_", "RAY_")

_own_node: subprocess.Popen[bytes] | None = None
_raylet: int | None = None


class ClusterAwayError(Exception):
    """The Ray cluster does not answer; it may later."""


def connect(address: str = "", *, cpus: int | None = None, object_store_bytes: int = OBJECT_STORE_BYTES) -> None:
    """Join the Ray cluster at ``address``, or start a local one if that is empty; a second call does nothing.

    A local Ray dies with the thread that started it, so call this from the main thread. What it starts inherits only
    the variables that programs need to run at all: no database password, token or key reaches a worker.

    Args:
        address: What ``RAY_ADDRESS`` would say, ``host:port``.
        cpus: CPUs of a local Ray; by default as many as this process may use.
        object_store_bytes: Size of the object store of a node that is started here.

    Raises:
        ClusterAwayError: There is no cluster at the address, or it does not let this process in.
    """
    if ray.is_initialized():
        return
    with _only_these_variables({**kept_variables(os.environ), "RAY_USAGE_STATS_ENABLED": "0"}):
        if address:
            _join(address, object_store_bytes)
            return
        ray.init(
            address="local",
            num_cpus=cpus or usable_cpus(),
            object_store_memory=object_store_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    global _raylet
    _raylet = _child("raylet")


def _join(address: str, object_store_bytes: int) -> None:
    """Join a cluster through a node of it on this machine, which is started if there is none."""
    global _own_node
    if not _listens(address):
        raise ClusterAwayError(f"the Ray cluster at {address} does not answer")
    if (_own_node is None or _own_node.poll() is not None) and not _node_comes(address):
        _own_node = cluster_node.start(address, object_store_bytes=object_store_bytes)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, ConnectionError, RuntimeError) as error:
        raise ClusterAwayError(f"the Ray cluster at {address} cannot be joined: {_first_line(error)}") from error


def _node_comes(address: str) -> bool:
    """Wait a little for a node on this machine: where a head starts, its node comes a moment later."""
    deadline = time.monotonic() + NODE_COMES_S
    while not cluster_node.is_here(address):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def answers() -> bool:
    """Whether the cluster that was joined is still there.

    Asks the network for its head: Ray itself waits for a minute before it believes that a head is gone, and then ends
    the process.
    """
    return ray.is_initialized() and _listens(str(ray.get_runtime_context().gcs_address))


def node_died() -> bool:
    """Whether a local Ray has lost the process that starts all others; Ray itself takes ten seconds to notice."""
    return _raylet is not None and _state(_raylet) in ("gone", "Z")


def _child(name: str) -> int | None:
    """Return a child of this process by its name, where the operating system tells."""
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # threads and children come and go
            for pid in path.read_text().split():
                if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    return int(pid)
    return None


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return True  # "auto", say: Ray knows where to look
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=LISTENING_S):
            return True
    except OSError:
        return False


class DriverLostError(Exception):
    """A driver died; the job goes on with a new one that is given the stored trials."""


class RunningDriver:
    """A driver in a process of its own, which ends with the one that started it.

    Args:
        start: The job, and what earlier runs of it have found.
        evaluators: How many evaluators it may use; each takes a CPU of the cluster.
        memory_bytes: What each may take beyond what it has after its start; 0 is what there is.

    Raises:
        DriverLostError: Ray did not take it.
    """

    def __init__(self, start: DriverStart, *, evaluators: int, memory_bytes: int = 0) -> None:
        try:
            self._actor: Any = ray.remote(_DriverActor).options(num_cpus=0).remote(start, evaluators, memory_bytes)
        except (RayError, ConnectionError, RuntimeError) as error:
            raise DriverLostError(_first_line(error)) from error

    def advance(self, acknowledged: int) -> Sequence[tuple[int, Event]]:
        """Acknowledge events up to a number and return those after it; takes a fraction of a second.

        Raises:
            DriverLostError: The driver died.
        """
        try:
            events: Sequence[tuple[int, Event]] = ray.get(self._actor.advance.remote(acknowledged))
        except RayError as error:
            raise DriverLostError(_first_line(error)) from error
        return events

    def kill(self) -> None:
        """End the driver and its evaluators at once; what was not acknowledged is lost."""
        ray.kill(self._actor)


class _DriverActor:
    """The thin Ray side of a driver. Imports the driver, and with it torch, only where it runs."""

    def __init__(self, start: DriverStart, evaluators: int, memory_bytes: int) -> None:
        from workers.driver import Driver
        from workers.pool import RayPool

        self._driver = Driver(start, lambda job: RayPool(job, size=evaluators, memory_bytes=memory_bytes))

    def advance(self, acknowledged: int) -> Sequence[tuple[int, Event]]:
        """Run ``Driver.advance``."""
        return self._driver.advance(acknowledged)


def disconnect() -> None:
    """Leave the cluster; a local one ends, and so does a node that was started for joining another."""
    ray.shutdown()
    if _own_node is not None:
        cluster_node.stop(_own_node)


def temporary_folder() -> Path:
    """Return where the Ray that was joined keeps its sessions on this machine."""
    return Path(ray.get_runtime_context().get_temp_dir())


def usable_cpus() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cluster_cpus() -> int:
    """Return the CPUs of the cluster that was joined, as it is now.

    Raises:
        ClusterAwayError: It does not answer.
    """
    try:
        return int(ray.cluster_resources().get("CPU", 0))
    except (RayError, ConnectionError, RuntimeError) as error:
        raise ClusterAwayError(_first_line(error)) from error


def kept_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that workers may see."""
    return {
        name: value for name, value in environment.items() if name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES)
    }


@contextmanager
def _only_these_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Run with another environment; what it adds meanwhile stays, what it lacked comes back."""
    whole = dict(os.environ)
    for name in whole.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.update(whole)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
