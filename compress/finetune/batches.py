"""Which images make up a training batch, and how they are varied: functions of seed and step alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_ORDER, _VARIATION, _BLEND = 1, 2, 3


def batches_per_epoch(images: int, batch_size: int) -> int:
    """Return how many whole batches there are; what is left over waits for another epoch's order."""
    return max(1, images // batch_size)


def batch_indices(images: int, batch_size: int, *, seed: int, first_step: int, steps: int) -> Iterator[Tensor]:
    """Yield the images of every batch from ``first_step`` on; each epoch has an order of its own."""
    per_epoch = batches_per_epoch(images, batch_size)
    epoch, order = -1, torch.empty(0)
    for step in range(first_step, steps):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = torch.randperm(images, generator=_generator(seed, _ORDER, epoch))
        start = step % per_epoch * batch_size
        yield order[start : start + batch_size]


def varied(images: Tensor, fill: Tensor, *, shift: int, seed: int, step: int) -> Tensor:
    """Return a batch with every image moved by up to ``shift`` pixels and mirrored or not, at random.

    Args:
        images: ``(images, channels, height, width)``.
        fill: What comes in at the edges, ``(channels,)``.
        shift: Most pixels in each direction.
        seed: The run's.
        step: The batch's number in the run.
    """
    generator = _generator(seed, _VARIATION, step)
    count, _, height, width = images.shape
    offsets = torch.randint(0, 2 * shift + 1, (count, 2), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    edge = fill.reshape(-1, 1, 1)
    padded = F.pad(images - edge, [shift] * 4)
    rows = offsets[:, :1] + torch.arange(height)  # (images, height)
    columns = offsets[:, 1:] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2) + edge  # indexing leaves the channels last, which is what convolutions like


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """Which image of its batch goes into each image, ``(images,)``, and with which share, ``(images,)``."""

    partners: Tensor
    shares: Tensor

    def of(self, images: Tensor) -> Tensor:
        """Return every image with its partner's share in it."""
        return torch.lerp(images, images[self.partners], self.shares.reshape(-1, *(1,) * (images.ndim - 1)))


def blend(images: int, *, most: float, seed: int, step: int) -> Blend:
    """Return partners at random and shares that lie evenly in 0..``most``."""
    generator = _generator(seed, _BLEND, step)
    partners = torch.randperm(images, generator=generator)
    return Blend(partners=partners, shares=most * torch.rand(images, generator=generator))


def _generator(seed: int, stream: int, number: int) -> torch.Generator:
    mixed = (seed * 3 + stream) * 1_000_003 + number
    return torch.Generator().manual_seed(mixed % 2**63)
