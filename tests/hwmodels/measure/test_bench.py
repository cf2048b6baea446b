import csv
from pathlib import Path

import numpy as np
import pytest

from hwmodels.errors import InputError
from hwmodels.measure.bench import FileTiming, append_row, bench_row, time_file
from hwmodels.measure.graphs import GraphWriter
from hwmodels.measure.rows import read_rows


def small_file(folder: Path) -> Path:
    writer = GraphWriter((3, 8, 8), int8=False, generator=np.random.default_rng(0))
    path = folder / "small.onnx"
    path.write_bytes(writer.model(writer.conv(writer.input, 4)))
    return path


TIMING = FileTiming(latency_ms=1.5, least_ms=1.25, noise_percent=0.4, runs=20, threads=1)


def test_a_file_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    timing = time_file(small_file(tmp_path), seconds=0.05)

    assert 0 < timing.least_ms <= timing.latency_ms < 100
    assert timing.runs >= 6  # at least three in each of two sessions
    assert timing.noise_percent >= 0


def test_a_file_that_is_no_network_is_refused_with_the_runtimes_reason(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("no network")

    with pytest.raises(InputError, match=r"ONNX Runtime cannot run it: .*[Pp]rotobuf"):
        time_file(path, seconds=0.05)


@pytest.mark.parametrize("options", [{"threads": 0}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        time_file(small_file(tmp_path), **options)  # type: ignore[arg-type]


def test_rows_are_appended_under_one_header_and_can_be_read_back(tmp_path: Path) -> None:
    file, table = small_file(tmp_path), tmp_path / "board.csv"

    append_row(table, bench_row(file, TIMING, network="small", table=table))
    table.write_text(table.read_text().rstrip("\n"))  # as some editors leave it
    append_row(table, bench_row(file, TIMING, network="again", table=table))

    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["network"] for row in rows] == ["small", "again"]
    assert rows[0]["file"] == "small.onnx"
    assert [(row.network, row.file, row.latency_ms) for row in read_rows(table.read_text())] == [
        ("small", "small.onnx", 1.5),
        ("again", "small.onnx", 1.5),
    ]


def test_a_table_of_other_columns_is_not_appended_to(tmp_path: Path) -> None:
    file, table = small_file(tmp_path), tmp_path / "other.csv"
    table.write_text("name,price\nx,1\n")

    with pytest.raises(InputError, match="without the column 'network'"):
        append_row(table, bench_row(file, TIMING, network="small", table=table))

    assert table.read_text() == "name,price\nx,1\n"
