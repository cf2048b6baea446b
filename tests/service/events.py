"""What drivers report, in few words."""

from collections.abc import Mapping
from typing import Any

from workers.events import (
    CheckpointReady,
    DeviceCosts,
    Evaluation,
    Event,
    Origin,
    Prepared,
    StatusChanged,
    Trial,
    TrialEnded,
    TrialStarted,
    TrialStatus,
)

DEVICE = "raspberry-pi-4"


def evaluation(
    latency_ms: float, accuracy: float | None, *, violations: Mapping[str, float] | None = None
) -> Evaluation:
    costs = DeviceCosts(
        latency_ms=latency_ms,
        energy_mj=2 * latency_ms,
        model_bytes=1000,
        peak_memory_bytes=500,
        violations=violations or {},
    )
    return Evaluation(
        costs={DEVICE: costs}, packed_bytes=900, macs=10, bit_ops=640, accuracy=accuracy, correct=None, images=100
    )


def trial(number: int, found: Evaluation | None, *, label: str = "") -> Trial:
    status = TrialStatus.RUNNING if found is None else TrialStatus.DONE
    if found is not None and found.accuracy is None:
        status = TrialStatus.INFEASIBLE
    return Trial(
        number=number,
        origin=Origin.BASELINE if label else Origin.SEARCH,
        label=label,
        candidate={"schema_version": 1, "indices": [number]},
        plan={},
        status=status,
        evaluation=found,
    )


def prepared(accuracy: float = 0.9) -> list[Event]:
    baseline = evaluation(10.0, accuracy)
    return [
        StatusChanged(status="preparing"),
        Prepared(baseline=baseline, split={"search": 100}, variables={"weights a": (2, 4)}, ranges={}),
        StatusChanged(status="searching"),
    ]


def ended(number: int, latency_ms: float, accuracy: float | None, **more: Any) -> list[Event]:
    found = trial(
        number, evaluation(latency_ms, accuracy, violations=more.get("violations")), label=more.get("label", "")
    )
    return [TrialStarted(trial=trial(number, None, label=found.label)), TrialEnded(trial=found)]


def checkpoint(number: int, *, verified: bool = True) -> Event:
    files = {"packed.zip": f"packed {number}".encode(), "model.onnx": f"onnx {number}".encode()}
    failures = [] if verified else ["torch: 3 images differ"]
    return CheckpointReady(number=number, files=files, verification={"failures": failures}, verified=verified)
