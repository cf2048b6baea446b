import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from search.pareto import hypervolume
from search.relaxed import Descending, RelaxedLoss, RelaxedPoint
from search.space import Candidate, Space, Variable
from search.strategies import STRATEGIES, Score
from search.strategies.differentiable import FIRST_STEPS, STEPS, DifferentiableStrategy
from search.table import ChoiceTable

CHOICES = (2, 3, 4, 6, 8)
WEIGHTS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01)  # what two bits lose in each layer
SPACE = Space(tuple(Variable(name=f"weights {layer}", choices=CHOICES) for layer in range(len(WEIGHTS))))
LOSSES = tuple(tuple(weight * 4.0 ** (2 - bits) for bits in CHOICES) for weight in WEIGHTS)
BASE_COST = 8.0 * len(WEIGHTS)
REFERENCE = (1.0, BASE_COST)


def table(limit: float = float("inf")) -> ChoiceTable:
    return ChoiceTable(
        base=Candidate((len(CHOICES) - 1,) * len(WEIGHTS)),
        loss=LOSSES,
        costs=(tuple(tuple(bits - 8.0 for bits in CHOICES) for _ in WEIGHTS),),
        base_costs=(BASE_COST,),
        limits=(limit,),
        objectives=1,
    )


def loss(candidate: Candidate) -> float:
    return sum(row[index] for row, index in zip(LOSSES, candidate.indices, strict=True))


def cost(candidate: Candidate) -> float:
    return float(sum(CHOICES[index] for index in candidate.indices))


def relaxed(point: RelaxedPoint) -> RelaxedLoss:
    """The expected loss: its derivative by a probability is what the choice loses."""
    expected = sum(
        share * value
        for row, losses in zip(point.probabilities, LOSSES, strict=True)
        for share, value in zip(row, losses, strict=True)
    )
    return RelaxedLoss(loss=expected, gradient=tuple(np.array(row) for row in LOSSES))


def searched(name: str, trials: int, seed: int = 0) -> list[Candidate]:
    strategy = STRATEGIES.create(name, SPACE, ("minimize", "minimize"), trials, table())
    found = []
    for number in range(trials):
        step_seed = 1000 * seed + number
        while isinstance(strategy, Descending) and (point := strategy.point(step_seed)) is not None:
            strategy.descend(relaxed(point))
        proposal = strategy.propose(step_seed)
        found.append(proposal.candidate)
        score = Score(values=(loss(proposal.candidate), cost(proposal.candidate)))
        strategy.record(proposal.candidate, score, proposal.state)
    return found


def volume(candidates: Sequence[Candidate]) -> float:
    return hypervolume(np.array([(loss(candidate), cost(candidate)) for candidate in candidates]), REFERENCE)


def new_strategy(chosen: ChoiceTable | None = None) -> DifferentiableStrategy:
    return DifferentiableStrategy(SPACE, ("maximize", "minimize"), 10, chosen or table())


@pytest.mark.parametrize("seed", range(3))
def test_its_front_is_nearer_to_the_best_one_than_chance_comes(seed: int) -> None:
    best = volume([Candidate(indices) for indices in itertools.product(range(len(CHOICES)), repeat=len(WEIGHTS))])

    found, drawn = volume(searched("differentiable", 40, seed)), volume(searched("random", 40, seed))

    assert best - found < 0.7 * (best - drawn)


def test_a_heavier_weight_of_the_cost_leads_to_cheaper_candidates() -> None:
    strategy = new_strategy()
    found = []
    for seed in range(16):
        while (point := strategy.point(seed)) is not None:
            strategy.descend(relaxed(point))
        proposal = strategy.propose(seed)
        strategy.record(proposal.candidate, Score(values=(0.0, cost(proposal.candidate))), proposal.state)
        found.append((proposal.state["weight"], cost(proposal.candidate)))

    found.sort()
    assert found[0][1] > 1.5 * found[-1][1]


def test_the_first_descent_is_long_and_later_ones_start_from_the_nearest() -> None:
    strategy = new_strategy()

    def steps(seed: int) -> int:
        taken = 0
        while (point := strategy.point(seed)) is not None:
            strategy.descend(relaxed(point))
            taken += 1
        return taken

    assert steps(0) == FIRST_STEPS
    proposal = strategy.propose(0)
    strategy.record(proposal.candidate, Score(values=(0.5, 20.0)), proposal.state)
    assert steps(1) == STEPS


def test_probabilities_are_positive_and_sum_to_one_and_first_favour_the_dearest() -> None:
    point = new_strategy().point(0)

    assert point is not None
    for row in point.probabilities:
        assert sum(row) == pytest.approx(1.0)
        assert min(row) > 0
        assert max(row) == row[-1]


def test_a_loss_without_slope_lets_the_cost_alone_decide() -> None:
    strategy = new_strategy()
    before = strategy.point(0)
    assert before is not None

    strategy.descend(RelaxedLoss(loss=0.0, gradient=tuple(np.zeros(5) for _ in WEIGHTS)))

    after = strategy.point(0)
    assert after is not None
    # Adam's first step is as long for every logit whose slope is not zero: up for cheap choices, down for dear ones.
    assert all(b[0] > a[0] and b[-1] < a[-1] for a, b in zip(before.probabilities, after.probabilities, strict=True))


def test_a_limit_makes_the_cost_count_more() -> None:
    free, bound = new_strategy(), new_strategy(table(limit=BASE_COST / 4))
    slopes = []
    for strategy in (free, bound):
        probabilities = strategy._probabilities(strategy._start)
        slopes.append(strategy._cost_slope(probabilities, 0))

    np.testing.assert_allclose(slopes[1], 4 * slopes[0])


def test_the_slope_of_the_expected_cost_is_its_derivative() -> None:
    strategy = new_strategy()
    probabilities = strategy._probabilities(strategy._start)

    def expected(rows: np.ndarray) -> float:
        # What each choice alone leaves of the cost, as a logarithm: 48 - 8 + bits of 48.
        left = np.log(np.array([[(BASE_COST - 8 + bits) / BASE_COST for bits in CHOICES]] * len(WEIGHTS)))
        return float(np.exp((rows * left).sum()))

    slope = strategy._cost_slope(probabilities, 0)

    for place in itertools.product(range(len(WEIGHTS)), range(len(CHOICES))):
        moved = np.zeros_like(probabilities)
        moved[place] = 1e-5
        difference = (expected(probabilities + moved) - expected(probabilities - moved)) / 2e-5
        assert slope[place] == pytest.approx(difference, rel=1e-6)


def test_a_candidate_that_was_tried_gives_way_to_one_with_another_choice() -> None:
    strategy = new_strategy()
    first = strategy.propose(0).candidate
    strategy.record(first, Score(values=(0.5, 48.0)), None)  # by somebody else

    second = strategy.propose(0).candidate

    assert sum(a != b for a, b in zip(first.indices, second.indices, strict=True)) == 1


def test_it_needs_prices() -> None:
    with pytest.raises(ValueError, match="needs a table"):
        STRATEGIES.create("differentiable", SPACE, ("maximize", "minimize"), 10)
