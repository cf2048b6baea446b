import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.space import Candidate, Space, Variable
from search.strategies.integer_programme import IntegerProgramme, van_der_corput
from search.table import ChoiceTable, Eclipse

SPACE = Space(tuple(Variable(name=f"layer {layer}", choices=(2, 4, 8)) for layer in range(4)))
BASE = Candidate((2, 2, 2, 2))

steps = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda pair: (float(max(pair)), float(min(pair)), 0.0))
rows = st.tuples(steps, steps, steps, steps)


def table(loss: tuple[tuple[float, ...], ...], saved: tuple[tuple[float, ...], ...]) -> ChoiceTable:
    costs = tuple(tuple(-value for value in row) for row in saved)
    return ChoiceTable(base=BASE, loss=loss, costs=(costs,), base_costs=(100.0,), limits=(math.inf,), objectives=1)


def total(values: tuple[tuple[float, ...], ...], candidate: Candidate) -> float:
    return sum(row[index] for row, index in zip(values, candidate.indices, strict=True))


@settings(max_examples=40, deadline=None)
@given(rows, rows, st.integers(20, 100))
def test_the_solution_loses_as_little_as_any_candidate_within_the_budget(
    loss: tuple[tuple[float, ...], ...], saved: tuple[tuple[float, ...], ...], budget: int
) -> None:
    known = table(loss, saved)
    within = [
        candidate
        for candidate in map(Candidate, itertools.product(range(3), repeat=4))
        if 100.0 + total(known.costs[0], candidate) <= budget
    ]

    found = IntegerProgramme(SPACE, known).solve(0, float(budget))

    if found is None:
        assert within == []
    else:
        assert found in within
        # Savings weigh a ten-thousandth of the largest loss per largest saving, for up to four variables.
        assert total(loss, found) <= min(total(loss, other) for other in within) + 4e-4 * 20


def test_a_saving_that_loses_nothing_is_taken_within_any_budget() -> None:
    known = table(((5.0, 0.0, 0.0),) * 4, ((9.0, 4.0, 0.0),) * 4)

    assert IntegerProgramme(SPACE, known).solve(0, 100.0) == Candidate((1, 1, 1, 1))


def test_what_a_choice_hides_stays_at_the_base() -> None:
    # Layer 0 at its cheapest hides layers 1 and 2; the budget asks for more than it saves alone.
    known = ChoiceTable(
        base=BASE,
        loss=((1.0, 1.0, 0.0), (0.6, 0.6, 0.0), (0.6, 0.6, 0.0), (3.0, 3.0, 0.0)),
        costs=(((-30.0, -5.0, 0.0), (-20.0, -5.0, 0.0), (-20.0, -5.0, 0.0), (-20.0, -5.0, 0.0)),),
        base_costs=(100.0,),
        limits=(math.inf,),
        objectives=1,
        eclipses=(Eclipse(place=0, choice=0, hidden=(1, 2)),),
    )

    found = IntegerProgramme(SPACE, known).solve(0, 50.0)

    # 30 + 20 by layers 0 and 3 loses 4, 20 + 20 + 20 by the others 4.2. Layers 0 and 1 would lose 1.6, but for hiding.
    assert found == Candidate((0, 2, 2, 0))


def test_a_budget_below_reach_has_no_solution() -> None:
    programme = IntegerProgramme(SPACE, table(((1.0, 1.0, 0.0),) * 4, ((10.0, 4.0, 0.0),) * 4))

    assert programme.reach(0) == (60.0, 100.0)
    assert programme.solve(0, 59.0) is None
    assert programme.solve(0, 60.0) == Candidate((0, 0, 0, 0))


def test_limits_on_other_costs_hold_at_any_budget() -> None:
    # Layer 0 is the only one that saves of the second cost; its limit asks for 5 less.
    known = ChoiceTable(
        base=BASE,
        loss=((7.0, 7.0, 0.0), *((1.0, 1.0, 0.0),) * 3),
        costs=(((-10.0, -5.0, 0.0),) * 4, ((-5.0, -2.0, 0.0), *((0.0, 0.0, 0.0),) * 3)),
        base_costs=(100.0, 50.0),
        limits=(math.inf, 45.0),
        objectives=1,
    )

    assert IntegerProgramme(SPACE, known).solve(0, 100.0) == Candidate((0, 2, 2, 2))


def test_budgets_that_can_only_be_hopeless_are_left_out() -> None:
    # Each layer at its cheapest saves 10 and loses 1; what loses more than 2 is hopeless: 80 is the least budget.
    known = ChoiceTable(
        base=BASE,
        loss=((1.0, 1.0, 0.0),) * 4,
        costs=(((-10.0, 0.0, 0.0),) * 4,),
        base_costs=(100.0,),
        limits=(math.inf,),
        objectives=1,
        hopeless_loss=2.0,
    )

    lowest, largest = IntegerProgramme(SPACE, known).reach(0)

    # Six halvings of 60..100.
    assert 80.0 - 40.0 / 2**6 <= lowest <= 80.0
    assert largest == 100.0


def test_a_table_of_another_space_is_refused() -> None:
    with pytest.raises(ValueError, match="one value per choice"):
        IntegerProgramme(SPACE, table(((1.0, 0.0),) * 4, ((1.0, 0.0),) * 4))


def test_budgets_come_ever_closer_together() -> None:
    assert [van_der_corput(number) for number in range(1, 8)] == [0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]
