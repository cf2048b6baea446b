"""Dataflow accelerators on FPGAs (FINN-like): one engine per layer, all running at once."""

from collections.abc import Sequence
from math import sqrt
from typing import ClassVar

from hwmodels.cost_model import COST_MODELS, CostModel, Demand, KernelPrice
from hwmodels.energy import EnergyModel
from hwmodels.profile import Profile
from hwmodels.quantity import Part, Positive
from hwmodels.workload import Arithmetic, Kernel, KernelKind


def layer_cycles(pixels: int, reduction: int, channels: int, *, simd: int, pe: int) -> int:
    """Return the cycles of one layer's engine: ``pixels · ⌈reduction/SIMD⌉ · ⌈channels/PE⌉``.

    Source: Umuroglu et al., "FINN", FPGA 2017, section 4 (which folds exactly; we round up).
    """
    return pixels * -(-reduction // simd) * -(-channels // pe)


class DataflowParameters(Part):
    """What the device can spend on engines."""

    compute_lut: Positive  # look-up tables left for multiply-accumulate engines
    lut_per_bit_product: Positive  # of one 1×1-bit MAC per cycle; w×a bits take w·a times as many
    max_bits: Positive
    bram_kib: Positive  # weights must fit on chip


@COST_MODELS.register("finn_dataflow")
class DataflowModel(CostModel):
    """Latency of one image through a pipeline whose engines are folded to equal cycles.

    Look-up tables are shared so that every engine needs the same time, the initiation interval
    ``II = Σ MACs·LUT(w, a) / budget``. A layer starts when its window has arrived: it adds ``II`` times the window's
    share of the input rows (all for fully connected layers); the last engine adds a full interval. Real foldings divide
    channel counts, so that prices come out too low by the rounding. Rows of kernels are their share of the latency;
    1/II is the throughput and no latency.
    """

    Parameters: ClassVar[type[Part]] = DataflowParameters
    additive: ClassVar[bool] = False

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, DataflowParameters):
            raise TypeError(f"finn_dataflow needs its own parameters, got {type(model).__name__}")
        self._model = model
        self._products_per_us = (
            model.compute_lut.value / model.lut_per_bit_product.value * profile.clock_ghz.value * 1e3
        )
        self._energy = EnergyModel(profile.energy)

    def interval_us(self, kernels: Sequence[Kernel]) -> float:
        """Return the initiation interval: the time between two images."""
        return sum(k.macs * k.weight_bits * k.activation_bits for k in kernels) / self._products_per_us

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the price of a kernel that has the whole device to itself."""
        return self.prices([kernel], [demand])[0]

    def prices(self, kernels: Sequence[Kernel], demands: Sequence[Demand]) -> list[KernelPrice]:
        """Return what each kernel adds to the latency."""
        interval_us = self.interval_us(kernels)
        last = max((index for index, kernel in enumerate(kernels) if kernel.macs), default=-1)
        prices = []
        for index, (kernel, demand) in enumerate(zip(kernels, demands, strict=True)):
            if not kernel.macs:
                prices.append(KernelPrice(0.0, "pipelined", 0.0, 0.0, 0.0, 0.0))
                continue
            share = 1.0 if index == last else _window_share(kernel, demand)
            picojoule = kernel.macs * self._energy.mac_pj(
                Arithmetic.INTEGER, kernel.weight_bits, kernel.activation_bits
            )
            on_chip = (demand.weight_bytes + demand.input_bytes + demand.output_bytes) * 8
            prices.append(KernelPrice(interval_us * share, "compute", interval_us * share, picojoule, 0.0, on_chip))
        return prices

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why no engine can be built for a kernel."""
        widest = int(self._model.max_bits.value)
        if kernel.arithmetic is Arithmetic.FLOAT:
            return "is float, and engines are built for integers"
        if max(kernel.weight_bits, kernel.activation_bits) > widest:
            return f"{kernel.weight_bits}×{kernel.activation_bits} bits, engines take at most {widest}"
        stored = kernel.weights * kernel.weight_bits
        if stored > self._model.bram_kib.value * 8192:
            return f"weights take {stored // 8} bytes, on-chip memory has {int(self._model.bram_kib.value * 1024)}"
        return None


def _window_share(kernel: Kernel, demand: Demand) -> float:
    if kernel.kind in (KernelKind.LINEAR, KernelKind.MATMUL):
        return 1.0
    pixels = max(demand.input_elements // max(kernel.in_channels, 1), 1)
    rows = max(sqrt(pixels), 1.0)
    return min(kernel.kernel[0] / rows, 1.0)
