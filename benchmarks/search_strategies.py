"""How many evaluations does each strategy need for the front that cold NSGA-II has after 400?

ResNet-20 on CIFAR-10 images, the default search space (weight and activation bits per layer, keep-ratios per channel
group, operators per block), accuracy against the bytes of the network. Every strategy searches the same space on the
same images; the hypervolume's reference point is accuracy 0 at a tenth above the dearest candidate. Cold strategies
start from nothing. Ours first has the uniform baselines, and its programmes read what single choices do: these
evaluations and probes count. In full-evaluation equivalents, an evaluation forwards the calibration and the search
images through the whole network; passes that share layers with earlier ones count only the nodes that they ran, and a
pass backward through a relaxed network counts as two forward.

Evaluations are kept by plan across strategies and seeds. Curves go to an SVG file.

    python -m benchmarks.search_strategies --data DATA [--seeds 3] [--minutes 38] [--json FILE] [--svg FILE]
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import cifar, common
from benchmarks.line_chart import line_chart
from compress.apply import apply, prepare
from compress.evaluate import logits, top1
from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.zoo import from_architecture
from compress.structure import analyse
from hwmodels.profile import builtin_profiles
from search.pareto import FrontArchive
from search.space import Candidate
from search.strategies import Score
from search.study import Study
from search.table import ChoiceTable
from workers.pricing import plan_key
from workers.problem import Problem
from workers.relaxation import Relaxation
from workers.sensitivity import assumed_divergences, choice_tables, plan_of, probes
from workers.spec import DeviceTarget, JobSpec

DEVICE = "bitfusion-16nm"  # stores every width as it is
GOAL = "nsga2"
GOAL_EVALUATIONS = 400
EVALUATIONS = {
    "auto": 100,
    "integer_programme": 100,
    "differentiable": 100,
    GOAL: GOAL_EVALUATIONS,
    "tpe": 400,
    "policy_gradient": 400,
    "random": 400,
}
WARM = ("auto", "integer_programme")
PRICED = ("policy_gradient", "differentiable")
"""Strategies that read prices of single choices, which take no image."""
MARGIN = 1.1


def main() -> None:
    """Run all strategies and print how soon each reaches the goal."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=3, help="seeds per strategy (3)")
    arguments.add_argument("--search", type=int, default=256, help="training images to evaluate on (256)")
    arguments.add_argument("--calibration", type=int, default=64, help="training images to calibrate on (64)")
    arguments.add_argument("--minutes", type=float, default=38.0, help="no run starts later than this (38)")
    arguments.add_argument("--strategies", nargs="*", default=list(EVALUATIONS), choices=list(EVALUATIONS))
    arguments.add_argument("--scale", type=float, default=1.0, help="share of the evaluations, for a trial run (1)")
    arguments.add_argument("--svg", type=Path, help="write the curves to this file")
    arguments.add_argument("--beside", type=Path, help="figures of an earlier run of other strategies, to stand beside")
    options = arguments.parse_args()
    train, weights = common.require_files(options.data, (cifar.TRAIN_FILES[0], cifar.RESNET20_FILE)).values()
    network = from_architecture("cifar_resnet20", weights)
    images, labels = cifar.images(train, options.calibration + options.search)
    bench = Bench(network, images, labels, calibration=options.calibration)

    curves = {} if options.beside is None else earlier(options.beside, options)
    start = time.perf_counter()
    for seed in range(options.seeds):
        for name in options.strategies:
            if (time.perf_counter() - start) / 60 < options.minutes:
                count = max(4, round(options.scale * EVALUATIONS[name]))
                curves.setdefault(name, []).append(bench.curve(name, evaluations=count, seed=seed))
                done = curves[name][-1]
                spent = time.perf_counter() - start
                print(f"{spent:6.0f} s  seed {seed}  {name}: {done.volumes[-1]:.4f} after {count}", flush=True)

    goal_count = round(options.scale * GOAL_EVALUATIONS)
    goals = [curve.volumes[goal_count - 1] for curve in curves.get(GOAL, [])]
    goal = median(goals) if goals else float("inf")  # nothing reaches what nobody has shown
    rows = [_row(name, runs, goal) for name, runs in curves.items()]
    columns = ("strategy", "seeds", "evaluations to the goal", "the same, all counted", "final volume", "sampler, ms")
    common.print_table(f"goal: {goal:.4f}, cold {GOAL} after {goal_count}", columns, rows)
    print(f"{bench.evaluated} plans were evaluated, {bench.reused} times an earlier result was used")
    print(f"probes: {bench.probe_equivalents:.1f} full-evaluation equivalents")
    if options.svg is not None:
        series = {name: _median_curve(runs) for name, runs in curves.items()}
        fewest = min(map(len, curves.values()))  # the time may end before the last seeds begin
        title = f"Hypervolume by evaluations (median of {fewest} seed{'s' * (fewest != 1)})"
        options.svg.write_text(line_chart(series, title=title, x="evaluations", y="hypervolume", rule=goal))
    figures = {
        "goal": goal,
        "goals": goals,
        "images": options.search,
        "calibration": options.calibration,
        "probe_equivalents": bench.probe_equivalents,
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "beside": {name: [curve.beside for curve in runs] for name, runs in curves.items()},
        "curves": {name: [curve.volumes for curve in runs] for name, runs in curves.items()},
        "sampler_s": {name: [curve.sampler_s for curve in runs] for name, runs in curves.items()},
    }
    common.report("search_strategies", figures, path=options.json)


@dataclass
class Curve:
    """The hypervolume after each evaluation; ``sampler_s`` is what the strategy itself took for each proposal."""

    volumes: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    """What was spent beside evaluations up to each of them, in full-evaluation equivalents."""
    sampler_s: list[float] = field(default_factory=list)

    def reached(self, goal: float) -> int | None:
        """Return after how many evaluations the goal was reached."""
        return next((number + 1 for number, volume in enumerate(self.volumes) if volume >= goal), None)

    def counted(self, goal: float) -> float:
        """Return what was spent until then, all counted, in full-evaluation equivalents."""
        number = self.reached(goal)
        return float("inf") if number is None else number + self.beside[number - 1]


def earlier(path: Path, options: Any) -> dict[str, list[Curve]]:
    """Return the curves of an earlier run in the same setting, but for those of strategies that run again."""
    figures = json.loads(path.read_text())["figures"]
    setting = {"images": options.search, "calibration": options.calibration}
    if differs := [name for name, count in setting.items() if figures[name] != count]:
        raise SystemExit(f"{path}: {', '.join(differs)} must be as in this run, {setting}")
    return {
        name: [
            Curve(volumes=volumes, beside=beside, sampler_s=sampler_s)
            for volumes, beside, sampler_s in zip(
                figures["curves"][name], figures["beside"][name], figures["sampler_s"][name], strict=True
            )
        ]
        for name in figures["curves"]
        if name not in options.strategies
    }


class Bench:
    """One network, its images, and what was evaluated so far."""

    def __init__(self, network: Network, images: torch.Tensor, labels: torch.Tensor, *, calibration: int) -> None:
        spec = JobSpec(name="strategies", devices=(DeviceTarget(name=DEVICE),), objectives=("accuracy", "model_bytes"))
        structure = analyse(network)
        self.problem = Problem(spec, network, structure, builtin_profiles())
        self._prepared = prepare(network, images[:calibration], structure=structure)
        self._images, self._labels = images[calibration:], labels[calibration:]
        self._float = logits(build_module(network), self._prepared.images).log_softmax(1)
        dearest = max(self._bytes(corner) for corner in self.problem.corners())
        self._reference = (0.0, MARGIN * dearest)
        self._accuracies: dict[object, float] = {}
        self._table: ChoiceTable | None = None
        self._relaxation: Relaxation | None = None
        self._prices = choice_tables(self.problem, assumed_divergences(self.problem))
        self.probe_equivalents = 0.0
        self.evaluated = 0
        self.reused = 0

    def curve(self, strategy: str, *, evaluations: int, seed: int) -> Curve:
        """Search with one strategy."""
        warm = strategy in WARM
        study = Study(
            self.problem.space,
            strategy=strategy,
            directions=("maximize", "minimize"),
            targets=[DEVICE],
            seed=seed,
            trials=evaluations,
            tables={DEVICE: self.table()} if warm else self._prices if strategy in PRICED else None,
            key=lambda candidate: plan_key(self.problem.decode(candidate)),
        )
        curve = Curve()
        spent = self.probe_equivalents if warm else 0.0
        front: FrontArchive[int] = FrontArchive(2)
        known = [row.candidate for row in self.problem.baselines() if row.candidate] if warm else []
        for number in range(evaluations):
            if number >= len(known):
                spent += self._descended(study, number)
            start = time.perf_counter()
            asked = study.ask(number) if number >= len(known) else None
            candidate = known[number] if number < len(known) else asked.candidate if asked else None
            if candidate is None:
                break
            curve.sampler_s.append(time.perf_counter() - start)
            accuracy, size = self.accuracy(candidate), self._bytes(candidate)
            score = Score(values=(accuracy, size))
            study.tell(candidate, {DEVICE: score}, None if asked is None else asked.sampler)
            front.add(number, (-accuracy, size))
            curve.beside.append(spent)
            # As a share of the box between the reference point and a perfect network of no size.
            curve.volumes.append(front.hypervolume(self._reference) / self._reference[1])
        return curve

    def accuracy(self, candidate: Candidate) -> float:
        """Return the share of the search images that are right."""
        plan = self.problem.decode(candidate)
        key = plan_key(plan)
        if key in self._accuracies:
            self.reused += 1
        else:
            self.evaluated += 1
            module = build_module(apply(self._prepared, plan).network)
            right = top1(logits(module, self._images)) == self._labels
            self._accuracies[key] = float(right.float().mean())
        return self._accuracies[key]

    def _descended(self, study: Study, number: int) -> float:
        """Find all relaxed losses that the strategy wants first; return what that took, in full evaluations."""
        images = 0.0
        while (point := study.point(number)) is not None:
            if self._relaxation is None:
                self._relaxation = Relaxation(self._prepared, self.problem)
            found = self._relaxation.loss(point.probabilities, point.batch)
            study.descend(number, found)
            images += found.images
        return images / (len(self._prepared.images) + len(self._images))

    def table(self) -> ChoiceTable:
        """Return what single choices do, measured once; it depends on no seed."""
        if self._table is None:
            divergences = {}
            nodes_before = self._prepared.cache.ran
            for probe in probes(self.problem):
                found = apply(self._prepared, plan_of(self.problem, probe)).outputs[0].log_softmax(1)
                divergence = (self._float.exp() * (self._float - found)).sum(1).double().mean()
                divergences[probe] = float(divergence)
            nodes = len(self._prepared.structure.prepared(self._prepared.network).folded.graph.nodes)
            passes = (self._prepared.cache.ran - nodes_before) / nodes
            calibration = len(self._prepared.images)
            self.probe_equivalents = passes * calibration / (calibration + len(self._images))
            self._table = choice_tables(self.problem, divergences)[DEVICE]
        return self._table

    def _bytes(self, candidate: Candidate) -> float:
        return float(self.problem.costs(candidate, DEVICE).model_bytes)


def _row(name: str, runs: Sequence[Curve], goal: float) -> tuple[object, ...]:
    reached = [run.reached(goal) for run in runs]
    found = [float("inf") if number is None else number for number in reached]
    counted = [run.counted(goal) for run in runs]
    return (
        name,
        len(runs),
        _spread(found),
        _spread(counted),
        f"{median(run.volumes[-1] for run in runs):.4f} after {len(runs[0].volumes)}",
        round(1e3 * median(second for run in runs for second in run.sampler_s), 2),
    )


def _spread(counts: Sequence[float]) -> str:
    texts = ["never" if np.isinf(count) else f"{count:.0f}" for count in sorted(counts)]
    return f"{texts[(len(texts) - 1) // 2]} ({', '.join(texts)})"


def _median_curve(runs: Sequence[Curve]) -> list[tuple[float, float]]:
    longest = max(len(run.volumes) for run in runs)
    return [
        (number + 1.0, median(run.volumes[min(number, len(run.volumes) - 1)] for run in runs))
        for number in range(longest)
    ]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
