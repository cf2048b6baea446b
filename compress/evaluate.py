"""Running a module over images and counting what it gets right."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Forward = Callable[[Tensor], Tensor]


@torch.no_grad()
def logits(module: Forward, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """Return the module's output for all images, computed in batches."""
    return torch.cat([module(batch) for batch in torch.split(images, batch_size)])


def correct(module: Forward, images: Tensor, labels: Tensor, *, batch_size: int = 256) -> int:
    """Return how many images get their label as the top class."""
    return sum(right for right, _ in running_correct(module, images, labels, batch_size=batch_size))


@torch.no_grad()
def running_correct(
    module: Forward, images: Tensor, labels: Tensor, *, batch_size: int = 256
) -> Iterator[tuple[int, int]]:
    """Yield, batch by batch, how many were right and how many there were: a caller may stop early."""
    for batch, expected in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
        yield int((top1(module(batch)) == expected).sum()), len(batch)


def accuracy(module: Forward, images: Tensor, labels: Tensor, *, batch_size: int = 256) -> float:
    """Return the share of images that get their label as the top class."""
    return correct(module, images, labels, batch_size=batch_size) / len(images)


def agreement(first: Tensor, second: Tensor) -> float:
    """Return the share of rows in which two sets of logits have the same top class."""
    return float((top1(first) == top1(second)).float().mean())


def top1(scores: Tensor) -> Tensor:
    """Return the top class of each row; trailing dimensions of size one (an unflattened head) do not matter."""
    return scores.reshape(len(scores), -1).argmax(1)
