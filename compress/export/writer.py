"""Collects the nodes and initializers of an ONNX graph while the nodes of a network are translated."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.apply import Compressed
from compress.network.graph import Attribute, Node
from compress.placement import quantizers, scale_of
from compress.weights import CodedWeight

Array = npt.NDArray[Any]


class GraphWriter:
    """An ONNX graph in the making.

    Values keep the names that they have in the network; what is added on the way gets names after the node that needs
    it.
    """

    def __init__(self, compressed: Compressed, *, int4: bool = False) -> None:
        self.compressed = compressed
        self.int4 = int4
        self.graph = compressed.network.graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.quantizers = quantizers(self.graph)
        self.on_grid: set[str] = set()  # values that a quantizer finds on its own grid already
        self.consumers = self.graph.consumers()
        self.scales = {value: scale_of(node) for value, node in self.quantizers.items()}
        self._taken = {*self.graph.inputs, *(value for node in self.graph.nodes for value in node.outputs)}
        self._written: dict[str, str] = {}
        self._renamed: dict[str, str] = {}

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        name: str,
        outputs: Sequence[str] | None = None,
        **attributes: object,
    ) -> str:
        """Add a node; return its first output, named after the node unless ``outputs`` are given."""
        written = list(outputs) if outputs is not None else [self._fresh(name)]
        self.nodes.append(helper.make_node(op, list(inputs), written, name=name, **attributes))
        return written[0]

    def constant(self, array: Array, name: str) -> str:
        """Add an initializer; return its name."""
        name = self._fresh(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def int4_constant(self, array: Array, name: str) -> str:
        """Add an initializer of ONNX's four-bit integers; return its name."""
        name = self._fresh(name)
        nibbles = (array.reshape(-1) & 0xF).astype(np.uint8)
        pairs = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8)).reshape(-1, 2)
        packed = (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()  # the first value in the lower half
        self.initializers.append(helper.make_tensor(name, TensorProto.INT4, array.shape, packed, raw=True))
        return name

    def integers(self, values: Sequence[int], name: str) -> str:
        """Add a list of int64; return its name."""
        return self.constant(np.array(values, np.int64), name)

    def value(self, name: str) -> str:
        """Return the ONNX name of an activation or of a constant, which is written on first use."""
        return self._renamed.get(name, name) if name not in self.compressed.network.tensors else self.tensor(name)

    def rename(self, value: str, name: str) -> None:
        """Let every node written from now on read ``name`` where it reads ``value``."""
        self._renamed[value] = name

    def tensor(self, name: str) -> str:
        """Return the ONNX name of a float tensor as it stands in the network."""
        if name not in self._written:
            self._written[name] = self.constant(self.array(name), name)
        return self._written[name]

    def array(self, name: str) -> Array:
        """Return a tensor's values."""
        array: Array = self.compressed.network.tensors[name].detach().numpy()
        return array

    def parameter(self, node: Node, role: str) -> str:
        """Return the ONNX name of a float parameter."""
        return self.tensor(node.parameters[role])

    def coded(self, tensor: str) -> CodedWeight | None:
        """Return the codes of a weight, ``None`` if it is float."""
        return self.compressed.coded.get(tensor)

    def rank(self, value: str) -> int:
        """Return the number of dimensions of a value."""
        return len(self.shape(value))

    def shape(self, value: str) -> tuple[int, ...]:
        """Return the shape of a value for one image."""
        if value in self.graph.shapes:
            return tuple(self.graph.shapes[value])
        return tuple(self.compressed.network.tensors[value].shape)

    def _fresh(self, name: str) -> str:
        stem, count = name, 1
        while name in self._taken:
            count += 1
            name = f"{stem}:{count}"
        self._taken.add(name)
        return name


def integer(node: Node, key: str) -> int:
    """Return an integer attribute."""
    value: Attribute = node.attributes[key]
    if not isinstance(value, int):
        raise TypeError(f"{node.name}: {key} must be an integer, got {value!r}")
    return value


def number(node: Node, key: str) -> float:
    """Return a numeric attribute."""
    value = node.attributes[key]
    if not isinstance(value, int | float):
        raise TypeError(f"{node.name}: {key} must be a number, got {value!r}")
    return float(value)


def integers(node: Node, key: str) -> list[int]:
    """Return an attribute that is a list of integers."""
    value = node.attributes[key]
    if not isinstance(value, tuple):
        raise TypeError(f"{node.name}: {key} must be integers, got {value!r}")
    return [int(item) for item in value]
