"""Caches with a byte limit, and names for tensors by what is in them."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """Keeps what was asked for last, as much as fits into a number of bytes.

    Args:
        limit_bytes: Of all values together. A value that is larger on its own is never kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self.bytes = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Value | None:
        """Return a value and count that as use, or ``None`` if it is not (any longer) kept."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep ``value``, which takes ``size`` bytes; what was not used for longest goes."""
        if key in self._kept:
            self.bytes -= self._kept.pop(key)[1]
        if size > self._limit:
            return
        self._kept[key] = (value, size)
        self.bytes += size
        while self.bytes > self._limit:
            self.bytes -= self._kept.popitem(last=False)[1][1]


class TensorDigests:
    """Names tensors by their content, so that a cache keyed by them can hold nothing stale.

    A tensor object is read once; nothing in this package writes to a tensor that a network holds.
    """

    def __init__(self) -> None:
        self._known = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> bytes:
        """Return 16 bytes that are equal for equal type, shape and values."""
        if tensor not in self._known:
            fixed = tensor.detach().contiguous()
            digest = hashlib.blake2b(f"{fixed.dtype}{tuple(fixed.shape)}".encode(), digest_size=16)
            digest.update(fixed.reshape(-1).view(torch.uint8).numpy().data)
            self._known[tensor] = digest.digest()
        found: bytes = self._known[tensor]
        return found
