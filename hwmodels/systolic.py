"""Systolic arrays: exact cycle counts of three dataflows, and DRAM time beside them."""

from math import ceil
from typing import ClassVar, Literal

from hwmodels.cost_model import COST_MODELS, Bytes, CostModel, Demand, KernelPrice
from hwmodels.energy import EnergyModel
from hwmodels.profile import Profile
from hwmodels.quantity import Count, Part, Positive, Quantity, value_of
from hwmodels.traffic import dram_bits, layer_traffic
from hwmodels.workload import Arithmetic, Kernel, KernelKind

Dataflow = Literal["output_stationary", "weight_stationary", "input_stationary"]


def gemm(kernel: Kernel) -> tuple[int, int, int, int]:
    """Return (M, K, N, repeats): pixels, reduction, output channels of one group, groups."""
    k = max(kernel.kernel[0] * kernel.kernel[1] * kernel.in_channels // kernel.groups, 1)
    n = max(kernel.out_channels // kernel.groups, 1)
    return max(kernel.macs // (k * n * kernel.groups), 1), k, n, kernel.groups


def mapped(m: int, n: int, k: int, dataflow: Dataflow) -> tuple[int, int, int]:
    """Return (rows wanted, columns wanted, temporal steps) of a matrix product on the array."""
    if dataflow == "output_stationary":
        return m, n, k
    return (k, n, m) if dataflow == "weight_stationary" else (k, m, n)


def folds(m: int, n: int, k: int, *, rows: int, columns: int, dataflow: Dataflow) -> int:
    """Return how often the array is filled; a partial fill counts as one."""
    spatial_rows, spatial_columns, _ = mapped(m, n, k, dataflow)
    return -(-spatial_rows // rows) * -(-spatial_columns // columns)


def systolic_cycles(
    m: int, n: int, k: int, *, rows: int, columns: int, dataflow: Dataflow, hidden_fill: bool = False
) -> int:
    """Return the cycles of an (M×K)·(K×N) product on one array.

    Every fold pays fill and drain: ``F·(R + C + T - 2) - 1`` output stationary, ``F·(2R + C + T - 2) - 1`` otherwise.
    With ``hidden_fill`` double buffering overlaps them: ``F·T + R + C``.

    Source: SCALE-Sim version 2 (its paper prints the second form for every dataflow).
    """
    count = folds(m, n, k, rows=rows, columns=columns, dataflow=dataflow)
    steps = mapped(m, n, k, dataflow)[2]
    if hidden_fill:
        return count * steps + rows + columns
    fill = rows if dataflow == "output_stationary" else 2 * rows
    return count * (fill + columns + steps - 2) - 1


def mapping_efficiency(m: int, n: int, k: int, *, rows: int, columns: int, dataflow: Dataflow) -> float:
    """Return the share of the array that the folds fill."""
    spatial_rows, spatial_columns, _ = mapped(m, n, k, dataflow)
    count = folds(m, n, k, rows=rows, columns=columns, dataflow=dataflow)
    return spatial_rows * spatial_columns / (count * rows * columns)


class SystolicParameters(Part):
    """One or more arrays of multipliers of a fixed width, their buffer and their external memory."""

    rows: Count
    columns: Count
    arrays: Count
    dataflow: Dataflow
    hidden_fill: bool = False
    operand_bits: Positive
    arithmetic: Literal["integer", "float"] = "integer"
    vector_macs_per_cycle: Positive | None = None  # a unit that takes depthwise kernels
    sram_kib: Positive
    dram_gb_per_s: Positive
    launch_us: Quantity
    fixed_us: Quantity


@COST_MODELS.register("systolic")
class SystolicModel(CostModel):
    """Array cycles or DRAM time, whichever is longer, per kernel.

    Operands narrower than the array's cost what its own width costs. A depthwise kernel is one matrix product per
    channel, which fills one column; that is why such kernels are slow here. Arrays share the folds of one product.
    Stalls inside the array are left out, so that memory-bound kernels come out slightly too fast.
    """

    Parameters: ClassVar[type[Part]] = SystolicParameters

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, SystolicParameters):
            raise TypeError(f"systolic needs its own parameters, got {type(model).__name__}")
        self._model = model
        self._shape = (int(model.rows.value), int(model.columns.value))
        self._arrays = int(model.arrays.value)
        self._cycles_per_us = profile.clock_ghz.value * 1e3
        self._dram_bits_per_us = model.dram_gb_per_s.value * 8e3
        self._sram_bits = model.sram_kib.value * 8192
        self._vector = value_of(model.vector_macs_per_cycle)
        bits = int(model.operand_bits.value)
        self._mac_pj = EnergyModel(profile.energy).mac_pj(Arithmetic(model.arithmetic), bits, bits)

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the price of one kernel."""
        launch_us = self._model.launch_us.value
        if not kernel.macs:
            moved = (demand.input_bytes + demand.output_bytes) * 8
            off_chip = 0 if moved <= self._sram_bits else moved
            memory_us = off_chip / self._dram_bits_per_us
            return KernelPrice(memory_us + launch_us, "memory", memory_us, 0.0, off_chip, moved)
        rows, columns = self._shape
        m, k, n, repeats = gemm(kernel)
        if self._vector and kernel.kind is KernelKind.DEPTHWISE:
            cycles = kernel.macs / self._vector
        else:
            one = systolic_cycles(
                m, n, k, rows=rows, columns=columns, dataflow=self._model.dataflow, hidden_fill=self._model.hidden_fill
            )
            cycles = one * ceil(repeats / self._arrays) if repeats > 1 else ceil(one / self._arrays)
        compute_us = cycles / self._cycles_per_us
        off_chip_bits = dram_bits(layer_traffic(kernel, demand), self._sram_bits)
        memory_us = off_chip_bits / self._dram_bits_per_us
        peak_us = kernel.macs / (rows * columns * self._arrays * self._cycles_per_us)
        busy_us = max(compute_us, memory_us)
        # Each operand enters the array once per fold of the other side; sums leave once per fold of the reduction.
        width = self._model.operand_bits.value
        on_chip = repeats * width * (m * k * -(-n // columns) + k * n + m * n * -(-k // rows))
        bound = "compute" if compute_us >= memory_us else "memory"
        roof_us = max(peak_us, memory_us)
        return KernelPrice(busy_us + launch_us, bound, roof_us, kernel.macs * self._mac_pj, off_chip_bits, on_chip)

    def overhead_us(self, weight_bytes: Bytes, border_bytes: Bytes) -> Bytes:
        """Return the fixed time per network."""
        return self._model.fixed_us.value + 0.0 * weight_bytes

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why the array cannot run a kernel: other arithmetic, or wider operands."""
        bits = int(self._model.operand_bits.value)
        if self._model.arithmetic == "integer" and kernel.arithmetic is Arithmetic.FLOAT:
            return "is float, and the array multiplies integers"
        if kernel.arithmetic is not Arithmetic.FLOAT and max(kernel.weight_bits, kernel.activation_bits) > bits:
            return f"{kernel.weight_bits}×{kernel.activation_bits} bits, the array multiplies {bits}×{bits}"
        return None
