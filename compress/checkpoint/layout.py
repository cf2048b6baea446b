"""What stands where in ``model.safetensors``, and how long the file is: arithmetic on shapes alone.

The file holds one uint8 tensor ``codes`` with the packed codes of every quantized weight, one float32 tensor
``parameters`` with their scales, and one tensor per data type with everything else (biases, float weights, constants).
Weights stand in the order of their names; each one's codes start on a whole byte.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch

from compress.network.graph import Network
from compress.plan import Numerics, Plan
from compress.quantizers import CodeLayout
from compress.weights import WeightFormat, assign_formats
from hwmodels.errors import InputError

MANIFEST_VERSION = 1

_DTYPES = {  # by the names of the safetensors format, widest first: so every tensor is aligned
    "float64": ("F64", torch.float64),
    "int64": ("I64", torch.int64),
    "float32": ("F32", torch.float32),
    "int32": ("I32", torch.int32),
    "float16": ("F16", torch.float16),
    "bfloat16": ("BF16", torch.bfloat16),
    "uint8": ("U8", torch.uint8),
    "int8": ("I8", torch.int8),
    "bool": ("BOOL", torch.bool),
}
_NAME_OF_DTYPE = {dtype: name for name, (_, dtype) in _DTYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedTensor:
    """A quantized weight: its name, its shape in the operator's own layout, its format."""

    name: str
    shape: tuple[int, ...]
    format: WeightFormat

    def code_layout(self, numerics: Numerics) -> CodeLayout:
        """Return how much is stored of it."""
        return self.format.layout(self.shape, numerics)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainTensor:
    """A tensor that is stored as it is."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Every tensor of the file, sorted by name within each part."""

    coded: tuple[CodedTensor, ...]
    plain: tuple[PlainTensor, ...]

    def lengths(self, numerics: Numerics) -> dict[str, int]:
        """Return the number of values of each tensor in the file, in the file's order; empty ones are left out."""
        layouts = [tensor.code_layout(numerics) for tensor in self.coded]
        lengths = dict.fromkeys((*_DTYPES, "parameters", "codes"), 0)
        lengths["parameters"] = sum(layout.parameter_count for layout in layouts)
        lengths["codes"] = sum(layout.code_bytes for layout in layouts)
        for tensor in self.plain:
            lengths[tensor.dtype] += prod(tensor.shape)
        order = sorted(lengths, key=lambda name: -torch_dtype(name).itemsize)
        return {name: lengths[name] for name in order if lengths[name]}

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Layout":
        """Rebuild a layout from ``to_json``'s data, which may come from anybody.

        Raises:
            InputError: A shape or type is none; or a key is missing or unknown.
        """
        try:
            layout = cls(
                coded=tuple(
                    CodedTensor(name=row["name"], shape=_shape(row["shape"]), format=WeightFormat(**row["format"]))
                    for row in data["coded"]
                ),
                plain=tuple(
                    PlainTensor(name=row["name"], shape=_shape(row["shape"]), dtype=row["dtype"])
                    for row in data["plain"]
                ),
            )
        except (KeyError, TypeError) as error:
            raise InputError("manifest.layout", "must have the keys of this version", str(error)) from error
        names = [*(coded.name for coded in layout.coded), *(plain.name for plain in layout.plain)]
        if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise InputError("manifest.layout", "names must be text, each once")
        for plain in layout.plain:
            if not isinstance(plain.dtype, str) or plain.dtype not in _DTYPES:
                raise InputError("manifest.layout", f"dtype must be one of {', '.join(_DTYPES)}", plain.dtype)
        for coded in layout.coded:
            if not isinstance(coded.format.quantizer, str) or type(coded.format.bits) is not int:
                raise InputError("manifest.layout", "a format must name a quantizer and its bits", coded.format)
            if type(coded.format.axis) is not int or coded.format.axis not in range(len(coded.shape)):
                raise InputError("manifest.layout", "axis must be a dimension of the weight", coded.format.axis)
        return layout


def layout_of(network: Network, formats: Mapping[str, WeightFormat]) -> Layout:
    """Return the layout of a final network's file."""
    return Layout(
        coded=tuple(
            CodedTensor(name=name, shape=tuple(network.tensors[name].shape), format=formats[name])
            for name in sorted(formats)
        ),
        plain=tuple(
            PlainTensor(name=name, shape=tuple(tensor.shape), dtype=_dtype_name(name, tensor.dtype))
            for name, tensor in sorted(network.tensors.items())
            if name not in formats
        ),
    )


def packed_bytes(network: Network, plan: Plan) -> int:
    """Return the length of the ``model.safetensors`` that ``plan`` leads to.

    ``network`` is the restructured one and may be on the ``meta`` device: candidates are priced before they are built.
    """
    assignment = assign_formats(network, plan)
    lengths = layout_of(assignment.network, assignment.formats).lengths(plan.numerics)
    return len(header(lengths)) + sum(count * torch_dtype(name).itemsize for name, count in lengths.items())


def header(lengths: Mapping[str, int]) -> bytes:
    """Return the start of the file: the header's length and the header, padded to a multiple of eight bytes."""
    entries: dict[str, Any] = {"__metadata__": {"tightfit": str(MANIFEST_VERSION)}}
    offset = 0
    for name, count in lengths.items():
        end = offset + count * torch_dtype(name).itemsize
        entries[name] = {"dtype": _DTYPES[_stored_as(name)][0], "shape": [count], "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def torch_dtype(name: str) -> torch.dtype:
    """Return the type of the values of a tensor in the file."""
    return _DTYPES[_stored_as(name)][1]


def _stored_as(name: str) -> str:
    return {"codes": "uint8", "parameters": "float32"}.get(name, name)


def _dtype_name(name: str, dtype: torch.dtype) -> str:
    if dtype not in _NAME_OF_DTYPE:
        raise InputError(f"tensors.{name}", f"dtype must be one of {', '.join(_DTYPES)}", str(dtype))
    return _NAME_OF_DTYPE[dtype]


def _shape(value: Any) -> tuple[int, ...]:
    if (
        not isinstance(value, list | tuple)
        or len(value) > 8
        or not all(type(size) is int and 0 <= size < 2**31 for size in value)
    ):
        raise InputError("manifest.layout", "a shape must be at most 8 sizes below 2**31", value)
    return tuple(value)
