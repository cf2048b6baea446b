"""Reshapes are written so that they hold at any batch size, and where a size may change when channels are cut."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.helper import make_node

from compress.network.build import build_module
from compress.network.graph import Network, Node
from compress.network.onnx_import import import_onnx
from compress.network.onnx_import.decisions import MAX_ATTEMPTS, Decisions
from compress.network.onnx_import.errors import FixedBatchError
from tests.compress.network.onnx_import.exporting import onnx_file


def through(path: Path, shape: tuple[int, ...], *targets: tuple[int, ...]) -> Network:
    """An input that is doubled, then reshaped to one target after the other."""
    tensors = {f"t{index}": np.array(target) for index, target in enumerate(targets)}
    nodes = [make_node("Add", ["x", "x"], ["v0"])]
    for index in range(len(targets)):
        nodes += [
            make_node("Reshape", [f"v{index}", f"t{index}"], [f"r{index}"], name=f"reshape{index}"),
            make_node("Relu", [f"r{index}"], [f"v{index + 1}"]),
        ]
    nodes.append(make_node("Abs", [f"v{len(targets)}"], ["y"]))
    return import_onnx(onnx_file(path, nodes, tensors=tensors, shape=shape))


def reshapes(network: Network) -> list[Node]:
    return [node for node in network.graph.nodes if node.op in ("reshape", "flatten")]


@pytest.mark.parametrize(
    ("shape", "target", "op", "attributes"),
    [
        ((1, 6, 4, 5), (1, 120), "flatten", {"start_dim": 1, "end_dim": -1}),
        ((1, 6, 4, 5), (1, 6, 20), "flatten", {"start_dim": 2, "end_dim": -1}),
        ((1, 6, 4, 5), (-1, 24, 5), "flatten", {"start_dim": 1, "end_dim": 2}),
        ((1, 6, 4, 5), (1, 2, 3, 4, 5), "reshape", {"shape": (0, 2, -1, 4, 5)}),  # groups of channels
        ((1, 7, 12), (1, 7, 3, 4), "reshape", {"shape": (0, 0, 3, -1)}),  # heads
        ((1, 6), (1, 6, 1, 1), "reshape", {"shape": (0, 0, 1, 1)}),
        ((1, 6, 1, 1), (0, 6), "flatten", {"start_dim": 1, "end_dim": -1}),
        ((1, 6, 4), (1, 8, 3), "reshape", {"shape": (0, 8, -1)}),
    ],
)
def test_sizes_are_copied_or_inferred_where_they_can_be(
    shape: tuple[int, ...], target: tuple[int, ...], op: str, attributes: dict[str, object], tmp_path: Path
) -> None:
    network = through(tmp_path / "m.onnx", shape, target)

    (node,) = reshapes(network)
    assert (node.op, dict(node.attributes)) == (op, attributes)
    images = torch.rand(3, *shape[1:])
    together = build_module(network)(images)
    assert together.equal(torch.cat([build_module(network)(image[None]) for image in images]))


def test_a_reshape_to_the_same_shape_is_nothing(tmp_path: Path) -> None:
    assert reshapes(through(tmp_path / "m.onnx", (1, 6, 4), (1, 6, 4), (-1, 6, 4))) == []


def test_a_reshape_of_a_reshape_is_one(tmp_path: Path) -> None:
    nodes = [
        make_node("Relu", ["x"], ["a"]),
        make_node("Reshape", ["a", "flat"], ["b"], name="there"),
        make_node("Reshape", ["b", "image"], ["c"], name="back"),
        make_node("Abs", ["c"], ["y"]),
    ]
    tensors = {"flat": np.array([-1]), "image": np.array([1, 6, 1, 1])}

    network = import_onnx(onnx_file(tmp_path / "m.onnx", nodes, tensors=tensors, shape=(1, 6, 1, 1)))

    assert [node.op for node in network.graph.nodes] == ["relu", "abs"]


@pytest.mark.parametrize("target", [(7, 12), (7, 3, 4), (21, 4)])
def test_a_batch_in_the_middle_is_followed_there_and_back(target: tuple[int, ...], tmp_path: Path) -> None:
    """``(1, 7, 12)`` is transposed to ``(7, 1, 12)``, merged, transformed, and comes back: images stay apart."""
    nodes = [
        make_node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        make_node("Reshape", ["a", "there"], ["b"]),
        make_node("Softmax", ["b"], ["c"], axis=-1),
        make_node("Reshape", ["c", "back"], ["d"]),
        make_node("Transpose", ["d"], ["y"], perm=[1, 0, 2]),
    ]
    tensors = {"there": np.array(target), "back": np.array([7, 1, 12])}
    network = import_onnx(onnx_file(tmp_path / "m.onnx", nodes, tensors=tensors, shape=(1, 7, 12)))
    images = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))

    y = build_module(network)(images)

    torch.testing.assert_close(y, images.reshape(3, *target).softmax(-1).reshape(3, 7, 12))


def test_a_network_that_mixes_its_batch_is_refused(tmp_path: Path) -> None:
    nodes = [
        make_node("Reshape", ["x", "vector"], ["a"]),
        make_node("ReduceSum", ["a", "axes"], ["b"], keepdims=1),
        make_node("Reshape", ["b", "row"], ["y"]),
    ]
    tensors = {"vector": np.array([6]), "axes": np.array([0]), "row": np.array([1, 1])}

    with pytest.raises(FixedBatchError):
        import_onnx(onnx_file(tmp_path / "m.onnx", nodes, tensors=tensors, shape=(1, 6)))


def test_decisions_are_changed_from_the_latest_backwards_until_none_is_left() -> None:
    decisions = Decisions()
    tried = []
    while True:
        tried.append((decisions.pick("a", 2), decisions.pick("b", 2), decisions.pick("a", 2)))
        if not decisions.change():
            break

    assert tried == [(0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1)]
    assert not Decisions().any


def test_decisions_end_after_a_bounded_number_of_attempts() -> None:
    decisions = Decisions()
    attempts = 1
    for name in range(10):
        decisions.pick(name, 10)
    while decisions.change():
        attempts += 1
        for name in range(10):
            decisions.pick(name, 10)

    assert attempts == MAX_ATTEMPTS
