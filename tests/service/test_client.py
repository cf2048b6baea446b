"""The client against a real server on a socket; one that breaks off where a test wants it to."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.client import Client, ClientError, ProblemError

JOB: dict[str, Any] = {
    "id": "j",
    "name": "job",
    "status": "done",
    "reason": None,
    "model_id": "m",
    "dataset_id": "d",
    "devices": [],
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": None,
    "ended_at": None,
    "progress": None,
    "trial_counts": {},
    "requested": None,
    "objectives": ["accuracy", "latency_ms"],
    "space": {},
    "keep": {},
    "budget": {},
    "strategy": "nsga2",
    "seed": 0,
    "baseline": None,
    "split": None,
    "variables": None,
    "ranges": {},
}


@dataclass
class Script:
    """What the server answers: ``streams`` are the bodies of the connections to the events, one after the other.

    A body that ends with ``BREAK`` is cut off: the connection closes before its length has come.
    """

    streams: list[bytes] = field(default_factory=list)
    status: str = "done"
    resumed_after: list[str | None] = field(default_factory=list)


BREAK = b"<break>"


def event(number: int, kind: str = "trial", data: str = "{}") -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n".encode()


class Handler(BaseHTTPRequestHandler):
    script: Script

    def do_GET(self) -> None:
        if self.path.endswith("/events"):
            return self._stream()
        if self.path == "/v1/jobs/j":
            return self._answer(200, "application/json", json.dumps({**JOB, "status": self.script.status}).encode())
        if self.path == "/v1/jobs/text":
            return self._answer(502, "text/html", b"<h1>Bad Gateway</h1>")
        if self.path == "/v1/jobs/other":
            return self._answer(200, "application/json", b'{"id": "x"}')
        if self.path.startswith("/v1/trials/t/checkpoint"):
            return self._answer(200, "application/zip", b"only half" + BREAK)
        problem = {
            "type": "/v1/problems/impossible_limit",
            "title": "Unprocessable Content",
            "status": 422,
            "detail": "one limit cannot be kept",
            "code": "impossible_limit",
            "errors": [{"field": "devices.0.limits.latency_ms", "rule": "must be at least 0.1", "value": 0.01}],
        }
        return self._answer(422, "application/problem+json; charset=utf-8", json.dumps(problem).encode())

    def _stream(self) -> None:
        self.script.resumed_after.append(self.headers.get("Last-Event-ID"))
        body = self.script.streams.pop(0) if self.script.streams else b""
        self._answer(200, "text/event-stream", body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        broken = body.endswith(BREAK)
        body = body.removesuffix(BREAK)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) + 100 * broken))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    handler = type("ScriptedHandler", (Handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Client(f"http://127.0.0.1:{server.server_address[1]}") as client:
        yield client
    server.shutdown()
    server.server_close()


def watched(client: Client) -> list[int]:
    return [int(event.id) for event in client.watch("j", pause=lambda _: None)]


def test_a_stream_that_breaks_is_resumed_after_the_last_event(client: Client, script: Script) -> None:
    script.streams = [event(1) + event(2) + BREAK, event(3) + b"id: 4\nevent: tri" + BREAK, event(4)]

    assert watched(client) == [1, 2, 3, 4]
    assert script.resumed_after == [None, "2", "3"]


def test_a_stream_that_ends_while_the_job_runs_is_asked_again(client: Client, script: Script) -> None:
    script.status = "searching"
    script.streams = [event(1), event(2)]
    seen = []

    for found in client.watch("j", pause=lambda _: None):
        seen.append(int(found.id))
        script.status = "done" if found.id == "2" else "searching"

    assert seen == [1, 2]
    assert script.resumed_after == [None, "1"]


def test_watching_ends_when_the_job_is_paused(client: Client, script: Script) -> None:
    script.status = "paused"
    script.streams = [event(1) + event(2, "status", '{"status": "paused"}') + event(3)]

    assert watched(client) == [1, 2]


def test_a_pause_that_is_over_does_not_end_the_watching(client: Client, script: Script) -> None:
    script.streams = [event(1, "status", '{"status": "paused"}') + event(2)]

    assert watched(client) == [1, 2]


def test_a_service_that_is_gone_is_given_up_after_a_while(script: Script) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ClientError, match="no service answers at http://127"):
        list(client.watch("j", patience=0.0, pause=lambda _: None))


def test_a_problem_has_its_title_its_detail_and_every_field(client: Client) -> None:
    with pytest.raises(ProblemError) as caught:
        client.job("impossible")

    problem = caught.value
    assert (problem.status, problem.code) == (422, "impossible_limit")
    assert problem.lines() == ["devices.0.limits.latency_ms: must be at least 0.1, got 0.01"]
    assert str(problem) == (
        "Unprocessable Content (422): one limit cannot be kept\n"
        "devices.0.limits.latency_ms: must be at least 0.1, got 0.01"
    )


def test_an_error_that_is_no_problem_document_is_still_an_error(client: Client) -> None:
    with pytest.raises(ProblemError, match="Bad Gateway") as caught:
        client.job("text")

    assert caught.value.status == 502


def test_an_answer_of_another_kind_is_not_taken_for_one(client: Client) -> None:
    with pytest.raises(ClientError, match="does not understand"):
        client.job("other")


def test_a_download_that_breaks_off_leaves_no_file(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="failed"):
        client.download_checkpoint("t", tmp_path / "packed.zip")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"cannot read .*absent\.onnx"):
        client.upload_model(tmp_path / "absent.onnx")


def test_a_client_needs_neither_torch_nor_ray() -> None:
    code = "import sys, tightfit; tightfit.Client; print(sorted({'torch', 'ray', 'fastapi'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_public_face_is_three_names() -> None:
    import tightfit

    assert dir(tightfit) == ["Client", "__version__", "load"]
    assert tightfit.Client is Client
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        tightfit.train  # noqa: B018
