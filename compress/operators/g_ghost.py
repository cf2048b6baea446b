"""G-Ghost: the middle of a stage on fewer channels, the others made once from its first unit."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from compress.network.blocks import Block, blocks
from compress.network.graph import Network, Node
from compress.network.ops import OPS, make_node, op_named
from compress.network.stages import STAGE, units
from compress.operators.base import OPERATORS, Replacement
from compress.operators.layers import Rebuilding, inside, integers
from compress.plan import Parameter
from hwmodels.workload import KernelKind

GRANULARITY = 8
"""Channels of the narrow path are a multiple of this where the host has no groups."""


class GGhost:
    """Replaces a stage of residual units: the first and last stay, those between run on the first ``C_r`` channels.

    With ``x0`` what the first unit writes and ``e_i`` what the narrow ones write, the other ``C_g = C - C_r`` channels
    are ``relu(cheap(x0[C_r:]) + merge([x0, e_1, …]))``: ``cheap`` a ``1×1`` convolution, ``merge`` two of them with a
    rectifier between on the means over the image. The last unit reads both. ``cheap_ratio`` is the share of ghosts;
    ``C_r`` is ``(1 - cheap_ratio) C`` rounded down to the host's group width (three quarters of it, as the narrow units
    have groups of that), or to eight channels.

    The papers train from scratch. Here the narrow units start as the first channels of the original ones, ``cheap`` as
    the identity, and the last layer of ``merge`` as zero, so at first ghosts are what the first unit wrote. Batch norm
    behind the new layers is folded into their bias. Channels of the stage hang together and are not cut.

    Source: Han et al. 2022, arXiv:2201.03297, section 3.3; group widths after the authors' implementation.
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {"cheap_ratio": (0.5,)}
    whole_stages = True

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits stages of at least three units made of convolutions, behind a rectifier."""
        if block.kind != STAGE:
            return f"{block.name} is no stage of several residual units"
        inner = units(block, blocks(network))
        if len(inner) < 3:
            return f"{block.name} has fewer than three units"
        for node in (node for unit in inner[1:-1] for node in inside(unit, network)):
            if not _simple(node, network):
                return f"{block.name} has {node.name}, which is no convolution, addition or element-wise function"
        if network.graph.producer()[inner[0].exit].op != "relu":
            return f"{block.name} has units that do not end in a rectifier"
        for ratio in self.parameters["cheap_ratio"]:
            if not _intrinsic(inner[1], network, float(ratio)):
                return f"{block.name} is too narrow to be split"
        return None

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the stage with a narrow middle."""
        inner = units(block, blocks(network))
        made = Rebuilding(network)
        width = network.graph.shapes[block.exit][1]
        _Stage(made, inner, width, _intrinsic(inner[1], network, float(parameters["cheap_ratio"]))).write()
        return made.replacement()


class _Stage:
    """Writes a stage; new nodes between units are named after the first unit's joint."""

    def __init__(self, made: Rebuilding, inner: list[Block], width: int, intrinsic: int) -> None:
        self._made, self._inner = made, inner
        self._network = made.network
        self._width, self._intrinsic = width, intrinsic
        self._ghosts = width - intrinsic
        self._stem = inner[0].joint
        self._shape = self._network.graph.shapes[inner[0].exit]

    def write(self) -> None:
        base, *middle, end = self._inner
        self._made.nodes.extend(inside(base, self._network))
        whole = base.exit
        self._made.holds.update({(whole, 1), *((unit.exit, 1) for unit in middle)})
        first = self._add("raw", "slice", (whole,), self._intrinsic, dim=1, end=self._intrinsic)
        rest = self._add("rest", "slice", (whole,), self._ghosts, dim=1, start=self._intrinsic)
        narrow = [first]
        for unit in middle:
            narrow.append(self._narrow(unit, narrow[-1]))
        cheap = self._pointwise("cheap", rest, torch.eye(self._ghosts), image=True)
        mixed = self._add("mixed", "add", (cheap, self._merge(whole, narrow[1:])), self._ghosts)
        ghosts = self._add("ghosts", "relu", (mixed,), self._ghosts)
        # The last unit reads what it has always read.
        self._made.nodes.append(
            make_node(f"{self._stem}/concat", "concat", (narrow[-1], ghosts), (middle[-1].exit,), dim=1)
        )
        self._made.nodes.extend(inside(end, self._network))

    def _merge(self, whole: str, narrow: list[str]) -> str:
        """Add the mix of all means over the image; return its value, one number per ghost channel."""
        widths = [self._width, *([self._intrinsic] * len(narrow))]
        means = [
            self._add(f"mean{place}", "global_avg_pool", (value,), wide, image=False)
            for place, (value, wide) in enumerate(zip((whole, *narrow), widths, strict=True))
        ]
        joined = self._add("means", "concat", tuple(means), sum(widths), image=False, dim=1)
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(self._ghosts, sum(widths), generator=generator) / sum(widths) ** 0.5
        hidden = self._pointwise("merge1", joined, start, image=False)
        hidden = self._add("merge_relu", "relu", (hidden,), self._ghosts, image=False)
        return self._pointwise("merge2", hidden, torch.zeros(self._ghosts, self._ghosts), image=False)

    def _narrow(self, unit: Block, entry: str) -> str:
        """Add a unit on the first channels only; return what it writes."""
        renamed = {unit.entry: entry}
        for node in inside(unit, self._network):
            name = f"{node.name}/raw"
            (batch, channels, *image) = self._network.graph.shapes[node.outputs[0]]
            inputs = tuple(renamed[value] for value in node.inputs)
            renamed[node.outputs[0]] = name
            self._made.value(name, (batch, self._scaled(channels), *image))
            if node.op != "conv":
                self._made.nodes.append(replace(node, name=name, inputs=inputs, outputs=(name,)))
                continue
            weight = self._network.tensors[node.parameters["weight"]]
            inner = self._network.graph.shapes[node.inputs[0]][1]
            groups = 1 if node.attributes["groups"] == 1 else self._scaled(channels) // _narrow_groups(weight)
            taken = weight[: self._scaled(channels), : self._scaled(inner) // groups].clone()
            bias = node.parameters.get("bias")
            shift = None
            if bias is not None:
                shift = self._made.tensor(f"{name}.bias", self._network.tensors[bias][: self._scaled(channels)].clone())
            steps = {key: integers(node, key) for key in ("stride", "padding", "dilation")}
            layer = self._made.tensor(f"{name}.weight", taken)
            self._made.convolution(name, inputs[0], layer, shift, groups=groups, steps=steps)
        return renamed[unit.exit]

    def _scaled(self, channels: int) -> int:
        return max(1, channels * self._intrinsic // self._width)

    def _pointwise(self, role: str, value: str, weight: Tensor, *, image: bool) -> str:
        name = f"{self._stem}/{role}"
        like = next(iter(self._network.tensors.values()))
        start = weight[:, :, None, None].to(device=like.device, dtype=torch.float32)
        layer = self._made.tensor(f"{name}.weight", start.contiguous())
        bias = self._made.tensor(f"{name}.bias", torch.zeros(len(weight), device=like.device))
        self._value(name, len(weight), image=image)
        return self._made.convolution(name, value, layer, bias)

    def _add(
        self, role: str, op: str, inputs: tuple[str, ...], width: int, *, image: bool = True, **attributes: int
    ) -> str:
        name = f"{self._stem}/{role}"
        complete = op_named(op).complete(attributes)
        self._made.nodes.append(
            Node(name=name, op=op, inputs=inputs, outputs=(name,), attributes=complete, parameters={})
        )
        self._value(name, width, image=image)
        return name

    def _value(self, name: str, width: int, *, image: bool) -> None:
        batch, _, *size = self._shape
        self._made.value(name, (batch, width, *(size if image else [1] * len(size))))


def _simple(node: Node, network: Network) -> bool:
    shapes = network.graph.shapes
    if any(value not in shapes or len(shapes[value]) != 4 for value in (*node.inputs, *node.outputs)):
        return False
    if node.op in ("conv", "add"):
        return True
    return OPS[node.op].kind is KernelKind.ELEMENTWISE and len(node.inputs) == 1 and not node.parameters


def _intrinsic(unit: Block, network: Network, cheap_ratio: float) -> int:
    """Return the width of the narrow path, 0 if there is none."""
    width = network.graph.shapes[unit.exit][1]
    grouped = [
        _narrow_groups(network.tensors[node.parameters["weight"]])
        for node in inside(unit, network)
        if node.op == "conv" and node.attributes["groups"] != 1
    ]
    step = grouped[0] if grouped else GRANULARITY
    found = int(width * (1 - cheap_ratio)) // step * step if step else 0
    return found if found < width else 0


def _narrow_groups(weight: Tensor) -> int:
    """Return the group width of the narrow form of a grouped convolution."""
    return int(0.75 * weight.shape[1])


OPERATORS.register("g_ghost")(GGhost())
