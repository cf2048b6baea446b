"""A transposed convolution as the small convolutions that it consists of: equal outputs, no multiplication by zeros."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from compress.network.blocks import Block
from compress.network.graph import Network, Node
from compress.network.ops import make_node
from compress.operators.base import OPERATORS, Replacement
from compress.plan import Parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Along one axis: the output places ``start, start + stride, …`` and the taps that reach them.

    The taps are ``residue, residue + stride, …``, ``taps`` of them. The input is padded by ``before`` and ``after``
    (negative: cropped) so that a convolution with the taps reversed gives the ``count`` places. All phases of an axis
    have ``places`` places in common once those with fewer are filled up by one.
    """

    residue: int
    start: int
    taps: int
    before: int
    after: int
    count: int


def phases(kernel: int, stride: int, padding: int, size: int, out: int) -> tuple[Phase, ...]:
    """Return the phases along one axis, by the output place at which they start.

    Output place ``o`` gets input place ``i`` by tap ``k`` where ``stride * i + k = o + padding``: with
    ``o + padding = stride * m + a``, the taps ``a, a + stride, …`` and input places ``m, m - 1, …``.

    Source: Tida et al. 2023, arXiv:2209.03704, and its unified variant, arXiv:2502.20493, for stride 2; the formula for
    other strides and paddings is derived here.

    Args:
        kernel: Taps of the transposed convolution.
        stride: Of the transposed convolution.
        padding: Of the transposed convolution.
        size: Input places.
        out: Output places.
    """
    found = []
    for start in range(min(stride, out)):
        residue = (start + padding) % stride
        first = (start + padding - residue) // stride
        taps = -(-(kernel - residue) // stride) if residue < kernel else 0
        count = -(-(out - start) // stride)
        found.append(
            Phase(
                residue=residue,
                start=start,
                taps=taps,
                before=taps - 1 - first,
                after=first + count - size,
                count=count,
            )
        )
    return tuple(found)


class Segregated:
    """Splits the kernel of a transposed convolution by residue modulo its stride.

    Each part is convolved with the input as it is, and the results are interleaved: ``<layer>/phase_0_1`` writes the
    rows 0, s, 2s, … and the columns 1, s + 1, …. Every tap is in exactly one part, so weights are stored once, and the
    multiplications are those between values of the input and taps: a device that spreads the input with zeros and
    convolves does about ``stride ** 2`` times as many. Outputs are equal up to the order of additions. Whether it pays
    is for the price on the device to say: runtimes that scatter do no multiplications by zeros either.

    Left alone are kernels smaller than the stride (places that no tap reaches), dilated ones, stride 1, and groups
    other than one or one per channel.

    Source: see ``phases``.
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {}
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits blocks that are one transposed convolution with a stride."""
        if block.kind != "transposed":
            return f"{block.name} is no transposed convolution"
        node = _layer(block, network)
        if node is None:
            return f"{block.name} has something between its transposed convolution and its exit"
        kernel = network.tensors[node.parameters["weight"]].shape[2:]
        stride, dilation = _sizes(node, "stride"), _sizes(node, "dilation")
        if max(stride) == 1 or max(dilation) > 1 or any(k < s for k, s in zip(kernel, stride, strict=True)):
            return f"{block.name} has stride 1, a dilation, or a kernel smaller than its stride"
        if node.attributes["groups"] not in (1, network.graph.shapes[node.inputs[0]][1]):
            return f"{block.name} has groups"
        return None

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the convolutions and what interleaves their results."""
        layer = _layer(block, network)
        if layer is None:
            raise ValueError(f"{block.name} is no transposed convolution")
        return _Segregation(layer, network).replacement()


class _Segregation:
    """Collects the nodes that stand in a transposed convolution's place."""

    def __init__(self, layer: Node, network: Network) -> None:
        self._layer, self._network = layer, network
        self._value, self._exit = layer.inputs[0], layer.outputs[0]
        self._in, self._out = network.graph.shapes[self._value], network.graph.shapes[self._exit]
        self._weight = network.tensors[layer.parameters["weight"]]
        self._depthwise = layer.attributes["groups"] != 1
        self._nodes: list[Node] = []
        self._tensors: dict[str, Tensor] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._follows: dict[str, dict[int, tuple[str, int]]] = {}

    def replacement(self) -> Replacement:
        """Return what has been collected."""
        strides, paddings = _sizes(self._layer, "stride"), _sizes(self._layer, "padding")
        kernel = self._weight.shape[2:]
        axes = [phases(*row) for row in zip(kernel, strides, paddings, self._in[2:], self._out[2:], strict=True)]
        parts = {chosen: self._phase(chosen, axes) for chosen in product(*axes)}
        for axis in reversed(range(len(axes))):  # the last axis first: each step leaves one phase index less
            shorter = dict.fromkeys(chosen[:axis] for chosen in parts)
            for rest in shorter:
                pieces = [parts[(*rest, phase)] for phase in axes[axis]]
                parts[rest] = self._interleaved(rest, pieces, axis)
        return Replacement(nodes=tuple(self._nodes), tensors=self._tensors, shapes=self._shapes, follows=self._follows)

    def _phase(self, chosen: tuple[Phase, ...], axes: list[tuple[Phase, ...]]) -> str:
        """Write one small convolution, filled up to the places of the largest phase; return its value."""
        place = "_".join(str(phase.start) for phase in chosen)
        name = f"{self._layer.name}/phase_{place}"
        spatial = len(chosen)
        value = self._padded(
            f"{self._layer.name}/pad_{place}", self._value, [(phase.before, phase.after) for phase in chosen], "in"
        )
        weight = f"{name}.weight"
        strides = _sizes(self._layer, "stride")
        where = tuple(slice(phase.residue, None, stride) for phase, stride in zip(chosen, strides, strict=True))
        taps = self._weight[(slice(None), slice(None), *where)].flip(list(range(2, 2 + spatial)))
        roles = {"weight": weight}
        source = self._layer.parameters["weight"]
        self._tensors[weight] = (taps if self._depthwise else taps.transpose(0, 1)).contiguous()
        self._follows[weight] = {0: (source, 0)} if self._depthwise else {0: (source, 1), 1: (source, 0)}
        if "bias" in self._layer.parameters:
            roles["bias"] = f"{name}.bias"
            source = self._layer.parameters["bias"]
            self._tensors[roles["bias"]] = self._network.tensors[source].clone()
            self._follows[roles["bias"]] = {0: (source, 0)}
        ones, zeros = (1,) * spatial, (0,) * spatial
        groups = self._layer.attributes["groups"]
        self._add(
            make_node(
                name, "conv", [value], parameters=roles, stride=ones, padding=zeros, dilation=ones, groups=groups
            ),
            (self._out[0], self._out[1], *(phase.count for phase in chosen)),
            "out",
        )
        most = [max(phase.count for phase in axis) for axis in axes]
        missing = [(0, size - phase.count) for size, phase in zip(most, chosen, strict=True)]
        return self._padded(f"{self._layer.name}/fill_{place}", name, missing, "out")

    def _interleaved(self, rest: tuple[Phase, ...], pieces: list[str], axis: int) -> str:
        """Write what takes the places of several values along one axis in turn; return its value."""
        place = "_".join(["", str(axis), *(str(phase.start) for phase in rest)])
        dim = axis + 2
        shape = list(self._shapes[pieces[0]])
        apart = []
        for number, piece in enumerate(pieces):
            spread = f"{self._layer.name}/spread{place}_{number}"
            self._add(
                make_node(spread, "unsqueeze", [piece], dim=dim + 1), (*shape[: dim + 1], 1, *shape[dim + 1 :]), "out"
            )
            apart.append(spread)
        together = (*shape[: dim + 1], len(pieces), *shape[dim + 1 :])
        self._add(make_node(f"{self._layer.name}/join{place}", "concat", apart, dim=dim + 1), together, "out")
        shape[dim] *= len(pieces)
        cropped = self._out[dim] < shape[dim]
        final = not rest and not cropped
        value = self._exit if final else f"{self._layer.name}/merge{place}"
        # The batch and the channels are copied, so that neither stands here.
        merge = make_node(
            f"{self._layer.name}/merge{place}",
            "reshape",
            [f"{self._layer.name}/join{place}"],
            [value],
            shape=(0, 0, *shape[2:]),
        )
        self._add(merge, tuple(shape), "out")
        if not cropped:
            return value
        shape[dim] = self._out[dim]
        value = f"{self._layer.name}/crop{place}" if rest else self._exit
        self._add(
            make_node(
                f"{self._layer.name}/crop{place}",
                "slice",
                [f"{self._layer.name}/merge{place}"],
                [value],
                dim=dim,
                start=0,
                end=shape[dim],
            ),
            tuple(shape),
            "out",
        )
        return value

    def _padded(self, name: str, value: str, sides: list[tuple[int, int]], channels: str) -> str:
        if not any(any(pair) for pair in sides):
            return value
        shape = self._shapes.get(value, self._in)
        grown = [size + before + after for size, (before, after) in zip(shape[2:], sides, strict=True)]
        padding = tuple(side for pair in reversed(sides) for side in pair)
        self._add(make_node(name, "pad", [value], padding=padding), (*shape[:2], *grown), channels)
        return name

    def _add(self, node: Node, shape: tuple[int, ...], channels: str) -> None:
        """Add a node whose value has the channels of the layer's input or output along axis 1."""
        (value,) = node.outputs
        self._nodes.append(node)
        if value != self._exit:
            self._shapes[value] = shape
            self._follows[value] = {1: (self._value if channels == "in" else self._exit, 1)}


def _layer(block: Block, network: Network) -> Node | None:
    """Return the block's layer if nothing else is left of the block: its batch norm has been folded."""
    inside = [node for node in network.graph.nodes if node.name in block.nodes]
    return inside[0] if len(inside) == 1 and inside[0].op == "conv_transpose" else None


def _sizes(node: Node, key: str) -> tuple[int, ...]:
    value = node.attributes[key]
    if not isinstance(value, tuple):
        raise TypeError(f"{node.name}: {key} must be integers, got {value!r}")
    return tuple(int(item) for item in value)


OPERATORS.register("segregated")(Segregated())
