import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.repair import repair
from search.space import Candidate, Space, Variable

SPACE = Space(
    (
        *(Variable(name=f"bits {layer}", choices=(2, 3, 4, 6, 8)) for layer in range(4)),
        Variable(name="kind", choices=("a", "b", "c"), ordered=False),
    )
)
FLOOR = Candidate((0, 0, 0, 0, 1))

candidates = st.tuples(*(st.integers(0, len(variable.choices) - 1) for variable in SPACE.variables)).map(Candidate)


def cost(candidate: Candidate) -> int:
    return sum(candidate.indices[:4])


@given(candidates, st.integers(0, 16), st.integers(0, 2**32 - 1))
def test_a_repaired_candidate_is_only_just_within_the_limit(candidate: Candidate, limit: int, seed: int) -> None:
    repaired = repair(
        candidate,
        space=SPACE,
        feasible=lambda tried: cost(tried) <= limit,
        floor=FLOOR,
        rng=np.random.default_rng(seed),
    )

    # Each step takes exactly one off the cost, or changes the variable that costs nothing.
    assert repaired is not None
    assert cost(repaired) == min(cost(candidate), limit)
    assert all(after <= before for after, before in zip(repaired.indices[:4], candidate.indices[:4], strict=True))


def test_a_repair_prices_only_the_logarithm_of_the_path() -> None:
    priced: list[Candidate] = []

    def feasible(tried: Candidate) -> bool:
        priced.append(tried)
        return cost(tried) <= 5

    repair(Candidate((4, 4, 4, 4, 0)), space=SPACE, feasible=feasible, floor=FLOOR, rng=np.random.default_rng(0))

    # The candidate, the floor, and the bisection of 17 steps: at most 5.
    assert len(priced) <= 7


def test_nothing_comes_back_where_not_even_the_floor_is_feasible() -> None:
    repaired = repair(
        Candidate((4, 4, 4, 4, 0)),
        space=SPACE,
        feasible=lambda tried: False,
        floor=FLOOR,
        rng=np.random.default_rng(0),
    )

    assert repaired is None
