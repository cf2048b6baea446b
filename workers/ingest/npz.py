"""Data sets from ``.npz`` archives: everything is bounded before anything is allocated, and nothing is unpickled."""

import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from workers.ingest.protocol import IngestError

ARRAYS = {"x.npy": "x", "y.npy": "y"}
MAX_MEMBERS = 16
MAX_RATIO = 1032  # deflate does not compress better than this
MAX_HEADER_BYTES = 10_000
MAX_CLASSES = 100_000
_CHUNK_VALUES = 2**22


@dataclass(frozen=True, slots=True)
class Header:
    """What an ``.npy`` member says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bytes: int  # of the values that follow


def read_npz(path: Path, *, max_bytes: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return images and labels of an archive with arrays ``x`` and ``y``.

    Images come as uint8, int32 or float32, whichever holds the stored values. ``max_bytes`` bounds what the archive may
    unpack to.

    Raises:
        IngestError: Names the array, the rule and the value.
    """
    if path.stat().st_size == 0:
        raise IngestError("file", "must not be empty", code="empty_file")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise IngestError("file", "must be a NumPy .npz archive", str(error), code="not_npz") from None
    with archive:
        members = _members(archive, max_bytes)
        headers = {name: _header(archive, member, ARRAYS[name]) for name, member in members.items()}
        _check_headers(headers)
        try:
            labels = _array(archive, members["y.npy"], "y")
            images = _array(archive, members["x.npy"], "x")
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, zlib.error) as error:
            raise IngestError("file", "must be a whole .npz archive", str(error), code="not_npz") from None
    return _narrowed(images), _checked_labels(labels)


def describe(images: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return what the service keeps of a data set in its row."""
    return {
        "images": len(images),
        "shape": list(images.shape[1:]),
        "dtype": str(images.dtype),
        "classes": int(labels.max()) + 1,
    }


def _members(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(infos) > MAX_MEMBERS or len(set(names)) != len(names):
        raise IngestError("file", f"must hold at most {MAX_MEMBERS} arrays, each once", len(infos), code="bad_archive")
    unknown = sorted(set(names) - set(ARRAYS))
    if unknown:
        raise IngestError("file", "must hold the arrays x and y alone", unknown[0], code="unknown_array")
    if "x.npy" not in names:
        raise IngestError("x", "is required: the images, one per row", code="images_missing")
    if "y.npy" not in names:
        rule = (
            "is required: the label of each image, an integer from 0; without labels there is no accuracy to search for"
        )
        raise IngestError("y", rule, code="labels_missing")
    for info in infos:
        array = ARRAYS[info.filename]
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise IngestError(array, "must be stored plainly or deflated, and not encrypted", code="bad_archive")
        if info.file_size > MAX_RATIO * max(1, info.compress_size):
            ratio = info.file_size // max(1, info.compress_size)
            raise IngestError(
                array, f"must not unpack to more than {MAX_RATIO} times its size", ratio, code="bad_archive"
            )
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise IngestError("file", f"must unpack to at most {max_bytes} bytes", total, code="too_large")
    return {info.filename: info for info in infos}


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, array: str) -> Header:
    try:
        with archive.open(member) as file:
            version = npy.read_magic(_binary(file))
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
            if read is None:
                raise ValueError(f"format version {version}")
            shape, _, dtype = read(_binary(file), max_header_size=MAX_HEADER_BYTES)
            start = file.tell()
    except (zipfile.BadZipFile, zlib.error) as error:
        raise IngestError("file", "must be a whole .npz archive", str(error), code="not_npz") from None
    except Exception as error:  # the parser of a hostile header may raise anything
        raise IngestError(array, "must be an array in NumPy's .npy format", str(error)[:200], code="not_npy") from None
    if dtype.hasobject:
        raise IngestError(
            array, "must hold plain numbers; pickled objects are never read", str(dtype), code="pickled_array"
        )
    if dtype.kind not in ("biuf" if array == "x" else "iu"):
        kinds = "integers or floats" if array == "x" else "integers"
        raise IngestError(array, f"must hold {kinds}", str(dtype), code="bad_dtype")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != member.file_size - start:
        raise IngestError(array, "must be as long as its header says", list(shape), code="not_npy")
    return Header(shape=shape, dtype=dtype, bytes=size)


def _check_headers(headers: Mapping[str, Header]) -> None:
    images, labels = headers["x.npy"].shape, headers["y.npy"].shape
    if len(images) not in (2, 3, 4) or min(images) == 0:
        raise IngestError(
            "x", "must have images along its first axis and 1 to 3 more axes", list(images), code="bad_shape"
        )
    if len(labels) != 1 or labels[0] != images[0]:
        raise IngestError(
            "y", f"must have shape [{images[0]}], one label per image of x", list(labels), code="bad_shape"
        )


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    with archive.open(member) as file:
        values: NDArray[Any] = npy.read_array(_binary(file), allow_pickle=False, max_header_size=MAX_HEADER_BYTES)
        if file.read(1):  # also makes zipfile compare the checksum
            raise ValueError(f"{name} is longer than its header says")
    return values


def _narrowed(images: NDArray[Any]) -> NDArray[Any]:
    """Return the images in one of three types, in C order, after looking at every value."""
    if images.dtype == np.bool_ or images.dtype == np.uint8:
        return np.ascontiguousarray(images, dtype=np.uint8)
    target = np.float32 if images.dtype.kind == "f" else np.int32
    limits = np.finfo(np.float32) if target is np.float32 else np.iinfo(np.int32)
    flat = images.reshape(-1)
    for start in range(0, flat.size, _CHUNK_VALUES):
        chunk = flat[start : start + _CHUNK_VALUES]
        if chunk.dtype.kind == "f" and not np.isfinite(chunk).all():
            raise IngestError(
                "x", "must hold finite numbers only", str(chunk[~np.isfinite(chunk)][0]), code="not_finite"
            )
        if chunk.size and (chunk.max() > limits.max or chunk.min() < limits.min):
            raise IngestError("x", f"must fit {np.dtype(target)}", str(chunk.max()), code="bad_dtype")
    return np.ascontiguousarray(images, dtype=target)


def _checked_labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    if labels.min() < 0:
        raise IngestError("y", "must be integers from 0", int(labels.min()), code="label_out_of_range")
    if labels.max() >= MAX_CLASSES:
        raise IngestError("y", f"must be below {MAX_CLASSES}", int(labels.max()), code="label_out_of_range")
    return np.ascontiguousarray(labels, dtype=np.int64)


def _binary(file: Any) -> BinaryIO:
    """Present a member of an archive as the file that NumPy's reader asks for."""
    return file  # type: ignore[no-any-return]
