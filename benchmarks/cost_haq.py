"""The published latency table of HAQ (Wang et al., CVPR 2019) as a check of shape: its simulator is not public."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hwmodels.bitserial import BitSerialParameters
from hwmodels.builder import with_bits
from hwmodels.estimate import Pricer
from hwmodels.profile import load_profile
from hwmodels.quantity import Quantity
from hwmodels.reference import mobilenet_v2
from hwmodels.validation import spearman
from hwmodels.workload import KernelKind

TABLE = "raw/haq_qmobilenetv2_imagenet100_batch16_latency_table.npy"
CLASSES = 100


def haq(folder: Path) -> dict[str, Any]:
    """Return how the table and our bit-serial model behave in both widths, and how alike they rank kernels."""
    path = folder / TABLE
    if not path.is_file():
        return {"lines": [f"left out: {path} is not there"], "targets": []}
    table = np.load(path, allow_pickle=False)  # (layers, weight bits, activation bits)
    network = mobilenet_v2(1.0, 224, 3, CLASSES)
    kernels = [kernel for kernel in network.kernels if kernel.macs]
    depthwise = [index for index, kernel in enumerate(kernels) if kernel.kind is KernelKind.DEPTHWISE]
    outputs = np.array([network.tensors[kernel.outputs[0]].elements for kernel in kernels])
    law = outputs[depthwise, None] * np.arange(1, 9)  # batch of 16, sixteen bits a cycle
    exact = int((table[depthwise, 0] == law).sum())
    ours = _ours(len(kernels))
    falls = [int((np.diff(values, axis=axis) < 0).sum()) for values in (table, ours) for axis in (1, 2)]
    rank = spearman(ours.ravel(), table.ravel()) or 0.0
    narrow = table[depthwise][:, 7, :] / law - 1
    return {
        "lines": [
            f"{table.shape[0]} layers at 1 to 8 bits; the table falls at {falls[0] + falls[1]} steps to more bits",
            f"depthwise cycles = values written × activation bits: exact at 1-bit weights, {exact} of {law.size};",
            f"    with 8-bit weights up to {narrow.max():.2f} times more, where 7×7 pixels share them",
            f"our bit-serial model against the table, all layers and widths: Spearman {rank:.3f}",
        ],
        "targets": [
            _target("HAQ table, depthwise law exact, cases", exact, law.size, exact == law.size),
            _target(
                "bit-serial model, steps to more bits that are cheaper", falls[2] + falls[3], 0, not any(falls[2:])
            ),
        ],
    }


def _target(what: str, got: float, bound: float, met: bool) -> dict[str, Any]:
    return {"what": what, "got": got, "target": f"{bound:g}", "met": met}


def _ours(count: int) -> np.ndarray:
    """Return latencies of MobileNetV2's kernels on a bit-serial array, (layers, weight bits, activation bits)."""
    given: dict[str, Any] = {"confidence": "estimate", "source": "an array of the order of those published"}
    numbers = {"rows": 16, "columns": 16, "bits_per_unit": 64, "fill_cycles": 0, "max_bits": 8, "sram_kib": 256}
    quantities = {name: Quantity(value=value, **given) for name, value in numbers.items()}
    bandwidth = Quantity(value=3.2, **given)
    model = BitSerialParameters(**quantities, dram_gb_per_s=bandwidth, serial="both")
    profile = load_profile(
        {
            "name": "bit-serial",
            "title": "Bit-serial array",
            "kind": "fpga",
            "chip": "any",
            "clock_ghz": {"value": 0.2, **given},
            "runtime": "none",
            "release": "none",
            "family": "bit_serial",
            "model": model.model_dump(),
            "formats": {"weight_bits": list(range(1, 9)), "activation_bits": list(range(1, 9)), **given},
        }
    )
    pricer = Pricer(profile)
    network = mobilenet_v2(1.0, 224, 3, CLASSES)
    found = np.empty((count, 8, 8))
    for weight_bits, activation_bits in product(range(1, 9), range(1, 9)):
        load = with_bits(network, weight_bits=weight_bits, activation_bits=activation_bits)
        rows = [row.latency_ms for row in pricer.report(load).kernels if row.macs]
        found[:, weight_bits - 1, activation_bits - 1] = rows
    return found
