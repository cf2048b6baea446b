"""Bit-serial accelerators: time grows with the width of one or of both operands."""

from typing import ClassVar, Literal

from hwmodels.cost_model import COST_MODELS, CostModel, Demand, KernelPrice
from hwmodels.energy import EnergyModel
from hwmodels.profile import Profile
from hwmodels.quantity import Count, Part, Positive, Quantity
from hwmodels.systolic import gemm
from hwmodels.traffic import dram_bits, layer_traffic
from hwmodels.workload import Arithmetic, Kernel

Serial = Literal["both", "activations"]


def bitserial_cycles(
    m: int, n: int, k: int, *, weight_bits: int, activation_bits: int, shape: tuple[int, int, int], serial: Serial
) -> int:
    """Return the cycles of a product on an array of ``shape`` (rows, columns, bits per popcount).

    ``both``: every pair of bit planes is one pass, ``⌈M/Dm⌉·⌈N/Dn⌉·⌈K/Dk⌉·w·a``.
    ``activations``: weights are parallel, only activation bits are serial.

    Source: Umuroglu et al., "BISMO", FPL 2018; Judd et al., "Stripes", MICRO 2016.
    """
    passes = weight_bits * activation_bits if serial == "both" else activation_bits
    return -(-m // shape[0]) * -(-n // shape[1]) * -(-k // shape[2]) * passes


class BitSerialParameters(Part):
    """An array of dot-product units that take one bit of an operand per cycle."""

    rows: Count
    columns: Count
    bits_per_unit: Positive
    serial: Serial
    fill_cycles: Quantity
    max_bits: Positive
    sram_kib: Positive
    dram_gb_per_s: Positive


@COST_MODELS.register("bit_serial")
class BitSerialModel(CostModel):
    """Serial passes or DRAM time, whichever is longer, per kernel.

    A depthwise kernel fills a single column and is bound by traffic. Instruction overhead is left out, so that small
    kernels come out too fast.
    """

    Parameters: ClassVar[type[Part]] = BitSerialParameters

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, BitSerialParameters):
            raise TypeError(f"bit_serial needs its own parameters, got {type(model).__name__}")
        self._model = model
        self._shape = (int(model.rows.value), int(model.columns.value), int(model.bits_per_unit.value))
        self._cycles_per_us = profile.clock_ghz.value * 1e3
        self._energy = EnergyModel(profile.energy)

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the price of one kernel."""
        bits_per_us = self._model.dram_gb_per_s.value * 8e3
        sram_bits = self._model.sram_kib.value * 8192
        fill_us = self._model.fill_cycles.value / self._cycles_per_us
        if not kernel.macs:
            moved = (demand.input_bytes + demand.output_bytes) * 8
            off_chip = 0 if moved <= sram_bits else moved
            return KernelPrice(off_chip / bits_per_us + fill_us, "memory", off_chip / bits_per_us, 0.0, off_chip, moved)
        m, k, n, repeats = gemm(kernel)
        weight_bits, activation_bits = kernel.weight_bits, kernel.activation_bits
        cycles = repeats * bitserial_cycles(
            m,
            n,
            k,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            shape=self._shape,
            serial=self._model.serial,
        )
        compute_us = cycles / self._cycles_per_us
        off_chip_bits = dram_bits(layer_traffic(kernel, demand), sram_bits)
        memory_us = off_chip_bits / bits_per_us
        passes = weight_bits * activation_bits if self._model.serial == "both" else activation_bits
        rows, columns, depth = self._shape
        peak_us = kernel.macs * passes / (rows * columns * depth) / self._cycles_per_us
        picojoule = kernel.macs * self._energy.mac_pj(Arithmetic.INTEGER, weight_bits, activation_bits)
        on_chip = repeats * (m * k * activation_bits * -(-n // columns) + k * n * weight_bits * -(-m // rows))
        bound = "compute" if compute_us >= memory_us else "memory"
        latency_us = max(compute_us, memory_us) + fill_us
        return KernelPrice(latency_us, bound, max(peak_us, memory_us), picojoule, off_chip_bits, on_chip)

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why the array cannot run a kernel."""
        widest = int(self._model.max_bits.value)
        if kernel.arithmetic is Arithmetic.FLOAT:
            return "is float, and the array takes integers"
        if max(kernel.weight_bits, kernel.activation_bits) > widest:
            return f"{kernel.weight_bits}×{kernel.activation_bits} bits, the array takes at most {widest}"
        return None
