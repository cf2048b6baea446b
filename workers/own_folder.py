"""A folder that one process at a time works in, and that its successor after a kill finds again."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path


@contextmanager
def own_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield ``root/name-0``, or the next number whose folder nobody works in; it is removed at the end.

    The folder is held by a lock that the system releases with the process. A folder whose process was killed is
    therefore free, and comes with what was left in it; so does one that was left with an exception.
    """
    for number in count():
        folder = root / f"{name}-{number}"
        held = _hold(folder)
        if held is None:
            continue
        try:
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)
        return


def _hold(folder: Path) -> int | None:
    """Lock a folder, made if it is not there; return the lock's descriptor, ``None`` if somebody else has it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # its holder has just ended and removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)  # removed between opening and locking: the name belongs to another folder now, or to none
