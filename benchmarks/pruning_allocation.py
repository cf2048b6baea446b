"""Which group keeps how many of its channels: the product's own integer programme over measured losses.

What a group loses at a keep-ratio is the divergence of the network's class probabilities on calibration images when
that group alone is cut and the network repaired. No label is read.
"""

import math
from collections.abc import Callable

from torch import Tensor

from compress.apply import Prepared, apply
from compress.evaluate import logits
from compress.network.build import build_module
from compress.plan import Plan
from compress.structure import restructure
from compress.workload import workload
from search.space import Candidate, Space, Variable
from search.strategies.integer_programme import IntegerProgramme
from search.table import ChoiceTable

RATIOS = (0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
BISECTIONS = 14


def macs(prepared: Prepared, plan: Plan) -> int:
    """Return multiply-accumulates of convolutions and linear layers; element-wise work has none."""
    shapes = restructure(prepared.network.to_meta(), plan, structure=prepared.structure)
    return workload(shapes, plan).macs


class Allocator:
    """Finds the keep-ratios that lose least at a number of multiply-accumulates.

    Args:
        prepared: The network.
        base: The plan whose pruner and repair the losses are measured with.
        images: Calibration images for the divergence.
    """

    def __init__(self, prepared: Prepared, base: Plan, images: Tensor) -> None:
        self._prepared, self._base, self._images = prepared, base, images
        self._space = Space(tuple(Variable(name=g.name, choices=RATIOS) for g in prepared.structure.groups.groups))
        self._whole = Candidate((len(RATIOS) - 1,) * len(self._space.variables))
        self._reference = logits(build_module(prepared.network), images).double().log_softmax(1)
        self.macs = macs(prepared, base)
        losses, costs = zip(*(self._row(place) for place in range(len(self._space.variables))), strict=True)
        self._programme = IntegerProgramme(
            self._space,
            ChoiceTable(
                base=self._whole,
                loss=losses,
                costs=(costs,),
                base_costs=(float(self.macs),),
                limits=(math.inf,),
                objectives=1,
            ),
        )

    def ratios(self, share: float) -> dict[str, float]:
        """Return the keep-ratios of least loss whose multiply-accumulates are at most ``share`` of the network's.

        The table overstates what neighbouring layers save together, so the programme's budget is bisected until what
        it finds, counted exactly, is as large as allowed.
        """
        found: Candidate | None = None
        low, high = 0.0, float(self.macs)
        for _ in range(BISECTIONS):
            budget = (low + high) / 2
            candidate = self._programme.solve(0, budget)
            if candidate is None:
                low = budget
            elif macs(self._prepared, self._plan(candidate)) <= share * self.macs:
                found, low = candidate, budget
            else:
                high = budget
        if found is None:
            raise ValueError(f"no ratios reach {share} of the multiply-accumulates")
        return dict(self._plan(found).keep_ratios)

    def uniform(self, share: float) -> dict[str, float]:
        """Return the largest ratio for all groups alike within ``share``."""
        names = [variable.name for variable in self._space.variables]
        return largest(
            lambda ratio: dict.fromkeys(names, ratio),
            lambda ratios: macs(self._prepared, Plan(keep_ratios=ratios)) <= share * self.macs,
        )

    def _row(self, place: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        losses, costs = [], []
        for choice in range(len(RATIOS)):
            indices = list(self._whole.indices)
            indices[place] = choice
            plan = self._plan(Candidate(tuple(indices)))
            losses.append(self._divergence(plan) if choice + 1 < len(RATIOS) else 0.0)
            costs.append(float(macs(self._prepared, plan) - self.macs))
        return tuple(max(losses[choice:]) for choice in range(len(losses))), tuple(costs)  # what rises again is noise

    def _plan(self, candidate: Candidate) -> Plan:
        kept = {name: float(ratio) for name, ratio in self._space.values(candidate).items() if ratio != 1.0}
        return Plan(keep_ratios=kept, pruner=self._base.pruner, repair=self._base.repair)

    def _divergence(self, plan: Plan) -> float:
        module = build_module(apply(self._prepared, plan).network)
        found = logits(module, self._images).double().log_softmax(1)
        return float((self._reference.exp() * (self._reference - found)).sum(1).mean())


def largest(build: Callable[[float], dict[str, float]], fits: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Return what ``build`` makes of the largest number in 0..1 that fits, to a thousandth."""
    low, high = 0, 1000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(build(middle / 1000)) else (low, middle)
    return build(low / 1000)
