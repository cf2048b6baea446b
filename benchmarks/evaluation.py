"""What does a quantized candidate cost beside the plain float network?

ResNet-20 on CIFAR-10: the whole evaluation of a candidate (applying the plan, and its forward pass over the search
images) against the float network's forward pass over the same images, same threads and batch, in turns. Candidates
choose bits anywhere ("all layers"), or differ from a measured one in a single layer, as a search's children do. The
third row builds nothing on what earlier candidates have left behind. Calibrating is the pass over the calibration
images in which a candidate finds its ranges and is repaired. It is part of applying, and timed apart: what must stay
below the largest ratio is everything else.
"""

import statistics
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks import cifar, common
from compress.apply import Prepared, apply, prepare
from compress.calibration_pass import CalibrationCache
from compress.evaluate import logits
from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.zoo import from_architecture
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Plan
from compress.structure import analyse

LARGEST_RATIO = 1.25
WEIGHT_BITS, ACTIVATION_BITS = (2, 3, 4, 6, 8), (4, 6, 8)


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one candidate's parts."""

    apply: float
    calibrate: float
    forward: float

    @property
    def whole(self) -> float:
        """All that an evaluation takes."""
        return self.apply + self.forward


def main() -> int:
    """Print the table; return 1 if a candidate takes too long beside the float network."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--images", type=int, default=2000, help="search images (2000)")
    arguments.add_argument("--calibration", type=int, default=256, help="calibration images (256)")
    arguments.add_argument("--rounds", type=int, default=8, help="candidates of each kind (8)")
    options = arguments.parse_args()
    names = (cifar.TRAIN_FILES[0], cifar.RESNET20_FILE)
    train, weights = common.require_files(options.data, names).values()
    torch.set_num_threads(1)
    network = from_architecture("cifar_resnet20", weights)
    images, _ = cifar.images(train, options.images + options.calibration)
    search, calibration = images[: options.images], images[options.images :]
    prepared = prepare(network, calibration, structure=analyse(network.to_meta()))
    fresh = prepare(network, calibration, structure=analyse(network.to_meta()))
    object.__setattr__(fresh, "cache", CalibrationCache(enabled=False))
    module = build_module(network)

    rng = np.random.default_rng(0)
    float_s: list[float] = []
    found: dict[str, list[Timed]] = {"bits of all layers": [], "bits of one layer": [], "nothing shared": []}
    parent = _random(network, rng)
    timed(prepared, parent, search)
    timed(prepared, _child(parent, rng), search)
    for _ in range(options.rounds):
        start = time.perf_counter()
        logits(module, search)
        float_s.append(time.perf_counter() - start)
        plan = _random(network, rng)
        found["bits of all layers"].append(timed(prepared, plan, search))
        found["bits of one layer"].append(timed(prepared, _child(parent, rng), search))
        found["nothing shared"].append(timed(fresh, plan, search))
    base = statistics.median(float_s)
    rows = [("float network", 0.0, 0.0, base, base, 1.0, 1.0)]
    for kind, times in found.items():
        whole = statistics.median(row.whole for row in times)
        parts = [statistics.median(getattr(row, part) for row in times) for part in ("apply", "calibrate", "forward")]
        without = statistics.median(row.whole - row.calibrate for row in times)
        rows.append((kind, *parts, whole, whole / base, without / base))
    columns = (
        "candidate",
        "apply, s",
        "of that calibrating",
        "forward, s",
        "whole, s",
        "times the float pass",
        "without calibrating",
    )
    common.print_table(f"ResNet-20, {options.images} images, medians of {options.rounds}", columns, rows)
    figures = {"largest_ratio": LARGEST_RATIO, "rows": [dict(zip(columns, row, strict=True)) for row in rows]}
    common.report("evaluation", figures, path=options.json)
    return int(any(row[-1] > LARGEST_RATIO for row in rows[1:3]))


def timed(prepared: Prepared, plan: Plan, images: Tensor) -> Timed:
    """Evaluate one candidate as an evaluator does."""
    start = time.perf_counter()
    module = build_module(apply(prepared, plan).network)
    applied = time.perf_counter()
    logits(module, images)
    return Timed(applied - start, prepared.cache.seconds, time.perf_counter() - applied)


def _random(network: Network, rng: np.random.Generator) -> Plan:
    names = [node.name for node in network.graph.nodes if node.op in LAYER_OPS]
    return Plan(layers={name: _bits(rng) for name in names})


def _child(parent: Plan, rng: np.random.Generator) -> Plan:
    name = str(rng.choice(sorted(parent.layers)))
    return replace(parent, layers={**parent.layers, name: _bits(rng)})


def _bits(rng: np.random.Generator) -> LayerBits:
    return LayerBits(weight_bits=int(rng.choice(WEIGHT_BITS)), activation_bits=int(rng.choice(ACTIVATION_BITS)))


if __name__ == "__main__":
    sys.exit(main())
