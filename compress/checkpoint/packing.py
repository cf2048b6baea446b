"""Codes of 1 to 8 bits, packed without gaps."""

import numpy as np
import numpy.typing as npt

from hwmodels.errors import InputError

Bytes = npt.NDArray[np.uint8]

CHUNK = 1 << 18
"""Codes handled at a time, a multiple of 8, so that every chunk ends on a whole byte; keeps what is in the making small
enough for a core's own cache."""

EIGHT = 8
"""Codes that are handled as one word of at most 64 bits: they end on a whole byte, whatever their width."""


def packed_length(count: int, bits: int) -> int:
    """Return the bytes that ``count`` codes take."""
    return (count * bits + 7) // 8


def pack(codes: Bytes, bits: int) -> Bytes:
    """Return flat codes below ``2**bits`` as a bit stream.

    The first code stands in the lowest bits of the first byte; the last byte is filled up with zero bits.
    """
    if bits == 8:
        return codes.copy()
    packed = np.empty(packed_length(codes.size, bits), np.uint8)
    for start in range(0, codes.size, CHUNK):
        chunk = codes[start : start + CHUNK]
        rows = np.zeros((-(-chunk.size // EIGHT), EIGHT), np.uint8)
        rows.reshape(-1)[: chunk.size] = chunk
        words = np.zeros(len(rows), "<u8")
        for place in range(EIGHT):
            words |= rows[:, place].astype("<u8") << np.uint64(bits * place)
        stream = words.view(np.uint8).reshape(-1, EIGHT)[:, :bits].reshape(-1)
        first = start * bits // 8
        packed[first : first + packed_length(chunk.size, bits)] = stream[: packed_length(chunk.size, bits)]
    return packed


def unpack(packed: Bytes, bits: int, count: int) -> Bytes:
    """Return ``count`` codes; the inverse of ``pack``.

    Raises:
        InputError: ``packed`` is not as long as so many codes are.
    """
    if packed.size != packed_length(count, bits):
        raise InputError("codes", f"must be {packed_length(count, bits)} bytes", packed.size)
    if bits == 8:
        return packed.copy()
    codes = np.empty(count, np.uint8)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        first = start * bits // 8
        rows = np.zeros((-(-size // EIGHT), EIGHT), np.uint8)
        stream = np.zeros(len(rows) * bits, np.uint8)
        stream[: packed_length(size, bits)] = packed[first : first + packed_length(size, bits)]
        rows[:, :bits] = stream.reshape(-1, bits)
        words = rows.reshape(-1).view("<u8")
        chunk = np.empty((len(rows), EIGHT), np.uint8)
        for place in range(EIGHT):
            chunk[:, place] = (words >> np.uint64(bits * place)) & np.uint64(2**bits - 1)
        codes[start : start + size] = chunk.reshape(-1)[:size]
    return codes
