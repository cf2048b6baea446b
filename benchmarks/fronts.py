"""ResNet-20 on CIFAR-10 at given weight bytes, without fine-tuning: searched plans beside uniform ones.

Budgets are shares of what the weights of convolutions and of the linear layer take in float32 (scales and biases,
0.9 % of the network's values, come on top and are in the column of packed bytes). Activations have 8 bits everywhere.

Calibration, sensitivities and the choice among plans see training images only, and no label. All test images are
evaluated once per plan that is reported. Differences are paired: on the same images, with the 95 % interval.

* bits only: what each layer's weights lose at each width is measured (``compress.weight_sensitivity``), and integer
  programmes choose the widths: one over all widths, one over none below the widest uniform width that keeps the
  budget, one over none more than a bit above that. Their plans and the uniform one are candidates.
* joint: the same programmes may also cut channels; the loss of cutting each group is measured, too. What a programme
  proposes is priced exactly. The plans with cut channels are further candidates.

Programmes add up what choices lose alone; which candidate is best is found out with more images: of further training
images, mirrored and shifted at random so that the float network is less certain of them, the candidate is taken on
which class probabilities move least from the float network's.

    python -m benchmarks.fronts --data DATA [--shares 5 6 8 10] [--images 9979] [--json FILE]
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from benchmarks import cifar, common
from compress.apply import Prepared, apply, prepare
from compress.checkpoint import packed_bytes
from compress.evaluate import logits, top1
from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.zoo import from_architecture
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.structure import Structure, analyse, restructure
from compress.weight_sensitivity import weight_sensitivity
from search.space import Candidate, Space, Variable
from search.strategies.integer_programme import IntegerProgramme
from search.table import ChoiceTable

SHARES = (5, 6, 8, 10)
PUBLISHED = {5: 91.8, 6: 91.8, 8: 91.5, 10: 89.5}
"""Best of other tools on this very case, top-1 in percent, found in 35 to 300 s."""
UNIFORM = {5: 6, 6: 5, 8: 4, 10: 3}
"""Widest uniform width that keeps each budget."""

WIDTHS = (2, 3, 4, 5, 6, 7, 8)
MEASURED = (2, 3, 4)  # wider ones follow: half the step, a quarter of its square
KEEP_RATIOS = (0.875,)
BASE = Plan(repair="least_squares", numerics=Numerics(weight_rounding="compensated"))
FLOAT_BYTES = 4
PROBING = 256  # images on which cut channels are measured
JUDGING = 2048  # images on which candidates are compared
PRICINGS = 8  # of joint proposals, each with a budget that makes up for what the last one cost too much


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A plan, and how many seconds it took to find and build it when everything is counted."""

    plan: Plan
    seconds: float


def main() -> None:
    """Search, measure and print the table."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--images", type=int, default=9979, help="test images (all)")
    arguments.add_argument("--shares", type=int, nargs="+", choices=SHARES, default=SHARES, help="budgets (all)")
    arguments.add_argument("--judging", type=int, default=JUDGING, help=f"images to choose on ({JUDGING})")
    arguments.add_argument("--calibration", type=int, default=512, help="training images to calibrate with (512)")
    options = arguments.parse_args()
    names = (cifar.TRAIN_FILES[0], cifar.TEST_FILE, cifar.RESNET20_FILE)
    train, test, weights = common.require_files(options.data, names).values()
    network = from_architecture("cifar_resnet20", Path(weights))
    training, _ = cifar.images(train, options.calibration + options.judging)
    calibration, judging = training[: options.calibration], training[options.calibration :]
    images, labels = cifar.images(test, options.images)

    search = Search(network, calibration, probing=judging[:PROBING], judging=cifar.moved(judging, seed=0))
    float_right = top1(logits(build_module(network), images)) == labels
    print(f"float: {100 * float(float_right.float().mean()):.2f} % of {len(images)} images", flush=True)

    def right(plan: Plan) -> Tensor:
        return top1(logits(build_module(apply(search.prepared, plan).network), images)) == labels

    rows, figures = [], []
    for share in options.shares:
        budget = search.float_bytes / share
        uniform = right(search.uniform(UNIFORM[share]))
        plans = {"bits only": search.bits_only(budget, UNIFORM[share])}
        plans["joint"] = search.joint(budget, UNIFORM[share], plans["bits only"])
        found = {"uniform": (search.uniform(UNIFORM[share]), uniform, float("nan"))}
        for label, searched in plans.items():
            same = label == "joint" and searched.plan == plans["bits only"].plan
            found[label] = (searched.plan, found["bits only"][1] if same else right(searched.plan), searched.seconds)
        for label, (plan, hits, seconds) in found.items():
            drop, margin = cifar.paired_drop(float_right, hits)
            gain, gain_margin = cifar.paired_drop(uniform, hits)
            row = {
                "share": f"1/{share}",
                "plan": label,
                "weight bytes": round(search.weight_bytes(plan)),
                "packed bytes": search.packed_bytes(plan),
                "top-1 %": round(100 * float(hits.float().mean()), 2),
                "peers' best %": PUBLISHED[share],
                "from float, points": f"{-100 * drop:+.2f} ± {100 * margin:.2f}",
                "from uniform, points": f"{-100 * gain:+.2f} ± {100 * gain_margin:.2f}",
                "found in, s": "–" if label == "uniform" else round(seconds, 1),
                "divergence": round(search.divergence(plan), 5),
                "widths": search.describe(plan),
            }
            rows.append(tuple(row.values()))
            figures.append({**row, "plan_json": plan.to_json()})
            print(*row.values(), sep=" | ", flush=True)
    common.print_table("ResNet-20 on CIFAR-10, no fine-tuning", tuple(row), rows)
    common.report(
        "fronts",
        {
            "images": len(images),
            "calibration": len(calibration),
            "judging": len(judging),
            "seconds": search.seconds,
            "rows": figures,
        },
        path=options.json,
    )


class Search:
    """Finds plans for budgets of weight bytes.

    ``seconds`` has what is done once for all budgets: preparing, and measuring each kind of choice.
    """

    def __init__(self, network: Network, calibration: Tensor, *, probing: Tensor, judging: Tensor) -> None:
        start = time.perf_counter()
        self._network = network
        self._structure: Structure = analyse(network)
        self.prepared: Prepared = prepare(network, calibration, structure=self._structure)
        self._layers = [node.name for node in network.graph.nodes if node.op in LAYER_OPS]
        self._probing, self._judging = probing, judging
        module = build_module(network)
        self._probing_outputs = logits(module, probing)
        self._judging_outputs = log_softmax(logits(module, judging).double(), dim=1)
        self._divergences: dict[str, float] = {}
        self.seconds = {"prepare": time.perf_counter() - start}
        self.float_bytes = FLOAT_BYTES * sum(self._values(BASE).values())

        start = time.perf_counter()
        measured = weight_sensitivity(self.prepared, self.uniform(max(WIDTHS)), MEASURED)
        self._weights = {layer: _all_widths(row) for layer, row in measured.items()}
        self.seconds["weights"] = time.perf_counter() - start
        self._channels: dict[str, dict[float, float]] = {}

    def uniform(self, bits: int) -> Plan:
        """Return the plan with so many bits for every layer's weights."""
        return replace(BASE, layers=dict.fromkeys(self._layers, LayerBits(weight_bits=bits, activation_bits=8)))

    def weight_bytes(self, plan: Plan) -> float:
        """Return what the codes of all weights take."""
        return sum(values * plan.layers[layer].weight_bits / 8 for layer, values in self._values(plan).items())

    def packed_bytes(self, plan: Plan) -> int:
        """Return the length of the file of weights."""
        return packed_bytes(restructure(self._network.to_meta(), plan, structure=self._structure), plan)

    def bits_only(self, budget: float, uniform: int) -> Searched:
        """Return the best of the uniform plan and of those whose widths lose least, by the sum over the layers."""
        start = time.perf_counter()
        plans = [self.uniform(uniform), *(self._solved(budget, widths) for widths in _ranges(uniform))]
        plan = min(plans, key=self.divergence)
        spent = self.seconds["prepare"] + self.seconds["weights"]
        return Searched(plan=plan, seconds=spent + time.perf_counter() - start)

    def joint(self, budget: float, uniform: int, bits_only: Searched) -> Searched:
        """Return the better of ``bits_only`` and the best plan with cut channels."""
        self._measure_channels()
        start = time.perf_counter()
        plans = [self._cut(budget, widths) for widths in _ranges(uniform)]
        best = min([bits_only.plan, *(plan for plan in plans if plan is not None)], key=self.divergence)
        spent = self.seconds["channels"] + bits_only.seconds
        return Searched(plan=best, seconds=spent + time.perf_counter() - start)

    def divergence(self, plan: Plan) -> float:
        """Return the mean divergence of the class probabilities from the float network's, in nats, on ``judging``."""
        key = plan.digest()
        if key not in self._divergences:
            found = log_softmax(logits(build_module(apply(self.prepared, plan).network), self._judging).double(), dim=1)
            before = self._judging_outputs
            self._divergences[key] = float((before.exp() * (before - found)).sum(1).mean())
            print(f"  {self._divergences[key]:.5f} {self.weight_bytes(plan):.0f} {self.describe(plan)}", flush=True)
        return self._divergences[key]

    def _cut(self, budget: float, widths: Sequence[int]) -> Plan | None:
        """Return a plan with cut channels, or ``None``."""
        allowed = budget
        for _ in range(PRICINGS):  # the table overstates what a cut and few bits save together
            plan = self._solved(allowed, widths, channels=True)
            excess = self.weight_bytes(plan) - budget
            if excess <= 0:
                return plan if plan.keep_ratios else None
            allowed -= excess
        return None

    def _change(self, plan: Plan) -> float:
        """Return how far a plan moves the outputs on the probing images; in the unit of the sensitivities."""
        outputs = logits(build_module(apply(self.prepared, plan).network), self._probing)
        change = (outputs - self._probing_outputs).double()
        return float((change - change.mean(1, keepdim=True)).square().sum(1).mean())

    def describe(self, plan: Plan) -> str:
        """Return the widths in the network's order, and the ratios of groups that are cut."""
        widths = "".join(str(plan.layers[layer].weight_bits) for layer in self._layers)
        return " ".join([widths, *(f"{group}×{ratio:g}" for group, ratio in plan.keep_ratios.items())])

    def _values(self, plan: Plan) -> dict[str, int]:
        shapes = restructure(self._network.to_meta(), plan, structure=self._structure)
        return {
            node.name: shapes.tensors[node.parameters["weight"]].numel()
            for node in shapes.graph.nodes
            if node.op in LAYER_OPS
        }

    def _measure_channels(self) -> None:
        if "channels" in self.seconds:
            return
        start = time.perf_counter()
        whole = replace(self.uniform(max(WIDTHS)), numerics=replace(BASE.numerics, weight_rounding="nearest"))
        base = self._change(whole)
        for group in self._structure.groups.groups:
            self._channels[group.name] = {
                ratio: max(0.0, self._change(replace(whole, keep_ratios={group.name: ratio})) - base)
                for ratio in KEEP_RATIOS
            }
        self.seconds["channels"] = time.perf_counter() - start

    def _solved(self, budget: float, widths: Sequence[int], *, channels: bool = False) -> Plan:
        groups = list(self._channels) if channels else []
        ratios = (*KEEP_RATIOS, 1.0)
        space = Space(
            tuple(Variable(name=f"weights {layer}", choices=tuple(widths)) for layer in self._layers)
            + tuple(Variable(name=f"channels {group}", choices=ratios) for group in groups)
        )
        base = Candidate(tuple(len(variable.choices) - 1 for variable in space.variables))
        values = self._values(BASE)
        cut_bits = FLOAT_BYTES * 8 * budget / self.float_bytes  # what a value that is cut will have had, on average
        table = ChoiceTable(
            base=base,
            loss=(
                *(tuple(self._weights[layer][width] for width in widths) for layer in self._layers),
                *(tuple({**self._channels[group], 1.0: 0.0}[ratio] for ratio in ratios) for group in groups),
            ),
            costs=(
                (
                    *(tuple(values[layer] * (width - max(widths)) / 8 for width in widths) for layer in self._layers),
                    *(tuple(-self._saved(group, ratio) * cut_bits / 8 for ratio in ratios) for group in groups),
                ),
            ),
            base_costs=(float(sum(values.values()) * max(widths) / 8),),
            limits=(float("inf"),),
            objectives=1,
        )
        found = IntegerProgramme(space, table).solve(0, budget)
        if found is None:
            raise ValueError(f"no plan takes at most {budget:.0f} bytes")
        return self._plan(space.values(found))

    def _plan(self, chosen: Mapping[str, object]) -> Plan:
        widths = {layer: int(str(chosen[f"weights {layer}"])) for layer in self._layers}
        ratios = {group: float(str(chosen.get(f"channels {group}", 1.0))) for group in self._channels}
        return replace(
            BASE,
            layers={name: LayerBits(weight_bits=width, activation_bits=8) for name, width in widths.items()},
            keep_ratios={group: ratio for group, ratio in ratios.items() if ratio < 1},
        )

    def _saved(self, group: str, ratio: float) -> int:
        if ratio == 1:
            return 0
        cut = replace(BASE, keep_ratios={group: ratio})
        return sum(self._values(BASE).values()) - sum(self._values(cut).values())


def _ranges(uniform: int) -> list[tuple[int, ...]]:
    """Return the widths that each programme may choose from, for a budget that a uniform width keeps."""
    ranges = [WIDTHS, tuple(w for w in WIDTHS if w >= uniform), tuple(w for w in WIDTHS if w <= uniform + 1)]
    return list(dict.fromkeys(ranges))


def _all_widths(measured: Mapping[int, float]) -> dict[int, float]:
    widest = max(measured)
    beyond = {width: measured[widest] * 0.25 ** (width - widest) for width in WIDTHS if width > widest}
    falling: Sequence[float] = sorted((*measured.values(), *beyond.values()), reverse=True)
    return {**dict(zip(WIDTHS, falling, strict=True)), max(WIDTHS): 0.0}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
