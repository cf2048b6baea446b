"""Small networks with random weights, written by hand: one per way in which channels can hang together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from compress.network.build import run_shapes
from compress.network.graph import Attribute, Graph, Network, Node
from compress.network.ops import op_named


class Builder:
    """Writes nodes and random tensors; ``network`` closes it with the given outputs."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.shape = (1, *shape)
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self._random = torch.Generator().manual_seed(seed)

    def tensor(self, name: str, *shape: int, positive: bool = False) -> str:
        values = torch.randn(shape, generator=self._random) / max(1, shape[-1]) ** 0.5
        self.tensors[name] = values.abs() + 0.5 if positive else values
        return name

    def op(self, name: str, op: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Attribute) -> str:
        return self.node(name, op, inputs, outputs, {}, attributes)

    def node(
        self,
        name: str,
        op: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        parameters: Mapping[str, str],
        attributes: Mapping[str, Attribute],
    ) -> str:
        complete = op_named(op).complete(attributes)
        self.nodes.append(
            Node(
                name=name,
                op=op,
                inputs=inputs,
                outputs=outputs or (name,),
                attributes=complete,
                parameters=dict(parameters),
            )
        )
        return name

    def conv(
        self,
        name: str,
        value: str,
        channels: tuple[int, int],
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        transpose: bool = False,
    ) -> str:
        inner, outer = channels
        shape = (inner, outer // groups) if transpose else (outer, inner // groups)
        parameters = {"weight": self.tensor(f"{name}.weight", *shape, kernel, kernel)}
        if bias:
            parameters["bias"] = self.tensor(f"{name}.bias", outer)
        attributes: dict[str, Attribute] = {
            "groups": groups,
            "stride": (stride, stride),
            "padding": (kernel // 2, kernel // 2),
            "dilation": (1, 1),
        }
        if transpose:
            attributes["output_padding"] = (0, 0)
        op = "conv_transpose" if transpose else "conv"
        return self.node(name, op, (value,), (), parameters, attributes)

    def norm(self, name: str, value: str, channels: int) -> str:
        roles = {role: self.tensor(f"{name}.{role}", channels) for role in ("weight", "bias", "running_mean")}
        roles["running_var"] = self.tensor(f"{name}.running_var", channels, positive=True)
        return self.node(name, "batch_norm", (value,), (), roles, {})

    def linear(self, name: str, value: str, features: tuple[int, int]) -> str:
        roles = {
            "weight": self.tensor(f"{name}.weight", features[1], features[0]),
            "bias": self.tensor(f"{name}.bias", features[1]),
        }
        return self.node(name, "linear", (value,), (), roles, {})

    def head(self, value: str, features: int, classes: int = 3) -> str:
        pooled = self.op("pool", "global_avg_pool", value)
        return self.linear("head", self.op("flatten", "flatten", pooled, start_dim=1, end_dim=-1), (features, classes))

    def network(self, *outputs: str) -> Network:
        graph = Graph(nodes=tuple(self.nodes), inputs=("x",), outputs=outputs, shapes={"x": self.shape})
        shell = Network(graph=graph, tensors=self.tensors)
        return Network(graph=run_shapes(shell), tensors=self.tensors)


def chain() -> Network:
    net = Builder(3, 8, 8)
    first = net.op("relu1", "relu", net.norm("bn1", net.conv("conv1", "x", (3, 8), bias=False), 8))
    second = net.op("relu2", "relu", net.norm("bn2", net.conv("conv2", first, (8, 12), stride=2), 12))
    return net.network(net.head(second, 12))


def flattened() -> Network:
    """A convolution read by a linear layer pixel by pixel: 1 channel is 16 features."""
    net = Builder(3, 4, 4)
    value = net.op("relu1", "relu", net.conv("conv1", "x", (3, 6)))
    flat = net.op("flat", "reshape", value, shape=(-1, 96))
    hidden = net.op("relu2", "relu", net.linear("fc1", flat, (96, 10)))
    return net.network(net.linear("fc2", hidden, (10, 3)))


def residual(*, projected: bool = False) -> Network:
    """A stem, an identity unit, and a unit that halves the image and doubles the channels."""
    net = Builder(3, 8, 8)
    stem = net.op("stem.relu", "relu", net.norm("stem.bn", net.conv("stem.conv", "x", (3, 4), bias=False), 4))
    inner = net.op("a.relu1", "relu", net.norm("a.bn1", net.conv("a.conv1", stem, (4, 6), bias=False), 6))
    inner = net.norm("a.bn2", net.conv("a.conv2", inner, (6, 4), bias=False), 4)
    value = net.op("a.relu2", "relu", net.op("a.add", "add", inner, stem))
    inner = net.op("b.relu1", "relu", net.norm("b.bn1", net.conv("b.conv1", value, (4, 8), stride=2, bias=False), 8))
    inner = net.norm("b.bn2", net.conv("b.conv2", inner, (8, 8), bias=False), 8)
    if projected:
        around = net.norm("b.bn3", net.conv("b.conv3", value, (4, 8), kernel=1, stride=2, bias=False), 8)
    else:
        rows = net.op("b.rows", "slice", value, dim=2, step=2)
        columns = net.op("b.columns", "slice", rows, dim=3, step=2)
        around = net.op("b.pad", "pad", columns, padding=(0, 0, 0, 0, 2, 2))
    value = net.op("b.relu2", "relu", net.op("b.add", "add", inner, around))
    return net.network(net.head(value, 8))


def projected() -> Network:
    return residual(projected=True)


def dense() -> Network:
    """Concatenation with a batch norm behind it, as in DenseNet."""
    net = Builder(3, 6, 6)
    first = net.conv("conv1", "x", (3, 4))
    second = net.conv("conv2", net.op("relu1", "relu", net.norm("bn1", first, 4)), (4, 6))
    joined = net.op("concat", "concat", first, second, dim=1)
    third = net.conv("conv3", net.op("relu2", "relu", net.norm("bn2", joined, 10)), (10, 4))
    return net.network(net.head(net.op("concat2", "concat", joined, third, dim=1), 14))


def inverted() -> Network:
    """Depthwise convolution (one with two outputs per channel) and squeeze-and-excitation."""
    net = Builder(3, 6, 6)
    wide = net.op("relu1", "hard_swish", net.conv("expand", "x", (3, 8), kernel=1))
    deep = net.op("relu2", "relu", net.conv("depthwise", wide, (8, 16), groups=8))
    pooled = net.op("se.pool", "mean", deep, dims=(2, 3), keepdim=True)
    small = net.op("se.relu", "relu", net.conv("se.reduce", pooled, (16, 4), kernel=1))
    gate = net.op("se.sigmoid", "sigmoid", net.conv("se.expand", small, (4, 16), kernel=1))
    value = net.conv("project", net.op("se.scale", "mul", deep, gate), (16, 6), kernel=1)
    return net.network(net.head(value, 6))


def grouped() -> Network:
    """Grouped convolution and grouped transposed convolution: equal positions of all groups go together."""
    net = Builder(3, 5, 5)
    first = net.op("relu1", "relu", net.conv("conv1", "x", (3, 8), kernel=1))
    second = net.op("relu2", "relu", net.conv("conv2", first, (8, 12), groups=4))
    third = net.conv("up", second, (12, 8), stride=2, groups=2, transpose=True)
    return net.network(net.head(net.op("relu3", "relu", third), 8))


def shuffled() -> Network:
    """Split, a branch, concatenation and channel shuffle, as in ShuffleNetV2."""
    net = Builder(3, 4, 4)
    first = net.op("relu1", "relu", net.conv("conv1", "x", (3, 8)))
    net.op("split", "split", first, outputs=("left", "right"), dim=1, sizes=(4, 4), parts=2)
    branch = net.conv("conv3", net.op("relu2", "relu", net.conv("conv2", "right", (4, 6))), (6, 4))
    joined = net.op("concat", "concat", "left", branch, dim=1)
    apart = net.op("apart", "reshape", joined, shape=(-1, 2, 4, 4, 4))
    swapped = net.op("swap", "permute", apart, dims=(0, 2, 1, 3, 4))
    value = net.op("together", "reshape", swapped, shape=(-1, 8, 4, 4))
    return net.network(net.head(net.conv("conv4", value, (8, 6)), 6))


def sliced() -> Network:
    """Two slices of one value's channels take different ways; a constant scales channels."""
    net = Builder(3, 4, 4)
    first = net.op("relu1", "relu", net.conv("conv1", "x", (3, 10)))
    left = net.conv("conv2", net.op("left", "slice", first, dim=1, end=4), (4, 6))
    right = net.conv("conv3", net.op("right", "slice", first, dim=1, start=4), (6, 6))
    summed = net.op("add", "add", left, right)
    scaled = net.op("scale", "mul", net.tensor("gamma", 6, 1, 1), summed)
    return net.network(net.head(scaled, 6))


def upscaled() -> Network:
    """Decoder: transposed convolution, resizing, a long shortcut, and channels that become pixels."""
    net = Builder(3, 8, 8)
    first = net.op("relu1", "relu", net.conv("conv1", "x", (3, 6)))
    down = net.op("relu2", "relu", net.conv("conv2", first, (6, 8), stride=2))
    up = net.op("up", "resize", net.conv("conv3", down, (8, 6)), scale=2, mode="nearest")
    joined = net.op("concat", "concat", up, first, dim=1)
    wide = net.conv("conv4", joined, (12, 16))
    pixels = net.op("pixels", "pixel_shuffle", wide, factor=2)
    value = net.conv("conv5", net.op("relu3", "relu", pixels), (4, 5), stride=2)
    return net.network(net.conv("out", net.conv("conv6", value, (5, 4), transpose=True), (4, 2), kernel=1))


def attentive() -> Network:
    """Self-attention with two heads over four positions, packed query, key and value, residual addition."""
    net = Builder(4, 6)
    tokens = net.linear("embed", "x", (6, 8))
    packed = net.op("heads", "reshape", net.linear("qkv", tokens, (8, 24)), shape=(-1, 4, 3, 2, 4))
    moved = net.op("moved", "permute", packed, dims=(2, 0, 3, 1, 4))
    query, key, value = (net.op(name, "select", moved, dim=0, index=i) for i, name in enumerate("qkv"))
    weights = net.op("scores", "matmul", query, net.op("kt", "permute", key, dims=(0, 1, 3, 2)))
    mixed = net.op("mixed", "matmul", net.op("softmax", "softmax", weights, dim=-1), value)
    merged = net.op("merged", "reshape", net.op("back", "permute", mixed, dims=(0, 2, 1, 3)), shape=(-1, 4, 8))
    summed = net.op("add", "add", net.linear("proj", merged, (8, 8)), tokens)
    return net.network(net.linear("head", net.op("mean", "mean", summed, dims=(1,), keepdim=False), (8, 3)))


NETWORKS = {
    build.__name__: build
    for build in (
        chain,
        flattened,
        residual,
        projected,
        dense,
        inverted,
        grouped,
        shuffled,
        sliced,
        upscaled,
        attentive,
    )
}


def images(network: Network, count: int = 2, seed: int = 1) -> Tensor:
    shape = network.graph.shapes[network.graph.inputs[0]]
    return torch.randn((count, *shape[1:]), generator=torch.Generator().manual_seed(seed))
