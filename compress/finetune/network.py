"""A compressed network in training: float weights behind their grids, run node by node."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from compress.finetune.methods import ActivationGrid, Method, WeightGrid
from compress.finetune.methods.grids import PlainWeight
from compress.finetune.normalisation import LayerNorm, scaled, without_bias
from compress.network.build import unique_identifiers
from compress.network.graph import Network, Node
from compress.network.ops import run_node
from compress.operands import matched_quantizers
from compress.placement import quantizers, scale_of
from compress.quantize import Compressed
from compress.weights import CodedWeight, accumulator_steps, on_accumulator_grid, with_gain

LARGEST_BIAS_STEPS = 2**24  # float32 holds whole numbers up to here


class TrainableNetwork(nn.Module):
    """Runs as the compressed network does, and learns.

    Every quantized weight, float weight and bias and every quantizer of activations is trained as ``method`` says; the
    running statistics of batch norms that could not be folded stay, and so do constants.

    Args:
        compressed: The network to start from.
        start: Float values of quantized weights by tensor name, before rounding; a weight that is missing starts from
            the values of its codes.
        method: How values are rounded.
        norms: Batch norms for the time of training, by layer (``normalised_layers``).
    """

    def __init__(
        self,
        compressed: Compressed,
        start: Mapping[str, Tensor],
        method: Method,
        norms: Mapping[str, LayerNorm] | None = None,
    ) -> None:
        super().__init__()
        self._compressed = compressed
        graph, numerics = compressed.network.graph, compressed.plan.numerics
        tensors = compressed.network.tensors
        self._names = unique_identifiers([*tensors, *(node.name for node in graph.nodes)])
        self.weights, self.activations = nn.ModuleDict(), nn.ModuleDict()
        self._axes = {name: coded.format.axis for name, coded in compressed.coded.items()}
        for name, coded in compressed.coded.items():
            values = _scaled_start(start.get(name), tensors[name], coded.format.axis)
            self.weights[self._names[name]] = method.weight(values, coded, numerics)
        self._float_names = tuple(trained_floats(compressed, norms or {}))
        for name in self._float_names:
            self.weights[self._names[name]] = _plain(tensors[name])
        groups = matched_quantizers(graph) if numerics.operand_scales == "matched" else []
        first = {name: group[0] for group in groups for name in group}  # in the graph's order: these learn as one
        for node in graph.nodes:
            if node.op == "quantize":
                known = self._names[first.get(node.name, node.name)]
                grid = self.activations[known] if known in self.activations else method.activation(node, numerics)
                self.activations[self._names[node.name]] = grid
        self._norm_names = {name: self._names[name] for name in norms or {}}
        self.norms = nn.ModuleDict({self._names[name]: norm for name, norm in (norms or {}).items()})
        learned = {*compressed.coded, *self._float_names}
        self._fixed = {name: tensor for name, tensor in tensors.items() if name not in learned}

    def to_device(self, device: str) -> "TrainableNetwork":
        """Move everything, fixed tensors included."""
        self._fixed = {name: tensor.to(device) for name, tensor in self._fixed.items()}
        return self.to(device)

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's output."""
        tensors = {**self._fixed, **self._learned()}
        graph = self._compressed.network.graph
        left = Counter(value for node in graph.nodes for value in node.inputs)
        left.update(graph.outputs)
        values = {graph.inputs[0]: images}
        for node in graph.nodes:
            if node.op == "quantize":
                values[node.outputs[0]] = self._activation(node.name)(values[node.inputs[0]])
            elif node.name in self._norm_names and self.norms.training:
                (found,) = run_node(without_bias(node), values, tensors).values()
                values[node.outputs[0]] = self._norm(node)(found)
            elif node.name in self._norm_names:
                values.update(run_node(node, values, self._normalised(node, tensors)))
            else:
                values.update(run_node(node, values, tensors))
            for value in node.inputs:
                left[value] -= 1
                if left[value] == 0:
                    values.pop(value, None)
        return values[graph.outputs[0]]

    def penalty(self) -> Tensor | None:
        """Return what the method adds to the loss."""
        found = [self._activation(name).penalty() for name in self._quantize_names()]
        terms = [term for term in found if term is not None]
        return torch.stack(terms).sum() if terms else None

    def grid_parameters(self) -> list[nn.Parameter]:
        """Return what grids learn beside weights."""
        return [
            getattr(module, name)
            for module in self.modules()
            if isinstance(module, WeightGrid | ActivationGrid)
            for name in module.grid_parameters
            if getattr(module, name).requires_grad
        ]

    def compressed(self) -> Compressed:
        """Return the network as it will be deployed: codes, grids, biases on their accumulators' steps."""
        with torch.no_grad():
            network, numerics = self._compressed.network, self._compressed.plan.numerics
            coded = {name: self._coded(name) for name in self._compressed.coded}
            graph = network.graph.with_nodes(
                replace(node, attributes=self._activation(node.name).attributes()) if node.op == "quantize" else node
                for node in network.graph.nodes
            )
            learned = {name: tensor.detach().cpu().contiguous() for name, tensor in self._learned().items()}
            fixed = {name: tensor.cpu() for name, tensor in self._fixed.items()}
            tensors = {**fixed, **learned}
            for node in graph.nodes:
                if node.name in self._norm_names:
                    self._fold(node, tensors, coded)
            decoded = {name: weight.decode(numerics) for name, weight in coded.items()}
            result = Network(graph=graph, tensors={**tensors, **decoded})
            biases = _rounded_biases(result, coded, self._compressed)
        final = replace(result, tensors={**result.tensors, **biases})
        return replace(self._compressed, network=final, coded=coded, outputs=())

    def _fold(self, node: Node, tensors: dict[str, Tensor], coded: dict[str, CodedWeight]) -> None:
        """Give a layer what its batch norm does."""
        gain, bias = (values.cpu() for values in self._norm(node).folded())
        weight = node.parameters["weight"]
        tensors[node.parameters["bias"]] = bias
        if weight in coded:
            coded[weight] = with_gain(coded[weight], gain, self._compressed.plan.numerics)
        else:
            tensors[weight] = scaled(tensors[weight], gain, node)

    def _normalised(self, node: Node, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a layer's weight and bias with its norm folded in: fixed statistics need no pass of their own."""
        factor, bias = self._norm(node).folded()
        weight = node.parameters["weight"]
        return {weight: scaled(tensors[weight], factor, node), node.parameters["bias"]: bias}

    def _norm(self, node: Node) -> LayerNorm:
        norm = self.norms[self._norm_names[node.name]]
        assert isinstance(norm, LayerNorm)
        return norm

    def _learned(self) -> dict[str, Tensor]:
        floats = {name: self.weights[self._names[name]]() for name in self._float_names}
        coded = {name: self.weights[self._names[name]]().movedim(0, axis) for name, axis in self._axes.items()}
        return {**floats, **coded}

    def _coded(self, name: str) -> CodedWeight:
        grid = self.weights[self._names[name]]
        assert isinstance(grid, WeightGrid)
        coded = grid.coded()
        codes = replace(
            coded.codes,
            values=coded.codes.values.cpu(),
            parameters={role: values.cpu() for role, values in coded.codes.parameters.items()},
        )
        return replace(coded, codes=codes)

    def _activation(self, name: str) -> ActivationGrid:
        grid = self.activations[self._names[name]]
        assert isinstance(grid, ActivationGrid)
        return grid

    def _quantize_names(self) -> list[str]:
        return [node.name for node in self._compressed.network.graph.nodes if node.op == "quantize"]


def trained_floats(compressed: Compressed, norms: Container[str]) -> list[str]:
    """Return the names of float weights and biases, in the graph's order, without those that a norm takes over."""
    tensors, coded = compressed.network.tensors, compressed.coded
    names = [
        name
        for node in compressed.network.graph.nodes
        for role, name in node.parameters.items()
        if role in ("weight", "bias")
        and name not in coded
        and tensors[name].is_floating_point()
        and not (role == "bias" and node.name in norms)
    ]
    return list(dict.fromkeys(names))


class _Vector(PlainWeight):
    """A bias, or the factors of a normalisation, in the unit of their root mean square."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(values[None])

    def forward(self) -> Tensor:
        """Return the vector."""
        return super().forward()[0]


def _plain(values: Tensor) -> PlainWeight:
    return PlainWeight(values) if values.ndim > 1 else _Vector(values)


def _scaled_start(start: Tensor | None, decoded: Tensor, axis: int) -> Tensor:
    """Return the float weight with the gains that repair gave its codes, output channels first.

    The gain is ``⟨q, q⟩ / ⟨q, w⟩`` per channel: 1 for least-squares scales, and the repair's factor after it.
    """
    codes = decoded.movedim(axis, 0).contiguous()
    if start is None or start.shape != decoded.shape:
        return codes
    exact = start.detach().float().movedim(axis, 0).contiguous()
    rows, targets = exact.flatten(1), codes.flatten(1)
    product = (rows * targets).sum(1)
    gain = torch.where(product > 0, targets.square().sum(1) / product, 1.0)
    return exact * gain.reshape(-1, *(1,) * (exact.ndim - 1))


def _rounded_biases(network: Network, coded: Mapping[str, CodedWeight], before: Compressed) -> dict[str, Tensor]:
    """Return the biases of integer layers on the steps of their accumulators, as quantization leaves them."""
    grids = quantizers(network.graph)
    uses = Counter(name for node in network.graph.nodes for name in node.parameters.values())
    rounded: dict[str, Tensor] = {}
    for node in network.graph.nodes:
        weight, name = node.parameters.get("weight"), node.parameters.get("bias")
        if weight is None or weight not in coded or name is None or uses[name] > 1 or node.inputs[0] not in grids:
            continue
        steps = accumulator_steps(coded[weight], scale_of(grids[node.inputs[0]]), before.plan.numerics)
        bias = network.tensors[name]
        if steps is None or len(steps) not in (1, len(bias)) or bool((bias.abs() >= steps * LARGEST_BIAS_STEPS).any()):
            continue
        rounded[name] = on_accumulator_grid(bias, steps)
    return rounded
