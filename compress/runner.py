"""Run a network node by node, and let callers see and change every value on the way.

One pass over the calibration images can so repair a layer, hand the repaired values on, and observe their range,
instead of a pass for each of these.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from compress.network.graph import Network, Node
from compress.network.ops import run_node

ValueHook = Callable[[str, Node | None, Tensor], Tensor]
"""Called with a value's name, the node that wrote it (``None`` for a graph input) and the value; returns the value
that later nodes read: the same tensor, or another one of the same shape."""

NodeRule = Callable[[Node, Mapping[str, Tensor]], Node]
"""Called with a node that is about to run and the values at hand; returns the node that runs in its place."""


@torch.no_grad()
def run(
    network: Network,
    images: Tensor,
    *hooks: ValueHook,
    rewrite: NodeRule | None = None,
    known: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Return the network's outputs for ``images``, passing every value through the hooks in order.

    Values are freed after their last reader, so the peak is that of a plain forward pass. The network must have
    one input. ``known`` has values that none of its nodes write, as the hooks have left them.
    """
    graph = network.graph
    (name,) = graph.inputs
    left = Counter(value for node in graph.nodes for value in node.inputs)
    left.update(graph.outputs)
    values = {name: _passed(hooks, name, None, images), **(known or {})}
    for node in graph.nodes:
        running = node if rewrite is None else rewrite(node, values)
        for value, result in run_node(running, values, network.tensors).items():
            values[value] = _passed(hooks, value, node, result)
        for value in node.inputs:
            left[value] -= 1
        for value in (*node.inputs, *node.outputs):
            if left[value] == 0:
                values.pop(value, None)
    return tuple(values[value] for value in graph.outputs)


def _passed(hooks: tuple[ValueHook, ...], name: str, node: Node | None, value: Tensor) -> Tensor:
    for hook in hooks:
        value = hook(name, node, value)
    return value
