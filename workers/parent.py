"""Processes that do not outlive the one that started them."""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int, *, by: int) -> None:
    """Let the kernel send this process a signal when the thread that started it ends; Linux alone can.

    Args:
        parent: Process that started this one; if it is gone already, this one ends at once.
        by: Number of the signal.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)
