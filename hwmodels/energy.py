"""Energy of arithmetic and memory.

Closed forms reproduce the 45 nm, 0.9 V points of Horowitz, "Computing's energy problem", ISSCC 2014, exactly at the
points that the paper prints (integer multiplication is quadratic in the width, addition linear). Other nodes scale
logic by one factor; memory does not scale alike and is given per bit in the profile.
"""

import math

from hwmodels.profile import EnergyTerms
from hwmodels.quantity import value_of
from hwmodels.workload import Arithmetic

PJ_PER_MJ = 1e9
W_US_PER_MJ = 1e3  # 1 W × 1 µs = 1 µJ
ACCUMULATOR_BITS = 32

_FLOAT_MUL_PJ = {16: 1.1, 32: 3.7}
_FLOAT_ADD_PJ = {16: 0.4, 32: 0.9}

# Energy of logic against 45 nm. Interpolated geometrically between 45 nm and a factor of 0.30 at 7 nm, which lies
# within what int8 (2.9–4.3 times) and fp32 (2.4–2.8 times) gained. Estimate. Below 5 nm nothing is known here.
_NODE_FACTOR = {65: 1.27, 45: 1.00, 40: 0.93, 28: 0.74, 16: 0.51, 12: 0.43, 8: 0.33, 7: 0.30}


def int_add_pj(bits: int) -> float:
    """Energy of one integer addition at 45 nm."""
    return 0.003125 * bits


def int_mul_pj(weight_bits: int, activation_bits: int) -> float:
    """Energy of one integer multiplication at 45 nm; unequal widths are our extension (product of the widths)."""
    return 0.002994791667 * weight_bits * activation_bits + 0.001041666667 * max(weight_bits, activation_bits)


def sram_read_pj_per_bit(capacity_bits: float) -> float:
    """Energy of reading one bit of an SRAM at 45 nm; exact at 8 KiB, 32 KiB and 1 MiB within 0.1 %."""
    size = math.log2(capacity_bits)
    return 9.02427321e-4 * size**3 - 2.68847858e-2 * size**2 + 0.208900804 * size


def node_factor(node_nm: float) -> float:
    """Energy of logic on a node relative to 45 nm, log-log interpolated.

    Raises:
        ValueError: The node is below 5 nm or above 65 nm, where the table ends.
    """
    if not 5 <= node_nm <= 65:
        raise ValueError(f"node_nm must be in 5..65, got {node_nm}")
    nodes = sorted(_NODE_FACTOR)
    high = next((node for node in nodes if node >= node_nm), nodes[-1])
    position = max(nodes.index(high), 1)
    low, high = nodes[position - 1], nodes[position]
    slope = math.log(_NODE_FACTOR[high] / _NODE_FACTOR[low]) / math.log(high / low)
    return _NODE_FACTOR[low] * math.exp(slope * math.log(node_nm / low))


def mac_pj(arithmetic: Arithmetic, weight_bits: int, activation_bits: int) -> float:
    """Energy of one multiply-accumulate at 45 nm, operands in registers.

    ``shift`` and ``add`` replace the multiplication by a shifter or an adder as wide as the activation; ``binary`` is
    an xnor and its share of a popcount, taken as a 1×1-bit product and an 8-bit addition. Both are estimates.
    """
    if arithmetic is Arithmetic.FLOAT or (arithmetic is Arithmetic.WINOGRAD and weight_bits > 8):
        width = 16 if max(weight_bits, activation_bits) <= 16 else 32
        return _FLOAT_MUL_PJ[width] + _FLOAT_ADD_PJ[width]
    if arithmetic is Arithmetic.BINARY:
        return int_mul_pj(1, 1) + int_add_pj(8)
    if arithmetic in (Arithmetic.SHIFT, Arithmetic.ADD):
        return int_add_pj(max(weight_bits, activation_bits)) + int_add_pj(ACCUMULATOR_BITS)
    return int_mul_pj(weight_bits, activation_bits) + int_add_pj(ACCUMULATOR_BITS)


class EnergyModel:
    """Energy of kernels on one device, from the terms that its profile gives."""

    def __init__(self, terms: EnergyTerms) -> None:
        self._static_w = value_of(terms.static_w)
        self._active_w = value_of(terms.active_w)
        self._follows_roof = terms.active_follows == "roof"
        self._sram_pj = value_of(terms.sram_pj_per_bit)
        self._dram_pj = value_of(terms.dram_pj_per_bit)
        self._scale = 0.0
        if terms.mac is not None:
            self._scale = node_factor(terms.mac.node_nm.value) * value_of(terms.mac.overhead_factor, 1.0)

    def mac_pj(self, arithmetic: Arithmetic, weight_bits: int, activation_bits: int) -> float:
        """Energy of one MAC at the widths that the hardware executes; 0 where power × time covers it."""
        return self._scale * mac_pj(arithmetic, weight_bits, activation_bits) if self._scale else 0.0

    def kernel_mj(
        self, *, mac_pj: float, sram_bits: float, dram_bits: float, latency_us: float, roof_us: float
    ) -> float:
        """Energy of one kernel in millijoule."""
        active_us = roof_us if self._follows_roof else latency_us
        power_mj = (self._static_w * latency_us + self._active_w * active_us) / W_US_PER_MJ
        return power_mj + (mac_pj + sram_bits * self._sram_pj + dram_bits * self._dram_pj) / PJ_PER_MJ
