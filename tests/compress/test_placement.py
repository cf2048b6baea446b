import pytest
import torch

from compress.calibration import ActivationGrid
from compress.network.graph import Graph, Network
from compress.network.ops import run_node
from compress.placement import PASSING_OPS, QuantizePoint, insert, place, quantizers, without_idle_rectifiers
from compress.rewrites import fold_batch_norm
from compress.runner import run
from hwmodels.errors import UnknownNameError
from tests.compress.networks import NETWORKS, Builder, images, residual

GRID = ActivationGrid(scale=0.5, zero_point=0, low=0, high=15)


def layers(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if node.op in ("conv", "conv_transpose", "linear")]


def points_of(network: Network, bits: int = 4, other_bits: int = 8) -> dict[tuple[str, int], list[str]]:
    placed = place(network.graph, dict.fromkeys(layers(network.graph), bits), other_bits)
    return {(point.value, point.bits): [reader for reader, _ in point.readers] for point in placed}


def test_a_residual_network_is_quantized_before_layers_and_additions() -> None:
    network = fold_batch_norm(residual())

    points = points_of(network)

    assert points["x", 4] == ["stem.conv"]
    assert points["stem.relu", 4] == ["a.conv1"]  # behind the activation, not between convolution and activation
    assert points["stem.relu", 8] == ["a.add"]
    assert points["a.relu1", 4] == ["a.conv2"]
    assert points["a.bn2", 8] == ["a.add"]  # the folded layer writes what the batch norm wrote
    assert points["a.relu2", 8] == ["b.rows"]  # slices and zero padding pass values on: quantized once, before them
    assert points["b.relu2", 8] == ["pool"]
    assert points["pool", 4] == ["flatten"]
    assert not {value for value, _ in points} & {"stem.bn", "a.bn1", "a.add", "b.rows", "b.columns", "b.pad", "head"}


def test_readers_of_equal_width_share_a_quantizer() -> None:
    network = fold_batch_norm(residual())

    points = points_of(network, bits=8)

    assert sorted(points["stem.relu", 8]) == ["a.add", "a.conv1"]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_value_is_quantized_twice_on_its_way_to_a_reader(name: str) -> None:
    network = fold_batch_norm(NETWORKS[name]())
    placed = place(network.graph, dict.fromkeys(layers(network.graph), 4), 8)

    graph = insert(network.graph, placed, dict.fromkeys(placed, GRID))

    on_grid: set[str] = set()
    for node in graph.nodes:
        if node.op == "quantize":
            assert node.inputs[0] not in on_grid
        if node.op == "quantize" or (node.op in PASSING_OPS and node.inputs[0] in on_grid):
            on_grid.update(node.outputs)
    assert set(quantizers(graph)) == on_grid


@pytest.mark.parametrize("name", NETWORKS)
def test_every_quantized_layer_reads_a_quantized_value_and_outputs_stay_float(name: str) -> None:
    network = fold_batch_norm(NETWORKS[name]())
    placed = place(network.graph, dict.fromkeys(layers(network.graph), 4), 8)

    graph = insert(network.graph, placed, dict.fromkeys(placed, GRID))

    on_grid = quantizers(graph)
    assert all(node.inputs[0] in on_grid for node in graph.nodes if node.name in layers(network.graph))
    assert not set(graph.outputs) & set(on_grid)
    assert set(graph.shapes) == {*graph.inputs, *(value for node in graph.nodes for value in node.outputs)}


def test_a_network_without_quantized_layers_has_no_quantizers() -> None:
    assert place(fold_batch_norm(residual()).graph, {}, 8) == ()


def test_float_activations_leave_a_layers_input_alone() -> None:
    net = Builder(3, 4, 4)
    network = net.network(net.conv("conv2", net.conv("conv1", "x", (3, 4)), (4, 4)))

    placed = place(network.graph, {"conv1": 32, "conv2": 4}, 8)

    assert placed == (QuantizePoint(value="conv1", bits=4, readers=(("conv2", 0),)),)


def test_padding_with_ones_is_not_passed_over() -> None:
    net = Builder(3, 4, 4)
    padded = net.op("pad", "pad", net.conv("conv1", "x", (3, 4)), padding=(1, 1, 1, 1), value=1.0)
    network = net.network(net.conv("conv2", padded, (4, 4)))

    assert ("pad", 4) in points_of(network)


def test_widths_that_differ_behind_a_maximum_stay_behind_it() -> None:
    net = Builder(3, 4, 4)
    two: tuple[int, ...] = (2, 2)
    first = net.conv("conv1", "x", (3, 4))
    pooled = net.op("pool", "max_pool", first, kernel=two, stride=two, padding=(0, 0), dilation=(1, 1), ceil_mode=False)
    network = net.network(net.conv("conv2", pooled, (4, 4)), net.conv("conv3", pooled, (4, 4)))

    placed = place(network.graph, {"conv2": 4, "conv3": 8}, 8)

    assert [(point.value, point.bits) for point in placed] == [("pool", 4), ("pool", 8)]


def test_inserted_quantizers_round_to_their_grid() -> None:
    network = fold_batch_norm(residual())
    point = QuantizePoint(value="x", bits=4, readers=(("stem.conv", 0),))

    graph = insert(network.graph, (point,), {point: GRID})

    quantizer = graph.node("x/quantize4")
    values = run_node(quantizer, {"x": images(network)}, {})["x/quantize4"]
    assert torch.equal(values, (images(network) / 0.5).round().clamp(0, 15) * 0.5)
    assert graph.node("stem.conv").inputs == ("x/quantize4",)


@pytest.mark.parametrize("zero_point", [0, 3])
def test_a_rectifier_goes_if_its_quantizer_clips_at_zero_anyway(zero_point: int) -> None:
    net = Builder(3, 4, 4)
    rectified = net.op("relu", "relu", net.conv("conv1", "x", (3, 4)))
    network = net.network(net.conv("conv2", rectified, (4, 4)))
    (point,) = place(network.graph, {"conv2": 4}, 8)
    grid = ActivationGrid(scale=0.1, zero_point=zero_point, low=0, high=15)
    graph = insert(network.graph, (point,), {point: grid})

    lean = without_idle_rectifiers(graph)

    assert [node.name for node in lean.nodes if node.op == "relu"] == ([] if zero_point == 0 else ["relu"])
    x = images(network)
    assert torch.equal(*(run(Network(graph=each, tensors=network.tensors), x)[0] for each in (graph, lean)))


@pytest.mark.parametrize(("scale", "goes"), [(0.4, True), (0.5, False)])  # 15 steps: up to 6.0, up to 7.5
def test_a_limit_at_six_goes_if_its_quantizer_reaches_no_farther(scale: float, goes: bool) -> None:
    net = Builder(3, 4, 4)
    limited = net.op("relu6", "clip", net.conv("conv1", "x", (3, 4)), min=0.0, max=6.0)
    network = net.network(net.conv("conv2", limited, (4, 4)))
    (point,) = place(network.graph, {"conv2": 4}, 8)
    grid = ActivationGrid(scale=scale, zero_point=0, low=0, high=15)

    lean = without_idle_rectifiers(insert(network.graph, (point,), {point: grid}))

    assert any(node.op == "clip" for node in lean.nodes) != goes


def test_a_concatenation_reads_what_is_stored_anyway_as_it_is_stored() -> None:
    net = Builder(3, 8, 8)
    primary = net.conv("primary", "x", (3, 4))
    cheap = net.conv("cheap", primary, (4, 4))
    network = net.network(net.head(net.conv("behind", net.op("both", "concat", primary, cheap, dim=1), (8, 4)), 4))

    points = points_of(network, bits=8)

    assert sorted(points["primary", 8]) == ["both", "cheap"]
    assert points["both", 8] == ["behind"]
    assert ("cheap", 8) not in points  # rounded once, behind the concatenation


def test_a_concatenation_does_not_read_fewer_bits_than_are_read_of_it() -> None:
    net = Builder(3, 8, 8)
    primary = net.conv("primary", "x", (3, 4))
    cheap = net.conv("cheap", primary, (4, 4))
    network = net.network(net.head(net.conv("behind", net.op("both", "concat", primary, cheap, dim=1), (8, 4)), 4))

    points = place(network.graph, {"primary": 8, "cheap": 4, "behind": 8, "head": 8}, 8)

    (stored,) = (point for point in points if point.value == "primary")
    assert stored.readers == (("cheap", 0),)


def swish() -> Network:
    net = Builder(3, 8, 8)
    value = net.op("swish", "hard_swish", net.conv("first", "x", (3, 4)))
    return net.network(net.head(net.op("relu", "relu", net.conv("second", value, (4, 4))), 4))


def test_a_fused_hard_swish_reads_what_no_quantizer_has_touched() -> None:
    network = swish()

    values = {point.value for point in place(network.graph, dict.fromkeys(layers(network.graph), 8), 8)}

    assert "swish" in values
    assert "first" not in values


def test_a_hard_swish_of_its_own_reads_a_stored_value_and_a_rectifier_does_not() -> None:
    network = swish()

    points = place(network.graph, dict.fromkeys(layers(network.graph), 4), 8, "stored")

    (stored,) = (point for point in points if point.value == "first")
    assert (stored.bits, stored.readers) == (8, (("swish", 0),))
    assert "second" not in {point.value for point in points}


def test_an_unknown_way_of_feeding_functions_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"numerics\.function_inputs: must be one of fused, stored"):
        place(swish().graph, {}, 8, "apart")
