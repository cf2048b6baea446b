"""What the demo measures itself, from the files alone: nothing here asks the service."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from service.cli.output import table

Images = npt.NDArray[np.float32]  # (images, channels, height, width)
Labels = npt.NDArray[np.int64]  # (images,)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFile:
    """A file, and how many of the images it classifies correctly when it is loaded and run here."""

    name: str
    path: Path
    correct: int
    images: int

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly."""
        return self.correct / self.images

    @property
    def bytes(self) -> int:
        """Length of the file."""
        return self.path.stat().st_size


def read_images(data: Path, preprocessing: dict[str, Any]) -> tuple[Images, Labels]:
    """Return the images of an ``.npz`` as the network takes them, ``(pixel * scale - mean) / std``, and the labels."""
    with np.load(data, allow_pickle=False) as arrays:
        pixels, labels = arrays["x"], arrays["y"]
    mean = np.asarray(preprocessing["mean"], dtype=np.float32)
    std = np.asarray(preprocessing["std"], dtype=np.float32)
    scaled = (pixels.astype(np.float32) * np.float32(preprocessing["scale"]) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)), labels.astype(np.int64)


def measure_onnx(name: str, path: Path, images: Images, labels: Labels) -> MeasuredFile:
    """Run an ONNX file with ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = session.run(None, {session.get_inputs()[0].name: images})[0]
    return MeasuredFile(name=name, path=path, correct=int((logits.argmax(1) == labels).sum()), images=len(labels))


def measure_packed(name: str, folder: Path, images: Images, labels: Labels) -> MeasuredFile:
    """Reload a packed checkpoint with ``tightfit.load`` and run it."""
    import torch

    from compress.checkpoint import load  # what users call as tightfit.load

    module = load(folder)
    with torch.inference_mode():
        logits = module(torch.from_numpy(images)).numpy()
    correct = int((logits.argmax(1) == labels).sum())
    return MeasuredFile(name=name, path=folder / "model.safetensors", correct=correct, images=len(labels))


def measured_table(original: MeasuredFile, others: list[MeasuredFile]) -> Table:
    """Return the files side by side with the one that the user brought."""
    result = table("", "File", ">Bytes", ">Smaller by", ">Correct", ">Accuracy (%)", ">Change (points)")
    for row in (original, *others):
        change = (row.accuracy - original.accuracy) * 100
        result.add_row(
            row.name,
            f"{row.bytes:,}",
            "" if row is original else f"{original.bytes / row.bytes:.1f} ×",
            f"{row.correct} of {row.images}",
            f"{row.accuracy * 100:.2f}",
            "" if row is original else f"{change:+.2f}",
        )
    return result


def read_card(path: Path) -> dict[str, Any]:
    """Return the card beside the example's network: its measured accuracy and its preprocessing."""
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return card
