import zipfile
from pathlib import Path

import pytest

from service.cli.pull import unpack
from service.client import ClientError


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_the_files_of_a_checkpoint_land_in_the_folder(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "packed.zip", {"manifest.json": b"{}", "model.safetensors": b"1234"})
    (tmp_path / "out").mkdir()

    files = unpack(archive, tmp_path / "out")

    assert {path.name: path.read_bytes() for path in files} == {"manifest.json": b"{}", "model.safetensors": b"1234"}
    assert all(path.parent == tmp_path / "out" for path in files)


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "sub/inside", "..\\..\\outside/x"])
def test_a_file_that_would_lie_elsewhere_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "packed.zip", {"manifest.json": b"{}", name: b"x"})
    (tmp_path / "out").mkdir()

    with pytest.raises(ClientError, match="not a checkpoint"):
        unpack(archive, tmp_path / "out")

    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.pull.MAX_UNPACKED_BYTES", 3)
    archive = zipped(tmp_path / "packed.zip", {"manifest.json": b"1234"})

    with pytest.raises(ClientError, match="more than 3 B"):
        unpack(archive, tmp_path)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "packed.zip").write_bytes(b"not a zip")

    with pytest.raises(ClientError, match="not a zip file"):
        unpack(tmp_path / "packed.zip", tmp_path)
