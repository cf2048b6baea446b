"""Accuracy after post-training quantization: method × width, beside the float network; and what ONNX Runtime says.

ResNet-20 on CIFAR-10, or with ``--example`` the example network on the digits that it was not trained on, which needs
no data. Calibration takes training images and no labels. The baseline in the same run is min-max ranges with rounding
to the nearest level. Differences are paired: on the same test images, with the 95 % interval of the difference. The
second table is the share of images on which the ONNX file, run by ONNX Runtime, has the top class of the simulation.

    python -m benchmarks.quantization --data DATA [--images 9979] [--json FILE]
    python -m benchmarks.quantization --example
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import torch
from torch import Tensor

from benchmarks import common
from benchmarks.cifar import RESNET20_FILE, TEST_FILE, TRAIN_FILES, images, paired_drop
from benchmarks.quantization_methods import Recipe, layers, plans, single_options
from compress.apply import Prepared, apply, prepare
from compress.checkpoint import packed_bytes
from compress.evaluate import agreement, logits, top1
from compress.export import onnx_bytes
from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.onnx_import import import_onnx
from compress.network.zoo import from_architecture
from compress.plan import Plan
from compress.structure import analyse, restructure
from examples.digits.data import digits

EXAMPLE = Path(__file__).parent.parent / "examples" / "digits" / "digits_resnet.onnx"
NARROW = range(2, 8)
COLUMNS = ("bits w/a", "method", "top-1 %", "drop, points", "± 95 %", "packed bytes", "apply, CPU s")
AGREEMENT_COLUMNS = ("bits w/a", "images", "same top class %", "ONNX Runtime top-1 %")


class Task(NamedTuple):
    """A network, calibration images, and labelled images to measure on."""

    network: Network
    calibration: Tensor
    images: Tensor
    labels: Tensor


def main() -> None:
    """Measure and print the tables."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--images", type=int, help="test images (all)")
    arguments.add_argument("--calibration", type=int, default=512, help="training images to calibrate with (512)")
    arguments.add_argument(
        "--fewer-images", type=int, default=2000, help="images for single options and for 2 to 7-bit activations (2000)"
    )
    arguments.add_argument("--example", action="store_true", help="the example network instead of ResNet-20")
    options = arguments.parse_args()
    if options.example:
        task = _example(options.images, options.calibration)
    else:
        task = _resnet20(options.data, options.images, options.calibration)
    prepared = prepare(task.network, task.calibration, structure=analyse(task.network))
    float_right = top1(logits(build_module(task.network), task.images)) == task.labels
    accuracy = float(float_right.float().mean())
    print(f"float: {100 * accuracy:.2f} % of {len(task.images)} images", flush=True)

    agreements = list(_agreements(task, prepared, options.fewer_images))
    common.print_table("ONNX Runtime beside the simulation", AGREEMENT_COLUMNS, agreements)
    rows = list(_rows(task, prepared, float_right, plans(task.network)))
    common.print_table("Post-training quantization", COLUMNS, rows)
    fewer = Task(task.network, task.calibration, *(part[: options.fewer_images] for part in (task.images, task.labels)))
    singles = list(_rows(fewer, prepared, float_right[: options.fewer_images], single_options(task.network)))
    common.print_table(f"Single options of a plan, {len(fewer.images)} images", COLUMNS, singles)
    figures = {
        "network": "example" if options.example else "resnet20",
        "float_accuracy": accuracy,
        "images": len(task.images),
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
        "single_options": [dict(zip(COLUMNS, row, strict=True)) for row in singles],
        "onnx_runtime": [dict(zip(AGREEMENT_COLUMNS, row, strict=True)) for row in agreements],
    }
    common.report("quantization", figures, path=options.json)


def _rows(task: Task, prepared: Prepared, float_right: Tensor, recipes: Iterable[Recipe]) -> Iterator[tuple[Any, ...]]:
    meta = task.network.to_meta()
    for width, method, plan in recipes:
        start = time.process_time()
        compressed = apply(prepared, plan)
        seconds = time.process_time() - start
        right = top1(logits(build_module(compressed.network), task.images)) == task.labels
        drop, margin = paired_drop(float_right, right)
        size = packed_bytes(restructure(meta, plan, structure=prepared.structure), plan)
        row = (width, method, 100 * float(right.float().mean()), 100 * drop, 100 * margin, size, seconds)
        print(*row[:2], f"{row[2]:.2f} %, drop {row[3]:.2f} ± {row[4]:.2f}, {size} bytes, {seconds:.1f} s", flush=True)
        yield row


def _agreements(task: Task, prepared: Prepared, fewer_images: int) -> Iterator[tuple[Any, ...]]:
    for bits in (8, *NARROW):
        count = len(task.images) if bits == 8 else min(fewer_images, len(task.images))
        x, labels = task.images[:count], task.labels[:count]
        compressed = apply(prepared, Plan(layers=layers(task.network, f"8/{bits}")))
        found = _run_onnx(onnx_bytes(compressed), x)
        same = agreement(found, logits(build_module(compressed.network), x))
        yield f"8/{bits}", count, 100 * same, 100 * float((top1(found) == labels).float().mean())


def _run_onnx(content: bytes, x: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.cat([torch.from_numpy(session.run(None, {name: part.numpy()})[0]) for part in torch.split(x, 256)])


def _resnet20(data: Path, count: int | None, calibration: int) -> Task:
    names = (TRAIN_FILES[0], TEST_FILE, RESNET20_FILE)
    train, test, weights = common.require_files(data, names).values()
    network = from_architecture("cifar_resnet20", weights)
    return Task(network, images(train, calibration)[0], *images(test, count))


def _example(count: int | None, calibration: int) -> Task:
    held = digits()
    turn = held.preprocessing.apply
    labels = torch.from_numpy(held.heldout_y).long()
    return Task(import_onnx(EXAMPLE), turn(held.train_x[:calibration]), turn(held.heldout_x[:count]), labels[:count])


if __name__ == "__main__":
    main()
