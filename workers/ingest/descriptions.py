"""What the service believes of a reply. It is checked on arrival: it comes from a process that read foreign bytes."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.ingest.protocol import IngestError

Name = Annotated[str, Field(min_length=1, max_length=1000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Shape = Annotated[list[Count], Field(max_length=16)]


class Part(BaseModel):
    """Strict about what is there and what is not."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerDescription(Part):
    """A weighted operator."""

    name: Name
    op: Name
    weight_shape: Shape
    parameters: Count
    macs: Count
    output_shape: Shape


class BlockDescription(Part):
    """A block of the graph."""

    name: Name
    nodes: Annotated[list[Name], Field(max_length=100_000)]
    residual: bool


class GroupDescription(Part):
    """A channel group."""

    name: Name
    channels: Count
    layers: Annotated[list[Name], Field(max_length=100_000)]


class ModelDescription(Part):
    """What the service keeps of a model in its row.

    ``tensors`` are the shapes of its weights; ``workload`` is ``hwmodels.workload.Workload`` of the float network.
    """

    input_name: Name
    input_shape: Shape
    classes: Annotated[int, Field(ge=1, le=2**31)]
    parameters: Count
    macs: Count
    float_bytes: Count
    layers: Annotated[list[LayerDescription], Field(min_length=1, max_length=100_000)]
    blocks: Annotated[list[BlockDescription], Field(max_length=100_000)]
    groups: Annotated[list[GroupDescription], Field(max_length=100_000)]
    unprunable: dict[Name, str]
    tensors: Annotated[dict[Name, Shape], Field(max_length=1_000_000)]
    workload: dict[str, Any]


class DatasetDescription(Part):
    """What the service keeps of a data set in its row."""

    images: Annotated[int, Field(ge=1, le=2**40)]
    shape: Annotated[list[Annotated[int, Field(ge=1, le=2**31)]], Field(min_length=1, max_length=3)]
    dtype: Annotated[str, Field(pattern=r"^(uint8|int32|float32)$")]
    classes: Annotated[int, Field(ge=1, le=2**31)]


def checked_model(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's description, or refuse one that is not of the agreed form."""
    return _checked(ModelDescription, result)


def checked_dataset(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data set's description, or refuse one that is not of the agreed form."""
    return _checked(DatasetDescription, result)


def _checked(kind: type[Part], result: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return kind.model_validate(result).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise IngestError("file", f"ingestion gave an unusable {field}: {first['msg']}", code="ingest_failed") from None
