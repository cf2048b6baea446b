"""Every command that asks a service, against a real one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from service.cli.demo import NETWORK
from tests.compress.network.onnx_import.exporting import CURRENT, export
from tests.end_to_end.conftest import ROOT, TRIALS, RunningJob

pytestmark = pytest.mark.slow


def tightfit(job: RunningJob, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", *map(str, arguments), "--url", job.client.url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def answer(job: RunningJob, *arguments: str | Path) -> Any:
    done = tightfit(job, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_jobs_lists_the_newest_first(running: RunningJob) -> None:
    assert running.job_id in [job["id"] for job in answer(running, "jobs")]
    assert "digits end to end" in tightfit(running, "jobs").stdout


def test_devices_shows_profiles_and_their_facts(running: RunningJob) -> None:
    assert "stm32h743" in [device["name"] for device in answer(running, "devices")]
    assert answer(running, "devices", "stm32h743")["clock_ghz"]["value"] == 0.48
    assert "clock_ghz" in tightfit(running, "devices", "stm32h743").stdout


def test_estimate_prices_a_file_on_devices(running: RunningJob) -> None:
    priced = answer(running, "estimate", "--model", NETWORK, "--device", "stm32h743", "--fit-check")

    (row,) = priced["estimates"]
    # 82,762 parameters less the two of each folded batch norm plus one bias: 82,362 values of 4 bytes
    assert row["model_bytes"] == 82_362 * 4
    assert priced["ranges"]["stm32h743"]["latency_ms"]["smallest"] < row["latency_ms"]
    shown = tightfit(running, "estimate", "--model", NETWORK, "--device", "stm32h743", "--layers").stdout
    assert "329,448" in shown
    assert "node_linear" in shown


def test_estimate_takes_what_the_exporter_writes_by_default(running: RunningJob, tmp_path: Path) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 10)
    )
    beside = export(network, torch.zeros(1, 3, 8, 8), tmp_path / "net.onnx", CURRENT)
    assert beside == tmp_path / "net.onnx.data"

    priced = answer(running, "estimate", "--model", tmp_path / "net.onnx", "--device", "raspberry-pi-4")

    # 8 × 3 × 9 + 8 of the convolution, 288 × 10 + 10 of the head
    assert priced["estimates"][0]["model_bytes"] == (224 + 2_890) * 4


def test_watch_follows_a_job_to_its_end(running: RunningJob) -> None:
    lines = [json.loads(line) for line in tightfit(running, "watch", running.job_id, "--json").stdout.splitlines()]

    ids = [int(line["id"]) for line in lines]
    assert ids == list(range(1, len(ids) + 1))
    assert sum(line["event"] == "trial" for line in lines) >= TRIALS
    assert [line["data"]["status"] for line in lines if line["event"] == "status"][-1] == "done"
    again = tightfit(running, "watch", running.job_id)
    assert again.returncode == 0
    assert f"{TRIALS} of {TRIALS} trials" in again.stderr


def test_front_shows_every_device_with_its_baselines(finished: RunningJob) -> None:
    fronts = answer(finished, "front", finished.job_id)

    assert [front["device"] for front in fronts] == ["raspberry-pi-4", "stm32h743"]
    asked = {"uniform 8 bit", "uniform 6 bit", "uniform 4 bit", "pruning only"}
    assert all(front["points"] and asked <= {row["label"] for row in front["baselines"]} for front in fronts)
    assert "float network" in tightfit(finished, "front", finished.job_id).stdout


def test_pull_unpacks_a_checkpoint_that_is_as_long_as_the_front_says(finished: RunningJob, tmp_path: Path) -> None:
    pulled = answer(finished, "pull", finished.job_id, "--device", "stm32h743", "--to", tmp_path / "best")

    assert (tmp_path / "best" / "model.safetensors").stat().st_size == pulled["trial"]["packed_bytes"]
    assert pulled["trial"]["checkpoint"]["verified"] is True
    assert not (tmp_path / "best" / "packed.zip").exists()


def test_submit_takes_files_devices_and_limits(running: RunningJob) -> None:
    queued = answer(
        running,
        *("submit", "--model", NETWORK, "--data", running.data, "--name", "small", "--trials", "3"),
        *("--device", "raspberry-pi-4:latency_ms=0.4", "--device", "stm32h743", "--limit", "model_bytes=90000"),
    )

    limits = {device["name"]: device["limits"] for device in queued["devices"]}
    assert limits["raspberry-pi-4"]["latency_ms"] == 0.4
    assert limits["stm32h743"]["latency_ms"] is None
    assert {row["model_bytes"] for row in limits.values()} == {90_000}
    running.client.cancel(queued["id"])


def test_a_job_may_be_a_file_that_options_override(running: RunningJob, tmp_path: Path) -> None:
    base = running.client.job(running.job_id)
    spec = {"name": "from a file", "model_id": base.model_id, "dataset_id": base.dataset_id, "devices": ["stm32h743"]}
    (tmp_path / "job.json").write_text(json.dumps(spec))

    queued = answer(running, "submit", "--spec", tmp_path / "job.json", "--trials", "3", "--seed", "7")

    assert (queued["name"], queued["seed"], queued["budget"]["trials"]) == ("from a file", 7, 3)
    running.client.cancel(queued["id"])


def test_an_impossible_limit_is_refused_with_what_can_be_reached(running: RunningJob) -> None:
    done = tightfit(
        running,
        *("submit", "--model", NETWORK, "--data", running.data),
        *("--device", "stm32h743:latency_ms=0.0001"),
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert "latency_ms" in done.stderr
    priced = answer(running, "estimate", "--model", NETWORK, "--device", "stm32h743", "--fit-check")
    smallest = priced["ranges"]["stm32h743"]["latency_ms"]["smallest"]
    assert f"at least {smallest:.6g}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["devices", "nope"], 1, "unknown device 'nope'"),
        (["watch", "nope"], 1, "unknown job 'nope'"),
        (["submit", "--device", "stm32h743"], 2, "--model FILE"),
        (["submit", "--model", "absent.onnx", "--device", "stm32h743"], 2, "there is no file absent.onnx"),
        (["submit", "--model", "x", "--device", "stm32h743:speed=1"], 2, "unknown limit 'speed'"),
        (["estimate", "--model", "pyproject.toml", "--device", "stm32h743"], 1, "file"),
    ],
)
def test_a_mistake_ends_with_a_code_and_a_reason(
    running: RunningJob, arguments: list[str], code: int, said: str
) -> None:
    done = tightfit(running, *arguments)

    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
