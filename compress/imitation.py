"""Blockwise distillation: replacements trained, each by itself, to do what their block does. No labels are read.

The inputs and outputs of all blocks are recorded once, in one pass of the float network. Each replacement is then
trained on those of its block alone, so that any two can be combined without training again, and any number of workers
can share the work.

Source: Li, Peng, Yuan, Wang, Liang, Lin, Chang 2020 (blockwisely supervised search), arXiv:1911.13053, section 3.2:
loss of normalised features, the teacher's features as inputs; steps and learning rate are ours.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import nan, prod

import torch
from torch import Tensor

from compress.network.blocks import Block
from compress.network.graph import Network, Node
from compress.network.ops import run_node
from compress.operators import Replacement
from compress.plan import OperatorChoice
from compress.runner import run
from compress.structure import Structure

LEAST_SPREAD = 0.1
"""Least standard deviation of a channel, relative to that of all: dead channels do not outweigh the others."""

EXACT = 1e-9
"""Normalised error, from rounding alone, at which there is nothing to learn."""

LEAST_SIZE = 1e-2
"""Least root mean square of a tensor as far as its steps go: a bias of zeros can grow, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationSettings:
    """How long and on what replacements are trained.

    A step takes ``batch`` images, or fewer where the block's activations of so many would have more than
    ``values_per_step`` values, but at least two. ``feature_bytes`` bounds what is recorded of all blocks together:
    of large networks fewer images are taken. ``held_out`` is the share of images that only the errors are measured on.
    """

    steps: int = 100
    batch: int = 64
    values_per_step: int = 1 << 20
    learning_rate: float = 2e-2
    feature_bytes: int = 256 << 20
    held_out: float = 0.125
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Imitation:
    """What training a replacement came to.

    ``tensors`` are those that changed, by name. Errors are normalised (``normalised_error``) and of images that were
    not trained on.
    """

    tensors: Mapping[str, Tensor]
    error_before: float
    error_after: float
    seconds: float


class BlockFeatures:
    """What every block reads and writes in the float network; one pass over the images.

    Args:
        network: The float network with batch norm folded.
        blocks: Blocks whose features are wanted.
        images: Images as the network takes them; the first ones that ``feature_bytes`` has room for are used.
        settings: Bounds.
    """

    def __init__(self, network: Network, blocks: Iterable[Block], images: Tensor, settings: ImitationSettings) -> None:
        wanted = {value for block in blocks for value in (block.entry, block.exit)}
        per_image = sum(prod(network.graph.shapes[value]) for value in wanted) * images.element_size()
        self.images = min(len(images), max(2, settings.feature_bytes // max(1, per_image)))
        self.trained = max(1, self.images - max(1, round(settings.held_out * self.images)))
        found: dict[str, list[Tensor]] = {value: [] for value in wanted}

        def record(name: str, node: Node | None, value: Tensor) -> Tensor:
            if name in found:
                found[name].append(value)
            return value

        for batch in torch.split(images[: self.images], settings.batch):
            run(network, batch, record)
        self._values = {name: torch.cat(parts) for name, parts in found.items()}

    def training(self, value: str) -> Tensor:
        """Return a value for the images to train on."""
        return self._values[value][: self.trained]

    def held_out(self, value: str) -> Tensor:
        """Return a value for the images that errors are measured on."""
        return self._values[value][self.trained :]


class Imitator:
    """Trains replacements of one network's blocks, one at a time; features are recorded when the first needs them.

    Args:
        network: The ingested float network.
        structure: The network's.
        images: Images as the network takes them, without labels.
        settings: Of all trainings.
    """

    def __init__(self, network: Network, structure: Structure, images: Tensor, settings: ImitationSettings) -> None:
        self._prepared = structure.prepared(network)
        self._structure = structure
        self._images = images
        self._settings = settings

    @cached_property
    def features(self) -> BlockFeatures:
        """What all blocks read and write."""
        return BlockFeatures(
            self._prepared.folded, (*self._structure.blocks, *self._structure.stages), self._images, self._settings
        )

    def imitate(self, block: str, choice: OperatorChoice) -> Imitation:
        """Train an operator in a block's place; one without tensors of its own comes back as it is, not measured."""
        where, folded = self._structure.block(block), self._prepared.folded
        replacement = self._prepared.replacement(block, choice)
        if not trainable(where, folded, replacement):
            return Imitation(tensors={}, error_before=nan, error_after=nan, seconds=0.0)
        return imitate(where, folded, replacement, self.features, self._settings)


def trainable(block: Block, network: Network, replacement: Replacement) -> list[str]:
    """Return the names of the tensors of a replacement that training may change: those that only it uses."""
    inside = set(block.nodes)
    elsewhere = {
        name
        for node in network.graph.nodes
        if node.name not in inside
        for name in (*node.parameters.values(), *node.inputs)
    }
    names = dict.fromkeys(name for node in replacement.nodes for name in node.parameters.values())
    known = {**network.tensors, **replacement.tensors}
    return [name for name in names if name not in elsewhere and known[name].is_floating_point()]


def imitate(
    block: Block, network: Network, replacement: Replacement, features: BlockFeatures, settings: ImitationSettings
) -> Imitation:
    """Train a replacement to write what its block writes, on what the block reads.

    Adam with a cosine schedule on the squared error, each channel in units of its standard deviation. Equal arguments
    give equal tensors on the same machine with as many threads. If training does not lower the error on the images
    held out, nothing changes.

    Args:
        block: The block.
        network: The float network with batch norm folded.
        replacement: What stands in the block's place.
        features: Of this block, among others.
        settings: Steps, batch, learning rate, seed.
    """
    start = time.perf_counter()
    exit_ = replacement.exit_becomes or block.exit
    tensors = {**network.tensors, **replacement.tensors}
    student = _Student(replacement, block.entry, exit_)
    expected = features.training(block.exit)
    scale = _spread(expected)
    validation = features.held_out(block.entry), features.held_out(block.exit)
    before = _error(student, tensors, validation, scale, settings.batch)
    names = trainable(block, network, replacement)
    if not names or not settings.steps or before <= EXACT:
        return Imitation(tensors={}, error_before=before, error_after=before, seconds=time.perf_counter() - start)
    trained = {name: tensors[name].detach().clone().requires_grad_() for name in names}
    _train(
        student, {**tensors, **trained}, list(trained.values()), (features.training(block.entry), expected), settings
    )
    final = {name: tensor.detach() for name, tensor in trained.items()}
    after = _error(student, {**tensors, **final}, validation, scale, settings.batch)
    if not after < before:
        final, after = {}, before
    return Imitation(tensors=final, error_before=before, error_after=after, seconds=time.perf_counter() - start)


def normalised_error(found: Tensor, expected: Tensor, spread: Tensor) -> Tensor:
    """Return the mean squared error, each channel (dimension 1) in units of its spread; 1 is what a mean would get."""
    return ((found - expected) / spread).square().mean()


class _Student:
    """Runs a replacement from the block's entry to its exit."""

    def __init__(self, replacement: Replacement, entry: str, exit_: str) -> None:
        self._nodes = replacement.nodes
        self._entry, self._exit = entry, exit_
        self._reads = Counter(value for node in self._nodes for value in node.inputs)

    def __call__(self, tensors: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        values = {self._entry: inputs}
        for node in self._nodes:
            values.update(run_node(node, values, tensors))
        return values[self._exit]


def _train(
    student: _Student,
    tensors: Mapping[str, Tensor],
    parameters: list[Tensor],
    pairs: tuple[Tensor, Tensor],
    settings: ImitationSettings,
) -> None:
    inputs, expected = pairs
    spread = _spread(expected)
    largest = max(inputs[0].numel(), expected[0].numel())
    batch = min(settings.batch, len(inputs), max(2, settings.values_per_step // largest))
    generator = torch.Generator().manual_seed(settings.seed)
    # A share of each tensor's own size: folded weights differ by orders of magnitude.
    groups = [
        {
            "params": [tensor],
            "lr": settings.learning_rate * float(tensor.detach().square().mean().sqrt().clamp_min(LEAST_SIZE)),
        }
        for tensor in parameters
    ]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(settings.steps):
        if len(order) < batch:
            order = torch.randperm(len(inputs), generator=generator)
        chosen, order = order[:batch], order[batch:]
        loss = normalised_error(student(tensors, inputs[chosen]), expected[chosen], spread)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _error(
    student: _Student, tensors: Mapping[str, Tensor], pairs: tuple[Tensor, Tensor], spread: Tensor, batch: int
) -> float:
    total = 0.0
    for inputs, expected in zip(*(torch.split(part, batch) for part in pairs), strict=True):
        total += float(normalised_error(student(tensors, inputs), expected, spread)) * len(inputs)
    return total / len(pairs[0])


def _spread(values: Tensor) -> Tensor:
    """Return the standard deviation of every channel, as a tensor that divides such values."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    spread = values.std(axes, correction=0, keepdim=True)
    whole = values.std(correction=0)
    return spread.clamp_min(LEAST_SPREAD * whole).clamp_min(torch.finfo(values.dtype).tiny)
