"""Architectures of the papers, by description, without values: what their tables count is counted here, too.

Every function returns the network with ordinary convolutions; ``ghosted`` puts C-Ghost modules in the place of some.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from compress.network.build import run_shapes
from compress.network.graph import Graph, Network, Node
from compress.network.ops import OPS
from compress.network.zoo import GraphWriter, ResidualArchitecture
from compress.operators.c_ghost import ghost_convolution
from compress.operators.layers import Rebuilding

GHOSTNET = (  # kernel, middle, out, squeeze-and-excitation, stride
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
)


class Writer(GraphWriter):
    """Writes layers of any kind, with the shapes of their tensors."""

    def layer(
        self,
        name: str,
        value: str,
        widths: tuple[int, int],
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = False,
        norm: bool = True,
    ) -> str:
        """Add a convolution with batch norm, or with bias."""
        inner, outer = widths
        value = self.conv_norm(name, f"{name}.bn", value, widths, kernel=kernel, stride=stride)
        self.wanted[f"{name}.weight"] = (outer, inner // groups, kernel, kernel)
        place = len(self.nodes) - 2
        self.nodes[place] = replace(self.nodes[place], attributes={**self.nodes[place].attributes, "groups": groups})
        if not norm:
            del self.nodes[-1]
            for role in ("weight", "bias", "running_mean", "running_var"):
                del self.wanted[f"{name}.bn.{role}"]
            self.wanted[f"{name}.bias"] = (outer,)
            parameters = {**self.nodes[place].parameters, "bias": f"{name}.bias"}
            self.nodes[place] = replace(self.nodes[place], parameters=parameters)
            value = name
        return self.add(f"{name}.relu", "relu", value) if relu else value

    def network(self, *shape: int) -> Network:
        """Return what was written, on the ``meta`` device."""
        tensors = {name: torch.empty(size, device="meta") for name, size in self.wanted.items()}
        shell = Graph(
            nodes=tuple(self.nodes), inputs=("input",), outputs=self.nodes[-1].outputs, shapes={"input": (1, *shape)}
        )
        return Network(graph=run_shapes(Network(graph=shell, tensors=tensors)), tensors=tensors)


def _multiple_of_four(value: float) -> int:
    rounded = max(4, int(value + 2) // 4 * 4)
    return rounded + 4 if rounded < 0.9 * value else rounded


def ghostnet(multiplier: float = 1.0) -> Network:
    """GhostNet for ImageNet; the layers called ``….ghost1`` and ``….ghost2`` are to become C-Ghost modules."""
    net = Writer()
    width, last = (_multiple_of_four(channels * multiplier) for channels in (16, 960))
    value = net.layer("stem", "input", (3, width), kernel=3, stride=2, relu=True)
    for number, (kernel, wide, narrow, squeeze, stride) in enumerate(GHOSTNET):
        middle, out = (_multiple_of_four(channels * multiplier) for channels in (wide, narrow))
        name, entry = f"{number}", value
        value = net.layer(f"{name}.ghost1", value, (width, middle), relu=True)
        if stride == 2:
            value = net.layer(f"{name}.dw", value, (middle, middle), kernel=kernel, stride=2, groups=middle)
        if squeeze:
            pooled = net.add(f"{name}.pool", "global_avg_pool", value)
            reduced = _multiple_of_four(0.25 * middle)
            small = net.layer(f"{name}.reduce", pooled, (middle, reduced), norm=False, relu=True)
            gate = net.layer(f"{name}.expand", small, (reduced, middle), norm=False)
            gate = net.add(f"{name}.gate", "hard_sigmoid", gate, slope=1 / 6, offset=0.5)
            value = net.add(f"{name}.scaled", "mul", value, gate)
        value = net.layer(f"{name}.ghost2", value, (middle, out))
        if stride == 2 or width != out:
            entry = net.layer(f"{name}.around", entry, (width, width), kernel=kernel, stride=stride, groups=width)
            entry = net.layer(f"{name}.match", entry, (width, out))
        value, width = net.add(f"{name}.add", "add", value, entry), out
    value = net.add("pool", "global_avg_pool", net.layer("last", value, (width, last), relu=True))
    value = net.layer("hidden", value, (last, 1280), norm=False, relu=True)
    net.linear("head", net.add("flat", "flatten", value, start_dim=1, end_dim=-1), (1280, 1000))
    return net.network(3, 224, 224)


def resnet56() -> Network:
    """ResNet-56 for CIFAR-10."""
    net = Writer()
    ResidualArchitecture(input_shape=(3, 32, 32), widths=(16, 32, 64), blocks=9, classes=10).build(net)
    return net.network(3, 32, 32)


def vgg16() -> Network:
    """VGG-16 for CIFAR-10: thirteen convolutions with batch norm and one linear layer."""
    net = Writer()
    value, width = "input", 3
    for stage, widths in enumerate(((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)):
        for place, wider in enumerate(widths):
            value, width = net.layer(f"{stage}.{place}", value, (width, wider), kernel=3, relu=True), wider
        value = net.add(
            f"{stage}.pool",
            "max_pool",
            value,
            kernel=(2, 2),
            stride=(2, 2),
            padding=(0, 0),
            dilation=(1, 1),
        )
    net.linear("head", net.add("flat", "flatten", value, start_dim=1, end_dim=-1), (512, 10))
    return net.network(3, 32, 32)


def resnet50() -> Network:
    """ResNet-50 for ImageNet, its stride in the 3×3 convolutions."""
    net = Writer()
    value, width = net.layer("stem", "input", (3, 64), kernel=7, stride=2, relu=True), 64
    value = net.add("pool0", "max_pool", value, kernel=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1))
    for stage, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            name, entry = f"{stage}.{block}", value
            stride = 2 if stage and not block else 1
            value = net.layer(f"{name}.conv1", value, (width, inner), relu=True)
            value = net.layer(f"{name}.conv2", value, (inner, inner), kernel=3, stride=stride, relu=True)
            value = net.layer(f"{name}.conv3", value, (inner, 4 * inner))
            if not block:
                entry = net.layer(f"{name}.match", entry, (width, 4 * inner), stride=stride)
            value, width = net.add(f"{name}.relu", "relu", net.add(f"{name}.add", "add", value, entry)), 4 * inner
    value = net.add("pool", "global_avg_pool", value)
    net.linear("head", net.add("flat", "flatten", value, start_dim=1, end_dim=-1), (2048, 1000))
    return net.network(3, 224, 224)


def ghosted(network: Network, chosen: Callable[[Node], bool], *, ratio: int = 2) -> Network:
    """Return the network with C-Ghost modules in the place of the chosen convolutions."""
    made = Rebuilding(network)
    for node in network.graph.nodes:
        if node.op == "conv" and chosen(node):
            ghost_convolution(made, node, ratio)
        else:
            made.nodes.append(node)
    shapes = {**network.graph.shapes, **made.shapes}
    graph = replace(network.graph, nodes=tuple(made.nodes), shapes=shapes)
    return Network(graph=graph, tensors={**network.tensors, **made.tensors}).used()


def parameters(network: Network) -> int:
    """Count weights, biases and the scales and shifts of batch norm."""
    return sum(tensor.numel() for name, tensor in network.tensors.items() if ".running_" not in name)


def macs(network: Network) -> int:
    """Count the multiply-accumulates of convolutions and linear layers."""
    shapes, total = network.graph.shapes, 0
    for node in network.graph.nodes:
        if OPS[node.op].weighted:
            weight = tuple(network.tensors[node.parameters["weight"]].shape)
            inputs, outputs = ([shapes[value] for value in side] for side in (node.inputs, node.outputs))
            total += OPS[node.op].macs(node, inputs, outputs, weight)
    return total


def regnet_x(depths: tuple[int, ...], widths: tuple[int, ...], group_width: int) -> Network:
    """RegNetX for ImageNet: bottlenecks without narrowing, their 3×3 convolutions in groups."""
    net = Writer()
    value, width = net.layer("stem", "input", (3, 32), kernel=3, stride=2, relu=True), 32
    for stage, (blocks, wider) in enumerate(zip(depths, widths, strict=True)):
        for block in range(blocks):
            name, entry = f"{stage}.{block}", value
            stride = 1 if block else 2
            groups = wider // min(wider, group_width)
            value = net.layer(f"{name}.conv1", value, (width, wider), relu=True)
            value = net.layer(f"{name}.conv2", value, (wider,) * 2, kernel=3, stride=stride, groups=groups, relu=True)
            value = net.layer(f"{name}.conv3", value, (wider, wider))
            if not block:
                entry = net.layer(f"{name}.match", entry, (width, wider), stride=stride)
            value, width = net.add(f"{name}.relu", "relu", net.add(f"{name}.add", "add", value, entry)), wider
    value = net.add("pool", "global_avg_pool", value)
    net.linear("head", net.add("flat", "flatten", value, start_dim=1, end_dim=-1), (width, 1000))
    return net.network(3, 224, 224)
