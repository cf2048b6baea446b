"""Accuracy of a low-bit ResNet-20 on CIFAR-10 after a few epochs of fine-tuning, beside what it was before.

Every layer has the width. Rows: post-training quantization, the straight-through baseline, and the methods named, each
trained on the same images with augmentation and without labels, imitating the float network. Learning rate, batch size
and blending are the library's defaults unless given. Differences are paired: on the same test images, with the 95 %
interval of the difference.

    python -m benchmarks.finetuning --data DATA [--widths 4/4 2/4] [--methods lsq] [--epochs 3]
        [--baseline-epochs 1] [--train-images 49918] [--images 9979] [--learning-rate RATE]
        [--batch-size 128] [--blend SHARE] [--checkpoints FOLDER] [--json FILE]
"""

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from benchmarks import cifar, common
from compress.apply import apply, float_weights, prepare
from compress.evaluate import logits, top1
from compress.finetune import FineTuning, Progress, finetune
from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.zoo import from_architecture
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.structure import analyse

Measured = Callable[[str, str, int, Network, float], None]
BASELINE = "straight_through"
COLUMNS = ("bits w/a", "method", "epochs", "top-1 %", "drop, points", "± 95 %", "CPU s", "images/s")


def main() -> None:
    """Train, measure and print the table."""
    options = _options()
    files = common.require_files(options.data, (*cifar.TRAIN_FILES, cifar.TEST_FILE, cifar.RESNET20_FILE))
    network = from_architecture("cifar_resnet20", files[cifar.RESNET20_FILE])
    training, _ = cifar.training_images([files[name] for name in cifar.TRAIN_FILES], options.train_images)
    test, labels = cifar.images(files[cifar.TEST_FILE], options.images)
    float_right = top1(logits(build_module(network), test)) == labels
    accuracy = 100 * float(float_right.float().mean())
    print(f"float: {accuracy:.2f} % of {len(test)} images; {len(training)} training images", flush=True)

    rows: list[tuple[object, ...]] = []

    def measured(width: str, method: str, epochs: int, tuned: Network, seconds: float) -> None:
        right = top1(logits(build_module(tuned), test)) == labels
        drop, margin = cifar.paired_drop(float_right, right)
        speed = len(training) * epochs / seconds
        top = 100 * float(right.float().mean())
        rows.append((width, method, epochs, top, 100 * drop, 100 * margin, seconds, speed))
        print(*(f"{value:.4g}" if isinstance(value, float) else value for value in rows[-1]), flush=True)

    for width in options.widths:
        _train_width(network, width, training, options, measured)
    common.print_table("ResNet-20 on CIFAR-10, fine-tuned", COLUMNS, rows)
    figures = {
        "float_accuracy": accuracy / 100,
        "images": len(test),
        "training_images": len(training),
        "settings": [_settings(options, method, options.epochs).to_json() for method in options.methods],
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
    }
    common.report("finetuning", figures, path=options.json)


def _train_width(network: Network, width: str, training: Tensor, options: Namespace, measured: Measured) -> None:
    weight_bits, activation_bits = map(int, width.split("/"))
    bits = LayerBits(weight_bits=weight_bits, activation_bits=activation_bits)
    plan = Plan(
        layers={node.name: bits for node in network.graph.nodes if node.op in LAYER_OPS},
        numerics=Numerics(weight_rounding="compensated"),
    )
    prepared = prepare(network, training[:512], structure=analyse(network))
    start = time.process_time()
    compressed = apply(prepared, plan)
    measured(width, "post-training", 0, compressed.network, time.process_time() - start)
    runs = [*((method, options.epochs) for method in options.methods), (BASELINE, options.baseline_epochs)]
    for method, epochs in runs:
        if epochs == 0:
            continue
        settings = _settings(options, method, epochs)
        folder = None
        if options.checkpoints is not None:
            folder = options.checkpoints / f"{width.replace('/', '-')}-{method}-{epochs}"
        start = time.process_time()
        tuned = finetune(
            compressed,
            network,
            training,
            settings=settings,
            start=float_weights(prepared, plan),
            checkpoint=folder,
            report=_say,
        )
        measured(width, method, epochs, tuned.network, time.process_time() - start)


def _settings(options: Namespace, method: str, epochs: int) -> FineTuning:
    return FineTuning(
        method=method,
        epochs=epochs,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        blend=options.blend,
        augment=True,
    )


def _say(progress: Progress, _: object) -> None:
    print(f"  epoch {progress.epoch}/{progress.epochs}: loss {progress.loss:.4f}", flush=True)


def _options() -> Namespace:
    arguments = common.parser(__doc__)
    arguments.add_argument("--widths", nargs="+", default=["4/4", "2/4"], help="weight/activation bits (4/4 2/4)")
    arguments.add_argument("--methods", nargs="*", default=["lsq"], help="methods beside the baseline (lsq)")
    arguments.add_argument("--epochs", type=int, default=3, help="epochs of the methods (3)")
    arguments.add_argument("--baseline-epochs", type=int, default=1, help="epochs of the baseline (1; 0: left out)")
    arguments.add_argument("--learning-rate", type=float, default=FineTuning().learning_rate, help="Adam's")
    arguments.add_argument("--batch-size", type=int, default=FineTuning().batch_size, help="images per step")
    arguments.add_argument("--blend", type=float, default=FineTuning().blend, help="largest share of another image")
    arguments.add_argument("--train-images", type=int, default=49918, help="training images (all)")
    arguments.add_argument("--images", type=int, default=9979, help="test images (all)")
    arguments.add_argument("--checkpoints", type=Path, help="folder from which a run that was cut off goes on")
    return arguments.parse_args()


if __name__ == "__main__":
    main()
