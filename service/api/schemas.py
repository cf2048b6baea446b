"""What goes over the wire in answers, and in the bodies of requests about jobs in ``job_schemas``.

Field names are DESIGN.md's words. Documents that another package defines (plans, device profiles) travel as they are.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Document = dict[str, JsonValue]
Item = TypeVar("Item")


class Answer(BaseModel):
    """What the service says; clients accept fields that they do not know."""

    model_config = ConfigDict(frozen=True)


class Page(Answer, Generic[Item]):
    """Some of a long list. Ask again with ``cursor=next_cursor`` for what follows; ``null`` at the end."""

    items: list[Item]
    next_cursor: str | None = None


class FieldError(Answer):
    """One value that breaks a rule."""

    field: str
    rule: str
    value: JsonValue = None


class Problem(Answer):
    """RFC 9457 ``application/problem+json``. ``code`` is stable; ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] = Field(default_factory=list)


class LayerRead(Answer):
    """A weighted operator of a network."""

    name: str
    op: str
    weight_shape: list[int]
    parameters: int
    macs: int
    output_shape: list[int]


class BlockRead(Answer):
    """A single-entry, single-exit piece of a network."""

    name: str
    nodes: list[str]
    residual: bool = False


class ChannelGroupRead(Answer):
    """Channels that must be pruned together, and how many there are."""

    name: str
    channels: int


class PreprocessingRead(Answer):
    """What turns stored pixels into the network's input: ``(pixel * scale - mean) / std``."""

    layout: Literal["NHWC", "NCHW"]
    scale: float
    mean: list[float]
    std: list[float]


class CostsRead(Answer):
    """What a network costs on one device; ``violations`` says by what share each broken limit is exceeded."""

    latency_ms: float
    energy_mj: float
    model_bytes: int
    peak_memory_bytes: int
    violations: dict[str, float] = Field(default_factory=dict)
    deployable: bool = True
    reason: str | None = None


class ModelSummary(Answer):
    """A model in a list."""

    id: str
    name: str
    format: str
    task: str
    input_shape: list[int]
    classes: int
    parameters: int
    macs: int
    float_bytes: int
    created_at: datetime


class ModelRead(ModelSummary):
    """A model with its parts, and what the float network costs on each known device."""

    preprocessing: PreprocessingRead
    layers: list[LayerRead]
    blocks: list[BlockRead]
    groups: list[ChannelGroupRead]
    unprunable: dict[str, str]
    baseline: dict[str, CostsRead]


class DatasetRead(Answer):
    """A data set. ``shape`` is that of one stored image, ``classes`` one more than the largest label."""

    id: str
    name: str
    images: int
    shape: list[int]
    dtype: str
    classes: int
    created_at: datetime


class DeviceSummary(Answer):
    """A device profile in a list."""

    name: str
    title: str
    custom: bool


class RoofRead(Answer):
    """A line of a roofline plot: the rate that a kernel of so many MACs per byte can reach."""

    label: str
    peak_gmac_per_s: float
    gb_per_s: float
    ridge_macs_per_byte: float
    macs_per_byte: list[float]
    gmac_per_s: list[float]


class ValidationRead(Answer):
    """How far prices of a figure were from measurements, for networks of one arithmetic."""

    figure: str
    networks_of: str
    expected_error: str
    mape_percent: float | None
    within_10_percent: float | None
    spearman: float | None
    networks: int
    method: str
    source: str


class DeviceRead(DeviceSummary):
    """A device profile as it is, its roofs, and what measurements say of its prices."""

    profile: Document
    roofs: list[RoofRead]
    validation: list[ValidationRead]


class KernelRow(Answer):
    """One kernel of an estimate."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    kind: str
    latency_ms: float
    energy_mj: float
    weight_bytes: int
    bound: str
    macs: int


class EstimateRead(CostsRead):
    """The price of a network on one device, per kernel. ``fits`` is null where no limits were given."""

    device: str
    expected_error: JsonValue = None
    fits: bool | None = None
    macs: int
    bit_ops: int
    layers: list[KernelRow]


class EstimatesRead(Answer):
    """Prices per device, and the reachable range of each limit if a fit check was asked for."""

    model_id: str
    estimates: list[EstimateRead]
    ranges: dict[str, dict[str, dict[str, float]]] | None = None


class Progress(Answer):
    """How far a job is, in trials, or before its search in trained replacements; ``seconds_left`` is an estimate."""

    done: int
    total: int | None = None
    seconds_left: float | None = None
    unit: str = "trials"


class TrialCounts(Answer):
    """Trials of a job by how they ended."""

    done: int = 0
    infeasible: int = 0
    stopped: int = 0
    failed: int = 0
    running: int = 0


class JobDevice(Answer):
    """A device of a job with the limits that hold on it."""

    name: str
    limits: dict[str, float | int | None]


class JobSummary(Answer):
    """A job in a list."""

    id: str
    name: str
    status: str
    reason: str | None
    model_id: str
    dataset_id: str | None
    devices: list[JobDevice]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: Progress | None
    trial_counts: TrialCounts


class Baseline(Answer):
    """The float network's own figures, on the same search images as the trials."""

    accuracy: float | None
    correct: int | None = None
    images: int | None
    packed_bytes: int | None = None
    macs: int | None = None
    costs: dict[str, CostsRead]


class JobRead(JobSummary):
    """A job. ``requested`` is what was asked of it and is not yet honoured (``cancel``, ``pause``).

    ``signal`` is what candidates are ranked by, ``accuracy`` or ``divergence`` from the float network; ``warning`` says
    why it is the latter.
    """

    requested: str | None
    score: str = "accuracy"
    """What figures called accuracy are: ``agreement`` with the float network where there is no data."""
    objectives: list[str]
    space: Document
    keep: Document
    budget: Document
    strategy: str
    seed: int
    baseline: Baseline | None
    split: Mapping[str, int] | None
    variables: Mapping[str, Sequence[JsonValue]] | None
    ranges: dict[str, dict[str, dict[str, float]]]
    resolvable_drop: float | None = None
    signal: str | None = None
    warning: str | None = None
    """The least drop of accuracy that the search images can tell from chance."""


class StoredFile(Answer):
    """An artefact: its sha256 and its length."""

    digest: str
    bytes: int


class CheckpointRead(Answer):
    """The artefacts of a trial, and what measuring them again after reloading said."""

    verified: bool
    verification: Document
    files: dict[str, StoredFile]


class TrialRead(Answer):
    """A trial. ``feasible`` says per device whether every limit holds there.

    ``relaxed_images`` is what relaxed losses took that the strategy asked for before it proposed the trial, in images
    that the whole float network runs forward.
    """

    id: str
    job_id: str
    number: int
    origin: str
    label: str
    status: str
    feasible: dict[str, bool]
    accuracy: float | None
    correct: int | None
    images: int | None
    relaxed_images: float = 0.0
    packed_bytes: int | None
    macs: int | None
    bit_ops: int | None
    costs: dict[str, CostsRead]
    plan: dict[str, Any]
    seconds: dict[str, float]
    error: str | None
    checkpoint: CheckpointRead | None
    created_at: datetime
    ended_at: datetime | None


class TrialDetail(TrialRead):
    """A trial with its price per kernel, per device."""

    layers: dict[str, list[KernelRow]]


class ChoiceEffectRead(Answer):
    """What one choice does when every other is at its dearest.

    ``kind`` is ``weights``, ``activations``, ``channels``, ``operator``, ``quantizer`` or ``pruner``, ``name`` the
    layer, channel group or block. ``divergence`` is from the float network's outputs, ``loss`` the cross-entropy.
    """

    kind: str
    name: str
    choice: JsonValue
    divergence: float
    loss: float


class SensitivityRead(Answer):
    """What single choices do to a network, on its calibration images, in nats.

    ``base_divergence`` and ``base_loss`` are those of the network in which everything is at its dearest.
    """

    base_divergence: float | None
    base_loss: float | None
    choices: list[ChoiceEffectRead]


class FloatPoint(Answer):
    """The float network as a point beside the front."""

    accuracy: float | None
    packed_bytes: int | None
    costs: CostsRead


class FrontRead(Answer):
    """The non-dominated feasible trials on one device along two axes.

    ``x`` is a cost, the smaller the better; ``y`` is the accuracy. ``reference`` is the point from which the
    hypervolume is measured. ``baselines`` are there whether they are on the front or not.
    """

    device: str
    x: str
    y: str
    points: list[TrialRead]
    baselines: list[TrialRead]
    float_: FloatPoint | None = Field(alias="float", serialization_alias="float")
    hypervolume: float
    reference: dict[str, float]
    feasible_count: int

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Health(Answer):
    """Whether the service works; ``checks`` names what it leans on."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = Field(default_factory=dict)
