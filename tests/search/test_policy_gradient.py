import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.space import Candidate, Space, Variable
from search.strategies import STRATEGIES, Score
from search.strategies.policy_gradient import action_of, choice_of, clamped
from search.table import ChoiceTable

SPACE = Space(tuple(Variable(name=f"weights {layer}", choices=(2, 3, 4, 6, 8)) for layer in range(6)))
BEST = (4, 0, 2, 4, 1, 3)
COSTS = ((-4.0, -3.0, -2.0, -1.0, 0.0),) * 6
TABLE = ChoiceTable(
    base=Candidate((4,) * 6),
    loss=((0.0,) * 5,) * 6,
    costs=(COSTS,),
    base_costs=(24.0,),
    limits=(float("inf"),),
    objectives=1,
)
candidates = st.tuples(*(st.integers(0, 4) for _ in range(6))).map(Candidate)


def cost(candidate: Candidate) -> float:
    return float(sum(candidate.indices))


@pytest.mark.parametrize("choices", [1, 2, 5])
def test_actions_cover_all_choices_in_equal_intervals(choices: int) -> None:
    found = [choice_of(action, choices) for action in np.linspace(0, 1, 10 * choices, endpoint=False)]

    assert [found.count(choice) for choice in range(choices)] == [10] * choices
    assert choice_of(1.0, choices) == choices - 1
    assert [choice_of(action_of(choice, choices), choices) for choice in range(choices)] == list(range(choices))


@given(candidates, st.floats(0, 24))
def test_a_clamped_walk_keeps_its_budget_and_never_goes_up(candidate: Candidate, budget: float) -> None:
    found = clamped(candidate, TABLE, 0, budget)

    assert cost(found) <= budget
    assert all(after <= before for after, before in zip(found.indices, candidate.indices, strict=True))
    assert cost(candidate) > budget or found == candidate


def test_clamping_goes_round_from_the_last_variable_to_the_first() -> None:
    assert clamped(Candidate((4,) * 6), TABLE, 0, 17).indices == (3, 3, 3, 3, 3, 2)  # 24 less 7


def test_two_hundred_walks_teach_more_than_chance() -> None:
    def best(name: str, seed: int) -> float:
        strategy = STRATEGIES.create(name, SPACE, ("maximize",), 200)
        values = []
        for number in range(200):
            proposal = strategy.propose(1000 * seed + number)
            pairs = zip(proposal.candidate.indices, BEST, strict=True)
            values.append(-float(sum((index - wanted) ** 2 for index, wanted in pairs)))
            strategy.record(proposal.candidate, Score(values=(values[-1],)), proposal.state)
        return float(np.mean(values[-50:]))

    assert all(best("policy_gradient", seed) > best("random", seed) + 5 for seed in range(3))


def test_the_reward_of_a_minimised_objective_is_turned_around() -> None:
    def taught(direction: str, sign: float) -> list[Candidate]:
        strategy = STRATEGIES.create("policy_gradient", SPACE, (direction,), 60)  # type: ignore[arg-type]
        found = []
        for seed in range(60):
            proposal = strategy.propose(seed)
            found.append(proposal.candidate)
            strategy.record(proposal.candidate, Score(values=(sign * cost(proposal.candidate),)), proposal.state)
        return found

    assert taught("maximize", 1.0) == taught("minimize", -1.0)
