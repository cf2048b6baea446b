"""A runnable ``torch.fx.GraphModule`` of a network, and the shapes of its values.

The module has one submodule per node with parameters, a plain ``torch.nn`` one, so that tools which look for
``nn.Conv2d`` find it. Tensors are shared with the network, never copied.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, fx, nn

from compress.network.graph import Graph, Network, Node
from compress.network.ops import OPS
from compress.network.ops.elementwise import add_in_place, quantize_in_place
from compress.network.ops.movement import part
from compress.network.ops.shapes import checked_size
from compress.network.ops.spec import Shape


def build_module(network: Network) -> fx.GraphModule:
    """Return the network as a module in evaluation mode; it runs at any batch size.

    ``module.meta["layers"]`` maps node names to submodule paths (nodes with parameters only) and
    ``module.meta["constants"]`` names of tensors that enter as values to attribute names. Every fx node that computes
    a node has that in ``meta["node"]``; placeholders have the name of their graph input in ``meta["value"]``.
    """
    root = nn.Module()
    paths = unique_identifiers(node.name for node in network.graph.nodes)
    shared: dict[str, Tensor] = {}
    layers = {
        node.name: paths[node.name]
        for node in network.graph.nodes
        if _add_submodule(root, paths[node.name], node, network, shared)
    }
    constants = _add_constants(root, network, shared)
    module = fx.GraphModule(root, _fx_graph(network.graph, layers, constants), class_name="Network")
    module.meta["layers"] = layers
    module.meta["constants"] = constants
    return module.eval()


def run_shapes(network: Network) -> Graph:
    """Return the graph with the shape of every value found anew, for a batch of one.

    Raises:
        ShapeError: Shapes do not fit together; names the node.
    """
    sizes = {name: tuple(tensor.shape) for name, tensor in network.tensors.items()}
    return replace(network.graph, shapes=propagate_shapes(network.graph, sizes))


def propagate_shapes(graph: Graph, tensors: Mapping[str, Shape], *, batch: int = 1) -> dict[str, Shape]:
    """Return the shape of every value, given those of the graph's inputs and of the tensors."""
    shapes: dict[str, Shape] = {name: (batch, *graph.shapes[name][1:]) for name in graph.inputs}
    for node in graph.nodes:
        inputs = [shapes[name] if name in shapes else tensors[name] for name in node.inputs]
        weight = node.parameters.get("weight")
        shapes.update(node_shapes(node, inputs, None if weight is None else tensors[weight]))
    return shapes


def node_shapes(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> dict[str, Shape]:
    """Return the shapes of what ``node`` writes."""
    made = OPS[node.op].shape(node, inputs, weight)
    checked_size(node, made)
    return dict(zip(node.outputs, made, strict=True))


def unique_identifiers(names: Iterable[str]) -> dict[str, str]:
    """Map every name to an identifier of its own, as similar as possible; stable for equal input."""
    taken: set[str] = set()
    identifiers: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_").lower() or "node"
        stem = f"n_{stem}" if stem[0].isdigit() or hasattr(nn.Module, stem) else stem
        identifier, count = stem, 1
        while identifier in taken:
            count += 1
            identifier = f"{stem}_{count}"
        taken.add(identifier)
        identifiers[name] = identifier
    return identifiers


def _shared_parameter(shared: dict[str, Tensor], network: Network, name: str) -> Tensor:
    """One ``nn.Parameter`` per float tensor, so that layers which share a tensor go on sharing it."""
    if name not in shared:
        tensor = network.tensors[name]
        shared[name] = nn.Parameter(tensor) if tensor.is_floating_point() else tensor
    return shared[name]


_STATISTICS = ("running_mean", "running_var")


def _add_submodule(root: nn.Module, path: str, node: Node, network: Network, shared: dict[str, Tensor]) -> bool:
    build = OPS[node.op].module
    if build is None:
        return False
    tensors = {
        role: network.tensors[name] if role in _STATISTICS else _shared_parameter(shared, network, name)
        for role, name in node.parameters.items()
    }
    root.add_module(path, build(node, tensors))
    return True


def _add_constants(root: nn.Module, network: Network, shared: dict[str, Tensor]) -> dict[str, str]:
    used = dict.fromkeys(name for node in network.graph.nodes for name in node.inputs if name in network.tensors)
    attributes = {name: f"constant_{index}" for index, name in enumerate(used)}
    for name, attribute in attributes.items():
        tensor = _shared_parameter(shared, network, name)
        if isinstance(tensor, nn.Parameter):
            root.register_parameter(attribute, tensor)
        else:
            root.register_buffer(attribute, tensor)
    return attributes


_ANEW = frozenset({"conv", "conv_transpose", "linear", "add", "sub", "mul", "relu", "hard_swish", "silu", "sigmoid"})
"""Operators whose result never shares memory with what they read."""


def _overwriting(graph: Graph) -> dict[str, Callable[..., object]]:
    """Return what runs quantizers and additions that may overwrite their first input: nobody reads it after them.

    Additions only behind quantizers: it is the simulation of a quantized network that moves more memory than it must.
    """
    producer, consumers = graph.producer(), graph.consumers()
    found: dict[str, Callable[..., object]] = {}
    for node in graph.nodes:
        value = node.inputs[0]
        if value not in producer or value in graph.outputs:
            continue
        source, readers = producer[value], consumers[value]
        if node.op == "quantize" and source.op in _ANEW:
            if readers[-1] is node and all(reader.op in {*_ANEW, "quantize"} for reader in readers):
                found[node.name] = quantize_in_place
            continue
        shapes = {graph.shapes.get(operand) for operand in node.inputs}
        if (
            node.op == "add"
            and source.op == "quantize"
            and len(readers) == 1
            and len(shapes) == 1
            and None not in shapes
        ):
            found[node.name] = add_in_place
    return found


def _fx_graph(graph: Graph, layers: dict[str, str], constants: dict[str, str]) -> fx.Graph:
    result = fx.Graph()
    values: dict[str, fx.Node] = {}
    for value, identifier in unique_identifiers(graph.inputs).items():
        values[value] = result.placeholder(identifier)
        values[value].meta["value"] = value
    values.update({name: result.get_attr(attribute) for name, attribute in constants.items()})
    overwriting = _overwriting(graph)
    for node in graph.nodes:
        arguments = tuple(values[name] for name in node.inputs)
        if node.name in layers:
            made = result.call_module(layers[node.name], arguments)
        else:
            run: Callable[..., object] = overwriting.get(node.name, OPS[node.op].run)
            made = result.call_function(run, arguments, dict(node.attributes))
        made.meta["node"] = node
        if OPS[node.op].outputs == (1, 1):
            values[node.outputs[0]] = made
            continue
        for index, name in enumerate(node.outputs):
            values[name] = result.call_function(part, (made, index))
    outputs = tuple(values[name] for name in graph.outputs)
    result.output(outputs[0] if len(outputs) == 1 else outputs)
    return result
