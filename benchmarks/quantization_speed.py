"""What simulating, packing and loading a quantized network cost.

First table: a forward pass of ResNet-20 at W4A4, fake-quantized, beside the float network as ingested and with batch
norm folded; the three run in turns with equal batch and threads, and the ratio is the median of the ratios within a
turn. Second table: writing and loading a checkpoint of 25 million weights at mixed 2 to 8 bits, in a process of its own
each, beside ``torch.save`` of the float weights. Memory is the most that the process held during the step beyond what
it held before there were weights, which therefore count; Linux only.

    python -m benchmarks.quantization_speed --data DATA [--turns 30] [--json FILE]
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from benchmarks.cifar import RESNET20_FILE, TRAIN_FILES, images
from benchmarks.quantization_methods import layers
from compress.apply import apply, prepare
from compress.checkpoint import load, save
from compress.network.build import build_module, run_shapes
from compress.network.graph import Graph, Network
from compress.network.ops import make_node
from compress.network.zoo import from_architecture
from compress.plan import LayerBits, Plan
from compress.quantize import Compressed
from compress.structure import analyse
from compress.weights import assign_formats, encode

BATCHES = (32, 64, 256)
WARM_UP = 2
WIDTHS = range(2, 9)
LAYERS, FEATURES = 25, 1000  # square layers of a million weights each
MEBIBYTE = 2**20


def main() -> None:
    """Measure and print both tables."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--turns", type=int, default=30, help="forward passes of each network (30)")
    options = arguments.parse_args()
    train, weights = common.require_files(options.data, (TRAIN_FILES[0], RESNET20_FILE)).values()
    passes = _forward(weights, train, options.turns)
    columns = ("batch", "float ms", "folded ms", "W4A4 ms", "times float", "times folded")
    common.print_table("Forward pass of ResNet-20", columns, passes)
    steps = _storage()
    storage_columns = ("step", "s", "file MiB", "peak memory, times float")
    common.print_table(f"{LAYERS} million weights, 2 to 8 bits", storage_columns, steps)
    figures = {
        "forward": [dict(zip(columns, row, strict=True)) for row in passes],
        "storage": [dict(zip(storage_columns, row, strict=True)) for row in steps],
    }
    common.report("quantization_speed", figures, path=options.json)


def _forward(weights: Path, train: Path, turns: int) -> list[tuple[Any, ...]]:
    network = from_architecture("cifar_resnet20", weights)
    structure = analyse(network)
    x, _ = images(train, max(BATCHES))
    quantized = apply(prepare(network, x, structure=structure), Plan(layers=layers(network, "4/4")))
    modules = [build_module(each) for each in (network, structure.prepared(network).folded, quantized.network)]
    return [(batch, *_turns(modules, x[:batch], turns)) for batch in BATCHES]


@torch.no_grad()
def _turns(modules: list[Any], x: torch.Tensor, turns: int) -> tuple[float, ...]:
    """Return the median milliseconds of each module, and the last one's ratios to the others."""
    seconds = []
    for _ in range(WARM_UP + turns):
        seconds.append([_timed(lambda module=module: module(x)) for module in modules])  # type: ignore[misc]
    rows = seconds[WARM_UP:]
    medians = [1e3 * statistics.median(column) for column in zip(*rows, strict=True)]
    ratios = [statistics.median(row[-1] / row[index] for row in rows) for index in range(len(modules) - 1)]
    return (*medians, *ratios)


def _storage() -> list[tuple[Any, ...]]:
    """Run every step in a fresh process, so that its peak memory is its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [_alone(step, folder) for step in (_save_float, _pack, _load)]


def _alone(step: Callable[[Path], tuple[Any, ...]], folder: Path) -> tuple[Any, ...]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(step, folder).result()


def _save_float(folder: Path) -> tuple[Any, ...]:
    empty = _resident_bytes()
    tensors = dict(_network().tensors)
    seconds, peak = _measured(lambda: torch.save(tensors, folder / "float.pt"), empty)
    return "torch.save, float", seconds, (folder / "float.pt").stat().st_size / MEBIBYTE, peak


def _pack(folder: Path) -> tuple[Any, ...]:
    empty = _resident_bytes()
    compressed = _coded(_network())
    seconds, peak = _measured(lambda: save(compressed, folder / "checkpoint", {}), empty)
    return "pack", seconds, _size(folder), peak


def _load(folder: Path) -> tuple[Any, ...]:
    seconds, peak = _measured(lambda: load(folder / "checkpoint"), _resident_bytes())
    return "load", seconds, _size(folder), peak


def _size(folder: Path) -> float:
    return (folder / "checkpoint" / "model.safetensors").stat().st_size / MEBIBYTE


def _measured(step: Callable[[], object], empty: int) -> tuple[float, float]:
    """Return how long ``step`` takes, and its peak memory beyond ``empty`` bytes, in float sizes of the weights."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    seconds = _timed(step)
    return seconds, (_memory("VmHWM") - empty) / (LAYERS * FEATURES**2 * 4)


def _timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _resident_bytes() -> int:
    return _memory("VmRSS")


def _memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def _network() -> Network:
    generator = torch.Generator().manual_seed(0)
    names = [f"layer{index}" for index in range(LAYERS)]
    nodes = tuple(
        make_node(name, "linear", [before], parameters={"weight": f"{name}.weight"})
        for before, name in zip(("x", *names), names, strict=False)
    )
    tensors = {f"{name}.weight": torch.randn(FEATURES, FEATURES, generator=generator) for name in names}
    shell = Graph(nodes=nodes, inputs=("x",), outputs=(names[-1],), shapes={"x": (1, FEATURES)})
    return Network(graph=run_shapes(Network(graph=shell, tensors=tensors)), tensors=tensors)


def _coded(network: Network) -> Compressed:
    bits = {
        node.name: LayerBits(weight_bits=WIDTHS[index % len(WIDTHS)], activation_bits=32)
        for index, node in enumerate(network.graph.nodes)
    }
    plan = Plan(layers=bits)
    formats = assign_formats(network, plan).formats
    coded = {name: encode(network.tensors[name], format, plan.numerics) for name, format in formats.items()}
    tensors = {name: weight.decode(plan.numerics) for name, weight in coded.items()}
    return Compressed(network=Network(graph=network.graph, tensors=tensors), coded=coded, plan=plan)


if __name__ == "__main__":
    main()
