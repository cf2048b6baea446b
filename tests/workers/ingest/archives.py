"""Archives for tests, good and bad, written byte by byte where NumPy itself would refuse."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def archive(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def images(count: int = 4, shape: tuple[int, ...] = (1, 8, 8)) -> NDArray[np.float32]:
    return np.zeros((count, *shape), dtype=np.float32)


def labels(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
