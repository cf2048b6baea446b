"""Channels by the scale of their batch norm."""

import torch
from torch import Tensor

from compress.network.graph import Network
from compress.network.groups import ChannelGroups
from compress.pruners.base import PRUNERS, Scores, gathered
from compress.pruners.magnitude import L2


class BatchNormScale:
    """Scores a channel by ``|gamma|`` of the batch norms that it goes through.

    A group without batch norm is scored by the Euclidean norm of its filters instead.

    Source: Liu et al. 2017 (network slimming), arXiv:1708.06519, section 3; without its sparsity training, so the
    scales are those that ordinary training left.
    """

    def scores(self, network: Network, groups: ChannelGroups, images: Tensor | None = None) -> Scores:
        """Return the sum of absolute scales relative to each layer's mean."""
        scales = {node.parameters["weight"] for node in network.graph.nodes if node.op == "batch_norm"}
        found = dict(L2().scores(network, groups))
        for group in groups.groups:
            members = [member for member in group.tensors if member.name in scales]
            if members:
                found[group.name] = sum(
                    (
                        gathered(group, member, size / size.mean().clamp_min(torch.finfo(size.dtype).tiny))
                        for member in members
                        for size in [network.tensors[member.name].detach().to(torch.float64).abs()]
                    ),
                    start=torch.zeros(group.channels, dtype=torch.float64),
                )
        return found


PRUNERS.register("batch_norm_scale")(BatchNormScale())
