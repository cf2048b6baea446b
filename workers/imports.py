"""Importing what takes seconds, in processes that have nothing else to do until it is there."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Let the garbage collector rest for the block, and leave alone ever after what was imported in it.

    Importing torch makes a million objects that stay; looking through them for garbage takes a tenth of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
