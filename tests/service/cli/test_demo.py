"""What the demo refuses; the whole of it takes minutes and is run by ``make demo``."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import service
from service.cli import demo
from service.cli.main import app


def test_without_the_examples_it_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(service, "__file__", str(tmp_path / "site-packages" / "service" / "__init__.py"))

    done = CliRunner().invoke(app, ["demo"])

    assert done.exit_code == 1
    said = " ".join(done.output.split())
    assert "examples/digits/digits_resnet.onnx" in said
    assert "clone the repository" in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    done = CliRunner().invoke(app, ["demo", "--home", str(tmp_path)])

    assert done.exit_code == 1
    assert "is not empty" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_job_asks_each_device_for_its_own_latency_and_size() -> None:
    assert demo.LATENCY_SHARES.keys() == demo.MODEL_BYTES.keys() == {"raspberry-pi-4", "stm32h743"}
