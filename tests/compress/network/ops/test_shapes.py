"""Shape rules against what torch computes: the rules are right where every size agrees."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.network.build import build_module, node_shapes, run_shapes
from compress.network.graph import Attribute, Graph, Network
from compress.network.ops import OPS, make_node, run_node
from compress.network.ops.shapes import ShapeError

WEIGHTLESS: list[tuple[str, list[tuple[int, ...]], dict[str, Attribute]]] = [
    ("add", [(1, 4, 3, 1), (4, 1, 5)], {}),
    ("matmul", [(2, 1, 5, 6), (3, 6, 7)], {}),
    ("softmax", [(2, 5)], {"dim": -1}),
    ("clip", [(1, 4)], {"min": 0.0, "max": 6.0}),
    ("gelu", [(1, 4)], {"approximate": "tanh"}),
    ("leaky_relu", [(1, 4)], {"slope": 0.1}),
    ("elu", [(1, 4)], {"alpha": 1.0}),
    ("hard_sigmoid", [(1, 4)], {"slope": 0.2, "offset": 0.5}),
    ("log_softmax", [(1, 4)], {"dim": 1}),
    ("amin", [(1, 4, 3)], {"dims": (1,)}),
    ("quantize", [(1, 4)], {"scale": 0.1, "zero_point": 3, "low": 0, "high": 255}),
    ("avg_pool", [(1, 4, 7, 7)], {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
    ("avg_pool", [(1, 4, 7)], {"kernel": (2,), "stride": (2,), "padding": (0,), "ceil_mode": True}),
    ("global_avg_pool", [(1, 4, 3, 5)], {}),
    ("global_max_pool", [(1, 4, 3)], {}),
    ("mean", [(1, 4, 3, 5)], {"dims": (1, -1), "keepdim": True}),
    ("sum", [(1, 4, 3, 5)], {"dims": (2,)}),
    ("amax", [(1, 4, 3, 5)], {"dims": (-1, -2)}),
    ("norm", [(1, 4, 3)], {"dims": (1,), "keepdim": True, "order": 2}),
    ("flatten", [(1, 4, 3, 5)], {"start_dim": 1, "end_dim": -2}),
    ("reshape", [(2, 6, 5)], {"shape": (0, 2, -1, 5)}),
    ("permute", [(1, 4, 3, 5)], {"dims": (0, 2, -1, 1)}),
    ("squeeze", [(1, 4, 1, 5)], {"dims": (2,)}),
    ("unsqueeze", [(1, 4)], {"dim": -1}),
    ("expand", [(1, 4, 1)], {"shape": (3, -1, -1, 5)}),
    ("repeat_batch", [(1, 4, 2), (3, 7)], {"dim": 0}),
    ("concat", [(1, 4, 2), (1, 3, 2)], {"dim": 1}),
    ("split", [(1, 6, 2)], {"dim": 1, "parts": 3}),
    ("split", [(1, 6, 2)], {"dim": 1, "sizes": (1, 2, 3), "parts": 3}),
    ("slice", [(1, 4, 9)], {"dim": 2, "start": 1, "end": -1, "step": 3}),
    ("select", [(1, 4, 9)], {"dim": 1, "index": -1}),
    ("pad", [(1, 4, 3, 5)], {"padding": (1, 2, 0, 3)}),
    ("pad", [(1, 4, 3, 5)], {"padding": (1, 2, 0, 1), "mode": "reflect"}),
    ("resize", [(1, 4, 3, 5)], {"scale": 2, "mode": "nearest"}),
    ("resize", [(1, 4, 3, 5)], {"scale": 2, "mode": "bilinear"}),
    ("pixel_shuffle", [(1, 8, 3, 5)], {"factor": 2}),
    ("pixel_unshuffle", [(1, 2, 6, 4)], {"factor": 2}),
]


@pytest.mark.parametrize(("op", "shapes", "attributes"), WEIGHTLESS)
def test_a_rule_gives_the_shapes_that_torch_computes(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Attribute]
) -> None:
    outputs = [f"out{index}" for index in range(3 if op == "split" else 1)]
    names = [f"in{index}" for index in range(len(shapes))]
    node = make_node("node", op, names, outputs, parameters=None, **attributes)
    values = {name: torch.rand(shape) for name, shape in zip(names, shapes, strict=True)}

    found = node_shapes(node, shapes, None)

    assert found == {name: tuple(value.shape) for name, value in run_node(node, values, {}).items()}


def test_every_operator_with_attributes_alone_is_in_a_table() -> None:
    with_attributes = {name for name, op in OPS.items() if op.attributes and not op.parameters}

    tested = {op for op, _, attributes in WEIGHTLESS if attributes}
    assert with_attributes == tested | {"max_pool"}  # that one is in the window arithmetic below


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if not op.attributes and op.inputs == (1, 1)])
def test_functions_of_one_value_keep_its_shape(name: str) -> None:
    if OPS[name].parameters or name.startswith("global"):
        pytest.skip("has a weight, or pools")
    node = make_node("node", name, ["x"], ["y"])
    x = torch.rand(2, 3, 4)

    assert run_node(node, {"x": x}, {})["y"].shape == x.shape
    assert node_shapes(node, [(2, 3, 4)], None) == {"y": (2, 3, 4)}


@settings(max_examples=60, deadline=None)
@given(
    image=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    op=st.sampled_from(["conv", "conv_transpose", "max_pool", "max_pool_ceil"]),
)
@example(image=(2, 2), kernel=3, stride=2, padding=0, dilation=1, groups=1, op="max_pool_ceil")  # half a window
def test_window_arithmetic_is_torchs(
    image: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int, groups: int, op: str
) -> None:
    assume(not op.startswith("max") or 2 * padding <= kernel)
    pair: dict[str, Attribute] = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (dilation,) * 2}
    tensors: dict[str, Tensor] = {}
    parameters: dict[str, str] = {}
    if op.startswith("max"):
        pair |= {"kernel": (kernel,) * 2, "ceil_mode": op == "max_pool_ceil"}
    else:
        tensors = {"w": torch.rand(4, 4 // groups, kernel, kernel)}
        parameters = {"weight": "w"}
        pair |= {"groups": groups} | ({} if op == "conv" else {"output_padding": (0, 0)})
    node = make_node("node", op.removesuffix("_ceil"), ["x"], ["y"], parameters=parameters, **pair)
    weight = tuple(tensors["w"].shape) if tensors else None
    x = torch.rand(1, 4, *image)

    try:
        expected: tuple[int, ...] | None = tuple(run_node(node, {"x": x}, tensors)["y"].shape)
    except RuntimeError:
        expected = None  # torch refuses: the window does not fit

    if expected is None or 0 in expected:
        with pytest.raises(ShapeError):
            node_shapes(node, [tuple(x.shape)], weight)
    else:
        assert node_shapes(node, [tuple(x.shape)], weight) == {"y": expected}


REFUSED: list[tuple[str, Sequence[tuple[int, ...]], dict[str, Attribute]]] = [
    ("add", [(1, 4), (1, 3)], {}),
    ("reshape", [(1, 4)], {"shape": (0, 3)}),
    ("reshape", [(1, 4)], {"shape": (-1, -1)}),
    ("concat", [(1, 4), (1, 3, 2)], {"dim": 1}),
    ("permute", [(1, 4)], {"dims": (0, 0)}),
    ("squeeze", [(1, 4)], {"dims": (1,)}),
    ("split", [(1, 4)], {"dim": 1, "parts": 3}),
    ("slice", [(1, 4)], {"dim": 1, "start": 4}),
    ("select", [(1, 4)], {"dim": 1, "index": 4}),
    ("expand", [(1, 4)], {"shape": (1, 5)}),
    ("expand", [(1, 1)], {"shape": (2**30, 2**30)}),
    ("mean", [(1, 4)], {"dims": (5,)}),
    ("pad", [(1, 4)], {"padding": (-2, -2)}),
    ("pixel_shuffle", [(1, 3, 2, 2)], {"factor": 2}),
]


@pytest.mark.parametrize(("op", "shapes", "attributes"), REFUSED)
def test_shapes_that_do_not_fit_are_refused_by_node_name(
    op: str, shapes: Sequence[tuple[int, ...]], attributes: dict[str, Attribute]
) -> None:
    outputs = [f"out{index}" for index in range(3 if op == "split" else 1)]
    node = make_node("the node", op, [f"in{i}" for i in range(len(shapes))], outputs, parameters=None, **attributes)

    with pytest.raises(ShapeError, match="the node"):
        node_shapes(node, shapes, None)


WEIGHTED: list[tuple[str, tuple[int, ...], dict[str, tuple[int, ...]], dict[str, Attribute]]] = [
    (
        "conv",
        (1, 4, 6, 5),
        {"weight": (6, 2, 3, 3), "bias": (6,)},
        {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 2},
    ),
    ("conv", (1, 4, 6), {"weight": (6, 4, 3)}, {"stride": (1,), "padding": (0,), "dilation": (2,)}),
    (
        "conv_transpose",
        (1, 4, 3, 3),
        {"weight": (4, 5, 2, 2), "bias": (5,)},
        {"stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "output_padding": (1, 1)},
    ),
    ("linear", (1, 3, 4), {"weight": (5, 4), "bias": (5,)}, {}),
    (
        "batch_norm",
        (2, 4, 3, 3),
        {"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,)},
        {"eps": 1e-3},
    ),
    ("batch_norm", (2, 4), {"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,)}, {}),
    ("layer_norm", (2, 3, 4), {"weight": (3, 4), "bias": (3, 4)}, {}),
    ("group_norm", (2, 4, 3, 3), {"weight": (4,), "bias": (4,)}, {"groups": 2}),
    ("instance_norm", (2, 4, 3), {"weight": (4,), "bias": (4,)}, {}),
    ("prelu", (2, 4, 3), {"weight": (4,)}, {}),
]


@pytest.mark.parametrize(("op", "image", "parameters", "attributes"), WEIGHTED)
def test_module_function_and_rule_agree(
    op: str, image: tuple[int, ...], parameters: dict[str, tuple[int, ...]], attributes: dict[str, Attribute]
) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {role: torch.rand(shape, generator=generator) for role, shape in parameters.items()}
    node = make_node("n", op, ["x"], ["y"], parameters={role: role for role in parameters}, **attributes)
    shell = Graph(nodes=(node,), inputs=("x",), outputs=("y",), shapes={"x": (1, *image[1:])})
    network = Network(graph=shell, tensors=tensors)
    x = torch.rand(image, generator=generator)

    by_function = run_node(node, {"x": x}, tensors)["y"]
    by_module = build_module(network)(x)

    torch.testing.assert_close(by_module, by_function)
    assert run_shapes(network).shapes["y"] == (1, *by_function.shape[1:])


def test_operators_with_parameters_are_all_in_the_table() -> None:
    assert {op for op, *_ in WEIGHTED} == {name for name, op in OPS.items() if op.parameters}
