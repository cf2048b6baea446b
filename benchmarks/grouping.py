"""Which channels of common networks can go, found without hints: and do the networks still run when half of them went?

Torchvision's networks with random weights, and a small segmentation network and a small detector written here, each
exported to ONNX by PyTorch's current exporter and imported. Channel groups and blocks are found, every group is cut to
half of its channels (the smallest filters go), the cut network runs forward, and its own ONNX file runs in ONNX Runtime
on two images at once. Outputs agree if they differ by at most 1e-4 of the largest value.

``prunable`` is the share of the layers' parameters that lie in layers of which output channels can be cut; ``uncut``
are the layers of which none can, named with the reason in a second table; ``blocks`` are the pieces with one way in and
one way out that an operator can stand in for.

Each network is taken in a process of its own, one after the other, so that no more memory is held than the largest of
them needs, and one that fails leaves a row that says so.

    python -m benchmarks.grouping [--networks NAME ...] [--image 96] [--json FILE]

Needs torchvision: ``pip install 'tightfit[exports]'``.
"""

import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks import common
from benchmarks.grouping_networks import OWN, own_network
from benchmarks.ingest_exports import CURRENT, export, first_line, quiet, torchvision_models
from compress.apply import apply, prepare
from compress.export import export_onnx
from compress.network.build import build_module
from compress.network.graph import Network, Node
from compress.network.onnx_import import import_onnx
from compress.network.ops import OPS
from compress.placement import LAYER_OPS
from compress.plan import Plan
from compress.structure import Structure, analyse, restructure
from compress.workload import workload
from hwmodels.workload import KernelKind

TORCHVISION = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "vgg11",
    "densenet121",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "googlenet",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
)
FIXED_SIZE = {"vit_b_16": 224, "vgg11": 224}  # their own sizes; the others take any
TOLERANCE = 1e-4  # of the largest value
KEEP = 0.5
COLUMNS = (
    *("network", "layers", "groups", "prunable %", "uncut layers", "blocks", "MMAC", "MMAC cut", "weights cut %"),
    *("relative error", "problem"),
)


def main() -> int:
    """Run the table; return 1 if a network did not come through."""
    arguments = common.parser(__doc__)
    known = (*TORCHVISION, *OWN)
    arguments.add_argument("--networks", nargs="+", choices=known, default=known)
    arguments.add_argument("--image", type=int, default=96, help="pixels per side where the network takes any (96)")
    options = arguments.parse_args()
    rows = []
    for name in options.networks:
        row = {"network": name, **measured_apart(name, options.image)}
        print(f"{name}: {row['problem'] or 'cut to half and run'}", flush=True)
        rows.append(row)
    common.print_table("Channel groups", COLUMNS, [[row.get(key, "") for key in COLUMNS] for row in rows])
    common.print_table("What cannot be cut", ("network", "layers", "reason"), uncut(rows))
    good = [row for row in rows if not row["problem"]]
    print(f"{len(good)} of {len(rows)} networks run with half of their channels, in torch and in ONNX Runtime alike.")
    common.report("grouping", {"tolerance": TOLERANCE, "rows": rows}, path=options.json)
    return 0 if len(good) == len(rows) else 1


def uncut(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the layers that cannot be cut by network and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for layer, reason in row.get("unprunable", {}).items():
            found.setdefault((row["network"], reason), []).append(layer)
    return [(network, ", ".join(layers), reason) for (network, reason), layers in found.items()]


def measured_apart(name: str, size: int) -> dict[str, Any]:
    """Return what ``measured`` does, from a process of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process,
    ):
        try:
            return process.submit(measured, name, size, Path(folder)).result()
        except BrokenProcessPool:
            return {"problem": "the process ended, perhaps for want of memory"}


def measured(name: str, size: int, folder: Path) -> dict[str, Any]:
    """Group, cut, run and export one network; what went wrong stands under ``problem``."""
    try:
        network = imported(name, size, folder)
    except Exception as failure:  # a table with one hole says more than no table
        return {"problem": f"does not come in: {type(failure).__name__}: {first_line(failure)}"}
    start = time.process_time()
    structure = analyse(network)
    row: dict[str, Any] = {"analyse s": round(time.process_time() - start, 2), **grouping(network, structure)}
    try:
        row.update(cut(network, structure, folder / "cut.onnx"))
    except Exception as failure:
        row["problem"] = f"{type(failure).__name__}: {first_line(failure)}"
    return row


def imported(name: str, size: int, folder: Path) -> Network:
    """Return the network, by way of an ONNX file."""
    torch.manual_seed(0)
    if name in OWN:
        module, shape = own_network(name)
    else:
        options = {"init_weights": True} if name == "googlenet" else {}
        module = getattr(torchvision_models(), name)(weights=None, **options)
        shape = (3, FIXED_SIZE.get(name, size), FIXED_SIZE.get(name, size))
    settle(module)
    path = folder / "network.onnx"
    with quiet():
        export(module.eval(), torch.zeros(1, *shape), CURRENT, path)
    beside = path.with_name(f"{path.name}.data")
    return import_onnx(path, beside if beside.is_file() else None)


def settle(module: nn.Module) -> None:
    """Give statistics and empty parameters values that show when they go astray."""
    generator = torch.Generator().manual_seed(1)
    for key, value in module.named_buffers():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, 0, 0.02, generator=generator)


def grouping(network: Network, structure: Structure) -> dict[str, Any]:
    """Return what was found of a network."""
    layers = {node.name: node for node in network.graph.nodes if node.op in LAYER_OPS}
    members = {(member.name, member.axis) for group in structure.groups.groups for member in group.tensors}
    outputs = {name: 1 if node.op == "conv_transpose" else 0 for name, node in layers.items()}
    depthwise = {
        name
        for name, node in layers.items()
        if OPS[node.op].kind_of(node, _weight(network, node)) == KernelKind.DEPTHWISE
    }
    cut = [
        name
        for name, node in layers.items()
        if (node.parameters["weight"], 0 if name in depthwise else outputs[name]) in members
    ]

    def parameters(names: Iterable[str]) -> int:
        return sum(network.tensors[tensor].numel() for name in names for tensor in layers[name].parameters.values())

    return {
        "layers": len(layers),
        "groups": len(structure.groups.groups),
        "prunable %": round(100 * parameters(cut) / parameters(layers), 1),
        "uncut layers": len(structure.groups.unprunable),
        "blocks": len(structure.blocks),
        "MMAC": round(workload(network, Plan()).macs / 1e6, 1),
        "unprunable": dict(structure.groups.unprunable),
    }


def _weight(network: Network, node: Node) -> tuple[int, ...]:
    return tuple(network.tensors[node.parameters["weight"]].shape)


def cut(network: Network, structure: Structure, path: Path) -> dict[str, Any]:
    """Cut every group to half, run the network and its ONNX file on the same two images, and compare."""
    plan = Plan(
        keep_ratios={group.name: KEEP for group in structure.groups.groups if group.channels > 1},
        pruner="l2",
        repair="none",
    )
    (name,) = network.graph.inputs
    images = torch.randn(2, *network.graph.shapes[name][1:], generator=torch.Generator().manual_seed(2))
    compressed = apply(prepare(network, images, structure=structure), plan)
    whole = sum(tensor.numel() for tensor in restructure(network, Plan(), structure=structure).tensors.values())
    left = sum(tensor.numel() for tensor in compressed.network.tensors.values())
    with torch.inference_mode():
        made = build_module(compressed.network)(images)
    wanted = [made] if isinstance(made, Tensor) else list(made)
    export_onnx(compressed, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    shapes = [network.graph.shapes[output][1:] for output in network.graph.outputs]
    errors = [
        float(np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max())
        for ours, theirs in zip(wanted, found, strict=True)
    ]
    problem = "" if max(errors) <= TOLERANCE else "outputs differ"
    if [tuple(output.shape[1:]) for output in wanted] != shapes:
        problem = "outputs have other shapes"
    return {
        "MMAC cut": round(workload(compressed.network, plan).macs / 1e6, 1),
        "weights cut %": round(100 * (1 - left / whole), 1),
        "relative error": float(f"{max(errors):.1e}"),
        "problem": problem,
    }


if __name__ == "__main__":
    sys.exit(main())
