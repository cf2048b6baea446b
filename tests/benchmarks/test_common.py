"""The common frame of the benchmarks."""

import json
from pathlib import Path

import pytest

from benchmarks import common


def test_data_that_is_not_there_ends_the_run_with_its_name_and_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        common.require_files(tmp_path, ["cifar10/test.npz"])

    assert ended.value.code == common.DATA_MISSING
    message = capsys.readouterr().err
    assert "cifar10/test.npz: not there" in message
    assert "Krizhevsky" in message


def test_data_with_other_bytes_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "test.npz").write_bytes(b"something else")

    with pytest.raises(SystemExit):
        common.require_files(tmp_path, ["cifar10/test.npz"])

    assert "other bytes" in capsys.readouterr().err


def test_every_known_file_has_a_source_and_a_sha256() -> None:
    for name, digest in common.known_checksums().items():
        assert name.split("/")[0] in common.SOURCES
        assert len(bytes.fromhex(digest)) == 32


def test_a_report_states_the_setting_beside_the_figures(tmp_path: Path) -> None:
    common.report("sums", {"two": 1 + 1}, path=tmp_path / "figures.json")

    content = json.loads((tmp_path / "figures.json").read_text())
    assert content["benchmark"] == "sums"
    assert content["figures"] == {"two": 2}
    assert {"cpu", "cores", "threads", "versions"} <= content["setting"].keys()


def test_a_table_shows_four_digits_of_a_fraction_and_all_of_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_table("Sizes", ["what", "bytes", "share"], [["file", 12345, 0.123456]])

    output = capsys.readouterr().out
    assert "12,345" in output
    assert "0.1235" in output
