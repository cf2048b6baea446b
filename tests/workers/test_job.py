import numpy as np
import pytest

from hwmodels.errors import InputError
from tests.workers.conftest import digits_network
from workers.job import load_job, network_input
from workers.spec import Preprocessing
from workers.start import DriverStart


def test_a_payload_becomes_the_network_and_images_that_it_was_made_of(start: DriverStart) -> None:
    network, structure = digits_network()

    job = load_job(start)

    assert job.graph == network.graph
    assert job.structure == structure
    assert {name: tuple(tensor.shape) for name, tensor in job.shapes.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in network.tensors.items()
    }
    assert all(tensor.is_meta for tensor in job.shapes.tensors.values())
    assert job.images.shape == (200, 1, 8, 8)


def test_integer_pixels_are_scaled_and_turned_to_channels_first() -> None:
    pixels = np.array([[[[10, 20], [30, 40]]]], dtype=np.uint8)  # one image, 1 x 2, two channels
    stated = Preprocessing(layout="NHWC", scale=0.1, mean=(1.0, 0.0), std=(2.0, 1.0))

    images = network_input(pixels, stated)

    # Channel 0: (10 * 0.1 - 1) / 2 and (30 * 0.1 - 1) / 2; channel 1: 20 * 0.1 and 40 * 0.1.
    np.testing.assert_allclose(images, [[[[0.0, 1.0]], [[2.0, 4.0]]]], rtol=1e-6)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_grey_images_without_a_channel_dimension_get_one(layout: str) -> None:
    images = network_input(np.zeros((5, 3, 4), dtype=np.uint8), Preprocessing(layout=layout))

    assert images.shape == (5, 1, 3, 4)


def test_float_images_pass_unchanged() -> None:
    images = np.linspace(-1, 1, 24, dtype=np.float64).reshape(2, 3, 4)

    found = network_input(images, Preprocessing(scale=5.0, mean=(3.0,)))

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, images, rtol=1e-6)


def test_integer_arrays_that_are_no_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"3 or 4 dimensions, got \(7, 2\)"):
        network_input(np.zeros((7, 2), dtype=np.uint8), Preprocessing())
