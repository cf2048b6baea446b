"""The plan: the complete, serialisable recipe of one compressed network.

A plan is applied in one fixed order: operators → channels → fold → bits (see ``compress.apply``). It names things of
the float network as the user sees them: blocks, channel groups and layers. What a plan does not mention keeps its
original operator, all its channels, and stays float.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

SCHEMA_VERSION = 1

Parameter = bool | int | float | str

Row = TypeVar("Row", "LayerBits", "Numerics")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorChoice:
    """What stands in a block's place: a registered operator and its parameters."""

    operator: str = "original"
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBits:
    """Width of a layer's weights and of the activations that it reads, in bits."""

    weight_bits: int
    activation_bits: int
    quantizer: str = "uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """How the numbers of a plan are represented; accuracy belongs to a plan because this is part of it.

    ``weight_granularity`` is one scale per ``channel``, per ``tensor``, or per ``group`` of 32 weights of a channel.
    ``weight_symmetry`` is ``symmetric`` (as many levels below zero as above) or ``asymmetric`` (each channel's levels
    lie where its weights do). ``weight_rounding`` is ``nearest``, ``compensated`` (later weights make up for the error
    of earlier ones, ``compress.rounding``) or ``adaround`` (up or down is learned, ``compress.adaround``).
    ``equalisation`` is ``none`` or ``cross_layer`` (``compress.equalisation``).

    ``activation_type`` is ``unsigned`` (asymmetric, zero point) or ``signed`` (symmetric) 8-bit. ``activation_source``
    is where ranges come from: ``deployed``, what the compressed network itself computes on the calibration images, or
    ``float``, histograms of the float network that are stored once for all plans. ``other_bits`` is the width of
    activations that no quantized layer reads (the operands of a residual addition). ``operand_scales`` is ``separate``
    (each operand of an addition has its own scale) or ``matched`` (one for both, ``compress.operands``).
    ``function_inputs`` is ``fused`` (hard-swish and its like read a layer's accumulators) or ``stored`` (they read
    stored values).
    """

    weight_granularity: str = "channel"
    weight_symmetry: str = "symmetric"
    weight_range: str = "mse"
    weight_rounding: str = "nearest"
    equalisation: str = "none"
    activation_type: str = "unsigned"
    activation_range: str = "mse"
    activation_source: str = "deployed"
    scale_format: str = "float32"
    other_bits: int = 8
    operand_scales: str = "separate"
    function_inputs: str = "fused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Operator per block, keep-ratio per channel group, bits per layer.

    An operator that puts several layers in the place of one names them ``<layer>/<role>`` (``low_rank``:
    ``<layer>/reduce`` and ``<layer>/expand``). They may have bits of their own under that name and otherwise take those
    of ``<layer>``; ``bits`` looks them up.
    """

    operators: Mapping[str, OperatorChoice] = field(default_factory=dict)
    keep_ratios: Mapping[str, float] = field(default_factory=dict)
    layers: Mapping[str, LayerBits] = field(default_factory=dict)
    pruner: str = "l2"
    repair: str = "channel_statistics"
    numerics: Numerics = field(default_factory=Numerics)
    schema_version: int = SCHEMA_VERSION

    def bits(self, layer: str) -> LayerBits | None:
        """Return the bits of a layer of the restructured network; ``None`` if it stays float."""
        return self.layers.get(layer) or self.layers.get(layer.rpartition("/")[0])

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Plan":
        """Rebuild a plan from ``to_json``'s data, which may come from anybody.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: It is not a plan of this version, or a value of it is of
                another type. Whether names and widths exist is for those to say who apply the plan.
        """
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"plan schema_version must be {SCHEMA_VERSION}, got {data['schema_version']}")
        return cls(
            operators={name: _operator(row, f"operators.{name}") for name, row in data["operators"].items()},
            keep_ratios={
                name: _typed(ratio, (int, float), "keep_ratios") for name, ratio in data["keep_ratios"].items()
            },
            layers={name: _row(LayerBits(**row), f"layers.{name}") for name, row in data["layers"].items()},
            pruner=_typed(data["pruner"], (str,), "pruner"),
            repair=_typed(data["repair"], (str,), "repair"),
            numerics=_row(Numerics(**data["numerics"]), "numerics"),
        )

    def digest(self) -> str:
        """Return the sha256 of the plan's canonical JSON: equal plans, equal digests."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _row(row: Row, field: str) -> Row:
    """Return ``row``, a dataclass of plain values, once each is of its declared type."""
    for item in fields(row):
        _typed(getattr(row, item.name), (item.type,), f"{field}.{item.name}")
    return row


def _operator(data: Mapping[str, Any], field: str) -> OperatorChoice:
    choice = OperatorChoice(**data)
    _typed(choice.operator, (str,), f"{field}.operator")
    for name, value in _typed(choice.parameters, (dict,), f"{field}.parameters").items():
        _typed(value, (bool, int, float, str), f"{field}.parameters.{name}")
    return choice


def _typed(value: Any, types: tuple[Any, ...], field: str) -> Any:
    if type(value) not in types:  # ``isinstance`` would take true for 1
        raise TypeError(f"{field} must be {' or '.join(kind.__name__ for kind in types)}, got {value!r}")
    return value
