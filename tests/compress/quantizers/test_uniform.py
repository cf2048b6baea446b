import pytest
import torch

from compress.plan import Numerics
from compress.quantizers.uniform import GROUP, UniformQuantizer
from hwmodels.errors import InputError

ASYMMETRIC = Numerics(weight_symmetry="asymmetric", weight_range="max")


def test_asymmetric_levels_lie_where_the_weights_do() -> None:
    weight = torch.tensor([[-0.1, 0.0, 0.2, 0.5], [-0.8, -0.5, -0.2, 0.1]])
    quantizer = UniformQuantizer(2, ASYMMETRIC)

    quantizer.fit(weight)

    # three steps span 0.6 and 0.9: 0.2 and 0.3; 0 is a level, so they start at round(-0.1/0.2) = 0 (ties to even)
    # and round(-0.8/0.3) = -3 steps: 0 … 0.6 and -0.9 … 0
    torch.testing.assert_close(quantizer.scale, torch.tensor([0.2, 0.3]))
    assert quantizer.lowest.tolist() == [0.0, -3.0]
    torch.testing.assert_close(quantizer(weight), torch.tensor([[0.0, 0.0, 0.2, 0.4], [-0.9, -0.6, -0.3, 0.0]]))


def test_weights_of_one_sign_use_every_asymmetric_level() -> None:
    weight = torch.linspace(0.0, 1.5, 16)[None]
    symmetric, asymmetric = UniformQuantizer(4, Numerics(weight_range="max")), UniformQuantizer(4, ASYMMETRIC)

    for quantizer in (symmetric, asymmetric):
        quantizer.fit(weight)

    assert len(asymmetric(weight).unique()) == 16  # steps of 0.1: every value is a level
    assert len(symmetric(weight).unique()) == 8  # steps of 1.5 / 7: half of the levels would be negative


@pytest.mark.parametrize("bits", [1, 8])
def test_one_and_eight_bits_have_no_shift(bits: int) -> None:
    assert "lowest" not in UniformQuantizer(bits, ASYMMETRIC).layout((4, 3, 3, 3)).parameters
    assert "lowest" in UniformQuantizer(7, ASYMMETRIC).layout((4, 3, 3, 3)).parameters


def test_a_group_has_its_own_scale_and_the_last_one_may_be_short() -> None:
    weight = torch.cat([torch.full((1, GROUP), 0.7), torch.full((1, 5), 0.007)], dim=1)
    quantizer = UniformQuantizer(4, Numerics(weight_granularity="group", weight_range="max"))

    quantizer.fit(weight)

    torch.testing.assert_close(quantizer.scale, torch.tensor([[0.1, 0.001]]))
    torch.testing.assert_close(quantizer(weight), weight)
    assert quantizer.layout((8, 3, 3, 3)).parameters == {"scale": (8, 1)}  # 27 weights of a channel: one group
    assert quantizer.layout((8, 16, 3, 3)).parameters == {"scale": (8, 5)}  # 144 = 4 * 32 + 16


@pytest.mark.parametrize("name", ["weight_granularity", "weight_symmetry", "scale_format", "weight_range"])
def test_unknown_numerics_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=name):
        UniformQuantizer(4, Numerics(**{name: "odd"}))  # type: ignore[arg-type]
