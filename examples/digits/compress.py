"""Compress the example from Python: `tightfit serve` in one terminal, this script in another.

``python -m examples.digits.compress``; the same five calls do it for a network of your own.
"""

import argparse
import json
import tempfile
from pathlib import Path

from examples.digits.heldout import write_heldout
from tightfit import Client

HERE = Path(__file__).parent


def main() -> None:
    """Upload, submit, wait, show the front, and download the best checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8321")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("digits_best.zip"))
    options = parser.parse_args()

    preprocessing = json.loads((HERE / "digits_resnet.json").read_text())["preprocessing"]
    with Client(options.url) as client, tempfile.TemporaryDirectory() as folder:
        model = client.upload_model(HERE / "digits_resnet.onnx", preprocessing=preprocessing)
        data = Path(folder) / "heldout.npz"
        write_heldout(data)
        dataset = client.upload_dataset(data)
        job = client.submit(
            {
                "name": "digits from Python",
                "model_id": model.id,
                "dataset_id": dataset.id,
                "devices": [{"name": "stm32h743", "limits": {"latency_ms": 12.0}}],
                "limits": {"model_bytes": 60_000, "accuracy_drop": 0.02},
                "budget": {"trials": options.trials},
            }
        )
        print(f"watch it at {client.url}/jobs/{job.id}")
        job = client.wait(job.id)
        print(f"{job.status}: {job.trial_counts.done} trials measured")
        for trial in client.front(job.id, device="stm32h743").points:
            cost = trial.costs["stm32h743"]
            print(f"trial {trial.number}: {trial.accuracy:.2%} at {cost.latency_ms:.2f} ms, {cost.model_bytes:,} bytes")
        print(f"wrote {client.download_best(job.id, options.out, device='stm32h743')}")


if __name__ == "__main__":
    main()
