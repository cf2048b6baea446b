"""Traffic to external memory when a kernel's data do not fit on chip, by the best of a few tilings."""

from functools import lru_cache
from math import ceil, inf, isqrt
from typing import NamedTuple

from hwmodels.cost_model import Demand
from hwmodels.workload import Kernel

PARTIAL_SUM_BITS = 32


class LayerTraffic(NamedTuple):
    """What a tiling is chosen from. Bits are totals, so that widths are already in them."""

    weight_bits: int  # all weights
    input_bits: int  # all inputs of the batch
    output_bits: int
    out_channels: int  # of one group
    pixels: int  # output pixels of the batch
    window_rows: int
    input_row_bits: int  # one row of input pixels, all channels
    row_pixels: int  # output pixels of one row
    groups: int = 1


def layer_traffic(kernel: Kernel, demand: Demand, *, batch: int = 1) -> LayerTraffic:
    """Return a kernel's sizes as a tiling sees them; weights without biases and scales."""
    in_pixels = max(demand.input_elements // max(kernel.in_channels, 1), 1)
    width = max(isqrt(in_pixels), 1)
    return LayerTraffic(
        weight_bits=kernel.weights * demand.weight_bits,
        input_bits=demand.input_bytes * 8 * batch,
        output_bits=demand.output_bytes * 8 * batch,
        out_channels=max(kernel.out_channels // kernel.groups, 1),
        pixels=max(demand.output_elements // max(kernel.out_channels, 1), 1) * batch,
        window_rows=kernel.kernel[0],
        input_row_bits=ceil(demand.input_bytes * 8 / in_pixels) * width,
        row_pixels=max(isqrt(max(demand.output_elements // max(kernel.out_channels, 1), 1)), 1),
        groups=kernel.groups,
    )


@lru_cache(maxsize=1 << 16)  # a search asks for the same layers again and again
def dram_bits(layer: LayerTraffic, sram_bits: float) -> float:
    """Return the least bits that cross the chip's border for one layer under three loop orders.

    ``weights resident``: a block of output channels stays while all pixels pass, inputs are read once per block.
    ``inputs resident``: a block of pixels stays while all weights pass. ``outputs resident``: a block of partial sums
    stays while weights and inputs pass in slices. An operand that fits whole is read once. Groups are independent
    layers of a ``1/groups`` share. A window of input rows that does not fit is read again for each row of it, and
    blocks of pixels read the rows that they share twice.

    Left out: overlap of several layers on chip (too much traffic for chains), compression (too much for sparse
    activations), bank conflicts and alignment (too little).
    """
    weights, inputs = layer.weight_bits / layer.groups, layer.input_bits / layer.groups
    outputs, channels, pixels = layer.output_bits / layer.groups, layer.out_channels, layer.pixels
    line_bits = layer.window_rows * layer.input_row_bits / layer.groups
    halo = 1.0
    if line_bits > sram_bits / 2:
        line_bits, halo = sram_bits / 2, float(layer.window_rows)
    best = inf
    weights_per_channel = weights / channels

    # Weights resident: what is left beside the rows and one partial sum per channel goes to weights.
    block = min((sram_bits - line_bits) // (weights_per_channel + PARTIAL_SUM_BITS), channels)
    if block >= 1:
        best = weights + inputs * halo * ceil(channels / block)

    # Inputs resident: as many pixels as fit beside one channel's weights.
    per_pixel = inputs / pixels + PARTIAL_SUM_BITS
    block = min((sram_bits - weights_per_channel) // per_pixel, pixels)
    if block >= 1:
        best = min(best, weights * ceil(pixels / block) + inputs)

    # Outputs resident: partial sums fill the memory; a block is some channels by some pixels.
    in_block = 1
    while True:
        block_pixels = min(sram_bits // (PARTIAL_SUM_BITS * in_block), pixels)
        if block_pixels < 1:
            break
        again = layer.window_rows - 1 if block_pixels < pixels else 0  # rows shared with the next block of pixels
        edge = 1.0 + again / max(block_pixels / layer.row_pixels, 1.0)
        best = min(best, weights * ceil(pixels / block_pixels) + inputs * edge * ceil(channels / in_block))
        if in_block >= channels:
            break
        in_block = min(in_block * 2, 1 << 20)
    return (best + outputs) * layer.groups
