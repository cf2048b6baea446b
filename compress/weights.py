"""Which weights a plan quantizes and how, and doing it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from compress.network.graph import Network, Node
from compress.placement import FLOAT_BITS, LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.quantizers import QUANTIZERS, CodeLayout, Codes, IntegerWeight, Quantizer
from hwmodels.errors import InputError

ACTIVATION_BITS = range(2, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How one weight is stored. ``axis`` is the dimension of output channels in the operator's own layout."""

    quantizer: str
    bits: int
    axis: int = 0

    def build(self, numerics: Numerics) -> Quantizer:
        """Return the quantizer, not yet fitted."""
        return QUANTIZERS.get(self.quantizer)(self.bits, numerics)

    def layout(self, shape: tuple[int, ...], numerics: Numerics) -> CodeLayout:
        """Return how much is stored of a weight whose shape is ``shape`` in the operator's own layout."""
        return _layout(self, (shape[self.axis], *shape[: self.axis], *shape[self.axis + 1 :]), numerics)


@lru_cache(maxsize=1 << 13)  # a search asks for the same few hundred layouts again and again
def _layout(format: WeightFormat, shape: tuple[int, ...], numerics: Numerics) -> CodeLayout:
    """Return the layout of a weight, channels first; a quantizer is a module, and slow to build for that alone."""
    return format.build(numerics).layout(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedWeight:
    """A weight as stored, and what it takes to read it."""

    format: WeightFormat
    codes: Codes

    def decode(self, numerics: Numerics) -> Tensor:
        """Return the float weight in the operator's own layout."""
        return self.format.build(numerics).decode(self.codes).movedim(0, self.format.axis).contiguous()

    def integers(self, numerics: Numerics) -> IntegerWeight | None:
        """Return the integer weight in the operator's own layout, ``None`` if its arithmetic is another."""
        whole = self.format.build(numerics).integers(self.codes)
        return whole and replace(whole, values=whole.values.movedim(0, self.format.axis).contiguous())


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A network in which every weight has one format, and those formats.

    ``formats`` is by tensor name; ``activation_bits`` by layer name. ``float_layers`` names the layers that the plan
    gives bits to but that stay float, with the reason.
    """

    network: Network
    formats: Mapping[str, WeightFormat]
    activation_bits: Mapping[str, int]
    float_layers: Mapping[str, str] = field(default_factory=dict)


def assign_formats(network: Network, plan: Plan) -> Assignment:
    """Return the formats that ``plan`` gives the weights of a restructured network; works on the ``meta`` device too.

    A tensor that layers share but store differently is given to each under a name of its own. Layers of the plan that
    the network no longer has are passed over.

    Raises:
        InputError: A width is not one that the quantizer, or an activation, can have.
    """
    check_other_bits(plan.numerics)
    formats_of: dict[str, WeightFormat] = {}
    activation_bits: dict[str, int] = {}
    float_layers: dict[str, str] = {}
    for node in network.graph.nodes:
        bits = plan.bits(node.name)
        if bits is None or bits.weight_bits >= FLOAT_BITS:
            continue
        check_widths(node.name, bits)
        reason = _reason_for_float(node, bits, network)
        if reason is None:
            activation_bits[node.name] = bits.activation_bits
            formats_of[node.name] = WeightFormat(
                quantizer=bits.quantizer, bits=bits.weight_bits, axis=1 if node.op == "conv_transpose" else 0
            )
        else:
            float_layers[node.name] = reason
    separated, formats = _separate(network, formats_of)
    return Assignment(
        network=separated,
        formats=formats,
        activation_bits=activation_bits,
        float_layers=float_layers,
    )


def encode(weight: Tensor, format: WeightFormat, numerics: Numerics) -> CodedWeight:
    """Fit a quantizer to ``weight`` (in the operator's own layout) and return its codes."""
    quantizer = format.build(numerics)
    channels_first = weight.detach().movedim(format.axis, 0).contiguous()
    quantizer.fit(channels_first)
    return CodedWeight(format=format, codes=quantizer.encode(channels_first))


def with_gain(weight: CodedWeight, gain: Tensor, numerics: Numerics) -> CodedWeight:
    """Return the weight with every output channel multiplied by ``gain``, all positive.

    Float32 scales per channel, or finer, take the gain up and the codes stay; otherwise the weight is coded anew.
    """
    if bool((gain == 1).all()):
        return weight
    scale = weight.codes.parameters.get("scale")
    if scale is not None and len(scale) == gain.numel() and numerics.scale_format == "float32":
        parameters = {**weight.codes.parameters, "scale": scale * gain.reshape(-1, *[1] * (scale.ndim - 1))}
        return replace(weight, codes=replace(weight.codes, parameters=parameters))
    decoded = weight.decode(numerics)
    shape = [1] * decoded.ndim
    shape[weight.format.axis] = decoded.shape[weight.format.axis]
    if gain.numel() != shape[weight.format.axis]:  # a grouped transposed convolution: one gain per group and channel
        raise InputError("repair", "cannot scale the channels of a grouped transposed convolution")
    return encode(decoded * gain.reshape(shape), weight.format, numerics)


def accumulator_steps(weight: CodedWeight, input_scale: float, numerics: Numerics) -> Tensor | None:
    """Return what one step of an integer accumulator is worth: one value per scale of the weight.

    ``None`` if the weight is not on an integer grid.
    """
    whole = weight.integers(numerics)
    if whole is None:
        return None
    return whole.scale * torch.tensor(input_scale, dtype=torch.float32)


def on_accumulator_grid(bias: Tensor, steps: Tensor) -> Tensor:
    """Return ``bias`` rounded to what an integer accumulator can start from, as float32."""
    rounded = torch.round(bias.double() / steps.double())
    return rounded.float() * steps


def check_widths(layer: str, bits: LayerBits) -> None:
    """Refuse widths that a layer's weights or activations cannot have.

    Raises:
        InputError: Names the layer and the widths that exist.
    """
    allowed = QUANTIZERS.get(bits.quantizer).bit_widths
    if bits.weight_bits not in allowed:
        raise InputError(
            f"layers.{layer}.weight_bits", f"must be one of {', '.join(map(str, allowed))} or 32", bits.weight_bits
        )
    if bits.activation_bits not in ACTIVATION_BITS and bits.activation_bits < FLOAT_BITS:
        raise InputError(f"layers.{layer}.activation_bits", "must be in 2..8, or 32", bits.activation_bits)


def check_other_bits(numerics: Numerics) -> None:
    """Refuse a width that values between quantized layers cannot have.

    Raises:
        InputError: Names the widths that exist.
    """
    if numerics.other_bits not in ACTIVATION_BITS:
        raise InputError("numerics.other_bits", "must be in 2..8", numerics.other_bits)


def _reason_for_float(node: Node, bits: LayerBits, network: Network) -> str | None:
    if node.op not in LAYER_OPS:
        return f"{node.op} has no weight to quantize"
    if node.op not in QUANTIZERS.get(bits.quantizer).layer_ops:
        return f"the quantizer {bits.quantizer} does not fit {node.op}"
    if not network.tensors[node.parameters["weight"]].is_floating_point():
        return "its weight is not floating point"
    return None


def _separate(network: Network, formats_of: Mapping[str, WeightFormat]) -> tuple[Network, dict[str, WeightFormat]]:
    """Give every tensor one format, by copying the name (not the values) where users disagree."""
    users: dict[str, set[WeightFormat | None]] = defaultdict(set)
    for node in network.graph.nodes:
        for role, tensor in node.parameters.items():
            users[tensor].add(formats_of.get(node.name) if role == "weight" else None)
        for value in node.inputs:
            if value in network.tensors:
                users[value].add(None)
    formats: dict[str, WeightFormat] = {}
    tensors = dict(network.tensors)
    nodes = []
    for node in network.graph.nodes:
        format = formats_of.get(node.name)
        if format is not None:
            tensor = node.parameters["weight"]
            if len(users[tensor]) > 1:
                tensors[f"{tensor}@{node.name}"] = tensors[tensor]
                tensor = f"{tensor}@{node.name}"
                node = replace(node, parameters={**node.parameters, "weight": tensor})
            formats[tensor] = format
        nodes.append(node)
    return Network(graph=network.graph.with_nodes(nodes), tensors=tensors).used(), formats
