"""Accelerators that keep weights on chip up to a size, and stream the rest from the host on every run."""

from typing import Annotated, ClassVar

from pydantic import Field

from hwmodels.cost_model import COST_MODELS, Bytes, CostModel, Demand, KernelPrice
from hwmodels.energy import EnergyModel
from hwmodels.profile import Profile
from hwmodels.quantity import Part, Positive, Quantity
from hwmodels.rates import Efficiency, Rate, RateTable, padded_macs
from hwmodels.workload import Kernel


class CliffParameters(Part):
    """An accelerator behind a host link (Edge TPU class)."""

    rates: Annotated[tuple[Rate, ...], Field(min_length=1)]
    efficiency: Efficiency
    weight_memory_kib: Positive
    host_link_gb_per_s: Positive
    onchip_gb_per_s: Positive
    launch_us: Quantity
    fixed_us: Quantity


@COST_MODELS.register("parameter_cliff")
class ParameterCliffModel(CostModel):
    """Roofline on chip, plus the weights that exceed the on-chip memory over the host link.

    Latency steps up by ``(weight bytes - memory) / link`` where the weights stop fitting: the cliff. Which layers the
    compiler caches is not modelled; layers that it sends to the host's CPU neither, so that networks with unsupported
    operators come out too fast.
    """

    Parameters: ClassVar[type[Part]] = CliffParameters

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, CliffParameters):
            raise TypeError(f"parameter_cliff needs its own parameters, got {type(model).__name__}")
        self._model = model
        self._table = RateTable(
            model.rates,
            efficiency=model.efficiency,
            cycles_per_us=profile.clock_ghz.value * 1e3,
            effective_cores=1.0,
            energy=EnergyModel(profile.energy),
        )

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the price of one kernel with its weights on chip."""
        moved = demand.weight_bytes + demand.input_bytes + demand.output_bytes
        memory_us = moved / (self._model.onchip_gb_per_s.value * 1e3)
        compute_us, peak_us, picojoule = 0.0, 0.0, 0.0
        options = self._table.options(kernel, demand.float_bits) if kernel.macs else ()
        if options:
            compute_us, best = min(
                (padded_macs(kernel, option.lanes) * option.us_per_mac, option) for option in options
            )
            peak_us, picojoule = kernel.macs * best.peak_us_per_mac, kernel.macs * best.mac_pj
        bound = "compute" if compute_us >= memory_us else "memory"
        latency_us = max(compute_us, memory_us) + self._model.launch_us.value
        return KernelPrice(latency_us, bound, min(max(peak_us, memory_us), latency_us), picojoule, 0.0, moved * 8)

    def streamed_bytes(self, weight_bytes: Bytes) -> Bytes:
        """Return the weight bytes that cross the host link on every run."""
        excess = weight_bytes - self._model.weight_memory_kib.value * 1024
        return excess * (excess > 0)

    def overhead_us(self, weight_bytes: Bytes, border_bytes: Bytes) -> Bytes:
        """Return the fixed time and that of weights, input and output on the host link."""
        crossing = self.streamed_bytes(weight_bytes) + border_bytes
        return self._model.fixed_us.value + crossing / (self._model.host_link_gb_per_s.value * 1e3)

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why no rate can run a kernel."""
        if kernel.macs and not self._table.runs(kernel, self.profile.formats.float_bits or 0):
            return f"no rate of this device runs {kernel.weight_bits}×{kernel.activation_bits}-bit {kernel.arithmetic}"
        return None
