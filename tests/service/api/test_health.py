import re
import subprocess
import sys

import httpx

from service.store.dispatchers import say
from service.store.tables import dispatchers
from tests.service.api.conftest import Running


def test_the_process_answers(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok", "checks": {}}


def test_readiness_names_what_it_checked(http: httpx.Client) -> None:
    answer = http.get("/readyz")

    assert answer.status_code == 200
    checks = answer.json()["checks"]
    assert {name: text for name, text in checks.items() if text == "ok"}.keys() == {"database", "tables", "artifacts"}
    assert "no dispatcher" in checks["dispatch"]  # jobs wait, and requests are served


def test_readiness_says_when_somebody_runs_jobs(running: Running) -> None:
    with running.services.database.write() as connection:
        say(connection, "one", evaluators=2, running=1, ray="ok")
    well = running.http.get("/readyz").json()["checks"]["dispatch"]
    with running.services.database.write() as connection:
        say(connection, "one", evaluators=2, running=1, ray="gone")
    ill = running.http.get("/readyz")
    with running.services.database.write() as connection:
        connection.execute(dispatchers.delete())

    assert well == "ok"
    assert (ill.status_code, ill.json()["checks"]["dispatch"]) == (200, "gone")


def test_metrics_say_how_busy_evaluators_were(running: Running) -> None:
    with running.services.database.write() as connection:
        say(connection, "one", evaluators=2, running=1, ray="ok", busy_s=12.5)
    text = running.http.get("/metrics").text
    with running.services.database.write() as connection:
        connection.execute(dispatchers.delete())

    assert 'tightfit_dispatcher_evaluator_busy_seconds{dispatcher="one"} 12.5' in text


def test_metrics_count_answers_by_route_and_jobs_by_status(http: httpx.Client) -> None:
    http.get("/v1/devices/none")

    text = http.get("/metrics").text

    assert 'tightfit_requests_total{method="GET",route="/v1/devices/{name}",status="404"}' in text
    assert 'tightfit_request_seconds_bucket{method="GET",route="/v1/devices/{name}",le="+Inf"}' in text
    assert 'tightfit_jobs{status="queued"}' in text
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z_]+(\{[^{}]*(\{[^{}]*\}[^{}]*)*\})? [0-9.e+-]+", line) for line in samples)


def test_every_route_is_described(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]

    assert "/v1/jobs/{job_id}/front" in paths
    assert all(call["description"] for calls in paths.values() for call in calls.values())


def test_the_api_imports_neither_torch_nor_ray() -> None:
    program = """
import sys, tempfile
from service.app import create_app
from service.settings import Settings
create_app(Settings(home=tempfile.mkdtemp())).openapi()
import service.serve
print([name for name in ("torch", "ray", "onnx", "onnxruntime", "optuna") if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
