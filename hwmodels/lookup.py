"""Lookup tables: measured times of kernels or blocks, summed."""

from typing import Annotated, ClassVar

from pydantic import Field

from hwmodels.cost_model import COST_MODELS, Bytes, CostModel, Demand, KernelPrice
from hwmodels.errors import InputError
from hwmodels.profile import Profile
from hwmodels.quantity import Confidence, Part, Quantity
from hwmodels.workload import Kernel, KernelKind

Key = tuple[str, int, int, int, int, int, int, int, int, int]


class LookupMissError(InputError):
    """The table has no entry for a kernel; nothing is guessed."""

    code = "lookup_miss"


class Entry(Part):
    """The time of one kernel shape. Elements are those of one image's input and output tensors."""

    op: Annotated[str, Field(min_length=1)]  # the operator, after fusion ("conv+add")
    in_channels: Annotated[int, Field(ge=0)]
    out_channels: Annotated[int, Field(ge=0)]
    input_elements: Annotated[int, Field(ge=0)]
    output_elements: Annotated[int, Field(ge=0)]
    kernel: Annotated[int, Field(ge=1)] = 1
    stride: Annotated[int, Field(ge=1)] = 1
    groups: Annotated[int, Field(ge=1)] = 1
    weight_bits: Annotated[int, Field(ge=1, le=64)] = 32
    activation_bits: Annotated[int, Field(ge=1, le=64)] = 32
    latency_us: Annotated[float, Field(ge=0)]


class LookupParameters(Part):
    """A table. Its entries share one source and confidence."""

    entries: tuple[Entry, ...]
    free_kinds: tuple[KernelKind, ...] = ()  # kinds that the table's author counted as part of their neighbours
    fixed_us: Quantity
    confidence: Confidence
    source: str


@COST_MODELS.register("lookup")
class LookupModel(CostModel):
    """Sum of table entries. A kernel that is not in the table is an error.

    Good to a few percent on one-core CPUs, where kernels do not overlap; overlap elsewhere makes sums too slow.
    """

    Parameters: ClassVar[type[Part]] = LookupParameters
    analytic: ClassVar[bool] = False

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, LookupParameters):
            raise TypeError(f"lookup needs its own parameters, got {type(model).__name__}")
        self._model = model
        self._free = set(model.free_kinds)
        self._times: dict[Key, float] = {}
        for entry in model.entries:
            key = _entry_key(entry)
            if self._times.setdefault(key, entry.latency_us) != entry.latency_us:
                raise InputError("model.entries", "has two times for one kernel", key)

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the table's time.

        Raises:
            LookupMissError: The kernel is not in the table.
        """
        if kernel.kind in self._free:
            return KernelPrice(0.0, "table", 0.0, 0.0, 0.0, 0.0)
        key = kernel_key(kernel, demand)
        if key not in self._times:
            raise LookupMissError(kernel.name, f"is not in the table of {self.profile.name}", key)
        latency_us = self._times[key]
        moved = (demand.weight_bytes + demand.input_bytes + demand.output_bytes) * 8
        return KernelPrice(latency_us, "table", latency_us, 0.0, moved, moved)

    def overhead_us(self, weight_bytes: Bytes, border_bytes: Bytes) -> Bytes:
        """Return the fixed time per network."""
        return self._model.fixed_us.value + 0.0 * weight_bytes


def _entry_key(entry: Entry) -> Key:
    return (
        entry.op,
        entry.in_channels,
        entry.out_channels,
        entry.input_elements,
        entry.output_elements,
        entry.kernel,
        entry.stride,
        entry.groups,
        entry.weight_bits,
        entry.activation_bits,
    )


def kernel_key(kernel: Kernel, demand: Demand) -> Key:
    """Return what a table knows a kernel by."""
    return (
        kernel.op,
        kernel.in_channels,
        kernel.out_channels,
        demand.input_elements,
        demand.output_elements,
        kernel.kernel[0],
        kernel.stride[0],
        kernel.groups,
        kernel.weight_bits,
        kernel.activation_bits,
    )
