"""Does the predicted latency of pruned networks rank them as ONNX Runtime does on this CPU?

Random plans of ResNet-20 and MobileNetV2 (random weights: time does not depend on them), each with keep-ratios of its
own for every channel group, every second plan in eight bits; exported to ONNX and timed on one thread, one image. All
files take turns of a few runs, of which the first, with caches that others have filled, does not count: predictions are
of warm runs. The clock is the thread's own, which leaves other processes' turns out; a file's time is its median.
Predictions are those of a device profile: one that ships, or the file that ``tightfit calibrate`` has written for this
machine.

    python -m benchmarks.pruned_latency [--profile x86-avx2 | FILE.yaml] [--plans 30] [--turns 20] [--json FILE]
"""

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks import common
from benchmarks.ingest_exports import CURRENT, export, quiet
from benchmarks.latency_networks import mobilenet_v2
from compress.apply import apply, prepare
from compress.export import export_onnx
from compress.network.build import run_shapes
from compress.network.graph import Graph, Network
from compress.network.onnx_import import import_onnx
from compress.network.zoo import ARCHITECTURES, GraphWriter
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Plan
from compress.structure import Structure, analyse, restructure
from compress.workload import workload
from hwmodels.estimate import estimate
from hwmodels.measure.session import feeds, run_times_us, session
from hwmodels.profile import Profile, builtin_profiles, load_profile

RATIOS = (0.25, 0.5, 0.75, 1.0)
IMAGE = 96  # of MobileNetV2, pixels per side
NETWORKS = ("resnet20", "mobilenet_v2")
WARM_UP_TURNS = 1
RUNS_PER_TURN = 4


def main() -> None:
    """Build, predict, time and print."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    arguments.add_argument("--profile", help="name of a profile, or its file (that of this CPU's instructions)")
    arguments.add_argument("--plans", type=int, default=30, help="plans of each network (30)")
    arguments.add_argument("--turns", type=int, default=20, help=f"of every file, {RUNS_PER_TURN} timed runs each (20)")
    arguments.add_argument("--seed", type=int, default=0, help="of the plans (0)")
    options = arguments.parse_args()
    profile = chosen_profile(options.profile)
    figures: dict[str, Any] = {"profile": profile.name, "turns": options.turns}
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            rows = measured(name, profile, Path(folder), options.plans, options.turns, options.seed)
        columns = ("plan", "bits", "MMAC", "predicted ms", "measured ms")
        common.print_table(f"{name} on {profile.name}", columns, [tuple(row.values()) for row in rows])
        figures[name] = {"rows": rows, **agreement(rows)}
        for label, value in agreement(rows).items():
            print(f"{name}, {label}: {value:.3f}")
    common.report("pruned_latency", figures, path=options.json)


def chosen_profile(wanted: str | None) -> Profile:
    """Return the profile of that name or file; without one, the one of this CPU's vector instructions."""
    profiles = builtin_profiles()
    if wanted is None:
        facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
        return profiles["x86-avx512-vnni" if "avx512_vnni" in facts else "x86-avx2"]
    return profiles[wanted] if wanted in profiles else load_profile(Path(wanted))


def measured(name: str, profile: Profile, folder: Path, plans: int, turns: int, seed: int) -> list[dict[str, Any]]:
    """Return a row per plan with its predicted and its measured time."""
    network = built(name, folder)
    structure = analyse(network)
    (source,) = network.graph.inputs
    images = torch.randn(4, *network.graph.shapes[source][1:], generator=torch.Generator().manual_seed(0))
    prepared = prepare(network, images, structure=structure)
    rng = np.random.default_rng(seed)
    rows, sessions = [], []
    for number in range(plans):
        plan = random_plan(network, structure, rng, quantized=number % 2 == 1)
        load = workload(restructure(network.to_meta(), plan, structure=structure), plan)
        path = folder / f"{number}.onnx"
        export_onnx(apply(prepared, plan), path)
        sessions.append(session(path))
        rows.append(
            {
                "plan": number,
                "bits": 8 if plan.layers else 32,
                "MMAC": round(load.macs / 1e6, 2),
                "predicted ms": estimate(load, profile).latency_ms,
            }
        )
    started = time.perf_counter()
    values = [feeds(opened) for opened in sessions]
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(WARM_UP_TURNS + turns):
        for opened, given, found in zip(sessions, values, times, strict=True):
            took = run_times_us(opened, given, seconds=0.0, least=1 + RUNS_PER_TURN, clock=time.thread_time_ns)
            found += took[1:] if turn >= WARM_UP_TURNS else []
    print(f"{name}: {turns} turns in {time.perf_counter() - started:.0f} s", flush=True)
    return [{**row, "measured ms": statistics.median(found) / 1e3} for row, found in zip(rows, times, strict=True)]


def random_plan(network: Network, structure: Structure, rng: np.random.Generator, *, quantized: bool) -> Plan:
    """Return a plan with a keep-ratio for every group; half of the plans cut much, half little."""
    ratios = RATIOS[:3] if rng.random() < 0.5 else RATIOS[1:]
    bits = LayerBits(weight_bits=8, activation_bits=8)
    return Plan(
        keep_ratios={group.name: float(rng.choice(ratios)) for group in structure.groups.groups},
        layers={node.name: bits for node in network.graph.nodes if node.op in LAYER_OPS} if quantized else {},
    )


def built(name: str, folder: Path) -> Network:
    """Return a network with random weights."""
    torch.manual_seed(0)
    if name == "mobilenet_v2":
        path = folder / "network.onnx"
        with quiet():
            export(mobilenet_v2(), torch.zeros(1, 3, IMAGE, IMAGE), CURRENT, path)
        beside = path.with_name(f"{path.name}.data")
        return import_onnx(path, beside if beside.is_file() else None)
    architecture, writer = ARCHITECTURES["cifar_resnet20"], GraphWriter()
    architecture.build(writer)
    tensors = {key: _random_tensor(key, shape) for key, shape in writer.wanted.items()}
    graph = Graph(
        nodes=tuple(writer.nodes),
        inputs=("input",),
        outputs=(writer.nodes[-1].outputs[0],),
        shapes={"input": (1, *architecture.input_shape)},
    )
    return Network(graph=run_shapes(Network(graph=graph, tensors=tensors)), tensors=tensors)


def _random_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return torch.rand(shape) + 0.5
    spread: float = max(1, int(np.prod(shape[1:]))) ** 0.5
    return torch.randn(shape) / spread


def agreement(rows: list[dict[str, Any]]) -> Mapping[str, float]:
    """Return how well the predictions rank the plans, and how far they are off."""
    found = {}
    for label, wanted in (("all", (8, 32)), ("float", (32,)), ("8 bit", (8,))):
        chosen = [row for row in rows if row["bits"] in wanted]
        predicted, real = ([row[key] for row in chosen] for key in ("predicted ms", "measured ms"))
        found[f"Spearman, {label}"] = float(spearmanr(predicted, real).statistic)
    ratios = [abs(row["predicted ms"] / row["measured ms"] - 1) for row in rows]
    return {**found, "median error": statistics.median(ratios)}


if __name__ == "__main__":
    main()
