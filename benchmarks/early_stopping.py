"""What does stopping hopeless candidates early save, and what does it cost?

Runs searches of the digits example with and without early stopping, several seeds and strategies, equal budgets in
trials. Images are those of the search split that trials were measured on; the front's worth is the hypervolume of
fully measured trials (accuracy above 50 %, costs below those of uniform 8 bits), mean over the devices. The spread is
the standard deviation over the seeds of the searches without early stopping.
"""

import statistics
import sys
from collections.abc import Sequence

from benchmarks import common
from benchmarks.searching import Sensitivities, dearest_costs, front_volume, searched, start_payload
from workers.early_stopping import ERROR_RATE
from workers.events import Trial, TrialStatus
from workers.spec import Budget, DeviceTarget, JobSpec, SpaceSpec, SplitSpec

DEVICES = ("raspberry-pi-4", "stm32h743")


def main() -> int:
    """Print the table; return 1 if early stopping changes the fronts by more than seeds do."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--trials", type=int, default=60, help="trials of each search (60)")
    arguments.add_argument("--seeds", type=int, default=3, help="seeds (3)")
    arguments.add_argument("--strategies", nargs="+", default=["auto", "nsga2", "random"], help="auto nsga2 random")
    options = arguments.parse_args()
    rows, figures = [], []
    for strategy in options.strategies:
        known: dict[int, Sensitivities] = {seed: {} for seed in range(options.seeds)}
        volumes: dict[bool, list[float]] = {}
        images: dict[bool, list[float]] = {}
        stopped: list[int] = []
        for early in (False, True):
            runs = [
                run(strategy, seed, early=early, trials=options.trials, known=known[seed])
                for seed in range(options.seeds)
            ]
            volumes[early] = [volume for volume, _, _ in runs]
            images[early] = [mean for _, mean, _ in runs]
            stopped = [count for _, _, count in runs]
        change = statistics.mean(volumes[True]) / statistics.mean(volumes[False]) - 1
        spread = statistics.stdev(volumes[False]) / statistics.mean(volumes[False])
        row = {
            "strategy": strategy,
            "images_per_trial_without": statistics.mean(images[False]),
            "images_per_trial_with": statistics.mean(images[True]),
            "stopped_of_trials": f"{statistics.mean(stopped):.0f} of {options.trials}",
            "hypervolume_change": change,
            "spread_of_seeds": spread,
        }
        figures.append({**row, "volumes_without": volumes[False], "volumes_with": volumes[True]})
        rows.append(tuple(row.values()))
    columns = ("strategy", "images/trial without", "with", "stopped", "hypervolume, change", "seeds' spread")
    common.print_table(f"early stopping at an error rate of {ERROR_RATE:.0%} per trial", columns, rows)
    common.report("early_stopping", {"error_rate": ERROR_RATE, "rows": figures}, path=options.json)
    return int(any(abs(row["hypervolume_change"]) > max(row["spread_of_seeds"], 0.005) for row in figures))


def run(strategy: str, seed: int, *, early: bool, trials: int, known: Sensitivities) -> tuple[float, float, int]:
    """Return hypervolume, images per measured trial and stopped trials of one search."""
    spec = JobSpec(
        name="early stopping",
        devices=tuple(DeviceTarget(name=name) for name in DEVICES),
        space=SpaceSpec(operators=("original", "skip")),
        split=SplitSpec(calibration=0.08, search=0.8),
        budget=Budget(trials=trials),
        strategy=strategy,
        early_stopping=early,
        imitation_steps=0,
        seed=seed,
    )
    found = searched(start_payload(spec, known), known)
    volume = statistics.mean(
        front_volume(found, spec, device, dearest_costs(found, spec, device)) for device in DEVICES
    )
    return volume, images_per_trial(found), sum(trial.status is TrialStatus.STOPPED for trial in found)


def images_per_trial(trials: Sequence[Trial]) -> float:
    """Return how many images a measured trial took, on average."""
    return statistics.mean(
        trial.evaluation.images for trial in trials if trial.evaluation and trial.evaluation.images is not None
    )


if __name__ == "__main__":
    sys.exit(main())
