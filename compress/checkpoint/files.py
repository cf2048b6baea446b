"""Writing a checkpoint, and running it from its files alone."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor, fx

from compress.apply import Compressed
from compress.checkpoint.layout import MANIFEST_VERSION, Layout, header, layout_of, torch_dtype
from compress.checkpoint.packing import pack, unpack
from compress.network.build import build_module
from compress.network.check import check_graph, check_parameters
from compress.network.graph import Network
from compress.plan import Numerics, Plan
from compress.quantizers import Codes
from compress.weights import CodedWeight
from hwmodels.errors import InputError

WEIGHTS_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
ONNX_FILE = "model.onnx"
FILE_LIMITS = {MANIFEST_FILE: 64 << 20, WEIGHTS_FILE: 2 << 30, ONNX_FILE: 2 << 30}
"""Most bytes of each member that are ever read."""

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # equal checkpoints give equal archives


class CheckpointError(InputError):
    """A checkpoint is damaged, or not one."""

    code = "bad_checkpoint"


def save(compressed: Compressed, directory: Path, extra: Mapping[str, Any], *, onnx: bytes | None = None) -> list[Path]:
    """Write ``model.safetensors``, ``model.onnx`` if given, and ``manifest.json`` into ``directory``.

    Args:
        compressed: What to pack.
        directory: Made if it is not there.
        extra: What the manifest says beyond plan, graph and layout: metrics, limits, device costs, versions, seed. Must
            be JSON and must not use the manifest's own keys.
        onnx: The network as ONNX, from ``compress.export``.

    Returns:
        The files written, the manifest last.
    """
    directory.mkdir(parents=True, exist_ok=True)
    layout = layout_of(compressed.network, {name: coded.format for name, coded in compressed.coded.items()})
    contents = {WEIGHTS_FILE: _weights_file(compressed, layout)}
    if onnx is not None:
        contents[ONNX_FILE] = onnx
    manifest = {
        "schema_version": MANIFEST_VERSION,
        "plan": compressed.plan.to_json(),
        "graph": compressed.network.graph.to_json(),
        "layout": layout.to_json(),
        "float_layers": dict(compressed.float_layers),
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    if taken := sorted(set(manifest) & set(extra)):
        raise InputError("extra", f"must not use the manifest's own keys ({', '.join(sorted(manifest))})", taken)
    contents[MANIFEST_FILE] = json.dumps({**manifest, **extra}, indent=1, sort_keys=True).encode()
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return [directory / name for name in contents]


def archive(directory: Path, target: IO[bytes]) -> None:
    """Write the checkpoint in ``directory`` as a zip; equal checkpoints give equal bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in FILE_LIMITS:
            if (directory / name).is_file():
                bundle.writestr(zipfile.ZipInfo(name, _ZIP_DATE), (directory / name).read_bytes(), zipfile.ZIP_DEFLATED)


def load(path: str | Path) -> fx.GraphModule:
    """Return the checkpoint's network, ready to run at any batch size.

    Reads the packed weights and the manifest and nothing else; ``module.meta["manifest"]`` has the latter.

    Args:
        path: A checkpoint's directory, or a zip of it.

    Raises:
        InputError: It is not a checkpoint of this version, or is damaged: a ``CheckpointError``, or what the plan, the
            layout or the graph in it breaks. Weights that are not finite are refused.
    """
    compressed, manifest = load_compressed(path)
    module = build_module(compressed.network)
    module.meta["manifest"] = manifest
    return module


def load_compressed(path: str | Path) -> tuple[Compressed, dict[str, Any]]:
    """Return what was packed, and the manifest. See ``load``."""
    manifest_bytes, weights = _read_members(Path(path), (MANIFEST_FILE, WEIGHTS_FILE))
    manifest = _parse_manifest(manifest_bytes)
    stated = manifest["files"].get(WEIGHTS_FILE)
    if not isinstance(stated, dict) or stated.get("sha256") != hashlib.sha256(weights).hexdigest():
        raise CheckpointError(WEIGHTS_FILE, "must have the sha256 that the manifest states")
    plan = _parse_plan(manifest["plan"])
    layout = Layout.from_json(manifest["layout"])
    shapes = {coded.name: coded.shape for coded in layout.coded} | {plain.name: plain.shape for plain in layout.plain}
    graph = check_graph(manifest["graph"], shapes)
    tensors, coded = _unpack(weights, layout, plan.numerics)
    network = Network(graph=graph, tensors=tensors)
    check_parameters(network)
    float_layers = manifest.get("float_layers", {})
    if not isinstance(float_layers, dict):
        raise CheckpointError(MANIFEST_FILE, "float_layers must be an object", type(float_layers).__name__)
    return Compressed(network=network, coded=coded, plan=plan, float_layers=float_layers), manifest


def _weights_file(compressed: Compressed, layout: Layout) -> bytes:
    numerics = compressed.plan.numerics
    lengths = layout.lengths(numerics)
    parts: dict[str, list[bytes]] = {name: [] for name in lengths}
    for tensor in layout.coded:
        codes = compressed.coded[tensor.name].codes
        if "codes" in parts:
            parts["codes"].append(pack(codes.values.numpy(), tensor.format.bits).tobytes())
        for name in sorted(codes.parameters):
            parts["parameters"].append(codes.parameters[name].contiguous().numpy().tobytes())
    for plain in layout.plain:
        values = compressed.network.tensors[plain.name].detach().contiguous().flatten()
        if values.numel():
            parts[plain.dtype].append(values.view(torch.uint8).numpy().tobytes())
    return b"".join([header(lengths), *(piece for name in lengths for piece in parts[name])])


def _unpack(weights: bytes, layout: Layout, numerics: Numerics) -> tuple[dict[str, Tensor], dict[str, CodedWeight]]:
    """Return every tensor and the codes of the quantized ones; sizes are checked before anything is allocated."""
    lengths = layout.lengths(numerics)
    expected = len(header(lengths)) + sum(count * torch_dtype(name).itemsize for name, count in lengths.items())
    if len(weights) != expected or not weights.startswith(header(lengths)):
        raise CheckpointError(WEIGHTS_FILE, f"must be the {expected} bytes that the manifest's layout describes")
    try:
        vectors = parse_safetensors(weights)
    except SafetensorError as error:
        raise CheckpointError(WEIGHTS_FILE, "must be a safetensors file", str(error)) from error
    taken = dict.fromkeys(lengths, 0)

    def take(name: str, count: int) -> Tensor:
        if count == 0:
            return torch.empty(0, dtype=torch_dtype(name))
        taken[name] += count
        values: Tensor = vectors[name][taken[name] - count : taken[name]]
        return values

    tensors: dict[str, Tensor] = {}
    coded: dict[str, CodedWeight] = {}
    for tensor in layout.coded:
        stored = tensor.code_layout(numerics)
        packed = take("codes", stored.code_bytes).numpy()
        values = torch.from_numpy(unpack(packed, stored.bits, stored.codes))
        parameters = {
            name: take("parameters", prod(shape)).reshape(shape) for name, shape in sorted(stored.parameters.items())
        }
        axis = tensor.format.axis
        channels_first = (tensor.shape[axis], *tensor.shape[:axis], *tensor.shape[axis + 1 :])
        weight = CodedWeight(
            format=tensor.format, codes=Codes(values=values, parameters=parameters, shape=channels_first)
        )
        coded[tensor.name] = weight
        tensors[tensor.name] = weight.decode(numerics)
    for plain in layout.plain:
        tensors[plain.name] = take(plain.dtype, prod(plain.shape)).reshape(plain.shape).clone()
    return tensors, coded


def _parse_plan(data: Mapping[str, Any]) -> Plan:
    try:
        return Plan.from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(MANIFEST_FILE, "must hold a plan of this version", str(error)) from error


def _parse_manifest(content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(MANIFEST_FILE, "must be JSON", str(error)) from error
    if not isinstance(manifest, dict) or manifest.get("schema_version") != MANIFEST_VERSION:
        raise CheckpointError(MANIFEST_FILE, f"schema_version must be {MANIFEST_VERSION}")
    for key in ("plan", "graph", "layout", "files"):
        if not isinstance(manifest.get(key), dict):
            raise CheckpointError(MANIFEST_FILE, f"must have an object {key!r}")
    return manifest


def _read_members(path: Path, names: tuple[str, ...]) -> list[bytes]:
    if path.is_dir():
        return [_bounded(path / name, name) for name in names]
    try:
        with zipfile.ZipFile(path) as bundle:
            return [_bounded_member(bundle, name) for name in names]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:  # the last: it is encrypted
        raise CheckpointError("path", "must be a checkpoint's directory or a zip of it", str(error)) from error


def _bounded(path: Path, name: str) -> bytes:
    if not path.is_file():
        raise CheckpointError("path", f"must hold {name}", str(path.parent))
    with path.open("rb") as stream:
        return _read_at_most(stream, name)


def _bounded_member(bundle: zipfile.ZipFile, name: str) -> bytes:
    if bundle.namelist().count(name) != 1:
        raise CheckpointError("path", f"must hold {name} exactly once")
    with bundle.open(name) as stream:
        return _read_at_most(stream, name)


def _read_at_most(stream: IO[bytes], name: str) -> bytes:
    content = stream.read(FILE_LIMITS[name] + 1)  # whatever an archive says of its size, no more is unpacked
    if len(content) > FILE_LIMITS[name]:
        raise CheckpointError(name, f"must be at most {FILE_LIMITS[name]} bytes")
    return content
