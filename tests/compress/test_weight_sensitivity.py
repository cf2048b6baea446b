import pytest

from compress.apply import Prepared, prepare
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.structure import analyse
from compress.weight_sensitivity import weight_sensitivity
from tests.compress import networks

NETWORK = networks.residual()


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(NETWORK, networks.images(NETWORK, 8), structure=analyse(NETWORK))


def plan(rounding: str = "nearest") -> Plan:
    layers = [node.name for node in NETWORK.graph.nodes if node.op in LAYER_OPS]
    bits = LayerBits(weight_bits=8, activation_bits=8)
    return Plan(layers=dict.fromkeys(layers, bits), numerics=Numerics(weight_rounding=rounding))


@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
def test_every_layer_moves_the_outputs_more_with_fewer_bits(prepared: Prepared, rounding: str) -> None:
    found = weight_sensitivity(prepared, plan(rounding), (2, 6))

    assert set(found) == set(plan().layers)
    assert all(row[2] > row[6] > 0 for row in found.values())


def test_the_width_that_a_layer_has_moves_nothing(prepared: Prepared) -> None:
    found = weight_sensitivity(prepared, plan(), (2, 8))

    assert all(row[8] < 1e-6 * row[2] for row in found.values())
