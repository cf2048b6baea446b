"""Channels by the size of the weights that make them."""

from collections.abc import Callable

import torch
from torch import Tensor

from compress.network.graph import Network
from compress.network.groups import ChannelGroups
from compress.pruners.base import PRUNERS, Scores, gathered, over_axis
from compress.rewrites import fold_batch_norm


class Magnitude:
    """Sums a measure of the filters that write a channel over all layers that write it.

    Batch norm is folded first, so that a filter counts with the scale that it has in the network. A layer's norms are
    divided by their mean over the layer: layers with large weights do not outvote the others of their group.
    """

    def __init__(self, measure: Callable[[Tensor], Tensor]) -> None:
        self._measure = measure

    def scores(self, network: Network, groups: ChannelGroups, images: Tensor | None = None) -> Scores:
        """Return the sum of relative norms; weights alone decide."""
        folded = fold_batch_norm(network)
        weights = {node.parameters["weight"]: node for node in folded.graph.nodes if "weight" in node.parameters}
        found: dict[str, Tensor] = {}
        for group in groups.groups:
            total = torch.zeros(group.channels, dtype=torch.float64)
            layers = set(group.layers)
            for member in group.tensors:
                node = weights.get(member.name)
                if node is None or node.name not in layers or member.axis != _output_axis(node.op):
                    continue
                norms = over_axis(folded.tensors[member.name], member.axis, self._measure)
                total += gathered(group, member, norms / norms.mean().clamp_min(torch.finfo(norms.dtype).tiny))
            found[group.name] = total
        return found


def _output_axis(op: str) -> int:
    return 1 if op == "conv_transpose" else 0


class L1(Magnitude):
    """Channels by the sum of absolute weights (Li et al. 2017, arXiv:1608.08710, section 3.1)."""

    def __init__(self) -> None:
        super().__init__(lambda rows: rows.abs().sum(1))


class L2(Magnitude):
    """Channels by the Euclidean norm of their weights."""

    def __init__(self) -> None:
        super().__init__(lambda rows: rows.square().sum(1).sqrt())


PRUNERS.register("l1")(L1())
PRUNERS.register("l2")(L2())
