import numpy as np
import pytest

from hwmodels.builder import WorkloadBuilder
from hwmodels.cost_model import Demand
from hwmodels.predictor import FEATURES, features, fit_regressor, layout, leaves_layout, predictor_class
from hwmodels.workload import Kernel


def conv(inside: int, outside: int, *, kernel: int = 3, groups: int = 1, bits: int = 32) -> Kernel:
    build = WorkloadBuilder((inside, 14, 14), weight_bits=bits, activation_bits=bits)
    return build.build(build.conv(build.input, outside, kernel, groups=groups)).kernels[0]


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (conv(64, 64), ""),
        (conv(36, 51), ""),  # 36 is a multiple of four: the last block is padded
        (conv(51, 64), "_in_planes"),
        (conv(3, 64), "_from_planes"),
        (conv(64, 64, groups=64), ""),
        (conv(51, 51, groups=51), "_in_planes"),
        (conv(64, 64, groups=4), ""),
        (conv(64, 64, groups=8), "_in_planes"),  # eight channels a group fill no block of sixteen
    ],
)
def test_channels_decide_whether_a_float_convolution_works_in_blocks(kernel: Kernel, expected: str) -> None:
    assert layout(kernel, 16) == expected
    assert layout(kernel, 0) == ""


def test_what_is_written_in_blocks_for_a_reader_in_planes_is_reordered() -> None:
    assert not leaves_layout(conv(64, 64), 16)
    assert leaves_layout(conv(64, 51), 16)
    assert leaves_layout(conv(51, 64), 16)
    assert not leaves_layout(conv(51, 51), 16)
    assert not leaves_layout(conv(64, 51, bits=8), 16)


def test_integer_kernels_have_classes_of_their_own_and_no_layouts() -> None:
    assert predictor_class(conv(51, 64, bits=8), 16) == "conv_int8"
    assert predictor_class(conv(51, 64, bits=4), 16) == "conv_int8"
    assert predictor_class(conv(51, 64), 16) == "conv_in_planes"


def test_features_tell_whole_vectors_from_started_ones() -> None:
    demand = Demand(0, 0, 0, 64 * 196, 64 * 196, 32, 32)

    whole, started = features(conv(64, 64), demand, 16), features(conv(64, 65), demand, 16)

    assert len(whole) == len(started) == FEATURES
    assert whole[8] == 0
    assert started[8] == pytest.approx(np.log(80 / 65))


def test_a_regressor_follows_the_work_far_beyond_its_samples() -> None:
    generator = np.random.default_rng(0)
    samples = np.zeros((12, FEATURES))
    samples[:, 0] = generator.uniform(10, 14, 12)  # logarithms of MACs
    regressor = fit_regressor(samples, np.exp(samples[:, 0] - 10))

    beyond = (18.0 - regressor.mean[0]) / regressor.scale[0]
    predicted = regressor.trend[0] + regressor.trend[1] * beyond

    assert predicted == pytest.approx(18 - 10, rel=0.05)
