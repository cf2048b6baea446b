"""Networks of a few lines, and what the two exporters and ONNX Runtime make of them."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

CURRENT = "current"


def export(module: nn.Module, image: Tensor, path: Path, exporter: str, **options: Any) -> Path | None:
    """Write ``path`` by the current exporter, or by the legacy one at an opset; return the file of tensors beside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == CURRENT:
            torch.onnx.export(module.eval(), (image,), path, verbose=False, **options)
        else:
            opset = int(exporter.removeprefix("legacy-"))
            torch.onnx.export(module.eval(), (image,), str(path), dynamo=False, opset_version=opset, **options)
    beside = path.with_name(f"{path.name}.data")
    return beside if beside.is_file() else None


def runtime_logits(path: Path, images: Tensor) -> npt.NDArray[np.float32]:
    """Return what ONNX Runtime makes of every image, one at a time as the file says."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None].numpy()})[0] for image in images])


def randomise(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give every parameter and statistic a value that shows when it goes astray."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.1, 0.3, generator=generator)
    for name, buffer in module.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.3, generator=generator)
    return module


def onnx_file(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    tensors: dict[str, npt.NDArray[Any]] | None = None,
    shape: tuple[int | str, ...] = (1, 4),
    opset: int = 18,
    functions: list[onnx.FunctionProto] | None = None,
    inputs: int = 1,
) -> Path:
    """Write a graph by hand: its inputs are ``x`` (and ``x1``, …), its output is ``y``."""
    names = ["x", *(f"x{index}" for index in range(1, inputs))]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in names],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in (tensors or {}).items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("local", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=functions or [])
    path.write_bytes(model.SerializeToString())
    return path
