import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from tests.workers.conftest import make_start
from workers import cluster_node
from workers.cluster import DriverLostError, RunningDriver, connect, disconnect, kept_variables, usable_cpus
from workers.events import Event, JobEnded, StatusChanged, Trial, TrialEnded, TrialStarted, TrialStatus
from workers.job import load_job
from workers.pool import Finished, RayPool
from workers.spec import Budget, JobSpec
from workers.start import DriverStart

SECRET = "TIGHTFIT_TEST_PASSWORD"


def test_workers_see_no_variable_that_might_be_a_secret() -> None:
    environment = {"PATH": "/bin", "LC_ALL": "C", "RAY_TMPDIR": "/t", "DATABASE_URL": "x", "AWS_SECRET_ACCESS_KEY": "y"}

    assert kept_variables(environment) == {"PATH": "/bin", "LC_ALL": "C", "RAY_TMPDIR": "/t"}


@pytest.mark.parametrize(
    ("address", "here"),
    [("203.0.113.5:16379", True), ("head.example:16379", True), ("203.0.113.5:6379", False), ("auto", True)],
)
@pytest.mark.skipif(not Path("/proc").exists(), reason="processes can be looked at on Linux alone")
def test_a_node_beside_us_counts_if_it_is_of_the_cluster_that_is_joined(address: str, here: bool) -> None:
    program = ["raylet", "-c", "echo here; read line", "--gcs-address=203.0.113.5:16379"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, executable="/bin/sh", stdin=pipe, stdout=pipe) as raylet:
        try:
            assert raylet.stdout is not None
            raylet.stdout.readline()  # a process has no command line yet in the moment in which it begins
            assert cluster_node.is_here(address) is here
        finally:
            raylet.kill()


def test_a_call_outside_a_cluster_starts_no_ray() -> None:
    late = "import workers.cluster, ray\ntry:\n    ray.put(1)\nexcept Exception as error:\n    print(error)"

    done = subprocess.run(
        [sys.executable, "-c", f"{late}\nprint(ray.is_initialized())"], capture_output=True, text=True, check=True
    )

    assert "init" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    os.environ[SECRET] = "open sesame"
    connect(cpus=2)
    yield
    disconnect()
    del os.environ[SECRET]


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_started_ray_inherits_no_secret_and_this_process_keeps_it() -> None:
    def visible(name: str) -> bool:
        return name in os.environ

    assert not ray.get(ray.remote(visible).remote(SECRET))
    assert os.environ[SECRET] == "open sesame"
    assert ray.cluster_resources()["CPU"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_job_runs_on_ray_and_the_next_driver_goes_on_where_one_was_killed(spec: JobSpec) -> None:
    start = make_start(replace(spec, budget=Budget(trials=7)), images=100)
    rows: dict[int, Trial] = {}

    driver = RunningDriver(start, evaluators=1)
    _drive(driver, rows, until=lambda event: isinstance(event, TrialStarted) and event.trial.number == 4)
    driver.kill()
    with pytest.raises(DriverLostError):
        _drive(driver, {}, until=lambda _: False)  # Ray kills in its own time
    assert [rows[number].status for number in range(5)] == [TrialStatus.DONE] * 4 + [TrialStatus.RUNNING]

    again = RunningDriver(_with(start, rows), evaluators=1)
    _drive(again, rows, until=lambda event: event == StatusChanged(status="packaging"))
    again.kill()

    assert sorted(rows) == list(range(7))
    assert {trial.status for trial in rows.values()} == {TrialStatus.DONE}


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_killed_evaluator_is_reported_as_lost_and_its_slot_works_again(start: DriverStart) -> None:
    pool = RayPool(load_job(start), size=1)
    pool.submit(0, "prepare")
    (prepared,) = _waited(pool)
    assert prepared.error is None

    pool.submit(0, "prepare")
    for process in _evaluator_processes():
        os.kill(process, signal.SIGKILL)
    (lost,) = _waited(pool)
    pool.submit(0, "prepare")
    (after,) = _waited(pool)
    pool.close()

    assert lost.lost
    assert lost.error is not None
    assert after.error is None
    assert after.value.correct == prepared.value.correct


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_an_evaluation_that_raises_keeps_its_evaluator_and_gives_the_reason(start: DriverStart) -> None:
    pool = RayPool(load_job(start), size=1)
    pool.submit(0, "prepare")
    _waited(pool)
    pool.submit(0, "evaluate", plan={"schema_version": 99})
    (failed,) = _waited(pool)
    pool.close()

    assert not failed.lost
    assert failed.error == "ValueError: plan schema_version must be 1, got 99"


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are Linux's")
def test_who_runs_out_of_memory_fails_alone_with_the_reason(start: DriverStart) -> None:
    job = load_job(start)
    many = replace(job.split, calibration=np.tile(job.split.calibration, 500))
    bounded = RayPool(replace(job, split=many), size=1, memory_bytes=2**26)  # enough for what is not repeated
    unharmed = RayPool(job, size=1, memory_bytes=2**26)
    bounded.submit(0, "prepare")
    unharmed.submit(0, "prepare")
    (failed,), (prepared,) = _waited(bounded), _waited(unharmed)
    bounded.close()
    unharmed.close()

    assert not failed.lost
    assert failed.error is not None
    assert "memory" in failed.error.lower()
    assert prepared.error is None


def test_at_least_one_cpu_is_usable() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


def _drive(driver: RunningDriver, rows: dict[int, Trial], *, until: Callable[[Event], bool]) -> None:
    acknowledged, deadline = 0, time.monotonic() + 120
    while time.monotonic() < deadline:
        for number, event in driver.advance(acknowledged):
            acknowledged = number
            if isinstance(event, TrialStarted | TrialEnded):
                rows[event.trial.number] = event.trial
            assert not isinstance(event, JobEnded), event
            if until(event):
                return
    raise AssertionError("what was waited for did not happen")


def _with(start: DriverStart, rows: dict[int, Trial]) -> DriverStart:
    return replace(start, trials=tuple(rows[number] for number in sorted(rows)))


def _waited(pool: RayPool) -> list[Finished]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := pool.wait(1.0):
            return list(found)
    raise AssertionError("the evaluator did not answer")


def _evaluator_processes() -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            if command.startswith(b"ray::_EvaluatorActor"):
                found.append(int(folder.name))
    return found
