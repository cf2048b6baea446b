"""Measure this machine, and write what was found as a profile."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime

from hwmodels.estimate import Pricer
from hwmodels.measure.graphs import GraphWriter
from hwmodels.measure.processor import processor_facts
from hwmodels.measure.sampling import random_network
from hwmodels.measure.session import Event, feeds, launches, run_times_us, session
from hwmodels.measure.traces import kernel_measurements, without_names
from hwmodels.monotonicity import violations
from hwmodels.predictor import KernelMeasurement, Regressor, fit_regressors
from hwmodels.profile import Profile, load_profile
from hwmodels.validation import ErrorSummary, summarise
from hwmodels.workload import Arithmetic, Workload

PASSES = 2  # over all networks, one after the other: what disturbs one pass does not disturb the other
TRACED_RUNS = 20
PLAIN_S = 0.4
FOLDS = 4
KINDS = (("Float", 32), ("8-bit", 8))
Progress = Callable[[int, int, float], None]
"""Called with steps done, steps in all and the seconds that are left."""

FALLBACKS: Mapping[str, str] = {
    "grouped": "conv",
    "matmul": "linear",
    "pool": "max_pool",
    "avg_pool": "max_pool",
    "global_avg_pool": "max_pool",
    "max_pool": "global_avg_pool",
    "elementwise": "add",
    "add": "mul",
    "mul": "add",
    "data_movement": "concat",
    "concat": "add",
    "normalisation": "relu",
    "relu": "add",
    "quantize": "reorder",
    "dequantize": "reorder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRun:
    """A network of random layers that was timed: as a whole, and traced launch by launch."""

    name: str
    workload: Workload
    latency_us: float
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCalibration:
    """A profile of this machine, and how far it is from networks of random layers that a fit did not see."""

    profile: Profile
    left_out: Mapping[str, ErrorSummary]  # by arithmetic
    predictions_us: Mapping[str, tuple[float, float]]  # predicted when left out, and measured, by network


def measure_machine(*, networks: int, progress: Progress | None = None) -> list[NetworkRun]:
    """Return timings of ``networks`` random networks in float and as many in int8, and half as many small ones of each.

    One thread. Every network is visited once in each pass. Of its visits the faster one counts: a machine may be busy
    for minutes.
    """
    seeds = [(seed, small) for seed in range(networks) for small in (False, True)[: 1 + (seed < -(-networks // 2))]]
    kinds = [(seed, int8, small) for seed, small in seeds for int8 in (False, True)]
    visits: dict[tuple[int, bool, bool], list[NetworkRun]] = {kind: [] for kind in kinds}
    started, steps = time.monotonic(), PASSES * len(kinds)
    for step in range(steps):
        kind = kinds[step % len(kinds)]
        visits[kind].append(_visit(*kind))
        if progress is not None:
            spent = time.monotonic() - started
            progress(step + 1, steps, spent / (step + 1) * (steps - step - 1))
    return [_together(found) for found in visits.values()]


def _visit(seed: int, int8: bool, small: bool) -> NetworkRun:
    name, model, workload = random_network(seed, int8=int8, small=small)
    opened = session(model)
    values = feeds(opened)
    run_times_us(opened, values, seconds=0, least=2)
    plain = median(run_times_us(opened, values, seconds=PLAIN_S, clock=time.thread_time_ns))
    del opened
    events = tuple(launches(model, runs=TRACED_RUNS))
    return NetworkRun(name=name, workload=workload, latency_us=plain, events=events)


def _together(visits: Sequence[NetworkRun]) -> NetworkRun:
    first = visits[0]
    times: dict[str, list[float]] = {}
    for visit in visits:
        for event in visit.events:
            times.setdefault(event.name, []).append(event.latency_us)
    events = tuple(event._replace(latency_us=min(times[event.name])) for event in first.events)
    latency_us = min([visit.latency_us for visit in visits])
    return NetworkRun(name=first.name, workload=first.workload, latency_us=latency_us, events=events)


def fit_machine(runs: Sequence[NetworkRun], *, name: str, block: int, source: str) -> MachineCalibration:
    """Return a profile fitted to timings, and its error on networks that were left out in ``FOLDS`` parts."""
    traced_us = tracing_us(runs)
    kernels = {run.name: [*kernel_measurements(run.workload, run.events, traced_us=traced_us)] for run in runs}
    predicted: dict[str, tuple[float, float]] = {}
    for fold in range(FOLDS):
        seen = [run for index, run in enumerate(runs) if index // 2 % FOLDS != fold]
        unseen = [run for index, run in enumerate(runs) if index // 2 % FOLDS == fold]
        pricer = Pricer(_fitted(seen, kernels, name=name, block=block, source=source))
        for run in unseen:
            predicted[run.name] = (pricer.report(run.workload).latency_ms * 1e3, run.latency_us)
    errors = {
        kind: summarise(*zip(*(predicted[run.name] for run in runs if _kind(run) == kind), strict=True))
        for kind in ("float", "integer")
    }
    data = _fitted(runs, kernels, name=name, block=block, source=source).to_json()
    data["notes"] = [f"{kind} kernels: {violations(load_profile(data), bits=bits).text()}" for kind, bits in KINDS]
    data["validation"] = [_validation(kind, found) for kind, found in errors.items()]
    return MachineCalibration(profile=load_profile(data), left_out=errors, predictions_us=predicted)


def tracing_us(runs: Sequence[NetworkRun]) -> float:
    """Return what being traced adds to a launch: nearly all of the time of the very smallest ones."""
    return TRACED_SHARE * float(np.quantile([event.latency_us for run in runs for event in run.events], 0.01))


TRACED_SHARE = 0.8


def blocked_channels() -> int:
    """Return how many channels ONNX Runtime puts side by side in float convolutions on this processor; 0 if none."""
    writer = GraphWriter((64, 8, 8), int8=False, generator=np.random.default_rng(0))
    output = writer.conv(writer.conv(writer.input, 64, 1), 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(writer.model(output), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(path).graph
    sizes = {constant.name: int(constant.dims[0]) for constant in graph.initializer if constant.dims}
    blocked = [node for node in graph.node if node.domain.endswith("nchwc") and node.op_type == "Conv"]
    return min((sizes[node.input[1]] for node in blocked), default=0)


def _fitted(
    runs: Sequence[NetworkRun],
    kernels: Mapping[str, Sequence[KernelMeasurement]],
    *,
    name: str,
    block: int,
    source: str,
) -> Profile:
    rows = [without_names(row) for run in runs for row in kernels[run.name]]
    classes = fit_regressors(rows, block)
    pricer = Pricer(_profile(classes, name=name, block=block, source=source))
    factors = {kind: _whole([run for run in runs if _kind(run) == kind], pricer) for kind in ("float", "integer")}
    scaled = {key: _times(value, factors["integer" if "_int" in key else "float"]) for key, value in classes.items()}
    return _profile(scaled, name=name, block=block, source=source)


def _whole(runs: Sequence[NetworkRun], pricer: Pricer) -> float:
    """Return by what sums of kernels must be multiplied to give networks' times: caches differ without tracing."""
    return median([run.latency_us / (pricer.report(run.workload).latency_ms * 1e3) for run in runs])


def _times(regressor: Regressor, factor: float) -> Regressor:
    trend = (regressor.trend[0] + log(factor), *regressor.trend[1:])
    return regressor.model_copy(update={"trend": trend})


def _kind(run: NetworkRun) -> str:
    return "float" if run.workload.kernels[0].arithmetic is Arithmetic.FLOAT else "integer"


def _profile(classes: Mapping[str, Regressor], *, name: str, block: int, source: str) -> Profile:
    processor, clock_ghz = processor_facts()
    read = {"confidence": "measured", "source": source}
    return load_profile(
        {
            "name": name,
            "title": f"{processor}, one thread, ONNX Runtime {onnxruntime.__version__}"[:200],
            "kind": "cpu",
            "chip": processor,
            "clock_ghz": {"value": clock_ghz, "confidence": "datasheet", "source": "the operating system"},
            "runtime": "ONNX Runtime",
            "release": onnxruntime.__version__,
            "runtime_rules": "onnxruntime",
            "family": "kernel_predictor",
            "model": {
                "classes": {key: value.model_dump() for key, value in classes.items()},
                "fallback": _fallbacks(classes),
                "block": block,
                "fixed_us": {"value": 0.0, "confidence": "estimate", "source": "kernels are timed inside networks"},
                **read,
            },
            "formats": {"weight_bits": [8], "activation_bits": [8], "float_bits": 32, **read},
            "memory": {"rule": "plain"},
        }
    )


def _fallbacks(classes: Mapping[str, Regressor]) -> dict[str, str]:
    """Return for kernels that no network had the class that comes nearest."""
    found: dict[str, str] = {}
    for suffix in ("", "_in_planes", "_from_planes", "_int8"):
        plain = "" if suffix in ("_in_planes", "_from_planes") else suffix
        for name in {*FALLBACKS, "pointwise", "depthwise", "linear"}:
            chain = [f"{name}{plain}"] if plain != suffix else []
            other = name
            for _ in FALLBACKS:
                other = FALLBACKS.get(other, other)
                chain += [f"{other}{suffix}", f"{other}{plain}"]
            chain.append(name)
            nearest = next((item for item in chain if item in classes and item != f"{name}{suffix}"), None)
            if nearest is not None and f"{name}{suffix}" not in classes:
                found[f"{name}{suffix}"] = nearest
    return found


def _validation(kind: str, errors: ErrorSummary) -> dict[str, Any]:
    return {
        "figure": "latency_ms",
        "mape_percent": round(errors.mape_percent, 1),
        "within_10_percent": round(errors.within_10_percent, 1),
        "networks": errors.count,
        **({} if errors.spearman is None else {"spearman": round(errors.spearman, 3)}),
        "applies_to": kind,
        "method": "networks of random layers left out of the fit, mean absolute error",
        "source": f"this machine, {os.cpu_count()} cores, one thread",
    }
