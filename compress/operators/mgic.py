"""MGIC: a residual unit as a V-cycle over fewer and fewer channels, with convolutions in small groups."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from compress.network.blocks import Block
from compress.network.graph import Network, Node
from compress.network.ops import OPS, make_node
from compress.operators.base import OPERATORS, Replacement
from compress.operators.layers import Rebuilding, inside, integers
from compress.plan import Parameter
from hwmodels.workload import KernelKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Channels of the unit at a level of the hierarchy, and the groups of its convolutions."""

    width: int
    groups: int


def levels(width: int, *, group_size: int, coarsest: int) -> list[Level]:
    """Return the levels from the finest: halved until a half would fall below ``coarsest``, one below that dense."""
    widths = [width]
    while widths[-1] // 2 >= coarsest:
        widths.append(widths[-1] // 2)
    widths.append(widths[-1] // 2)
    fine = [Level(width=wide, groups=max(wide // group_size, 1)) for wide in widths[:-1]]
    return [*fine, Level(width=widths[-1], groups=1)]


class Mgic:
    """Replaces a residual unit that keeps its shape by the unit on ``n``, ``n/2``, ``n/4``, … channels.

    On every level but the coarsest the unit's convolutions have groups of ``group_size`` channels; the coarsest, of the
    first width whose half falls below ``2 * group_size`` halved once more, is dense and couples all channels. ``1×1``
    layers in as many groups go down (restriction ``R``) and up (prolongation ``P``):
    ``x_l ← unit_l(x_l + P_l (x_{l+1} - R_l x_l))`` with ``x_{l+1}`` from the level below (full approximation scheme).

    The papers train from scratch, from averages over a group in ``R`` and ``P``. Here ``R`` starts as the mean of
    neighbouring pairs and ``P`` as its opposite (averages over a group would make the group's channels equal, and so
    they would stay), the finest unit as the original within the groups, and each coarser
    one as ``R W P`` of the finer. Batch norm behind ``P`` is folded into its bias. Cost grows with ``n``, not with
    ``n²``: for two ``3×3`` convolutions ``(19 s + 6)(2n - 2 n_L) + 18 n_L² + 4 n_L`` parameters, batch norm counted,
    with group size ``s`` and coarsest width ``n_L``. All channels hang together, so those of the unit are not cut.

    Source: Eliasof, Ephrath, Ruthotto, Treister 2020, arXiv:2011.09128, section 3.
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {"group_size": (4, 8)}
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits residual units of plain convolutions that keep their shape, where every group size saves weights."""
        if not block.residual or not block.identity_shortcut:
            return f"{block.name} is no residual unit that keeps its shape"
        for node in inside(block, network):
            if not _simple(node, network):
                return (
                    f"{block.name} has {node.name}, which is no dense convolution of stride 1 or element-wise function"
                )
        width = network.graph.shapes[block.entry][1]
        for size in (int(value) for value in self.parameters["group_size"]):
            if not self._divides(block, network, size):
                return f"{block.name} does not divide into groups of {size} on every level"
        dense = _weights(block, network, [Level(width=width, groups=1)])
        largest = int(self.parameters["group_size"][-1])
        if _weights(block, network, levels(width, group_size=largest, coarsest=2 * largest)) >= dense:
            return f"{block.name} is too narrow: groups of {largest} would need more weights"
        return None

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the V-cycle."""
        size = int(parameters["group_size"])
        width = network.graph.shapes[block.entry][1]
        return _Cycle(block, network, levels(width, group_size=size, coarsest=2 * size)).replacement()

    @staticmethod
    def _divides(block: Block, network: Network, size: int) -> bool:
        width = network.graph.shapes[block.entry][1]
        found = levels(width, group_size=size, coarsest=2 * size)
        for level, below in zip(found, [*found[1:], found[-1]], strict=True):
            if level.width * 2 ** found.index(level) != width or below.width % level.groups or level.width < 2:
                return False
            for node in inside(block, network):
                if node.op == "conv":
                    for channels in network.tensors[node.parameters["weight"]].shape[:2]:
                        if channels * level.width % (width * level.groups):
                            return False
        return True


def _simple(node: Node, network: Network) -> bool:
    if node.op == "conv":
        before, after = (network.graph.shapes[value] for value in (node.inputs[0], node.outputs[0]))
        return node.attributes["groups"] == 1 and len(before) == 4 and before[2:] == after[2:]
    if any(value not in network.graph.shapes for value in node.inputs):
        return False
    return node.op == "add" or (
        OPS[node.op].kind is KernelKind.ELEMENTWISE and len(node.inputs) == 1 and not node.parameters
    )


def _weights(block: Block, network: Network, found: list[Level]) -> int:
    """Count the weights of convolutions, restrictions and prolongations."""
    width = network.graph.shapes[block.entry][1]
    total = 0
    for place, level in enumerate(found):
        for node in inside(block, network):
            if node.op == "conv":
                weights = prod(network.tensors[node.parameters["weight"]].shape)
                total += weights * level.width**2 // width**2 // level.groups
        if place + 1 < len(found):
            total += 2 * level.width * found[place + 1].width // level.groups
    return total


class _Cycle:
    """Writes the cycle; nodes of level ``l`` are named ``<node>/level<l>``, those between levels after the joint."""

    def __init__(self, block: Block, network: Network, found: list[Level]) -> None:
        self._block, self._network, self._levels = block, network, found
        self._made = Rebuilding(network)
        self._nodes = inside(block, network)
        self._width = found[0].width
        self._made.holds.update({(block.entry, 1), (block.exit, 1)})
        for node in self._nodes:
            self._made.holds.update((name, 0) for name in node.parameters.values())
        self._weights: dict[str, Tensor] = {
            node.name: network.tensors[node.parameters["weight"]] for node in self._nodes if node.op == "conv"
        }

    def replacement(self) -> Replacement:
        """Return all nodes, from the way down to the way up."""
        down = [self._block.entry]
        for place in range(len(self._levels) - 1):
            down.append(self._between("restrict", place, down[-1], place + 1))
        units = [self._weights]
        for _ in self._levels[1:]:
            units.append({name: _coarser(weight) for name, weight in units[-1].items()})
        value = self._unit(len(self._levels) - 1, down[-1], units[-1])
        for place in reversed(range(len(self._levels) - 1)):
            change = self._simple("change", "sub", place, (value, down[place + 1]), self._levels[place + 1].width)
            raised = self._between("prolong", place, change, place)
            corrected = self._simple("correct", "add", place, (down[place], raised), self._levels[place].width)
            value = self._unit(place, corrected, units[place])
        return self._made.replacement()

    def _between(self, role: str, place: int, value: str, to: int) -> str:
        """Add a restriction from level ``place`` or a prolongation to it."""
        name = f"{self._block.joint}/{role}{place + 1}"
        fine, coarse = self._levels[place], self._levels[place + 1]
        like = next(iter(self._weights.values()))
        weight = _pairs(fine, coarse, up=role == "prolong").to(device=like.device, dtype=like.dtype)
        tensor = self._made.tensor(f"{name}.weight", weight)
        bias = self._made.tensor(f"{name}.bias", like.new_zeros(fine.width)) if role == "prolong" else None
        self._made.value(name, self._shape(self._levels[to].width))
        return self._made.convolution(name, value, tensor, bias, groups=fine.groups)

    def _simple(self, role: str, op: str, place: int, values: tuple[str, ...], width: int) -> str:
        name = f"{self._block.joint}/{role}{place + 1}"
        self._made.nodes.append(make_node(name, op, values))
        self._made.value(name, self._shape(width))
        return name

    def _unit(self, place: int, entry: str, weights: Mapping[str, Tensor]) -> str:
        """Add the host's unit at a level; return what it writes."""
        level = self._levels[place]
        renamed = {self._block.entry: entry}
        for node in self._nodes:
            name = f"{node.name}/level{place + 1}"
            output = self._block.exit if not place and node.outputs[0] == self._block.exit else name
            renamed[node.outputs[0]] = output
            shape = self._network.graph.shapes[node.outputs[0]]
            if output == name:
                self._made.value(name, (shape[0], shape[1] * level.width // self._width, *shape[2:]))
            inputs = tuple(renamed[value] for value in node.inputs)
            if node.op != "conv":
                self._made.nodes.append(replace(node, name=name, inputs=inputs, outputs=(output,)))
                continue
            weight = self._made.tensor(f"{name}.weight", _within_groups(weights[node.name], level.groups))
            steps = {key: integers(node, key) for key in ("stride", "padding", "dilation")}
            bias = self._bias(node, name, weights[node.name].shape[0])
            self._made.convolution(name, inputs[0], weight, bias, output=output, groups=level.groups, steps=steps)
        return renamed[self._block.exit]

    def _bias(self, node: Node, name: str, channels: int) -> str | None:
        if "bias" not in node.parameters:
            return None
        bias = self._network.tensors[node.parameters["bias"]]
        # neighbours' mean, level by level
        value = bias.new_empty(channels) if bias.is_meta else bias.reshape(channels, -1).mean(1)
        return self._made.tensor(f"{name}.bias", value.clone())

    def _shape(self, width: int) -> tuple[int, ...]:
        batch, _, *image = self._network.graph.shapes[self._block.entry]
        return (batch, width, *image)


def _coarser(weight: Tensor) -> Tensor:
    """Return ``R W P`` of a dense weight: outputs averaged in pairs, inputs summed."""
    outputs, inputs, *kernel = weight.shape
    if weight.is_meta:
        return weight.new_empty((outputs // 2, inputs // 2, *kernel))
    return weight.reshape(outputs // 2, 2, inputs // 2, 2, *kernel).mean(1).sum(2)


def _pairs(fine: Level, coarse: Level, *, up: bool) -> Tensor:
    """Return the means of neighbouring pairs as a grouped ``1×1`` weight, or with ``up`` what spreads them again."""
    dense = torch.eye(coarse.width).repeat_interleave(2, dim=1) / 2  # (coarse, fine)
    weight = 2 * dense.T if up else dense
    return _within_groups(weight[:, :, None, None], fine.groups)


def _within_groups(weight: Tensor, groups: int) -> Tensor:
    """Return the blocks on the diagonal of a dense weight, as a grouped convolution stores them."""
    outputs, inputs, *kernel = weight.shape
    if weight.is_meta:
        return weight.new_empty((outputs, inputs // groups, *kernel))
    blocks = weight.reshape(groups, outputs // groups, groups, inputs // groups, *kernel)
    chosen = torch.arange(groups)
    return blocks[chosen, :, chosen].reshape(outputs, inputs // groups, *kernel).contiguous()


OPERATORS.register("mgic")(Mgic())
