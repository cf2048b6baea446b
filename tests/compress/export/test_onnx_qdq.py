from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from compress.apply import apply, prepare
from compress.export import export_onnx, onnx_bytes
from compress.export.onnx_qdq import EMITTERS
from compress.network.build import build_module
from compress.network.graph import Attribute, Network, Node
from compress.network.ops import OPS
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.quantize import Compressed
from compress.structure import analyse
from tests.compress.networks import NETWORKS, Builder, images

onnxruntime.set_default_logger_severity(3)


def compress(network: Network, weight_bits: int, activation_bits: int, **numerics: str) -> Compressed:
    bits = LayerBits(weight_bits=weight_bits, activation_bits=activation_bits)
    layers = {node.name: bits for node in network.graph.nodes if node.op in LAYER_OPS}
    base = prepare(network, images(network, 16), structure=analyse(network))
    return apply(base, Plan(layers=layers, numerics=Numerics(**numerics)))  # type: ignore[arg-type]


def run_onnx(content: bytes, x: Tensor) -> list[Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(array) for array in session.run(None, {session.get_inputs()[0].name: x.numpy()})]


@torch.no_grad()
def run_torch(compressed: Compressed, x: Tensor) -> list[Tensor]:
    result = build_module(compressed.network)(x)
    return [result] if isinstance(result, Tensor) else list(result)


def test_every_operator_has_an_emitter() -> None:
    assert set(EMITTERS) == set(OPS)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("bits", [(8, 8), (3, 4)])
def test_onnx_runtime_computes_what_the_simulation_does(name: str, bits: tuple[int, int]) -> None:
    compressed = compress(NETWORKS[name](), *bits)
    x = images(compressed.network, 5, seed=9)  # another batch size than any before

    (found,) = run_onnx(onnx_bytes(compressed), x)

    (wanted,) = run_torch(compressed, x)
    close = (found - wanted).abs() <= 0.02 * wanted.abs().max()
    assert close.float().mean() > 0.9  # a value on the border between two codes may fall either way
    assert (found - wanted).abs().mean() < 0.03 * wanted.abs().mean()


@pytest.mark.parametrize("activation_type", ["unsigned", "signed"])
@pytest.mark.parametrize("activation_bits", range(2, 9))
def test_every_activation_width_is_exact_on_one_layer(activation_type: str, activation_bits: int) -> None:
    net = Builder(3, 6, 6)
    network = net.network(net.conv("conv", "x", (3, 5)))
    compressed = compress(network, 4, activation_bits, activation_type=activation_type)
    x = 3 * images(
        network, 4, seed=2
    )  # far beyond the calibrated range: what saturates must saturate at the same value

    (found,) = run_onnx(onnx_bytes(compressed), x)

    torch.testing.assert_close(found, run_torch(compressed, x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight_bits", range(1, 9))
def test_weights_are_int8_on_their_low_bit_grid(weight_bits: int) -> None:
    net = Builder(3, 6, 6)
    network = net.network(net.conv("conv", "x", (3, 5)))

    model = onnx.load_from_string(onnx_bytes(compress(network, weight_bits, 8)))

    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    levels = arrays["conv.weight/levels"]
    assert levels.dtype == np.int8
    assert len(np.unique(levels)) <= 2**weight_bits
    assert np.abs(levels.astype(int)).max() <= max(1, 2 ** (weight_bits - 1))
    assert arrays["conv.weight/scale"].shape == (5,)
    (dequantize,) = [node for node in model.graph.node if "conv.weight/levels" in node.input]
    assert onnx.helper.get_node_attr_value(dequantize, "axis") == 0
    assert arrays["conv/conv.bias/steps"].dtype == np.int32


@pytest.mark.parametrize(("weight_bits", "stored"), [(2, "INT4"), (4, "INT4"), (5, "INT8")])
def test_weights_of_up_to_four_bits_can_be_stored_as_int4(weight_bits: int, stored: str) -> None:
    compressed = compress(NETWORKS["residual"](), weight_bits, 8)
    x = images(compressed.network, 3)

    small, plain = onnx_bytes(compressed, int4=True), onnx_bytes(compressed)

    types = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(small).graph.initializer}
    assert types["a.conv1.weight/levels"] == getattr(onnx.TensorProto, stored)
    assert (len(small) < len(plain)) == (stored == "INT4")
    torch.testing.assert_close(run_onnx(small, x)[0], run_onnx(plain, x)[0], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("activation_type", ["unsigned", "signed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_reads_passed_on_values_reads_them_from_integers(name: str, activation_type: str) -> None:
    content = onnx_bytes(compress(NETWORKS[name](), 8, 8, activation_type=activation_type))

    graph = onnx.load_from_string(content).graph
    source = {value: node.op_type for node in graph.node for value in node.output}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm")]
    assert weighted
    assert all(source[node.input[0]] == "DequantizeLinear" for node in weighted)
    run_onnx(content, images(NETWORKS[name](), 2))  # ONNX Runtime's own rewriting accepts it


def test_a_power_of_two_and_a_whole_tensor_scale_export() -> None:
    compressed = compress(NETWORKS["residual"](), 6, 8, scale_format="power_of_two", weight_granularity="tensor")
    x = images(compressed.network, 3)

    (found,) = run_onnx(onnx_bytes(compressed), x)

    torch.testing.assert_close(found, run_torch(compressed, x)[0], rtol=0.05, atol=0.05)


def test_the_file_says_what_it_needs(tmp_path: Path) -> None:
    export_onnx(compress(NETWORKS["chain"](), 8, 8), tmp_path / "model.onnx")

    model = onnx.load(tmp_path / "model.onnx")
    assert model.opset_import[0].version == 21
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


IMAGE = (4, 6, 6)
POOL: dict[str, Attribute] = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0), "ceil_mode": True}
CASES: dict[str, list[tuple[tuple[int, ...], dict[str, Attribute]]]] = {
    "softmax": [(IMAGE, {"dim": 1})],
    "log_softmax": [(IMAGE, {"dim": -1})],
    "clip": [
        (IMAGE, {"min": 0.0, "max": 6.0}),
        (IMAGE, {"min": None, "max": 0.5}),
        (IMAGE, {"min": -0.5, "max": None}),
    ],
    "leaky_relu": [(IMAGE, {"slope": 0.1})],
    "elu": [(IMAGE, {"alpha": 0.7})],
    "hard_sigmoid": [(IMAGE, {}), (IMAGE, {"slope": 0.2})],
    "gelu": [(IMAGE, {"approximate": "none"}), (IMAGE, {"approximate": "tanh"})],
    "quantize": [
        (IMAGE, {"scale": 0.25, "zero_point": 3, "low": 0, "high": 15}),
        (IMAGE, {"scale": 0.25, "zero_point": 0, "low": -8, "high": 7}),
    ],
    "max_pool": [
        (IMAGE, {**POOL, "dilation": (1, 1)}),
        ((4, 6), {"kernel": (2,), "stride": (2,), "padding": (0,), "dilation": (1,), "ceil_mode": False}),
    ],
    "avg_pool": [(IMAGE, {**POOL, "count_include_pad": flag, "ceil_mode": False}) for flag in (True, False)],
    "mean": [(IMAGE, {"dims": (2, 3), "keepdim": False}), (IMAGE, {"dims": (1,), "keepdim": True})],
    "sum": [(IMAGE, {"dims": (-1,), "keepdim": False})],
    "amax": [(IMAGE, {"dims": (2, 3), "keepdim": True})],
    "amin": [(IMAGE, {"dims": (1,), "keepdim": False})],
    "norm": [(IMAGE, {"dims": (1,), "keepdim": True, "order": order}) for order in (1, 2)],
    "flatten": [
        (IMAGE, {"start_dim": 1, "end_dim": -1}),
        (IMAGE, {"start_dim": 1, "end_dim": 2}),
        (IMAGE, {"start_dim": 2, "end_dim": 3}),
    ],
    "reshape": [(IMAGE, {"shape": (0, 2, -1, 6)}), (IMAGE, {"shape": (-1, 144)})],
    "permute": [(IMAGE, {"dims": (0, 2, 3, 1)})],
    "squeeze": [((4, 1, 6), {"dims": (2,)}), ((4, 1, 1), {"dims": (2, -1)})],
    "unsqueeze": [(IMAGE, {"dim": 2}), (IMAGE, {"dim": -1})],
    "expand": [((4, 1, 6), {"shape": (-1, 4, 5, -1)})],
    "split": [(IMAGE, {"dim": 1, "sizes": (1, 3), "parts": 2}), (IMAGE, {"dim": 2, "sizes": None, "parts": 2})],
    "slice": [
        (IMAGE, {"dim": 2, "step": 2}),
        (IMAGE, {"dim": 1, "start": -3, "end": -1}),
        (IMAGE, {"dim": 3, "start": 1, "end": 99}),
    ],
    "select": [(IMAGE, {"dim": 2, "index": -1})],
    "pad": [
        (IMAGE, {"padding": (1, 2, 0, 1, 2, 2), "value": 0.5}),
        (IMAGE, {"padding": (1, 2, 2, 1), "mode": "reflect"}),
        (IMAGE, {"padding": (1, 2, 2, 1), "mode": "replicate"}),
    ],
    "resize": [
        (IMAGE, {"scale": 2, "mode": "nearest"}),
        (IMAGE, {"scale": 3, "mode": "bilinear", "align_corners": True}),
        (IMAGE, {"scale": 3, "mode": "bilinear", "align_corners": False}),
        (IMAGE, {"scale": 3, "mode": "bicubic", "align_corners": True}),
        (IMAGE, {"scale": 3, "mode": "bicubic", "align_corners": False}),
    ],
    "pixel_shuffle": [(IMAGE, {"factor": 2})],
    "pixel_unshuffle": [(IMAGE, {"factor": 3})],
    "concat": [(IMAGE, {"dim": 1})],
}
WITH_PARAMETERS = {
    "conv",
    "conv_transpose",
    "linear",
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "prelu",
    "repeat_batch",
}
POSITIVE = {"log", "sqrt", "pow", "reciprocal"}
ALL_CASES = [
    (op, shape, attributes)
    for op in sorted(set(OPS) - WITH_PARAMETERS)
    for shape, attributes in CASES.get(op, [(IMAGE, {})])
]


def float_network(net: Builder, *outputs: str) -> Compressed:
    return Compressed(network=net.network(*outputs), coded={}, plan=Plan())


def assert_equal_in_onnx_runtime(compressed: Compressed, x: Tensor) -> None:
    found = run_onnx(onnx_bytes(compressed), x)

    for one, other in zip(found, run_torch(compressed, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("op", "shape", "attributes"), ALL_CASES)
def test_an_operator_without_parameters_is_the_same_in_onnx(
    op: str, shape: tuple[int, ...], attributes: dict[str, Attribute]
) -> None:
    net = Builder(*shape)
    inputs = ["x"] if OPS[op].inputs[0] == 1 and op != "concat" else ["x", net.op("other", "sigmoid", "x")]
    if op == "matmul":
        inputs[1] = net.op("turned", "permute", "x", dims=(0, 1, 3, 2))
    outputs = ("first", "second") if op == "split" else ()
    written = net.op("node", op, *inputs, outputs=outputs, **attributes)
    compressed = float_network(net, *(outputs or (written,)))
    x = images(compressed.network, 3, seed=4)

    assert_equal_in_onnx_runtime(compressed, x.abs() + 0.1 if op in POSITIVE else x)


def parametrised(op: str, net: Builder) -> str:
    if op == "conv":
        return net.conv("conv", net.conv("grouped", "x", (4, 6), groups=2, bias=False), (6, 5), stride=2)
    if op == "conv_transpose":
        return net.conv("up", "x", (4, 6), stride=2, groups=2, transpose=True)
    if op == "linear":
        return net.linear("head", net.linear("tokens", "x", (6, 5)), (5, 3))
    if op == "batch_norm":
        return net.norm("norm", "x", 4)
    if op == "prelu":
        net.nodes.append(node_with(op, {"weight": net.tensor("slope", 4)}, {}))
    elif op == "repeat_batch":
        return net.op("joined", "add", net.op("node", op, net.tensor("token", 1, 4, 6, 6), "x", dim=0), "x")
    elif op == "layer_norm":
        net.nodes.append(node_with(op, {"weight": net.tensor("w", 6, 6), "bias": net.tensor("b", 6, 6)}, {"eps": 1e-5}))
    else:
        options: dict[str, Attribute] = {"eps": 1e-5, **({"groups": 2} if op == "group_norm" else {})}
        net.nodes.append(node_with(op, {"weight": net.tensor("w", 4), "bias": net.tensor("b", 4)}, options))
    return "node"


def node_with(op: str, parameters: dict[str, str], attributes: dict[str, Attribute]) -> Node:
    return Node(name="node", op=op, inputs=("x",), outputs=("node",), attributes=attributes, parameters=parameters)


@pytest.mark.parametrize("op", sorted(WITH_PARAMETERS))
def test_an_operator_with_parameters_is_the_same_in_onnx(op: str) -> None:
    net = Builder(*IMAGE)
    compressed = float_network(net, parametrised(op, net))

    assert_equal_in_onnx_runtime(compressed, images(compressed.network, 3, seed=4))


def joined() -> Network:
    """Two branches that a concatenation joins, and a convolution behind it, as in Inception."""
    net = Builder(3, 8, 8)
    stem = net.op("stem.relu", "relu", net.conv("stem", "x", (3, 8)))
    left = net.op("left.relu", "relu", net.conv("left", stem, (8, 6)))
    right = net.op("right.relu", "relu", net.conv("right", stem, (8, 4), kernel=1))
    both = net.op("concat", "concat", left, right, stem, dim=1)
    return net.network(net.head(net.conv("behind", both, (18, 8)), 8))


def optimised(content: bytes, folder: Path) -> list[str]:
    """Return the operators that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_convolutions_around_a_concatenation_run_on_integers(tmp_path: Path) -> None:
    compressed = compress(joined(), 8, 8)

    operators = optimised(onnx_bytes(compressed), tmp_path)

    assert operators.count("QLinearConv") == 4
    assert operators.count("QLinearConcat") == 1
    assert "Conv" not in operators
    assert "Concat" not in operators


@pytest.mark.parametrize("bits", [(8, 8), (4, 4)])
@pytest.mark.parametrize("activation_type", ["unsigned", "signed"])
def test_rounding_before_and_behind_a_concatenation_are_the_same(bits: tuple[int, int], activation_type: str) -> None:
    compressed = compress(joined(), *bits, activation_type=activation_type)
    x = images(compressed.network, 8, seed=4)

    (found,) = run_onnx(onnx_bytes(compressed), x)

    (wanted,) = run_torch(compressed, x)
    assert (found - wanted).abs().mean() < 0.02 * wanted.abs().mean()


@pytest.mark.parametrize(("function_inputs", "integer"), [("fused", 1), ("stored", 2)])
def test_a_convolution_before_hard_swish_runs_on_integers_where_its_result_is_stored(
    function_inputs: str, integer: int, tmp_path: Path
) -> None:
    net = Builder(3, 8, 8)
    value = net.op("swish", "hard_swish", net.conv("first", "x", (3, 4)))
    network = net.network(net.head(net.conv("second", value, (4, 4)), 4))
    compressed = compress(network, 8, 8, function_inputs=function_inputs)
    x = images(network, 5, seed=3)
    content = onnx_bytes(compressed)

    operators = optimised(content, tmp_path)

    assert operators.count("QLinearConv") == integer
    (found,), (wanted,) = run_onnx(content, x), run_torch(compressed, x)
    assert (found - wanted).abs().mean() < 0.02 * wanted.abs().mean()
