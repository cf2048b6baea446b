"""The graph that is being written while an ONNX graph is read node by node.

The shape of every value is followed for a batch of one and for a batch of two. Where the two differ is the batch: that
is how a file that says 1 becomes a network that runs at any batch size.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

from compress.network.build import node_shapes
from compress.network.graph import Attribute, Graph, Network, Node
from compress.network.onnx_import.decisions import Decisions
from compress.network.onnx_import.errors import (
    FIELD,
    FixedBatchError,
    ModelTooLargeError,
    NotOnnxError,
    UnsupportedFormError,
)
from compress.network.ops import make_node, run_node
from compress.network.ops.shapes import ShapeError
from compress.network.ops.spec import Shape

MAX_COMPUTED_ELEMENTS = 1 << 28


@dataclass(frozen=True, slots=True)
class Source:
    """One ONNX node, with the values that it reads and writes by name (``""``: left out)."""

    node: ir.Node
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int

    @property
    def op(self) -> str:
        """The ONNX operator."""
        return self.node.op_type

    def has(self, index: int) -> bool:
        """Whether input ``index`` is given."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self.node.attributes.get_int(name, default))

    def number(self, name: str, default: float) -> float:
        """Return a floating-point attribute."""
        return float(self.node.attributes.get_float(name, default))

    def text(self, name: str, default: str) -> str:
        """Return a string attribute."""
        return str(self.node.attributes.get_string(name, default))

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return a list of integers, or ``None`` if it is not given."""
        value = self.node.attributes.get_ints(name)
        return None if value is None else tuple(int(item) for item in value)

    def refuse(self, why: str, value: object = None) -> UnsupportedFormError:
        """Return the error that says what about this node is not supported."""
        return UnsupportedFormError(FIELD, f"node {self.name!r} ({self.op}) {why}", value)

    def require(self, condition: bool, why: str, value: object = None) -> None:
        """Raise ``UnsupportedFormError`` unless ``condition`` holds."""
        if not condition:
            raise self.refuse(why, value)


class Translation:
    """Nodes, tensors and shapes written so far."""

    def __init__(self, input_name: str, image: Shape, *, reserved: Iterable[str], decisions: Decisions) -> None:
        self.input = input_name
        self.decisions = decisions
        self.nodes: list[Node] = []
        self.constants: dict[str, Tensor] = {}
        self.shapes: dict[str, Shape] = {input_name: (1, *image)}
        self.thresholds: dict[str, tuple[str, float]] = {}  # result of a comparison → value and bound
        self.arranged_from: dict[str, str] = {}  # value → the value of which it is a reshape
        self._at_two: dict[str, Shape] = {input_name: (2, *image)}
        self._before: dict[str, int] = {input_name: 1}
        self._aliases: dict[str, str] = {}
        self._value_names = set(reserved)
        self._node_names: set[str] = set()
        self._computed = 0

    def resolve(self, name: str) -> str:
        """Return the name under which a value of the file is known here."""
        return self._aliases.get(name, name)

    def alias(self, name: str, other: str) -> None:
        """Let ``name`` be the same value as ``other``."""
        self._require_new(name)
        self._aliases[name] = other

    def _require_new(self, value: str) -> None:
        if value in self.shapes or value in self.constants or value in self._aliases:
            raise NotOnnxError(FIELD, f"value {value!r} must be written only once")

    def is_constant(self, name: str) -> bool:
        """Whether a value is the same for every input."""
        return name in self.constants

    def shape(self, name: str) -> Shape:
        """Return a value's shape for a batch of one."""
        if name in self.constants:
            return tuple(self.constants[name].shape)
        if name not in self.shapes:
            raise NotOnnxError(FIELD, f"value {name!r} must be written before it is read")
        return self.shapes[name]

    def at_two(self, name: str) -> Shape:
        """Return a value's shape for a batch of two."""
        return self.shape(name) if name in self.constants else self._at_two[name]

    def batch_dim(self, name: str) -> int | None:
        """Return the dimension that grows with the batch; ``None`` for constants."""
        differing = [
            index for index, (a, b) in enumerate(zip(self.shape(name), self.at_two(name), strict=True)) if a != b
        ]
        return differing[0] if differing else None

    def before_batch(self, name: str) -> int:
        """Return how many entries vary slower than the batch inside its dimension.

        Merging dimensions of 197, N and 12 gives one of 197 * N * 12, inside which the batch is preceded by 197.
        """
        return self._before.get(name, 1)

    def constant(self, source: Source, index: int, what: str) -> Tensor:
        """Return a constant input; refuse the node if it is computed from the network's input."""
        name = source.inputs[index] if source.has(index) else ""
        source.require(name in self.constants, f"must have a constant {what}")
        return self.constants[name]

    def integers(self, source: Source, index: int, what: str) -> tuple[int, ...]:
        """Return a constant input as integers."""
        tensor = self.constant(source, index, what)
        source.require(tensor.numel() <= 4096, f"must have a short {what}")
        return tuple(int(item) for item in tensor.reshape(-1).tolist())

    def add_constant(self, stem: str, tensor: Tensor) -> str:
        """Add a tensor under a name derived from ``stem``; return its name."""
        name = _unique(stem, self._value_names)
        self.constants[name] = tensor
        return name

    def node_name(self, stem: str) -> str:
        """Return a name that no node has yet."""
        return _unique(stem, self._node_names)

    def emit(
        self,
        name: str,
        op: str,
        inputs: Sequence[str],
        output: str | Sequence[str] = "",
        *,
        parameters: Mapping[str, str] | None = None,
        before: int | None = None,
        **attributes: Attribute,
    ) -> str:
        """Write a node, or compute it at once if all it reads is constant; return its first output's name."""
        outputs = (output,) if isinstance(output, str) else tuple(output)
        if outputs == ("",):
            outputs = (_unique(f"{name}/value", self._value_names),)
        node = make_node(name, op, inputs, outputs, parameters=parameters, **attributes)
        for value in outputs:
            self._require_new(value)
        weight = None if not parameters or "weight" not in parameters else self.shape(parameters["weight"])
        made = node_shapes(node, [self.shape(value) for value in inputs], weight)
        if all(value in self.constants for value in inputs):
            self._compute(node, made)
            return outputs[0]
        try:
            self._at_two.update(node_shapes(node, [self.at_two(value) for value in inputs], weight))
        except ShapeError as error:
            raise FixedBatchError(FIELD, f"must run at any batch size; {error}") from error
        self.shapes.update(made)
        self._check_batch(node)
        carrier = next(value for value in inputs if value not in self.constants)
        for value in outputs:
            self._before[value] = self.before_batch(carrier) if before is None else before
        self.nodes.append(node)
        return outputs[0]

    def _compute(self, node: Node, shapes: Mapping[str, Shape]) -> None:
        self._computed += sum(math.prod(shape) for shape in shapes.values())
        if self._computed > MAX_COMPUTED_ELEMENTS:
            rule = f"must not compute more than {MAX_COMPUTED_ELEMENTS} values from constants"
            raise ModelTooLargeError(FIELD, rule, self._computed)
        with torch.no_grad():
            made = run_node(node, {}, self.constants)
        self.constants.update({name: tensor.contiguous() for name, tensor in made.items()})

    def _check_batch(self, node: Node) -> None:
        for value in node.outputs:
            one, two = self.shapes[value], self._at_two[value]
            grown = [index for index, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
            if len(grown) != 1 or two[grown[0]] != 2 * one[grown[0]]:
                rule = f"must treat the images of a batch apart; node {node.name!r} ({node.op}) does not"
                raise FixedBatchError(FIELD, rule)

    def network(self, outputs: Sequence[str]) -> Network:
        """Return what has been written, with the values ``outputs`` as the graph's outputs."""
        graph = Graph(nodes=tuple(self.nodes), inputs=(self.input,), outputs=tuple(outputs), shapes=self.shapes)
        return Network(graph=graph, tensors=self.constants)


def _unique(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    taken.add(name)
    return name
