"""Every reason not to take a network in has a code, and names what and where."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from compress.network.onnx_import import import_onnx
from compress.network.onnx_import.errors import UnsupportedOperatorError
from hwmodels.errors import InputError
from tests.compress.network.onnx_import.exporting import onnx_file

WEIGHT = np.ones((3, 4), dtype=np.float32)


def refusal(path: Path, data: Path | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        import_onnx(path, data)
    return caught.value


def test_all_unknown_operators_are_named_at_once_with_the_known_ones(tmp_path: Path) -> None:
    nodes = [
        make_node("Det", ["x"], ["a"], name="first"),
        make_node("Relu", ["a"], ["b"]),
        make_node("Fancy", ["b"], ["c"], name="second", domain="local"),
        make_node("Det", ["c"], ["y"], name="third"),
    ]

    error = refusal(onnx_file(tmp_path / "m.onnx", nodes))

    assert isinstance(error, UnsupportedOperatorError)
    assert error.code == "unsupported_operator"
    assert error.field == "model"
    assert error.unknown == (("Det", "first"), ("local::Fancy", "second"), ("Det", "third"))
    assert "unknown operator 'Det' (node 'first' and 1 more)" in str(error)
    assert "Conv, ConvTranspose" in str(error)


def test_the_list_of_unknown_operators_crosses_processes() -> None:
    error = UnsupportedOperatorError([("Det", "first")], ["Relu", "Conv"])

    again = pickle.loads(pickle.dumps(error))

    assert (again.unknown, again.known, str(again)) == (error.unknown, error.known, str(error))


RELU = make_node("Relu", ["x"], ["y"], name="relu")
REFUSED: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "two inputs": (
        "unsupported_interface",
        lambda path: onnx_file(path, [make_node("Add", ["x", "x1"], ["y"])], inputs=2),
    ),
    "unknown image size": (
        "unsupported_interface",
        lambda path: onnx_file(path, [RELU], shape=(1, 3, "height", "width")),
    ),
    "batch of eight": ("unsupported_interface", lambda path: onnx_file(path, [RELU], shape=(8, 4))),
    "no batch": ("unsupported_interface", lambda path: onnx_file(path, [RELU], shape=())),
    "recurrent": (
        "recurrent_network",
        lambda path: onnx_file(path, [make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=3, name="lstm")]),
    ),
    "quantized": (
        "already_quantized",
        lambda path: onnx_file(path, [make_node("QuantizeLinear", ["x", "s"], ["y"], name="quantize")]),
    ),
    "half precision": (
        "unsupported_precision",
        lambda path: onnx_file(
            path, [make_node("MatMul", ["x", "w"], ["y"])], tensors={"w": np.ones((4, 3), dtype=np.float16)}
        ),
    ),
    "branch": (
        "nested_graph",
        lambda path: onnx_file(
            path, [make_node("If", ["x"], ["y"], name="if", then_branch=empty(), else_branch=empty())]
        ),
    ),
    "old operator set": ("not_onnx", lambda path: onnx_file(path, [RELU], opset=6)),
    "reads what nobody writes": ("not_onnx", lambda path: onnx_file(path, [make_node("Relu", ["q"], ["y"])])),
    "writes twice": ("not_onnx", lambda path: onnx_file(path, [RELU, make_node("Abs", ["x"], ["y"])])),
    "weight from the input": (
        "unsupported_form",
        lambda path: onnx_file(path, [make_node("Gemm", ["x", "x"], ["y"], name="product", transB=1)]),
    ),
    "value-dependent shape": (
        "unsupported_form",
        lambda path: onnx_file(
            path, [make_node("NonZero", ["x"], ["n"], name="mask"), make_node("Cast", ["n"], ["y"], to=1)]
        ),
    ),
    "shapes that do not fit": (
        "shape_mismatch",
        lambda path: onnx_file(path, [make_node("Gemm", ["x", "w"], ["y"])], tensors={"w": WEIGHT}),
    ),
    "mean over the batch": (
        "fixed_batch",
        lambda path: onnx_file(path, [make_node("ReduceMean", ["x", "axes"], ["y"])], tensors={"axes": np.array([0])}),
    ),
    "not a number": (
        "invalid_graph",
        lambda path: onnx_file(
            path, [make_node("Gemm", ["x", "w"], ["y"], transB=1)], tensors={"w": np.full((3, 4), np.nan, np.float32)}
        ),
    ),
    "constant output": (
        "unsupported_interface",
        lambda path: onnx_file(path, [make_node("Relu", ["w"], ["y"])], tensors={"w": WEIGHT}),
    ),
}


def empty() -> onnx.GraphProto:
    output = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, (1,))
    return onnx.helper.make_graph([make_node("Relu", ["x"], ["z"])], "branch", [], [output])


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_come_in_is_refused_under_its_own_code(case: str, tmp_path: Path) -> None:
    code, write = REFUSED[case]

    error = refusal(write(tmp_path / "m.onnx"))

    assert error.code == code


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_stated_kernel_that_is_not_the_weights_is_refused_with_both_shapes(op: str, tmp_path: Path) -> None:
    def write(kernel: list[int]) -> Path:
        node = make_node(op, ["x", "w"], ["y"], name="layer", kernel_shape=kernel)
        tensors = {"w": np.ones((3, 3, 3, 3), np.float32)}
        return onnx_file(tmp_path / "m.onnx", [node], tensors=tensors, shape=(1, 3, 8, 8))

    import_onnx(write([3, 3]))
    error = refusal(write([5, 5]))

    assert error.code == "shape_mismatch"
    assert f"node 'layer' ({op}): kernel_shape [5, 5] must be that of its weight 'w', [3, 3]" in str(error)


def test_functions_that_call_themselves_or_explode_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    def function(name: str, *calls: str) -> onnx.FunctionProto:
        values = ["x", *(f"v{index}" for index in range(len(calls)))]
        body = [make_node(call, [values[i]], [values[i + 1]], domain="local") for i, call in enumerate(calls)]
        opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
        return onnx.helper.make_function("local", name, ["x"], [values[-1]], body, opsets)

    call = [make_node("f0", ["x"], ["y"], domain="local")]
    doubling = [function(f"f{depth}", *(f"f{depth + 1}",) * 2) for depth in range(30)]

    recursive = refusal(onnx_file(tmp_path / "a.onnx", call, functions=[function("f0", "f0")]))
    exploding = refusal(onnx_file(tmp_path / "b.onnx", call, functions=doubling))

    assert recursive.code == "not_onnx"
    assert exploding.code == "model_too_large"  # 2 ** 30 nodes


def test_functions_are_written_out(tmp_path: Path) -> None:
    opsets = [onnx.helper.make_opsetid("", 18)]
    body = [make_node("Relu", ["a"], ["b"]), make_node("Neg", ["b"], ["c"])]
    twice = onnx.helper.make_function("local", "NegRelu", ["a"], ["c"], body, opsets)
    nodes = [
        make_node("NegRelu", ["x"], ["h"], domain="local", name="one"),
        make_node("NegRelu", ["h"], ["y"], domain="local", name="two"),
    ]

    network = import_onnx(onnx_file(tmp_path / "m.onnx", nodes, functions=[twice]))

    assert [node.op for node in network.graph.nodes] == ["relu", "neg", "relu", "neg"]


def test_constants_that_would_grow_beyond_memory_are_refused_unseen(tmp_path: Path) -> None:
    nodes = [
        make_node("Expand", ["w", "size"], ["big"]),
        make_node("Add", ["x", "big"], ["sum"]),
        make_node("ReduceMax", ["sum", "axes"], ["y"]),
    ]
    tensors = {"w": np.ones((1, 1), np.float32), "size": np.array([1, 2**30, 4]), "axes": np.array([1, 2])}

    error = refusal(onnx_file(tmp_path / "m.onnx", nodes, tensors=tensors))

    assert error.code in ("shape_mismatch", "model_too_large")


class TestExternalData:
    def write(self, folder: Path, location: str, *, offset: str = "0", values: int = 12) -> Path:
        weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=(3, 4))
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", "48")):
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
        path = onnx_file(folder / "m.onnx", [make_node("Gemm", ["x", "w"], ["y"], transB=1)])
        model = onnx.ModelProto.FromString(path.read_bytes())
        model.graph.initializer.append(weight)
        path.write_bytes(model.SerializeToString())
        (folder / "m.onnx.data").write_bytes(np.arange(values, dtype=np.float32).tobytes())
        return path

    def test_the_file_beside_is_read_when_it_is_handed_in(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "m.onnx.data")

        network = import_onnx(path, tmp_path / "m.onnx.data")

        assert network.tensors["w"].tolist() == np.arange(12.0).reshape(3, 4).tolist()

    def test_nothing_is_read_that_was_not_handed_in(self, tmp_path: Path) -> None:
        error = refusal(self.write(tmp_path, "m.onnx.data"))

        assert error.code == "external_data"
        assert "'m.onnx.data'" in str(error)
        assert "external_data=False" in str(error)

    @pytest.mark.parametrize("place", ["/etc/passwd", "../m.onnx.data", "a/b", "..", "", "a\\b"])
    def test_another_place_is_refused_even_with_a_file(self, place: str, tmp_path: Path) -> None:
        path = self.write(tmp_path, place)

        assert refusal(path, tmp_path / "m.onnx.data").code == "external_data"

    @pytest.mark.parametrize(("offset", "values"), [("4", 12), ("-4", 12), ("x", 12), ("0", 11), ("9" * 30, 12)])
    def test_bytes_that_are_not_in_the_file_are_refused(self, offset: str, values: int, tmp_path: Path) -> None:
        path = self.write(tmp_path, "m.onnx.data", offset=offset, values=values)

        assert refusal(path, tmp_path / "m.onnx.data").code == "external_data"
