"""Architectures known by name: a network from a safetensors file alone, without ONNX.

The file holds a torch ``state_dict``. Its names and shapes must be exactly the architecture's (``num_batches_tracked``
counters are passed over), so a wrong file is refused before anything runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from compress.network.build import run_shapes
from compress.network.graph import Attribute, Graph, Network, Node
from compress.network.ops import make_node
from hwmodels.errors import InputError, UnknownNameError

MAX_WEIGHTS_BYTES = 1 << 30

_NORM_ROLES = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualArchitecture:
    """A residual network of basic blocks for small images.

    A block is ``relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))`` with 3x3 convolutions; the first one of every
    stage but the first has stride 2. Its shortcut takes every second pixel and pads the channels with zeros on both
    sides (``pad``: option A of He et al. 2015, arXiv:1512.03385, section 4.2), or is a 1x1 convolution with batch norm
    (``project``: option B; ``downsample.0`` and ``downsample.1`` in the file).
    """

    input_shape: tuple[int, int, int]
    widths: tuple[int, ...]
    blocks: int  # per stage
    classes: int
    shortcut: str = "pad"
    head: str = "linear"

    def build(self, graph: "GraphWriter") -> None:
        """Write the nodes."""
        value = graph.conv_norm("conv1", "bn1", "input", (self.input_shape[0], self.widths[0]), kernel=3)
        value = graph.add("relu1", "relu", value)
        width = self.widths[0]
        for stage, wider in enumerate(self.widths, start=1):
            for block in range(self.blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                value = self._block(graph, f"layer{stage}.{block}", value, (width, wider), stride)
                width = wider
        value = graph.add("pool", "global_avg_pool", value)
        value = graph.add("flatten", "flatten", value, start_dim=1, end_dim=-1)
        graph.linear(self.head, value, (width, self.classes))

    def _block(self, graph: "GraphWriter", name: str, value: str, widths: tuple[int, int], stride: int) -> str:
        inner = graph.conv_norm(f"{name}.conv1", f"{name}.bn1", value, widths, kernel=3, stride=stride)
        inner = graph.add(f"{name}.relu1", "relu", inner)
        inner = graph.conv_norm(f"{name}.conv2", f"{name}.bn2", inner, (widths[1], widths[1]), kernel=3)
        around = value
        if stride != 1 or widths[0] != widths[1]:
            shortcut = self._padded if self.shortcut == "pad" else self._projected
            around = shortcut(graph, name, value, widths, stride)
        added = graph.add(f"{name}.add", "add", inner, around)
        return graph.add(f"{name}.relu2", "relu", added)

    @staticmethod
    def _padded(graph: "GraphWriter", name: str, value: str, widths: tuple[int, int], stride: int) -> str:
        for axis, dim in (("rows", 2), ("columns", 3)):
            value = graph.add(f"{name}.shortcut.{axis}", "slice", value, dim=dim, step=stride)
        before = (widths[1] - widths[0]) // 2
        channels = (0, 0, 0, 0, before, widths[1] - widths[0] - before)
        return graph.add(f"{name}.shortcut.channels", "pad", value, padding=channels)

    @staticmethod
    def _projected(graph: "GraphWriter", name: str, value: str, widths: tuple[int, int], stride: int) -> str:
        return graph.conv_norm(f"{name}.downsample.0", f"{name}.downsample.1", value, widths, kernel=1, stride=stride)


class GraphWriter:
    """Collects nodes, and the shape of every tensor that they want."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.wanted: dict[str, tuple[int, ...]] = {}

    def add(self, name: str, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node without parameters; return the value that it writes."""
        self.nodes.append(make_node(name, op, inputs, (), parameters=None, **attributes))
        return name

    def conv_norm(
        self, conv: str, norm: str, value: str, widths: tuple[int, int], *, kernel: int, stride: int = 1
    ) -> str:
        """Add a convolution without bias and its batch norm."""
        self.wanted[f"{conv}.weight"] = (widths[1], widths[0], kernel, kernel)
        self.wanted.update({f"{norm}.{role}": (widths[1],) for role in _NORM_ROLES})
        weights = {"weight": f"{conv}.weight"}
        padding = (kernel // 2, kernel // 2)
        self.nodes.append(
            make_node(
                conv, "conv", [value], parameters=weights, stride=(stride, stride), padding=padding, dilation=(1, 1)
            )
        )
        roles = {role: f"{norm}.{role}" for role in _NORM_ROLES}
        self.nodes.append(make_node(norm, "batch_norm", [conv], parameters=roles))
        return norm

    def linear(self, name: str, value: str, widths: tuple[int, int]) -> str:
        """Add a linear layer with bias."""
        self.wanted.update({f"{name}.weight": (widths[1], widths[0]), f"{name}.bias": (widths[1],)})
        roles = {role: f"{name}.{role}" for role in ("weight", "bias")}
        self.nodes.append(make_node(name, "linear", [value], parameters=roles))
        return name


ARCHITECTURES: Mapping[str, ResidualArchitecture] = {
    "cifar_resnet20": ResidualArchitecture(input_shape=(3, 32, 32), widths=(16, 32, 64), blocks=3, classes=10),
    "cifar_resnet32": ResidualArchitecture(input_shape=(3, 32, 32), widths=(16, 32, 64), blocks=5, classes=10),
    "digits_resnet": ResidualArchitecture(
        input_shape=(1, 8, 8), widths=(16, 24, 40), blocks=2, classes=10, shortcut="project"
    ),
}


def from_architecture(name: str, weights: Path) -> Network:
    """Return the named architecture with the weights of a safetensors file.

    Raises:
        UnknownNameError: No architecture is called ``name``.
        InputError: The file is no safetensors file, is too large, or holds other tensors than the architecture has.
    """
    if name not in ARCHITECTURES:
        raise UnknownNameError("architecture", f"must be one of {', '.join(sorted(ARCHITECTURES))}", name)
    architecture = ARCHITECTURES[name]
    graph = GraphWriter()
    architecture.build(graph)
    tensors = _read(weights, graph.wanted)
    shell = Graph(
        nodes=tuple(graph.nodes),
        inputs=("input",),
        outputs=graph.nodes[-1].outputs,
        shapes={"input": (1, *architecture.input_shape)},
    )
    return Network(graph=run_shapes(Network(graph=shell, tensors=tensors)), tensors=tensors)


def _read(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise InputError("weights", f"must be at most {MAX_WEIGHTS_BYTES} bytes", path.stat().st_size)
    try:
        with safe_open(path, framework="pt") as file:
            names = {name for name in file.keys() if not name.endswith("num_batches_tracked")}  # noqa: SIM118
            _refuse_other_names(names, wanted)
            for name, shape in wanted.items():
                found = tuple(file.get_slice(name).get_shape())
                if found != shape:
                    raise InputError(f"weights.{name}", f"must have shape {list(shape)}", list(found))
            tensors = {name: file.get_tensor(name) for name in wanted}
    except SafetensorError as error:
        raise InputError("weights", f"must be a safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise InputError(f"weights.{name}", "must be float32", str(tensor.dtype))
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"weights.{name}", "must be finite numbers only")
    return tensors


def _refuse_other_names(found: set[str], wanted: Mapping[str, tuple[int, ...]]) -> None:
    missing, extra = sorted(set(wanted) - found), sorted(found - set(wanted))
    if missing:
        raise InputError("weights", f"must have the tensor {missing[0]!r} ({len(missing)} missing in all)")
    if extra:
        raise InputError("weights", f"must not have the tensor {extra[0]!r} ({len(extra)} unknown in all)")
