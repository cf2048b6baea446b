"""Device profiles: what a price depends on, as data that a user can read and edit.

A profile is (chip, clock, runtime, release): the same chip under another runtime is another profile. Every number
is ``{value, confidence, source}`` and its field names the unit.
"""

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, TypeAdapter, ValidationError, field_validator, model_validator

from hwmodels.cost_model import COST_MODELS
from hwmodels.errors import InputError
from hwmodels.numerics import NumericsPolicy
from hwmodels.quantity import Confidence, Part, Positive, Quantity

MAX_PROFILE_BYTES = 1_000_000

Bits = Annotated[int, Field(ge=1, le=64)]
Figure = Literal["latency_ms", "energy_mj", "model_bytes", "peak_memory_bytes"]
FIGURES: tuple[Figure, ...] = ("latency_ms", "energy_mj", "model_bytes", "peak_memory_bytes")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]

# The C loader reads the same safe subset ten times faster; a build of PyYAML may lack it.
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

NOT_VALIDATED = "not validated by measurement"
EXACT = "exact for weights, biases and scales"  # what is said of model_bytes, which is arithmetic


class ProfileError(InputError):
    """A profile is not valid; names the field with its full path."""

    code = "invalid_profile"


class Formats(Part):
    """Widths that the device's runtime can store, and the float width at which it runs.

    A width that is not listed is rounded up to the next one that is: it saves no byte here.
    """

    weight_bits: Annotated[tuple[Bits, ...], Field(min_length=1)]
    activation_bits: Annotated[tuple[Bits, ...], Field(min_length=1)]
    float_bits: Literal[16, 32] | None = None
    confidence: Confidence
    source: str

    @field_validator("weight_bits", "activation_bits")
    @classmethod
    def _ascending(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(widths)))


class Memory(Part):
    """Capacities, and the rule by which the runtime lays out activations.

    ``plain``: inputs and outputs of a step do not overlap, but element-wise steps on one input work in place.
    ``overlapping``: the output may overwrite the input behind a window of ``overlap_rows`` input rows.
    ``in_place_depthwise``: as ``plain``, and a depthwise step needs one channel besides its input. Capacities are what
    the network may take.
    """

    ram_kib: Positive | None = None
    flash_kib: Positive | None = None
    rule: Literal["plain", "overlapping", "in_place_depthwise"] = "plain"
    overlap_rows: Quantity | None = None
    im2col_columns: Quantity | None = None  # 16-bit columns of the largest convolution kept as scratch
    scratch_factor: Quantity | None = None  # on the activations' peak; 1 where the rule alone is right
    runtime_ram_kib: Quantity | None = None
    code_kib: Quantity | None = None


class MacEnergy(Part):
    """Energy per multiply-accumulate: the 45 nm closed forms scaled to a node, times the unit's overhead."""

    node_nm: Positive  # 5..65: where the scaling is known
    overhead_factor: Quantity | None = None

    @field_validator("node_nm")
    @classmethod
    def _is_known(cls, node: Quantity) -> Quantity:
        if not 5 <= node.value <= 65:
            raise ValueError("must be in 5..65 nm, where the scaling of energy is known")
        return node


class EnergyTerms(Part):
    """``E = MACs·e_mac + bits·e_bit + static_w·T + active_w·T``; a term that is left out is zero.

    With ``active_follows = "roof"`` the active power counts for the time at peak rate only (a busy accelerator
    draws less while it waits); with ``"time"`` for the whole latency.
    """

    static_w: Quantity | None = None
    active_w: Quantity | None = None
    active_follows: Literal["time", "roof"] = "time"
    mac: MacEnergy | None = None
    sram_pj_per_bit: Quantity | None = None
    dram_pj_per_bit: Quantity | None = None


class Validation(Part):
    """How far prices were from measurements that the fit had not seen."""

    figure: Figure
    mape_percent: Annotated[float, Field(ge=0)]
    within_10_percent: Annotated[float, Field(ge=0, le=100)]
    networks: Annotated[int, Field(ge=1)]
    spearman: Annotated[float, Field(ge=-1, le=1)] | None = None
    applies_to: Literal["float", "integer", "any"] = "any"
    method: str
    source: str

    def text(self) -> str:
        """Return the error as a user reads it."""
        kind = "" if self.applies_to == "any" else f"{self.applies_to} "
        return f"±{self.mape_percent:.0f} % ({self.method}, {self.networks} {kind}networks)"


class FusionRule(Part):
    """The runtime runs ``second`` inside the kernel of ``first`` (operator names or kernel kinds)."""

    first: str
    second: str


class Profile(Part):
    """A device as far as prices need it."""

    schema_version: Literal[1] = 1
    name: Name
    title: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Literal["cpu", "gpu", "npu", "mcu", "asic", "fpga"]
    chip: str
    clock_ghz: Positive
    runtime: str
    release: str
    family: str
    model: SerializeAsAny[Part]
    formats: Formats
    numerics: NumericsPolicy | None = None
    memory: Memory = Memory()
    energy: EnergyTerms = EnergyTerms()
    fusion: tuple[FusionRule, ...] = ()
    runtime_rules: Literal["fusion", "onnxruntime"] = "fusion"  # what the runtime makes of a graph: what is listed
    # above, or what ONNX Runtime's optimizer does on CPUs
    validation: tuple[Validation, ...] = ()
    notes: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash((self.name, self.family, self.clock_ghz.value))

    @model_validator(mode="after")
    def _model_is_the_familys(self) -> "Profile":
        if not isinstance(self.model, COST_MODELS.get(self.family).Parameters):
            raise ValueError(f"model must be the parameters of family {self.family!r}")
        return self

    @model_validator(mode="after")
    def _stores_the_widths_of_the_ends(self) -> "Profile":
        bits = None if self.numerics is None else self.numerics.end_bits
        widest = min(self.formats.weight_bits[-1], self.formats.activation_bits[-1])
        if bits is not None and bits > widest:
            raise ValueError(
                f"numerics.end_bits must be at most {widest}, the widest that formats can store, got {bits}"
            )
        return self

    def expected_error(self, figure: Figure, networks: Literal["float", "integer", "any"] = "any") -> str:
        """Return what validation found for a figure and a kind of networks, or that there is none."""
        texts = [
            entry.text()
            for entry in self.validation
            if entry.figure == figure and (networks == "any" or entry.applies_to in (networks, "any"))
        ]
        return "; ".join(texts) if texts else NOT_VALIDATED

    def to_json(self) -> dict[str, Any]:
        """Return plain data; ``load_profile`` reads it back."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_yaml(self) -> str:
        """Return the profile as a YAML file's text."""
        return yaml.safe_dump(self.to_json(), sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def check_name(name: str) -> None:
    """Refuse what cannot be a profile's name.

    Raises:
        ProfileError: It is empty, too long or has other signs than lower case, digits and hyphens.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        rule = "must be 1 to 64 lower-case letters, digits and hyphens, no hyphen first"
        raise ProfileError("name", rule, name) from None


def load_profile(source: Path | Mapping[str, Any]) -> Profile:
    """Return a checked profile from a YAML (or JSON) file or from its parsed content.

    Raises:
        ProfileError: Names the first field that is missing, negative, misspelt or of the wrong kind.
        UnknownNameError: The family is not known.
    """
    data = _read(source) if isinstance(source, Path) else dict(source)
    if not isinstance(data.get("family"), str):
        raise ProfileError("family", f"is required; one of {', '.join(COST_MODELS.names())}", data.get("family"))
    parameters = COST_MODELS.get(data["family"]).Parameters
    try:
        model = parameters.model_validate(data.get("model", {}))
    except ValidationError as error:
        raise _profile_error(error, parameters, prefix=("model",)) from None
    try:
        return Profile.model_validate({**data, "model": model})
    except ValidationError as error:
        raise _profile_error(error, Profile, prefix=()) from None


def parse_profile(text: str) -> Profile:
    """Return a checked profile from the text of a YAML or JSON file."""
    return load_profile(_parse(text))


@cache
def builtin_profiles() -> Mapping[str, Profile]:
    """Return the profiles that ship with the package, by name."""
    folder = Path(__file__).parent / "profiles"
    profiles = [load_profile(path) for path in sorted(folder.glob("*.yaml"))]
    return {profile.name: profile for profile in profiles}


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a profile; ``model`` follows from ``family``."""
    schema = Profile.model_json_schema()
    definitions = schema["$defs"]
    branches = []
    for name in COST_MODELS.names():
        part = COST_MODELS.get(name).Parameters.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(part.pop("$defs", {}))
        definitions[f"model_{name}"] = part
        branches.append(
            {
                "if": {"properties": {"family": {"const": name}}},
                "then": {"properties": {"model": {"$ref": f"#/$defs/model_{name}"}}},
            }
        )
    schema["properties"]["family"] = {"enum": list(COST_MODELS.names())}
    schema["properties"]["model"] = {"type": "object"}
    schema["allOf"] = branches
    return schema


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_PROFILE_BYTES:
        raise ProfileError("profile", f"must be at most {MAX_PROFILE_BYTES} bytes", path.stat().st_size)
    return _parse(path.read_text(encoding="utf-8"))


def _parse(text: str) -> dict[str, Any]:
    if len(text) > MAX_PROFILE_BYTES:
        raise ProfileError("profile", f"must be at most {MAX_PROFILE_BYTES} characters", len(text))
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ProfileError("profile", f"is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ProfileError("profile", "must be a mapping of fields", type(data).__name__)
    return data


def _profile_error(error: ValidationError, model: type[Part], *, prefix: tuple[str, ...]) -> ProfileError:
    # A misspelt key makes two errors, the unknown and the missing one: the unknown says what to mend.
    problems = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    first = problems[0]
    field = ".".join(str(part) for part in (*prefix, *first["loc"])) or "profile"
    if first["type"] == "extra_forbidden":
        rule = "is not a field of a profile"
        close = difflib.get_close_matches(str(first["loc"][-1]), sorted(set(_field_names(model))), n=1, cutoff=0.6)
        if close:
            rule += f"; did you mean {close[0]!r}?"
        value: object = None
    else:
        rule = first["msg"].removeprefix("Value error, ")
        value = None if first["type"] == "missing" else first["input"]
    if len(problems) > 1:
        rule += f" (and {len(problems) - 1} more)"
    return ProfileError(field, rule, value)


def _field_names(model: type[Part]) -> Iterator[str]:
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {})
