"""Images that stand in for data: some drive the network to high responses, some to the statistics it was trained on.

Peaks decide ranges, and images whose statistics match those of the training data do not show them; extreme responses,
in turn, have the wrong statistics. So two sets are made and kept apart.

Source: He et al. 2022, arXiv:2204.04215 (accurate activation clipping, adaptive batch norm). The paper's abstract and
a note on it give the idea and the ranges; the losses and their weights here are reconstructed from that description.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compress.network.graph import Graph, Network
from compress.network.ops import run_node
from hwmodels.errors import InputError

SMOOTHNESS = 1e-4
ENERGY = 1e-5
"""Weights of the priors: mean total variation and mean square of the pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGeneration:
    """How images are made; ``bounds`` are the least and greatest value that a pixel can have as the network takes it.

    ``typical`` images match statistics, ``extreme`` ones ask for classes, in turn; the number of either may be 0.
    """

    typical: int = 128
    extreme: int = 64
    steps: int = 60
    learning_rate: float = 0.1
    batch_size: int = 128
    bounds: tuple[float, float] = (-2.2, 2.7)
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedImages:
    """``typical`` and ``extreme`` images as the network takes them; losses of every step, of the last batch of each."""

    typical: Tensor
    extreme: Tensor
    typical_losses: tuple[float, ...]
    extreme_losses: tuple[float, ...]


def generate(network: Network, options: ImageGeneration | None = None) -> GeneratedImages:
    """Return images made from the float network alone; its tensors are only read.

    Raises:
        InputError: The network has no batch norms left, or not one image as input and class scores as output.
    """
    options = options or ImageGeneration()
    check(network.graph)
    generator = torch.Generator().manual_seed(options.seed)
    typical, typical_losses = _optimised(
        network, options, options.typical, generator, lambda _: lambda _, found: _mismatch(network, found)
    )
    classes = network.graph.shapes[network.graph.outputs[0]][1]

    def responding(first: int) -> Callable[[Tensor, dict[str, Tensor]], Tensor]:
        def loss(scores: Tensor, _: dict[str, Tensor]) -> Tensor:
            wanted = (first + torch.arange(len(scores))) % classes
            return -scores.flatten(1).gather(1, wanted[:, None]).mean()  # not cross-entropy: that saturates

        return loss

    extreme, extreme_losses = _optimised(network, options, options.extreme, generator, responding)
    return GeneratedImages(
        typical=typical, extreme=extreme, typical_losses=typical_losses, extreme_losses=extreme_losses
    )


def check(graph: Graph) -> None:
    """Refuse networks that data-free quantization cannot work on.

    Raises:
        InputError: Says what is missing.
    """
    if not any(node.op == "batch_norm" for node in graph.nodes):
        raise InputError(
            "network",
            "must still have its batch norms: data-free quantization takes the statistics of the training data from "
            "them, and this file's exporter has folded them; export it in training mode or without constant folding",
        )
    shapes = [graph.shapes[name] for name in (*graph.inputs, *graph.outputs)]
    if (
        len(graph.inputs) != 1
        or len(graph.outputs) != 1
        or len(shapes[0]) != 4
        or shapes[1][2:].count(1) != len(shapes[1][2:])
    ):
        raise InputError("network", "must take one image and return class scores to be quantized without data", shapes)


Loss = Callable[[Tensor, dict[str, Tensor]], Tensor]


def _optimised(
    network: Network,
    options: ImageGeneration,
    count: int,
    generator: torch.Generator,
    loss_from: Callable[[int], Loss],
) -> tuple[Tensor, tuple[float, ...]]:
    """Return images that minimise a loss of class scores and of what batch norms read, and the last batch's losses."""
    shape = network.graph.shapes[network.graph.inputs[0]][1:]
    low, high = options.bounds
    finished = [torch.empty(0, *shape)]
    losses: list[float] = []
    for first in range(0, count, options.batch_size):
        size = min(options.batch_size, count - first)
        noise = torch.randn(size, *shape, generator=generator).clamp(low, high)
        pixels = noise.contiguous(memory_format=torch.channels_last).requires_grad_()
        optimizer = torch.optim.Adam([pixels], lr=options.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
        wanted, losses = loss_from(first), []
        for _ in range(options.steps):
            optimizer.zero_grad()
            loss = wanted(*_scores_and_norm_inputs(network, pixels)) + _prior(pixels)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                pixels.clamp_(low, high)
            losses.append(float(loss.detach()))
        finished.append(pixels.detach().contiguous())
    return torch.cat(finished), tuple(losses)


def _scores_and_norm_inputs(network: Network, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the network with gradients for the images alone; return its output and what every batch norm reads."""
    graph = network.graph
    values, found = {graph.inputs[0]: images}, {}
    for node in graph.nodes:
        if node.op == "batch_norm":
            found[node.name] = values[node.inputs[0]]
        values.update(run_node(node, values, network.tensors))
    return values[graph.outputs[0]], found


def _mismatch(network: Network, found: dict[str, Tensor]) -> Tensor:
    """Return how far means and deviations are from a batch norm's own, in units of its deviation, summed over norms."""
    terms = []
    for node in network.graph.nodes:
        if node.op != "batch_norm":
            continue
        mean, variance = (network.tensors[node.parameters[role]] for role in ("running_mean", "running_var"))
        deviation = (variance + _epsilon(node.attributes["eps"])).sqrt()
        rows = found[node.name].movedim(1, 0).flatten(1)
        spread, centre = torch.std_mean(rows, dim=1, correction=0)
        terms.append((((centre - mean) / deviation).square() + (spread / deviation - 1).square()).mean())
    return torch.stack(terms).sum()


def _epsilon(value: object) -> float:
    if not isinstance(value, float):
        raise TypeError(f"eps must be a number, got {value!r}")
    return value


def _prior(images: Tensor) -> Tensor:
    rows = (images[:, :, 1:] - images[:, :, :-1]).abs().mean()
    columns = (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().mean()
    return SMOOTHNESS * (rows + columns) + ENERGY * images.square().mean()
