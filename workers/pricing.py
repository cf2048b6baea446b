"""What plans cost: sizes and operations of the network that a plan leads to, and its price on each device."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from compress.checkpoint.layout import packed_bytes
from compress.network.graph import Network
from compress.plan import Plan
from compress.structure import Structure, restructure
from compress.workload import workload
from hwmodels.errors import UnknownNameError
from hwmodels.estimate import estimate
from hwmodels.profile import Profile
from hwmodels.workload import Workload
from workers.events import DeviceCosts
from workers.spec import COST_OBJECTIVES, DeviceTarget, Limits

KEPT_PRICES = 4096
KEPT_SHAPES = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What is known of a plan without running it."""

    costs: Mapping[str, DeviceCosts]
    packed_bytes: int
    macs: int
    bit_ops: int

    @property
    def feasible(self) -> bool:
        """Whether all limits hold on at least one device."""
        return any(costs.feasible for costs in self.costs.values())


class Pricing:
    """Prices plans of one network on several devices, each plan once.

    Args:
        network: The float network; values are not looked at, so it may be on the ``meta`` device.
        structure: Its channel groups and blocks.
        devices: The devices and the limits that hold there.
        profiles: Device profiles by name.
    """

    def __init__(
        self,
        network: Network,
        structure: Structure,
        devices: Sequence[DeviceTarget],
        profiles: Mapping[str, Profile],
    ) -> None:
        self._network = network.to_meta()
        self._structure = structure
        self._devices = {device.name: (device, _profile(profiles, device.name)) for device in devices}
        self._shapes: _Cache[Network] = _Cache(KEPT_SHAPES)
        self._loads: _Cache[tuple[Workload, dict[str, DeviceCosts]]] = _Cache(KEPT_PRICES)
        self._sizes: _Cache[int] = _Cache(KEPT_PRICES)

    @property
    def profiles(self) -> dict[str, Profile]:
        """The devices' profiles by name."""
        return {name: profile for name, (_, profile) in self._devices.items()}

    def price(self, plan: Plan) -> Price:
        """Return what a plan costs on every device, and by how much it breaks the limits there."""
        load, _ = self._load(plan)
        return Price(
            costs={name: self.costs(plan, name) for name in self._devices},
            packed_bytes=self._sizes.get(plan_key(plan), lambda: packed_bytes(self.restructured(plan), plan)),
            macs=load.macs,
            bit_ops=load.bit_ops,
        )

    def costs(self, plan: Plan, device: str) -> DeviceCosts:
        """Return what a plan costs on one device: all that it takes to know whether it keeps the limits there."""
        load, known = self._load(plan)
        if device not in known:
            target, profile = self._devices[device]
            report = estimate(load, profile)
            known[device] = DeviceCosts(
                latency_ms=report.latency_ms,
                energy_mj=report.energy_mj,
                model_bytes=report.model_bytes,
                peak_memory_bytes=report.peak_memory_bytes,
                violations=violations(report, target.limits),
                deployable=report.deployable,
                reason=report.reason,
            )
        return known[device]

    def restructured(self, plan: Plan) -> Network:
        """Return the network with a plan's operators and channels, without values."""
        return self._shapes.get(
            _shape_key(plan), lambda: restructure(self._network, plan, structure=self._structure, scores=None)
        )

    def _load(self, plan: Plan) -> tuple[Workload, dict[str, DeviceCosts]]:
        """Return the plan's workload, and its costs on the devices for which they were asked already."""
        return self._loads.get(plan_key(plan), lambda: (workload(self.restructured(plan), plan), {}))


def plan_key(plan: Plan) -> Hashable:
    """Return what is equal for equal plans; takes a small part of the time of a digest."""
    layers = tuple((name, bits.weight_bits, bits.activation_bits, bits.quantizer) for name, bits in plan.layers.items())
    return _shape_key(plan), layers, plan.pruner, plan.repair, plan.numerics


def _shape_key(plan: Plan) -> Hashable:
    operators = tuple(
        (name, row.operator, tuple(sorted(row.parameters.items()))) for name, row in plan.operators.items()
    )
    return operators, tuple(plan.keep_ratios.items())


def violations(costs: object, limits: Limits) -> dict[str, float]:
    """Return by what share each broken limit is exceeded; ``costs`` has a field for each of ``COST_OBJECTIVES``."""
    bounds = {name: getattr(limits, name) for name in COST_OBJECTIVES}
    excess = {name: getattr(costs, name) / bound - 1 for name, bound in bounds.items() if bound is not None}
    return {name: share for name, share in excess.items() if share > 0}


def _profile(profiles: Mapping[str, Profile], name: str) -> Profile:
    if name not in profiles:
        raise UnknownNameError("devices", f"must be one of {', '.join(sorted(profiles))}", name)
    return profiles[name]


class _Cache(Generic[T]):
    """Keeps the results that were asked for last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self._kept[key] = made = make()
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return made
