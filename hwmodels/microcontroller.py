"""Microcontrollers: cycles per MAC by class, a cost per kernel, weights read from flash in place."""

from typing import Annotated, ClassVar

from pydantic import Field

from hwmodels.cost_model import COST_MODELS, CostModel, Demand, KernelPrice
from hwmodels.energy import EnergyModel
from hwmodels.profile import Profile
from hwmodels.quantity import Part, Quantity
from hwmodels.rates import Efficiency, Rate, RateTable, padded_macs
from hwmodels.workload import Kernel


class MicrocontrollerParameters(Part):
    """Cycle counts of an in-order core that runs one kernel after the other."""

    rates: Annotated[tuple[Rate, ...], Field(min_length=1)]
    efficiency: Efficiency
    cycles_per_element: Quantity  # of an output value: requantization, pooling, element-wise work
    cycles_per_weight_byte: Quantity  # flash read, after prefetch and cache
    cycles_per_kernel: Quantity


@COST_MODELS.register("microcontroller")
class MicrocontrollerModel(CostModel):
    """``MACs / rate + output values + weight bytes + kernel``, all in cycles; nothing overlaps.

    Weights narrower than the arithmetic save flash bytes and their reading, no MAC cycles. Data-cache misses on
    activations in external RAM are left out, so that such networks come out too fast.
    """

    Parameters: ClassVar[type[Part]] = MicrocontrollerParameters

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, MicrocontrollerParameters):
            raise TypeError(f"microcontroller needs its own parameters, got {type(model).__name__}")
        cycles_per_us = profile.clock_ghz.value * 1e3
        self._table = RateTable(
            model.rates,
            efficiency=model.efficiency,
            cycles_per_us=cycles_per_us,
            effective_cores=1.0,
            energy=EnergyModel(profile.energy),
        )
        self._element_us = model.cycles_per_element.value / cycles_per_us
        self._weight_us = model.cycles_per_weight_byte.value / cycles_per_us
        self._kernel_us = model.cycles_per_kernel.value / cycles_per_us

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the price of one kernel."""
        compute_us, peak_us, picojoule = self._element_us * demand.output_elements, 0.0, 0.0
        if kernel.macs:
            best, best_us = None, 0.0
            for option in self._table.options(kernel, demand.float_bits):
                us = padded_macs(kernel, option.lanes) * option.us_per_mac
                if best is None or us < best_us:
                    best, best_us = option, us
            if best is not None:
                compute_us += best_us
                peak_us, picojoule = kernel.macs * best.peak_us_per_mac, kernel.macs * best.mac_pj
        flash_us = self._weight_us * demand.weight_bytes
        largest = max(compute_us, flash_us, self._kernel_us)
        bound = "compute" if compute_us == largest else ("memory" if flash_us == largest else "launch")
        latency_us = compute_us + flash_us + self._kernel_us
        moved_bits = (demand.input_bytes + demand.output_bytes) * 8
        return KernelPrice(latency_us, bound, min(peak_us, latency_us), picojoule, demand.weight_bytes * 8, moved_bits)

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why no rate can run a kernel."""
        float_bits = self.profile.formats.float_bits or 0
        if kernel.macs and not self._table.runs(kernel, float_bits):
            return f"no rate of this device runs {kernel.weight_bits}×{kernel.activation_bits}-bit {kernel.arithmetic}"
        return None
