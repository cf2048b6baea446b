"""Forms that files have: initialisers behind Identity, shared tensors, nodes without names, uneven padding."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx.helper import make_node

from compress.network.build import build_module
from compress.network.onnx_import import import_onnx
from tests.compress.network.onnx_import.exporting import onnx_file, runtime_logits

SQUARE = np.arange(16, dtype=np.float32).reshape(4, 4) / 16


def test_initialisers_behind_identity_are_the_initialisers(tmp_path: Path) -> None:
    nodes = [make_node("Identity", ["w"], ["same"]), make_node("Gemm", ["x", "same"], ["y"], transB=1)]

    network = import_onnx(onnx_file(tmp_path / "m.onnx", nodes, tensors={"w": SQUARE}))

    assert list(network.tensors) == ["w"]
    assert [dict(node.parameters) for node in network.graph.nodes] == [{"weight": "w"}]


def test_layers_go_on_sharing_matrices_but_get_vectors_of_their_own(tmp_path: Path) -> None:
    nodes = [
        make_node("Gemm", ["x", "w", "b"], ["h"], transB=1, name="one"),
        make_node("Gemm", ["h", "w", "b"], ["y"], transB=1, name="two"),
    ]

    network = import_onnx(onnx_file(tmp_path / "m.onnx", nodes, tensors={"w": SQUARE, "b": np.ones(4, np.float32)}))

    one, two = network.graph.nodes
    assert one.parameters["weight"] == two.parameters["weight"]
    assert one.parameters["bias"] != two.parameters["bias"]
    assert network.tensors[two.parameters["bias"]].tolist() == [1.0] * 4


def test_nodes_without_names_are_named_after_what_they_write_and_names_differ(tmp_path: Path) -> None:
    nodes = [
        make_node("Relu", ["x"], ["a"], name="same"),
        make_node("Neg", ["a"], ["b"], name="same"),
        make_node("Gemm", ["b", "w"], ["c"], transB=1),
        make_node("Relu", ["c"], ["y"]),
    ]

    network = import_onnx(onnx_file(tmp_path / "m.onnx", nodes, tensors={"w": SQUARE}))

    names = [node.name for node in network.graph.nodes]
    assert names[:2] == ["same", "same_2"]
    assert "c" in names[2]
    assert len(set(names)) == 4


def test_what_no_output_needs_is_left_out(tmp_path: Path) -> None:
    nodes = [make_node("Gemm", ["x", "w"], ["spare"], transB=1), make_node("Relu", ["x"], ["y"])]

    network = import_onnx(onnx_file(tmp_path / "m.onnx", nodes, tensors={"w": SQUARE}))

    assert [node.op for node in network.graph.nodes] == ["relu"]
    assert network.tensors == {}


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID", "uneven"])
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
def test_padding_is_the_files_even_where_sides_differ(op: str, mode: str, tmp_path: Path) -> None:
    padding = {"pads": [0, 1, 1, 0]} if mode == "uneven" else {"auto_pad": mode}
    inputs = ["x", "w"] if op == "Conv" else ["x"]
    counted = {"count_include_pad": 1} if op == "AveragePool" else {}
    node = make_node(op, inputs, ["y"], kernel_shape=[2, 3], strides=[1, 2], **padding, **counted)
    kernel = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 2, 2, 3)
    path = onnx_file(tmp_path / "m.onnx", [node], tensors={"w": kernel} if op == "Conv" else {}, shape=(1, 2, 5, 6))
    images = torch.randn(2, 2, 5, 6, generator=torch.Generator().manual_seed(0))

    y = build_module(import_onnx(path))(images).detach().numpy()

    np.testing.assert_allclose(y, runtime_logits(path, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "bias"),
    [
        ({"alpha": 0.5, "beta": 2.0, "transB": 1}, np.arange(4, dtype=np.float32)),
        ({"beta": 3.0}, np.ones((1, 4), dtype=np.float32)),
        ({}, np.full((), 2, dtype=np.float32)),
    ],
)
def test_factors_of_a_gemm_are_multiplied_in(
    attributes: dict[str, float], bias: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    node = make_node("Gemm", ["x", "w", "b"], ["y"], **attributes)
    path = onnx_file(tmp_path / "m.onnx", [node], tensors={"w": SQUARE, "b": bias})
    images = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    y = build_module(import_onnx(path))(images).detach().numpy()

    np.testing.assert_allclose(y, runtime_logits(path, images), rtol=1e-5, atol=1e-5)


def test_group_norm_of_both_kinds_of_scale(tmp_path: Path) -> None:
    images = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    for opset, length in ((18, 2), (21, 6)):  # a scale per group, a scale per channel
        node = make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
        tensors = {name: np.linspace(1, 2, length, dtype=np.float32) for name in ("s", "b")}
        path = onnx_file(tmp_path / f"{opset}.onnx", [node], tensors=tensors, shape=(1, 6, 3), opset=opset)

        y = build_module(import_onnx(path))(images).detach()

        scale = torch.from_numpy(tensors["s"]).repeat_interleave(6 // length)
        torch.testing.assert_close(y, torch.nn.functional.group_norm(images, 2, scale, scale))


def test_a_network_may_have_several_outputs(tmp_path: Path) -> None:
    nodes = [make_node("Gemm", ["x", "w"], ["a"], transB=1), make_node("Relu", ["a"], ["y"])]
    path = onnx_file(tmp_path / "m.onnx", nodes, tensors={"w": SQUARE})
    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [1, 4]))
    onnx.save(model, path)
    images = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    network = import_onnx(path)

    assert network.graph.outputs == ("y", "a")
    y, a = build_module(network)(images)
    torch.testing.assert_close(a, images @ torch.from_numpy(SQUARE).T)
    torch.testing.assert_close(y, a.relu())
