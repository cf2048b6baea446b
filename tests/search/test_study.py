import math
from collections.abc import Sequence

import numpy as np
import pytest

from search.relaxed import RelaxedLoss, RelaxedPoint
from search.space import Candidate, Space, Variable
from search.strategies import STRATEGIES, Score
from search.strategies.random import RandomStrategy
from search.study import Asked, Study
from search.table import ChoiceTable

SPACE = Space(tuple(Variable(name=f"layer {layer}", choices=(2, 3, 4, 6, 8)) for layer in range(8)))
TARGETS = ("pi", "mcu")


def new_study(strategy: str, *, space: Space = SPACE, targets: Sequence[str] = TARGETS, seed: int = 3) -> Study:
    return Study(
        space,
        strategy=strategy,
        directions=("maximize", "minimize"),
        targets=targets,
        seed=seed,
        trials=100,
        tables={name: table(space) for name in targets},
    )


def table(space: Space) -> ChoiceTable:
    """Each step down from the dearest choice saves 1 and loses as much as the variable's number."""
    steps = [
        tuple(float(len(variable.choices) - 1 - index) for index in range(len(variable.choices)))
        for variable in space.variables
    ]
    return ChoiceTable(
        base=space.uniform([1.0])[0],
        loss=tuple(tuple(step * (place + 1) for step in row) for place, row in enumerate(steps)),
        costs=(tuple(tuple(-step for step in row) for row in steps),),
        base_costs=(float(sum(row[0] for row in steps)),),
        limits=(math.inf,),
        objectives=1,
    )


def scores(candidate: Candidate) -> dict[str, Score]:
    """Score more bits as better and dearer; the layers weigh differently on the two targets."""
    gain = sum(index * (place + 1) for place, index in enumerate(candidate.indices))
    return {
        "pi": Score(values=(gain, sum(candidate.indices)), violations={"size": sum(candidate.indices) - 20.0}),
        "mcu": Score(values=(gain, candidate.indices[0]), violations={"size": candidate.indices[7] - 2.0}),
    }


def relaxed(point: RelaxedPoint) -> RelaxedLoss:
    """Lose less with dearer choices, by the expected step; the layers weigh differently."""
    gradient = tuple(
        -(place + 1.0) * np.arange(len(row), dtype=np.float64) for place, row in enumerate(point.probabilities)
    )
    loss = sum(float(slope @ row) for slope, row in zip(gradient, point.probabilities, strict=True))
    return RelaxedLoss(loss=loss, gradient=gradient, images=48.0)


def run(study: Study, numbers: range) -> list[Asked]:
    rows = []
    for number in numbers:
        while (point := study.point(number)) is not None:
            study.descend(number, relaxed(point))
        asked = study.ask(number)
        assert asked is not None
        study.tell(asked.candidate, scores(asked.candidate), asked.sampler)
        rows.append(asked)
    return rows


@pytest.mark.parametrize("strategy", STRATEGIES.names())
@pytest.mark.parametrize("interrupted_after", [1, 17, 40])
def test_a_resumed_search_equals_an_uninterrupted_one(strategy: str, interrupted_after: int) -> None:
    whole = new_study(strategy)
    baseline = Candidate((4,) * 8)
    whole.tell(baseline, scores(baseline))
    expected = run(whole, range(1, 60))

    resumed = new_study(strategy)
    resumed.tell(baseline, scores(baseline))
    for asked in expected[:interrupted_after]:
        resumed.tell(asked.candidate, scores(asked.candidate), asked.sampler)

    assert run(resumed, range(1 + interrupted_after, 60)) == expected[interrupted_after:]


@pytest.mark.parametrize("strategy", ["nsga2", "random"])
def test_another_seed_gives_another_search(strategy: str) -> None:
    assert run(new_study(strategy, seed=1), range(10)) != run(new_study(strategy, seed=2), range(10))


@pytest.mark.parametrize("strategy", STRATEGIES.names())
def test_every_candidate_of_a_small_space_comes_once_and_then_the_search_ends(strategy: str) -> None:
    space = Space(
        (Variable(name="a", choices=(1, 2, 3)), Variable(name="b", choices=(1,)), Variable(name="c", choices=(1, 2)))
    )
    study = new_study(strategy, space=space, targets=("only",))
    found: list[Candidate] = []

    while (asked := study.ask(len(found))) is not None:
        found.append(asked.candidate)
        study.tell(asked.candidate, {"only": Score(values=(1.0, 1.0))}, asked.sampler)

    assert len(set(found)) == len(found) == 6


def test_candidates_with_equal_keys_are_the_same() -> None:
    study = Study(
        SPACE,
        strategy="random",
        directions=("maximize",),
        targets=("only",),
        seed=0,
        key=lambda candidate: candidate.indices[0],
    )

    firsts: list[int] = []
    while (asked := study.ask(len(firsts))) is not None:
        firsts.append(asked.candidate.indices[0])

    # The space is too large to list, but 64 mutations of a variable with five choices do not miss one by chance.
    assert sorted(firsts) == [0, 1, 2, 3, 4]


def test_a_rejected_proposal_is_replaced_by_one_that_is_not() -> None:
    study = new_study("random")

    for number in range(20):
        asked = study.ask(number, adjust=lambda candidate, _: candidate if sum(candidate.indices) % 2 else None)

        assert asked is not None
        assert sum(asked.candidate.indices) % 2 == 1


def test_targets_take_turns() -> None:
    assert [asked.target for asked in run(new_study("random"), range(5))] == ["pi", "mcu", "pi", "mcu", "pi"]


def test_nsga2_moves_towards_the_front_and_into_the_limits() -> None:
    rows = run(new_study("nsga2", targets=("pi",)), range(100))

    # Random candidates have 16 steps on average and break the limit of 20 now and then; gain per step is 4.5 for
    # random ones, while the front takes the heavy layers first.
    def gain_per_step(asked: Asked) -> float:
        score = scores(asked.candidate)["pi"]
        return score.values[0] / max(1.0, score.values[1])

    early = sum(map(gain_per_step, rows[:20])) / 20
    late = sum(map(gain_per_step, rows[-20:])) / 20
    assert late > early + 0.3


def test_an_unknown_strategy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown strategy 'best'; known: .*nsga2.*random"):
        new_study("best")


def test_a_name_cannot_be_registered_twice() -> None:
    with pytest.raises(ValueError, match="'random' is registered twice"):
        STRATEGIES.register("random")(RandomStrategy)
