"""Latency of W8A8 ONNX files in ONNX Runtime, beside the float file of the same network and plain static quantization.

One thread, one image. The three files of a network run in turns, so that whatever else the machine does meets all of
them; the ratio is the median of the ratios within a turn. The second baseline is ``onnxruntime.quantization`` with
per-channel weights and unsigned activations, calibrated on the same images.

    python -m benchmarks.onnx_latency --data DATA [--turns 60] [--json FILE]
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from benchmarks import common
from benchmarks.cifar import RESNET20_FILE, TRAIN_FILES, images
from benchmarks.ingest_exports import export, quiet
from benchmarks.latency_networks import mobilenet_v2, resnet18
from compress.apply import apply, prepare
from compress.export import export_onnx
from compress.network.graph import Network
from compress.network.onnx_import import import_onnx
from compress.network.zoo import from_architecture
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.structure import analyse

SIGNED = "tightfit, signed activations"
NUMERICS = {"tightfit": Numerics(), SIGNED: Numerics(activation_type="signed")}
STATIC = "onnxruntime static"
WARM_UP = 3


def main() -> None:
    """Write the files, time them in turns and print the table."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--turns", type=int, default=60, help="timed runs of every file (60)")
    arguments.add_argument("--networks", default="resnet20,mobilenet_v2,resnet18", help="comma-separated")
    options = arguments.parse_args()
    train, weights = common.require_files(options.data, (TRAIN_FILES[0], RESNET20_FILE)).values()
    makers: dict[str, Callable[[Path], tuple[Network, Tensor]]] = {
        "resnet20": lambda path: _resnet20(weights, train, path),
        "mobilenet_v2": lambda path: _random(mobilenet_v2(), path),
        "resnet18": lambda path: _random(resnet18(), path),
    }
    rows: list[tuple[Any, ...]] = []
    for name in options.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows.extend(_timed(name, makers[name], Path(folder), options.turns))
    columns = ("network", "file", "median ms", "times faster", "bytes")
    common.print_table("ONNX Runtime, one thread, one image", columns, rows)
    figures = {"turns": options.turns, "rows": [dict(zip(columns, row, strict=True)) for row in rows]}
    common.report("onnx_latency", figures, path=options.json)


def _timed(
    name: str, make: Callable[[Path], tuple[Network, Tensor]], folder: Path, turns: int
) -> Iterator[tuple[Any, ...]]:
    files = {"float": folder / "float.onnx"}
    network, calibration = make(files["float"])
    structure = analyse(network)
    prepared = prepare(network, calibration, structure=structure)
    bits = LayerBits(weight_bits=8, activation_bits=8)
    layers = {node.name: bits for node in network.graph.nodes if node.op in LAYER_OPS}
    for label, numerics in NUMERICS.items():
        files[label] = folder / f"{label}.onnx"
        export_onnx(apply(prepared, Plan(layers=layers, numerics=numerics)), files[label])
    files[STATIC] = folder / "static.onnx"
    _quantize_static(files["float"], files[STATIC], calibration)

    sessions = {label: _session(path) for label, path in files.items()}
    image = {sessions["float"].get_inputs()[0].name: calibration[:1].numpy()}
    seconds: dict[str, list[float]] = {label: [] for label in files}
    for turn in range(WARM_UP + turns):
        for label, session in sessions.items():
            feed = {session.get_inputs()[0].name: next(iter(image.values()))}
            start = time.perf_counter()
            session.run(None, feed)
            if turn >= WARM_UP:
                seconds[label].append(time.perf_counter() - start)
    for label, path in files.items():
        faster = [one / other for one, other in zip(seconds["float"], seconds[label], strict=True)]
        median = 1e3 * statistics.median(seconds[label])
        yield name, label, median, statistics.median(faster), path.stat().st_size


def _resnet20(weights: Path, train: Path, path: Path) -> tuple[Network, Tensor]:
    network = from_architecture("cifar_resnet20", weights)
    calibration, _ = images(train, 32)
    export_onnx(apply(prepare(network, calibration, structure=analyse(network)), Plan()), path)
    return network, calibration


def _random(module: nn.Module, path: Path) -> tuple[Network, Tensor]:
    calibration = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with quiet():
        export(module, calibration[:1], "legacy-17", path)
    return import_onnx(path), calibration


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, batch: Tensor) -> None:
        self._rows = iter([{name: image[None].numpy()} for image in batch])

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the next image."""
        return next(self._rows, None)


def _quantize_static(source: Path, target: Path, calibration: Tensor) -> None:
    prepared = target.with_suffix(".prepared.onnx")
    with quiet():
        quant_pre_process(str(source), str(prepared))
        quantize_static(
            str(prepared),
            str(target),
            _Images(_session(source).get_inputs()[0].name, calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
