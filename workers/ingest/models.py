"""Requests about networks: reading one, shaping one by a plan, and how far the limits of a job reach."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from compress.data_free.images import check as check_data_free
from compress.network.check import check_network
from compress.network.describe import layers, macs, parameter_count
from compress.network.graph import Graph, Network
from compress.network.onnx_import import import_onnx
from compress.network.quantized_onnx import read_any_onnx
from compress.network.zoo import from_architecture
from compress.plan import Plan
from compress.rewrites import remove_dead_channels
from compress.structure import analyse, restructure
from compress.workload import workload
from hwmodels.errors import UnknownNameError
from search.strategies import STRATEGIES
from workers.fit import contradictory_limits, fit_problem, impossible_limits, reachable_ranges
from workers.ingest.protocol import IngestError, write_json
from workers.spec import JobSpec

GRAPH_FILE = "graph.json"
WEIGHTS_FILE = "weights.safetensors"


def ingest_model(parameters: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Read a network; write its graph and tensors, return the description.

    ``path`` is an ONNX file, or the safetensors of ``architecture``; ``data`` is the file in which the ONNX file keeps
    its tensors, or ``None``.
    """
    path, data = Path(parameters["path"]), parameters["data"]
    if path.stat().st_size == 0:
        raise IngestError("file", "must not be empty", code="empty_file")
    architecture = parameters["architecture"]
    if architecture is None:
        network = import_onnx(path, None if data is None else Path(data))
    elif data is None:
        network = from_architecture(architecture, path)
    else:
        raise IngestError("data", "belongs to an ONNX file; the weights of an architecture are one file")
    network = remove_dead_channels(network)
    check_network(network)
    description = describe(network)
    write_json(folder / GRAPH_FILE, network.graph.to_json())
    save_file({name: tensor.contiguous().clone() for name, tensor in network.tensors.items()}, folder / WEIGHTS_FILE)
    return description


def describe(network: Network) -> dict[str, Any]:
    """Return what the service keeps of a network in its row (``descriptions.ModelDescription``)."""
    graph = network.graph
    _check_interface(graph)
    (input_name,), (output_name,) = graph.inputs, graph.outputs
    structure = analyse(network)
    load = workload(restructure(network.to_meta(), Plan(), structure=structure, scores=None), Plan())
    return {
        "input_name": input_name,
        "input_shape": list(graph.shapes[input_name][1:]),
        "classes": graph.shapes[output_name][1],
        "parameters": parameter_count(network),
        "macs": macs(network),
        "float_bytes": sum(tensor.numel() * tensor.element_size() for tensor in network.tensors.values()),
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "weight_shape": list(layer.weight_shape),
                "parameters": layer.parameters,
                "macs": layer.macs,
                "output_shape": list(layer.output_shape),
            }
            for layer in layers(network)
        ],
        "blocks": [
            {"name": block.name, "nodes": list(block.nodes), "residual": block.residual} for block in structure.blocks
        ],
        "groups": [
            {"name": group.name, "channels": group.channels, "layers": list(group.layers)}
            for group in structure.groups.groups
        ],
        "unprunable": dict(structure.groups.unprunable),
        "tensors": {name: list(tensor.shape) for name, tensor in network.tensors.items()},
        "workload": load.to_json(),
    }


def plan_workload(parameters: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return the workload of a stored network under a ``plan``, of which any part may be left out."""
    network = _shapes(parameters)
    plan = _plan(parameters["plan"])
    restructured = restructure(network, plan, structure=analyse(network), scores=None)
    return {"workload": workload(restructured, plan).to_json()}


def file_workload(parameters: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return the workload of the ONNX file at ``path``, float or quantized, without keeping the network."""
    network, plan = read_any_onnx(Path(parameters["path"]))
    load = workload(restructure(network.to_meta(), plan, structure=analyse(network)), plan)
    return {"workload": replace(load, numerics={}).to_json()}  # a plan says its widths, not its scales


def fit(parameters: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return the reachable range of every cost of a job, and the limits that nothing in its space can keep."""
    spec = JobSpec.from_json(parameters["spec"])
    if spec.strategy not in STRATEGIES.names():
        raise UnknownNameError("strategy", f"must be one of {', '.join(STRATEGIES.names())}", spec.strategy)
    graph = json.loads(Path(parameters["graph"]).read_bytes())
    problem = fit_problem(graph, parameters["tensors"], parameters["spec"], parameters["profiles"])
    if spec.data_free:
        check_data_free(Graph.from_json(graph))
    ranges = reachable_ranges(problem)
    impossible = impossible_limits(spec, ranges) or contradictory_limits(problem)
    return {"ranges": ranges, "impossible": [asdict(limit) for limit in impossible]}


def _check_interface(graph: Graph) -> None:
    if len(graph.inputs) != 1 or len(graph.shapes[graph.inputs[0]]) < 2:
        rule = "must have one input: a batch of images or of feature vectors"
        raise IngestError("file", rule, _interface(graph, graph.inputs), code="unsupported_interface")
    if len(graph.outputs) != 1 or len(graph.shapes[graph.outputs[0]]) != 2:
        rule = "must have one output of shape (batch, classes)"
        raise IngestError("file", rule, _interface(graph, graph.outputs), code="unsupported_interface")


def _interface(graph: Graph, values: tuple[str, ...]) -> str:
    return ", ".join(f"{value} {list(graph.shapes[value])}" for value in values)


def _shapes(parameters: Mapping[str, Any]) -> Network:
    """Return a stored network without its values."""
    graph = Graph.from_json(json.loads(Path(parameters["graph"]).read_bytes()))
    tensors = {name: torch.empty(tuple(shape), device="meta") for name, shape in parameters["tensors"].items()}
    return Network(graph=graph, tensors=tensors)


def _plan(data: Mapping[str, Any]) -> Plan:
    known = Plan().to_json()
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise IngestError("plan", f"has the fields {', '.join(known)}", unknown[0], code="invalid_plan")
    try:
        return Plan.from_json({**known, **data})
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise IngestError("plan", f"must be a plan's JSON: {error}", code="invalid_plan") from None
