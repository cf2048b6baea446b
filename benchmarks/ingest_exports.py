"""Does what PyTorch exports today come in, compute the same, and get a price?

Eleven torchvision networks with random weights, each written by the current exporter with its defaults and by the
legacy one at opsets 11, 13 and 17. Every file is imported, the logits of two images together are compared with those of
ONNX Runtime on the original file, one image at a time as it says; blocks and channel groups are found, and it is priced
on every device that ships. Needs torchvision: ``pip install 'tightfit[exports]'``.
"""

import gc
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks import common
from compress.network.build import build_module
from compress.network.describe import layers
from compress.network.onnx_import import import_onnx
from compress.plan import Plan
from compress.structure import analyse
from compress.workload import workload
from hwmodels.estimate import estimate
from hwmodels.profile import builtin_profiles

NETWORKS = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "squeezenet1_1",
    "densenet121",
    "googlenet",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
)
CURRENT = "current"
EXPORTERS = (CURRENT, "legacy-11", "legacy-13", "legacy-17")
TOLERANCE = 1e-4  # of the largest logit
SHOWN_DEVICE = "raspberry-pi-4"
NOT_WRITTEN = "PyTorch does not write it"


def main() -> int:
    """Run the table; return 1 if a file did not come in or computes something else."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    arguments.add_argument("--exporters", nargs="+", choices=EXPORTERS, default=EXPORTERS)
    options = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            network, images = built(name)
            for exporter in options.exporters:
                path = Path(folder) / f"{name}-{exporter}.onnx"
                row = {"network": name, "exporter": exporter, **measured(network, images, exporter, path)}
                print(f"{name} {exporter}: {row['problem'] or 'comes in'}", flush=True)
                rows.append(row)
                for left in Path(folder).iterdir():
                    left.unlink()
                gc.collect()
    common.print_table(
        "Exported networks",
        (
            *("network", "exporter", "nodes", "layers", "blocks", "groups", "GMAC", "import s", "relative error"),
            *(f"{SHOWN_DEVICE} ms", "problem"),
        ),
        [
            (
                row["network"],
                row["exporter"],
                *(row.get(key, "") for key in ("nodes", "layers", "blocks", "groups")),
                f"{row['macs'] / 1e9:.3f}" if "macs" in row else "",
                row.get("import_s", ""),
                row.get("relative_error", ""),
                row.get("latency_ms", {}).get(SHOWN_DEVICE, ""),
                row["problem"],
            )
            for row in rows
        ],
    )
    written = [row for row in rows if not row["problem"].startswith(NOT_WRITTEN)]
    good = [row for row in written if not row["problem"]]
    print(
        f"PyTorch wrote {len(written)} of {len(rows)} files. {len(good)} of them come in, compute the same within",
        end=" ",
    )
    print(f"{TOLERANCE:g} of the largest logit, and are priced on {len(builtin_profiles())} devices.")
    common.report("ingest_exports", {"files": rows}, path=options.json)
    return 0 if len(good) == len(written) else 1


def built(name: str) -> tuple[nn.Module, Tensor]:
    """Return a torchvision network with random weights and statistics, and two images for it."""
    models = torchvision_models()
    torch.manual_seed(0)
    options = {"init_weights": True} if name == "googlenet" else {}
    network: nn.Module = getattr(models, name)(weights=None, **options).eval()
    generator = torch.Generator().manual_seed(1)
    for key, value in network.named_buffers():  # fresh batch norm would hide a statistic that went astray
        if key.endswith("running_mean"):
            value.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
    for parameter in network.parameters():  # a head of zeros, as ViT's, would make every comparison empty
        if not parameter.any():
            nn.init.normal_(parameter, 0, 0.02, generator=generator)
    return network, torch.randn(2, 3, 224, 224, generator=generator)


@cache
def torchvision_models() -> ModuleType:
    """Return ``torchvision.models``, whichever PyTorch torchvision's own compiled operators were built for.

    Its wheels are for PyTorch with CUDA; beside a CPU build they do not load, and importing torchvision then fails over
    operators that no classifier uses. Declaring them is enough.
    """
    if not find_spec("torchvision"):
        print("torchvision is needed: pip install 'tightfit[exports]'", file=sys.stderr)
        raise SystemExit(common.DATA_MISSING)
    try:
        return import_module("torchvision.models")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        _KEPT.append(library)
        return import_module("torchvision.models")


_KEPT: list[torch.library.Library] = []  # a library that is collected takes its operators along


def measured(network: nn.Module, images: Tensor, exporter: str, path: Path) -> dict[str, Any]:
    """Export, import, compare and price one network; what went wrong stands under ``problem``."""
    try:
        with quiet():
            export(network, images[:1], exporter, path)
    except Exception as failure:
        return {"problem": f"{NOT_WRITTEN}: {first_line(failure)}"}
    try:
        with quiet():
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            name = session.get_inputs()[0].name
            expected = np.concatenate([session.run(None, {name: image[None].numpy()})[0] for image in images])
        beside = path.with_name(f"{path.name}.data")
        started = time.perf_counter()
        imported = import_onnx(path, beside if beside.is_file() else None)
        seconds = time.perf_counter() - started
        with torch.inference_mode():
            logits = build_module(imported)(images).numpy()
        error = float(np.abs(logits - expected).max() / np.abs(expected).max())
        structure = analyse(imported)
        demand = workload(imported, Plan())
        costs = {name: estimate(demand, profile).latency_ms for name, profile in builtin_profiles().items()}
    except Exception as failure:  # a table with one hole says more than no table
        return {"problem": f"{type(failure).__name__}: {first_line(failure)}"}
    return {
        "nodes": len(imported.graph.nodes),
        "layers": len(layers(imported)),
        "blocks": len(structure.blocks),
        "groups": len(structure.groups.groups),
        "macs": demand.macs,
        "import_s": round(seconds, 3),
        "relative_error": error,
        "latency_ms": costs,
        "problem": "" if error <= TOLERANCE else "logits differ",
    }


def export(network: nn.Module, image: Tensor, exporter: str, path: Path) -> None:
    """Write ONNX: by the current exporter with its defaults (weights in a file beside), or by the legacy one."""
    if exporter == CURRENT:
        torch.onnx.export(network, (image,), path, verbose=False)
    else:
        opset = int(exporter.removeprefix("legacy-"))
        torch.onnx.export(network, (image,), str(path), dynamo=False, opset_version=opset)


def first_line(failure: Exception) -> str:
    """Return the start of what an error says."""
    return str(failure).strip().partition("\n")[0][:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters say about themselves out of the table."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    sys.exit(main())
