"""Archives of images that must not be taken in."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.service.api.uploads import digits, npz
from tests.workers.ingest.archives import npy

GOOD = digits(100)
X, Y = GOOD["x"], GOOD["y"]


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def header(text: str, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return an ``.npy`` file with this header, whatever follows."""
    raw = text.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw) if length is None else length) + raw + data


def described(shape: str, dtype: str = "'<f4'", data: bytes = bytes(64)) -> bytes:
    return header(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n", data)


def archive(*, x: bytes | None = None, y: bytes | None = None, **others: bytes) -> bytes:
    members = {"x.npy": npy(X) if x is None else x, "y.npy": npy(Y) if y is None else y, **others}
    return zipped(members)


def twice() -> bytes:
    buffer = io.BytesIO(archive())
    with zipfile.ZipFile(buffer, "a") as file:
        info = zipfile.ZipInfo("z.npy")
        file.writestr(info, npy(X))
    return buffer.getvalue().replace(b"z.npy", b"x.npy")


def encrypted() -> bytes:
    """Return an archive whose members say that they are encrypted."""
    data = bytearray(archive())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 4)
    return bytes(data)


def lying_size() -> bytes:
    """Return an archive whose directory says that a member is four gigabytes long."""
    data = bytearray(archive())
    place = data.find(b"PK\x01\x02")
    data[place + 24 : place + 28] = b"\xfe\xff\xff\xff"
    return bytes(data)


def wrong_checksum() -> bytes:
    data = bytearray(zipped({"x.npy": npy(X), "y.npy": npy(Y)}, zipfile.ZIP_STORED))
    data[400] ^= 255
    return bytes(data)


def objects(values: list[Any]) -> bytes:
    return npy(np.array(values, dtype=object))


NAN = np.where(np.arange(6400).reshape(100, 64) == 7, np.nan, 0).astype(np.float32)
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + bytes(20)

DATA: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "empty_file"),
    "text": (lambda: b"x,y\n1,2\n", "not_npz"),
    "half an archive": (lambda: archive()[:-200], "not_npz"),
    "the head of an archive": (lambda: archive()[:50], "not_npz"),
    "an image": (lambda: PNG, "not_npz"),
    "a parquet file": (lambda: b"PAR1" + bytes(100) + b"PAR1", "not_npz"),
    "a gzip bomb": (lambda: gzip.compress(bytes(2**24)), "not_npz"),
    "an array outside an archive": (lambda: npy(X), "not_npz"),
    "an empty archive": (lambda: zipped({}), "images_missing"),
    "no images": (lambda: zipped({"y.npy": npy(Y)}), "images_missing"),
    "no labels": (lambda: zipped({"x.npy": npy(X)}), "labels_missing"),
    "an archive of images": (lambda: zipped({"cat/1.png": PNG, "dog/2.png": PNG}), "unknown_array"),
    "a member that leads outside": (lambda: archive(**{"../../x.npy": npy(X)}), "unknown_array"),
    "a member at the root": (lambda: archive(**{"/etc/passwd": b"root"}), "unknown_array"),
    "an archive in an archive": (lambda: zipped({"x.npy": archive(), "y.npy": npy(Y)}), "not_npy"),
    "a third array": (lambda: npz(x=X, y=Y, z=Y), "unknown_array"),
    "a thousand arrays": (lambda: npz(**{f"a{n}": Y for n in range(1000)}), "bad_archive"),
    "the same array twice": (twice, "bad_archive"),
    "an encrypted archive": (encrypted, "bad_archive"),
    "a member longer than it is": (lying_size, "bad_archive"),
    "a wrong checksum": (wrong_checksum, "not_npz"),
    "zeros without end": (lambda: archive(x=npy(np.zeros((100, 500, 500), np.uint8))), "too_large"),
    "images that are objects": (lambda: archive(x=objects([1, "a", None])), "pickled_array"),
    "labels that are objects": (lambda: archive(y=objects(list(range(100)))), "pickled_array"),
    "a header that is code": (lambda: archive(x=header("__import__('os').system('id')\n")), "not_npy"),
    "a header that is not there": (lambda: archive(x=b"\x93NUMPY\x01\x00"), "not_npy"),
    "a header beyond the end": (lambda: archive(x=header("{}", length=65535)), "not_npy"),
    "a header of sixty kilobytes": (lambda: archive(x=header("{" + " " * 60_000 + "}")), "not_npy"),
    "a header of a version to come": (lambda: archive(x=b"\x93NUMPY\x09\x00" + bytes(100)), "not_npy"),
    "a header nested without end": (lambda: archive(x=header("(" * 9000)), "not_npy"),
    "a shape that overflows": (lambda: archive(x=described(f"({2**62}, {2**62})")), "not_npy"),
    "a shape of exabytes": (lambda: archive(x=described(f"({2**60},)")), "not_npy"),
    "a negative shape": (lambda: archive(x=described("(100, -8, 8)")), "not_npy"),
    "a shape of text": (lambda: archive(x=described("('a', 8)")), "not_npy"),
    "more images than bytes": (lambda: archive(x=described("(100, 8, 8)")), "not_npy"),
    "images of complex numbers": (lambda: archive(x=npy(np.ones((100, 8, 8), complex))), "bad_dtype"),
    "images of text": (lambda: archive(x=npy(np.full((100, 8), "a"))), "bad_dtype"),
    "images of moments": (lambda: archive(x=npy(np.zeros((100, 8), "datetime64[s]"))), "bad_dtype"),
    "images of records": (lambda: archive(x=npy(np.zeros(100, [("a", "f4"), ("b", "i4")]))), "bad_dtype"),
    "a single number": (lambda: archive(x=npy(np.array(1.0, np.float32))), "bad_shape"),
    "images without pixels": (lambda: archive(x=npy(np.zeros((100, 0, 8), np.uint8))), "bad_shape"),
    "no image at all": (lambda: npz(x=X[:0], y=Y[:0]), "bad_shape"),
    "images of nine dimensions": (lambda: archive(x=npy(np.zeros((100,) + (1,) * 8, np.uint8))), "bad_shape"),
    "pixels that are no numbers": (lambda: npz(x=NAN, y=Y), "not_finite"),
    "pixels without bound": (lambda: npz(x=np.where(np.isnan(NAN), np.inf, NAN), y=Y), "not_finite"),
    "fewer labels than images": (lambda: npz(x=X, y=Y[:50]), "bad_shape"),
    "labels in two dimensions": (lambda: npz(x=X, y=np.stack([Y, Y], 1)), "bad_shape"),
    "labels that are fractions": (lambda: npz(x=X, y=Y + 0.5), "bad_dtype"),
    "labels below zero": (lambda: npz(x=X, y=Y - 1), "label_out_of_range"),
    "labels without bound": (lambda: npz(x=X, y=Y + 2**40), "label_out_of_range"),
}
