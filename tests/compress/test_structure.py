import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import Structure, analyse, kept_channels, restructure, restructured
from hwmodels.errors import InputError, UnknownNameError
from tests.compress.networks import images, residual


@pytest.mark.parametrize(
    ("channels", "ratio", "alignment", "kept"),
    [
        (16, 1.0, 1, 16),
        (16, 0.75, 1, 12),
        (10, 0.75, 1, 8),  # 7.5 rounds up
        (10, 0.01, 1, 1),  # never none
        (20, 0.5, 8, 8),  # 10 / 8 = 1.25 multiples
        (24, 0.5, 8, 16),  # 12 / 8 = 1.5 multiples
        (64, 0.01, 8, 8),  # at least one multiple
        (6, 0.5, 8, 4),  # less than two multiples of 8, of 4, but three of 2: 3 / 2 = 1.5 multiples
        (16, 0.75, 16, 16),  # less than two multiples of 16, so by 8: 12 / 8 = 1.5 multiples
        (16, 0.5, 16, 8),
        (1, 0.5, 16, 1),
        (20, 1.0, 8, 20),  # nothing to cut, so nothing to align: 20 / 8 = 2.5 rounds to 24, at most 20
    ],
)
def test_keep_ratios_become_counts(channels: int, ratio: float, alignment: int, kept: int) -> None:
    assert kept_channels(channels, ratio, alignment=alignment) == kept


@given(st.integers(1, 512), st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.sampled_from([1, 2, 4, 8, 16]))
def test_a_higher_ratio_never_keeps_fewer(channels: int, one: float, other: float, alignment: int) -> None:
    low, high = sorted((one, other))

    assert kept_channels(channels, low, alignment=alignment) <= kept_channels(channels, high, alignment=alignment)


def test_the_empty_plan_changes_no_output() -> None:
    network = residual()

    same = restructure(network, Plan(), structure=analyse(network))

    torch.testing.assert_close(run(same, images(network))[0], run(network, images(network))[0], rtol=1e-5, atol=1e-5)


def test_channels_with_the_highest_scores_stay_in_order() -> None:
    network = residual()
    structure = analyse(network)
    scores = {group.name: torch.zeros(group.channels) for group in structure.groups.groups}
    scores["a.conv1"] = torch.tensor([5.0, 1.0, 4.0, 0.0, 2.0, 3.0])

    result = restructured(network, Plan(keep_ratios={"a.conv1": 0.5}), structure=structure, scores=scores)

    assert result.kept["a.conv1"].tolist() == [0, 2, 5]
    folded = structure.prepared(network).folded
    torch.testing.assert_close(
        result.network.tensors["a.conv2.weight"], folded.tensors["a.conv2.weight"][:, [0, 2, 5]], rtol=0, atol=0
    )


def test_a_structure_travels_as_json_and_as_pickle() -> None:
    network = residual()
    structure = analyse(network)
    structure.prepared(network)

    from_json = Structure.from_json(json.loads(json.dumps(structure.to_json())))
    from_pickle = pickle.loads(pickle.dumps(structure))

    assert from_json == from_pickle == structure
    assert len(pickle.dumps(structure)) < 20_000  # what it remembers (the folded network) stays behind
    plan = Plan(keep_ratios={"a.conv1": 0.5})
    assert (
        restructure(network, plan, structure=from_pickle).graph == restructure(network, plan, structure=structure).graph
    )


@pytest.mark.parametrize(
    ("plan", "field", "error"),
    [
        (Plan(operators={"c": OperatorChoice(operator="skip")}), "operators", UnknownNameError),
        (Plan(operators={"a": OperatorChoice(operator="melt")}), "operator", UnknownNameError),
        (Plan(keep_ratios={"b.conv9": 0.5}), "keep_ratios", UnknownNameError),
        (Plan(keep_ratios={"a.conv1": 0.0}), "keep_ratios.a.conv1", InputError),
        (
            Plan(operators={"a": OperatorChoice(operator="low_rank", parameters={"rank": 3})}),
            "operators.a.parameters",
            UnknownNameError,
        ),
        (
            Plan(operators={"a": OperatorChoice(operator="low_rank", parameters={"rank_ratio": 7.0})}),
            "operators.a.parameters.rank_ratio",
            InputError,
        ),
    ],
)
def test_a_plan_that_does_not_fit_the_network_names_field_and_rule(
    plan: Plan, field: str, error: type[InputError]
) -> None:
    network = residual()

    with pytest.raises(error) as caught:
        restructure(network, plan, structure=analyse(network))

    assert caught.value.field == field


def test_operators_and_channels_compose() -> None:
    network = residual()
    structure = analyse(network)
    plan = Plan(
        operators={"a": OperatorChoice(operator="low_rank"), "b": OperatorChoice(operator="skip")},
        keep_ratios={"stem.conv": 0.5, "a.conv1": 0.5, "b.conv2": 0.5},
    )

    changed = restructure(network, plan, structure=structure)

    # Stem and unit a have 2 of 4 channels; unit b is its shortcut: 2 channels and 2 of its 4 zero channels.
    assert changed.graph.shapes["a.relu2"] == (1, 2, 8, 8)
    assert changed.graph.shapes["b.relu2"] == (1, 4, 4, 4)
    assert changed.graph.node("b.pad").attributes["padding"] == (0, 0, 0, 0, 2, 0)
    assert changed.tensors["a.conv1/expand.weight"].shape == (3, 3, 1, 1)  # rank 6 / 2, 3 of 6 channels
    assert run(changed, images(network))[0].shape == (2, 3)


def test_analysing_a_network_twice_finds_the_same() -> None:
    assert analyse(residual()) == analyse(residual())


def test_random_plans_never_have_more_parameters_than_the_network() -> None:
    network = residual()
    structure = analyse(network)
    whole = sum(t.numel() for t in restructure(network, Plan(), structure=structure).tensors.values())
    random = np.random.default_rng(0)

    for _ in range(20):
        ratios = {group.name: float(random.uniform(0.1, 1.0)) for group in structure.groups.groups}
        cut = restructure(network.to_meta(), Plan(keep_ratios=ratios), structure=structure)
        assert sum(t.numel() for t in cut.tensors.values()) <= whole
