"""Fine-tunes a finalist by Ray Tune: learning rate and schedule are searched, hopeless runs end early.

Every run trains on calibration and search images and is judged by how far its class scores are from the float
network's on search images that were kept apart. Runs take a little memory of the cluster and no CPU: the evaluator that
started them waits meanwhile, and its CPU is theirs.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from torch import Tensor

from compress.evaluate import logits
from compress.finetune import FineTuning, Progress, TrainableNetwork, finetune
from compress.finetune.loss import distillation
from compress.finetune.origin import origin
from compress.finetune.settings import SCHEDULES
from compress.network.build import build_module
from compress.network.graph import Network
from compress.quantize import Compressed
from workers.own_folder import own_folder
from workers.spec import FineTuneSpec

RATES = (2e-4, 5e-3)
RUN_MEMORY_BYTES = 64 << 20  # reserved per run; it only keeps Ray from asking for a CPU
STEPS_PER_EPOCH = 32  # at least, unless batches would be smaller than 16
DISTANCE = "divergence"
FOLDER, RUNS = "tightfit-finetune", "runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What every run of a finalist works with. ``held_out`` images judge, ``images`` train."""

    compressed: Compressed
    start: Mapping[str, Tensor]
    teacher: Network
    images: Tensor
    held_out: Tensor
    spec: FineTuneSpec
    seed: int

    def settings(self, config: Mapping[str, Any]) -> FineTuning:
        """Return a run's settings."""
        return FineTuning(
            method=self.spec.method,
            epochs=self.spec.epochs,
            batch_size=min(64, max(16, len(self.images) // STEPS_PER_EPOCH)),
            augment=self.spec.augment,
            learning_rate=float(config["learning_rate"]),
            schedule=str(config["schedule"]),
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The best run's network, and what was tried: one row per run, best first."""

    compressed: Compressed
    settings: FineTuning
    runs: tuple[Mapping[str, Any], ...]


def tune_finalist(material: Material, *, root: Path | None = None) -> Tuned:
    """Return the network of the best run; Ray must be joined.

    What runs have reached is kept in a folder that is named after all that they depend on, below ``root`` (the
    machine's temporary folder), until the last one has ended: called again after a kill, they go on from there. Equal
    runs at the same time have a folder each.
    """
    with own_folder((root or Path(tempfile.gettempdir()) / FOLDER).resolve(), _digest(material)) as folder:
        return _tuned(material, folder)


def _tuned(material: Material, folder: Path) -> Tuned:
    runs = tune.with_resources(
        tune.with_parameters(_run, material=ray.put(material)), {"memory": RUN_MEMORY_BYTES, "CPU": 0}
    )
    if tune.Tuner.can_restore(str(folder / RUNS)):
        tuner = tune.Tuner.restore(str(folder / RUNS), runs, resume_unfinished=True, restart_errored=True)
    else:
        tuner = _tuner(runs, material, folder)
    results = tuner.fit()
    best = results.get_best_result(metric=DISTANCE, mode="min", scope="last")
    settings = material.settings(best.config)
    with best.checkpoint.as_directory() as state, tempfile.TemporaryDirectory() as copy:
        shutil.copytree(state, copy, dirs_exist_ok=True)
        tuned = _trained(material, settings, Path(copy), stop_after=int(best.metrics["epoch"]))
    rows = [
        {**row.config, "epochs": row.metrics["epoch"], DISTANCE: row.metrics[DISTANCE]}
        for row in results
        if row.metrics and DISTANCE in row.metrics
    ]
    return Tuned(compressed=tuned, settings=settings, runs=tuple(sorted(rows, key=lambda row: float(row[DISTANCE]))))


def _tuner(runs: Any, material: Material, folder: Path) -> Any:
    spec = material.spec
    return tune.Tuner(
        runs,
        param_space={"learning_rate": tune.loguniform(*RATES), "schedule": tune.choice(list(SCHEDULES[:2]))},
        tune_config=tune.TuneConfig(
            metric=DISTANCE,
            mode="min",
            num_samples=spec.trials,
            max_concurrent_trials=1,
            search_alg=BasicVariantGenerator(random_state=material.seed),
            scheduler=ASHAScheduler(time_attr="epoch", max_t=max(spec.epochs, 1), grace_period=1, reduction_factor=2),
        ),
        run_config=tune.RunConfig(name=RUNS, storage_path=str(folder), verbose=0),
    )


def _run(config: Mapping[str, Any], material: Any) -> None:
    """Train with one configuration, reporting after every epoch; the body of a Ray Tune trial."""
    torch.set_num_threads(1)
    known: Material = ray.get(material) if isinstance(material, ray.ObjectRef) else material
    wanted = logits(build_module(known.teacher), known.held_out)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        earlier = tune.get_checkpoint()
        if earlier is not None:
            with earlier.as_directory() as state:
                shutil.copytree(state, folder, dirs_exist_ok=True)

        def report(progress: Progress, student: TrainableNetwork) -> None:
            found = logits(build_module(student.compressed().network), known.held_out)
            metrics = {"epoch": progress.epoch, DISTANCE: float(distillation(found, wanted, 1.0))}
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))

        _trained(known, known.settings(config), folder, report=report)


def _trained(
    material: Material, settings: FineTuning, folder: Path, *, report: Any = None, stop_after: int | None = None
) -> Compressed:
    return finetune(
        material.compressed,
        material.teacher,
        material.images,
        settings=settings,
        start=material.start,
        checkpoint=folder,
        report=report,
        stop_after=stop_after,
    )


def _digest(material: Material) -> str:
    """Return a name for all that the runs depend on."""
    found = origin(material.compressed, material.start, material.teacher, material.images, None)
    digest = hashlib.sha256(json.dumps([material.spec.to_json(), material.seed, found]).encode())
    digest.update(material.held_out.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
