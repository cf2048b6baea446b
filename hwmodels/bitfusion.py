"""Bit Fusion: an array of units that split into sixteen 2-bit multipliers."""

from functools import cache
from typing import ClassVar

from hwmodels.cost_model import COST_MODELS, CostModel, Demand, KernelPrice
from hwmodels.energy import EnergyModel
from hwmodels.profile import Profile
from hwmodels.quantity import Count, Part, Positive, Quantity
from hwmodels.traffic import dram_bits, layer_traffic
from hwmodels.workload import Arithmetic, Kernel

IM2COL_CHANNELS = 4  # an input with at most so many channels is unrolled, as the simulator does for the first layer


@cache
def native_bits(bits: int) -> int:
    """Return the width that the unit composes: the next power of two from 2 to 16."""
    return next((width for width in (2, 4, 8, 16) if width >= bits), 16)


@cache
def parallel_factor(weight_bits: int, activation_bits: int) -> float:
    """Return products per unit and cycle: 16 at 2×2 bits, 1 at 8×8, 1/4 at 16×16."""
    return (8 / native_bits(weight_bits)) * (8 / native_bits(activation_bits))


def bitfusion_cycles(
    *,
    pixels: int,
    in_channels: int,
    out_channels: int,
    window: int,
    weight_bits: int,
    activation_bits: int,
    rows: int,
    columns: int,
    im2col: bool = False,
) -> int:
    """Return the compute cycles of a convolution: ``⌈Cout/M⌉·pixels·window·⌈Cin/(N·f)⌉``.

    ``pixels`` are output pixels of the whole batch, ``window`` the kernel's height × width. With ``im2col`` window and
    channels are unrolled into one reduction.

    Source: Sharma et al., "Bit Fusion", ISCA 2018, and its public simulator.
    """
    lanes = rows * parallel_factor(weight_bits, activation_bits)
    passes = _ceil(window * in_channels, lanes) if im2col else window * _ceil(in_channels, lanes)
    return -(-out_channels // columns) * pixels * passes


def _ceil(count: int, lanes: float) -> int:
    return int(-(-count // lanes))


class BitFusionParameters(Part):
    """Units, buffers and bus of one instance."""

    rows: Count  # units along the reduction
    columns: Count  # units along output channels
    weight_sram_kib: Positive
    input_sram_kib: Positive
    output_sram_kib: Positive
    dram_bits_per_cycle: Positive
    launch_us: Quantity


@COST_MODELS.register("bit_fusion")
class BitFusionModel(CostModel):
    """Compute cycles or DRAM cycles, whichever is more, per kernel.

    Odd widths cost what the next power of two costs. A grouped kernel runs group after group. Pooling and element-wise
    work is hidden behind the array, as in the published design, so that networks of many small kernels come out
    too fast.
    """

    Parameters: ClassVar[type[Part]] = BitFusionParameters

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, BitFusionParameters):
            raise TypeError(f"bit_fusion needs its own parameters, got {type(model).__name__}")
        self._model = model
        self._rows, self._columns = int(model.rows.value), int(model.columns.value)
        kib = model.weight_sram_kib.value + model.input_sram_kib.value + model.output_sram_kib.value
        self._sram_bits = kib * 8192
        self._cycles_per_us = profile.clock_ghz.value * 1e3
        self._energy = EnergyModel(profile.energy)

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the price of one kernel."""
        bus, launch_us = self._model.dram_bits_per_cycle.value, self._model.launch_us.value
        if not kernel.macs:
            moved = (demand.input_bytes + demand.output_bytes) * 8
            off_chip = 0 if moved <= self._sram_bits else moved
            memory_us = off_chip / bus / self._cycles_per_us
            return KernelPrice(memory_us + launch_us, "memory", memory_us, 0.0, off_chip, moved)
        window = kernel.kernel[0] * kernel.kernel[1]
        inside, outside = max(kernel.in_channels // kernel.groups, 1), max(kernel.out_channels // kernel.groups, 1)
        pixels = kernel.macs // (window * inside * outside * kernel.groups)
        one = bitfusion_cycles(
            pixels=max(pixels, 1),
            in_channels=inside,
            out_channels=outside,
            window=window,
            weight_bits=kernel.weight_bits,
            activation_bits=kernel.activation_bits,
            rows=self._rows,
            columns=self._columns,
            im2col=kernel.in_channels <= IM2COL_CHANNELS,
        )
        compute_us = one * kernel.groups / self._cycles_per_us
        off_chip_bits = dram_bits(layer_traffic(kernel, demand), self._sram_bits)
        memory_us = off_chip_bits / bus / self._cycles_per_us
        factor = parallel_factor(kernel.weight_bits, kernel.activation_bits)
        peak_us = kernel.macs / (factor * self._rows * self._columns) / self._cycles_per_us
        on_chip = one * kernel.groups * self._rows * 16 + demand.output_bytes * 8
        widths = native_bits(kernel.weight_bits), native_bits(kernel.activation_bits)
        picojoule = kernel.macs * self._energy.mac_pj(Arithmetic.INTEGER, *widths)
        bound = "compute" if compute_us >= memory_us else "memory"
        busy_us, roof_us = max(compute_us, memory_us), max(peak_us, memory_us)
        return KernelPrice(busy_us + launch_us, bound, roof_us, picojoule, off_chip_bits, on_chip)

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why the array cannot run a kernel."""
        return "is float, and the array multiplies integers" if kernel.arithmetic is Arithmetic.FLOAT else None
