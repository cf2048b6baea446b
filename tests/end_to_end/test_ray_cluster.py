"""What happens to a job on a Ray cluster that loses a node, or is gone altogether for a while."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.ray_cluster import RayCluster, RayNode, ray_cluster
from tests.end_to_end.service_process import ServiceProcess, descendants, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.outage]

TRIALS = 40
LONGEST_S = 300.0
JOIN = """
import sys, ray
from workers import cluster
cluster.connect(sys.argv[1])
print(*sorted(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]))
cluster.disconnect()
"""


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def service(tmp_path: Path, cluster: RayCluster) -> Iterator[ServiceProcess]:
    settings = {"RAY_ADDRESS": cluster.address, "TIGHTFIT_CONCURRENT_JOBS": "1", **cluster.settings}
    service = ServiceProcess(tmp_path, **settings)
    yield service
    service.end()


def evaluators(service: ServiceProcess) -> int:
    """Return how many evaluators its dispatcher gives to a job, as far as it has said."""
    found = re.findall(r"^tightfit_dispatcher_evaluators\S* (\d+)", service.http.get("/metrics").text, re.MULTILINE)
    return max(map(int, found), default=0)


def evaluates(node: RayNode) -> bool:
    return "_EvaluatorActor" in node.commands()


def brought(address: str) -> bool:
    """Whether a node runs that somebody has brought to join this cluster."""
    return any("workers.cluster_node" in command and address in command for command in descendants(1).values())


def ended(service: ServiceProcess, job: str) -> dict[int, dict[str, Any]]:
    return {row["number"]: row for row in service.trials(job) if row["status"] != "running"}


def ends_whole(service: ServiceProcess, job: str, before: dict[int, dict[str, Any]]) -> None:
    """Wait for the end of a job, and see that no trial was lost, doubled or changed."""
    wait_for(lambda: service.job(job)["status"] in ("done", "failed"), seconds=LONGEST_S)
    found, rows = service.job(job), service.trials(job)
    assert (found["status"], found["reason"]) == ("done", None)
    assert [row["number"] for row in rows] == list(range(TRIALS))
    assert all(row["status"] in ("done", "infeasible", "stopped") for row in rows)
    for number, row in before.items():
        assert {**rows[number], "checkpoint": None} == {**row, "checkpoint": None}
    assert service.http.get(f"/v1/jobs/{job}/best", params={"accuracy_drop": 1}).json()["checkpoint"]["verified"]


def test_who_has_no_node_beside_it_brings_one(cluster: RayCluster) -> None:
    cluster.start_head(cpus=1)
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]  # sees no process of others, as in a container
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no process may be put apart here")

    joined = subprocess.run(
        [*alone, sys.executable, "-c", JOIN, cluster.address],
        env={**os.environ, **cluster.settings},
        capture_output=True,
        text=True,
    )

    assert joined.stdout.split() == ["0", "1"], joined.stderr  # CPUs of all nodes
    wait_for(lambda: not brought(cluster.address), seconds=20)


def test_a_job_goes_on_with_the_nodes_that_are_left(service: ServiceProcess, cluster: RayCluster) -> None:
    head, second = cluster.start_head(cpus=1), cluster.start_node("127.0.0.2", cpus=1)
    service.start()
    wait_for(lambda: evaluators(service) == 2)
    job = service.submit(budget={"trials": TRIALS})
    wait_for(lambda: service.ended(job) >= 4 and evaluates(head) and evaluates(second), seconds=LONGEST_S)

    before = ended(service, job)
    second.kill_raylet()
    again_s = wait_for(lambda: service.ended(job) >= len(before) + 4, seconds=LONGEST_S)
    print(f"four more trials {again_s:.1f} s after a node was killed")  # noqa: T201
    known = service.job(job)["status"]

    ends_whole(service, job, before)
    assert known == "searching"
    assert not evaluates(second)


def test_a_job_waits_for_a_cluster_that_is_gone(service: ServiceProcess, cluster: RayCluster) -> None:
    head = cluster.start_head(cpus=2)
    service.start()
    job = service.submit(budget={"trials": TRIALS})
    wait_for(lambda: service.ended(job) >= 4, seconds=LONGEST_S)

    before = ended(service, job)
    head.kill()
    told_s = wait_for(lambda: "the Ray cluster" in (service.job(job)["reason"] or ""), seconds=LONGEST_S)
    waiting = service.job(job)
    ready = service.http.get("/readyz").json()
    cluster.start_head(cpus=2)
    again_s = wait_for(lambda: service.ended(job) >= len(before) + 4, seconds=LONGEST_S)
    print(f"told after {told_s:.1f} s; four more trials {again_s:.1f} s after it was back")  # noqa: T201
    going_on = service.job(job)["reason"]

    ends_whole(service, job, before)
    assert waiting["reason"] == f"waiting: the Ray cluster at {cluster.address} does not answer"
    assert waiting["status"] == "searching"
    assert ready["checks"]["dispatch"] != "ok"
    assert going_on is None
