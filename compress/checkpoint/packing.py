"""Codes of 1 to 8 bits, packed without gaps."""

import numpy as np
import numpy.typing as npt

from hwmodels.errors import InputError

Bytes = npt.NDArray[np.uint8]

CHUNK = 1 << 20
"""Codes handled at a time, a multiple of 8, so that every chunk ends on a whole byte; bounds the memory of the
unpacked bits to 8 MiB."""


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
        bit_rows = np.unpackbits(chunk[:, None], axis=1, count=bits, bitorder="little")
        stream = np.packbits(bit_rows, bitorder="little")
        first = start * bits // 8
        packed[first : first + stream.size] = stream
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
        stream = packed[first : first + packed_length(size, bits)]
        bit_rows = np.unpackbits(stream, count=size * bits, bitorder="little").reshape(size, bits)
        codes[start : start + size] = np.packbits(bit_rows, axis=1, bitorder="little")[:, 0]
    return codes
