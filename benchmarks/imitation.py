"""Blockwise distillation on ResNet-20: how near replacements come to their blocks, and what the network is then worth.

Every operator stands in the place of every block that it fits, is trained by itself on training images without labels,
and its normalised error (1 is what the mean of each channel would get) is measured on other training images before and
after. Then every second block of the network becomes a C-Ghost block: accuracy on test images before any fine-tuning,
with and without imitation.

    python -m benchmarks.imitation --data DATA [--images 9979] [--steps 100] [--calibration 512] [--json FILE]
"""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks import common
from benchmarks.cifar import RESNET20_FILE, TEST_FILE, TRAIN_FILES
from benchmarks.cifar import images as read_images
from compress.evaluate import accuracy
from compress.imitation import Imitation, ImitationSettings, Imitator, imitate
from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.stages import STAGE
from compress.network.zoo import from_architecture
from compress.operators import OPERATORS
from compress.operators.labels import operator_choice
from compress.plan import Plan
from compress.structure import Structure, analyse, full_key, restructure
from compress.workload import workload

HALF = "c_ghost"


def main() -> None:
    """Measure and print both tables."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--images", type=int, default=9979, help="test images (all)")
    arguments.add_argument("--steps", type=int, default=100, help="of training each replacement (100)")
    arguments.add_argument("--calibration", type=int, default=512, help="training images, seven in eight to train on")
    arguments.add_argument("--operators", nargs="*", default=None, help="labels (all operators, and spatial low rank)")
    options = arguments.parse_args()
    names = (TRAIN_FILES[0], TEST_FILE, RESNET20_FILE)
    train, test, weights = common.require_files(options.data, names).values()
    torch.manual_seed(0)

    network = from_architecture("cifar_resnet20", weights)
    structure = analyse(network)
    settings = ImitationSettings(steps=options.steps)
    imitator = Imitator(network, structure, read_images(train, options.calibration)[0], settings)
    images, labels = read_images(test, options.images)
    labels_of = options.operators or [
        *(name for name in OPERATORS.names() if name != "original"),
        "low_rank(form=spatial)",
    ]

    half = {block.name: operator_choice(HALF) for block in structure.blocks[::2]}
    trained = {(block, HALF): imitator.imitate(block, choice) for block, choice in half.items()}
    accuracies = _accuracies(network, analyse(network), Plan(operators=half), trained, images, labels)
    _print_accuracies(accuracies, len(half), len(structure.blocks), options.images)

    start = time.perf_counter()
    rows = _errors(imitator, structure, network, labels_of, trained)
    columns = ("operator", "block", "MACs saved, %", "error before", "error after", "seconds")
    common.print_table("Replacements of ResNet-20's blocks: normalised error on images held out", columns, rows)
    print(f"all {len(rows)} in {time.perf_counter() - start:.0f} s of one process, {imitator.features.images} images")
    figures = {
        "settings": {
            "steps": options.steps,
            "images": imitator.features.images,
            "learning_rate": settings.learning_rate,
        },
        "test_images": options.images,
        "half_replaced": accuracies,
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    common.report("imitation", figures, path=options.json)


def _accuracies(
    network: Network,
    structure: Structure,
    plan: Plan,
    trained: dict[tuple[str, str], Imitation],
    images: Tensor,
    labels: Tensor,
) -> dict[str, float]:
    """Return the accuracy of the float network and of the plan's without and with imitation, and the share of MACs."""
    found = {"float": accuracy(build_module(network), images, labels)}
    found["without imitation"] = accuracy(build_module(restructure(network, plan, structure=structure)), images, labels)
    structure.adopt({full_key(block, operator_choice(label)): row.tensors for (block, label), row in trained.items()})
    changed = restructure(network, plan, structure=structure)
    found["with imitation"] = accuracy(build_module(changed), images, labels)
    found["seconds"] = sum(row.seconds for row in trained.values())
    found["MACs left"] = workload(changed, Plan()).macs / workload(network, Plan()).macs
    return found


def _print_accuracies(found: dict[str, float], replaced: int, blocks: int, images: int) -> None:
    rows = [(name, 100 * found[name]) for name in ("float", "without imitation", "with imitation")]
    title = f"ResNet-20, {replaced} of {blocks} blocks C-Ghost, no fine-tuning, {images} test images"
    common.print_table(title, ("network", "top-1 %"), rows)
    print(f"{100 * found['MACs left']:.1f} % of the MACs left; imitation took {found['seconds']:.0f} s", flush=True)


def _errors(
    imitator: Imitator,
    structure: Structure,
    network: Network,
    labels: Sequence[str],
    known: dict[tuple[str, str], Imitation],
) -> list[tuple[str, str, float, float, float, float]]:
    rows = []
    folded = structure.prepared(network).folded
    whole = workload(network, Plan()).macs
    for label in labels:
        choice = operator_choice(label)
        operator = OPERATORS.get(choice.operator)
        for block in (*structure.blocks, *structure.stages):
            if operator.whole_stages != (block.kind == STAGE) or operator.fits(block, folded) is not None:
                continue
            row = known[block.name, label] if (block.name, label) in known else imitator.imitate(block.name, choice)
            if math.isnan(row.error_before):  # nothing to train, and so not measured
                replacement = structure.prepared(network).replacement(block.name, choice)
                row = imitate(block, folded, replacement, imitator.features, ImitationSettings(steps=0))
            changed = restructure(network, Plan(operators={block.name: choice}), structure=structure)
            saved = 100 * (1 - workload(changed, Plan()).macs / whole)
            rows.append((label, block.name, saved, row.error_before, row.error_after, row.seconds))
            print(*rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
