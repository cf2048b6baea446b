"""The contract of ``Quantizer``, for every registered one with all numerics that it takes, at every width it claims."""

from math import prod

import pytest
import torch
from torch import Tensor

from compress.checkpoint.packing import pack, unpack
from compress.plan import Numerics
from compress.quantizers import QUANTIZERS, Codes, Quantizer
from hwmodels.errors import InputError
from hwmodels.workload import Arithmetic

VARIANTS = {
    "default": Numerics(),
    "clipping nothing": Numerics(weight_range="max"),
    "one scale": Numerics(weight_granularity="tensor"),
    "groups": Numerics(weight_granularity="group"),
    "asymmetric": Numerics(weight_symmetry="asymmetric"),
    "asymmetric groups": Numerics(weight_symmetry="asymmetric", weight_granularity="group"),
    "powers of two": Numerics(scale_format="power_of_two"),
}


def accepts(name: str, numerics: Numerics) -> bool:
    try:
        QUANTIZERS.get(name)(max(QUANTIZERS.get(name).bit_widths), numerics)
    except InputError:
        return False
    return True


CASES = [
    pytest.param(name, numerics, bits, id=f"{name}, {variant}, {bits}")
    for name in QUANTIZERS.names()
    for variant, numerics in VARIANTS.items()
    if accepts(name, numerics)
    for bits in QUANTIZERS.get(name).bit_widths
]
SHAPES = {
    "convolution": (8, 3, 3, 3),
    "one channel": (1, 3, 3, 3),
    "depthwise": (6, 1, 3, 3),
    "one by one": (5, 7, 1, 1),
    "linear": (10, 33),
}


def weight_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.1


def fitted(name: str, numerics: Numerics, bits: int, weight: Tensor) -> Quantizer:
    quantizer = QUANTIZERS.get(name)(bits, numerics)
    quantizer.fit(weight)
    return quantizer


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_decoded_codes_are_what_the_forward_pass_used(
    name: str, numerics: Numerics, bits: int, shape: tuple[int, ...]
) -> None:
    weight = weight_of(shape)
    quantizer = fitted(name, numerics, bits, weight)

    decoded = quantizer.decode(quantizer.encode(weight))

    assert torch.equal(decoded, quantizer(weight))


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_decoding_needs_the_codes_alone(name: str, numerics: Numerics, bits: int) -> None:
    weight = weight_of((8, 3, 3, 3))
    codes = fitted(name, numerics, bits, weight).encode(weight)

    decoded = QUANTIZERS.get(name)(bits, numerics).decode(codes)

    assert torch.equal(decoded, fitted(name, numerics, bits, weight)(weight))


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_a_channel_has_no_more_values_than_the_codes_can_tell(name: str, numerics: Numerics, bits: int) -> None:
    weight = weight_of((4, 40, 3, 3))

    quantizer = fitted(name, numerics, bits, weight)
    values = quantizer(weight)

    grids = max(1, *(prod(shape) // 4 for shape in quantizer.layout((4, 40, 3, 3)).parameters.values()))
    assert all(len(channel.unique()) <= 2**bits * grids for channel in values)
    assert not torch.equal(values, torch.zeros_like(values))


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_a_second_pass_changes_nothing_where_the_method_says_so(name: str, numerics: Numerics, bits: int) -> None:
    weight = weight_of((8, 3, 3, 3))
    quantizer = fitted(name, numerics, bits, weight)
    if not quantizer.idempotent:
        pytest.skip("the method does not claim it")

    once = quantizer(weight)

    assert torch.equal(quantizer(once), once)


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_storage_bits_are_the_bits_written(name: str, numerics: Numerics, bits: int, shape: tuple[int, ...]) -> None:
    quantizer = fitted(name, numerics, bits, weight_of(shape))

    codes = quantizer.encode(weight_of(shape))

    layout = quantizer.layout(shape)
    assert {key: tuple(value.shape) for key, value in codes.parameters.items()} == layout.parameters
    assert all(value.dtype == torch.float32 for value in codes.parameters.values())
    assert codes.values.dtype == torch.uint8
    assert codes.values.numel() == layout.codes
    assert layout.bits == bits
    assert quantizer.storage_bits(shape) == layout.codes * bits + 32 * sum(p.numel() for p in codes.parameters.values())
    packed = pack(codes.values.numpy(), bits)
    assert len(packed) == layout.code_bytes
    unpacked = torch.from_numpy(unpack(packed, bits, layout.codes))
    assert torch.equal(
        quantizer.decode(Codes(values=unpacked, parameters=codes.parameters, shape=shape)), quantizer.decode(codes)
    )


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_the_gradient_reaches_the_weight_and_is_finite(name: str, numerics: Numerics, bits: int) -> None:
    weight = weight_of((8, 3, 3, 3)).requires_grad_()
    quantizer = fitted(name, numerics, bits, weight)

    quantizer(weight).square().sum().backward()

    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_an_all_zero_channel_stays_zero(name: str, numerics: Numerics, bits: int) -> None:
    if bits == 1 and numerics.weight_granularity == "tensor":
        pytest.skip("one bit has no zero, and the scale is that of other channels, too")
    weight = weight_of((4, 3, 3, 3))
    weight[1] = 0
    quantizer = fitted(name, numerics, bits, weight)

    decoded = quantizer.decode(quantizer.encode(weight))

    assert decoded.isfinite().all()
    assert torch.equal(decoded[1], torch.zeros(3, 3, 3))
    assert decoded[0].abs().sum() > 0


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_half_precision_stays_half_precision_and_near_its_codes(name: str, numerics: Numerics, bits: int) -> None:
    weight = weight_of((8, 3, 3, 3)).half()
    quantizer = fitted(name, numerics, bits, weight)

    values = quantizer(weight)

    assert values.dtype == torch.float16
    decoded = quantizer.decode(quantizer.encode(weight))
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(decoded.half(), values, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_widths_that_are_not_claimed_are_refused(name: str) -> None:
    for bits in (0, 9, -1):
        assert bits not in QUANTIZERS.get(name).bit_widths
        with pytest.raises(InputError, match="bits: must be one of"):
            QUANTIZERS.get(name)(bits)


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_integer_arithmetic_has_integers_that_scale_to_the_decoded_weight(
    name: str, numerics: Numerics, bits: int
) -> None:
    weight = weight_of((8, 3, 3, 3))
    weight[2] = 0
    quantizer = fitted(name, numerics, bits, weight)

    codes = quantizer.encode(weight)
    whole = quantizer.integers(codes)

    scales = quantizer.layout((8, 3, 3, 3)).parameters["scale"] if quantizer.arithmetic == Arithmetic.INTEGER else ()
    assert (whole is not None) == (quantizer.arithmetic == Arithmetic.INTEGER and prod(scales) <= len(weight))
    if whole is not None:
        assert whole.values.dtype == torch.int8
        assert (whole.scale > 0).all()
        assert torch.equal(whole.values.float() * whole.scale.reshape(-1, 1, 1, 1), quantizer.decode(codes))


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_more_bits_make_no_larger_error(name: str) -> None:
    weight = weight_of((8, 16, 3, 3))

    errors = [
        (fitted(name, Numerics(), bits, weight)(weight) - weight).square().mean()
        for bits in QUANTIZERS.get(name).bit_widths
    ]

    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_a_quantizer_that_says_so_rounds_every_value_by_itself(name: str, numerics: Numerics, bits: int) -> None:
    weight = weight_of((6, 5, 3, 3))
    quantizer = fitted(name, numerics, bits, weight)
    if not quantizer.separable:
        pytest.skip("the method does not claim it")

    column = quantizer(weight.flatten(1)[:, 7:8])

    assert torch.equal(column, quantizer(weight).flatten(1)[:, 7:8])


@pytest.mark.parametrize(("name", "numerics", "bits"), CASES)
def test_values_on_the_grid_stay_and_codes_fill_the_width_at_most(name: str, numerics: Numerics, bits: int) -> None:
    weight = weight_of((8, 3, 3, 3))
    quantizer = fitted(name, numerics, bits, weight)

    codes = quantizer.encode(weight)

    assert int(codes.values.max()) < 2**bits
    if quantizer.idempotent:
        assert torch.equal(quantizer.encode(quantizer(weight)).values, codes.values)
