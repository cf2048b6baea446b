"""The interface of a cost-model family, and the registry of families.

A family is one class: a pydantic model of the numbers that a profile must give it, and a pure function from one kernel
to its price. What belongs to every device alike (storage formats, peak memory, energy from traffic and power,
reports) is done once in ``estimate``, so that a family says only how long a kernel takes and what it moves.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwmodels.errors import UnknownNameError
from hwmodels.quantity import Part
from hwmodels.workload import Kernel

if TYPE_CHECKING:
    from hwmodels.profile import Profile

Bytes = TypeVar("Bytes", float, NDArray[np.float64])

ENTRY_POINT_GROUP = "tightfit.cost_models"


class Demand(NamedTuple):
    """What a kernel asks of a device, after storage formats were applied. One image."""

    weight_bytes: int  # weights, biases and scales as stored on this device
    input_bytes: int
    output_bytes: int
    input_elements: int
    output_elements: int
    weight_bits: int  # width of a weight as stored; the kernel's own width is in the kernel
    float_bits: int  # width at which the runtime runs float arithmetic; 0 where it has none


class KernelPrice(NamedTuple):
    """Time of one kernel and what energy is reckoned from."""

    latency_us: float
    bound: str  # what the time is spent on: "compute", "memory", "launch", …
    roof_us: float  # time at full peak rate or bandwidth: utilisation = roof / latency
    mac_pj: float  # energy of all MACs of the kernel
    dram_bits: float
    sram_bits: float


class CostModel(ABC):
    """Prices kernels on one device.

    Subclasses register with ``@COST_MODELS.register("name")`` or through the entry-point group
    ``tightfit.cost_models``. Prices of the analytic families never fall when channels, pixels or bits grow.
    """

    Parameters: ClassVar[type[Part]]
    analytic: ClassVar[bool] = True  # False: fitted or tabulated, may break monotonicity
    additive: ClassVar[bool] = True  # False: a kernel's price depends on the others; ``prices`` is then overridden

    def __init__(self, profile: "Profile") -> None:
        self.profile = profile

    @abstractmethod
    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the price of one kernel. Time is that of a warm run, batch of one."""

    def prices(self, kernels: Sequence[Kernel], demands: Sequence[Demand]) -> list[KernelPrice]:
        """Return the prices of all kernels of a network, in order."""
        return [self.price(kernel, demand) for kernel, demand in zip(kernels, demands, strict=True)]

    def overhead_us(self, weight_bytes: Bytes, border_bytes: Bytes) -> Bytes:
        """Return the time of a network that belongs to no single kernel.

        Of one network, or of many at once: ``weight_bytes`` are all its weights as stored, ``border_bytes`` its inputs
        and outputs.
        """
        return 0.0 * weight_bytes

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why the device cannot run a kernel at all, beyond what its storage formats say."""
        return None


Family = TypeVar("Family", bound=type[CostModel])


class CostModelRegistry:
    """Families by name; those of installed plug-ins are loaded when a name is first asked for."""

    def __init__(self) -> None:
        self._families: dict[str, type[CostModel]] = {}
        self._loaded = self._loading = False
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[Family], Family]:
        """Return a class decorator; a repeated name is an error."""

        def decorate(family: Family) -> Family:
            if name in self._families:
                raise ValueError(f"cost model {name!r} is registered twice")
            self._families[name] = family
            return family

        return decorate

    def names(self) -> tuple[str, ...]:
        """Return the names of all families, sorted."""
        self._load()
        return tuple(sorted(self._families))

    def get(self, name: str) -> type[CostModel]:
        """Return a family; ``UnknownNameError`` lists the known ones."""
        self._load()
        if name not in self._families:
            raise UnknownNameError("family", f"unknown cost-model family; known: {', '.join(self.names())}", name)
        return self._families[name]

    def _load(self) -> None:
        """Load everything once; whoever asks meanwhile waits, except from within what is being loaded."""
        if self._loaded:
            return
        with self._lock:
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                from hwmodels import families  # noqa: F401  # registers ours; they import this module

                for point in entry_points(group=ENTRY_POINT_GROUP):
                    self.register(point.name)(point.load())
                self._loaded = True
            finally:
                self._loading = False


COST_MODELS = CostModelRegistry()
