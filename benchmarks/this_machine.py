"""How well does a profile that was just calibrated price networks on this machine?

First ``python -m benchmarks.machine_networks --networks FOLDER`` writes sixty networks (torchvision's at several
resolutions, whole and pruned, float and int8); it needs torchvision and no quiet machine. Then this benchmark, on a
machine with nothing else to do, times kernels as ``tightfit calibrate`` does, fits a profile, times every file twice
with ONNX Runtime on one thread, and compares. Files whose two timings differ by more than 5 % are left out and
counted. Beside stand MACs times the median time per MAC of the calibration's own networks, and those networks' mean.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from benchmarks import common
from benchmarks.machine_networks import read
from hwmodels.estimate import estimate
from hwmodels.measure.bench import time_file
from hwmodels.measure.machine import NetworkRun, blocked_channels, fit_machine, measure_machine
from hwmodels.measure.storage import read_runs, write_runs
from hwmodels.profile import Profile
from hwmodels.validation import ErrorSummary, summarise
from hwmodels.workload import Arithmetic, Workload

NOISE_PERCENT = 5.0
TARGET_PERCENT = 90.0
SECONDS = 0.8  # of each timing of a file, beyond warm-up and the least number of runs
REPORT_EVERY = 8


class Compared(NamedTuple):
    """A network: two timings, the profile's price, and what the baselines say; all in ms."""

    name: str
    first: float
    second: float
    predicted: float
    by_macs: float
    by_mean: float

    @property
    def measured(self) -> float:
        """The mean of both timings."""
        return (self.first + self.second) / 2

    @property
    def noise_percent(self) -> float:
        """By how much the timings differ."""
        return 100 * abs(self.first - self.second) / min(self.first, self.second)


def main() -> int:
    """Run the comparison; return 1 if the target is missed."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--networks", type=Path, required=True, help="folder of benchmarks.machine_networks")
    arguments.add_argument("--calibration", type=int, default=24, help="random networks of each kind (24)")
    arguments.add_argument(
        "--keep", type=Path, help="keep timings in this folder; those that are there are not repeated"
    )
    options = arguments.parse_args()
    networks = list(read(options.networks))
    if not networks:
        print(f"{options.networks}: no networks; write them with benchmarks.machine_networks", file=sys.stderr)
        return common.DATA_MISSING
    started = time.monotonic()
    runs = _calibration_runs(options.calibration, options.keep)
    measured_s = time.monotonic() - started
    source = f"measured by benchmarks.this_machine, {len(runs)} networks of random layers"
    fitted = fit_machine(runs, name="this-machine", block=blocked_channels(), source=source)
    calibrated_s = time.monotonic() - started
    timings = _timings({name: path for name, path, _ in networks}, options.keep)
    if options.keep:
        (options.keep / "this-machine.yaml").write_text(fitted.profile.to_yaml(), encoding="utf-8")
    rows = [_compared(name, load, timings[name], fitted.profile, runs) for name, _, load in networks]
    return _report(rows, fitted.left_out, (measured_s, calibrated_s, time.monotonic() - started), options.json)


def _calibration_runs(count: int, keep: Path | None) -> list[NetworkRun]:
    path = None if keep is None else keep / "calibration.json.gz"
    if path is not None and path.is_file():
        return read_runs(path)

    def progress(done: int, total: int, left_s: float) -> None:
        if done % REPORT_EVERY == 0:
            print(f"calibration: {done} of {total}, {left_s:.0f} s left", flush=True)

    runs = measure_machine(networks=count, progress=progress)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_runs(path, runs)
    return runs


def _timings(files: Mapping[str, Path], keep: Path | None) -> Mapping[str, list[float]]:
    """Return two timings of each file in ms, one from each pass over all of them."""
    path = None if keep is None else keep / "timings.json"
    if path is not None and path.is_file():
        kept: Mapping[str, list[float]] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    found: dict[str, list[float]] = {name: [] for name in files}
    for number in (1, 2):
        for index, (name, file) in enumerate(files.items(), start=1):
            found[name].append(time_file(file, threads=1, seconds=SECONDS).latency_ms)
            if index % REPORT_EVERY == 0:
                print(f"timing {number} of 2: {index} of {len(files)}", flush=True)
    if path is not None:
        path.write_text(json.dumps(found), encoding="utf-8")
    return found


def _compared(
    name: str, load: Workload, timings: Sequence[float], profile: Profile, runs: Sequence[NetworkRun]
) -> Compared:
    kind = _is_float(load)
    alike = [run for run in runs if _is_float(run.workload) == kind]
    per_mac = median(run.latency_us / run.workload.macs for run in alike)
    return Compared(
        name=name,
        first=timings[0],
        second=timings[1],
        predicted=estimate(load, profile).latency_ms,
        by_macs=load.macs * per_mac / 1e3,
        by_mean=mean(run.latency_us for run in alike) / 1e3,
    )


def _is_float(load: Workload) -> bool:
    return all(kernel.arithmetic is Arithmetic.FLOAT for kernel in load.kernels if kernel.macs)


def _report(
    rows: Sequence[Compared],
    left_out: Mapping[str, ErrorSummary],
    seconds: tuple[float, float, float],
    path: Path | None,
) -> int:
    quiet = [row for row in rows if row.noise_percent <= NOISE_PERCENT]
    common.print_table(
        "Networks, one thread (ms)",
        ("network", "timed", "again", "differs %", "predicted", "error %", ""),
        [
            (
                row.name,
                row.first,
                row.second,
                f"{row.noise_percent:.1f}",
                row.predicted,
                f"{100 * (row.predicted / row.measured - 1):+.1f}",
                "" if row in quiet else "noise",
            )
            for row in rows
        ],
    )
    groups = {
        "all": quiet,
        "float": [row for row in quiet if "int8" not in row.name],
        "int8": [row for row in quiet if "int8" in row.name],
        "pruned": [row for row in quiet if "pruned" in row.name],
    }
    errors = {name: _errors(found) for name, found in groups.items() if found}
    common.print_table(
        "Errors of networks that were not noise",
        ("networks", "by", "count", "MAPE %", "±5 %", "±10 %", "±20 %", "worst %", "Spearman"),
        [
            (name, by, e.count, *_rounded(e), "–" if e.spearman is None else round(e.spearman, 3))
            for name, found in errors.items()
            for by, e in found.items()
        ],
    )
    common.print_table(
        "Networks of random layers, left out of the fit in fourths",
        ("networks", "count", "MAPE %", "±10 %", "worst %"),
        [
            (kind, e.count, round(e.mape_percent, 1), round(e.within_10_percent, 1), round(e.worst_percent, 1))
            for kind, e in left_out.items()
        ],
    )
    share = errors["all"]["profile"].within_10_percent if quiet else 0.0
    measuring, calibrating, whole = seconds
    print(f"{len(rows) - len(quiet)} of {len(rows)} networks left out as noise.")
    print(f"Timing kernels took {measuring:.0f} s, with the fit {calibrating:.0f} s, with all files {whole:.0f} s.")
    print(f"{share:.1f} % of {len(quiet)} networks within ±10 % (target {TARGET_PERCENT:g} %).")
    figures: dict[str, Any] = {
        "networks": [{**row._asdict(), "noise": row not in quiet} for row in rows],
        "errors": {name: {by: e.to_json() for by, e in found.items()} for name, found in errors.items()},
        "left_out": {kind: e.to_json() for kind, e in left_out.items()},
        "seconds": {"measuring": measuring, "calibrating": calibrating, "whole": whole},
    }
    common.report("this_machine", figures, path=path)
    return 0 if share >= TARGET_PERCENT else 1


def _rounded(e: ErrorSummary) -> list[float]:
    shares = (e.within_5_percent, e.within_10_percent, e.within_20_percent)
    return [round(value, 1) for value in (e.mape_percent, *shares, e.worst_percent)]


def _errors(rows: Sequence[Compared]) -> dict[str, ErrorSummary]:
    measured = [row.measured for row in rows]
    return {
        "profile": summarise([row.predicted for row in rows], measured),
        "MACs × constant": summarise([row.by_macs for row in rows], measured),
        "mean": summarise([row.by_mean for row in rows], measured),
    }


if __name__ == "__main__":
    sys.exit(main())
