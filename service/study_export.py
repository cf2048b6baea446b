"""A job's search as an Optuna study, for Optuna's own tools."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.fronts import target_of
from service.store.records import JobRecord, TrialRecord
from workers.events import Evaluation, TrialStatus
from workers.spec import COST_OBJECTIVES, DeviceTarget, JobSpec


def write_study(job: JobRecord, trials: Sequence[TrialRecord], path: Path, *, device: str | None = None) -> None:
    """Write a job's ended trials to an Optuna journal file, which ``optuna.load_study`` and optuna-dashboard open.

    Parameters are the job's variables; values are accuracy and costs on one device, limits there are constraints.
    Measured trials are complete, those that were stopped early pruned, infeasible and failed ones failed. What a trial
    is called here stands in its user attributes. A uniform baseline outside of the job's space has no parameters.

    Raises:
        UnknownNameError: The device is none of the job's.
    """
    from optuna import create_study, logging  # Optuna takes long to import, and only exports need it here
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import StudyDirection

    target, spec = target_of(job, device), JobSpec.from_json(job.spec)
    logging.set_verbosity(logging.WARNING)
    study = create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=f"{job.name} on {target.name}",
        directions=[StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in spec.objectives[1:])],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the names may go, the figures stay
        study.set_metric_names(list(spec.objectives))
    for name, value in {"job": job.id, "device": target.name, "strategy": spec.strategy, "seed": spec.seed}.items():
        study.set_user_attr(name, value)
    study.add_trials(
        _trial(trial, job.variables or {}, spec, target) for trial in trials if trial.status != TrialStatus.RUNNING
    )


def _trial(trial: TrialRecord, variables: Mapping[str, Sequence[Any]], spec: JobSpec, target: DeviceTarget) -> Any:
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    found = None if trial.evaluation is None else Evaluation.from_json(trial.evaluation)
    states = {TrialStatus.DONE: TrialState.COMPLETE, TrialStatus.STOPPED: TrialState.PRUNED}
    state = states.get(TrialStatus(trial.status), TrialState.FAIL)
    values, constraints = None, None
    if found is not None and target.name in found.costs:
        costs = found.costs[target.name]
        bounded = [name for name in COST_OBJECTIVES if getattr(target.limits, name) is not None]
        constraints = {name: costs.violations.get(name, 0.0) for name in bounded}
        constraints["deployable"] = 0.0 if costs.deployable else 1.0
        if state is TrialState.COMPLETE:
            values = [found.accuracy or 0.0, *(float(getattr(costs, name)) for name in spec.objectives[1:])]
    indices = trial.candidate.get("indices", [])
    chosen = {name: choices[index] for (name, choices), index in zip(variables.items(), indices, strict=False)}
    return create_trial(
        state=state,
        values=values,
        params=chosen,
        distributions={name: CategoricalDistribution(tuple(variables[name])) for name in chosen},
        user_attrs={"number": trial.number, "origin": trial.origin, "label": trial.label, "status": trial.status},
        constraints=constraints,
    )
