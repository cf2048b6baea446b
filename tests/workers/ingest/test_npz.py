import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.workers.ingest.archives import archive, images, labels, npy
from workers.ingest.npz import describe, read_npz
from workers.ingest.protocol import IngestError

LIMIT = 10**6
GOOD_Y = npy(labels(0, 1, 2, 1))


def members(*, x: bytes | None = None, y: bytes | None = GOOD_Y) -> dict[str, bytes]:
    found = {"x.npy": npy(images()) if x is None else x}
    return found if y is None else {**found, "y.npy": y}


def test_images_and_labels_come_back_and_are_described(tmp_path: Path) -> None:
    stored = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
    np.savez_compressed(tmp_path / "data.npz", x=stored, y=np.array([0, 5, 2, 5], dtype=np.int32))

    x, y = read_npz(tmp_path / "data.npz", max_bytes=LIMIT)

    np.testing.assert_array_equal(x, stored)
    np.testing.assert_array_equal(y, [0, 5, 2, 5])
    assert y.dtype == np.int64
    assert describe(x, y) == {"images": 4, "shape": [8, 8], "dtype": "uint8", "classes": 6}


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [("float64", "float32"), ("float16", "float32"), ("int64", "int32"), ("bool", "uint8"), (">f4", "float32")],
)
def test_images_come_in_one_of_three_types(tmp_path: Path, stored: str, wanted: str) -> None:
    x = npy(np.ones((4, 2, 2), dtype=stored, order="F"))

    found, _ = read_npz(archive(tmp_path / "a.npz", members(x=x)), max_bytes=LIMIT)

    assert found.dtype == np.dtype(wanted)
    assert (found == 1).all()
    assert found.flags.c_contiguous


BAD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "an empty file": (lambda path: path.write_bytes(b""), "file", "empty_file"),
    "a text": (lambda path: path.write_text("x,y\n1,2\n"), "file", "not_npz"),
    "half an archive": (lambda path: _halve(archive(path, members())), "file", "not_npz"),
    "no images": (lambda path: archive(path, {"y.npy": GOOD_Y}), "x", "images_missing"),
    "no labels": (lambda path: archive(path, members(y=None)), "y", "labels_missing"),
    "a third array": (lambda path: archive(path, {**members(), "z.npy": GOOD_Y}), "file", "unknown_array"),
    "a path outside": (lambda path: archive(path, {**members(), "../x.npy": GOOD_Y}), "file", "unknown_array"),
    "too many members": (
        lambda path: archive(path, {f"{number}.npy": b"" for number in range(17)}),
        "file",
        "bad_archive",
    ),
    "another compression": (lambda path: archive(path, members(), compression=zipfile.ZIP_LZMA), "x", "bad_archive"),
    "pickled images": (
        lambda path: archive(path, members(x=npy(np.array([{"a": 1}] * 4, dtype=object)))),
        "x",
        "pickled_array",
    ),
    "pickled labels": (lambda path: archive(path, members(y=npy(np.array([None] * 4)))), "y", "pickled_array"),
    "a pickle instead of an array": (lambda path: archive(path, members(x=b"\x80\x04N.")), "x", "not_npy"),
    "text as images": (lambda path: archive(path, members(x=npy(np.array(["a"] * 4)))), "x", "bad_dtype"),
    "complex images": (lambda path: archive(path, members(x=npy(np.ones((4, 2, 2), complex)))), "x", "bad_dtype"),
    "a header that promises more": (lambda path: archive(path, members(x=_longer_header())), "x", "not_npy"),
    "a header with negative sizes": (lambda path: archive(path, members(x=_header("(-4, -2)"))), "x", "not_npy"),
    "a header that is code": (lambda path: archive(path, members(x=_header("__import__('os')"))), "x", "not_npy"),
    "a header without end": (lambda path: archive(path, members(x=_header("(" * 9000))), "x", "not_npy"),
    "bytes after the array": (lambda path: archive(path, members(x=npy(images()) + b"more")), "x", "not_npy"),
    "too much to unpack": (lambda path: archive(path, members(x=npy(images(500, (32, 32))))), "file", "too_large"),
    "a number as images": (lambda path: archive(path, members(x=npy(np.array(1.0)))), "x", "bad_shape"),
    "no rows": (lambda path: archive(path, members(x=npy(images(0)), y=npy(labels()))), "x", "bad_shape"),
    "five axes": (lambda path: archive(path, members(x=npy(np.zeros((4, 1, 1, 1, 1))))), "x", "bad_shape"),
    "fewer labels": (lambda path: archive(path, members(y=npy(labels(0, 1)))), "y", "bad_shape"),
    "labels in a column": (
        lambda path: archive(path, members(y=npy(labels(0, 1, 2, 3).reshape(4, 1)))),
        "y",
        "bad_shape",
    ),
    "float labels": (lambda path: archive(path, members(y=npy(np.zeros(4)))), "y", "bad_dtype"),
    "a negative label": (lambda path: archive(path, members(y=npy(labels(0, -1, 0, 0)))), "y", "label_out_of_range"),
    "a huge label": (lambda path: archive(path, members(y=npy(labels(0, 10**9, 0, 0)))), "y", "label_out_of_range"),
    "not a number": (lambda path: archive(path, members(x=npy(np.full((4, 2, 2), np.nan)))), "x", "not_finite"),
    "integers beyond 32 bits": (
        lambda path: archive(path, members(x=npy(np.full((4, 2, 2), 2**40)))),
        "x",
        "bad_dtype",
    ),
    "floats beyond 32 bits": (lambda path: archive(path, members(x=npy(np.full((4, 2, 2), 1e300)))), "x", "bad_dtype"),
    "a wrong checksum": (lambda path: _flip_last_byte_of_x(path), "file", "not_npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_a_data_set_is_refused_by_name(tmp_path: Path, case: str) -> None:
    write, field, code = BAD[case]
    path = tmp_path / "bad.npz"
    write(path)

    with pytest.raises(IngestError) as refusal:
        read_npz(path, max_bytes=LIMIT)

    assert (refusal.value.field, refusal.value.code) == (field, code)


@given(values=arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))))
def test_any_bytes_survive(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = archive(
        tmp_path_factory.mktemp("npz") / "a.npz",
        {"x.npy": npy(values), "y.npy": npy(np.arange(len(values)))},
        compression=zipfile.ZIP_DEFLATED,
    )

    x, y = read_npz(path, max_bytes=LIMIT)

    np.testing.assert_array_equal(x, values)
    assert y.tolist() == list(range(len(values)))


@given(junk=st.binary(max_size=400))
def test_no_junk_raises_anything_but_a_refusal(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = archive(tmp_path_factory.mktemp("npz") / "a.npz", members(x=b"\x93NUMPY\x01\x00" + junk))

    with pytest.raises(IngestError):
        read_npz(path, max_bytes=LIMIT)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _longer_header() -> bytes:
    return npy(images(4)).replace(b"(4, 1, 8, 8)", b"(4, 1, 8, 9)")


def _flip_last_byte_of_x(path: Path) -> None:
    x = npy(images())
    data = bytearray(archive(path, members(x=x)).read_bytes())
    data[data.index(x[:64]) + len(x) - 1] ^= 1
    path.write_bytes(data)
