"""What a network costs on a device: latency, energy, size, memory, and whether it can run there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import prod
from typing import Any, Literal

from hwmodels.cost_model import COST_MODELS, Bytes, Demand, KernelPrice
from hwmodels.energy import EnergyModel
from hwmodels.memory import KIB, peak_memory_bytes
from hwmodels.prepare import prepared
from hwmodels.profile import EXACT, FIGURES, Profile
from hwmodels.quantity import value_of
from hwmodels.workload import Arithmetic, Kernel, KernelKind, TensorInfo, Workload

SCHEMA_VERSION = 1
KINDS: tuple[Literal["float", "integer", "any"], ...] = ("float", "integer", "any")
BIAS_BYTES = 4  # int32, or float32
SCALE_BYTES = 4  # float32, one per output channel of a kernel whose weights are integers
NARROWEST_FLOAT_BITS = 16


@dataclass(frozen=True, slots=True)
class KernelCost:
    """One row of a report."""

    name: str
    kind: str
    latency_ms: float
    energy_mj: float
    weight_bytes: int
    macs: int
    bound: str
    weight_bits: int
    stored_bits: int
    activation_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Price of a network on one device, batch of one.

    ``latency_ms`` is the sum over ``kernels`` plus ``overhead_ms``, which belongs to no kernel; ``energy_mj`` likewise.
    ``model_bytes`` counts weights, biases and scales in formats that the device's runtime can store: a width that it
    cannot is rounded up. ``peak_memory_bytes`` is activations, scratch and runtime RAM, without weights.
    ``deployable`` is false where the device cannot run the network at all or its own flash or RAM is too small;
    ``reason`` says which. The figures are given all the same. ``expected_error`` says per figure what validation found.
    """

    device: str
    latency_ms: float
    energy_mj: float
    model_bytes: int
    peak_memory_bytes: int
    overhead_ms: float
    macs: int
    kernels: tuple[KernelCost, ...]
    expected_error: str
    expected_errors: Mapping[str, str]
    deployable: bool
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def estimate(workload: Workload, profile: Profile) -> CostReport:
    """Return what a workload costs on a device."""
    return pricer(profile).report(workload)


@lru_cache(maxsize=256)
def pricer(profile: Profile) -> "Pricer":
    """Return the profile's pricer, built once."""
    return Pricer(profile)


class Pricer:
    """A profile made ready to price many workloads."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.model = COST_MODELS.get(profile.family)(profile)
        self._energy = EnergyModel(profile.energy)
        formats = profile.formats
        self.float_bits = formats.float_bits or 0
        self._stored_weight = {bits: _stored(bits, formats.weight_bits, formats.float_bits) for bits in range(1, 65)}
        self._stored_value = {bits: _stored(bits, formats.activation_bits, formats.float_bits) for bits in range(1, 65)}
        self._errors: dict[str, dict[str, str]] = {}
        for kind in KINDS:
            self._errors[kind] = {figure: profile.expected_error(figure, kind) for figure in FIGURES}
            self._errors[kind]["model_bytes"] = EXACT

    def stored_value_bits(self, bits: int) -> int:
        """Return the width in which this device stores an activation of ``bits``."""
        return self._stored_value[bits]

    def stored_weight_bits(self, bits: int) -> int:
        """Return the width in which this device stores a weight of ``bits``."""
        return self._stored_weight[bits]

    def tensors(self, workload: Workload) -> tuple[dict[str, int], dict[str, int]]:
        """Return elements and stored bytes of every activation tensor of a workload."""
        return self.tensor_sizes(workload.tensors)

    def tensor_sizes(self, tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, int], dict[str, int]]:
        """Return elements and stored bytes of activation tensors."""
        stored = self._stored_value
        elements = {name: prod(info.shape) for name, info in tensors.items()}
        return elements, {name: (elements[name] * stored[info.bits] + 7) // 8 for name, info in tensors.items()}

    def weight_bytes(self, kernel: Kernel) -> int:
        """Return the bytes of a kernel's weights, biases and scales as this device stores them."""
        if not kernel.weights:
            return 0
        stored = (kernel.weights * self._stored_weight[kernel.weight_bits] + 7) // 8 + kernel.biases * BIAS_BYTES
        on_grid = kernel.arithmetic is not Arithmetic.FLOAT or kernel.weight_bits < NARROWEST_FLOAT_BITS
        return stored + kernel.out_channels * SCALE_BYTES if on_grid else stored

    def demand(self, kernel: Kernel, elements: Mapping[str, int], sizes: Mapping[str, int]) -> Demand:
        """Return what a kernel asks of this device."""
        input_bytes = output_bytes = input_elements = output_elements = 0
        for name in kernel.inputs:
            input_bytes += sizes[name]
            input_elements += elements[name]
        for name in kernel.outputs:
            output_bytes += sizes[name]
            output_elements += elements[name]
        return Demand(
            self.weight_bytes(kernel) if kernel.weights else 0,
            input_bytes,
            output_bytes,
            input_elements,
            output_elements,
            self._stored_weight[kernel.weight_bits],
            self.float_bits,
        )

    def report(self, workload: Workload) -> CostReport:
        """Return the full report of a workload, merged as the device's runtime merges it."""
        workload = prepared(workload, self.profile)
        elements, sizes = self.tensors(workload)
        kernels = workload.kernels
        demands = [self.demand(kernel, elements, sizes) for kernel in kernels]
        prices = self.model.prices(kernels, demands)
        rows = [self._row(*triple) for triple in zip(kernels, demands, prices, strict=True)]
        model_bytes = sum([demand.weight_bytes for demand in demands])
        border_bytes = sum([sizes[name] for name in (*workload.inputs, *workload.outputs)])
        overhead_us = float(self.model.overhead_us(float(model_bytes), float(border_bytes)))
        overhead_mj = self.overhead_mj(overhead_us)
        peak = peak_memory_bytes(workload, self.profile.memory, tensor_bytes=sizes)
        reason = self.refusal(workload, model_bytes=model_bytes, peak_memory_bytes=peak)
        errors = self._errors[_kind(workload)]
        return CostReport(
            device=self.profile.name,
            latency_ms=sum([row.latency_ms for row in rows]) + overhead_us / 1e3,
            energy_mj=sum([row.energy_mj for row in rows]) + overhead_mj,
            model_bytes=model_bytes,
            peak_memory_bytes=peak,
            overhead_ms=overhead_us / 1e3,
            macs=sum([kernel.macs for kernel in kernels]),
            kernels=tuple(rows),
            expected_error=errors["latency_ms"],
            expected_errors=errors,
            deployable=reason is None,
            reason=reason,
        )

    def overhead_mj(self, overhead_us: Bytes) -> Bytes:
        """Return the energy of the time that belongs to no kernel."""
        return overhead_us * self._energy.kernel_mj(
            mac_pj=0.0, sram_bits=0.0, dram_bits=0.0, latency_us=1.0, roof_us=0.0
        )

    def kernel_mj(self, kernel: Kernel, demand: Demand) -> tuple[float, float]:
        """Return latency in µs and energy in mJ of one kernel."""
        latency_us, _, roof_us, mac_pj, dram_bits, sram_bits = self.model.price(kernel, demand)
        return latency_us, self._energy.kernel_mj(
            mac_pj=mac_pj, sram_bits=sram_bits, dram_bits=dram_bits, latency_us=latency_us, roof_us=roof_us
        )

    def refusal(self, workload: Workload, *, model_bytes: int, peak_memory_bytes: int) -> str | None:
        """Return why this device cannot run a workload, or ``None``.

        Only kernels with MACs are asked for their format: runtimes convert at the borders, and element-wise work runs
        on any core. Capacities are the device's own; the user's limits are not looked at here.
        """
        for kernel in workload.kernels:
            reason = self.kernel_refusal(kernel)
            if reason:
                return f"{kernel.name}: {reason}"
        integers = any(_is_integer(kernel) for kernel in workload.kernels)
        return self.network_refusal(
            workload.numerics if integers else None, model_bytes=model_bytes, peak_memory_bytes=peak_memory_bytes
        )

    def kernel_refusal(self, kernel: Kernel) -> str | None:
        """Return why this device cannot run a kernel, or ``None``."""
        return (self._format_refusal(kernel) or self.model.refusal(kernel)) if kernel.macs else None

    def network_refusal(
        self, numerics: Mapping[str, str] | None, *, model_bytes: int, peak_memory_bytes: int
    ) -> str | None:
        """Return why this device cannot run a network whose kernels it can; ``numerics`` if it has integers."""
        reason = None if numerics is None else self.numerics_refusal(numerics)
        return reason or self.capacity_refusal(model_bytes=model_bytes, peak_memory_bytes=peak_memory_bytes)

    def numerics_refusal(self, numerics: Mapping[str, str]) -> str | None:
        """Return why this device's runtime cannot run a network with integers, or ``None``."""
        return None if self.profile.numerics is None else self.profile.numerics.refusal(numerics)

    def capacity_refusal(self, *, model_bytes: int, peak_memory_bytes: int) -> str | None:
        """Return which memory a network does not fit into, or ``None``."""
        memory = self.profile.memory
        flash, ram = value_of(memory.flash_kib) * KIB, value_of(memory.ram_kib) * KIB
        stored = model_bytes + int(value_of(memory.code_kib) * KIB)
        if flash and stored > flash:
            return f"weights and code take {stored} bytes, flash has {int(flash)}"
        resident = peak_memory_bytes if flash else peak_memory_bytes + model_bytes
        if ram and resident > ram:
            return f"activations and runtime take {resident} bytes, RAM has {int(ram)}"
        return None

    def _format_refusal(self, kernel: Kernel) -> str | None:
        formats = self.profile.formats
        if kernel.arithmetic is Arithmetic.FLOAT:
            return None if self.float_bits else "is float, and this device runs integers only"
        widest = formats.weight_bits[-1]
        if kernel.weights and kernel.weight_bits > widest:
            return f"weights of {kernel.weight_bits} bits, the runtime stores at most {widest}"
        widest = formats.activation_bits[-1]
        if kernel.activation_bits > widest:
            return f"activations of {kernel.activation_bits} bits, the runtime stores at most {widest}"
        return None

    def _row(self, kernel: Kernel, demand: Demand, price: KernelPrice) -> KernelCost:
        energy_mj = self._energy.kernel_mj(
            mac_pj=price.mac_pj,
            sram_bits=price.sram_bits,
            dram_bits=price.dram_bits,
            latency_us=price.latency_us,
            roof_us=price.roof_us,
        )
        return KernelCost(
            kernel.name,
            _KIND_NAMES[kernel.kind],
            price.latency_us / 1e3,
            energy_mj,
            demand.weight_bytes,
            kernel.macs,
            price.bound,
            kernel.weight_bits,
            demand.weight_bits,
            kernel.activation_bits,
        )


_KIND_NAMES = {kind: kind.value for kind in KernelKind}  # an enumeration's own ``value`` is slow


def _kind(workload: Workload) -> Literal["float", "integer", "any"]:
    """Return what a validation must have been of to speak for a workload; a mixed one is spoken for by each."""
    floats = {kernel.arithmetic is Arithmetic.FLOAT for kernel in workload.kernels if kernel.macs}
    if len(floats) != 1:
        return "any"
    return "float" if floats.pop() else "integer"


def _is_integer(kernel: Kernel) -> bool:
    return kernel.macs > 0 and kernel.arithmetic is not Arithmetic.FLOAT


def _stored(bits: int, widths: tuple[int, ...], float_bits: int | None) -> int:
    """Return the width in which a value of ``bits`` is stored; one that is wider than all keeps its own."""
    if bits == 32 and float_bits is not None:
        return float_bits
    return next((width for width in widths if width >= bits), bits)
