"""How much the network's predictions feel that a channel is there, image by image: activation times gradient.

Calibration images have no labels, and at the float network's own outputs the gradient of any distance to them is zero.
So the loss is the negative log-likelihood of labels that the network itself gives: classes drawn from its own
probabilities, or, where an output is no vector of class scores, its own value plus noise as strong as its spread. The
mean square of that gradient is the Fisher information of the network's predictions.
"""

import torch
from torch import Tensor

from compress.network.graph import Graph, Network
from compress.network.groups import ChannelGroup, ChannelGroups, Member
from compress.network.ops import run_node
from compress.rewrites import fold_batch_norm
from hwmodels.errors import InputError

IMAGES_AT_ONCE = 16
"""Every activation of so many images is held for the backward pass."""

_GOLDEN = 0.6180339887498949
_TINY = 1e-12


def responses(network: Network, groups: ChannelGroups, images: Tensor | None, *, draws: int) -> dict[str, Tensor]:
    """Return by group how the loss of each drawn label answers to each channel: float64, ``(draws, images, channels)``.

    The value is the derivative of the loss by a factor, 1 as the network stands, that all outputs of the channel in
    all layers of the group are multiplied with: the sum of activation times gradient over layers and places. Batch
    norm is folded first. Draws are spread evenly over the probabilities, the same ones for equal networks and images.

    Raises:
        InputError: There are no images.
    """
    if images is None or not len(images):
        raise InputError("calibration", "must have images: this criterion needs gradients")
    folded = fold_batch_norm(network)
    outputs = {node.name: node.outputs[0] for node in folded.graph.nodes}
    members = {
        group.name: [member for member in group.values if member.name in {outputs[layer] for layer in group.layers}]
        for group in groups.groups
    }
    watched = list(dict.fromkeys(member.name for found in members.values() for member in found))
    totals = {
        group.name: torch.zeros(draws, len(images), group.channels, dtype=torch.float64) for group in groups.groups
    }
    for start in range(0, len(images), IMAGES_AT_ONCE):
        batch = images[start : start + IMAGES_AT_ONCE]
        for draw, products in enumerate(_products(folded, batch, watched, start=start, draws=draws)):
            for group in groups.groups:
                for member in members[group.name]:
                    sums = _per_image(products[member.name], folded.graph, member, len(batch))
                    totals[group.name][draw, start : start + len(batch)] += _by_channel(group, member, sums)
    return totals


def _products(
    network: Network, batch: Tensor, watched: list[str], *, start: int, draws: int
) -> list[dict[str, Tensor]]:
    """Return for every draw the product of activation and gradient of the values watched."""
    (name,) = network.graph.inputs
    with torch.enable_grad():
        values = {name: batch.detach().clone().requires_grad_()}
        for node in network.graph.nodes:
            values.update(run_node(node, values, network.tensors))
    found = []
    for draw in range(draws):
        with torch.enable_grad():
            loss = sum(
                (_loss(network.graph, output, values[output], start, draw, draws) for output in network.graph.outputs),
                start=batch.new_zeros(()),
            )
        gradients = torch.autograd.grad(
            loss, [values[value] for value in watched], retain_graph=draw + 1 < draws, allow_unused=True
        )
        found.append(
            {
                value: torch.zeros_like(values[value]) if gradient is None else values[value].detach() * gradient
                for value, gradient in zip(watched, gradients, strict=True)
            }
        )
    return found


def _loss(graph: Graph, output: str, value: Tensor, start: int, draw: int, draws: int) -> Tensor:
    """Return the negative log-likelihood of a label drawn for every image, up to a constant, summed over images."""
    sizes = [size for size in graph.shapes[output][1:] if size > 1]
    if len(graph.outputs) > 1 or len(sizes) != 1:
        generator = torch.Generator().manual_seed(start * draws + draw)
        noise = torch.randn(value.shape, generator=generator)
        return (value * noise).sum() / value.detach().std().clamp_min(_TINY)
    scores = value.flatten(1)
    if graph.producer()[output].op == "softmax":
        scores = scores.clamp_min(_TINY).log()
    likelihoods = scores.log_softmax(1)
    steps = torch.arange(start + 1, start + 1 + len(value), dtype=torch.float64) * _GOLDEN % 1  # spread over 0..1
    levels = ((draw + steps) / draws)[:, None]
    cumulated = likelihoods.detach().to(torch.float64).exp().cumsum(1)
    classes = torch.searchsorted(cumulated, levels).clamp_max(scores.shape[1] - 1)
    return -likelihoods.gather(1, classes).sum()


def _per_image(product: Tensor, graph: Graph, member: Member, images: int) -> Tensor:
    """Return sums over everything but the images and the member's axis: ``(images, positions)``.

    The images need not lie along the first axis (inside attention): it is the one that is longer than for one image.
    """
    stated = graph.shapes[member.name]
    batch = next((axis for axis, size in enumerate(product.shape) if size != stated[axis]), 0)
    apart: Tensor = product.unflatten(batch, (images, -1))  # type: ignore[no-untyped-call]
    axis = member.axis + (member.axis > batch)
    return apart.movedim((batch, axis), (0, -1)).flatten(1, -2).sum(1).to(torch.float64)


def _by_channel(group: ChannelGroup, member: Member, sums: Tensor) -> Tensor:
    positions, channels = member.positions()
    total = torch.zeros(len(sums), group.channels, dtype=torch.float64)
    return total.index_add(1, torch.from_numpy(channels), sums[:, torch.from_numpy(positions)])
