"""The images: digits from scikit-learn, or Fashion-MNIST and CIFAR-10 from files that you have."""

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]  # (images, height, width, channels)
Labels = npt.NDArray[np.uint8]  # (images,)

DIGITS_TRAINED_ON = 1000
IDX_UINT8 = 0x08


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """``(pixel * scale - mean) / std`` per channel turns stored pixels into the network's input."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, pixels: Pixels) -> Tensor:
        """Return float images ``(n, channels, height, width)`` for uint8 pixels ``(n, height, width, channels)``."""
        mean = torch.tensor(self.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.std).view(1, -1, 1, 1)
        return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * self.scale - mean) / std


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """A training set, the images held out from it, and what the network wants done to the pixels."""

    train_x: Pixels
    train_y: Labels
    heldout_x: Pixels
    heldout_y: Labels
    preprocessing: Preprocessing


class DataMissingError(FileNotFoundError):
    """A data file is not where it was said to be."""


def digits(_folder: Path | None = None) -> LabelledImages:
    """Return scikit-learn's 1,797 digits of 8×8 pixels (0..16): the first 1,000 for training, 797 held out.

    The images come with the installed package; nothing is downloaded. Source: Alpaydin and Kaynak, "Optical
    Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, test part.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = bunch.images.astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.uint8)
    return LabelledImages(
        train_x=pixels[:DIGITS_TRAINED_ON],
        train_y=labels[:DIGITS_TRAINED_ON],
        heldout_x=pixels[DIGITS_TRAINED_ON:],
        heldout_y=labels[DIGITS_TRAINED_ON:],
        preprocessing=Preprocessing(scale=1 / 16, mean=(0.306,), std=(0.376,)),  # of the 1,000 training images
    )


def fashion_mnist(folder: Path | None) -> LabelledImages:
    """Return Fashion-MNIST (28×28, Xiao et al., arXiv:1708.07747) from ``folder/fashion_mnist``: 20,000 and 10,000."""
    files = _required(folder) / "fashion_mnist"
    return LabelledImages(
        train_x=read_idx(files / "train20k-images-idx3-ubyte.gz")[..., None],
        train_y=read_idx(files / "train20k-labels-idx1-ubyte.gz"),
        heldout_x=read_idx(files / "t10k-images-idx3-ubyte.gz")[..., None],
        heldout_y=read_idx(files / "t10k-labels-idx1-ubyte.gz"),
        preprocessing=Preprocessing(scale=1 / 255, mean=(0.286,), std=(0.353,)),
    )


def cifar10(folder: Path | None) -> LabelledImages:
    """Return CIFAR-10 (32×32 RGB, Krizhevsky 2009) from ``folder/cifar10``: ``train_0`` to ``_4``, ``test``."""
    files = _required(folder) / "cifar10"
    parts = [read_npz(files / f"train_{number}.npz") for number in range(5)]
    heldout_x, heldout_y = read_npz(files / "test.npz")
    return LabelledImages(
        train_x=np.concatenate([x for x, _ in parts]),
        train_y=np.concatenate([y for _, y in parts]),
        heldout_x=heldout_x,
        heldout_y=heldout_y,
        preprocessing=Preprocessing(scale=1 / 255, mean=(0.491, 0.482, 0.447), std=(0.247, 0.243, 0.262)),
    )


DATASETS: dict[str, Callable[[Path | None], LabelledImages]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
}


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Return the array in a gzipped IDX file of unsigned bytes.

    Raises:
        DataMissingError: There is no such file.
        ValueError: The file is something else, or shorter or longer than its header says.
    """
    _require_file(path)
    with gzip.open(path, "rb") as file:
        zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
        if zeros != 0 or kind != IDX_UINT8:
            raise ValueError(f"{path.name}: an IDX file of unsigned bytes starts with 00 00 08")
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        content = file.read()
    if len(content) != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path.name}: the header promises {shape}, the file holds {len(content)} bytes")
    return np.frombuffer(bytearray(content), dtype=np.uint8).reshape(shape)


def read_npz(path: Path) -> tuple[Pixels, Labels]:
    """Return ``x`` and ``y`` of an ``.npz`` file; pickled arrays are refused.

    Raises:
        DataMissingError: There is no such file.
    """
    _require_file(path)
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def _required(folder: Path | None) -> Path:
    if folder is None:
        raise DataMissingError("this data set is not part of the project: say where it lies with --data")
    return folder


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise DataMissingError(f"no file {path}")
