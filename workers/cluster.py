"""Joining Ray: a local one without dashboard, statistics or secrets in its environment, or a cluster by address."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

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
