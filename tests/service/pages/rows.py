"""A small job in the store, for pages to show."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from compress.plan import LayerBits, OperatorChoice, Plan
from service.store.jobs import Jobs
from service.store.records import JobRecord, ModelRecord
from service.store.rows import moment
from service.store.trials import Trials
from service.store.uploads import Datasets, Models
from tests.service.store import rows
from workers.events import DeviceCosts, Evaluation, Origin, Trial, TrialStatus
from workers.spec import Budget, DeviceTarget, JobSpec, Limits

PI, MCU = "raspberry-pi-4", "stm32h743"

DESCRIPTION: dict[str, Any] = {
    "input_name": "image",
    "input_shape": [1, 8, 8],
    "classes": 10,
    "parameters": 400,
    "macs": 12_000,
    "float_bytes": 1600,
    "layers": [
        {
            "name": "conv1",
            "op": "conv",
            "weight_shape": [12, 1, 3, 3],
            "parameters": 300,
            "macs": 10_000,
            "output_shape": [12, 8, 8],
        },
        {
            "name": "linear",
            "op": "linear",
            "weight_shape": [10, 10],
            "parameters": 100,
            "macs": 2_000,
            "output_shape": [10],
        },
    ],
    "blocks": [{"name": "layer1.0", "nodes": ["conv1"], "residual": True}],
    "groups": [{"name": "conv1", "channels": 12, "layers": ["conv1"]}],
    "unprunable": {"linear": "its channels are the classes"},
    "tensors": {},
    "workload": {"schema_version": 1, "kernels": [], "tensors": {}, "inputs": [], "outputs": []},
}
MODEL: ModelRecord = replace(rows.MODEL, description=DESCRIPTION)

SPEC = JobSpec(
    name="digits <on a Pi>",
    devices=(
        DeviceTarget(name=PI, limits=Limits(latency_ms=4.0, accuracy_drop=0.05)),
        DeviceTarget(name=MCU, limits=Limits(latency_ms=40.0)),
    ),
    objectives=("accuracy", "latency_ms", "model_bytes"),
    budget=Budget(trials=8),
)
RANGES = {
    PI: {"latency_ms": {"smallest": 0.5, "middle": 3.0, "largest": 6.0}},
    MCU: {"latency_ms": {"smallest": 5.0, "middle": 30.0, "largest": 60.0}},
}


def evaluation(accuracy: float | None, latency_ms: float, *, packed: int = 1000, limit_ms: float = 4.0) -> Evaluation:
    """Return an evaluation on 100 images whose costs on the microcontroller are ten times those on the Pi."""
    over = {"latency_ms": latency_ms / limit_ms - 1} if latency_ms > limit_ms else {}
    costs = {
        name: DeviceCosts(
            latency_ms=latency_ms * factor,
            energy_mj=latency_ms * factor / 2,
            model_bytes=packed,
            peak_memory_bytes=2 * packed,
            violations=over,
        )
        for name, factor in ((PI, 1), (MCU, 10))
    }
    return Evaluation(
        costs=costs,
        packed_bytes=packed,
        macs=1000,
        bit_ops=64_000,
        accuracy=accuracy,
        correct=None if accuracy is None else round(accuracy * 100),
        images=None if accuracy is None else 100,
    )


def trial(
    number: int,
    found: Evaluation | None,
    *,
    label: str = "",
    bits: int = 8,
    keep: float = 1.0,
    operator: str = "original",
) -> Trial:
    plan = Plan(
        operators={"layer1.0": OperatorChoice(operator=operator)},
        keep_ratios={"conv1": keep},
        layers={name: LayerBits(weight_bits=bits, activation_bits=8) for name in ("conv1", "linear")},
    )
    status = (
        TrialStatus.RUNNING
        if found is None
        else TrialStatus.DONE
        if found.accuracy is not None
        else TrialStatus.INFEASIBLE
    )
    return Trial(
        number=number,
        origin=Origin.BASELINE if label else Origin.SEARCH,
        label=label,
        candidate={"schema_version": 1, "indices": [number]},
        plan=plan.to_json(),
        status=status,
        evaluation=found,
    )


# Along latency and accuracy on the Pi, with at most 4 ms: trials 1, 4 and 3 are the front, by latency. 0 is dominated
# by 1, 2 was too slow to be measured, 5 is too slow and accurate, 6 equals 4 in both and comes later, 7 still runs.
TRIALS = (
    trial(0, evaluation(0.90, 3.0, packed=1600), label="uniform 8 bit"),
    trial(1, evaluation(0.91, 1.0, packed=900), bits=4, keep=0.5, operator="skip"),
    trial(2, evaluation(None, 9.0)),
    trial(3, evaluation(0.97, 3.5, packed=1500), bits=6),
    trial(4, evaluation(0.95, 2.0, packed=1200), bits=4, keep=0.75),
    trial(5, evaluation(0.98, 5.0, packed=1900)),
    trial(6, evaluation(0.95, 2.0, packed=1300), operator="skip"),
    trial(7, None),
)
FLOAT = replace(evaluation(0.99, 8.0, packed=6400), correct=99)
CHECKPOINT: Mapping[str, Any] = {
    "verified": True,
    "verification": {
        "images": 100,
        "trial_correct": 91,
        "torch_correct": 91,
        "onnx_correct": 90,
        "packed_bytes": 900,
        "test": {"images": 50, "correct": 45, "float_correct": 49, "drop": 0.08, "drop_interval": [0.01, 0.15]},
        "failures": [],
    },
    "files": {"packed.zip": {"digest": "a" * 64, "bytes": 900}},
}


def stored_job(connection: Connection) -> JobRecord:
    """Store the job with its network, data and trials; it is searching."""
    Models(connection).add(MODEL)
    Datasets(connection).add(replace(rows.DATASET, description={"images": 797}))
    job = replace(
        rows.job(),
        name=SPEC.name,
        spec=SPEC.to_json(),
        ranges=RANGES,
        baseline=FLOAT.to_json(),
        split={"calibration": 47, "search": 100, "test": 50},
        progress={"done": 7, "total": 8, "seconds_left": 65.0},
        created_at=moment() - timedelta(seconds=90),
    )
    Jobs(connection).submit(job)
    for row in TRIALS:
        Trials(connection).save(job.id, row)
    Trials(connection).save_checkpoint(job.id, 1, CHECKPOINT, verified=True)
    return job
