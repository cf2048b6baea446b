"""ONNX files become networks: read, translated node by node, tidied, checked."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from compress.network.build import build_module
from compress.network.check import check_network
from compress.network.graph import Network
from compress.network.onnx_import import (  # noqa: F401  (they enter their rules)
    rules_elementwise,
    rules_movement,
    rules_pooling,
    rules_weighted,
)
from compress.network.onnx_import.decisions import Decisions
from compress.network.onnx_import.errors import (
    FIELD,
    FixedBatchError,
    InterfaceError,
    NotOnnxError,
    UnsupportedFormError,
    UnsupportedOperatorError,
)
from compress.network.onnx_import.patterns import recognise_patterns
from compress.network.onnx_import.reading import read_model
from compress.network.onnx_import.rules import RULES
from compress.network.onnx_import.translation import Source, Translation
from hwmodels.errors import InputError

_FOLDED = {  # computed from shapes: constants by now, unless something that is not known stands in the way
    *("Shape", "Size", "Range", "ConstantOfShape", "Equal", "Less", "Not", "And", "Or", "Mod"),
    *("ScatterND", "NonZero", "GatherND", "CastLike", "OneHot", "ReduceProd"),
}


def import_onnx(path: Path, data: Path | None = None) -> Network:
    """Return the network of an ONNX file that nobody vouches for.

    The network computes what the file says, for any batch size. Layers keep their node's name.

    Args:
        path: The ``.onnx`` file.
        data: The file of tensors beside it, which current PyTorch writes by default (``model.onnx.data``). Nothing else
            is ever opened, whatever the model says.

    Raises:
        InputError: A subclass from ``onnx_import.errors``, or ``ShapeError``.
    """
    try:
        model = read_model(path, data)
        _refuse_unknown(model)
        network = _settled(model)
        check_network(network)
    except InputError:
        raise
    except MemoryError as error:
        raise NotOnnxError(FIELD, "needs more memory than one network may take") from error
    except Exception as error:  # parsers of three packages meet bytes that nobody vouches for
        raise NotOnnxError(FIELD, f"must be a valid ONNX file: {type(error).__name__}: {error}") from error
    return network


def _refuse_unknown(model: ir.Model) -> None:
    unknown = [
        (node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}", _name(node))
        for node in model.graph
        if node.domain not in ("", "ai.onnx") or (node.op_type not in RULES and node.op_type != "Constant")
    ]
    foreign = [(op, name) for op, name in unknown if op not in _FOLDED]
    if foreign:
        raise UnsupportedOperatorError(foreign, RULES)
    if unknown:
        op, name = unknown[0]
        raise UnsupportedFormError(
            FIELD, f"node {name!r} ({op}) must depend on shapes alone, not on the input's values"
        )


def _settled(model: ir.Model) -> Network:
    """Translate until the images of a batch are treated apart, changing what had to be guessed."""
    decisions = Decisions()
    tensors = {name: _tensor(value.const_value, name) for name, value in model.graph.initializers.items()}
    while True:
        try:
            network = recognise_patterns(_translate(model, tensors, decisions))
            if decisions.any:
                _confirm_batches(network)
        except FixedBatchError:
            if not decisions.change():
                raise
        else:
            return network


def _translate(model: ir.Model, tensors: Mapping[str, Tensor], decisions: Decisions) -> Network:
    graph = model.graph
    value = next(value for value in graph.inputs if value.name not in graph.initializers)
    assert value.shape is not None
    reserved = [str(value.name), *tensors, *(str(output.name) for node in graph for output in node.outputs)]
    image = tuple(int(size) for size in value.shape[1:] if isinstance(size, int))
    target = Translation(str(value.name), image, reserved=reserved, decisions=decisions)
    target.constants.update(tensors)
    opset = max(model.opset_imports.get(domain, 0) for domain in ("", "ai.onnx"))
    for node in graph:
        if node.op_type == "Constant":
            output = node.outputs[0]
            target.constants[str(output.name)] = _tensor(ir.convenience.get_const_tensor(output), str(output.name))
            continue
        source = Source(
            node=node,
            name=target.node_name(_name(node)),
            inputs=tuple("" if value is None else target.resolve(str(value.name)) for value in node.inputs),
            outputs=tuple(str(output.name or "") for output in node.outputs),
            opset=opset,
        )
        RULES[node.op_type](source, target)
    outputs = [target.resolve(str(output.name)) for output in graph.outputs]
    for name in outputs:
        if target.is_constant(name) or name == target.input:
            raise InterfaceError(FIELD, "must have outputs that are computed from the input")
        if target.batch_dim(name) != 0 or target.before_batch(name) != 1:
            raise FixedBatchError(FIELD, "must have outputs with the batch first", list(target.shape(name)))
    return target.network(outputs)


def _confirm_batches(network: Network) -> None:
    """Run two images together and apart; they must come out alike."""
    module = build_module(network)
    several = len(network.graph.outputs) > 1
    shape = network.graph.shapes[network.graph.inputs[0]]
    images = torch.rand((2, *shape[1:]), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = [module(batch) for batch in (images, images[:1], images[1:])]
    for together, first, second in zip(*found, strict=True) if several else [found]:
        apart = torch.cat([first, second])
        if not torch.allclose(together, apart, rtol=1e-3, atol=1e-4 * float(apart.abs().max())):
            raise FixedBatchError(FIELD, "must treat the images of a batch apart")


def _name(node: ir.Node) -> str:
    """Return the node's own name, or one made of its first output's."""
    return str(node.name or f"{node.op_type}_{node.outputs[0].name}")


def _tensor(stored: ir.TensorProtocol | None, name: str) -> Tensor:
    if stored is None:
        raise NotOnnxError(FIELD, f"tensor {name!r} must have values")
    values = stored.numpy()
    if values.dtype.kind not in "fiub":
        raise NotOnnxError(FIELD, f"tensor {name!r} must hold numbers", str(values.dtype))
    if values.dtype in (np.float64, np.float16):
        values = values.astype(np.float32)  # single constants only: such weights were refused
    return torch.from_numpy(np.array(values, order="C"))
