"""A real service in processes of its own, with a real local Ray, that tests may kill."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sklearn.datasets import load_digits

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
PATIENCE_S = 240.0  # a busy machine takes long to import torch in several processes


class ServiceProcess:
    """``python -m service.serve`` on a free port, with its data under ``home``; ``settings`` are further variables."""

    def __init__(self, home: Path, *, database_url: str = "", **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._home = home
        self._settings = {"DATABASE_URL": database_url, **settings}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=150)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        environment = {
            **os.environ,
            "TIGHTFIT_HOME": str(self._home),
            "TIGHTFIT_PORT": str(self.port),
            "OMP_NUM_THREADS": "1",
            **self._settings,
        }
        self._process = subprocess.Popen([sys.executable, "-m", "service.serve"], env=environment)
        wait_for(self._answers)

    def kill(self) -> None:
        """End the service as a power cut would: no handler runs."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """Ask the service to end; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.http.close()

    def submit(self, **changes: Any) -> str:
        with (EXAMPLE / "digits_resnet.onnx").open("rb") as file:
            words = {"scale": "0.0625", "mean": "0.306", "std": "0.376"}
            model = self.http.post("/v1/models", files={"file": file}, data=words).json()
        bunch = load_digits()
        buffer = io.BytesIO()
        np.savez(buffer, x=bunch.images[1000:].astype(np.uint8)[..., None], y=bunch.target[1000:])
        dataset = self.http.post("/v1/datasets", files={"file": ("digits.npz", buffer.getvalue())}).json()
        body = {"model_id": model["id"], "dataset_id": dataset["id"], "devices": ["raspberry-pi-4"], **changes}
        answer = self.http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/jobs/{job_id}").json())

    def trials(self, job_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.http.get(
                f"/v1/jobs/{job_id}/trials", params={"limit": 200, **({"cursor": cursor} if cursor else {})}
            ).json()
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    def ended(self, job_id: str) -> int:
        """Return how many trials have ended."""
        counts = self.job(job_id)["trial_counts"]
        return int(counts["done"] + counts["stopped"] + counts["infeasible"] + counts["failed"])

    def _answers(self) -> bool:
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False


def wait_for(condition: Callable[[], bool], *, seconds: float = PATIENCE_S) -> float:
    """Wait until a condition holds; return the seconds that it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.1)
    return time.monotonic() - start


def processes_of(home: Path) -> list[int]:
    """Return the processes that have ``home`` in their environment: a service and its children."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if f"TIGHTFIT_HOME={home}\0".encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def descendants(pid: int) -> dict[int, str]:
    """Return the processes below one, with their command lines: Ray names its workers by what they do."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: dict[int, str] = {}
    level = {pid}
    while level := {child for child, parent in parents.items() if parent in level} - set(found):
        for child in level:
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
    return found
