"""Train the example's network and write it as ONNX and as safetensors, with a card that says how good it is.

``python -m examples.digits.train`` repeats the committed weights from the same seed (about a minute on one core).
``--dataset fashion-mnist`` and ``--dataset cifar10`` train the same network on images that you bring with ``--data``.
"""

import argparse
import hashlib
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from examples.digits.data import DATASETS, DataMissingError, LabelledImages
from examples.digits.network import ResNet

HERE = Path(__file__).parent
EXIT_DATA_MISSING = 2
STACK_TRACE = "pkg.torch.onnx.stack_trace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train on one data set: images move by up to ``shift`` pixels and are mirrored at random if ``flip``."""

    widths: tuple[int, int, int]
    epochs: int
    batch: int
    learning_rate: float
    shift: int
    flip: bool
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1


RECIPES = {
    "digits": Recipe(widths=(16, 24, 40), epochs=80, batch=50, learning_rate=0.05, shift=1, flip=False),
    "fashion-mnist": Recipe(widths=(16, 32, 64), epochs=20, batch=100, learning_rate=0.1, shift=2, flip=True),
    "cifar10": Recipe(widths=(16, 32, 64), epochs=60, batch=100, learning_rate=0.1, shift=4, flip=True),
}


def train(images: LabelledImages, recipe: Recipe, *, seed: int, log: bool = True) -> ResNet:
    """Return the trained network, in evaluation mode. The same seed, versions and threads give the same weights."""
    torch.manual_seed(seed)
    shuffle = torch.Generator().manual_seed(seed)
    x = images.preprocessing.apply(images.train_x)
    y = torch.from_numpy(images.train_y).long()
    network = ResNet(in_channels=x.shape[1], widths=recipe.widths, classes=int(y.max()) + 1)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    batches = -(-len(x) // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs * batches)
    for epoch in range(recipe.epochs):
        network.train()
        started = time.perf_counter()
        total = 0.0
        for rows in torch.split(torch.randperm(len(x), generator=shuffle), recipe.batch):
            optimizer.zero_grad()
            batch = augmented(x[rows], shift=recipe.shift, flip=recipe.flip, generator=shuffle)
            loss = F.cross_entropy(network(batch), y[rows], label_smoothing=recipe.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        if log:
            seconds = time.perf_counter() - started
            print(f"epoch {epoch + 1:3d}/{recipe.epochs}  loss {total / len(x):.4f}  {seconds:.1f} s", flush=True)
    return network.eval()


def augmented(images: Tensor, *, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Return ``images`` moved by up to ``shift`` pixels either way, edges repeated, and mirrored half the time."""
    count, _, height, width = images.shape
    padded = F.pad(images, (shift, shift, shift, shift), mode="replicate")
    top = torch.randint(0, 2 * shift + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * shift + 1, (count, 1), generator=generator)
    rows = top + torch.arange(height)  # (count, height)
    columns = left + torch.arange(width)  # (count, width)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    picked = torch.arange(count).view(-1, 1, 1)
    moved = padded.permute(0, 2, 3, 1)[picked, rows.unsqueeze(2), columns.unsqueeze(1)]  # (count, h, w, channels)
    return moved.permute(0, 3, 1, 2).contiguous()


def count_correct(network: nn.Module, images: LabelledImages, *, batch: int = 500) -> int:
    """Return how many held-out images the network names rightly."""
    x = images.preprocessing.apply(images.heldout_x)
    y = torch.from_numpy(images.heldout_y).long()
    with torch.inference_mode():
        pairs = zip(torch.split(x, batch), torch.split(y, batch), strict=True)
        return sum(int((network(part).argmax(1) == labels).sum()) for part, labels in pairs)


def write_onnx(network: nn.Module, sample: Tensor, path: Path) -> None:
    """Write what PyTorch's exporter makes by default, with a batch of any size and the weights inside the file.

    Only the stack traces that it attaches to nodes are taken out: they name folders of the machine that trained.
    """
    program = torch.onnx.export(
        network, (sample,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    for node in program.model.graph:
        node.metadata_props.pop(STACK_TRACE, None)
    program.save(path, external_data=False)


def main() -> int:
    """Train, measure, write three files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(DATASETS), default="digits")
    parser.add_argument("--data", type=Path, help="folder with fashion_mnist/ and cifar10/")
    parser.add_argument("--out", type=Path, help="folder to write to (digits: this example's own)")
    parser.add_argument("--epochs", type=int, help="train for another number of epochs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out is None and options.dataset != "digits":
        parser.error("--out is needed: weights of the benchmarks' variants are not kept in the repository")
    try:
        images = DATASETS[options.dataset](options.data)
    except DataMissingError as error:
        print(f"{options.dataset}: {error}", file=sys.stderr)
        return EXIT_DATA_MISSING
    recipe = RECIPES[options.dataset]
    if options.epochs is not None:
        recipe = Recipe(**{**asdict(recipe), "epochs": options.epochs})

    started = time.perf_counter()
    network = train(images, recipe, seed=options.seed)
    seconds = time.perf_counter() - started
    correct, total = count_correct(network, images), len(images.heldout_y)

    folder = options.out or HERE
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{options.dataset.replace('-', '_')}_resnet"
    write_onnx(network, images.preprocessing.apply(images.heldout_x[:2]), stem.with_suffix(".onnx"))
    tensors = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    save_file(tensors, stem.with_suffix(".safetensors"))
    card = {
        "architecture": {"in_channels": images.train_x.shape[3], "widths": recipe.widths, "classes": 10},
        "parameters": sum(value.numel() for value in network.parameters()),
        "preprocessing": {"layout": "NHWC", **asdict(images.preprocessing)},
        "accuracy": correct / total,
        "correct": correct,
        "heldout_images": total,
        "trained_images": len(images.train_y),
        "recipe": {"optimizer": "SGD, momentum 0.9, nesterov, cosine schedule", **asdict(recipe)},
        "seed": options.seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "sha256": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (stem.with_suffix(".onnx"), stem.with_suffix(".safetensors"))
        },
    }
    stem.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"{card['parameters']:,} parameters, trained in {seconds:.0f} s")
    print(f"{correct} of {total} held-out images right: {100 * correct / total:.2f} %")
    print(f"wrote {stem}.onnx, .safetensors and .json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
