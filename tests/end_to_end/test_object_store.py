"""What happens to a job whose artefacts are on S3, when the store is away for a while."""

from pathlib import Path

import fsspec
import pytest

from tests.end_to_end.service_process import EXAMPLE, ServiceProcess, wait_for
from tests.end_to_end.test_outages import LONGEST_S, TRIALS, ends_well, readiness
from tests.s3 import running_s3

pytestmark = [pytest.mark.slow, pytest.mark.outage]


def reason_of(service: ServiceProcess, job: str) -> str:
    return str(service.job(job)["reason"] or "")


def test_a_job_waits_for_its_artefacts_on_s3(tmp_path: Path) -> None:
    with running_s3() as s3:
        service = ServiceProcess(tmp_path, TIGHTFIT_ARTIFACTS="s3://tightfit/artifacts", **s3.settings)
        try:
            service.start()
            job = service.submit(budget={"trials": TRIALS})
            wait_for(lambda: service.ended(job) >= 2, seconds=LONGEST_S)

            s3.relay.stop()
            with (EXAMPLE / "digits_resnet.onnx").open("rb") as file:
                upload = service.http.post("/v1/models", files={"file": file}, data={"name": "another"})
            wait_for(lambda: "cannot be stored" in reason_of(service, job), seconds=LONGEST_S)
            waiting = service.job(job)
            ready, checks = readiness(service)
            service.kill()  # and the next one starts without the store
            service.start()
            wait_for(lambda: "cannot be read" in reason_of(service, job), seconds=LONGEST_S)
            s3.relay.start()
            wait_for(lambda: readiness(service)[0] == 200)
            ends_well(service, job)
        finally:
            service.end()
        left = fsspec.filesystem("s3", skip_instance_cache=True, **s3.options).find("tightfit")

    assert upload.status_code == 503
    assert int(upload.headers["retry-after"]) > 0
    assert waiting["status"] == "packaging"
    assert ready == 503
    assert checks["artifacts"] != "ok"
    assert not (tmp_path / "artifacts").exists()
    assert left
    assert not [path for path in left if "/tmp/" in path]
