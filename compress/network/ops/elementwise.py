"""Operators that treat every value by itself (or every pair of values)."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.network.graph import Node
from compress.network.ops import shapes
from compress.network.ops.spec import Op, Role, Rule
from compress.network.ops.weighted import assign
from hwmodels.workload import KernelKind

_ANY = Rule(kind="float", low=-1e38, high=1e38)
_BOUND = Rule(kind="float", low=-3.5e38, high=3.5e38, optional=True, default=None)


def clip(x: Tensor, *, min: float | None, max: float | None) -> Tensor:
    """Limit every value to ``min``..``max``; ``None`` is no limit."""
    return x if min is None and max is None else torch.clamp(x, min, max)


def leaky_relu(x: Tensor, *, slope: float) -> Tensor:
    """Scale negative values by ``slope``."""
    return F.leaky_relu(x, slope)


def elu(x: Tensor, *, alpha: float) -> Tensor:
    """Exponential below zero, identity above."""
    return F.elu(x, alpha)


def hard_sigmoid(x: Tensor, *, slope: float, offset: float) -> Tensor:
    """``slope * x + offset``, limited to 0..1; torch's own has slope 1/6 and offset 1/2."""
    return torch.clamp(x * slope + offset, 0.0, 1.0)


def gelu(x: Tensor, *, approximate: str) -> Tensor:
    """Gaussian error linear unit, exact (``none``) or by ``tanh``."""
    return F.gelu(x, approximate=approximate)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return F.softplus(x)


def prelu(x: Tensor, *, weight: Tensor) -> Tensor:
    """Scale negative values by ``weight``: one for all, or one per channel (dimension 1)."""
    return F.prelu(x, weight)


def power(x: Tensor, y: Tensor) -> Tensor:
    """``x ** y``."""
    return torch.pow(x, y)


TILE = 1 << 17
"""Values that ``quantize`` takes through all its steps before it goes on: half a MiB stays in a core's own cache."""


def quantize(x: Tensor, *, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """Round ``x`` to the grid ``(code - zero_point) * scale`` with integer codes in ``low``..``high``.

    The values stay floating point; halves round to even, as ONNX Runtime's QuantizeLinear does. The gradient passes
    the rounding unchanged (straight-through, arXiv:1308.3432) where nothing is clipped.
    """
    if x.requires_grad:
        steps = x / scale
        steps = steps + (torch.round(steps) - steps).detach()
        return torch.clamp(steps, low - zero_point, high - zero_point) * scale
    return _rounded(x, torch.empty_like(x), scale, low - zero_point, high - zero_point)


def quantize_in_place(x: Tensor, *, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """Do what ``quantize`` does and overwrite ``x`` with the result, for a value that nobody else reads any more.

    Where a gradient is wanted nothing is overwritten.
    """
    if x.requires_grad:
        return quantize(x, scale=scale, zero_point=zero_point, low=low, high=high)
    return _rounded(x, x, scale, low - zero_point, high - zero_point)


def add_in_place(x: Tensor, y: Tensor) -> Tensor:
    """Return ``x + y`` in the memory of ``x``, which nobody else reads; not where a gradient is wanted."""
    return x + y if x.requires_grad or y.requires_grad else x.add_(y)


def _rounded(x: Tensor, out: Tensor, scale: float, least: int, most: int) -> Tensor:
    step = torch.tensor(scale, dtype=x.dtype, device=x.device)  # a number would be converted at every use
    rows = max(1, TILE * len(x) // max(1, x.numel()))
    for source, target in zip(torch.split(x, rows), torch.split(out, rows), strict=True):
        torch.div(source, step, out=target).round_().clamp_(least, most).mul_(step)
    return out


def _prelu_module(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module:
    return assign(nn.PReLU(tensors["weight"].shape[0], device="meta"), tensors)


_UNARY: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "mish": F.mish,
    "selu": F.selu,
    "hard_swish": F.hardswish,
    "softplus": softplus,
    "softsign": F.softsign,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "neg": torch.neg,
    "reciprocal": torch.reciprocal,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "cos": torch.cos,
}

_BINARY: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": power,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}

OPS = (
    *(Op(name=name, run=run, shape=shapes.same, kind=KernelKind.ELEMENTWISE) for name, run in _UNARY.items()),
    *(
        Op(name=name, run=run, shape=shapes.broadcast, kind=KernelKind.ELEMENTWISE, inputs=(2, 2))
        for name, run in _BINARY.items()
    ),
    Op(
        name="clip", run=clip, shape=shapes.same, kind=KernelKind.ELEMENTWISE, attributes={"min": _BOUND, "max": _BOUND}
    ),
    Op(name="leaky_relu", run=leaky_relu, shape=shapes.same, kind=KernelKind.ELEMENTWISE, attributes={"slope": _ANY}),
    Op(name="elu", run=elu, shape=shapes.same, kind=KernelKind.ELEMENTWISE, attributes={"alpha": _ANY}),
    Op(
        name="hard_sigmoid",
        run=hard_sigmoid,
        shape=shapes.same,
        kind=KernelKind.ELEMENTWISE,
        attributes={"slope": Rule(kind="float", default=1 / 6), "offset": Rule(kind="float", default=0.5)},
    ),
    Op(
        name="gelu",
        run=gelu,
        shape=shapes.same,
        kind=KernelKind.ELEMENTWISE,
        attributes={"approximate": Rule(kind="choice", choices=("none", "tanh"), default="none")},
    ),
    Op(
        name="prelu",
        run=prelu,
        shape=shapes.per_channel,
        module=_prelu_module,
        kind=KernelKind.ELEMENTWISE,
        parameters={"weight": Role(ranks=(1,))},
    ),
    Op(
        name="quantize",
        run=quantize,
        shape=shapes.same,
        kind=KernelKind.ELEMENTWISE,
        attributes={
            "scale": Rule(kind="float", low=1e-38, high=1e38),
            "zero_point": Rule(kind="int", low=-65536, high=65536),
            "low": Rule(kind="int", low=-65536, high=65536),
            "high": Rule(kind="int", low=-65536, high=65536),
        },
    ),
)
