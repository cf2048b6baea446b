"""From an untrusted file to a flat ``onnx_ir`` graph: bounded, inlined, folded.

Everything that could take memory or time out of proportion is counted on the parsed message before it is touched.
Shapes are made concrete for a batch of one and constants are folded, which turns the shape computations that exporters
write (Shape, Gather, Concat, …) into constants. Only onnxscript's folding is used, not its whole optimizer: that
replaces nodes and so loses the names that the user knows.
"""

import math
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto
from onnx_ir.passes.common import InlinePass
from onnxscript.optimizer import fold_constants_ir

from compress.network.onnx_import.errors import (
    FIELD,
    AlreadyQuantizedError,
    ExternalDataError,
    InterfaceError,
    ModelTooLargeError,
    NestedGraphError,
    NotOnnxError,
    PrecisionError,
    RecurrentNetworkError,
)

MAX_FILE_BYTES = 1 << 30
MAX_NODES = 20_000
MAX_TENSORS = 20_000
MAX_TENSOR_BYTES = 1 << 30  # all tensors together
MAX_RANK = 8
OLDEST_OPSET = 9
FOLD_LIMIT = 1 << 18  # elements of a folded result

_RECURRENT = {"LSTM", "GRU", "RNN"}
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
_STANDARD = ("", "ai.onnx")


def read_model(path: Path, data: Path | None) -> ir.Model:
    """Return the file's graph, flat and with its constants folded.

    Args:
        path: The ``.onnx`` file.
        data: The file beside it that holds the tensors' bytes, where the exporter wrote one.

    Raises:
        InputError: One of the classes in ``errors``: which bound, rule or limitation the file meets.
    """
    proto = _parse(path)
    _count(proto)
    _refuse_unsupported_kinds(proto)
    _check_names(proto)
    if any(_is_external(tensor) for tensor in _tensors(proto)):
        _load_external(proto, data)
    _check_tensors(proto)
    model: ir.Model = ir.from_proto(proto)
    InlinePass()(model)
    _make_concrete(model)
    fold_constants_ir(model, onnx_shape_inference=True, should_fold=_should_fold)
    return model


def _parse(path: Path) -> ModelProto:
    size = path.stat().st_size
    if size == 0:
        raise NotOnnxError(FIELD, "must not be an empty file")
    if size > MAX_FILE_BYTES:
        raise ModelTooLargeError(FIELD, f"must be at most {MAX_FILE_BYTES} bytes", size)
    try:
        proto = ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        raise NotOnnxError(FIELD, f"must be an ONNX file: {error}") from error
    versions = [entry.version for entry in proto.opset_import if entry.domain in _STANDARD]
    if not proto.graph.node or not versions:
        raise NotOnnxError(FIELD, "must be an ONNX file with a graph and an operator set; this one has none")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= max(versions) <= newest:
        raise NotOnnxError(FIELD, f"must use an operator set between {OLDEST_OPSET} and {newest}", max(versions))
    return proto


def _count(proto: ModelProto) -> None:
    nodes = _inlined_nodes(proto)
    if nodes > MAX_NODES:
        raise ModelTooLargeError(FIELD, f"must have at most {MAX_NODES} nodes", nodes)
    tensors = sum(1 for _ in _tensors(proto))
    if tensors > MAX_TENSORS:
        raise ModelTooLargeError(FIELD, f"must have at most {MAX_TENSORS} tensors", tensors)
    if proto.graph.sparse_initializer:
        raise PrecisionError(FIELD, "must not have sparse tensors")
    total = 0
    for tensor in _tensors(proto):
        if len(tensor.dims) > MAX_RANK or any(size < 0 for size in tensor.dims):
            raise NotOnnxError(FIELD, f"tensor {tensor.name!r} must have at most {MAX_RANK} sizes", list(tensor.dims))
        total += 4 * math.prod(tensor.dims)
    if total > MAX_TENSOR_BYTES:
        raise ModelTooLargeError(FIELD, f"must have tensors of at most {MAX_TENSOR_BYTES} bytes together", total)


def _inlined_nodes(proto: ModelProto) -> int:
    """Count nodes as if every function were written out where it is called."""
    bodies = {(function.domain, function.name): function.node for function in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], callers: tuple[tuple[str, str], ...]) -> int:
        if key in callers or len(callers) > 32:
            raise NotOnnxError(FIELD, "functions must not call themselves, nor nest deeper than 32", key[1])
        if key not in sizes:
            sizes[key] = sum(count(node, (*callers, key)) for node in bodies[key])
        return sizes[key]

    def count(node: NodeProto, callers: tuple[tuple[str, str], ...]) -> int:
        key = (node.domain, node.op_type)
        return size(key, callers) if key in bodies else 1

    return sum(count(node, ()) for node in proto.graph.node)


def _all_nodes(proto: ModelProto) -> list[NodeProto]:
    return [*proto.graph.node, *(node for function in proto.functions for node in function.node)]


def _tensors(proto: ModelProto) -> list[TensorProto]:
    inside = (attribute for node in _all_nodes(proto) for attribute in node.attribute)
    return [*proto.graph.initializer, *(attribute.t for attribute in inside if attribute.HasField("t"))]


def _refuse_unsupported_kinds(proto: ModelProto) -> None:
    for node in _all_nodes(proto):
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            raise AlreadyQuantizedError(FIELD, f"must be a float network; node {node.name!r} is {node.op_type}")
        if node.op_type in _RECURRENT:
            raise RecurrentNetworkError(FIELD, f"must not be recurrent; node {node.name!r} is {node.op_type}")
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise NestedGraphError(FIELD, f"must be one flat graph; node {node.name!r} is {node.op_type}")


def _check_names(proto: ModelProto) -> None:
    """Every value is written once, by a node before those that read it, under a name that is text."""
    graph = proto.graph
    known = {entry.name for entry in (*graph.input, *graph.initializer)}
    for node in graph.node:
        names = (node.name, *node.input, *node.output)
        if not all(isinstance(name, str) for name in names):
            raise NotOnnxError(FIELD, f"names must be UTF-8 text; those of a {node.op_type!r} are not")
        for name in node.input:
            if name and name not in known:
                raise NotOnnxError(FIELD, f"node {node.name!r} reads {name!r}, which nothing before it writes")
        for name in node.output:
            if name and name in known:
                raise NotOnnxError(FIELD, f"node {node.name!r} writes {name!r}, which is written already")
            known.add(name)


def _check_tensors(proto: ModelProto) -> None:
    floats = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    for tensor in proto.graph.initializer:
        if tensor.data_type in floats and math.prod(tensor.dims) > 1:
            kind = TensorProto.DataType.Name(tensor.data_type).lower()
            raise PrecisionError(FIELD, f"must have float32 weights; {tensor.name!r} is {kind}")


def _is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data)


def _load_external(proto: ModelProto, data: Path | None) -> None:
    """Copy the bytes of external tensors into the message; only ``data`` is opened, whatever the model says."""
    external = [tensor for tensor in _tensors(proto) if _is_external(tensor)]
    places = {str(_facts(tensor).get("location", "")) for tensor in external}
    strange = [place for place in places if not place or place in (".", "..") or "/" in place or "\\" in place]
    if strange or len(places) > 1:
        shown = (strange or sorted(places))[0]
        raise ExternalDataError(FIELD, "must keep its tensors inside, or in one file beside it", shown)
    place = places.pop()
    if data is None:
        raise ExternalDataError(
            FIELD, f"keeps its tensors in {place!r}: hand that file in too, or export with external_data=False"
        )
    size = data.stat().st_size
    if size > MAX_TENSOR_BYTES:
        raise ModelTooLargeError("data", f"must be at most {MAX_TENSOR_BYTES} bytes", size)
    with data.open("rb") as file:
        for tensor in external:
            offset, length = _extent(tensor)
            if offset + length > size:
                raise ExternalDataError("data", f"must hold the bytes of tensor {tensor.name!r}; it ends before", size)
            file.seek(offset)
            tensor.raw_data = file.read(length)
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]


def _facts(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _extent(tensor: TensorProto) -> tuple[int, int]:
    facts = _facts(tensor)
    try:
        offset, bits = int(facts.get("offset", 0)), ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError) as error:
        raise ExternalDataError(FIELD, f"tensor {tensor.name!r} must say where its bytes are") from error
    if offset < 0:
        raise ExternalDataError(FIELD, f"tensor {tensor.name!r} must not start before the file", offset)
    return offset, (math.prod(tensor.dims) * bits + 7) // 8


def _make_concrete(model: ir.Model) -> None:
    """Give the input a batch of one and forget every other stated shape; folding finds them again."""
    graph = model.graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    if len(inputs) != 1:
        names = [value.name for value in inputs]
        raise InterfaceError(FIELD, "must have one input", names)
    if not graph.outputs:
        raise InterfaceError(FIELD, "must have an output")
    value = inputs[0]
    if value.dtype != ir.DataType.FLOAT:
        raise PrecisionError(FIELD, f"must have a float32 input; {value.name!r} is {value.dtype}")
    value.shape = ir.Shape([1, *_image_shape(value)])
    for node in graph:
        for output in node.outputs:
            output.shape = None


def _image_shape(value: ir.Value) -> list[int]:
    sizes = [] if value.shape is None else list(value.shape)
    if not 2 <= len(sizes) <= 5:
        raise InterfaceError(FIELD, f"input {value.name!r} must have a batch and 1 to 4 further dimensions", sizes)
    batch, *rest = sizes
    if isinstance(batch, int) and batch != 1:
        raise InterfaceError(FIELD, f"input {value.name!r} must have a batch of one or a named one", batch)
    if not all(isinstance(size, int) and size > 0 for size in rest):
        shown = [size if isinstance(size, int) else str(size) for size in sizes]
        raise InterfaceError(FIELD, f"input {value.name!r} must have fixed sizes, the batch excepted", shown)
    return [int(size) for size in rest if isinstance(size, int)]


def _should_fold(node: ir.Node) -> bool | None:
    """Fold what is known to stay small; leave the rest to the translation, which checks sizes first."""
    if node.op_type == "Identity":
        return False  # a copy would hide that layers share a tensor
    for output in node.outputs:
        if output.shape is None or not all(isinstance(size, int) for size in output.shape):
            return False
        if math.prod(int(size) for size in output.shape if isinstance(size, int)) > FOLD_LIMIT:
            return False
    return True if node.op_type == "ConstantOfShape" else None
