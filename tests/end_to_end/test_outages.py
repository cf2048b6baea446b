"""What happens to a job when something that it needs goes away for a while: it says so, and goes on by itself."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.end_to_end.service_process import ServiceProcess, wait_for
from tests.postgresql import stoppable_postgresql

pytestmark = [pytest.mark.slow, pytest.mark.outage]

TRIALS = 12
SMALL_DISK = "64m"
LONGEST_S = 600.0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Give a file system of its own that is soon full; skip the test where none may be mounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write a file until its disk is full."""
    with suppress(OSError), file.open("wb", buffering=0) as stream:
        while stream.write(bytes(2**12)):
            pass


def readiness(service: ServiceProcess) -> tuple[int, dict[str, str]]:
    answer = service.http.get("/readyz")
    return answer.status_code, dict(answer.json()["checks"])


def ends_well(service: ServiceProcess, job: str) -> None:
    """Wait for the end of a job, and see that no trial is missing and a checkpoint can be fetched."""
    wait_for(lambda: service.job(job)["status"] in ("done", "failed"), seconds=LONGEST_S)
    found = service.job(job)
    assert (found["status"], found["reason"]) == ("done", None)
    assert [row["number"] for row in service.trials(job)] == list(range(TRIALS))
    best = service.http.get(f"/v1/jobs/{job}/best/checkpoint", params={"accuracy_drop": 1})
    assert best.content.startswith(b"PK")


def test_a_job_waits_for_its_database(tmp_path: Path) -> None:
    with stoppable_postgresql() as database:
        service = ServiceProcess(tmp_path, database_url=database.url)
        try:
            service.start()
            job = service.submit(budget={"trials": TRIALS})
            wait_for(lambda: service.ended(job) >= 2, seconds=LONGEST_S)

            database.stop()
            away = service.http.get(f"/v1/jobs/{job}")
            ready, checks = readiness(service)
            database.start()
            wait_for(lambda: readiness(service)[0] == 200)
            ends_well(service, job)
        finally:
            service.end()

    assert away.status_code == 503
    assert away.json()["code"] == "database_unavailable"
    assert int(away.headers["retry-after"]) > 0
    assert ready == 503
    assert checks["database"] != "ok"


def test_a_job_waits_for_the_store_of_its_artefacts(tmp_path: Path) -> None:
    store, aside = tmp_path / "store", tmp_path / "aside"
    service = ServiceProcess(tmp_path / "home", TIGHTFIT_ARTIFACTS=store.as_uri())
    try:
        service.start()
        job = service.submit(budget={"trials": TRIALS})
        wait_for(lambda: service.ended(job) >= 2, seconds=LONGEST_S)

        store.rename(aside)
        upload = service.http.post("/v1/devices", json={})
        wait_for(lambda: "cannot be stored" in (service.job(job)["reason"] or ""), seconds=LONGEST_S)
        waiting = service.job(job)
        ready, checks = readiness(service)
        assert not store.exists()  # nobody made an empty one in its place
        aside.rename(store)
        wait_for(lambda: readiness(service)[0] == 200)
        ends_well(service, job)
    finally:
        service.end()

    assert upload.status_code == 422  # what needs no artefact is answered as ever
    assert waiting["status"] == "packaging"
    assert ready == 503
    assert checks["artifacts"] != "ok"


def test_a_job_waits_for_room_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        service = ServiceProcess(disk / "home")
        try:
            service.start()
            job = service.submit(budget={"trials": TRIALS})
            wait_for(lambda: service.ended(job) >= 2, seconds=LONGEST_S)

            filler = disk / "filler"
            fill(filler)
            full = shutil.disk_usage(disk).free
            refused = service.http.post("/v1/datasets", files={"file": ("d.npz", bytes(2**20))})
            known = service.job(job)["status"]
            filler.unlink()
            ends_well(service, job)
        finally:
            service.end()

    assert full < 2**16
    assert refused.status_code in (503, 507)
    assert int(refused.headers["retry-after"]) > 0
    assert known in ("searching", "packaging", "preparing")  # what is stored can still be read
