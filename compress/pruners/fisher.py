"""Channels by the Fisher information of the network's predictions."""

from torch import Tensor

from compress.network.graph import Network
from compress.network.groups import ChannelGroups
from compress.pruners.base import PRUNERS, Scores
from compress.pruners.gradients import responses

DRAWS = 4
"""Labels drawn for every image."""


class Fisher:
    """Scores a channel by half the mean square of ``sum of activation times gradient``.

    That is how much the predictions diverge, to second order, when the channel is set to zero in all layers of its
    group: gradients are added up over coupled layers before they are squared. Labels are drawn from the network's own
    predictions (``gradients``), so that this is the Fisher information itself and not its estimate from given labels.

    Sources: Theis et al. 2018, arXiv:1801.05787, section 2.1; Liu et al. 2021, "Group Fisher Pruning",
    arXiv:2108.00708, section 3.2, without its division by the memory that a channel takes.
    """

    def scores(self, network: Network, groups: ChannelGroups, images: Tensor | None = None) -> Scores:
        """Return the expected divergence, in nats where the network is a classifier."""
        found = responses(network, groups, images, draws=DRAWS)
        return {name: values.square().mean((0, 1)) / 2 for name, values in found.items()}


PRUNERS.register("fisher")(Fisher())
