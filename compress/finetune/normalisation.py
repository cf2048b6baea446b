"""Batch norm put back behind folded layers while they are trained, and folded into them again at the end.

What is put back changes nothing at first: it scales to the deviation and shifts to the mean that the layer's output
has, and both are learned from there on, in units that mean the same to every channel. Folding it again costs nothing,
because codes have one scale per channel that takes its factor up. Its statistics may stay, or follow the batches:
weights of few bits jump from level to level, and normalisation keeps such jumps from adding up along the network.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.network.graph import Network, Node
from compress.quantize import Compressed
from compress.repair import channel_axis
from compress.runner import run

EPSILON = 1e-3
"""Share of a layer's mean variance that is added to every channel's: one that falls silent is not blown up."""
MOMENTUM = 0.1
LEAST_FACTOR = 0.01
"""A channel is never scaled to less than this share of its first deviation: scales of codes must stay positive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Mean and variance of a layer's output per channel, ``(channels,)`` each."""

    mean: Tensor
    variance: Tensor


class LayerNorm(nn.Module):
    """Batch norm behind one layer whose bias it takes over.

    Args:
        found: Statistics of the layer's output, bias included.
        bias: The layer's.
    """

    def __init__(self, found: Statistics, bias: Tensor) -> None:
        super().__init__()
        self._epsilon = max(float(found.variance.mean()) * EPSILON, torch.finfo(torch.float32).tiny)
        self.register_buffer("deviation", (found.variance + self._epsilon).sqrt())
        self.register_buffer("running_mean", found.mean - bias)
        self.register_buffer("running_var", found.variance.clone())
        self.gain = nn.Parameter(torch.ones_like(bias))
        self.shift = nn.Parameter(found.mean / self.get_buffer("deviation"))
        self.momentum = MOMENTUM

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output as the next node reads it, by its batch's statistics; ``x`` has no bias yet."""
        gain, shift = self._affine()
        return F.batch_norm(
            x,
            self.get_buffer("running_mean"),
            self.get_buffer("running_var"),
            gain,
            shift,
            training=True,
            momentum=self.momentum,
            eps=self._epsilon,
        )

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return what the layer's weight is multiplied by per channel, and its bias, with gradients."""
        gain, shift = self._affine()
        factor = gain / (self.get_buffer("running_var") + self._epsilon).sqrt()
        return factor, shift - self.get_buffer("running_mean") * factor

    def _affine(self) -> tuple[Tensor, Tensor]:
        deviation = self.get_buffer("deviation")
        return self.gain.clamp_min(LEAST_FACTOR) * deviation, self.shift * deviation


def normalised_layers(compressed: Compressed, batches: Sequence[Tensor]) -> dict[str, LayerNorm]:
    """Return a batch norm for every layer that can take one, by the layer's name.

    Their statistics are those of ``batches``, averaged as ``settle`` does it: of the same images, so that what is put
    back really changes nothing.

    A layer needs a bias, a weight and bias that no other layer shares, and one scale per channel if it has codes. The
    network's output stays as it is: class scores have a meaning that batches must not change.
    """
    graph = compressed.network.graph
    uses = Counter(name for node in graph.nodes for name in (*node.parameters.values(), *node.inputs))
    wanted = {
        node.outputs[0]: node
        for node in graph.nodes
        if node.op in ("conv", "conv_transpose", "linear")
        and node.outputs[0] not in graph.outputs
        and "bias" in node.parameters
        and all(uses[name] == 1 for name in node.parameters.values())
        and _takes_gain(node, compressed)
    }
    found: dict[str, list[Statistics]] = {}

    def observe(name: str, node: Node | None, value: Tensor) -> Tensor:
        if name in wanted and node is not None and channel_axis(node, tuple(value.shape)) == 1:
            rows = value.movedim(1, 0).flatten(1)
            variance, mean = torch.var_mean(rows, dim=1, correction=0)
            found.setdefault(name, []).append(Statistics(mean=mean, variance=variance))
        return value

    for batch in batches:
        run(compressed.network, batch, observe)
    return {
        wanted[name].name: LayerNorm(_averaged(statistics), _bias(compressed.network, wanted[name]))
        for name, statistics in found.items()
    }


def _averaged(rows: Sequence[Statistics]) -> Statistics:
    return Statistics(
        mean=torch.stack([row.mean for row in rows]).mean(0),
        variance=torch.stack([row.variance for row in rows]).mean(0),
    )


def scaled(weight: Tensor, factor: Tensor, node: Node) -> Tensor:
    """Return a layer's weight times a factor per output channel."""
    shape = [1] * weight.ndim
    shape[1 if node.op == "conv_transpose" else 0] = -1
    return weight * factor.reshape(shape)


def without_bias(node: Node) -> Node:
    """Return the layer without its bias."""
    return replace(node, parameters={role: name for role, name in node.parameters.items() if role != "bias"})


def settle(norms: Mapping[str, LayerNorm], batches: int) -> None:
    """Average the statistics of the ``batches``-th batch with those of the ones before it, all alike."""
    for norm in norms.values():
        norm.momentum = 1 / (batches + 1)


def _takes_gain(node: Node, compressed: Compressed) -> bool:
    coded = compressed.coded.get(node.parameters["weight"])
    if node.op == "conv_transpose" and node.attributes["groups"] != 1:
        return False
    if coded is None:
        return True
    scale = coded.codes.parameters.get("scale")
    per_channel = scale is not None and scale.shape == _bias(compressed.network, node).shape
    return per_channel and compressed.plan.numerics.scale_format == "float32"


def _bias(network: Network, node: Node) -> Tensor:
    return network.tensors[node.parameters["bias"]].detach().float()
