import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.network.graph import Network
from compress.plan import LayerBits, Numerics, OperatorChoice, Plan
from compress.structure import Structure, analyse, restructure
from compress.workload import workload
from hwmodels.errors import InputError
from hwmodels.workload import Arithmetic, Kernel, KernelKind, Workload
from tests.compress.networks import NETWORKS, attentive, dense, grouped, inverted, residual, sliced

_NETWORK = residual()
_STRUCTURE = analyse(_NETWORK)
_META = _NETWORK.to_meta()


def _of(network: Network, plan: Plan, structure: Structure | None = None) -> Workload:
    structure = structure or analyse(network)
    return workload(restructure(network.to_meta(), plan, structure=structure), plan)


def _kernels(load: Workload) -> dict[str, Kernel]:
    return {kernel.name: kernel for kernel in load.kernels}


def test_macs_and_weights_are_those_of_hand_arithmetic() -> None:
    kernels = _kernels(_of(residual(), Plan()))

    # out channels × in channels × 9 taps × out pixels; the image is 8×8, halved by b.conv1
    assert {name: kernel.macs for name, kernel in kernels.items() if kernel.macs} == {
        "stem.conv": 4 * 3 * 9 * 64,
        "a.conv1": 6 * 4 * 9 * 64,
        "a.conv2": 4 * 6 * 9 * 64,
        "b.conv1": 8 * 4 * 9 * 16,
        "b.conv2": 8 * 8 * 9 * 16,
        "head": 8 * 3,
    }
    assert (kernels["b.conv1"].weights, kernels["b.conv1"].biases) == (8 * 4 * 9, 8)
    assert (kernels["b.conv1"].kernel, kernels["b.conv1"].stride) == ((3, 3), (2, 2))
    assert (kernels["b.conv1"].in_channels, kernels["b.conv1"].out_channels) == (4, 8)


def test_followers_are_fused_views_vanish_and_slices_in_a_row_are_one_kernel() -> None:
    load = _of(residual(), Plan())

    assert [(kernel.name, kernel.fused) for kernel in load.kernels] == [
        ("stem.conv", ("stem.relu",)),
        ("a.conv1", ("a.relu1",)),
        ("a.conv2", ()),
        ("a.add", ("a.relu2",)),
        ("b.conv1", ("b.relu1",)),
        ("b.conv2", ()),
        ("b.rows", ("b.columns",)),
        ("b.pad", ()),
        ("b.add", ("b.relu2",)),
        ("pool", ()),
        ("head", ()),
    ]
    assert _kernels(load)["head"].inputs == ("pool",)


def test_a_value_with_two_readers_is_not_fused_away() -> None:
    load = _of(dense(), Plan())

    assert _kernels(load)["conv1"].fused == ()  # concatenated and normalised
    assert _kernels(load)["bn1"].fused == ("relu1",)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_is_written_before_it_is_read(name: str) -> None:
    load = _of(NETWORKS[name](), Plan())

    known = set(load.inputs)
    for kernel in load.kernels:
        assert known.issuperset(kernel.inputs)
        known.update(kernel.outputs)
    assert known.issuperset(load.outputs)
    assert known == set(load.tensors)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_all_parameters_of_the_network(name: str) -> None:
    network = NETWORKS[name]()

    load = _of(network, Plan())

    folded = restructure(network, Plan(), structure=analyse(network))
    assert sum(k.weights + k.biases for k in load.kernels) == sum(t.numel() for t in folded.tensors.values())


def test_grouped_and_depthwise_convolutions_count_the_channels_that_meet() -> None:
    kernels = _kernels(_of(grouped(), Plan()))
    assert kernels["conv2"].macs == 12 * (8 // 4) * 9 * 25
    assert (kernels["conv2"].kind, kernels["conv2"].groups) == (KernelKind.CONV, 4)
    assert kernels["up"].macs == 12 * (8 // 2) * 9 * 25  # every input pixel meets every tap

    kernels = _kernels(_of(inverted(), Plan()))
    assert (kernels["depthwise"].kind, kernels["depthwise"].macs) == (KernelKind.DEPTHWISE, 16 * 9 * 36)
    assert kernels["expand"].kind is KernelKind.POINTWISE


def test_products_of_activations_count_and_constants_are_weights() -> None:
    # two heads, four positions, four features per head
    assert _kernels(_of(attentive(), Plan()))["scores"].macs == 2 * 4 * 4 * 4
    scale = _kernels(_of(sliced(), Plan()))["scale"]
    assert (scale.weights, scale.inputs) == (6, ("add",))


def _bits(weight: int, activation: int, *layers: str) -> dict[str, LayerBits]:
    return {layer: LayerBits(weight_bits=weight, activation_bits=activation) for layer in layers}


_ALL = ("stem.conv", "a.conv1", "a.conv2", "b.conv1", "b.conv2", "head")


def test_without_bits_everything_is_float() -> None:
    load = _of(residual(), Plan())

    assert {(k.weight_bits, k.activation_bits, k.arithmetic) for k in load.kernels} == {(32, 32, Arithmetic.FLOAT)}
    assert {tensor.bits for tensor in load.tensors.values()} == {32}


def test_tensors_are_as_wide_as_their_readers_take_them() -> None:
    layers = {**_bits(4, 8, *_ALL), **_bits(2, 4, "a.conv2", "b.conv1", "b.conv2")}
    load = _of(residual(), Plan(layers=layers, numerics=Numerics(other_bits=8)))

    kernels, tensors = _kernels(load), load.tensors
    assert (kernels["a.conv2"].weight_bits, kernels["a.conv2"].activation_bits) == (2, 4)
    assert kernels["a.conv2"].arithmetic is Arithmetic.INTEGER
    assert tensors["x"].bits == 8
    assert tensors["a.relu1"].bits == 4  # read by a.conv2 alone
    assert tensors["stem.relu"].bits == 8  # read by a.conv1 at 8 bits and by the addition
    assert tensors["a.bn2"].bits == 8  # an operand of the addition
    assert tensors["a.relu2"].bits == 8  # b.conv1 takes 4 bits, the shortcut 8
    assert tensors["b.columns"].bits == tensors["b.pad"].bits == 8
    assert tensors["head"].bits == 32
    assert (kernels["a.add"].activation_bits, kernels["a.add"].arithmetic) == (8, Arithmetic.INTEGER)


def test_a_float_layer_keeps_what_it_reads_float() -> None:
    load = _of(residual(), Plan(layers=_bits(8, 8, *_ALL[:4], "head")))

    assert load.tensors["b.relu1"].bits == 32
    assert _kernels(load)["b.conv2"].arithmetic is Arithmetic.FLOAT


def test_weights_alone_on_a_grid_are_multiplied_as_float() -> None:
    kernel = _kernels(_of(residual(), Plan(layers=_bits(4, 32, *_ALL))))["a.conv1"]

    assert (kernel.weight_bits, kernel.activation_bits, kernel.arithmetic) == (4, 32, Arithmetic.FLOAT)


def test_layers_of_an_operator_take_the_bits_of_the_layer_in_whose_place_they_stand() -> None:
    operators = {"a": OperatorChoice(operator="low_rank")}
    layers = {**_bits(4, 8, *_ALL), **_bits(6, 8, "a.conv1/reduce")}

    kernels = _kernels(_of(residual(), Plan(operators=operators, layers=layers)))

    assert kernels["a.conv1/reduce"].weight_bits == 6
    assert kernels["a.conv1/expand"].weight_bits == 4
    # rank 3 of 6: 3 × 4 × 9 taps, then 6 × 3
    assert (kernels["a.conv1/reduce"].macs, kernels["a.conv1/expand"].macs) == (3 * 4 * 9 * 64, 6 * 3 * 64)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_more_channels_never_have_fewer_macs(data: st.DataObject) -> None:
    names = [group.name for group in _STRUCTURE.groups.groups]
    ratios = {name: data.draw(st.floats(0.05, 1.0)) for name in names}
    more = {name: data.draw(st.floats(ratio, 1.0)) for name, ratio in ratios.items()}

    small, large = (
        workload(restructure(_META, Plan(keep_ratios=chosen), structure=_STRUCTURE), Plan())
        for chosen in (ratios, more)
    )

    assert small.macs <= large.macs
    assert sum(k.weights for k in small.kernels) <= sum(k.weights for k in large.kernels)


def test_a_workload_survives_json() -> None:
    load = _of(residual(), Plan(layers=_bits(4, 8, *_ALL)))

    assert Workload.from_json(load.to_json()) == load


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(0, 8), (-1, 8), (9, 8), (4, 1), (4, 16)])
def test_widths_that_cannot_be_applied_have_no_price(weight_bits: int, activation_bits: int) -> None:
    with pytest.raises(InputError, match=r"layers\.a\.conv1\.(weight|activation)_bits"):
        _of(_NETWORK, Plan(layers=_bits(weight_bits, activation_bits, "a.conv1")), _STRUCTURE)


@pytest.mark.parametrize("other_bits", [0, 1, 16, 32, 100])
def test_other_values_have_widths_that_activations_have(other_bits: int) -> None:
    with pytest.raises(InputError, match=r"numerics\.other_bits"):
        _of(_NETWORK, Plan(numerics=Numerics(other_bits=other_bits)), _STRUCTURE)
