import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hwmodels.errors import UnknownNameError
from service.store.records import JobRecord, TrialRecord
from service.store.rows import moment
from service.study_export import write_study
from tests.service.events import DEVICE, evaluation, trial
from workers.events import Evaluation, Trial, TrialStatus
from workers.spec import DeviceTarget, JobSpec, Limits

SPEC = JobSpec(
    name="net",
    devices=(DeviceTarget(name=DEVICE, limits=Limits(latency_ms=3.0)),),
    objectives=("accuracy", "latency_ms"),
)


def job() -> JobRecord:
    nothing: dict[str, Any] = dict.fromkeys(JobRecord.__dataclass_fields__)
    spec = json.loads(json.dumps(SPEC.to_json()))
    return JobRecord(**{**nothing, "id": "j", "name": "net", "spec": spec, "variables": {"weights a": [2, 4, 8]}})


def row(found: Trial) -> TrialRecord:
    nothing: dict[str, Any] = dict.fromkeys(TrialRecord.__dataclass_fields__)
    told = {name: getattr(found, name) for name in ("number", "origin", "label", "status", "candidate", "plan")}
    measured = None if found.evaluation is None else json.loads(json.dumps(found.evaluation.to_json()))
    return TrialRecord(**{**nothing, **told, "job_id": "j", "evaluation": measured, "created_at": moment()})


def loaded(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path))))


def exported(path: Path, *trials: Trial) -> optuna.Study:
    write_study(job(), [row(found) for found in trials], path)
    return loaded(path)


def test_optuna_finds_the_front_among_the_exported_trials(tmp_path: Path) -> None:
    measured = [trial(n, evaluation(ms, accuracy)) for n, (ms, accuracy) in enumerate([(1, 0.5), (2, 0.9), (2.5, 0.8)])]

    study = exported(tmp_path / "study.journal", *measured)

    assert [found.user_attrs["number"] for found in study.best_trials] == [0, 1]
    assert study.metric_names == ["accuracy", "latency_ms"]
    assert study.trials[1].params == {"weights a": 4}
    assert study.trials[1].values == [0.9, 2.0]


def test_a_broken_limit_is_a_broken_constraint(tmp_path: Path) -> None:
    slow: Evaluation = evaluation(6.0, 0.99, violations={"latency_ms": 1.0})

    study = exported(tmp_path / "study.journal", trial(0, evaluation(2.0, 0.9)), trial(1, slow))

    assert [found.user_attrs["number"] for found in study.best_trials] == [0]


@pytest.mark.parametrize(
    ("status", "state"),
    [(TrialStatus.STOPPED, TrialState.PRUNED), (TrialStatus.INFEASIBLE, TrialState.FAIL)],
)
def test_what_was_not_measured_to_the_end_has_no_values(tmp_path: Path, status: TrialStatus, state: TrialState) -> None:
    found = replace(trial(0, evaluation(2.0, 0.4)), status=status)

    study = exported(tmp_path / "study.journal", found)

    assert study.trials[0].state is state
    assert study.trials[0].user_attrs["status"] == status


def test_a_baseline_outside_of_the_space_has_no_parameters(tmp_path: Path) -> None:
    baseline = replace(trial(0, evaluation(2.0, 0.4), label="uniform 6 bit"), candidate={})

    study = exported(tmp_path / "study.journal", baseline)

    assert study.trials[0].params == {}
    assert study.trials[0].user_attrs["label"] == "uniform 6 bit"


def test_a_running_trial_is_left_out(tmp_path: Path) -> None:
    study = exported(tmp_path / "study.journal", trial(0, None))

    assert study.trials == []


def test_a_device_of_another_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        write_study(job(), [], tmp_path / "study.journal", device="abacus")
