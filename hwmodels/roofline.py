"""Roofline: a kernel is limited by arithmetic or by memory traffic, and pays a launch."""

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from hwmodels.cost_model import COST_MODELS, Bytes, CostModel, Demand, KernelPrice
from hwmodels.energy import EnergyModel
from hwmodels.profile import Profile
from hwmodels.quantity import Count, Part, Positive, Quantity, value_of
from hwmodels.rates import Efficiency, Rate, RateTable, efficiency_class, padded_macs, ramp_factor, tile_factor
from hwmodels.workload import Kernel

GB_PER_S_TO_BYTES_PER_US = 1e3
TRANSCENDENTAL = frozenset({"swish", "silu", "sigmoid", "gelu", "tanh", "softmax", "exp", "erf", "elu", "lrn"})


class Cache(Part):
    """A level that holds a kernel's working set if it fits."""

    kib: Positive
    gb_per_s: Positive


class RooflineParameters(Part):
    """Numbers of a processor with caches: CPU, GPU, or an accelerator of that shape."""

    cores: Count
    threads: Count
    thread_scaling: Quantity | None = None  # what each further thread adds, 0..1
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)]
    efficiency: Efficiency
    caches: tuple[Cache, ...] = ()
    dram_gb_per_s: Positive
    activation_gb_per_s: Positive | None = None  # where activations cost other than weights (packing, caches)
    winograd_tile: Quantity | None = None  # side of the output tile; rows and columns are rounded up to it
    ramp_channels: Quantity | None = None  # channels at which a kernel reaches half of its class's rate
    element_ns: Quantity | None = None  # one value of a kernel that computes exponentials
    launch_us: Quantity
    fixed_us: Quantity

    @field_validator("caches")
    @classmethod
    def _larger_is_slower(cls, caches: tuple[Cache, ...]) -> tuple[Cache, ...]:
        ordered = tuple(sorted(caches, key=lambda cache: cache.kib.value))
        speeds = [cache.gb_per_s.value for cache in ordered]
        if speeds != sorted(speeds, reverse=True):
            raise ValueError("a larger cache must not be faster than a smaller one")
        return ordered


@COST_MODELS.register("roofline")
class RooflineModel(CostModel):
    """``max(compute, memory) + launch`` per kernel, plus a fixed time per network.

    Compute time is padded MACs over the reached rate of the kernel's class, times ``1 + ramp / channels`` for the fewer
    of a group's input and output channels (not for depthwise kernels): short inner loops pay their set-up. Memory time
    is bytes over the bandwidth of the smallest level that holds the kernel's working set. Traffic that stays in a cache
    between kernels is left out, so that chains of small kernels come out too slow; contention is left out, so that many
    threads come out too fast.

    Source: Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.
    """

    Parameters: ClassVar[type[Part]] = RooflineParameters

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, RooflineParameters):
            raise TypeError(f"roofline needs its own parameters, got {type(model).__name__}")
        effective = 1 + (model.threads.value - 1) * value_of(model.thread_scaling, 1.0)
        self._table = RateTable(
            model.rates,
            efficiency=model.efficiency,
            cycles_per_us=profile.clock_ghz.value * 1e3,
            effective_cores=effective,
            energy=EnergyModel(profile.energy),
        )
        self._dram = model.dram_gb_per_s.value * GB_PER_S_TO_BYTES_PER_US
        self._activation = self._dram
        if model.activation_gb_per_s is not None:
            self._activation = model.activation_gb_per_s.value * GB_PER_S_TO_BYTES_PER_US
        slowest = max(self._dram, self._activation)  # what a cache is never slower than
        self._caches = [
            (cache.kib.value * 1024, max(cache.gb_per_s.value * GB_PER_S_TO_BYTES_PER_US, slowest))
            for cache in model.caches
        ]
        self._tile = int(value_of(model.winograd_tile))
        self._ramp = value_of(model.ramp_channels)
        self._element_us = value_of(model.element_ns) / 1e3
        self._launch_us = model.launch_us.value
        self._fixed_us = model.fixed_us.value

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the price of one kernel."""
        moved = demand.weight_bytes + demand.input_bytes + demand.output_bytes
        dram_bytes = float(moved)
        memory_us = demand.weight_bytes / self._dram + (moved - demand.weight_bytes) / self._activation
        for capacity, cache_speed in self._caches:
            if moved <= capacity:
                memory_us, dram_bytes = moved / cache_speed, demand.weight_bytes
                break
        compute_us, peak_us, picojoule = 0.0, 0.0, 0.0
        if self._element_us and kernel.op in TRANSCENDENTAL:
            memory_us += self._element_us * demand.output_elements
        if kernel.macs:
            best, stretch = None, 1.0
            if self._tile and efficiency_class(kernel) == "winograd":
                stretch = tile_factor(demand, kernel, self._tile)
            for option in self._table.options(kernel, demand.float_bits):
                macs = padded_macs(kernel, option.lanes) * stretch * ramp_factor(kernel, self._ramp, option.lanes)
                if best is None or macs * option.us_per_mac < compute_us:
                    best, compute_us = option, macs * option.us_per_mac
            if best is not None:
                peak_us, picojoule = kernel.macs * best.peak_us_per_mac, kernel.macs * best.mac_pj
        busy_us = max(compute_us, memory_us)
        bound = "launch" if self._launch_us > busy_us else ("compute" if compute_us >= memory_us else "memory")
        latency_us = busy_us + self._launch_us
        roof_us = min(max(peak_us, memory_us), latency_us)
        return KernelPrice(latency_us, bound, roof_us, picojoule, dram_bytes * 8, moved * 8)

    def overhead_us(self, weight_bytes: Bytes, border_bytes: Bytes) -> Bytes:
        """Return the fixed time per network."""
        return self._fixed_us + 0.0 * weight_bytes

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why no rate can run a kernel."""
        float_bits = self.profile.formats.float_bits or 0
        if kernel.macs and not self._table.runs(kernel, float_bits):
            return f"no rate of this device runs {kernel.weight_bits}×{kernel.activation_bits}-bit {kernel.arithmetic}"
        return None
