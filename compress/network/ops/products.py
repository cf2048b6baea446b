"""Products of two activations (attention)."""

import math
from collections.abc import Sequence

import torch

from compress.network.graph import Node
from compress.network.ops import shapes
from compress.network.ops.spec import Op, Shape
from hwmodels.workload import KernelKind


def _matmul_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape], weight: Shape | None) -> int:
    return math.prod(outputs[0]) * inputs[0][-1]


OPS = (
    Op(name="matmul", run=torch.matmul, shape=shapes.matmul, kind=KernelKind.MATMUL, inputs=(2, 2), macs=_matmul_macs),
)
