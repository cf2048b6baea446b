import math
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.repair import repair
from search.space import Candidate, Space, Variable
from search.table import ChoiceTable

SPACE = Space(
    (
        *(Variable(name=f"bits {layer}", choices=(2, 3, 4, 6, 8)) for layer in range(4)),
        Variable(name="kind", choices=("a", "b", "c"), ordered=False),
    )
)
FLOOR = Candidate((0, 0, 0, 0, 1))
TOP = Candidate((4, 4, 4, 4, 0))
STEPS = (-4.0, -3.0, -2.0, -1.0, 0.0)
TABLE = ChoiceTable(
    base=TOP,
    loss=(*((4.0, 3.0, 2.0, 1.0, 0.0),) * 4, (0.0, 0.0, 0.0)),
    costs=((*(STEPS,) * 4, (0.0, 0.0, 0.0)),),
    base_costs=(16.0,),
    limits=(5.0,),
    objectives=1,
)

candidates = st.tuples(*(st.integers(0, len(variable.choices) - 1) for variable in SPACE.variables)).map(Candidate)


def cost(candidate: Candidate) -> int:
    return sum(candidate.indices[:4])


def repaired(candidate: Candidate, limit: int, *, table: ChoiceTable = TABLE, seed: int = 0) -> Candidate:
    found = repair(
        candidate,
        space=SPACE,
        feasible=lambda tried: cost(tried) <= limit,
        floors=[FLOOR],
        table=table,
        rng=np.random.default_rng(seed),
    )
    assert found is not None
    return found


@given(candidates, st.integers(0, 16), st.integers(0, 2**32 - 1))
def test_a_repaired_candidate_is_only_just_within_the_limit(candidate: Candidate, limit: int, seed: int) -> None:
    found = repaired(candidate, limit, seed=seed)

    # Each step takes exactly one off the cost, or changes the variable that costs nothing.
    assert cost(found) == min(cost(candidate), limit)
    assert all(after <= before for after, before in zip(found.indices[:4], candidate.indices[:4], strict=True))


def test_what_loses_least_goes_first() -> None:
    # Layer 2 loses a hundredth of what the others lose: its four steps are the first four of the path.
    loss = tuple(tuple(value / 100 for value in row) if place == 2 else row for place, row in enumerate(TABLE.loss))

    found = repaired(TOP, 12, table=replace(TABLE, loss=loss))

    assert found.indices[:4] == (4, 4, 0, 4)


def test_what_saves_most_for_the_same_loss_goes_first() -> None:
    costs = (
        tuple(tuple(3 * value for value in row) if place == 1 else row for place, row in enumerate(TABLE.costs[0])),
    )

    found = repaired(TOP, 14, table=replace(TABLE, costs=costs))

    assert found.indices[:4] == (4, 2, 4, 4)


def test_a_cost_without_a_limit_has_no_say() -> None:
    free = tuple(tuple(100 * value for value in row) if place == 3 else row for place, row in enumerate(TABLE.costs[0]))
    loss = tuple(tuple(value / 2 for value in row) if place == 0 else row for place, row in enumerate(TABLE.loss))
    table = replace(TABLE, loss=loss, costs=(TABLE.costs[0], free), base_costs=(16.0, 0.0), limits=(5.0, math.inf))

    assert repaired(TOP, 15, table=table).indices[:4] == (3, 4, 4, 4)


def test_the_floor_of_least_predicted_loss_is_walked_to() -> None:
    other = Candidate((4, 4, 4, 0, 0))

    found = repair(
        TOP,
        space=SPACE,
        feasible=lambda tried: tried in (FLOOR, other),
        floors=[FLOOR, other],
        table=TABLE,
        rng=np.random.default_rng(0),
    )

    assert found == other


def test_a_repair_prices_only_the_logarithm_of_the_path() -> None:
    priced: list[Candidate] = []

    def feasible(tried: Candidate) -> bool:
        priced.append(tried)
        return cost(tried) <= 5

    repair(TOP, space=SPACE, feasible=feasible, floors=[FLOOR], table=TABLE, rng=np.random.default_rng(0))

    # The candidate, the floor, and the bisection of 17 steps: at most 5.
    assert len(priced) <= 7


def test_nothing_comes_back_where_not_even_a_floor_is_feasible() -> None:
    found = repair(
        TOP,
        space=SPACE,
        feasible=lambda tried: False,
        floors=[FLOOR],
        table=TABLE,
        rng=np.random.default_rng(0),
    )

    assert found is None
