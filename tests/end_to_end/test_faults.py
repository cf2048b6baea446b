"""What happens to a job when the service that runs it is killed or stopped."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.service_process import ServiceProcess, descendants, processes_of, wait_for
from tests.postgresql import running_postgresql

pytestmark = pytest.mark.slow

SEARCHING_AGAIN_S = 30.0


def load_factor() -> float:
    """Return by how much a machine that does other work as well takes longer; the job itself loads it about twice."""
    return max(1.0, os.getloadavg()[0] / (2 * len(os.sched_getaffinity(0))))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    service = ServiceProcess(tmp_path)
    service.start()
    yield service
    service.end()


@pytest.fixture
def service_on_postgresql(tmp_path: Path) -> Iterator[ServiceProcess]:
    with running_postgresql() as url:
        service = ServiceProcess(tmp_path, database_url=url)
        service.start()
        yield service
        service.end()


def test_a_job_survives_the_killing_of_its_service(service: ServiceProcess, tmp_path: Path) -> None:
    trials = 40
    job = service.submit(budget={"trials": trials})
    wait_for(lambda: service.ended(job) >= 8)

    before = {row["number"]: row for row in service.trials(job) if row["status"] != "running"}
    service.kill()
    wait_for(lambda: processes_of(tmp_path) == [], seconds=10)
    service.start()
    kept = service.ended(job)  # the dispatcher is still starting
    searching_again_s = wait_for(lambda: service.ended(job) > kept)
    allowed_s = SEARCHING_AGAIN_S * load_factor()
    print(f"searching again after {searching_again_s:.1f} s, {allowed_s:.0f} s allowed")  # noqa: T201
    wait_for(lambda: service.job(job)["status"] in ("done", "failed"))

    after = {row["number"]: row for row in service.trials(job)}
    assert service.job(job)["status"] == "done"
    assert sorted(after) == list(range(trials))  # none twice, none vanished
    for number, row in before.items():
        assert {**after[number], "checkpoint": None} == {**row, "checkpoint": None}
    assert all(row["status"] in ("done", "infeasible", "stopped") for row in after.values())
    assert service.http.get(f"/v1/jobs/{job}/front").json()["points"]
    assert searching_again_s <= allowed_s


def test_a_stopped_service_gives_its_job_back_and_leaves_no_process(service: ServiceProcess, tmp_path: Path) -> None:
    job = service.submit(budget={"trials": 1000})
    wait_for(lambda: service.job(job)["status"] == "searching")

    status = service.stop()

    assert status == 0
    assert processes_of(tmp_path) == []
    service.start()
    assert service.job(job)["status"] in ("searching", "preparing")  # not lost, not failed
    service.http.post(f"/v1/jobs/{job}/cancel")
    took_s = wait_for(lambda: service.job(job)["status"] == "cancelled")
    assert took_s < 30 * load_factor()  # the dispatcher has to start Ray first
    assert all(row["status"] != "running" for row in service.trials(job))


def test_a_running_job_is_paused_and_goes_on_with_its_trials(service_on_postgresql: ServiceProcess) -> None:
    service = service_on_postgresql
    job = service.submit(budget={"trials": 12})
    wait_for(lambda: service.ended(job) >= 4)

    service.http.post(f"/v1/jobs/{job}/pause")
    pausing_s = wait_for(lambda: service.job(job)["status"] == "paused")
    paused_with = service.ended(job)
    service.http.post(f"/v1/jobs/{job}/resume")
    wait_for(lambda: service.job(job)["status"] in ("done", "failed"))

    assert pausing_s < 10 * load_factor()
    assert 4 <= paused_with <= 12
    assert service.job(job)["status"] == "done"
    assert [row["number"] for row in service.trials(job)] == list(range(12))
    best = service.http.get(f"/v1/jobs/{job}/best", params={"accuracy_drop": 1})
    assert best.json()["checkpoint"]["verified"] is True
    packed = service.http.get(f"/v1/jobs/{job}/best/checkpoint", params={"accuracy_drop": 1})
    assert packed.content.startswith(b"PK")


def test_a_job_survives_the_death_of_whatever_runs_it(service: ServiceProcess) -> None:
    trials = 40
    job = service.submit(budget={"trials": trials})
    wait_for(lambda: service.ended(job) >= 4)

    for victim in ("_EvaluatorActor", "_DriverActor", "service.dispatcher"):
        pids = [pid for pid, command in descendants(service.pid).items() if victim in command]
        assert pids, victim
        os.kill(pids[0], signal.SIGKILL)
        kept = service.ended(job)
        took_s = wait_for(lambda kept=kept: service.ended(job) >= min(kept + 3, trials))  # type: ignore[misc]
        print(f"{victim} killed; three more trials after {took_s:.1f} s")  # noqa: T201
    wait_for(lambda: service.job(job)["status"] in ("done", "failed"))

    assert service.job(job)["status"] == "done"
    assert [row["number"] for row in service.trials(job)] == list(range(trials))
    assert all(row["status"] in ("done", "infeasible", "stopped") for row in service.trials(job))
