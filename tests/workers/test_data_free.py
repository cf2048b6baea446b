from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import workers.data_free
from compress.data_free.images import ImageGeneration
from hwmodels.errors import InputError
from tests.workers.conftest import DEVICES, digits_network, make_problem, make_start
from tests.workers.test_driver import run
from workers.data_free import FEWEST_IMAGES, made_data, pixel_bounds
from workers.events import CheckpointReady, JobEnded, Prepared
from workers.job import load_job
from workers.spec import Budget, DeviceTarget, JobSpec, Limits, Preprocessing, SpaceSpec
from workers.split import DIVERGENCE, search_signal


@pytest.fixture
def data_free(spec: JobSpec) -> JobSpec:
    return replace(spec, data_free=True)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make as few images as there may be, and each of them badly."""
    monkeypatch.setattr(workers.data_free, "MAKING_MACS", 0)
    monkeypatch.setattr(workers.data_free, "ImageGeneration", partial(ImageGeneration, steps=8))


def test_pixels_lie_where_the_preprocessing_puts_them() -> None:
    stated = Preprocessing(scale=1 / 255, mean=(0.5, 0.25), std=(0.5, 0.25))

    # Channel 0: -0.5 / 0.5 and 0.5 / 0.5; channel 1: -0.25 / 0.25 and 0.75 / 0.25.
    assert pixel_bounds(stated) == pytest.approx((-1.0, 3.0))


@pytest.mark.usefixtures("hasty")
def test_a_job_without_data_makes_images_and_asks_the_network_what_they_are(data_free: JobSpec) -> None:
    start = replace(make_start(data_free), dataset=b"")

    job = load_job(start)

    assert job.images.shape == (FEWEST_IMAGES, 1, 8, 8)
    low, high = pixel_bounds(Preprocessing.from_json(start.preprocessing))
    assert low <= job.images.min()
    assert job.images.max() <= high
    assert len(np.unique(job.labels)) > 5  # of ten digits


@pytest.mark.usefixtures("hasty")
def test_equal_seeds_make_equal_images() -> None:
    network, _ = digits_network()
    tensors = {name: tensor.numpy() for name, tensor in network.tensors.items()}
    few = {"preprocessing": Preprocessing(), "seed": 3}

    one, other = (made_data(network.graph, tensors, **few) for _ in range(2))  # type: ignore[arg-type]

    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.usefixtures("hasty")
def test_a_whole_job_without_data_ends_with_verified_checkpoints_scored_by_agreement(data_free: JobSpec) -> None:
    space = SpaceSpec(weight_bits=(4, 8), activation_bits=(8,), keep_ratios=(1.0,), operators=("original",))
    spec = replace(data_free, space=space, budget=Budget(trials=5), devices=data_free.devices[:1])

    events = run(replace(make_start(spec), dataset=b""), packaging=True)

    assert isinstance(events[-1], JobEnded)
    assert events[-1].status == "done"
    (prepared,) = (event for event in events if isinstance(event, Prepared))
    assert prepared.baseline.accuracy == 1.0
    assert prepared.signal == DIVERGENCE
    checkpoints = [event for event in events if isinstance(event, CheckpointReady)]
    assert checkpoints
    assert all(checkpoint.verified for checkpoint in checkpoints)
    assert checkpoints[0].verification["figures"][0]["figure"] == "agreement"


def test_candidates_are_ranked_by_divergence_and_the_score_is_not_called_accuracy(data_free: JobSpec) -> None:
    signal, warning = search_signal(1.0, 154, None, data_free=True)

    assert signal == DIVERGENCE
    assert warning is not None
    assert "The job has no data." in warning
    assert data_free.score == "agreement"
    assert JobSpec.from_json(data_free.to_json()) == data_free


def test_a_limit_on_the_accuracy_is_refused_without_data(data_free: JobSpec) -> None:
    limited = DeviceTarget(name=DEVICES[0], limits=Limits(accuracy_drop=0.01))

    with pytest.raises(InputError, match=r"limits\.accuracy_drop: needs labelled data.*agreement.*got 0\.01"):
        make_problem(replace(data_free, devices=(limited,)))
