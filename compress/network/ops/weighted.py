"""Operators with a weight that multiplies activations: convolutions and linear layers.

Attributes are torch's: ``stride``, ``padding``, ``dilation`` and ``output_padding`` have one entry per spatial
dimension (one or two of them) and ``padding`` is symmetric; the importer writes uneven padding as a ``pad`` node.
Weights are laid out as torch does: convolution ``(out, in / groups, *kernel)``, transposed convolution
``(in, out / groups, *kernel)``, linear ``(out, in)``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from compress.network.graph import Node
from compress.network.ops import shapes
from compress.network.ops.spec import Op, Role, Rule, Shape
from hwmodels.workload import KernelKind

_POSITIVE = Rule(kind="ints", low=1, high=4096)
_NATURAL = Rule(kind="ints", low=0, high=4096)
_GROUPS = Rule(kind="int", low=1, high=65536, default=1)


def conv(
    x: Tensor,
    *,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolve; one or two spatial dimensions by the weight's rank."""
    function = F.conv2d if weight.ndim == 4 else F.conv1d
    return function(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


def conv_transpose(
    x: Tensor,
    *,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolve transposed; one or two spatial dimensions by the weight's rank."""
    function = F.conv_transpose2d if weight.ndim == 4 else F.conv_transpose1d
    return function(x, weight, bias, tuple(stride), tuple(padding), tuple(output_padding), groups, tuple(dilation))


def linear(x: Tensor, *, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply the last dimension by ``weight`` transposed."""
    return F.linear(x, weight, bias)


def assign(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Put ``tensors`` in the place of the module's own, sharing their memory; buffers stay buffers."""
    for role, tensor in tensors.items():
        if role in module._buffers:
            module._buffers[role] = tensor
        else:
            parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
            module._parameters[role] = parameter
    return module


def _conv_module(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module:
    weight = tensors["weight"]
    options: dict[str, Any] = dict(node.attributes)
    if node.op == "conv":
        kind: type[nn.Module] = nn.Conv2d if weight.ndim == 4 else nn.Conv1d
        outer, inner = weight.shape[1] * options["groups"], weight.shape[0]
    else:
        kind = nn.ConvTranspose2d if weight.ndim == 4 else nn.ConvTranspose1d
        outer, inner = weight.shape[0], weight.shape[1] * options["groups"]
    module = kind(outer, inner, tuple(weight.shape[2:]), bias="bias" in tensors, device="meta", **options)
    return assign(module, tensors)


def _linear_module(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module:
    out_features, in_features = tensors["weight"].shape
    return assign(nn.Linear(in_features, out_features, bias="bias" in tensors, device="meta"), tensors)


def _conv_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape], weight: Shape | None) -> int:
    assert weight is not None
    return math.prod(outputs[0]) * math.prod(weight[1:])


def _conv_transpose_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape], weight: Shape | None) -> int:
    assert weight is not None
    return math.prod(inputs[0]) * math.prod(weight[1:])  # every input value meets every tap, cropped ones too


def _linear_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape], weight: Shape | None) -> int:
    assert weight is not None
    return math.prod(outputs[0]) * weight[1]


def _conv_kind(node: Node, weight: Shape | None) -> KernelKind:
    assert weight is not None
    groups = node.attributes["groups"]
    if groups != 1 and weight[1 if node.op == "conv" else 0] == (1 if node.op == "conv" else groups):
        return KernelKind.DEPTHWISE
    if groups == 1 and math.prod(weight[2:]) == 1:
        return KernelKind.POINTWISE
    return KernelKind.CONV


OPS = (
    Op(
        name="conv",
        run=conv,
        shape=shapes.conv,
        module=_conv_module,
        kind=_conv_kind,
        attributes={"stride": _POSITIVE, "padding": _NATURAL, "dilation": _POSITIVE, "groups": _GROUPS},
        parameters={"weight": Role(ranks=(3, 4)), "bias": Role(ranks=(1,), required=False)},
        macs=_conv_macs,
    ),
    Op(
        name="conv_transpose",
        run=conv_transpose,
        shape=shapes.conv,
        module=_conv_module,
        kind=_conv_kind,
        attributes={
            "stride": _POSITIVE,
            "padding": _NATURAL,
            "output_padding": _NATURAL,
            "dilation": _POSITIVE,
            "groups": _GROUPS,
        },
        parameters={"weight": Role(ranks=(3, 4)), "bias": Role(ranks=(1,), required=False)},
        macs=_conv_transpose_macs,
    ),
    Op(
        name="linear",
        run=linear,
        shape=shapes.linear,
        module=_linear_module,
        kind=KernelKind.LINEAR,
        parameters={"weight": Role(ranks=(2,)), "bias": Role(ranks=(1,), required=False)},
        macs=_linear_macs,
    ),
)
