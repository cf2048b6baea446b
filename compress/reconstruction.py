"""Least-squares reconstruction: layers re-fitted to what they computed before their inputs were cut.

For one layer after another, in execution order, the weights are chosen that bring its output on calibration images
nearest to the float network's, given the inputs that it gets now. So each layer makes up for channels that it has lost
and for what earlier layers could not make up for.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.network.graph import Network, Node
from compress.network.ops import OPS
from compress.repair import channel_axis
from compress.runner import run
from compress.structure import Restructured, Structure

SAMPLES = 8192
"""Output positions, over all images, that a layer is fitted to."""

RIDGE = 1e-3
"""Pull towards the present weights, relative to the mean square of the inputs."""


EXACT = 1e-5
"""Relative error, from rounding alone, up to which a layer needs no fitting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSamples:
    """What a layer of the float network writes: ``values`` ``(samples, channels)`` at ``positions`` of each image.

    ``positions`` are ``(images, samples per image)``, counted in the row-major order of the output's places.
    """

    values: Tensor
    positions: Tensor


def layer_samples(network: Network, images: Tensor, *, seed: int = 0) -> dict[str, LayerSamples]:
    """Return random samples of every layer's output by value; one pass over the images, shared by all candidates.

    Args:
        network: The float network with batch norm folded (``Structure.prepared(network).folded``).
        images: Calibration images.
        seed: Of the positions.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, LayerSamples] = {}

    def sample(name: str, node: Node | None, value: Tensor) -> Tensor:
        if node is not None and OPS[node.op].weighted:
            rows = _places(value.movedim(channel_axis(node, tuple(value.shape)), -1))
            count = min(rows.shape[1], max(1, SAMPLES // len(rows)))
            positions = torch.randint(rows.shape[1], (len(rows), count), generator=generator)
            chosen = rows[torch.arange(len(rows))[:, None], positions].flatten(0, 1)
            found[name] = LayerSamples(values=chosen, positions=positions)
        return value

    run(network, images, sample)
    return found


def reconstructed(
    samples: Mapping[str, LayerSamples], network: Network, structure: Structure, result: Restructured, images: Tensor
) -> Network:
    """Return the restructured network with its dense layers re-fitted, in one pass over the images.

    Minimises ``|X W - Y|^2 + ridge |W - W0|^2`` per layer, where ``X`` are the patches that it reads at the samples'
    positions, ``Y`` the float network's output there (for the channels that stay) and ``W0`` the present weights, bias
    included. One-dimensional convolutions, layers with groups, with shared weights, and layers that an operator added
    and whose output the float network does not have, stay as they are.

    Source: He, Zhang, Sun 2017, arXiv:1707.06168, section 3.1 (reconstruction step), here layer by layer on the inputs
    that the cut network really computes.

    Args:
        samples: From ``layer_samples`` with the same images.
        network: The ingested float network.
        structure: The network's.
        result: From ``structure.restructured`` with values.
        images: Calibration images.
    """
    wanted = _wanted(samples, network, structure, result)
    tensors = dict(result.network.tensors)
    changing = Network(graph=result.network.graph, tensors=tensors)

    def fit(node: Node, values: Mapping[str, Tensor]) -> Node:
        if node.outputs[0] in wanted and OPS[node.op].weighted:
            target = wanted[node.outputs[0]]
            weight, bias = node.parameters["weight"], node.parameters.get("bias")
            patches = _patches(node, values[node.inputs[0]], tensors[weight], target.positions)
            before = None if bias is None else tensors[bias]
            tensors[weight], after = _fitted(patches, target.values, tensors[weight], before)
            if bias is not None and after is not None:
                tensors[bias] = after
        return node

    run(changing, images, rewrite=fit)
    return replace(result.network, tensors=tensors)


def _wanted(
    samples: Mapping[str, LayerSamples], network: Network, structure: Structure, result: Restructured
) -> dict[str, LayerSamples]:
    """Return what each layer that can be re-fitted should write: samples of the channels that stay."""
    prepared = structure.prepared(network)
    graph, tensors = result.network.graph, result.network.tensors
    uses = Counter(name for node in graph.nodes for name in (*node.parameters.values(), *node.inputs))
    found: dict[str, LayerSamples] = {}
    for node in graph.nodes:
        name = node.outputs[0]
        dense = node.op == "linear" or (node.op == "conv" and node.attributes["groups"] == 1)
        if not dense or name not in samples or any(uses[tensor] > 1 for tensor in node.parameters.values()):
            continue
        if tensors[node.parameters["weight"]].ndim == 3:
            continue  # one-dimensional convolution
        axis = channel_axis(node, graph.shapes[name])
        mask = prepared.cutter.value_mask(prepared.folded.graph, name, axis, result.kept)
        known = samples[name]
        found[name] = known if mask is None else replace(known, values=known.values[:, torch.from_numpy(mask)])
    return found


def _places(value: Tensor) -> Tensor:
    """Return a value with its channels last as ``(images, places, channels)``."""
    return value.flatten(1, -2) if value.ndim > 2 else value[:, None]


def _patches(node: Node, value: Tensor, weight: Tensor, positions: Tensor) -> Tensor:
    """Return what the layer reads for its output at each position: ``(samples, inputs)``, in the weight's order."""
    count = torch.arange(len(value))[:, None]
    if node.op == "linear":
        return _places(value)[count, positions].flatten(0, 1)
    stride, padding, dilation = (_pair(node, key) for key in ("stride", "padding", "dilation"))
    kernel = weight.shape[2:]
    padded = F.pad(value, (padding[1], padding[1], padding[0], padding[0]))
    width = (padded.shape[3] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    down = (positions // width * stride[0])[..., None, None] + torch.arange(kernel[0])[:, None] * dilation[0]
    across = (positions % width * stride[1])[..., None, None] + torch.arange(kernel[1]) * dilation[1]
    taken = padded[count[..., None, None], :, down, across]  # (images, samples, height, width, channels)
    return taken.movedim(-1, 2).flatten(2).flatten(0, 1)


def _pair(node: Node, key: str) -> tuple[int, int]:
    value = node.attributes[key]
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{node.name}: {key} must be two integers, got {value!r}")
    return int(value[0]), int(value[1])


def _fitted(patches: Tensor, wanted: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the weight and bias nearest to ``wanted``, pulled towards the present ones.

    A layer that computes what it should keeps the very tensors that it has.
    """
    inputs = patches.to(torch.float64)
    start = weight.flatten(1).T.to(torch.float64)  # (inputs, out)
    if bias is not None:
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
        start = torch.cat([start, bias[None].to(torch.float64)])
    missing = wanted.to(torch.float64) - inputs @ start
    if missing.norm() <= EXACT * wanted.norm():
        return weight, bias
    squares = inputs.T @ inputs
    ridge = RIDGE * squares.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    squares.diagonal().add_(ridge)
    found = start + torch.linalg.solve(squares, inputs.T @ missing)
    if bias is None:
        return found.T.reshape(weight.shape).to(weight.dtype), None
    return found[:-1].T.reshape(weight.shape).to(weight.dtype), found[-1].to(bias.dtype)
