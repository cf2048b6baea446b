"""The CIFAR-10 networks and images that several benchmarks measure on, and the comparison of two networks."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEST_FILE = "cifar10/test.npz"
TRAIN_FILES = tuple(f"cifar10/train_{number}.npz" for number in range(5))
RESNET20_FILE = "weights/resnet20_cifar10.safetensors"


def images(path: Path, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the first ``count`` images as the networks take them, and their labels."""
    with np.load(str(path), allow_pickle=False) as arrays:
        pixels, labels = arrays["x"][:count], arrays["y"][:count]
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return ((scaled - mean) / std).contiguous(), torch.from_numpy(labels.astype(np.int64))


def training_images(paths: list[Path], count: int) -> tuple[Tensor, Tensor]:
    """Return the first ``count`` images of several files."""
    found: list[tuple[Tensor, Tensor]] = []
    left = count
    for path in paths:
        if left > 0:
            found.append(images(path, left))
            left -= len(found[-1][1])
    return torch.cat([pixels for pixels, _ in found]), torch.cat([labels for _, labels in found])


def moved(images: Tensor, *, seed: int, pixels: int = 4) -> Tensor:
    """Return images mirrored at random and shifted by up to so many pixels each way, black where they end.

    A network that was trained on the images themselves is all but certain of them; of these it is less so.
    """
    rng = np.random.default_rng(seed)
    count, channels, height, width = images.shape
    black = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)]).reshape(channels, 1, 1)
    framed = black.expand(count, channels, height + 2 * pixels, width + 2 * pixels).clone()
    framed[:, :, pixels : pixels + height, pixels : pixels + width] = images
    rows, columns = rng.integers(0, 2 * pixels + 1, (2, count))
    found = torch.stack(
        [
            framed[n, :, row : row + height, column : column + width]
            for n, (row, column) in enumerate(zip(rows, columns, strict=True))
        ]
    )
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    found[mirrored] = found[mirrored].flip(-1)
    return found


def paired_drop(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Return the drop and the half-width of its 95 % interval, from the images on which only one is right."""
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    drop = (lost - won) / len(before)
    return drop, 1.96 * math.sqrt(max(lost + won - (lost - won) ** 2 / len(before), 0.0)) / len(before)
