"""``bench`` and ``calibrate`` as a user types them; neither needs a service."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hwmodels.measure.graphs import GraphWriter
from hwmodels.profile import load_profile
from service.cli.main import app

HEADER = "op,in_channels,out_channels,height,width,kernel,latency_us\n"
KERNELS = [(32, 64, 28, 3), (64, 64, 28, 1), (64, 128, 14, 3), (128, 128, 14, 1), (16, 32, 56, 3), (256, 256, 7, 3)]


def test_bench_appends_a_row_that_calibrate_reads(tmp_path: Path) -> None:
    writer = GraphWriter((3, 8, 8), int8=False, generator=np.random.default_rng(0))
    file, table = tmp_path / "small.onnx", tmp_path / "board.csv"
    file.write_bytes(writer.model(writer.conv(writer.input, 4)))

    done = CliRunner().invoke(app, ["bench", str(file), "--csv", str(table), "--seconds", "0.05", "--json"])

    assert done.exit_code == 0, done.output
    assert table.read_text().splitlines()[1].startswith("small,small.onnx,")


def test_six_kernels_make_a_profile_that_says_its_error(tmp_path: Path) -> None:
    table, target = tmp_path / "board.csv", tmp_path / "my-board.yaml"
    rows = [f"conv,{i},{o},{s},{s},{k},{3 * i * o * s * s * k * k / 1e4}\n" for i, o, s, k in KERNELS]
    table.write_text(HEADER + "".join(rows))

    options = ["--measurements", str(table), "--like", "raspberry-pi-4", "--output", str(target)]
    done = CliRunner().invoke(app, ["calibrate", "my-board", *options])

    assert done.exit_code == 0, done.output
    assert "6 float networks" in load_profile(target).expected_error("latency_ms", "float")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["calibrate", "My Board"], "lower-case letters"),
        (["calibrate", "my-board", "--measurements", "TABLE"], "like: must name the profile"),
        (["calibrate", "my-board", "--measurements", "TABLE", "--like", "raspberry-pi-9"], "raspberry-pi-4"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(tmp_path: Path, arguments: list[str], said: str) -> None:
    table = tmp_path / "board.csv"
    table.write_text(HEADER + "conv,3,8,8,8,3,10\n")
    given = [str(table) if argument == "TABLE" else argument for argument in arguments]

    done = CliRunner().invoke(app, given)

    assert done.exit_code == 1
    assert said in done.output
