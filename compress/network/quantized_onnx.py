"""Read a quantized ONNX file (QuantizeLinear and DequantizeLinear pairs) as the float network it computes, with bits.

The values of integer weights become floats again; pairs on activations are taken out. What is left is imported as any
float file is, and the layers whose weights and activations were integers get their bits back in a plan. Only for costs:
what rounding does to accuracy is lost.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from compress.network.graph import Network
from compress.network.onnx_import import import_onnx
from compress.plan import LayerBits, Plan
from hwmodels.errors import InputError

_BITS = {
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8), 8),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4), 4),
    **dict.fromkeys((TensorProto.INT16, TensorProto.UINT16), 16),
    TensorProto.INT32: 32,
}
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_PASSING = frozenset(
    {
        "Flatten",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",
        "Relu",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)  # what was on a grid stays on it
ACTIVATION_BITS = 8


def read_any_onnx(path: Path) -> tuple[Network, Plan]:
    """Return the network of a float or a quantized file, and the plan that has its bits.

    Raises:
        InputError: The file is none that can be imported; see ``onnx_import``.
    """
    try:
        model = onnx.load(path)
    except Exception as failure:  # the parser raises anything
        raise InputError("file", f"must be an ONNX file: {str(failure).splitlines()[0]}", str(path)) from failure
    if not any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        beside = path.with_name(f"{path.name}.data")
        return import_onnx(path, beside if beside.is_file() else None), Plan()
    bits = _make_float(model)
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "float.onnx"
        onnx.save(model, plain)
        network = import_onnx(plain)
    known = {node.name for node in network.graph.nodes}
    return network, Plan(layers={name: found for name, found in bits.items() if name in known})


def _make_float(model: ModelProto) -> Mapping[str, LayerBits]:
    """Take quantization out of a model; return the bits of its layers by node name."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    writers = {name: node for node in graph.node for name in node.output}
    weight_bits: dict[str, int] = {}  # by value: weights that were integers
    quantized: set[str] = set()  # activations that were
    same: dict[str, str] = {}  # value → the one that now stands for it
    kept: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            continue
        if node.op_type != "DequantizeLinear":
            kept.append(node)
        elif node.input[0] in constants:
            tensor = constants[node.input[0]]
            graph.initializer.append(numpy_helper.from_array(_dequantized(node, constants), node.output[0]))
            weight_bits[node.output[0]] = _BITS.get(tensor.data_type, ACTIVATION_BITS)
        else:
            writer = writers.get(node.input[0])
            if writer is None or writer.op_type != "QuantizeLinear":
                raise InputError("file", "must dequantize what it quantized", node.name)
            same[node.output[0]] = same.get(writer.input[0], writer.input[0])
            quantized.add(node.output[0])
    found = {}
    for node in kept:
        if node.op_type in _PASSING and node.input[0] in quantized:
            quantized.update(node.output)
        if node.op_type in _LAYERS and len(node.input) > 1 and node.input[1] in weight_bits:
            whole = node.input[0] in quantized
            width = ACTIVATION_BITS if whole else 32
            found[node.name] = LayerBits(weight_bits=weight_bits[node.input[1]], activation_bits=width)
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
    outputs = {value.name for value in graph.output}
    for name in outputs & set(same):  # a file may end in a pair
        kept.append(onnx.helper.make_node("Identity", [same[name]], [name]))
    del graph.node[:]
    graph.node.extend(kept)
    return found


def _dequantized(node: NodeProto, constants: Mapping[str, TensorProto]) -> np.ndarray:
    values, scale = (numpy_helper.to_array(constants[name]).astype(np.float32) for name in node.input[:2])
    zero: np.ndarray = np.zeros((), np.float32)
    if len(node.input) > 2 and node.input[2]:
        zero = numpy_helper.to_array(constants[node.input[2]]).astype(np.float32)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    if (scale.ndim == 1 and scale.size > 1) or (scale.ndim == 1 and values.ndim > 0 and values.shape[axis] == 1):
        shape = [1] * values.ndim
        shape[axis] = scale.size
        scale, zero = scale.reshape(shape), np.broadcast_to(zero, (scale.size,)).reshape(shape)
    return np.asarray((values - zero) * scale, np.float32)
