"""Packs a plan's network, then believes nothing: reloads the files and measures them again."""

import importlib.metadata
import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.apply import Compressed
from compress.checkpoint import archive, load, save
from compress.evaluate import logits, top1
from compress.plan import Plan
from workers.pricing import Price, Pricing
from workers.spec import JobSpec
from workers.truth import truths

PACKED_FILE = "packed.zip"
ONNX_FILE = "model.onnx"
WEIGHTS_FILE = "model.safetensors"
FINE_TUNED_FILES = {PACKED_FILE: "fine_tuned.zip", ONNX_FILE: "fine_tuned.onnx"}

TORCH_TOLERANCE_IMAGES = 1
ONNX_TOLERANCE = 0.005  # of accuracy, or one image where the search split has fewer than 200
COST_TOLERANCE = 1e-9  # relative: the same arithmetic on the same plan
BATCH = 256

Images = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The artefacts of a trial by name, and what reloading them showed."""

    files: Mapping[str, bytes]
    verification: Mapping[str, Any]

    @property
    def verified(self) -> bool:
        """Whether everything agreed."""
        return not self.verification["failures"]


def package(
    compressed: Compressed,
    *,
    number: int,
    spec: JobSpec,
    measured_correct: int,
    price: Price,
    pricing: Pricing,
    search: Images,
    test: Images,
    float_right_on_test: Tensor,
) -> Package:
    """Write a trial's checkpoint and verify it from its files.

    On the search images the packed file must get as many right as the trial did (give or take one), and the ONNX file
    in ONNX Runtime as large a share (give or take half a point). The packed size and every cost must be what was
    predicted. Test images are counted beside; they decide nothing. ``figures`` of the verification says which numbers
    are deployed, simulated and predicted (``workers.truth``).

    Args:
        compressed: The trial's network.
        number: The trial's number.
        spec: The job.
        measured_correct: Search images that the trial got right.
        price: What the trial's plan was priced at.
        pricing: Prices the plan in the reloaded manifest.
        search: Images and labels that the trial was measured on.
        test: Images and labels that nothing has looked at.
        float_right_on_test: Which of the test images the float network gets right.
    """
    with tempfile.TemporaryDirectory(prefix="tightfit-") as name:
        folder = Path(name)
        onnx_path = folder / ONNX_FILE
        from compress.export.onnx_qdq import export_onnx  # evaluators that never package do without

        export_onnx(compressed, onnx_path)
        onnx_bytes = onnx_path.read_bytes()
        save(
            compressed,
            folder / "checkpoint",
            _extra(number, spec, measured_correct, len(search[0]), price),
            onnx=onnx_bytes,
        )
        weight_bytes = (folder / "checkpoint" / WEIGHTS_FILE).stat().st_size
        packed = io.BytesIO()
        archive(folder / "checkpoint", packed)
        packed_path = folder / PACKED_FILE
        packed_path.write_bytes(packed.getvalue())

        module = load(packed_path)
        torch_right = _right(logits(module, search[0]), search[1])
        onnx_right = _right(_onnx_logits(onnx_path, search[0]), search[1])
        test_right = top1(logits(module, test[0])) == test[1]
        repriced = pricing.price(Plan.from_json(module.meta["manifest"]["plan"]))
    images = len(search[0])
    figures = {
        "images": images,
        "trial_correct": measured_correct,
        "torch_correct": torch_right,
        "onnx_correct": onnx_right,
        "predicted_packed_bytes": price.packed_bytes,
        "packed_bytes": weight_bytes,
        "archive_bytes": len(packed.getvalue()),
        "onnx_bytes": len(onnx_bytes),
        "test": paired(test_right, float_right_on_test),
    }
    failures = [
        *_counting_failures(figures),
        *_price_failures(price, repriced),
    ]
    return Package(
        files={PACKED_FILE: packed.getvalue(), ONNX_FILE: onnx_bytes},
        verification={
            **figures,
            "figures": [asdict(row) for row in truths(compressed, pricing.profiles, score=spec.score)],
            "failures": failures,
        },
    )


def joined(
    packed: Package, tuned: Package, *, settings: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]
) -> Package:
    """Return a trial's package with its fine-tuned network beside it: more files, and what reloading them showed.

    The fine-tuned network was verified on the search images that it was not trained on; its test images are those of
    the trial. Whether the trial itself is verified does not depend on it.
    """
    files = {FINE_TUNED_FILES[name]: content for name, content in tuned.files.items()}
    verification = {**tuned.verification, "settings": dict(settings), "runs": [dict(run) for run in runs]}
    return Package(files={**packed.files, **files}, verification={**packed.verification, "fine_tuned": verification})


def paired(right: Tensor, float_right: Tensor) -> dict[str, Any]:
    """Compare two networks on the same images.

    ``drop_interval`` is the 95 % interval of the float network's accuracy minus this one's, from the images on which
    only one of them is right (normal approximation of the paired difference).
    """
    images = len(right)
    lost = int((float_right & ~right).sum())
    won = int((right & ~float_right).sum())
    drop = (lost - won) / images
    half = 1.96 * math.sqrt(max(0.0, (lost + won) / images - drop**2) / images)
    return {
        "images": images,
        "correct": int(right.sum()),
        "float_correct": int(float_right.sum()),
        "only_float_right": lost,
        "only_packed_right": won,
        "drop": drop,
        "drop_interval": [drop - half, drop + half],
    }


def _counting_failures(figures: Mapping[str, Any]) -> list[str]:
    images, expected = figures["images"], figures["trial_correct"]
    found = []
    if abs(figures["torch_correct"] - expected) > TORCH_TOLERANCE_IMAGES:
        found.append(
            f"the packed file gets {figures['torch_correct']} of {images} search images right, the trial got {expected}"
        )
    if abs(figures["onnx_correct"] - expected) > max(1, int(ONNX_TOLERANCE * images)):
        found.append(
            f"ONNX Runtime gets {figures['onnx_correct']} of {images} search images right, the trial got {expected}"
        )
    if figures["packed_bytes"] != figures["predicted_packed_bytes"]:
        found.append(
            f"{WEIGHTS_FILE} has {figures['packed_bytes']} bytes, {figures['predicted_packed_bytes']} were predicted"
        )
    return found


def _price_failures(price: Price, repriced: Price) -> list[str]:
    found = []
    for device, costs in price.costs.items():
        for name, value in asdict(costs).items():
            again = getattr(repriced.costs[device], name)
            same = math.isclose(value, again, rel_tol=COST_TOLERANCE) if isinstance(value, float) else value == again
            if not same:
                found.append(f"{name} on {device} is {again} for the reloaded plan, {value} was predicted")
    return found


def _extra(number: int, spec: JobSpec, correct: int, images: int, price: Price) -> dict[str, Any]:
    """Return what the manifest says of where the checkpoint comes from."""
    return {
        "trial": number,
        "job": {"name": spec.name, "seed": spec.seed, "strategy": spec.strategy},
        "metrics": {"accuracy": correct / images, "correct": correct, "images": images},
        "limits": {device.name: asdict(device.limits) for device in spec.devices},
        "costs": {name: asdict(costs) for name, costs in price.costs.items()},
        "versions": {
            name: importlib.metadata.version(name) for name in ("tightfit", "torch", "onnx", "onnxruntime", "numpy")
        },
    }


def _right(scores: Tensor, labels: Tensor) -> int:
    return int((top1(scores) == labels).sum())


def _onnx_logits(path: Path, images: Tensor) -> Tensor:
    import onnxruntime  # as above

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [session.run(None, {name: batch.numpy()})[0] for batch in torch.split(images, BATCH)]
    return torch.cat([torch.from_numpy(output) for output in outputs])
