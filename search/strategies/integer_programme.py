"""The candidates that lose least at each cost, by an integer programme over what single choices do."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from search.space import Candidate, Space
from search.strategies.base import STRATEGIES, Direction, Proposal, Score
from search.table import ChoiceTable

NODES_PER_PROGRAMME = 500  # a bound in nodes, not in seconds: a slow machine must propose what a fast one does
RELATIVE_GAP = 1e-6
HALVINGS = 6  # towards the least budget at which not too much is lost
THRIFT = 1e-4  # weight of the cost itself in the objective: savings that lose nothing are taken


class IntegerProgramme:
    """Chooses for every variable, minimising the summed loss under one budget.

    One binary per choice, exactly one per variable. Where a choice hides other variables, these stay at their base.

    Source: Yao et al. 2021, "HAWQ-V3: Dyadic Neural Network Quantization", section 3.4, with measured divergence in
    the place of the Hessian term.
    """

    def __init__(self, space: Space, table: ChoiceTable) -> None:
        table.check(space)
        self._table = table
        sizes = [len(variable.choices) for variable in space.variables]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self._loss = np.concatenate([np.array(row) for row in table.loss]) if sizes else np.zeros(0)
        self._costs = [np.concatenate([np.array(row) for row in rows]) for rows in table.costs] if sizes else []
        self._one_each = self._matrix(
            [range(self._starts[place], self._starts[place + 1]) for place in range(len(sizes))]
        )
        self._hiding = self._matrix(self._hidden_pairs())

    def reach(self, objective: int) -> tuple[float, float]:
        """Return the least cost, by the table, at which not too much is lost, and the cost of the base or its limit."""
        table = self._table
        lowest = table.base_costs[objective] + sum(min(row) for row in table.costs[objective])
        largest = min(table.base_costs[objective], table.limits[objective])
        hopeless, hopeful = lowest, largest
        for _ in range(HALVINGS):
            if math.isinf(table.hopeless_loss) or hopeful <= hopeless:
                break
            middle = (hopeless + hopeful) / 2
            found = self.solve(objective, middle)
            if found is None or table.summed_loss(found) > table.hopeless_loss:
                hopeless = middle
            else:
                hopeful = middle
        return min(hopeless, largest), largest

    def solve(self, objective: int, budget: float) -> Candidate | None:
        """Return the candidate of least loss whose cost, by the table, is within ``budget``, if there is one.

        The limits of the other costs hold too.
        """
        if len(self._starts) == 1:
            return Candidate(())
        from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import, and only drivers come here

        scale = max(1e-12, float(self._loss.max()))
        constraints = [LinearConstraint(self._one_each, 1, 1)]
        for number, cost in enumerate(self._costs):
            bound = budget if number == objective else self._table.limits[number]
            if math.isfinite(bound):
                spread = _spread(cost)
                room = (bound - self._table.base_costs[number]) / spread
                constraints.append(LinearConstraint(cost[None, :] / spread, -np.inf, room))
        if self._hiding.shape[0]:
            constraints.append(LinearConstraint(self._hiding, -np.inf, 1))
        result = milp(
            self._loss / scale + THRIFT * self._costs[objective] / _spread(self._costs[objective]),
            constraints=constraints,
            integrality=np.ones(len(self._loss)),
            bounds=Bounds(0, 1),
            options={"node_limit": NODES_PER_PROGRAMME, "mip_rel_gap": RELATIVE_GAP},
        )
        if result.x is None:
            return None
        chosen = [
            int(np.argmax(result.x[start:end])) for start, end in zip(self._starts[:-1], self._starts[1:], strict=True)
        ]
        return Candidate(tuple(chosen))

    def _hidden_pairs(self) -> list[list[int]]:
        """List, per hidden variable, the column that hides it with all columns that leave its base."""
        return [
            [
                int(self._starts[eclipse.place]) + eclipse.choice,
                *(
                    column
                    for column in range(self._starts[hidden], self._starts[hidden + 1])
                    if column - self._starts[hidden] != self._table.base.indices[hidden]
                ),
            ]
            for eclipse in self._table.eclipses
            for hidden in eclipse.hidden
        ]

    def _matrix(self, rows: Sequence[Sequence[int]]) -> csr_array:
        row_of = [number for number, columns in enumerate(rows) for _ in columns]
        column_of = [column for columns in rows for column in columns]
        return csr_array((np.ones(len(row_of)), (row_of, column_of)), shape=(len(rows), int(self._starts[-1])))


@STRATEGIES.register("integer_programme")
class IntegerProgrammeStrategy:
    """Solves the programme for one budget after the other, ever closer together, for one cost after the other."""

    def __init__(
        self, space: Space, directions: Sequence[Direction], trials: int | None, table: ChoiceTable | None
    ) -> None:
        if table is None:
            raise ValueError("integer_programme needs a table of what single choices do")
        self._programme = IntegerProgramme(space, table)
        self._base = table.base
        self._objectives = table.objectives
        self._reach: dict[int, tuple[float, float]] = {}
        self._rung = 0

    def propose(self, seed: int) -> Proposal:
        """Return the solution at the next budget."""
        rung, self._rung = self._rung, self._rung + 1
        number, objective = divmod(rung, self._objectives)
        if objective not in self._reach:
            self._reach[objective] = self._programme.reach(objective)
        lowest, largest = self._reach[objective]
        found = self._programme.solve(objective, lowest + van_der_corput(number + 1) * (largest - lowest))
        return Proposal(candidate=self._base if found is None else found, state={"rung": rung})

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Remember how far the budgets have come."""
        if state is not None:
            self._rung = max(self._rung, int(state["rung"]) + 1)


def van_der_corput(number: int) -> float:
    """Return the number's binary digits mirrored at the point: 1, 2, 3, 4 become 1/2, 1/4, 3/4, 1/8."""
    result, share = 0.0, 0.5
    while number:
        number, digit = divmod(number, 2)
        result += digit * share
        share /= 2
    return result


def _spread(cost: NDArray[np.float64]) -> float:
    return max(1e-12, float(np.abs(cost).max()))
