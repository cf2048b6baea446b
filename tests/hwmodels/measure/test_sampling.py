import pytest

from hwmodels.measure.sampling import LARGE, SMALL, Size, random_network
from hwmodels.workload import Workload


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_small_networks_have_the_kernels_that_large_ones_lack(seed: int, int8: bool) -> None:
    small, large = (random_network(seed, int8=int8, small=small).workload for small in (True, False))

    def usual_macs(workload: Workload) -> float:
        kernels = sorted(kernel.macs for kernel in workload.kernels if kernel.macs)
        return float(kernels[len(kernels) // 2])

    assert 5 * usual_macs(small) < usual_macs(large)
    assert small.tensors["input"].shape[1] in SMALL.resolutions
    assert large.tensors["input"].shape[1] in LARGE.resolutions


def test_equal_arguments_give_equal_networks_and_others_other_ones() -> None:
    first, again, other = (random_network(seed, int8=True, small=True) for seed in (1, 1, 2))

    assert first.model == again.model
    assert first.name == again.name == "int8-small-1"
    assert other.model != first.model


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_every_resolution_has_channels_to_draw_from(size: Size) -> None:
    least = [height for height, _, _ in size.channels]

    assert least == sorted(least, reverse=True)
    assert least[-1] == 0
    assert all(low < high for _, low, high in size.channels)
