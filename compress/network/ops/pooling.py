"""Operators that gather many values into one: pooling and reductions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.network.ops import shapes
from compress.network.ops.spec import Op, Rule
from hwmodels.workload import KernelKind

_POSITIVE = Rule(kind="ints", low=1, high=65536)
_NATURAL = Rule(kind="ints", low=0, high=65536)
_FLAG = Rule(kind="bool", default=False)
_DIMS = Rule(kind="ints", low=-8, high=8)


def max_pool(
    x: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Tensor:
    """Take the largest value of every window; one or two spatial dimensions by ``kernel``."""
    function = F.max_pool2d if len(kernel) == 2 else F.max_pool1d
    return function(x, tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), ceil_mode=ceil_mode)


def avg_pool(
    x: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
) -> Tensor:
    """Take the mean of every window; one or two spatial dimensions by ``kernel``."""
    function = F.avg_pool2d if len(kernel) == 2 else F.avg_pool1d
    return function(x, tuple(kernel), tuple(stride), tuple(padding), ceil_mode, count_include_pad)


def global_avg_pool(x: Tensor) -> Tensor:
    """Take the mean of every channel over the image; the spatial dimensions stay, of size one."""
    return F.adaptive_avg_pool2d(x, (1, 1)) if x.ndim == 4 else F.adaptive_avg_pool1d(x, 1)


def global_max_pool(x: Tensor) -> Tensor:
    """Take the largest value of every channel; the spatial dimensions stay, of size one."""
    return F.adaptive_max_pool2d(x, (1, 1)) if x.ndim == 4 else F.adaptive_max_pool1d(x, 1)


def mean(x: Tensor, *, dims: Sequence[int], keepdim: bool) -> Tensor:
    """Take the mean over ``dims``."""
    return torch.mean(x, tuple(dims), keepdim)


def total(x: Tensor, *, dims: Sequence[int], keepdim: bool) -> Tensor:
    """Sum over ``dims``."""
    return torch.sum(x, tuple(dims), keepdim)


def largest(x: Tensor, *, dims: Sequence[int], keepdim: bool) -> Tensor:
    """Take the largest value over ``dims``."""
    return torch.amax(x, tuple(dims), keepdim)


def smallest(x: Tensor, *, dims: Sequence[int], keepdim: bool) -> Tensor:
    """Take the smallest value over ``dims``."""
    return torch.amin(x, tuple(dims), keepdim)


def norm(x: Tensor, *, dims: Sequence[int], keepdim: bool, order: int) -> Tensor:
    """Take the vector norm of order 1 or 2 over ``dims``."""
    result: Tensor = torch.linalg.vector_norm(x, float(order), tuple(dims), keepdim)
    return result


_REDUCTION = {"dims": _DIMS, "keepdim": _FLAG}

OPS = (
    Op(
        name="max_pool",
        run=max_pool,
        shape=shapes.pool,
        kind=KernelKind.POOL,
        attributes={
            "kernel": _POSITIVE,
            "stride": _POSITIVE,
            "padding": _NATURAL,
            "dilation": _POSITIVE,
            "ceil_mode": _FLAG,
        },
    ),
    Op(
        name="avg_pool",
        run=avg_pool,
        shape=shapes.pool,
        kind=KernelKind.POOL,
        attributes={
            "kernel": _POSITIVE,
            "stride": _POSITIVE,
            "padding": _NATURAL,
            "ceil_mode": _FLAG,
            "count_include_pad": _FLAG,
        },
    ),
    Op(name="global_avg_pool", run=global_avg_pool, shape=shapes.global_pool, kind=KernelKind.POOL),
    Op(name="global_max_pool", run=global_max_pool, shape=shapes.global_pool, kind=KernelKind.POOL),
    Op(name="mean", run=mean, shape=shapes.reduce, kind=KernelKind.POOL, attributes=_REDUCTION),
    Op(name="sum", run=total, shape=shapes.reduce, kind=KernelKind.POOL, attributes=_REDUCTION),
    Op(name="amax", run=largest, shape=shapes.reduce, kind=KernelKind.POOL, attributes=_REDUCTION),
    Op(name="amin", run=smallest, shape=shapes.reduce, kind=KernelKind.POOL, attributes=_REDUCTION),
    Op(
        name="norm",
        run=norm,
        shape=shapes.reduce,
        kind=KernelKind.POOL,
        attributes={**_REDUCTION, "order": Rule(kind="int", low=1, high=2)},
    ),
)
