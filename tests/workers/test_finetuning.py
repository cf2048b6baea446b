import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.checkpoint import load_compressed
from compress.network.graph import Network
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Plan
from tests.workers.conftest import digits_network, make_start
from workers.cluster import connect, disconnect
from workers.finetuning import FOLDER
from workers.job import JobData, load_job
from workers.packaging import Package
from workers.pool import RayPool
from workers.pricing import Pricing
from workers.spec import FineTuneSpec, JobSpec

FINETUNE = FineTuneSpec(epochs=4, trials=2)


@pytest.fixture
def local_ray() -> Iterator[None]:
    connect(cpus=2)
    yield
    disconnect()


def low_bit_plan(network: Network) -> Plan:
    width = LayerBits(weight_bits=2, activation_bits=4)
    return Plan(layers={node.name: width for node in network.graph.nodes if node.op in LAYER_OPS})


def packaged(pool: RayPool, job: JobData, plan: Plan) -> Package:
    """Package a plan with the job's only evaluator."""
    price = Pricing(job.shapes, job.structure, job.spec.devices, job.profiles).price(plan)
    pool.submit(0, "evaluate", plan=plan.to_json())
    measured = waited(pool)
    pool.submit(0, "package", plan=plan.to_json(), number=1, measured_correct=measured.correct, price=price)
    package = waited(pool)
    assert isinstance(package, Package)
    return package


def waited(pool: RayPool, seconds: float = 240.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for finished in pool.wait(1.0):
            assert finished.error is None, finished.error
            return finished.value
    raise AssertionError("the evaluator did not answer")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_finalist_is_fine_tuned_packed_and_verified_beside_its_trial(spec: JobSpec, tmp_path: Path) -> None:
    network, _ = digits_network()
    job = load_job(make_start(replace(spec, finetune=FINETUNE)))
    plan = low_bit_plan(network)
    pool = RayPool(job, size=2)  # every CPU is an evaluator's
    pool.submit(0, "prepare")
    waited(pool)

    package = packaged(pool, job, plan)
    pool.close()

    tuned = package.verification["fine_tuned"]
    assert set(package.files) == {"packed.zip", "model.onnx", "fine_tuned.zip", "fine_tuned.onnx"}
    assert package.verified
    assert tuned["failures"] == []
    assert len(tuned["runs"]) == FINETUNE.trials
    assert tuned["runs"][0]["learning_rate"] == tuned["settings"]["learning_rate"]
    for name in ("packed.zip", "fine_tuned.zip"):
        (tmp_path / name).write_bytes(package.files[name])
    before, _ = load_compressed(tmp_path / "packed.zip")
    after, manifest = load_compressed(tmp_path / "fine_tuned.zip")
    assert after.plan == before.plan == plan
    assert manifest["trial"] == 1
    # A few steps at a low rate, as Tune may draw it, move scales and biases and need not move a code.
    learned, given = after.network.tensors, before.network.tensors
    assert any(not torch.equal(learned[name], given[name]) for name in after.coded)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_fine_tuning_goes_on_where_a_killed_evaluator_left_it(spec: JobSpec) -> None:
    network, _ = digits_network()
    job = load_job(make_start(replace(spec, finetune=FineTuneSpec(epochs=3, trials=2), seed=11)))
    plan = low_bit_plan(network)
    price = Pricing(job.shapes, job.structure, job.spec.devices, job.profiles).price(plan)
    root = Path(tempfile.gettempdir()) / FOLDER
    earlier = set(root.glob("*/*/*/checkpoint_*"))
    pool = RayPool(job, size=1)
    pool.submit(0, "prepare")
    waited(pool)

    pool.submit(0, "package", plan=plan.to_json(), number=1, measured_correct=0, price=price)
    while not (begun := set(root.glob("*/*/*/checkpoint_*")) - earlier):
        assert pool.wait(0.2) == []
    pool.abandon(0)
    kept = {path.parents[2] for path in begun}
    pool.submit(0, "prepare")
    waited(pool)
    pool.submit(0, "package", plan=plan.to_json(), number=1, measured_correct=0, price=price)
    package = waited(pool)
    pool.close()

    assert isinstance(package, Package)
    assert len(package.verification["fine_tuned"]["runs"]) == 2
    assert package.verification["fine_tuned"]["failures"] == []
    assert not any(path.exists() for path in kept)  # nothing is left behind
