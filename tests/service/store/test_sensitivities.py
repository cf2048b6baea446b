from dataclasses import replace
from pathlib import Path

import pytest

from service.artifacts import ArtifactStore
from service.recording import Recorder
from service.store import sensitivities
from service.store.database import Database
from service.store.leases import Leases
from service.store.records import JobRecord
from service.store.sensitivities import Sensitivities
from tests.service.events import DEVICE
from tests.service.store.rows import job, submitted
from workers.events import ChoiceEffect, SensitivityMeasured
from workers.spec import Budget, DeviceTarget, JobSpec, Limits, SplitSpec

SPEC = JobSpec(name="small", devices=(DeviceTarget(name=DEVICE),))
ROWS = (
    ChoiceEffect(variable="", choice=None, plan_digest="a" * 64, divergence=0.1, loss=0.3),
    ChoiceEffect(variable="weights conv1", choice=2, plan_digest="b" * 64, divergence=0.1 + 0.2, loss=0.4),
)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "artifacts").as_uri())


def claimed(database: Database, spec: JobSpec) -> JobRecord:
    with database.write() as connection:
        submitted(connection, job(spec=spec.to_json()))
        record = Leases(connection, seconds=60).claim("one")
    assert record is not None
    return record


def known(database: Database, record: JobRecord) -> dict[str, tuple[float, float]]:
    with database.read() as connection:
        return Sensitivities(connection).known(record)


@pytest.fixture
def measured(database: Database, artifacts: ArtifactStore) -> JobRecord:
    record = claimed(database, SPEC)
    recorder = Recorder(database, artifacts, record, [], lease_seconds=60)
    recorder.commit([SensitivityMeasured(rows=ROWS[:1]), SensitivityMeasured(rows=ROWS)])
    return record


def test_what_a_job_has_measured_comes_back_to_the_bit_and_once(database: Database, measured: JobRecord) -> None:
    with database.read() as connection:
        assert tuple(Sensitivities(connection).of(measured)) == ROWS
    assert known(database, measured) == {"a" * 64: (0.1, 0.3), "b" * 64: (0.1 + 0.2, 0.4)}


def test_a_job_with_other_limits_knows_what_an_earlier_one_has_measured(
    database: Database, measured: JobRecord
) -> None:
    limited = DeviceTarget(name=DEVICE, limits=Limits(model_bytes=9))
    other = replace(SPEC, devices=(limited,), budget=Budget(trials=7), strategy="integer_programme")

    assert len(known(database, claimed(database, other))) == 2


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": SplitSpec(calibration=0.1)}])
def test_a_job_that_calibrates_on_other_images_measures_anew(
    database: Database, measured: JobRecord, change: dict[str, object]
) -> None:
    other = replace(SPEC, **change)  # type: ignore[arg-type]

    assert known(database, claimed(database, other)) == {}


def test_what_another_version_has_measured_does_not_count(
    database: Database, measured: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivities, "version", lambda package: "99")

    assert known(database, measured) == {}
