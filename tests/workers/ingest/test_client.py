import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.workers.ingest.archives import archive, images, labels, npy
from workers.ingest.client import IngestClient, _result
from workers.ingest.protocol import REPLY_FILE, REQUEST_FILE, IngestError, IngestUnavailableError, Limits, write_json

MIB = 2**20
LIMITS = Limits(seconds=60, memory_bytes=512 * MIB, file_bytes=256 * MIB)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestClient]:
    client = IngestClient(scratch=tmp_path_factory.mktemp("ingest"), limits=LIMITS)
    client.start()
    yield client
    client.close()


def data(path: Path, *, count: int = 4) -> dict[str, object]:
    file = archive(path / "data.npz", {"x.npy": npy(images(count, (64, 64))), "y.npy": npy(labels(*[1] * count))})
    return {"path": str(file), "max_bytes": 1024 * MIB}


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_request_is_answered_with_data_and_files(client: IngestClient, tmp_path: Path) -> None:
    with client.run("dataset", data(tmp_path)) as reply:
        result, stored = reply.result, reply.file("data.safetensors").read_bytes()
        folder = reply.folder

    assert result == {"images": 4, "shape": [64, 64], "dtype": "float32", "classes": 2}
    assert len(stored) > 4 * 64 * 64 * 4
    assert not folder.exists()


def test_a_refusal_carries_field_rule_value_and_code(client: IngestClient, tmp_path: Path) -> None:
    file = archive(tmp_path / "bad.npz", {"x.npy": npy(images(2)), "y.npy": npy(labels(0, -3))})

    with (
        pytest.raises(IngestError, match="y: must be integers from 0, got -3") as refusal,
        client.run("dataset", {"path": str(file), "max_bytes": MIB}),
    ):
        pass

    assert (refusal.value.field, refusal.value.value, refusal.value.code) == ("y", -3, "label_out_of_range")


def test_a_full_disk_is_not_blamed_on_the_upload(client: IngestClient, tmp_path: Path) -> None:
    folder = tmp_path / "request"
    folder.mkdir()
    write_json(folder / REQUEST_FILE, {"kind": "dataset", "parameters": data(tmp_path)})
    (folder / REPLY_FILE).symlink_to("/dev/full")

    ending = client._run(folder, LIMITS)

    with pytest.raises(IngestUnavailableError, match="no room left"):
        _result(ending, None, LIMITS)


def test_one_server_runs_several_requests_at_once(client: IngestClient, tmp_path: Path) -> None:
    def run(number: int) -> object:
        folder = tmp_path / str(number)
        folder.mkdir()
        with client.run("dataset", data(folder, count=number + 2)) as reply:
            return reply.result["images"]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == [2, 3, 4, 5, 6, 7]


def test_too_much_memory_is_a_refusal_and_the_server_lives(client: IngestClient, tmp_path: Path) -> None:
    before = client.pid
    parameters = data(tmp_path, count=2000)  # 2000 × 64 × 64 × 4 bytes = 31 MiB

    with (
        pytest.raises(IngestError) as refusal,
        client.run("dataset", parameters, limits=replace(LIMITS, memory_bytes=8 * MIB)),
    ):
        pass

    assert refusal.value.code == "ingest_out_of_memory"
    assert client.pid == before


def test_a_file_beyond_the_limit_ends_the_request(client: IngestClient, tmp_path: Path) -> None:
    parameters = data(tmp_path, count=600)  # 600 × 64 × 64 × 4 bytes = 9.4 MiB

    limits = replace(LIMITS, file_bytes=MIB)

    with pytest.raises(IngestError), client.run("dataset", parameters, limits=limits):
        pass


def test_a_request_that_takes_too_long_is_ended(client: IngestClient, tmp_path: Path) -> None:
    before = client.pid

    with (
        pytest.raises(IngestError, match=r"within 0\.01 s") as refusal,
        client.run("dataset", data(tmp_path, count=2000), limits=replace(LIMITS, seconds=0.01)),
    ):
        pass

    assert refusal.value.code == "ingest_timeout"
    assert client.pid == before


def test_a_request_whose_process_dies_is_a_refusal(client: IngestClient, tmp_path: Path) -> None:
    server = client.pid
    assert server is not None

    with ThreadPoolExecutor(1) as pool:
        parameters = data(tmp_path, count=4000)
        future = pool.submit(lambda: client.run("dataset", parameters).__enter__())
        while not children_of(server):
            time.sleep(0.0005)
        os.kill(children_of(server)[0], signal.SIGSEGV)
        error = future.exception(timeout=30)

    assert isinstance(error, IngestError)
    assert error.code == "ingest_crashed"
    assert client.pid == server


def test_a_server_that_dies_is_started_again(client: IngestClient, tmp_path: Path) -> None:
    with client.run("dataset", data(tmp_path)):
        pass
    before = client.pid
    assert before is not None

    os.kill(before, signal.SIGKILL)
    with client.run("dataset", data(tmp_path)) as reply:
        assert reply.result["images"] == 4

    assert client.pid != before


def test_requests_see_no_secrets(client: IngestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    fresh = IngestClient(scratch=tmp_path / "scratch", limits=LIMITS)

    fresh.start()
    environment = Path(f"/proc/{fresh.pid}/environ")
    deadline = time.monotonic() + 10
    while b"OMP_NUM_THREADS" not in environment.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)  # between fork and exec it is still ours
    seen = environment.read_bytes()
    fresh.close()

    assert b"OMP_NUM_THREADS=1" in seen
    assert b"secret" not in seen


def test_the_server_starts_by_itself_after_a_while(tmp_path: Path) -> None:
    fresh = IngestClient(scratch=tmp_path, limits=LIMITS)

    fresh.start_later(0.5)
    assert fresh.pid is None
    deadline = time.monotonic() + 10
    while fresh.pid is None and time.monotonic() < deadline:
        time.sleep(0.01)
    started = fresh.pid
    fresh.close()

    assert started is not None


def test_a_client_that_is_closed_before_does_not_start_one(tmp_path: Path) -> None:
    fresh = IngestClient(scratch=tmp_path, limits=LIMITS)

    before = set(threading.enumerate())

    fresh.start_later(60.0)
    (timer,) = set(threading.enumerate()) - before
    fresh.close()
    timer.join(10.0)

    assert not timer.is_alive()
    fresh.start()
    assert fresh.pid is None


def test_a_closed_client_takes_nothing_more(tmp_path: Path) -> None:
    client = IngestClient(scratch=tmp_path, limits=LIMITS)
    client.close()

    with pytest.raises(IngestUnavailableError), client.run("dataset", {}):
        pass


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "empty_file"), (b"not a model at all", "not_onnx"), (np.random.default_rng(0).bytes(5000), "not_onnx")],
)
def test_what_is_no_model_is_refused(client: IngestClient, tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    parameters = {"path": str(tmp_path / "net.onnx"), "data": None, "architecture": None}

    with pytest.raises(IngestError) as refusal, client.run("model", parameters):
        pass

    assert refusal.value.code == code
