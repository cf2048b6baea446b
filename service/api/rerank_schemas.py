"""Bodies and answers of re-ranking."""

from typing import Annotated

from pydantic import Field

from service.api.job_schemas import Body, DeviceBody, LimitsBody, Name
from service.api.schemas import Answer, CostsRead
from workers.spec import DeviceTarget


class RerankBody(Body):
    """Devices to price a job's trials on; ``limits`` hold on all of them, a device may carry its own."""

    devices: Annotated[tuple[Name | DeviceBody, ...], Field(min_length=1, max_length=100)]
    limits: LimitsBody = LimitsBody()
    x: Annotated[str | None, Field(max_length=50)] = None

    def to_targets(self) -> tuple[DeviceTarget, ...]:
        """Return the devices with the limits that hold there."""
        rows = [DeviceBody(name=row) if isinstance(row, str) else row for row in self.devices]
        general = self.limits.to_limits()
        return tuple(DeviceTarget(name=row.name, limits=row.limits.to_limits().over(general)) for row in rows)


class RerankedTrial(Answer):
    """A trial with its price on another device or under other limits."""

    id: str
    number: int
    label: str
    accuracy: float
    packed_bytes: int
    verified: bool
    costs: CostsRead


class RerankedFrontRead(Answer):
    """The front of a job's trials on one device.

    ``best`` costs least of the trials that keep all limits, the drop of accuracy included. ``refusals`` counts the
    trials that the device cannot run as they are, by reason.
    """

    device: str
    x: str
    points: list[RerankedTrial]
    best: RerankedTrial | None
    trial_count: int
    feasible_count: int
    refusals: dict[str, int]
    hypervolume: float
    reference: dict[str, float]


class RerankRead(Answer):
    """Fronts by device, in the order asked for."""

    job_id: str
    fronts: list[RerankedFrontRead]
