"""What the cost of a network depends on: kernels and the tensors between them.

A workload says nothing of weights' values. It is built from any network (``compress.network.describe``) or
from a layer table, and is all that a cost model sees. One multiply-accumulate counts once. Every figure
is for a batch of one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1


class KernelKind(StrEnum):
    """Classes of kernels that devices run at clearly different efficiency."""

    CONV = "conv"  # dense, kernel larger than one pixel; grouped too
    POINTWISE = "pointwise"  # dense 1x1 convolution
    DEPTHWISE = "depthwise"  # one input channel per group
    LINEAR = "linear"  # fully connected
    MATMUL = "matmul"  # both operands are activations
    POOL = "pool"
    ELEMENTWISE = "elementwise"
    NORMALISATION = "normalisation"  # what was not folded away
    DATA_MOVEMENT = "data_movement"  # reshape, transpose, concat, slice, pad, resize


class Arithmetic(StrEnum):
    """What the multiplier of a device does."""

    FLOAT = "float"
    INTEGER = "integer"
    BINARY = "binary"  # xnor and popcount
    SHIFT = "shift"
    ADD = "add"
    WINOGRAD = "winograd"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """An activation tensor: its shape without the batch dimension, and how wide one value is stored."""

    shape: tuple[int, ...]
    bits: int

    @property
    def elements(self) -> int:
        """Number of values of one image."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """Bytes of one image's values, tightly packed, rounded up."""
        return (self.elements * self.bits + 7) // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel as the device launches it; element-wise followers may be fused into it.

    ``in_channels``/``out_channels`` are the channels of the whole operator, all groups together (features for
    linear kernels). ``kernel`` and ``stride`` are (height, width). ``weights`` and ``biases`` count values.
    ``macs`` counts multiply-accumulates of one image; element-wise work is not in it.
    ``weight_bits`` and ``activation_bits`` are the operand widths of the arithmetic: 32 for float.
    ``inputs`` and ``outputs`` name tensors of the workload; constants are not among them.
    """

    name: str
    kind: KernelKind
    op: str  # the operator's own name, "conv", "add", …
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    in_channels: int = 0
    out_channels: int = 0
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1
    macs: int = 0
    weights: int = 0
    biases: int = 0
    weight_bits: int = 32
    activation_bits: int = 32
    arithmetic: Arithmetic = Arithmetic.FLOAT
    fused: tuple[str, ...] = ()  # names of the nodes merged into this kernel
    followers: tuple[str, ...] = ()  # operators of those of them that work value by value on its result, in order
    sparsity: float = 0.0  # share of weights that are zero, unstructured


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Kernels in execution order, and every activation tensor that one of them reads or writes.

    ``numerics`` says how integers stand for numbers (``hwmodels.numerics.ORDER``), as far as that is known.
    """

    kernels: tuple[Kernel, ...]
    tensors: Mapping[str, TensorInfo]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numerics: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(kernel.macs for kernel in self.kernels)

    @property
    def bit_ops(self) -> int:
        """Sum over kernels of MACs × weight bits × activation bits (Yang and Jin 2021, "BOPs")."""
        return sum(k.macs * k.weight_bits * k.activation_bits for k in self.kernels)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Workload":
        """Rebuild a workload from ``to_json``'s data."""
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"workload schema_version must be {SCHEMA_VERSION}, got {data['schema_version']}")
        return cls(
            kernels=tuple(_kernel(row) for row in data["kernels"]),
            tensors={
                name: TensorInfo(shape=tuple(row["shape"]), bits=row["bits"]) for name, row in data["tensors"].items()
            },
            inputs=tuple(data["inputs"]),
            outputs=tuple(data["outputs"]),
            numerics=data.get("numerics", {}),  # not told by what was stored before there were any
        )


def _kernel(row: Mapping[str, Any]) -> Kernel:
    tuples = {key: tuple(row[key]) for key in ("inputs", "outputs", "kernel", "stride", "fused")}
    tuples["followers"] = tuple(row.get("followers", ()))  # not told by what was stored before there were any
    return Kernel(**{**row, **tuples, "kind": KernelKind(row["kind"]), "arithmetic": Arithmetic(row["arithmetic"])})
