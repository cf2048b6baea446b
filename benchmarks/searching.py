"""Jobs of the digits example, run in this process: what benchmarks of the search have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch

from compress.network.zoo import from_architecture
from examples.digits.data import digits
from hwmodels.profile import builtin_profiles
from search.pareto import hypervolume
from workers.driver import Driver
from workers.events import JobEnded, SensitivityMeasured, StatusChanged, Trial, TrialEnded, TrialStatus
from workers.pool import LocalPool
from workers.spec import JobSpec, Preprocessing
from workers.start import DriverStart

WEIGHTS = Path(__file__).parents[1] / "examples" / "digits" / "digits_resnet.safetensors"
LEAST_ACCURACY = 0.5  # of the reference point: below it no front is worth anything

Sensitivities = dict[str, tuple[float, float]]


def start_payload(spec: JobSpec, sensitivities: Mapping[str, tuple[float, float]] | None = None) -> DriverStart:
    """Return the digits example as a job: its held-out images, its committed weights."""
    network = from_architecture("digits_resnet", WEIGHTS)
    data = digits()
    preprocessing = replace(
        Preprocessing(), scale=data.preprocessing.scale, mean=data.preprocessing.mean, std=data.preprocessing.std
    )
    return DriverStart(
        spec=spec.to_json(),
        preprocessing=preprocessing.to_json(),
        graph=network.graph.to_json(),
        weights=safetensors.torch.save(dict(network.tensors)),
        dataset=safetensors.numpy.save({"x": data.heldout_x, "y": data.heldout_y.astype(np.int64)}),
        profiles={device.name: builtin_profiles()[device.name].to_json() for device in spec.devices},
        sensitivities=sensitivities or {},
    )


def searched(start: DriverStart, sensitivities: Sensitivities | None = None) -> list[Trial]:
    """Run a job until its search is over; return its trials.

    Args:
        start: The job.
        sensitivities: Takes up what the job has measured of single choices, for the next one.
    """
    driver = Driver(start, LocalPool)
    trials: list[Trial] = []
    acknowledged = 0
    while True:
        events = driver.advance(acknowledged)
        for number, event in events:
            acknowledged = number
            if isinstance(event, TrialEnded):
                trials.append(event.trial)
            elif isinstance(event, SensitivityMeasured) and sensitivities is not None:
                sensitivities.update({row.plan_digest: (row.divergence, row.loss) for row in event.rows})
            elif isinstance(event, JobEnded):
                raise RuntimeError(f"the job ended early: {event.reason}")
            elif event == StatusChanged(status="packaging"):
                driver.close()
                return trials


def front_volume(trials: Sequence[Trial], spec: JobSpec, device: str, dearest: Sequence[float]) -> float:
    """Return the hypervolume of a device's front, of fully measured trials.

    Args:
        trials: Of a job.
        spec: The job; its objectives are the axes.
        device: One of its devices.
        dearest: The reference's costs; its accuracy is ``LEAST_ACCURACY``.
    """
    points = [
        [-found.accuracy, *(getattr(found.costs[device], name) for name in spec.objectives[1:])]
        for trial in trials
        if trial.status is TrialStatus.DONE and (found := trial.evaluation) and found.accuracy is not None
        if found.costs[device].feasible
    ]
    return hypervolume(np.array(points, dtype=np.float64), [-LEAST_ACCURACY, *dearest])


def dearest_costs(trials: Sequence[Trial], spec: JobSpec, device: str) -> list[float]:
    """Return the costs of the first trial, uniform 8 bits: the corner from which volumes are measured."""
    first = min(trials, key=lambda trial: trial.number).evaluation
    if first is None:
        raise ValueError("the first trial was not measured")
    return [float(getattr(first.costs[device], name)) for name in spec.objectives[1:]]
