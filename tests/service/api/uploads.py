"""Real uploads: the digits example, and the ways in which uploads go wrong."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from onnx import TensorProto, helper
from sklearn.datasets import load_digits

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
ONNX, WEIGHTS = DIGITS / "digits_resnet.onnx", DIGITS / "digits_resnet.safetensors"
WORDS = {"scale": str(1 / 16), "mean": "0.5", "std": "0.5"}  # any will do here; accuracy is not looked at


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def digits(count: int = 200) -> dict[str, Any]:
    bunch = load_digits()
    return {"x": bunch.images[:count].astype(np.uint8)[..., None], "y": bunch.target[:count]}


def post_model(
    http: httpx.Client,
    content: bytes | None = None,
    *,
    name: str = "net.onnx",
    beside: bytes | None = None,
    **fields: str,
) -> httpx.Response:
    files = {"file": (name, ONNX.read_bytes() if content is None else content)}
    if beside is not None:
        files["data"] = (f"{name}.data", beside)
    return http.post("/v1/models", files=files, data={**WORDS, **fields})


def post_dataset(http: httpx.Client, content: bytes, *, name: str = "data.npz") -> httpx.Response:
    return http.post("/v1/datasets", files={"file": (name, content)})


def onnx_with_external_data(location: str) -> bytes:
    """Return a one-layer network whose weight is said to lie in another file."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10, 64])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(10 * 64 * 4))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="head", transB=1)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [weight],
    )
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return model


def onnx_with_operator(operator: str) -> bytes:
    """Return a network with one node of an operator that nobody knows."""
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], name="odd one", domain="com.example")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 8, 8])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets).SerializeToString()
    return model
