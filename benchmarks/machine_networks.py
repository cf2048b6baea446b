"""Networks that ``this_machine`` times: torchvision's, whole, pruned and in eight bits, as ONNX files.

Weights are random: the time of a network does not depend on them. Needs torchvision:
``pip install 'tightfit[exports]'``.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import common
from benchmarks.ingest_exports import export, quiet, torchvision_models
from compress.apply import apply, prepare
from compress.export.onnx_qdq import export_onnx
from compress.network.describe import layers
from compress.network.graph import Network
from compress.network.onnx_import import import_onnx
from compress.plan import LayerBits, Numerics, Plan
from compress.structure import Structure, analyse, restructure
from compress.workload import workload
from hwmodels.workload import Workload

KEPT = (0.8, 0.65, 0.5)  # of the channels; groups take them in turn


class Variant(NamedTuple):
    """One file: a network at a resolution, as PyTorch writes it or compressed."""

    network: str
    size: int
    pruned: bool = False
    int8: bool = False

    @property
    def name(self) -> str:
        """Return a name that says all of it."""
        return f"{self.network}-{self.size}{'-pruned' if self.pruned else ''}{'-int8' if self.int8 else ''}"


_FLOAT = {
    "alexnet": (224,),
    "vgg11": (224,),
    "resnet18": (128, 224),
    "resnet34": (160,),
    "resnet50": (160, 224),
    "resnext50_32x4d": (160,),
    "wide_resnet50_2": (128,),
    "squeezenet1_0": (224,),
    "squeezenet1_1": (160, 224),
    "mobilenet_v2": (128, 160, 224),
    "mobilenet_v3_small": (224,),
    "mobilenet_v3_large": (192, 224),
    "mnasnet0_5": (224,),
    "mnasnet1_0": (192,),
    "efficientnet_b0": (192, 224),
    "regnet_x_400mf": (224,),
    "regnet_y_400mf": (192,),
    "densenet121": (160,),
    "googlenet": (192,),
    "shufflenet_v2_x1_0": (224,),
    "mnasnet1_3": (160,),
}
_PRUNED = (
    *(
        ("resnet18", 160),
        ("resnet18", 224),
        ("resnet34", 224),
        ("resnet50", 192),
        ("regnet_x_400mf", 192),
        ("squeezenet1_1", 192),
    ),
    *(("mobilenet_v2", 192), ("mobilenet_v2", 224), ("mnasnet1_0", 224), ("mobilenet_v3_large", 160)),
)
# Networks that join tensors are left out: what is quantized behind a Concat alone runs in float before it.
_INT8 = (
    *(("resnet18", 128), ("resnet18", 192), ("resnet18", 224), ("resnet34", 192), ("resnet50", 160), ("resnet50", 224)),
    *(("vgg11", 224), ("alexnet", 224), ("resnet34", 224), ("mnasnet1_3", 192), ("mobilenet_v2", 160)),
    *(("mobilenet_v2", 224), ("mnasnet0_5", 192), ("mnasnet1_0", 224), ("regnet_x_400mf", 192)),
    *(("mobilenet_v2", 192), ("wide_resnet50_2", 128)),
)
_PRUNED_INT8 = (("resnet18", 160), ("resnet18", 224), ("resnet50", 192), ("mobilenet_v2", 192), ("mnasnet1_0", 224))

VARIANTS: tuple[Variant, ...] = (
    *(Variant(name, size) for name, sizes in _FLOAT.items() for size in sizes),
    *(Variant(name, size, pruned=True) for name, size in _PRUNED),
    *(Variant(name, size, int8=True) for name, size in _INT8),
    *(Variant(name, size, pruned=True, int8=True) for name, size in _PRUNED_INT8),
)


def main() -> int:
    """Write the networks that are not there yet."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--networks", type=Path, required=True, help="folder to write to; takes about 2.5 GB")
    write(arguments.parse_args().networks)
    return 0


def write(folder: Path, variants: Sequence[Variant] = VARIANTS) -> None:
    """Write each variant as ``NAME.onnx`` with its workload beside it, those that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for variant in variants:
        if not (folder / f"{variant.name}.json").is_file():
            print(f"writing {variant.name}", flush=True)
            demand = _write(variant, folder / f"{variant.name}.onnx")
            (folder / f"{variant.name}.json").write_text(json.dumps(demand.to_json()), encoding="utf-8")


def read(folder: Path) -> Iterator[tuple[str, Path, Workload]]:
    """Yield name, file and workload of the networks that ``write`` left in a folder."""
    for path in sorted(folder.glob("*.json")):
        yield path.stem, path.with_suffix(".onnx"), Workload.from_json(json.loads(path.read_text(encoding="utf-8")))


def _write(variant: Variant, path: Path) -> Workload:
    options = {"init_weights": True} if variant.network == "googlenet" else {}
    torch.manual_seed(0)
    module = getattr(torchvision_models(), variant.network)(weights=None, **options).eval()
    image = torch.rand(1, 3, variant.size, variant.size, generator=torch.Generator().manual_seed(1))
    if not (variant.pruned or variant.int8):
        with quiet():
            export(module, image, "legacy-17", path)
        network = import_onnx(path)
        return workload(restructure(network.to_meta(), Plan(), structure=analyse(network)), Plan())
    with tempfile.TemporaryDirectory() as folder, quiet():
        whole = Path(folder) / "whole.onnx"
        export(module, image, "legacy-17", whole)
        network = import_onnx(whole)
    structure = analyse(network)
    plan = _plan(network, structure, variant)
    export_onnx(apply(prepare(network, image, structure=structure), plan), path)
    return workload(restructure(network.to_meta(), plan, structure=structure), plan)


def _plan(network: Network, structure: Structure, variant: Variant) -> Plan:
    kept: dict[str, float] = {}
    if variant.pruned:
        kept = {group.name: KEPT[index % len(KEPT)] for index, group in enumerate(structure.groups.groups)}
    bits = LayerBits(weight_bits=8, activation_bits=8)
    chosen = {layer.name: bits for layer in layers(network)} if variant.int8 else {}
    numerics = Numerics(weight_range="max", activation_range="min_max")
    return Plan(keep_ratios=kept, layers=chosen, repair="none", numerics=numerics)


if __name__ == "__main__":
    sys.exit(main())
