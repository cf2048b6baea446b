"""Accuracy of ResNet-20 on CIFAR-10 after post-training quantization: method × width, beside the float network.

Every layer has the width; calibration takes training images and no labels. The first method, min-max ranges with
rounding to the nearest level, is what other tools do by default. Differences are paired: on the same test images, with
the 95 % interval of the difference.

    python -m benchmarks.quantization --data DATA [--images 9979] [--json FILE]
"""

import math
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks import common
from compress.apply import apply, prepare
from compress.checkpoint import packed_bytes
from compress.evaluate import logits, top1
from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.zoo import from_architecture
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.structure import analyse, restructure

WIDTHS = ((8, 8), (6, 8), (4, 8), (4, 4), (3, 8), (2, 8))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

METHODS = {
    "min-max, nearest": Plan(repair="none", numerics=Numerics(weight_range="max", activation_range="min_max")),
    "least squares, nearest": Plan(repair="none"),
    "… with repair": Plan(),
    "… with repair, compensated": Plan(numerics=Numerics(weight_rounding="compensated")),
}


def main() -> None:
    """Measure and print the table."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--images", type=int, default=9979, help="test images (all)")
    arguments.add_argument("--calibration", type=int, default=512, help="training images to calibrate with (512)")
    options = arguments.parse_args()
    names = ("cifar10/train_0.npz", "cifar10/test.npz", "weights/resnet20_cifar10.safetensors")
    train, test, weights = common.require_files(options.data, names).values()

    network = from_architecture("cifar_resnet20", weights)
    calibration, _ = _images(train, options.calibration)
    images, labels = _images(test, options.images)
    structure = analyse(network)
    prepared = prepare(network, calibration, structure=structure)
    float_right = top1(logits(build_module(network), images)) == labels
    accuracy = float(float_right.float().mean())
    print(f"float: {100 * accuracy:.2f} % of {len(images)} images")

    rows = []
    for width in (*WIDTHS, "4/4, ends 8"):
        for method, base in METHODS.items():
            plan = replace(base, layers=_layers(network, width))
            start = time.process_time()
            compressed = apply(prepared, plan)
            seconds = time.process_time() - start
            right = top1(logits(build_module(compressed.network), images)) == labels
            drop, margin = _paired(float_right, right)
            size = packed_bytes(restructure(network.to_meta(), plan, structure=structure), plan)
            label = width if isinstance(width, str) else f"{width[0]}/{width[1]}"
            rows.append((label, method, 100 * float(right.float().mean()), 100 * drop, 100 * margin, size, seconds))
    columns = ("bits w/a", "method", "top-1 %", "drop, points", "± 95 %", "packed bytes", "apply, CPU s")
    common.print_table("ResNet-20 on CIFAR-10, post-training", columns, rows)
    figures = {
        "float_accuracy": accuracy,
        "images": len(images),
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    common.report("quantization", figures, path=options.json)


def _layers(network: Network, width: tuple[int, int] | str) -> dict[str, LayerBits]:
    names = [node.name for node in network.graph.nodes if node.op in LAYER_OPS]
    weight_bits, activation_bits = (4, 4) if isinstance(width, str) else width
    layers = dict.fromkeys(names, LayerBits(weight_bits=weight_bits, activation_bits=activation_bits))
    if isinstance(width, str):
        layers.update(dict.fromkeys((names[0], names[-1]), LayerBits(weight_bits=8, activation_bits=8)))
    return layers


def _images(path: object, count: int) -> tuple[Tensor, Tensor]:
    with np.load(str(path), allow_pickle=False) as arrays:
        pixels, labels = arrays["x"][:count], arrays["y"][:count]
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return ((scaled - mean) / std).contiguous(), torch.from_numpy(labels.astype(np.int64))


def _paired(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Return the drop and the half-width of its 95 % interval, from the images on which only one is right."""
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    drop = (lost - won) / len(before)
    return drop, 1.96 * math.sqrt(max(lost + won - (lost - won) ** 2 / len(before), 0.0)) / len(before)


if __name__ == "__main__":
    main()
