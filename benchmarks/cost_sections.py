"""The sections of ``cost_accuracy``: each compares one part of the cost models with published figures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cost_data import Group, Networks, measured_groups, rows
from benchmarks.generic_profiles import generic_cpu, generic_microcontroller, profiles_from_data_sheets
from hwmodels.bitfusion import bitfusion_cycles
from hwmodels.builder import WorkloadBuilder, with_bits
from hwmodels.calibrate import (
    Design,
    Measurement,
    Prior,
    knobs_of,
    learn_prior,
    leave_one_out,
)
from hwmodels.cost_model import Demand
from hwmodels.energy import int_add_pj, int_mul_pj, sram_read_pj_per_bit
from hwmodels.estimate import estimate
from hwmodels.memory import KIB, peak_memory_bytes
from hwmodels.profile import FusionRule, Memory
from hwmodels.quantity import Quantity
from hwmodels.reference import fd_mobilenet, mobilenet_v1, mobilenet_v2, reference_network
from hwmodels.systolic import mapping_efficiency, systolic_cycles
from hwmodels.table_fit import fit_table
from hwmodels.tables import cell_edges, from_cell
from hwmodels.traffic import dram_bits, layer_traffic
from hwmodels.validation import ErrorSummary, summarise
from hwmodels.workload import Arithmetic, KernelKind, Workload

Result = dict[str, Any]
DATAFLOWS = {"os": "output_stationary", "ws": "weight_stationary", "is": "input_stationary"}
HEADER = f"{'':52} {'n':>3} {'MAPE':>6} {'±5':>5} {'±10':>5} {'±20':>5} {'rho':>6} {'worst':>6}"


def target(what: str, got: float, bound: float, *, at_most: bool = False) -> dict[str, Any]:
    """Return one line of the table of targets."""
    met = got <= bound if at_most else got >= bound
    return {"what": what, "got": round(got, 3), "target": f"{'≤' if at_most else '≥'} {bound}", "met": bool(met)}


def line(name: str, errors: ErrorSummary) -> str:
    """Return one printed row of errors."""
    rho = "" if errors.spearman is None else f"{errors.spearman:.3f}"
    return (
        f"{name[:52]:52} {errors.count:3d} {errors.mape_percent:6.1f} {errors.within_5_percent:5.0f} "
        f"{errors.within_10_percent:5.0f} {errors.within_20_percent:5.0f} {rho:>6} {errors.worst_percent:6.0f}"
    )


def constant_per_mac(train: Sequence[Measurement], test: Sequence[Measurement]) -> list[float]:
    """Baseline: MACs times the median time per MAC."""
    rate = median(m.latency_ms / m.workload.macs for m in train)
    return [m.workload.macs * rate for m in test]


def references(folder: Path) -> Result:
    """Simulators and tables that must be met exactly."""
    lines, targets = [], []
    table = rows(folder / "systolic_reference.csv")
    exact = 0
    for row in table:
        shape = {
            "rows": int(row["array_rows"]),
            "columns": int(row["array_cols"]),
            "dataflow": DATAFLOWS[row["dataflow"]],
        }
        m, n, k = int(row["gemm_M"]), int(row["gemm_N"]), int(row["gemm_K"])
        cycles = systolic_cycles(m, n, k, **shape)  # type: ignore[arg-type]
        mapped = 100 * mapping_efficiency(m, n, k, **shape)  # type: ignore[arg-type]
        exact += cycles == int(row["cycles"]) and abs(mapped - float(row["mapping_efficiency_pct"])) < 0.01
    targets.append(target("systolic cycles exact, cases", exact, len(table)))
    table = rows(folder / "bitfusion_reference.csv")
    exact, worst = 0, 0.0
    for row in table:
        cycles = bitfusion_cycles(
            pixels=int(row["batch"]) * int(row["oh"]) * int(row["ow"]),
            in_channels=int(row["ic"]),
            out_channels=int(row["oc"]),
            window=int(row["kh"]) * int(row["kw"]),
            weight_bits=int(row["w_bits"]),
            activation_bits=int(row["a_bits"]),
            rows=int(row["rows_N"]),
            columns=int(row["cols_M"]),
            im2col=row["im2col"] == "1",
        )
        exact += cycles == int(row["compute_cycles"])
        moved = int(row["dram_read_bits"]) + int(row["dram_write_bits"])
        total = max(cycles, -(-moved // int(row["dram_bits_per_cycle"])))
        worst = max(worst, 100 * abs(total / int(row["total_cycles"]) - 1))
    targets.append(target("Bit Fusion compute cycles exact, cases", exact, len(table)))
    targets.append(target("Bit Fusion totals, worst percent", worst, 0.1, at_most=True))
    points = [
        (int_mul_pj(8, 8), 0.2),
        (int_mul_pj(32, 32), 3.1),
        (int_add_pj(32), 0.1),
        (int_add_pj(16), 0.05),
        (sram_read_pj_per_bit(8 * KIB * 8), 10 / 64),
        (sram_read_pj_per_bit(1024 * KIB * 8), 100 / 64),
    ]
    worst = max(100 * abs(ours / theirs - 1) for ours, theirs in points)
    targets.append(target("energy closed forms at the table's points, worst percent", worst, 0.2, at_most=True))
    published = {"mobilenet_v1": 569, "mobilenet_v2": 300, "resnet18": 1814, "resnet50": 4089, "vgg16": 15470}
    worst = max(100 * abs(reference_network(name).macs / 1e6 / macs - 1) for name, macs in published.items())
    targets.append(target("MACs of published networks, worst percent", worst, 1.0, at_most=True))
    for name, (words, measured) in eyeriss_traffic().items():
        lines.append(f"Eyeriss, {name}: {words:.4f} DRAM words per MAC, measured {measured}")
        factor = max(words / measured, measured / words)
        targets.append(target(f"DRAM traffic of Eyeriss on {name}, factor", factor, 1.5, at_most=True))
    networks = Networks(folder)
    for simulated, found in simulated_cells(folder).items():
        lines.append(f"simulated {simulated}: worst error {found:.3f} % on cells that the fit did not see")
        targets.append(target(f"simulated {simulated}, worst percent", found, 0.1, at_most=True))
    lines.append(f"layer tables read: {len(list(networks.table_names()))} networks")
    return {"lines": lines, "targets": targets}


def eyeriss_traffic() -> dict[str, tuple[float, float]]:
    """Return DRAM words per MAC of the convolutions, by our tiling and as measured (Chen et al., JSSC 2017)."""
    alexnet = WorkloadBuilder((3, 227, 227), weight_bits=16, activation_bits=16)
    x = alexnet.pool(alexnet.conv(alexnet.input, 96, 11, 4, out_size=(55, 55)), 3, 2, out_size=(27, 27))
    x = alexnet.pool(alexnet.conv(x, 256, 5, groups=2), 3, 2, out_size=(13, 13))
    alexnet.conv(alexnet.conv(alexnet.conv(x, 384, 3), 384, 3, groups=2), 256, 3, groups=2)
    cases = {"AlexNet": (alexnet.build(), 4, 0.0029), "VGG-16": (reference_network("vgg16"), 3, 0.0035)}
    found = {}
    for name, (workload, batch, published) in cases.items():
        bits = macs = 0.0
        for kernel in workload.kernels:
            if kernel.macs and kernel.kind is not KernelKind.LINEAR:
                reads, writes = (
                    sum(workload.tensors[t].elements for t in names) for names in (kernel.inputs, kernel.outputs)
                )
                demand = Demand(kernel.weights * 2, reads * 2, writes * 2, reads, writes, 16, 0)
                bits += dram_bits(layer_traffic(kernel, demand, batch=batch), 108 * KIB * 8)
                macs += kernel.macs * batch
        found[name] = (bits / 16 / macs, published)
    return found


def simulated_cells(folder: Path) -> dict[str, float]:
    """Return the worst error on simulated accelerators that charge every edge, dead or not."""
    by_device: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows(folder / "nasbench201_latency.csv"):
        if row["evidence"] == "simulated":
            by_device[row["device_id"]].append(row)
    worst = {}
    ops = ("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    for device, table in by_device.items():
        counts = np.array([[1.0, *(sum(e[2] == op for e in cell_edges(r["arch_str"])) for op in ops)] for r in table])
        latency = np.array([float(row["latency_ms"]) for row in table])
        fit = np.linalg.lstsq(counts[::2] / latency[::2, None], np.ones(len(latency[::2])), rcond=None)[0]
        worst[device] = float(100 * np.abs(counts[1::2] @ fit / latency[1::2] - 1).max())
    return worst


GPU_RULES = (("conv", "add"), ("add", "add"), ("pool", "add"))
CELL_TARGETS = {"cortexa76": 95.0, "adreno640": 95.0, "adreno630": 95.0, "myriad": 90.0}


def nasbench201(folder: Path) -> Result:
    """Cells on measured devices: a kernel table from 200 networks, tested on the others."""
    by_device: dict[str, list[Measurement]] = defaultdict(list)
    for row in rows(folder / "nasbench201_latency.csv"):
        if row["evidence"] != "simulated":
            workload = from_cell(row["arch_str"])
            by_device[row["device_id"]].append(
                Measurement(network=row["arch_index"], workload=workload, latency_ms=float(row["latency_ms"]))
            )
    lines, targets = [HEADER], []
    base = generic_cpu("nasbench201")
    for device, cells in by_device.items():
        rules = GPU_RULES if "adreno" in device else ()
        profile = base.model_copy(update={"fusion": tuple(FusionRule(first=a, second=b) for a, b in rules)})
        order = np.random.default_rng(0).permutation(len(cells))
        train, test = [cells[i] for i in order[:200]], [cells[i] for i in order[200:]]
        fitted = fit_table(profile, train, source="200 cells")
        truth = [m.latency_ms for m in test]
        errors = summarise([estimate(m.workload, fitted).latency_ms for m in test], truth)
        lines.append(line(device, errors))
        lines.append(line("    MACs × constant", summarise(constant_per_mac(train, test), truth)))
        lines.append(line("    mean", summarise([float(np.mean([m.latency_ms for m in train]))] * len(test), truth)))
        bound = next((value for name, value in CELL_TARGETS.items() if device.startswith(name)), None)
        if bound is not None:
            targets.append(target(f"{device}: within ±10 %", errors.within_10_percent, bound))
    return {"lines": lines, "targets": targets}


def board(group: Group) -> str:
    """Return the chip without the core, so that a prior for one board never saw that board."""
    return group.device


def priors(
    groups: Mapping[Group, Sequence[Measurement]],
    designs: Mapping[Group, Sequence[Design]],
    start: Prior,
    *,
    kind: Any,
    without_network: str | None = None,
) -> dict[tuple[Any, str], Prior]:
    """Return what the other boards' groups of a kind have in common, for every board."""
    found = {}
    for name in {kind(group) for group in groups}:
        for left_out in {board(group) for group in groups}:
            usable = []
            for group, measurements in groups.items():
                kept = [i for i, m in enumerate(measurements) if m.network != without_network]
                if kind(group) == name and board(group) != left_out and len(kept) >= 3:
                    latency = np.array([measurements[i].latency_ms for i in kept])
                    usable.append((Design.join([designs[group][i] for i in kept]), latency))
            found[name, left_out] = learn_prior(usable, start) if len(usable) >= 2 else start
    return found


def runtime_kind(group: Group) -> tuple[str, str, bool]:
    """Return what groups must share to inform each other."""
    return group.runtime.split(" ")[0], "int8" if group.dtype == "int8" else group.dtype[:4], group.threads != "1"


def published_cpus(folder: Path) -> Result:
    """Published networks on CPUs, one network left out per group."""
    groups = measured_groups(folder, Networks(folder), engines=("cpu",))
    return _leave_one_out(
        {group: found for group, found in groups.items() if len(found) >= 3},
        profile_name="cpu",
        at_least=6,
        figure="CPU networks, leave one out",
        bounds=(15.0, 0.95),
    )


def _leave_one_out(
    groups: Mapping[Group, Sequence[Measurement]],
    *,
    profile_name: str,
    at_least: int,
    figure: str,
    bounds: tuple[float, float | None],
) -> Result:
    profile = generic_cpu("generic") if profile_name == "cpu" else generic_microcontroller("generic")
    designs = {group: [Design(profile, [m.workload]) for m in found] for group, found in groups.items()}
    lines, targets, figures = [HEADER], [], {}
    known: dict[Any, Prior] = {}
    for arithmetic in (Arithmetic.FLOAT, Arithmetic.INTEGER):
        of_kind = {g: m for g, m in groups.items() if (g.dtype == "int8") == (arithmetic is Arithmetic.INTEGER)}
        known |= priors(of_kind, designs, Prior(knobs_of(profile, arithmetic)), kind=runtime_kind)
    for group, found in sorted(groups.items()):
        truth = [m.latency_ms for m in found]
        prior = known[runtime_kind(group), board(group)]
        predicted = leave_one_out(designs[group], np.array(truth), [m.network for m in found], prior)
        errors = summarise(predicted.tolist(), truth)
        lines.append(line(str(group), errors))
        others = [[m for m in found if m is not left] for left in found]
        macs = [constant_per_mac(rest, [left])[0] for rest, left in zip(others, found, strict=True)]
        mean = [float(np.mean([m.latency_ms for m in rest])) for rest in others]
        lines.append(line("    MACs × constant", summarise(macs, truth)))
        lines.append(line("    mean", summarise(mean, truth)))
        figures[str(group)] = {**errors.to_json(), "networks": len(found)}
    large = [entry for entry in figures.values() if entry["networks"] >= at_least]
    mape = median(entry["mape_percent"] for entry in large)
    lines.append(f"{len(large)} groups with at least {at_least} networks: median MAPE {mape:.1f} %")
    targets.append(target(f"{figure}: median MAPE percent", mape, bounds[0], at_most=True))
    if bounds[1] is not None:
        rho = median(entry["spearman"] for entry in large if entry["spearman"] is not None)
        targets.append(target(f"{figure}: median Spearman", rho, bounds[1]))
    return {"lines": lines, "targets": targets, "groups": figures}


def data_sheets(folder: Path) -> Result:
    """Profiles from data sheets alone, nothing fitted."""
    groups = measured_groups(folder, Networks(folder), engines=("cpu", "gpu"))
    lines, targets = [HEADER + "  factor"], []
    factors, ranks = [], []
    for group, found in sorted(groups.items()):
        profile = profiles_from_data_sheets(folder / "devices.yaml", group)
        if profile is None or len(found) < 3:
            continue
        predicted = [estimate(m.workload, profile).latency_ms for m in found]
        truth = [m.latency_ms for m in found]
        errors = summarise(predicted, truth)
        ratios = np.exp(np.abs(np.log(np.array(predicted) / np.array(truth))))
        factor = float(np.median(ratios))
        lines.append(f"{line(str(group), errors)}  {factor:.2f}")
        if len(found) >= 6 and "PyTorch" not in group.runtime:
            factors.append(factor)
            ranks.append(errors.spearman or 0.0)
    targets.append(target("data-sheet profiles: median factor", median(factors), 2.0, at_most=True))
    targets.append(target("data-sheet profiles: median Spearman", median(ranks), 0.9))
    return {"lines": lines, "targets": targets}


def microcontrollers(folder: Path) -> Result:
    """Latency on microcontrollers, one network left out per (chip, clock, runtime, release)."""
    groups = measured_groups(folder, Networks(folder), engines=("mcu",))
    return _leave_one_out(
        {group: found for group, found in groups.items() if len({m.network for m in found}) >= 2},
        profile_name="mcu",
        at_least=3,
        figure="microcontrollers, leave one out",
        bounds=(20.0, None),
    )


def microcontroller_energy(folder: Path) -> Result:
    """Energy given latency: one constant power per board and runtime, one network left out."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows(folder / "measured_latency.csv"):
        if row["engine"] == "mcu" and row["energy_mj"]:
            power_w = float(row["energy_mj"]) / float(row["latency_ms"])
            found[f"{row['device_id']} / {row['runtime']}"][row["model"]].append(power_w)
    lines, errors = [f"{'':52} networks, power in mW, worst error left out"], []
    for name, networks in sorted(found.items()):
        watts = [median(values) for values in networks.values()]
        if len(watts) < 2:
            continue
        left = [abs(float(np.mean(watts[:i] + watts[i + 1 :])) / w - 1) * 100 for i, w in enumerate(watts)]
        errors.append(float(np.mean(left)))
        lines.append(f"{name[:52]:52} {len(watts):3d} {1e3 * median(watts):7.1f} {max(left):6.1f} %")
    return {
        "lines": lines,
        "targets": [target("microcontroller energy given latency: median MAPE", median(errors), 10, at_most=True)],
    }


RUNTIME_RULES = {
    "X-CUBE-AI 7": ("overlapping", 7.0),
    "STM32Cube.AI 10": ("plain", 0.0),
    "ST Edge AI Core 3": ("plain", 0.0),
}


def microcontroller_memory(folder: Path) -> Result:
    """Peak RAM and flash of int8 networks: a rule per runtime release and one scratch factor, one network left out."""
    networks = Networks(folder)
    groups: dict[str, list[tuple[str, Workload, float, float]]] = defaultdict(list)
    for row in rows(folder / "measured_memory.csv"):
        if not row["activation_ram_kib"] or row["dtype"] != "int8" or not row["series"].startswith("STM32H7"):
            continue
        workload = _int8_network(networks, row)
        runtime = next(
            (name for name in RUNTIME_RULES if row["runtime"].replace("X-CUBE-AI 8", "-").startswith(name)), None
        )
        if workload is None or runtime is None:
            continue
        label = f"{row['model']}@{row['input_h']}x{row['input_c']}"
        weights = float(row["weights_flash_kib"])
        groups[runtime].append((label, workload, float(row["activation_ram_kib"]), weights))
    lines, targets = [HEADER], []
    shares = []
    for runtime, cases in groups.items():
        rule, overlap = RUNTIME_RULES[runtime]
        window = Quantity(value=overlap, confidence="measured", source="benchmark")
        memory = Memory.model_validate({"rule": rule, "overlap_rows": window})
        plain = [_peak_kib(workload, memory) for _, workload, _, _ in cases]
        truth = [ram for _, _, ram, _ in cases]
        labels = [label for label, *_ in cases]
        predicted = []
        for index, label in enumerate(labels):
            ratios = [t / p for name, t, p in zip(labels, truth, plain, strict=True) if name != label]
            predicted.append(plain[index] * (median(ratios) if ratios else 1.0))
        errors = summarise(predicted, truth)
        shares.append(errors.median_percent)
        lines.append(line(f"RAM, {runtime} ({rule})", errors))
        lines += [
            f"    {n:44} {p:8.1f} KiB, published {t:8.1f}" for n, p, t in zip(labels, predicted, truth, strict=True)
        ]
    targets.append(target("microcontroller RAM: median error percent", median(shares), 10, at_most=True))
    flash = [(w, _weights_kib(load)) for cases in groups.values() for _, load, _, w in cases]
    close = [abs(ours / theirs - 1) * 100 for theirs, ours in flash]
    lines.append(f"weights in flash: median error {median(close):.1f} % over {len(close)} networks")
    targets.append(target("weights in flash: median error percent", median(close), 5, at_most=True))
    return {"lines": lines, "targets": targets}


def _int8_network(networks: Networks, row: dict[str, str]) -> Workload | None:
    """Return the network with the number of classes that its published weights tell."""
    weights = float(row["weights_flash_kib"])
    name, size, channels = row["model"], int(row["input_h"]), int(row["input_c"])
    builders = {"mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2, "fd_mobilenet": fd_mobilenet}
    family = name.rsplit("_", 1)[0]
    if family in builders:
        width = float(name.rsplit("_", 1)[1])
        choices = [builders[family](width, size, channels, classes) for classes in (2, 5, 101, 1000)]
    else:
        found = networks.float_workload({**row, "arch_ref": ""})
        if found is None:
            return None
        choices = [found]
    best = min(choices, key=lambda choice: abs(_weights_kib(choice) - weights))
    return with_bits(best, weight_bits=8, activation_bits=8)


def _weights_kib(workload: Workload) -> float:
    return sum(k.weights + 4 * k.biases for k in workload.kernels) / KIB


def _peak_kib(workload: Workload, memory: Memory) -> float:
    sizes = {name: info.elements for name, info in workload.tensors.items()}
    return peak_memory_bytes(workload, memory, tensor_bytes=sizes) / KIB
