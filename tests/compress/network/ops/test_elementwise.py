import torch

from compress.network.ops.elementwise import quantize


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
