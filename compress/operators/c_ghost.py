"""C-Ghost: a part of the channels by a convolution, the others from these by cheap depthwise ones."""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compress.network.blocks import Block
from compress.network.cutting import Source
from compress.network.graph import Network, Node
from compress.network.ops import make_node
from compress.network.ties import Units
from compress.operators.base import OPERATORS, Replacement
from compress.operators.layers import Rebuilding, dense_convolutions, inside, integers
from compress.plan import Parameter

CHEAP_KERNEL = 3
ALTERNATIONS = 6
"""Rounds of the alternating least squares; the residual hardly moves after the fourth."""

RIDGE = 0.03
"""Pull of cheap kernels towards zero, relative to the mean energy of all primary filters: without it the kernel behind
a dead filter would grow without bound."""

LEAST_ENERGY = 1e-30  # of layers that are all zero


class CGhost:
    """Makes only ``m = ⌈n / ratio⌉`` channels of every dense convolution, and the rest from those.

    ``<layer>/primary`` is a convolution like the original to ``m`` channels, ``<layer>/cheap`` a depthwise ``3×3`` one
    that makes ``ratio - 1`` ghosts of each of them (those of the first channel first), ``<layer>/concat`` joins both
    and keeps the first ``n``. Neither half has an activation of its own: that of the host comes behind the join, as
    the substitution rule allows.

    Weights start from the original's by alternating least squares: the first ``m`` filters and, composed with their
    cheap kernels, the others come as near to the original ones as they can in the Frobenius norm (the error for white
    inputs; ours, the papers train from scratch). ``n`` channels stay ``n``. A primary channel and its ghosts are cut
    together: ghosts cannot be without it, and a depthwise convolution makes equally many of each.

    Multiply-accumulates per pixel: ``c * m * k² + (n - m) * 9`` instead of ``c * n * k²``.

    Source: Han, Wang, Tian, Guo, Xu, Xu 2020, arXiv:1911.11907, section 3.1; called C-Ghost in Han et al. 2022,
    arXiv:2201.03297. Kernel size and order of the ghosts after the authors' implementation.
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {"ratio": (4, 2)}
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits blocks in which every offered ratio saves multiplications somewhere."""
        smallest = int(self.parameters["ratio"][-1])
        if any(_saves(network.tensors[node.parameters["weight"]], smallest) for node in _eligible(block, network)):
            return None
        return f"{block.name} has no dense convolution that ghosts would make cheaper"

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the block's nodes with its convolutions replaced."""
        ratio = int(parameters["ratio"])
        eligible = {node.name for node in _eligible(block, network)}
        made = Rebuilding(network)
        for node in inside(block, network):
            if node.name in eligible and _saves(network.tensors[node.parameters["weight"]], ratio):
                ghost_convolution(made, node, ratio)
            else:
                made.nodes.append(node)
        return made.replacement()


def ghost_convolution(made: Rebuilding, node: Node, ratio: int) -> None:
    """Write the nodes that stand in a convolution's place; with ``ratio`` 1 there are no ghosts."""
    network = made.network
    name = node.parameters["weight"]
    weight, bias = network.tensors[name], _bias(node, network)
    channels = weight.shape[0]
    stride = integers(node, "stride")
    primary, cheap = _start(weight, ratio, stride, integers(node, "dilation"))
    shape = network.graph.shapes[node.outputs[0]]
    intrinsic, ghosts = primary.shape[0], cheap.shape[0]
    steps = {"stride": stride, "padding": integers(node, "padding"), "dilation": integers(node, "dilation")}
    own, made_of_them = Source(name, 0, 0, intrinsic), Source(name, 0, intrinsic, channels)
    if intrinsic + ghosts == channels:
        made.ties[name, 0] = _units(intrinsic, ratio)
    else:  # ghosts are dropped: not every primary channel has equally many
        made.holds.update({(name, 0), (node.outputs[0], 1)})
    first = f"{node.name}/primary"
    weights = made.tensor(f"{first}.weight", primary, {0: own, 1: Source(name, 1)})
    shift = None if bias is None else made.tensor(f"{first}.bias", bias[:intrinsic].clone(), {0: own})
    if not ghosts:
        made.convolution(first, node.inputs[0], weights, shift, output=node.outputs[0], steps=steps)
        return
    made.value(first, (shape[0], intrinsic, *shape[2:]), {1: own})
    made.convolution(first, node.inputs[0], weights, shift, steps=steps)
    second = f"{node.name}/cheap"
    made.value(second, (shape[0], ghosts, *shape[2:]), {1: made_of_them})
    shift = None
    if bias is not None:
        shift = made.tensor(f"{second}.bias", _ghost_bias(bias, cheap, intrinsic), {0: made_of_them})
    made.convolution(
        second,
        first,
        made.tensor(f"{second}.weight", cheap, {0: made_of_them}),
        shift,
        steps={"padding": (CHEAP_KERNEL // 2,) * 2},
        groups=intrinsic,
    )
    kept = second
    if intrinsic + ghosts > channels:
        kept = f"{node.name}/kept"
        made.value(kept, (shape[0], channels - intrinsic, *shape[2:]))
        made.nodes.append(make_node(kept, "slice", (second,), dim=1, end=channels - intrinsic))
    made.nodes.append(make_node(f"{node.name}/concat", "concat", (first, kept), node.outputs, dim=1))


def _units(intrinsic: int, ratio: int) -> Units:
    """Return the primary channel that every channel hangs on."""
    own = np.arange(intrinsic)
    return np.concatenate([own, own.repeat(ratio - 1)])


def _eligible(block: Block, network: Network) -> list[Node]:
    return [
        node
        for node in dense_convolutions(block, network)
        if network.tensors[node.parameters["weight"]].ndim == 4 and node.parameters["weight"] not in node.inputs
    ]


def _saves(weight: Tensor, ratio: int) -> bool:
    channels, *rest = weight.shape
    intrinsic = ceil(channels / ratio)
    dense = int(torch.Size(rest).numel())
    return intrinsic * dense + intrinsic * (ratio - 1) * CHEAP_KERNEL**2 < channels * dense


def _bias(node: Node, network: Network) -> Tensor | None:
    return network.tensors[node.parameters["bias"]] if "bias" in node.parameters else None


def _ghost_bias(bias: Tensor, cheap: Tensor, intrinsic: int) -> Tensor:
    """Return what ghosts need of their own beside what comes through the kernels from the primary channels' bias."""
    if bias.is_meta:
        return bias.new_empty(cheap.shape[0])
    per_channel = cheap.shape[0] // intrinsic
    wanted = F.pad(bias, (0, intrinsic + cheap.shape[0] - bias.shape[0]))[intrinsic:]
    return wanted - cheap.sum((1, 2, 3)) * bias[:intrinsic].repeat_interleave(per_channel)


def _start(weight: Tensor, ratio: int, stride: Sequence[int], dilation: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the weights ``(m, in, *kernel)`` and ``(m * (ratio - 1), 1, 3, 3)``."""
    channels = weight.shape[0]
    intrinsic = ceil(channels / ratio)
    per_channel = ratio - 1
    if weight.is_meta or not per_channel:
        cheap = weight.new_empty((intrinsic * per_channel, 1, CHEAP_KERNEL, CHEAP_KERNEL))
        return weight[:intrinsic].clone(), cheap
    original = weight.to(torch.float64)
    shifted = _Shifts(tuple(weight.shape[2:]), stride, dilation)
    missing = intrinsic * ratio - channels  # ghosts that are dropped
    wanted = F.pad(original[intrinsic:], (0, 0) * 3 + (0, missing))
    targets = shifted.centred(wanted.reshape(intrinsic, per_channel, *weight.shape[1:]))  # (m, ghosts, in, grid)
    primary = original[:intrinsic]
    kernels = _kernels(shifted, primary, targets)
    for _ in range(ALTERNATIONS):
        primary = _primary(shifted, kernels, original[:intrinsic], targets)
        kernels = _kernels(shifted, primary, targets)
    cheap = kernels.reshape(intrinsic * per_channel, 1, CHEAP_KERNEL, CHEAP_KERNEL)
    return primary.to(weight.dtype).contiguous(), cheap.to(weight.dtype).contiguous()


class _Shifts:
    """Where the taps of a filter come to lie, on a grid of input pixels, behind each tap of a cheap kernel.

    The cheap kernel's taps are ``stride`` input pixels apart. As a matrix per tap: ``(grid, kernel)``.
    """

    def __init__(self, kernel: tuple[int, ...], stride: Sequence[int], dilation: Sequence[int]) -> None:
        size = [d * (k - 1) + 1 + s * (CHEAP_KERNEL - 1) for k, s, d in zip(kernel, stride, dilation, strict=True)]
        rows, columns = torch.meshgrid(
            *(torch.arange(k) * d for k, d in zip(kernel, dilation, strict=True)), indexing="ij"
        )
        taps = torch.cartesian_prod(*(torch.arange(CHEAP_KERNEL) * s for s in stride))
        places = (rows.flatten() + taps[:, :1]) * size[1] + columns.flatten() + taps[:, 1:]  # (taps, kernel)
        self.matrices = F.one_hot(places, size[0] * size[1]).to(torch.float64).mT  # (taps, grid, kernel)

    def centred(self, filters: Tensor) -> Tensor:
        """Return filters ``(…, *kernel)`` in the middle of the grid, ``(…, grid)``."""
        return filters.flatten(-2) @ self.matrices[len(self.matrices) // 2].T


def _kernels(shifted: _Shifts, primary: Tensor, targets: Tensor) -> Tensor:
    """Return the cheap kernels ``(m, ghosts, taps)`` that bring primary filters nearest to the targets."""
    moved = torch.einsum("tgk,ick->itcg", shifted.matrices, primary.flatten(2)).flatten(2)  # (m, taps, in * grid)
    squares = moved @ moved.mT
    energy = squares.diagonal(dim1=1, dim2=2).mean().clamp_min(LEAST_ENERGY)
    squares.diagonal(dim1=1, dim2=2).add_(RIDGE * energy)
    found: Tensor = torch.linalg.solve(squares, moved @ targets.flatten(2).mT)
    return found.mT


def _primary(shifted: _Shifts, kernels: Tensor, own: Tensor, targets: Tensor) -> Tensor:
    """Return the primary filters that come nearest to their own targets and, behind the kernels, to the ghosts'."""
    through = torch.einsum("ijt,tgk->ijgk", kernels, shifted.matrices)  # (m, ghosts, grid, kernel)
    squares = torch.einsum("ijgk,ijgl->ikl", through, through)
    squares.diagonal(dim1=1, dim2=2).add_(1.0)
    right = own.flatten(2) + torch.einsum("ijgk,ijcg->ick", through, targets)
    found: Tensor = torch.linalg.solve(squares, right.mT)
    return found.mT.reshape(own.shape)


OPERATORS.register("c_ghost")(CGhost())
