"""What every weight quantizer promises; ``tests/contracts/test_quantizers.py`` holds each registered one to it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from compress.plan import Numerics
from compress.registry import Registry
from hwmodels.errors import InputError
from hwmodels.workload import Arithmetic

PARAMETER_BITS = 32  # scales and their like are stored as float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """What is stored of a quantized tensor.

    ``values`` are unsigned codes below ``2**bits`` (uint8, flat, in the order of the quantizer's choice);
    ``parameters`` are float32. ``shape`` is that of the weight, channels first.
    """

    values: Tensor
    parameters: Mapping[str, Tensor]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeLayout:
    """How much is stored of a tensor: known from its shape alone."""

    codes: int
    bits: int
    parameters: Mapping[str, tuple[int, ...]]

    @property
    def storage_bits(self) -> int:
        """Bits of all codes and parameters, without padding to whole bytes."""
        return self.codes * self.bits + PARAMETER_BITS * self.parameter_count

    @property
    def code_bytes(self) -> int:
        """Bytes of the packed codes; the last byte is padded with zero bits."""
        return (self.codes * self.bits + 7) // 8

    @property
    def parameter_count(self) -> int:
        """Number of float32 parameters."""
        return sum(prod(shape) for shape in self.parameters.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerWeight:
    """A weight as ``values * scale``: int8 in the weight's shape, and one positive scale per channel (or one)."""

    values: Tensor
    scale: Tensor


class Quantizer(nn.Module, ABC):
    """Maps a weight to few levels, and those to codes of ``bits`` bits.

    A weight is ``(channels, ...)``: output channels first. ``fit`` chooses the parameters from a weight; with fixed
    parameters ``forward``, ``encode`` and ``decode`` then agree: ``decode(encode(w)) == forward(w)``. ``decode`` needs
    the codes alone, never ``fit``. ``forward`` passes a finite gradient to the weight.

    Args:
        bits: Width of one code; one of ``bit_widths``.
        numerics: The plan's; a quantizer reads of it what applies (granularity, range, scale format).

    Raises:
        InputError: ``bits`` is not among ``bit_widths``.
    """

    arithmetic: ClassVar[Arithmetic]
    """What a device multiplies by such weights with."""
    bit_widths: ClassVar[tuple[int, ...]]
    idempotent: ClassVar[bool]
    """Whether ``forward(forward(w)) == forward(w)`` with the same parameters."""
    separable: bool = False
    """Whether, once fitted, every value is rounded by itself, and ``(channels, 1)`` is a weight like any other."""
    layer_ops: ClassVar[frozenset[str]] = frozenset({"conv", "conv_transpose", "linear"})
    """Operators whose weights it may quantize."""

    def __init__(self, bits: int, numerics: Numerics | None = None) -> None:
        super().__init__()
        if bits not in self.bit_widths:
            raise InputError("bits", f"must be one of {', '.join(map(str, self.bit_widths))}", bits)
        self.bits = bits
        self.numerics = numerics or Numerics()

    @abstractmethod
    def fit(self, weight: Tensor) -> None:
        """Choose the parameters for ``weight``."""

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """Return the values that ``weight`` becomes: its shape, dtype and unit."""

    @abstractmethod
    def encode(self, weight: Tensor) -> Codes:
        """Return what is stored of ``weight``."""

    @abstractmethod
    def decode(self, codes: Codes) -> Tensor:
        """Return the float32 weight that ``codes`` stand for."""

    @abstractmethod
    def layout(self, shape: tuple[int, ...]) -> CodeLayout:
        """Return how much is stored of a weight of this shape."""

    def integers(self, codes: Codes) -> IntegerWeight | None:
        """Return the weight on an integer grid.

        ``None`` where ``arithmetic`` is not integer, or where a channel has more than one scale.
        """
        return None

    def storage_bits(self, shape: tuple[int, ...]) -> int:
        """Return the exact number of bits stored of a weight of this shape."""
        return self.layout(shape).storage_bits


QUANTIZERS: Registry[type[Quantizer]] = Registry("quantizer", group="tightfit.quantizers")
