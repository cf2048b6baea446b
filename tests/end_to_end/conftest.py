"""One real service with one real job, for all tests of this folder that only look at them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.digits.heldout import write_heldout
from service.cli.child_service import child_service
from service.cli.demo import NETWORK
from service.cli.demo_report import read_card
from service.client import Client

ROOT = Path(__file__).parents[2]
TRIALS = 24


@dataclass(frozen=True)
class RunningJob:
    """A service with a job that was submitted to it."""

    client: Client
    job_id: str
    data: Path

    @property
    def url(self) -> str:
        return f"{self.client.url}/jobs/{self.job_id}"


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningJob]:
    folder = tmp_path_factory.mktemp("running")
    data = folder / "digits.npz"
    write_heldout(data)
    preprocessing = read_card((ROOT / NETWORK).with_suffix(".json"))["preprocessing"]
    with child_service(folder / "home") as service, Client(service.url) as client:
        job = client.submit(
            {
                "name": "digits end to end",
                "model_id": client.upload_model(ROOT / NETWORK, preprocessing=preprocessing).id,
                "dataset_id": client.upload_dataset(data).id,
                "devices": ["raspberry-pi-4", "stm32h743"],
                "limits": {"model_bytes": 90_000, "accuracy_drop": 0.02},
                "budget": {"trials": TRIALS},
            }
        )
        yield RunningJob(client=client, job_id=job.id, data=data)


@pytest.fixture
def finished(running: RunningJob) -> RunningJob:
    assert running.client.wait(running.job_id).status == "done"
    return running
