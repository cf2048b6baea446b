"""Bodies of requests: jobs, estimates, limits. Checked once, here, and turned into ``workers.spec``."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from workers.spec import (
    COST_OBJECTIVES,
    IMITATION_STEPS,
    Budget,
    DeviceTarget,
    FineTuneSpec,
    JobSpec,
    KeepSpec,
    Limits,
    SpaceSpec,
    SplitSpec,
)

Name = Annotated[str, Field(min_length=1, max_length=200)]
Bits = Annotated[int, Field(ge=1, le=8)]
Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
PositiveNumber = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
PositiveCount = Annotated[int, Field(gt=0, le=2**53)]


class Body(BaseModel):
    """What a client says: an unknown field is a mistake worth telling."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitsBody(Body):
    """Upper bounds; what is left out is unbounded."""

    latency_ms: PositiveNumber | None = None
    energy_mj: PositiveNumber | None = None
    model_bytes: PositiveCount | None = None
    peak_memory_bytes: PositiveCount | None = None
    accuracy_drop: Annotated[float, Field(ge=0.0, le=1.0)] | None = None

    def to_limits(self) -> Limits:
        """Return the same as plain data."""
        return Limits(**self.model_dump())


class DeviceBody(Body):
    """A device with limits of its own."""

    name: Name
    limits: LimitsBody = LimitsBody()


class SpaceBody(Body):
    """Which choices the search has."""

    weight_bits: Annotated[tuple[Bits, ...], Field(min_length=1)] = SpaceSpec().weight_bits
    activation_bits: Annotated[tuple[Bits, ...], Field(min_length=1)] = SpaceSpec().activation_bits
    quantizers: Annotated[tuple[Name, ...], Field(min_length=1)] = SpaceSpec().quantizers
    pruners: Annotated[tuple[Name, ...], Field(min_length=1)] = SpaceSpec().pruners
    keep_ratios: Annotated[tuple[Ratio, ...], Field(min_length=1)] = SpaceSpec().keep_ratios
    operators: Annotated[tuple[Name, ...], Field(min_length=1)] = SpaceSpec().operators

    @field_validator("weight_bits", "activation_bits", "keep_ratios", "quantizers", "pruners", "operators")
    @classmethod
    def _each_once(cls, choices: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(choices)) != len(choices):
            raise ValueError("every choice may be named once")
        return choices


class KeepBody(Body):
    """What a layer keeps."""

    weight_bits: Bits | None = None
    prune: bool = True


class BudgetBody(Body):
    """When the search stops: whichever comes first.

    ``patience``: after so many trials in a row in which no device's hypervolume has grown by a thousandth.
    """

    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = Budget().trials
    minutes: Annotated[float, Field(gt=0.0, le=60 * 24 * 30)] | None = None
    patience: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.trials is None and self.minutes is None and self.patience is None:
            raise ValueError("give trials, minutes or patience")
        return self


class SplitBody(Body):
    """Shares of the data; what calibration and search leave is the test split."""

    calibration: Annotated[float, Field(gt=0.0, lt=1.0)] = SplitSpec().calibration
    search: Annotated[float, Field(gt=0.0, lt=1.0)] = SplitSpec().search

    @model_validator(mode="after")
    def _leaves_a_test_split(self) -> Self:
        if self.calibration + self.search >= 1:
            raise ValueError("calibration and search together must leave something of 1 for the test split")
        return self


class FineTuneBody(Body):
    """So many runs by Ray Tune per finalist, each of at most so many epochs; ``augment`` moves and mirrors images."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    trials: Annotated[int, Field(ge=1, le=100)] = 4
    method: Literal["lsq", "lsq_plus", "pact", "dorefa", "straight_through"] = "lsq"
    augment: bool = False


JOB_EXAMPLE: dict[str, Any] = {
    "name": "digits on a Pi",
    "model_id": "018f2b1c7a4e0123456789abcdef0123",
    "dataset_id": "018f2b1c7a4f0123456789abcdef0123",
    "devices": ["raspberry-pi-4", {"name": "stm32h743", "limits": {"latency_ms": 12.0}}],
    "limits": {"model_bytes": 60000, "accuracy_drop": 0.01},
    "objectives": ["accuracy", "latency_ms", "model_bytes"],
    "budget": {"trials": 200, "minutes": 30},
    "seed": 0,
}

Objective = Literal["accuracy", "latency_ms", "energy_mj", "model_bytes", "peak_memory_bytes"]


class JobCreate(Body):
    """A job to queue."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    name: Name = "job"
    model_id: Annotated[str, Field(min_length=1, max_length=64)]
    dataset_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    devices: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)] | DeviceBody, ...], Field(min_length=1, max_length=16)
    ]
    limits: LimitsBody = LimitsBody()
    objectives: Annotated[tuple[Objective, ...], Field(min_length=2)] = ("accuracy", "latency_ms", "model_bytes")
    space: SpaceBody = SpaceBody()
    keep: dict[str, KeepBody] = Field(default_factory=dict, max_length=10_000)
    budget: BudgetBody = BudgetBody()
    split: SplitBody = SplitBody()
    strategy: Name = "auto"
    early_stopping: bool = True
    """Spare candidates that cannot join a front some of the search images."""
    imitation_steps: Annotated[int, Field(ge=0, le=10_000)] = IMITATION_STEPS
    """How long each replacement of a block is trained to do what the block does, before the search; 0 is not at all."""
    finetune: FineTuneBody | None = None
    """Fine-tune finalists once they are packed; none are unless asked for."""
    numerics: dict[Name, int | Name] = Field(default_factory=dict, max_length=30)
    """Fields of a plan's numerics; what is left out follows from the devices' profiles."""
    data_free: bool = False
    """Whether there is no data set: images are made from the network, and the score is agreement with it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @field_validator("objectives")
    @classmethod
    def _accuracy_first(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if objectives[0] != "accuracy" or len(set(objectives)) != len(objectives):
            raise ValueError(f"accuracy comes first, then some of {', '.join(COST_OBJECTIVES)}, each once")
        return objectives

    @field_validator("devices")
    @classmethod
    def _each_device_once(cls, devices: tuple[str | DeviceBody, ...]) -> tuple[str | DeviceBody, ...]:
        names = [device if isinstance(device, str) else device.name for device in devices]
        if len(set(names)) != len(names):
            raise ValueError("every device may be named once")
        return devices

    def to_spec(self) -> JobSpec:
        """Return the job as the workers read it, with the general limits filled into each device's own."""
        general = self.limits.to_limits()
        return JobSpec(
            name=self.name,
            devices=tuple(
                DeviceTarget(name=device, limits=general)
                if isinstance(device, str)
                else DeviceTarget(name=device.name, limits=device.limits.to_limits().over(general))
                for device in self.devices
            ),
            objectives=self.objectives,
            space=SpaceSpec(**self.space.model_dump()),
            keep={layer: KeepSpec(**row.model_dump()) for layer, row in self.keep.items()},
            budget=Budget(**self.budget.model_dump()),
            split=SplitSpec(**self.split.model_dump()),
            strategy=self.strategy,
            early_stopping=self.early_stopping,
            imitation_steps=self.imitation_steps,
            finetune=None if self.finetune is None else FineTuneSpec(**self.finetune.model_dump()),
            seed=self.seed,
            numerics=self.numerics,
            data_free=self.data_free,
        )


class EstimateCreate(Body):
    """What to price: a model, with a plan if one is given, on devices, against limits if some are given."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model_id": JOB_EXAMPLE["model_id"], "devices": ["raspberry-pi-4"]}]}
    )

    model_id: Annotated[str, Field(min_length=1, max_length=64)]
    devices: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(min_length=1, max_length=16)
    ]
    plan: dict[str, Any] | None = None
    limits: LimitsBody = LimitsBody()
    fit_check: bool = False
    """Also say the smallest, middle and largest reachable value of each limit on each device."""

    @field_validator("plan")
    @classmethod
    def _is_json(cls, plan: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            json.dumps(plan, allow_nan=False)  # Python reads NaN, Infinity and 1e400, which are no JSON numbers
        except (ValueError, RecursionError):
            raise ValueError("must hold finite numbers, and not be nested deeply") from None
        return plan
