"""How long a 25 MB ONNX file takes from upload to price, with the service warm.

Starts a service of its own, uploads one file to warm it up, then files that it has never seen: a MobileNet-like
network of 6.2 million weights, other random values each time. Timed are the upload with its ingestion, and the price.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import common
from hwmodels.measure.graphs import GraphWriter
from service.cli.child_service import child_service
from service.client import Client

FILES = 5
TARGET_S = 3.0
DEVICE = "raspberry-pi-4"
STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))  # channels, blocks, stride


def network(seed: int) -> bytes:
    """Return an ONNX file of depthwise and pointwise convolutions with random weights."""
    writer = GraphWriter((3, 224, 224), int8=False, generator=np.random.default_rng(seed))
    now = writer.conv(writer.input, 32, 3, 2, activation="relu")
    for channels, blocks, stride in STAGES:
        for block in range(blocks):
            inside = writer.shape(now)[0]
            step = stride if block == 0 else 1
            now = writer.conv(now, inside, 3, step, groups=inside, activation="relu")
            now = writer.conv(now, channels, 1, activation="relu")
    now = writer.conv(now, 1440, 1, activation="relu")
    return writer.model(writer.linear(writer.global_pool(now), 1000))


def main() -> int:
    """Run the comparison; return 1 if the target is missed."""
    options = common.parser(__doc__).parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        child_service(Path(folder) / "service") as service,
        Client(service.url) as client,
    ):
        for seed in range(FILES + 1):
            path = Path(folder) / f"network-{seed}.onnx"
            path.write_bytes(network(seed))
            started = time.perf_counter()
            model = client.upload_model(path)
            uploaded = time.perf_counter()
            found = client.estimate(model.id, [DEVICE])
            priced = time.perf_counter()
            name = "warm-up" if seed == 0 else f"file {seed}"
            size = path.stat().st_size / 1e6
            latency_ms = found.estimates[0].latency_ms
            rows.append((name, size, uploaded - started, priced - uploaded, priced - started, latency_ms))
            path.unlink()
    common.print_table(
        f"From upload to a price on {DEVICE}",
        ("file", "MB", "ingested (s)", "priced (s)", "whole (s)", "ms there"),
        rows,
    )
    whole_s = median(row[4] for row in rows[1:])
    print(f"Median {whole_s:.2f} s (target {TARGET_S:g} s), slowest {max(row[4] for row in rows[1:]):.2f} s.")
    figures = {
        "files": [dict(zip(("file", "mb", "ingest_s", "price_s", "whole_s"), row, strict=False)) for row in rows]
    }
    common.report("cost_ingest", figures, path=options.json)
    return 0 if whole_s <= TARGET_S else 1


if __name__ == "__main__":
    sys.exit(main())
