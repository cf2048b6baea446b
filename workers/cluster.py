"""Joining Ray: a local one without dashboard, statistics or secrets in its environment, or a cluster by address."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

from workers.events import Event
from workers.start import DriverStart

OBJECT_STORE_BYTES = 512 * 2**20
"""Local object store: holds one copy of each running job's network and data."""

KEPT_VARIABLES = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR", "VIRTUAL_ENV"})
KEPT_PREFIXES = ("LANG", "LC_", "PYTHON", "OMP_", "MKL_", "OPENBLAS_", "LD_", "DYLD_", "CUDA_", "NVIDIA_", "RAY_")


def connect(address: str = "", *, cpus: int | None = None, object_store_bytes: int = OBJECT_STORE_BYTES) -> None:
    """Join the Ray cluster at ``address``, or start a local one if that is empty; a second call does nothing.

    A local Ray dies with the thread that started it, so call this from the main thread. What it starts inherits only
    the variables that programs need to run at all: no database password, token or key reaches a worker.

    Args:
        address: What ``RAY_ADDRESS`` would say.
        cpus: CPUs of a local Ray; by default as many as this process may use.
        object_store_bytes: Size of a local Ray's object store.
    """
    if ray.is_initialized():
        return
    if address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        return
    with _only_these_variables({**kept_variables(os.environ), "RAY_USAGE_STATS_ENABLED": "0"}):
        ray.init(
            address="local",
            num_cpus=cpus or usable_cpus(),
            object_store_memory=object_store_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


class DriverLostError(Exception):
    """A driver died; the job goes on with a new one that is given the stored trials."""


class RunningDriver:
    """A driver in a process of its own, which ends with the one that started it.

    Args:
        start: The job, and what earlier runs of it have found.
        evaluators: How many evaluators it may use; each takes a CPU of the cluster.
        memory_bytes: What each may take beyond what it has after its start; 0 is what there is.
    """

    def __init__(self, start: DriverStart, *, evaluators: int, memory_bytes: int = 0) -> None:
        self._actor: Any = ray.remote(_DriverActor).options(num_cpus=0).remote(start, evaluators, memory_bytes)

    def advance(self, acknowledged: int) -> Sequence[tuple[int, Event]]:
        """Acknowledge events up to a number and return those after it; takes a fraction of a second.

        Raises:
            DriverLostError: The driver died.
        """
        try:
            events: Sequence[tuple[int, Event]] = ray.get(self._actor.advance.remote(acknowledged))
        except RayError as error:
            raise DriverLostError(str(error).splitlines()[0]) from error
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
    """Leave the cluster; a local one ends."""
    ray.shutdown()


def usable_cpus() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cluster_cpus() -> int:
    """Return the CPUs of the cluster that was joined."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


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
