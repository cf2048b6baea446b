import pytest
import torch

from compress.network.graph import Network
from compress.plan import LayerBits, Numerics, Plan
from compress.weights import WeightFormat, assign_formats, encode, with_gain
from hwmodels.errors import InputError, UnknownNameError
from tests.compress.networks import Builder, chain, grouped


def plan(**layers: tuple[int, int]) -> Plan:
    return Plan(layers={name: LayerBits(weight_bits=bits[0], activation_bits=bits[1]) for name, bits in layers.items()})


def two_users_of_one_weight() -> Network:
    net = Builder(4, 5, 5)
    first = net.conv("conv1", "x", (4, 4), bias=False)
    second = net.conv("conv2", first, (4, 4), bias=False)
    shared = net.nodes[1].parameters
    net.nodes[1] = type(net.nodes[1])(
        name="conv2",
        op="conv",
        inputs=net.nodes[1].inputs,
        outputs=net.nodes[1].outputs,
        attributes=net.nodes[1].attributes,
        parameters={"weight": "conv1.weight"},
    )
    del net.tensors[shared["weight"]]
    return net.network(second)


def test_layers_of_the_plan_get_a_format_and_others_stay_float() -> None:
    assignment = assign_formats(chain(), plan(conv1=(4, 8)))

    assert {name: format.bits for name, format in assignment.formats.items()} == {"conv1.weight": 4}
    assert assignment.activation_bits == {"conv1": 8}
    assert assignment.float_layers == {}


def test_layers_that_an_operator_removed_are_passed_over() -> None:
    assert assign_formats(chain(), plan(gone=(4, 8))).formats == {}


def test_thirty_two_bits_are_float() -> None:
    assert assign_formats(chain(), plan(conv1=(32, 32))).formats == {}


def test_a_layer_without_weights_is_named_with_the_reason() -> None:
    assignment = assign_formats(chain(), plan(relu1=(4, 8)))

    assert assignment.float_layers == {"relu1": "relu has no weight to quantize"}


@pytest.mark.parametrize(("bits", "field"), [((9, 8), "weight_bits"), ((0, 8), "weight_bits"), ((4, 1), "activation")])
def test_widths_that_do_not_exist_are_refused(bits: tuple[int, int], field: str) -> None:
    with pytest.raises(InputError, match=rf"layers\.conv1\.{field}"):
        assign_formats(chain(), plan(conv1=bits))


def test_a_width_of_other_values_that_no_grid_has_is_refused() -> None:
    with pytest.raises(InputError, match=r"numerics\.other_bits: must be in 2\.\.8, got 16"):
        assign_formats(chain(), Plan(numerics=Numerics(other_bits=16)))


def test_an_unknown_quantizer_is_answered_with_the_known_ones() -> None:
    wrong = Plan(layers={"conv1": LayerBits(weight_bits=4, activation_bits=8, quantizer="magic")})

    with pytest.raises(UnknownNameError, match="uniform"):
        assign_formats(chain(), wrong)


def test_a_shared_weight_is_stored_once_if_its_users_agree() -> None:
    assignment = assign_formats(two_users_of_one_weight(), plan(conv1=(4, 8), conv2=(4, 4)))

    assert set(assignment.network.tensors) == {"conv1.weight"}
    assert set(assignment.formats) == {"conv1.weight"}


def test_a_shared_weight_is_stored_for_each_user_if_they_differ() -> None:
    assignment = assign_formats(two_users_of_one_weight(), plan(conv1=(4, 8)))

    assert assignment.network.graph.node("conv1").parameters["weight"] == "conv1.weight@conv1"
    assert assignment.network.graph.node("conv2").parameters["weight"] == "conv1.weight"
    assert set(assignment.formats) == {"conv1.weight@conv1"}
    assert set(assignment.network.tensors) == {"conv1.weight@conv1", "conv1.weight"}


def test_a_transposed_convolution_has_its_scales_along_its_outputs() -> None:
    network = grouped()  # "up" maps 12 to 8 channels in 2 groups: weight (12, 4, 3, 3)
    assignment = assign_formats(network, plan(up=(8, 8)))

    coded = encode(network.tensors["up.weight"], assignment.formats["up.weight"], Numerics())

    assert coded.codes.parameters["scale"].shape == (4,)
    assert coded.decode(Numerics()).shape == (12, 4, 3, 3)
    torch.testing.assert_close(coded.decode(Numerics()), network.tensors["up.weight"], atol=0.01, rtol=0)


@pytest.mark.parametrize("scale_format", ["float32", "power_of_two"])
def test_a_gain_goes_into_the_scales_where_they_can_hold_it(scale_format: str) -> None:
    numerics = Numerics(scale_format=scale_format)
    weight = chain().tensors["conv1.weight"]
    coded = encode(weight, assign_formats(chain(), plan(conv1=(8, 8))).formats["conv1.weight"], numerics)
    gain = torch.linspace(0.5, 2, 8)

    scaled = with_gain(coded, gain, numerics)

    wanted = coded.decode(numerics) * gain.reshape(-1, 1, 1, 1)
    if scale_format == "float32":
        assert torch.equal(scaled.codes.values, coded.codes.values)
        torch.testing.assert_close(scaled.decode(numerics), wanted)
    else:
        assert (torch.log2(scaled.codes.parameters["scale"]) % 1 == 0).all()
        torch.testing.assert_close(scaled.decode(numerics), wanted, atol=0.05, rtol=0.05)


def test_a_layout_is_worked_out_once_for_equal_weights_and_apart_for_others() -> None:
    format = WeightFormat(quantizer="uniform", bits=3)
    per_channel, per_tensor = Numerics(), Numerics(weight_granularity="tensor")

    layout = format.layout((4, 2, 3, 3), per_channel)

    assert (layout.codes, layout.bits, layout.parameter_count) == (72, 3, 4)
    assert format.layout((4, 2, 3, 3), Numerics()) is layout
    assert format.layout((4, 2, 3, 3), per_tensor).parameter_count == 1
    assert WeightFormat(quantizer="uniform", bits=5).layout((4, 2, 3, 3), per_channel).bits == 5
    # A transposed convolution's channels are its second dimension.
    assert WeightFormat(quantizer="uniform", bits=3, axis=1).layout((4, 2, 3, 3), per_channel).parameter_count == 2
