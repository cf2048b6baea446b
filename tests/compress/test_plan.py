from typing import Any

import pytest

from compress.plan import LayerBits, Numerics, OperatorChoice, Plan

PLAN = Plan(
    operators={"unit": OperatorChoice(operator="low_rank", parameters={"rank_ratio": 0.5})},
    keep_ratios={"conv1": 0.75, "conv2": 1},
    layers={"conv1": LayerBits(weight_bits=3, activation_bits=6)},
    numerics=Numerics(other_bits=6),
)


def test_a_plan_comes_back_from_its_json() -> None:
    again = Plan.from_json(PLAN.to_json())

    assert again == PLAN
    assert again.digest() == PLAN.digest()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("layers", "conv1", "weight_bits"), "3"),
        (("layers", "conv1", "weight_bits"), True),
        (("layers", "conv1", "activation_bits"), 6.0),
        (("layers", "conv1", "quantizer"), ["uniform"]),
        (("numerics", "weight_range"), ["mse"]),
        (("numerics", "other_bits"), None),
        (("keep_ratios", "conv1"), "half"),
        (("operators", "unit", "operator"), {}),
        (("operators", "unit", "parameters"), []),
        (("operators", "unit", "parameters", "rank_ratio"), [0.5]),
        (("pruner",), 1),
        (("repair",), None),
    ],
)
def test_a_value_of_another_type_is_named(path: tuple[str, ...], value: object) -> None:
    data: Any = PLAN.to_json()
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    with pytest.raises(TypeError, match=path[-1] if path[0] != "keep_ratios" else "keep_ratios"):
        Plan.from_json(data)


def test_an_operator_with_several_layers_takes_the_bits_of_the_layer_that_it_replaces() -> None:
    assert PLAN.bits("conv1/reduce") == PLAN.layers["conv1"]
    assert PLAN.bits("conv2/reduce") is None
