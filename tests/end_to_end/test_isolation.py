"""Two jobs of two owners in one service: what ruins every evaluation of the one is nothing to the other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT
from tests.end_to_end.service_process import ServiceProcess, descendants, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.outage]

TRIALS = 700  # more than end before the other job has begun
MEMORY_BYTES = 2**30  # more than an evaluator keeps in its caches, a third of a GiB
LONGEST_S = 900.0
QUANTIZERS = {"crashes": "Crashing", "hoards": "Hoarding", "hangs": "Hanging"}
METADATA = "Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n"


@pytest.fixture
def plug_ins(tmp_path: Path) -> Path:
    """A folder in which a package is installed that brings the hostile quantizers."""
    about = tmp_path / "installed" / "hostile-1.0.dist-info"
    about.mkdir(parents=True)
    points = [f"{name} = tests.end_to_end.hostile_quantizers:{kind}" for name, kind in QUANTIZERS.items()]
    (about / "entry_points.txt").write_text("\n".join(["[tightfit.quantizers]", *points, ""]))
    (about / "METADATA").write_text(METADATA)
    return about.parent


@pytest.fixture
def service(tmp_path: Path, plug_ins: Path) -> Iterator[ServiceProcess]:
    path = os.pathsep.join([str(plug_ins), str(ROOT)])
    limits = {"TIGHTFIT_EVALUATOR_MEMORY_BYTES": str(MEMORY_BYTES), "TIGHTFIT_EVALUATION_SECONDS": "6"}
    service = ServiceProcess(tmp_path / "home", PYTHONPATH=path, **limits)
    yield service
    service.end()


def token_of(owner: str, home: Path) -> str:
    command = [sys.executable, "-m", "service.cli", "token", "create", owner, "--owner", owner, "--json"]
    made = subprocess.run(
        command, env={**os.environ, "TIGHTFIT_HOME": str(home)}, capture_output=True, check=True, cwd=ROOT
    )
    return str(json.loads(made.stdout)["token"])


def evaluators(service: ServiceProcess) -> set[int]:
    return {pid for pid, command in descendants(service.pid).items() if "_EvaluatorActor" in command}


@pytest.mark.parametrize(
    ("how", "diagnosis"), [("crashes", "ActorDied"), ("hoards", "MemoryError"), ("hangs", "no answer within")]
)
def test_a_job_that_ruins_every_trial_fails_alone(
    service: ServiceProcess, tmp_path: Path, how: str, diagnosis: str
) -> None:
    secrets = {owner: token_of(owner, tmp_path / "home") for owner in ("ann", "bob")}

    def become(owner: str) -> None:
        service.http.headers["Authorization"] = f"Bearer {secrets[owner]}"

    service.start()
    become("ann")
    good = service.submit(budget={"trials": TRIALS})
    wait_for(lambda: service.ended(good) >= 2, seconds=LONGEST_S)
    hers = evaluators(service)
    become("bob")
    bad = service.submit(budget={"trials": TRIALS}, space={"quantizers": [how]}, strategy="nsga2")
    wait_for(lambda: service.job(bad)["trial_counts"]["failed"] >= 1, seconds=LONGEST_S)
    become("ann")
    meanwhile, still_hers = service.job(good)["status"], evaluators(service)
    become("bob")
    wait_for(lambda: service.job(bad)["status"] in ("done", "failed"), seconds=LONGEST_S)
    failed, tried = service.job(bad), service.trials(bad)
    stranger = service.http.get(f"/v1/jobs/{good}").status_code
    become("ann")
    wait_for(lambda: service.job(good)["status"] in ("done", "failed"), seconds=LONGEST_S)
    found, rows = service.job(good), service.trials(good)

    assert failed["status"] == "failed"
    assert "5 failures in a row" in failed["reason"]
    assert diagnosis in failed["reason"]
    assert [row["status"] for row in tried] == ["failed"] * len(tried)
    assert meanwhile == "searching"  # both ran at once
    assert hers <= still_hers
    assert stranger == 404
    assert (found["status"], found["reason"]) == ("done", None)
    assert [row["number"] for row in rows] == list(range(TRIALS))
    assert all(row["status"] in ("done", "infeasible", "stopped") for row in rows)
