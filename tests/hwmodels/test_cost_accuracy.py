import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_accuracy_benchmark_ends_with_two_where_there_is_no_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.cost_accuracy", "--data", str(tmp_path)]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "measured_latency.csv" in ended.stderr
