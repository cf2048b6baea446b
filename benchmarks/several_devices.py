"""Does one job with three devices find fronts as good as three jobs, for half of their evaluations together?

Runs, on the digits example and for several seeds, one job per device with so many trials each, and one job with all
devices and half of their trials together. A front's worth is the hypervolume of fully measured trials on its device
(accuracy above 50 %, costs below those of uniform 8 bits). The spread is the standard deviation over the seeds of the
single jobs.
"""

import statistics
import sys

from benchmarks import common
from benchmarks.searching import Sensitivities, dearest_costs, front_volume, searched, start_payload
from workers.spec import Budget, DeviceTarget, JobSpec, SpaceSpec, SplitSpec

DEVICES = ("raspberry-pi-4", "stm32h743", "jetson-nano")


def main() -> int:
    """Print the table; return 1 if a front of the joint job is worse by more than the seeds' spread."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--trials", type=int, default=60, help="trials of each single job (60)")
    arguments.add_argument("--seeds", type=int, default=3, help="seeds (3)")
    arguments.add_argument("--strategy", default="auto", help="of all jobs (auto)")
    options = arguments.parse_args()
    single: dict[str, list[float]] = {name: [] for name in DEVICES}
    joint: dict[str, list[float]] = {name: [] for name in DEVICES}
    together = options.trials * len(DEVICES) // 2
    for seed in range(options.seeds):
        known: Sensitivities = {}
        whole = job(DEVICES, options.strategy, seed, together)
        shared = searched(start_payload(whole, known), known)
        for name in DEVICES:
            alone = job((name,), options.strategy, seed, options.trials)
            trials = searched(start_payload(alone, known), known)
            corner = dearest_costs(trials, alone, name)
            single[name].append(front_volume(trials, alone, name, corner))
            joint[name].append(front_volume(shared, whole, name, corner))
    rows = []
    for name in DEVICES:
        mean = statistics.mean(single[name])
        spread = statistics.stdev(single[name]) / mean if options.seeds > 1 else 0.0
        rows.append((name, mean, statistics.mean(joint[name]), statistics.mean(joint[name]) / mean - 1, spread))
    columns = ("device", "hypervolume alone", "in the joint job", "change", "seeds' spread")
    title = f"three jobs of {options.trials} trials, one of {together}, {options.seeds} seeds, {options.strategy}"
    common.print_table(title, columns, rows)
    figures = {
        "evaluations": {"three_jobs": options.trials * len(DEVICES), "one_job": together},
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "single": single,
        "joint": joint,
    }
    common.report("several_devices", figures, path=options.json)
    return int(any(change < -spread for *_, change, spread in rows))


def job(devices: tuple[str, ...], strategy: str, seed: int, trials: int) -> JobSpec:
    """Return a job for some devices."""
    return JobSpec(
        name="several devices",
        devices=tuple(DeviceTarget(name=name) for name in devices),
        space=SpaceSpec(operators=("original", "skip")),
        split=SplitSpec(calibration=0.1, search=0.5),
        budget=Budget(trials=trials),
        strategy=strategy,
        imitation_steps=0,
        seed=seed,
    )


if __name__ == "__main__":
    sys.exit(main())
