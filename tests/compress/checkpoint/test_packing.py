import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.checkpoint import packing
from compress.checkpoint.packing import pack, packed_length, unpack
from hwmodels.errors import InputError


@given(bits=st.integers(1, 8), values=st.lists(st.integers(0, 255), max_size=300))
def test_unpacking_gives_back_every_code(bits: int, values: list[int]) -> None:
    codes = np.array(values, np.uint8) & (2**bits - 1)

    packed = pack(codes.astype(np.uint8), bits)

    assert packed.size == -(-len(values) * bits // 8)
    assert np.array_equal(unpack(packed, bits, codes.size), codes)


@given(bits=st.integers(1, 8), values=st.lists(st.integers(0, 255), max_size=80))
def test_chunks_leave_no_seam(bits: int, values: list[int]) -> None:
    codes = (np.array(values, np.uint8) & (2**bits - 1)).astype(np.uint8)
    whole = pack(codes, bits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "CHUNK", 16)
        assert np.array_equal(pack(codes, bits), whole)
        assert np.array_equal(unpack(whole, bits, codes.size), codes)


def test_codes_fill_bytes_from_the_lowest_bit() -> None:
    # 3-bit codes 1, 2, 7: the stream, lowest bit first, is 100 010 111, so the first byte is 0b11010001 = 0xD1
    # and the ninth bit (the top bit of 7) opens the second byte.
    packed = pack(np.array([1, 2, 7], np.uint8), 3)

    assert packed.tolist() == [0xD1, 0x01]


def test_a_stream_of_the_wrong_length_is_refused() -> None:
    assert packed_length(3, 3) == 2
    with pytest.raises(InputError, match="must be 2 bytes, got 3"):
        unpack(np.zeros(3, np.uint8), 3, 3)
