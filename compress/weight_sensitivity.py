"""What rounding one layer's weights does to the network's outputs, for every layer and width, in one walk."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from compress.apply import Prepared, apply, float_weights
from compress.network.graph import Node
from compress.network.ops import run_node
from compress.placement import LAYER_OPS
from compress.plan import Plan
from compress.quantize import Compressed
from compress.repair import channel_axis
from compress.rounding import compensated, second_moments
from compress.runner import run

PROBED_IMAGES = 128


def weight_sensitivity(
    prepared: Prepared, plan: Plan, widths: Iterable[int], *, images: int = PROBED_IMAGES
) -> dict[str, dict[int, float]]:
    """Return by layer and width how much the network's outputs move when that layer's weights alone get that width.

    All else stays as ``plan`` has it, later layers' codes and ranges included, so only what lies behind the layer is
    run again. The change is the squared difference of an image's outputs, less their mean over the classes (which no
    softmax sees), summed over the classes and averaged over the images. A divergence of class probabilities would tell
    next to nothing on images that the network was trained on, of which it is all but certain.

    Weights are rounded to the nearest level or, where ``plan`` rounds with data, compensated; the layer's output then
    gets back the mean and spread per channel that it has under ``plan``, as channel repair would do.

    Args:
        prepared: From ``prepare``; the first ``images`` of its calibration images are used.
        plan: Gives every layer bits, more than ``widths``.
        widths: To be tried.
        images: How many.
    """
    compressed = apply(prepared, plan)
    walk = _Walk(compressed, float_weights(prepared, plan), plan, tuple(widths))
    run(compressed.network, prepared.images[:images], rewrite=walk.probe)
    return walk.found


class _Walk:
    """Follows a pass over the images and tries every width of a layer when the pass is about to run it."""

    def __init__(
        self, compressed: Compressed, exact: Mapping[str, Tensor], plan: Plan, widths: tuple[int, ...]
    ) -> None:
        self._network = compressed.network
        self._coded = compressed.coded
        self._exact = exact
        self._plan = plan
        self._widths = widths
        self._places = {node.name: place for place, node in enumerate(compressed.network.graph.nodes)}
        self._outputs: Tensor | None = None
        self.found: dict[str, dict[int, float]] = {}

    def probe(self, node: Node, values: Mapping[str, Tensor]) -> Node:
        """Measure every width of ``node``, if it is a layer with codes."""
        name = node.parameters.get("weight", "")
        if node.op in LAYER_OPS and name in self._coded:
            before = run_node(node, values, self._network.tensors)[node.outputs[0]]
            if self._outputs is None:
                self._outputs = self._rest(node, values, before)
            moments = self._moments(node, values)
            self.found[node.name] = {
                width: self._change(node, values, before, self._rounded(node, width, moments)) for width in self._widths
            }
        return node

    def _moments(self, node: Node, values: Mapping[str, Tensor]) -> Tensor | None:
        if self._plan.numerics.weight_rounding == "nearest" or node.op not in ("conv", "linear"):
            return None
        return second_moments(node, self._exact[node.parameters["weight"]], values[node.inputs[0]])

    def _rounded(self, node: Node, width: int, moments: Tensor | None) -> Tensor:
        """Return the layer's weight as it would be with another width, in the operator's own layout."""
        name = node.parameters["weight"]
        format = replace(self._coded[name].format, bits=width)
        quantizer = format.build(self._plan.numerics)
        weight = self._exact[name].movedim(format.axis, 0)
        quantizer.fit(weight)
        if moments is None or not quantizer.separable:
            rounded: Tensor = quantizer(weight)
        else:
            rounded = compensated(weight, quantizer, moments)
        return rounded.movedim(0, format.axis).contiguous()

    def _change(self, node: Node, values: Mapping[str, Tensor], before: Tensor, weight: Tensor) -> float:
        tensors = {**self._network.tensors, node.parameters["weight"]: weight}
        after = run_node(node, values, tensors)[node.outputs[0]]
        found = self._rest(node, values, _like(after, before, channel_axis(node, tuple(before.shape))))
        assert self._outputs is not None
        change = (found - self._outputs).double()
        change = change - change.mean(1, keepdim=True)
        return float(change.square().flatten(1).sum(1).mean())

    def _rest(self, node: Node, values: Mapping[str, Tensor], written: Tensor) -> Tensor:
        """Return the network's output when ``node`` writes ``written``; all else that is needed is in ``values``."""
        graph = self._network.graph
        rest = graph.nodes[self._places[node.name] + 1 :]
        left = Counter(value for later in rest for value in later.inputs)
        left.update(graph.outputs)
        known = {**values, node.outputs[0]: written}
        for later in rest:
            known.update(run_node(later, known, self._network.tensors))
            for value in later.inputs:
                left[value] -= 1
                if left[value] == 0:
                    known.pop(value, None)  # constants are not among them
        return known[graph.outputs[0]]


def _like(value: Tensor, wanted: Tensor, axis: int) -> Tensor:
    """Return ``value`` with the mean and spread of ``wanted`` in each channel; what does not vary is only shifted."""
    others = [dimension for dimension in range(value.ndim) if dimension != axis]
    std, mean = torch.std_mean(value, dim=others, keepdim=True, correction=0)
    goal_std, goal_mean = torch.std_mean(wanted, dim=others, keepdim=True, correction=0)
    gain = torch.where((std > 0) & (goal_std > 0), goal_std / std, 1.0)
    return (value - mean) * gain + goal_mean
