"""Channels by the first-order change of the loss without them."""

from torch import Tensor

from compress.network.graph import Network
from compress.network.groups import ChannelGroups
from compress.pruners.base import PRUNERS, Scores
from compress.pruners.gradients import responses


class Taylor:
    """Scores a channel by the mean over images of ``|sum of activation times gradient|``.

    That is how much the loss changes, to first order, when the channel is set to zero in all layers of its group.
    Labels are drawn from the network's own predictions (``gradients``).

    Source: Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    arXiv:1611.06440, section 2.2, equations 7 and 8; without the rescaling by layer, which no comparison within a group
    needs.
    """

    def scores(self, network: Network, groups: ChannelGroups, images: Tensor | None = None) -> Scores:
        """Return the mean absolute change of the loss, in nats where the network is a classifier."""
        found = responses(network, groups, images, draws=1)
        return {name: values.abs().mean((0, 1)) for name, values in found.items()}


PRUNERS.register("taylor")(Taylor())
