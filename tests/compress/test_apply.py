import pytest
import torch
from torch import Tensor

from compress.apply import Compressed, Prepared, apply, prepare
from compress.network.build import build_module
from compress.network.graph import Network, Node
from compress.placement import LAYER_OPS, scale_of
from compress.plan import LayerBits, Numerics, Plan
from compress.quantize import quantize
from compress.runner import run
from compress.structure import analyse
from compress.weights import accumulator_steps
from hwmodels.errors import UnknownNameError
from tests.compress.networks import NETWORKS, chain, images, residual


def uniform_plan(network: Network, weight_bits: int, activation_bits: int, **options: object) -> Plan:
    bits = LayerBits(weight_bits=weight_bits, activation_bits=activation_bits)
    layers = {node.name: bits for node in network.graph.nodes if node.op in LAYER_OPS}
    return Plan(layers=layers, **options)  # type: ignore[arg-type]


def prepared(network: Network, count: int = 32) -> Prepared:
    return prepare(network, images(network, count), structure=analyse(network))


@torch.no_grad()
def relative_error(network: Network, compressed: Compressed) -> float:
    x = images(network, 16, seed=7)
    wanted = build_module(network)(x)
    return float((build_module(compressed.network)(x) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", NETWORKS)
def test_eight_bits_hardly_change_the_output(name: str) -> None:
    network = NETWORKS[name]()

    compressed = apply(prepared(network), uniform_plan(network, 8, 8))

    assert 0 < relative_error(network, compressed) < 0.06
    assert compressed.float_layers == {}


@pytest.mark.parametrize("name", ["residual", "inverted", "attentive"])
def test_fewer_bits_cost_more(name: str) -> None:
    network = NETWORKS[name]()
    base = prepared(network)

    errors = [relative_error(network, apply(base, uniform_plan(network, bits, bits))) for bits in (8, 5, 2)]

    assert errors == sorted(errors)


def test_an_empty_plan_changes_nothing() -> None:
    network = residual()

    compressed = apply(prepared(network), Plan())

    assert compressed.coded == {}
    assert relative_error(network, compressed) < 1e-5


def test_equal_plans_give_equal_networks() -> None:
    network = residual()
    plan = uniform_plan(network, 3, 4, keep_ratios={analyse(network).groups.groups[0].name: 0.5})

    first, second = (apply(prepared(network), plan) for _ in range(2))

    assert first.network.graph == second.network.graph
    assert all(torch.equal(first.network.tensors[name], tensor) for name, tensor in second.network.tensors.items())


def test_repair_brings_every_layers_output_back_to_the_float_statistics() -> None:
    network = chain()
    base = prepared(network, 64)

    def worst_mean_shift(repair: str) -> float:
        compressed = apply(base, uniform_plan(network, 2, 8, repair=repair))
        shifts: list[float] = []

        def compare(name: str, node: Node | None, value: Tensor) -> Tensor:
            if name in base.statistics:
                axes = [axis for axis in range(value.ndim) if axis != 1]
                known = base.statistics[name]
                shifts.append(float(((value.mean(axes) - known.mean) / known.std).abs().max()))
            return value

        run(compressed.network, base.images, compare)
        return max(shifts)

    assert worst_mean_shift("channel_statistics") < 0.05 < worst_mean_shift("none")


def test_an_unknown_repair_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="none, bias_correction, channel_statistics"):
        apply(prepared(chain()), Plan(repair="magic"))


@pytest.mark.parametrize("name", ["residual", "inverted", "grouped", "flattened"])
@pytest.mark.parametrize("activation_type", ["unsigned", "signed"])
def test_simulated_layers_equal_integer_arithmetic(name: str, activation_type: str) -> None:
    """Codes times codes, summed exactly, plus the bias in steps, times the steps: the float simulation's output."""
    network = NETWORKS[name]()
    plan = uniform_plan(network, 4, 6, numerics=Numerics(activation_type=activation_type))
    compressed = apply(prepared(network), plan)
    final = compressed.network
    values: dict[str, Tensor] = {}

    def keep(name: str, node: Node | None, value: Tensor) -> Tensor:
        values[name] = value
        return value

    run(final, images(network, 4, seed=3), keep)

    checked = 0
    for node in final.graph.nodes:
        coded = compressed.coded.get(node.parameters.get("weight", ""))
        quantizer = final.graph.producer().get(node.inputs[0])
        if coded is None or quantizer is None or quantizer.op != "quantize":
            continue
        scale, zero_point = quantizer.attributes["scale"], quantizer.attributes["zero_point"]
        assert isinstance(scale, float)
        assert isinstance(zero_point, int)
        codes = torch.round(values[node.inputs[0]].double() / scale) + zero_point
        assert codes.min() >= quantizer.attributes["low"]  # type: ignore[operator]
        assert codes.max() <= quantizer.attributes["high"]  # type: ignore[operator]
        levels = coded.integers(plan.numerics)
        assert levels is not None
        summed = _layer(node, (codes - zero_point).long(), levels.values.long())
        steps = accumulator_steps(coded, scale, plan.numerics)
        assert steps is not None
        axis = -1 if node.op == "linear" else 1
        shape = [1] * summed.ndim
        shape[axis] = -1
        if len(steps) not in (1, summed.shape[axis]):
            continue  # groups of a transposed convolution share scales
        if "bias" in node.parameters:
            bias = torch.round(final.tensors[node.parameters["bias"]].double() / steps.double()).long()
            summed = summed + bias.reshape(shape)
        simulated = values[node.outputs[0]].double()
        exact = summed.double() * steps.double().reshape(shape)
        assert (simulated - exact).abs().max() < 0.01 * steps.max()
        checked += 1
    assert checked >= 1


def _layer(node: Node, x: Tensor, weight: Tensor) -> Tensor:
    """Compute a layer on integers: float64 holds sums of products of such small numbers exactly."""
    from compress.network.ops import OPS

    result = OPS[node.op].run(x.double(), weight=weight.double(), **node.attributes)
    assert isinstance(result, Tensor)
    return result.round().long()


def test_codes_stand_for_the_weights_that_run() -> None:
    network = residual()

    compressed = apply(prepared(network), uniform_plan(network, 3, 4))

    for name, coded in compressed.coded.items():
        assert torch.equal(coded.decode(compressed.plan.numerics), compressed.network.tensors[name])


def test_power_of_two_scales_are_powers_of_two_everywhere() -> None:
    network = residual()

    compressed = apply(prepared(network), uniform_plan(network, 4, 4, numerics=Numerics(scale_format="power_of_two")))

    for coded in compressed.coded.values():
        assert (torch.log2(coded.codes.parameters["scale"]) % 1 == 0).all()
    scales = [node.attributes["scale"] for node in compressed.network.graph.nodes if node.op == "quantize"]
    assert all(torch.log2(torch.tensor(scale)) % 1 == 0 for scale in scales)


def test_calibration_images_are_limited_by_the_largest_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    network = chain()  # the largest activation is 8 channels of 8×8: 512 values
    monkeypatch.setattr("compress.apply.CALIBRATION_VALUES", 512 * 5 + 100)

    assert len(prepare(network, images(network, 32), structure=analyse(network)).images) == 5


def test_a_quantizer_takes_its_range_from_what_it_will_read() -> None:
    network = chain()
    x = images(network, 8)

    compressed = quantize(network, uniform_plan(network, 8, 8, numerics=Numerics(activation_range="min_max")), x)

    node = compressed.network.graph.node("x/quantize8")
    assert node.attributes["scale"] == pytest.approx(float(x.max() - x.min()) / 255)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_module_that_overwrites_what_nobody_reads_any_more_computes_the_same(name: str) -> None:
    network = NETWORKS[name]()
    compressed = apply(prepared(network), uniform_plan(network, 4, 4))
    x = images(network, 3, seed=5)
    kept = x.clone()

    with torch.no_grad():
        found = build_module(compressed.network)(x)

    assert torch.equal(found, run(compressed.network, kept)[0])  # the runner gives every value memory of its own
    assert torch.equal(x, kept)


NUMERICS = [
    Numerics(weight_rounding="adaround"),
    Numerics(equalisation="cross_layer"),
    Numerics(weight_granularity="group"),
    Numerics(weight_symmetry="asymmetric"),
    Numerics(activation_range="kl"),
    Numerics(activation_source="float"),
]


@pytest.mark.parametrize("numerics", NUMERICS, ids=str)
@pytest.mark.parametrize("name", ["residual", "inverted"])
def test_every_option_gives_a_network_near_the_float_one_and_the_same_one_twice(name: str, numerics: Numerics) -> None:
    network = NETWORKS[name]()
    plan = uniform_plan(network, 6, 8, numerics=numerics)

    compressed, again = (apply(prepared(network), plan) for _ in range(2))

    assert 0 < relative_error(network, compressed) < 0.2
    assert all(torch.equal(tensor, again.network.tensors[key]) for key, tensor in compressed.network.tensors.items())


def test_correcting_biases_restores_means_and_changes_no_weight() -> None:
    network = residual()
    base = prepared(network)
    nothing = apply(base, uniform_plan(network, 3, 8, repair="none"))

    corrected = apply(base, uniform_plan(network, 3, 8, repair="bias_correction"))

    for name, coded in corrected.coded.items():
        assert torch.equal(coded.codes.parameters["scale"], nothing.coded[name].codes.parameters["scale"])
    (wanted,), (before,), (after,) = (run(each, base.images) for each in (network, nothing.network, corrected.network))
    assert (after.mean(0) - wanted.mean(0)).norm() < 0.2 * (before.mean(0) - wanted.mean(0)).norm()


def test_ranges_of_every_width_come_from_one_pass_over_the_float_network() -> None:
    network = residual()
    base = prepared(network)
    stored = dict(base.histograms())

    plans = [uniform_plan(network, 8, bits, numerics=Numerics(activation_source="float")) for bits in (2, 5, 8)]
    grids = [{node.name: scale_of(node) for node in grid_nodes(apply(base, plan))} for plan in plans]

    assert {name: id(each) for name, each in base.histograms().items()} == {
        name: id(each) for name, each in stored.items()
    }
    for plan, found in zip(plans, grids, strict=True):
        assert found == {node.name: scale_of(node) for node in grid_nodes(apply(prepared(network), plan))}
    assert grids[0]["x/quantize2"] > grids[1]["x/quantize5"] > grids[2]["x/quantize8"]


def grid_nodes(compressed: Compressed) -> list[Node]:
    return [node for node in compressed.network.graph.nodes if node.op == "quantize"]


@pytest.mark.parametrize("field", ["weight_rounding", "equalisation", "activation_source", "activation_range"])
def test_unknown_numerics_are_answered_with_the_known_ones(field: str) -> None:
    network = residual()
    numerics = Numerics(**{field: "magic"})  # type: ignore[arg-type]

    with pytest.raises(UnknownNameError, match=f"{field}.*must be one of"):
        apply(prepared(network), uniform_plan(network, 8, 8, numerics=numerics))
