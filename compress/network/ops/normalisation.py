"""Operators that normalise: with statistics of training (batch norm) or of the values at hand."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from compress.network.graph import Node
from compress.network.ops import shapes
from compress.network.ops.spec import Op, Role, Rule
from compress.network.ops.weighted import assign
from hwmodels.workload import KernelKind

_EPS = Rule(kind="float", low=0.0, high=1.0, default=1e-5)
_DIM = Rule(kind="int", low=-8, high=8)
_VECTOR = Role(ranks=(1,))


def batch_norm(
    x: Tensor, *, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, eps: float
) -> Tensor:
    """Normalise every channel (dimension 1) with the statistics seen in training."""
    return F.batch_norm(x, running_mean, running_var, weight, bias, training=False, eps=eps)


def layer_norm(x: Tensor, *, weight: Tensor, bias: Tensor | None = None, eps: float) -> Tensor:
    """Normalise over the trailing dimensions, as many as ``weight`` has."""
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def group_norm(x: Tensor, *, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Normalise every group of channels over the image."""
    return F.group_norm(x, groups, weight, bias, eps)


def instance_norm(x: Tensor, *, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise every channel over the image."""
    return F.instance_norm(x, weight=weight, bias=bias, eps=eps)


def softmax(x: Tensor, *, dim: int) -> Tensor:
    """Exponentials along ``dim``, scaled to sum to one."""
    return F.softmax(x, dim)


def log_softmax(x: Tensor, *, dim: int) -> Tensor:
    """Logarithm of ``softmax``."""
    return F.log_softmax(x, dim)


class _AnyRankBatchNorm(nn.BatchNorm2d):
    """Batch norm whose input may have any number of dimensions; tools see the usual two-dimensional one."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept every rank."""


class _AnyRankInstanceNorm(nn.InstanceNorm2d):
    """Instance norm whose input may have any number of spatial dimensions, the batch always first."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise every channel of every image."""
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


def _batch_norm_module(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module:
    eps = node.attributes["eps"]
    assert isinstance(eps, float)
    module = _AnyRankBatchNorm(tensors["weight"].shape[0], eps=eps, device="meta")
    module.num_batches_tracked = None
    return assign(module, tensors)


def _layer_norm_module(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module:
    eps = node.attributes["eps"]
    assert isinstance(eps, float)
    shape = list(tensors["weight"].shape)
    return assign(nn.LayerNorm(shape, eps=eps, bias="bias" in tensors, device="meta"), tensors)


def _group_norm_module(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module:
    eps, groups = node.attributes["eps"], node.attributes["groups"]
    assert isinstance(eps, float)
    assert isinstance(groups, int)
    return assign(nn.GroupNorm(groups, tensors["weight"].shape[0], eps=eps, device="meta"), tensors)


def _instance_norm_module(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module:
    eps = node.attributes["eps"]
    assert isinstance(eps, float)
    return assign(_AnyRankInstanceNorm(tensors["weight"].shape[0], eps=eps, affine=True, device="meta"), tensors)


OPS = (
    Op(
        name="batch_norm",
        run=batch_norm,
        shape=shapes.per_channel,
        module=_batch_norm_module,
        kind=KernelKind.NORMALISATION,
        attributes={"eps": _EPS},
        parameters={"weight": _VECTOR, "bias": _VECTOR, "running_mean": _VECTOR, "running_var": _VECTOR},
    ),
    Op(
        name="layer_norm",
        run=layer_norm,
        shape=shapes.layer_norm,
        module=_layer_norm_module,
        kind=KernelKind.NORMALISATION,
        attributes={"eps": _EPS},
        parameters={"weight": Role(ranks=(1, 2, 3)), "bias": Role(ranks=(1, 2, 3), required=False)},
    ),
    Op(
        name="group_norm",
        run=group_norm,
        shape=shapes.per_channel,
        module=_group_norm_module,
        kind=KernelKind.NORMALISATION,
        attributes={"groups": Rule(kind="int", low=1, high=65536), "eps": _EPS},
        parameters={"weight": _VECTOR, "bias": _VECTOR},
    ),
    Op(
        name="instance_norm",
        run=instance_norm,
        shape=shapes.per_channel,
        module=_instance_norm_module,
        kind=KernelKind.NORMALISATION,
        attributes={"eps": _EPS},
        parameters={"weight": _VECTOR, "bias": _VECTOR},
    ),
    Op(name="softmax", run=softmax, shape=shapes.along_dim, kind=KernelKind.NORMALISATION, attributes={"dim": _DIM}),
    Op(
        name="log_softmax",
        run=log_softmax,
        shape=shapes.along_dim,
        kind=KernelKind.NORMALISATION,
        attributes={"dim": _DIM},
    ),
)
