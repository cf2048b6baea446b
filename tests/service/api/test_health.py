import subprocess
import sys

import httpx


def test_the_process_answers(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok", "checks": {}}


def test_readiness_names_what_it_checked(http: httpx.Client) -> None:
    answer = http.get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "checks": {"database": "ok", "tables": "ok", "artifacts": "ok"}}


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
