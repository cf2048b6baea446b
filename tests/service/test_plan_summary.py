from typing import Any

import pytest

from compress.plan import LayerBits, OperatorChoice, Plan
from service.plan_summary import summarize

DESCRIPTION: dict[str, Any] = {
    "layers": [{"name": "a", "parameters": 300}, {"name": "b", "parameters": 100}],
    "groups": {"groups": [{"name": "g", "channels": 12}, {"name": "h", "channels": 4}], "unprunable": {}},
}


def plan(**parts: Any) -> dict[str, Any]:
    return Plan(**parts).to_json()


def test_bits_are_weighted_by_the_weights_of_the_layers() -> None:
    layers = {"a": LayerBits(weight_bits=2, activation_bits=4), "b": LayerBits(weight_bits=6, activation_bits=8)}

    summary = summarize(plan(layers=layers), DESCRIPTION)

    assert summary.weight_bits == pytest.approx((2 * 300 + 6 * 100) / 400)
    assert summary.activation_bits == pytest.approx((4 + 8) / 2)
    assert summary.kind == "bits"


def test_without_a_description_every_layer_counts_the_same() -> None:
    layers = {"a": LayerBits(weight_bits=2, activation_bits=8), "b": LayerBits(weight_bits=6, activation_bits=8)}

    assert summarize(plan(layers=layers)).weight_bits == pytest.approx(4)


def test_groups_that_the_plan_leaves_alone_keep_all_their_channels() -> None:
    summary = summarize(plan(keep_ratios={"g": 0.5}), DESCRIPTION)

    assert summary.channels_kept == pytest.approx((0.5 * 12 + 1.0 * 4) / 16)
    assert summary.kind == "channels"


def test_uniform_eight_bits_use_no_dimension() -> None:
    layers = {"a": LayerBits(weight_bits=8, activation_bits=8)}

    summary = summarize(plan(layers=layers, operators={"x": OperatorChoice()}), DESCRIPTION)

    assert summary.dimensions == ()
    assert summary.kind == "8 bit"
    assert summary.operators_text == "none"


def test_a_joint_plan_names_all_three_dimensions() -> None:
    summary = summarize(
        plan(
            layers={"a": LayerBits(weight_bits=4, activation_bits=8)},
            keep_ratios={"h": 0.75},
            operators={"block2": OperatorChoice(operator="skip"), "block1": OperatorChoice(operator="low_rank")},
        ),
        DESCRIPTION,
    )

    assert summary.kind == "bits + channels + operator"
    assert summary.operators == (("block1", "low_rank"), ("block2", "skip"))
    assert summary.operators_text == "1 × low_rank, 1 × skip"


def test_an_empty_plan_is_the_float_network() -> None:
    summary = summarize(plan(), DESCRIPTION)

    assert summary.weight_bits is None
    assert summary.channels_kept == 1.0
