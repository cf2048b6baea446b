"""The relaxed network of the digits example, all kinds of choices open."""

from functools import cache

import numpy as np
import pytest
from torch import Tensor

from compress import relaxed
from compress.apply import Prepared, apply, prepare
from compress.plan import Plan
from examples.digits.data import digits
from hwmodels.profile import builtin_profiles
from search.space import Candidate
from search.table import ChoiceValues
from tests.workers.conftest import digits_network
from workers.problem import Problem
from workers.relaxation import Relaxation
from workers.sensitivity import dearest
from workers.spec import DeviceTarget, JobSpec, SpaceSpec

IMAGES = 40  # enough to repair the last layer, which has one value per image and channel
OPEN = SpaceSpec(
    weight_bits=(2, 4, 8),
    activation_bits=(4, 8),
    keep_ratios=(0.5, 0.75, 1.0),
    operators=("original", "skip", "low_rank"),
)
"""Ranges come from the float network, as the relaxed network's do."""


@cache
def opened() -> tuple[Prepared, Problem, Relaxation]:
    network, structure = digits_network()
    data = digits()
    images = data.preprocessing.apply(data.heldout_x[:IMAGES])
    spec = JobSpec(
        name="digits",
        devices=(DeviceTarget(name="bitfusion-16nm"),),
        space=OPEN,
        numerics={"activation_source": "float"},
    )
    problem = Problem(spec, network, structure, builtin_profiles())
    prepared = prepare(network, images, structure=structure)
    return prepared, problem, Relaxation(prepared, problem, images=IMAGES)


def one_hot(candidate: Candidate) -> ChoiceValues:
    _, problem, _ = opened()
    return tuple(
        tuple(float(place == index) for place in range(len(variable.choices)))
        for variable, index in zip(problem.space.variables, candidate.indices, strict=True)
    )


def changed(values: dict[str, object]) -> Candidate:
    """Return the dearest candidate with other values for the variables whose names begin like this."""
    _, problem, _ = opened()
    indices = list(dearest(problem).indices)
    for place, variable in enumerate(problem.space.variables):
        for start, value in values.items():
            if variable.name.startswith(start) and value in variable.choices:
                indices[place] = variable.choices.index(value)
    return Candidate(tuple(indices))


def divergence(candidate: Candidate) -> float:
    """Return how far a candidate's plan is from the float network on the images that it was calibrated on."""
    prepared, problem, _ = opened()
    reference = apply(prepared, Plan()).outputs[0].log_softmax(1)
    found = apply(prepared, problem.decode(candidate)).outputs[0].log_softmax(1)
    return float((reference.exp() * (reference - found)).sum(1).mean())


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        ({"weights": 4}, 0.02),
        # Biases are not rounded to the steps of the accumulators: the coarser these, the more that makes.
        ({"weights": 4, "operator": "low_rank"}, 0.15),
        ({"weights": 4, "operator": "skip"}, 0.15),
        ({"weights": 2, "activations": 4}, 0.15),
        # Weights are rounded before their channels go: other scales.
        ({"channels": 0.5}, 0.1),
    ],
)
def test_with_one_choice_each_it_loses_what_the_plan_loses(values: dict[str, object], tolerance: float) -> None:
    candidate = changed(values)

    found = opened()[2].loss(one_hot(candidate), 0)

    assert found.loss == pytest.approx(divergence(candidate), rel=tolerance, abs=1e-4)


def test_every_choice_has_a_derivative() -> None:
    _, problem, relaxation = opened()

    found = relaxation.loss(even(), 0)

    assert [len(row) for row in found.gradient] == [len(variable.choices) for variable in problem.space.variables]
    assert all(np.ptp(row) > 0 for row in found.gradient)


def test_the_derivative_by_what_no_rounding_follows_is_that_of_the_loss() -> None:
    """The last layer's weights, and its input's widths."""
    names = [variable.name for variable in opened()[1].space.variables]

    for name in ("weights linear", "activations linear"):
        check_derivatives(names.index(name))


class Exact:
    """What the mean over ever finer grids comes to."""

    @staticmethod
    def apply(value: Tensor, share: Tensor, grids: object) -> Tensor:
        return value * share.sum()


def test_without_rounding_of_activations_every_derivative_is_that_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding has steps, which its gradient looks over: it is left out to compare the rest."""
    monkeypatch.setattr(relaxed, "_MeanOnGrids", Exact)
    variables = opened()[1].space.variables
    kinds = {variable.name.split(" ")[0]: place for place, variable in enumerate(variables)}  # the last of each

    for place in kinds.values():
        check_derivatives(place)


def check_derivatives(place: int) -> None:
    """Compare the derivatives by the probabilities of one variable with central differences."""
    relaxation = opened()[2]
    slopes = relaxation.loss(even(), 0).gradient[place]
    for choice, slope in enumerate(slopes):
        above, below = (relaxation.loss(moved(even(), place, choice, by), 0).loss for by in (5e-3, -5e-3))
        assert slope == pytest.approx((above - below) / 1e-2, rel=0.05, abs=1e-3)


def test_equal_questions_have_equal_answers_and_batches_go_round() -> None:
    prepared, problem, _ = opened()
    relaxation = Relaxation(prepared, problem, images=20)  # two batches

    answers = [relaxation.loss(even(), number) for number in range(4)]

    assert answers[0].loss == answers[2].loss != answers[1].loss == answers[3].loss
    assert all(np.array_equal(a, b) for a, b in zip(answers[0].gradient, answers[2].gradient, strict=True))


def test_an_answer_says_what_it_took_in_images() -> None:
    # A pass forward and one backward are three; replacements run beside the blocks that they may replace.
    assert 3 * IMAGES < opened()[2].loss(even(), 0).images < 2 * 3 * IMAGES


def even() -> ChoiceValues:
    """Return the same probability for all choices of a variable."""
    _, problem, _ = opened()
    return tuple((1 / len(variable.choices),) * len(variable.choices) for variable in problem.space.variables)


def moved(rows: ChoiceValues, place: int, choice: int, by: float) -> ChoiceValues:
    changed_row = tuple(value + by * (number == choice) for number, value in enumerate(rows[place]))
    return (*rows[:place], changed_row, *rows[place + 1 :])
