"""A compressed network as a standard ONNX graph with QuantizeLinear and DequantizeLinear pairs."""

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from compress.apply import Compressed
from compress.export import layers, values
from compress.export.layers import Emitter
from compress.export.writer import GraphWriter
from compress.placement import PASSING_OPS

OPSET = 21
IR_VERSION = 10  # the one that came with opset 21: older runtimes refuse newer ones

EMITTERS: Mapping[str, Emitter] = {**layers.EMITTERS, **values.EMITTERS}
"""What writes each operator of ``compress.network.ops.OPS``."""


def export_onnx(compressed: Compressed, path: Path, *, int4: bool = False) -> None:
    """Write the network as ONNX. See ``onnx_bytes``."""
    path.write_bytes(onnx_bytes(compressed, int4=int4))


def onnx_bytes(compressed: Compressed, *, int4: bool = False) -> bytes:
    """Return the network as ONNX, checked by ONNX's own checker.

    Weights below eight bits are carried as int8 on their low-bit grid, activations as uint8 (int8 where the plan says
    signed), clipped to their grid, biases of quantized layers as int32 in steps of the accumulator. Any batch size
    runs.

    Args:
        compressed: The network.
        int4: Store weights of up to four bits as ONNX INT4, two to a byte. ONNX Runtime 1.32 runs such a file to the
            same result, but unpacks the weights at every run and computes those layers in float: a small file for
            runtimes that do better, not a fast one. That is why int8 containers are the default.
    """
    graph = compressed.network.graph
    writer = GraphWriter(compressed, int4=int4)
    for node in graph.nodes:
        EMITTERS[node.op](writer, node)
        if node.op in PASSING_OPS:
            layers.quantize_again(writer, node)
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "tightfit",
            [_value_info(name, graph.shapes[name]) for name in graph.inputs],
            [_value_info(name, graph.shapes[name]) for name in graph.outputs],
            writer.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tightfit",
    )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _value_info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape[1:]])
