import pytest
import torch

from compress.network.ops.elementwise import TILE, quantize, quantize_in_place


def test_values_land_on_the_grid_and_halves_round_to_even() -> None:
    x = torch.tensor([-10.0, 0.0, 0.25, 0.75, 1.2, 100.0])

    # steps of 0.5: -20 clips to code 0 (-1.5), 0.5 rounds to 0, 1.5 to 2, 2.4 to 2, 200 clips to code 15 (12 steps: 6)
    torch.testing.assert_close(
        quantize(x, scale=0.5, zero_point=3, low=0, high=15), torch.tensor([-1.5, 0.0, 0.0, 1.0, 1.0, 6.0])
    )


def test_the_gradient_passes_rounding_and_stops_where_values_are_clipped() -> None:
    x = torch.tensor([-10.0, 0.3, 100.0], requires_grad=True)

    (gradient,) = torch.autograd.grad(quantize(x, scale=0.5, zero_point=0, low=0, high=15).sum(), x)

    assert gradient.tolist() == [0.0, 1.0, 0.0]


def test_large_values_are_rounded_tile_by_tile_like_small_ones() -> None:
    x = torch.randn(5, 3, TILE // 8, generator=torch.Generator().manual_seed(0))
    grid = {"scale": 0.3, "zero_point": 7, "low": 0, "high": 15}

    found = quantize(x, **grid)  # type: ignore[arg-type]

    rows = [quantize(row, **grid) for row in torch.split(x.flatten()[:-1], TILE // 4)]  # type: ignore[arg-type]
    assert torch.equal(found.flatten()[:-1], torch.cat(rows))


def test_rounding_in_place_overwrites_only_what_needs_no_gradient() -> None:
    x, watched = torch.tensor([0.3, -4.0]), torch.tensor([0.3, -4.0], requires_grad=True)

    found = quantize_in_place(x, scale=0.5, zero_point=0, low=0, high=15)
    kept = quantize_in_place(watched, scale=0.5, zero_point=0, low=0, high=15)

    assert found is x
    assert x.tolist() == kept.tolist() == [0.5, 0.0]
    assert watched.tolist() == [pytest.approx(0.3), -4.0]
