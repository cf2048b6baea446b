import pytest
import torch

from compress.apply import apply, float_weights, prepare
from compress.export import onnx_bytes
from compress.finetune.methods import METHODS
from compress.finetune.network import TrainableNetwork
from compress.network.graph import Graph, Network, Node
from compress.operands import matched_quantizers
from compress.placement import LAYER_OPS, quantizers
from compress.plan import LayerBits, Numerics, Plan
from compress.runner import run
from compress.structure import analyse
from hwmodels.errors import UnknownNameError
from tests.compress.networks import Builder, chain, images, residual

MATCHED = Numerics(operand_scales="matched")


def plan_of(network: Network, numerics: Numerics) -> Plan:
    bits = LayerBits(weight_bits=8, activation_bits=8)
    layers = {node.name: bits for node in network.graph.nodes if node.op in LAYER_OPS}
    return Plan(layers=layers, numerics=numerics)


def operands(graph: Graph, op: str = "add") -> list[list[Node]]:
    grids = quantizers(graph)
    return [[grids[value] for value in node.inputs] for node in graph.nodes if node.op == op]


def summed_twice() -> Network:
    """The stem's value is an operand of two additions, of the second one behind a maximum."""
    net = Builder(3, 8, 8)
    stem = net.conv("stem", "x", (3, 4))
    first = net.op("first", "add", stem, net.conv("a", stem, (4, 4)))
    pooled = net.op(
        "halved", "max_pool", stem, kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1), ceil_mode=False
    )
    second = net.op("second", "add", pooled, net.conv("b", first, (4, 4), stride=2))
    return net.network(net.head(second, 4))


@pytest.mark.parametrize("numerics", [MATCHED, Numerics(operand_scales="matched", scale_format="power_of_two")])
def test_both_operands_of_an_addition_have_the_same_grid(numerics: Numerics) -> None:
    network = residual()
    prepared = prepare(network, images(network, 16), structure=analyse(network))

    compressed = apply(prepared, plan_of(network, numerics))

    pairs = operands(compressed.network.graph)
    assert pairs
    assert all(left.attributes == right.attributes for left, right in pairs)
    alone = operands(apply(prepared, plan_of(network, Numerics())).network.graph)
    assert any(left.attributes != right.attributes for left, right in alone)


def test_the_common_grid_reaches_as_far_as_each_operands_own() -> None:
    network = residual()
    prepared = prepare(network, images(network, 16), structure=analyse(network))

    (matched, _), *_ = operands(apply(prepared, plan_of(network, MATCHED)).network.graph)

    def ends(node: Node) -> tuple[float, float]:
        scale, zero_point, low, high = (float(node.attributes[key]) for key in ("scale", "zero_point", "low", "high"))  # type: ignore[arg-type]
        return (low - zero_point) * scale, (high - zero_point) * scale

    step = float(matched.attributes["scale"])  # type: ignore[arg-type]
    for own in operands(apply(prepared, plan_of(network, Numerics())).network.graph)[0]:
        assert ends(matched)[0] <= ends(own)[0] + step  # rounding the zero point moves the ends by half a step
        assert ends(matched)[1] >= ends(own)[1] - step


def test_a_value_that_two_additions_read_ties_all_operands_together() -> None:
    network = summed_twice()
    compressed = apply(prepare(network, images(network, 8), structure=analyse(network)), plan_of(network, MATCHED))

    (group,) = matched_quantizers(compressed.network.graph)

    assert set(group) == {"stem/quantize8", "a/quantize8", "b/quantize8"}
    grids = {node.name: node.attributes for node in compressed.network.graph.nodes if node.op == "quantize"}
    assert grids["stem/quantize8"] == grids["a/quantize8"] == grids["b/quantize8"]


def test_nothing_else_changes_where_no_values_are_added() -> None:
    network = chain()
    prepared = prepare(network, images(network, 8), structure=analyse(network))

    one, other = (apply(prepared, plan_of(network, numerics)) for numerics in (Numerics(), MATCHED))

    (left,), (right,) = (run(found.network, images(network, 4)) for found in (one, other))
    assert torch.equal(left, right)


def test_the_result_is_the_same_with_and_without_the_cache() -> None:
    network = residual()
    first = prepare(network, images(network, 16), structure=analyse(network))
    second = prepare(network, images(network, 16), structure=analyse(network))
    apply(second, plan_of(network, Numerics()))

    one, other = apply(first, plan_of(network, MATCHED)), apply(second, plan_of(network, MATCHED))

    assert one.network.graph == other.network.graph
    assert onnx_bytes(one) == onnx_bytes(other)


def test_matched_scales_still_match_after_they_were_trained() -> None:
    network = residual()
    prepared = prepare(network, images(network, 16), structure=analyse(network))
    plan = plan_of(network, MATCHED)
    student = TrainableNetwork(apply(prepared, plan), float_weights(prepared, plan), METHODS.get("lsq")())
    with torch.no_grad():
        for number, parameter in enumerate(student.grid_parameters()):
            parameter.mul_(1 + number / 100)

    pairs = operands(student.compressed().network.graph)

    assert all(left.attributes == right.attributes for left, right in pairs)
    assert len({str(left.attributes) for left, _ in pairs}) == len(pairs)


def test_an_unknown_way_is_answered_with_the_known_ones() -> None:
    network = residual()
    prepared = prepare(network, images(network, 8), structure=analyse(network))

    with pytest.raises(UnknownNameError, match=r"numerics\.operand_scales: must be one of separate, matched"):
        apply(prepared, plan_of(network, Numerics(operand_scales="same")))
