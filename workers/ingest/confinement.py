"""Limits that a process puts on itself before it reads what a stranger wrote. Linux has all of them, others some."""

import ctypes
import math
import resource
import signal
import sys
from pathlib import Path

from workers.ingest.protocol import Limits

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_OPEN_FILES = 64


def confine(limits: Limits) -> None:
    """Limit memory, processor time and files of this process, for good."""
    seconds = math.ceil(limits.seconds)
    _lower(resource.RLIMIT_CPU, seconds)
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        # The address space is mostly mapped libraries and says little; private writable memory is what counts.
        limit_memory(limits.memory_bytes)
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit_memory(more_bytes: int) -> None:
    """Let this process take so much more memory than it has now; what asks for more fails and can be caught."""
    _lower(resource.RLIMIT_DATA, _data_bytes() + more_bytes)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData")
