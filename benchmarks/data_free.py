"""Accuracy of ResNet-20 on CIFAR-10 quantized without any data, beside Gaussian noise and beside real images.

Images are made from the float network alone (its batch norms' statistics and its class scores). Rows: noise with peak
ranges and no repair, which is what there is without a method; ranges from extreme responses with adapted statistics,
as published; least-squares ranges on the typical images instead; and real training images. Every layer has the width.
Differences are paired: on the same test images, with the 95 % interval of the difference.

    python -m benchmarks.data_free --data DATA [--images 9979] [--steps 60] [--typical 128] [--json FILE]
"""

import time
from dataclasses import replace

import torch

from benchmarks import cifar, common
from compress.apply import apply, prepare
from compress.data_free import PEAK_RANGES, ImageGeneration, generate, prepare_data_free
from compress.evaluate import agreement, logits, top1
from compress.network.build import build_module
from compress.network.zoo import from_architecture
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.structure import analyse

WIDTHS = ((8, 8), (4, 8), (4, 4))
TRAIN_FILE = cifar.TRAIN_FILES[0]
COLUMNS = ("bits w/a", "images", "ranges", "top-1 %", "drop, points", "± 95 %", "agreement %")


def main() -> None:
    """Measure and print the table."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--images", type=int, default=9979, help="test images (all)")
    arguments.add_argument("--typical", type=int, default=128, help="images that match statistics (128)")
    arguments.add_argument("--steps", type=int, default=60, help="steps of their making (60)")
    options = arguments.parse_args()
    files = common.require_files(options.data, (TRAIN_FILE, cifar.TEST_FILE, cifar.RESNET20_FILE))
    network = from_architecture("cifar_resnet20", files[cifar.RESNET20_FILE])
    test, labels = cifar.images(files[cifar.TEST_FILE], options.images)
    real, _ = cifar.images(files[TRAIN_FILE], options.typical)
    wanted = logits(build_module(network), test)
    float_right = top1(wanted) == labels
    accuracy = float(float_right.float().mean())
    print(f"float: {100 * accuracy:.2f} % of {len(test)} images", flush=True)

    start = time.process_time()
    made = generate(network, ImageGeneration(typical=options.typical, steps=options.steps))
    seconds = time.process_time() - start
    print(f"{len(made.typical)} + {len(made.extreme)} images made in {seconds:.0f} CPU s", flush=True)

    structure = analyse(network)
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    data_free = prepare_data_free(network, structure=structure, images=made)
    least_squares = Numerics(weight_rounding="compensated")
    variants = (
        ("noise", "peaks", prepare(network, noise, structure=structure), Plan(repair="none", numerics=PEAK_RANGES)),
        ("made", "peaks, extreme", data_free, Plan(numerics=PEAK_RANGES)),
        ("made", "least squares, typical", data_free, Plan(numerics=least_squares)),
        ("real", "least squares", prepare(network, real, structure=structure), Plan(numerics=least_squares)),
    )
    names = [node.name for node in network.graph.nodes if node.op in LAYER_OPS]
    rows = []
    for weight_bits, activation_bits in WIDTHS:
        bits = LayerBits(weight_bits=weight_bits, activation_bits=activation_bits)
        for source, ranges, prepared, base in variants:
            compressed = apply(prepared, replace(base, layers=dict.fromkeys(names, bits)))
            found = logits(build_module(compressed.network), test)
            right = top1(found) == labels
            drop, margin = cifar.paired_drop(float_right, right)
            top = 100 * float(right.float().mean())
            same = 100 * agreement(found, wanted)
            rows.append((f"{weight_bits}/{activation_bits}", source, ranges, top, 100 * drop, 100 * margin, same))
    common.print_table("ResNet-20 on CIFAR-10, quantized without data", COLUMNS, rows)
    figures = {
        "float_accuracy": accuracy,
        "images": len(test),
        "generation_cpu_s": seconds,
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
    }
    common.report("data_free", figures, path=options.json)


if __name__ == "__main__":
    main()
