"""Operators that move values without computing: reshape, transpose, concat, slice, pad, resize.

Shapes that depend on the batch or on channels are not written down where they can be found from the input: ``reshape``
copies (0) or infers (-1) a dimension, ``split`` makes equal parts, ``repeat_batch`` looks at another value.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.network.ops import shapes
from compress.network.ops.spec import MAX_INTEGER, Op, Rule
from hwmodels.workload import KernelKind

_DIM = Rule(kind="int", low=-8, high=8)
_DIMS = Rule(kind="ints", low=-8, high=8)
_SIZES = Rule(kind="ints", low=-1, high=MAX_INTEGER)


def flatten(x: Tensor, *, start_dim: int, end_dim: int) -> Tensor:
    """Merge the dimensions ``start_dim`` to ``end_dim``, both included."""
    return torch.flatten(x, start_dim, end_dim)


def reshape(x: Tensor, *, shape: Sequence[int]) -> Tensor:
    """Arrange the values in ``shape``; 0 copies the input's size of that dimension, one -1 is inferred."""
    return torch.reshape(x, [x.shape[index] if size == 0 else size for index, size in enumerate(shape)])


def permute(x: Tensor, *, dims: Sequence[int]) -> Tensor:
    """Reorder the dimensions."""
    return torch.permute(x, tuple(dims))


def squeeze(x: Tensor, *, dims: Sequence[int]) -> Tensor:
    """Drop dimensions of size one."""
    return torch.squeeze(x, tuple(dims))


def unsqueeze(x: Tensor, *, dim: int) -> Tensor:
    """Insert a dimension of size one."""
    return torch.unsqueeze(x, dim)


def expand(x: Tensor, *, shape: Sequence[int]) -> Tensor:
    """Repeat dimensions of size one to ``shape``; -1 keeps a dimension."""
    return x.expand(tuple(shape))


def repeat_batch(x: Tensor, like: Tensor, *, dim: int) -> Tensor:
    """Repeat a constant of batch one along dimension 0, once per image of ``like`` (whose batch is ``dim``)."""
    return x.expand((like.shape[dim], *x.shape[1:]))


def concat(*inputs: Tensor, dim: int) -> Tensor:
    """Join the inputs along ``dim``."""
    return torch.cat(inputs, dim)


def split(x: Tensor, *, dim: int, sizes: Sequence[int] | None, parts: int) -> tuple[Tensor, ...]:
    """Cut along ``dim`` into pieces of ``sizes``, or into ``parts`` equal ones if there are none."""
    if sizes is None:
        return torch.split(x, x.shape[dim] // parts, dim)
    return torch.split(x, list(sizes), dim)


def part(pieces: Sequence[Tensor], index: int) -> Tensor:
    """Return one of the pieces that ``split`` made."""
    return pieces[index]


def slice_(x: Tensor, *, dim: int, start: int, end: int, step: int) -> Tensor:
    """Take every ``step``-th entry of ``start``..``end`` along ``dim``; both may count from the end or lie beyond."""
    where = [slice(None)] * x.ndim
    where[dim] = slice(start, end, step)
    return x[tuple(where)]


def select(x: Tensor, *, dim: int, index: int) -> Tensor:
    """Take one entry of ``dim``, which disappears."""
    return torch.select(x, dim, index)


def pad(x: Tensor, *, padding: Sequence[int], mode: str, value: float) -> Tensor:
    """Pad as ``torch.nn.functional.pad``: pairs (before, after) from the last dimension backwards."""
    if mode == "constant":
        return F.pad(x, tuple(padding), mode, value)
    return F.pad(x, tuple(padding), mode)


def resize(x: Tensor, *, scale: int, mode: str, align_corners: bool) -> Tensor:
    """Enlarge the image ``scale`` times in every spatial dimension."""
    if mode == "nearest":
        return F.interpolate(x, scale_factor=float(scale), mode=mode)
    return F.interpolate(x, scale_factor=float(scale), mode=mode, align_corners=align_corners)


def pixel_shuffle(x: Tensor, *, factor: int) -> Tensor:
    """Move channels into space: ``(N, C * f * f, H, W)`` to ``(N, C, H * f, W * f)``."""
    return F.pixel_shuffle(x, factor)


def pixel_unshuffle(x: Tensor, *, factor: int) -> Tensor:
    """Move space into channels: the inverse of ``pixel_shuffle``."""
    return F.pixel_unshuffle(x, factor)


_MOVE = KernelKind.DATA_MOVEMENT
_FACTOR = Rule(kind="int", low=1, high=64)

OPS = (
    Op(name="flatten", run=flatten, shape=shapes.flatten, kind=_MOVE, attributes={"start_dim": _DIM, "end_dim": _DIM}),
    Op(name="reshape", run=reshape, shape=shapes.reshape, kind=_MOVE, attributes={"shape": _SIZES}),
    Op(name="permute", run=permute, shape=shapes.permute, kind=_MOVE, attributes={"dims": _DIMS}),
    Op(name="squeeze", run=squeeze, shape=shapes.squeeze, kind=_MOVE, attributes={"dims": _DIMS}),
    Op(name="unsqueeze", run=unsqueeze, shape=shapes.unsqueeze, kind=_MOVE, attributes={"dim": _DIM}),
    Op(name="expand", run=expand, shape=shapes.expand, kind=_MOVE, attributes={"shape": _SIZES}),
    Op(
        name="repeat_batch",
        run=repeat_batch,
        shape=shapes.repeat_batch,
        kind=_MOVE,
        attributes={"dim": _DIM},
        inputs=(2, 2),
    ),
    Op(name="concat", run=concat, shape=shapes.concat, kind=_MOVE, attributes={"dim": _DIM}, inputs=(1, 1024)),
    Op(
        name="split",
        run=split,
        shape=shapes.split,
        kind=_MOVE,
        attributes={
            "dim": _DIM,
            "sizes": Rule(kind="ints", low=1, optional=True, default=None),
            "parts": Rule(kind="int", low=1, high=1024),
        },
        outputs=(1, 1024),
    ),
    Op(
        name="slice",
        run=slice_,
        shape=shapes.slice_,
        kind=_MOVE,
        attributes={
            "dim": _DIM,
            "start": Rule(kind="int", default=0),
            "end": Rule(kind="int", default=MAX_INTEGER),
            "step": Rule(kind="int", low=1, high=4096, default=1),
        },
    ),
    Op(name="select", run=select, shape=shapes.select, kind=_MOVE, attributes={"dim": _DIM, "index": Rule(kind="int")}),
    Op(
        name="pad",
        run=pad,
        shape=shapes.pad,
        kind=_MOVE,
        attributes={
            "padding": Rule(kind="ints", low=-65536, high=65536),
            "mode": Rule(kind="choice", choices=("constant", "reflect", "replicate"), default="constant"),
            "value": Rule(kind="float", low=-3.5e38, high=3.5e38, default=0.0),
        },
    ),
    Op(
        name="resize",
        run=resize,
        shape=shapes.resize,
        kind=_MOVE,
        attributes={
            "scale": Rule(kind="int", low=1, high=64),
            "mode": Rule(kind="choice", choices=("nearest", "bilinear", "bicubic")),
            "align_corners": Rule(kind="bool", default=False),
        },
    ),
    Op(name="pixel_shuffle", run=pixel_shuffle, shape=shapes.pixel_shuffle, kind=_MOVE, attributes={"factor": _FACTOR}),
    Op(
        name="pixel_unshuffle",
        run=pixel_unshuffle,
        shape=shapes.pixel_unshuffle,
        kind=_MOVE,
        attributes={"factor": _FACTOR},
    ),
)
