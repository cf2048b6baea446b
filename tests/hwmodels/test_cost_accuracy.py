import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cost_accuracy.py"


def test_the_accuracy_benchmark_ends_with_two_where_there_is_no_data(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--data", str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "measured_latency.csv" in ended.stderr
