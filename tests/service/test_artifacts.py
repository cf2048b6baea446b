import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.artifacts import ArtifactStore
from service.errors import NotFoundError


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "artifacts").as_uri())


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_content_is_found_under_its_sha256(store: ArtifactStore) -> None:
    artifact = store.store([b"ab", b"c"])

    assert artifact.digest == hashlib.sha256(b"abc").hexdigest()
    assert artifact.bytes == 3
    assert store.read(artifact.digest) == b"abc"


def test_the_same_content_is_stored_once(store: ArtifactStore, tmp_path: Path) -> None:
    assert store.store_bytes(b"abc") == store.store([b"a", b"bc"])
    assert len(files_under(tmp_path)) == 1


def test_a_content_that_breaks_off_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        store.store(broken())

    assert files_under(tmp_path) == []


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_what_is_not_stored_is_not_found(store: ArtifactStore, digest: str) -> None:
    with pytest.raises(NotFoundError):
        store.read(digest)


def test_any_storage_of_fsspec_will_do(tmp_path: Path) -> None:
    store = ArtifactStore("memory://tests/artifacts")

    artifact = store.store_bytes(b"abc")
    store.copy_to(artifact.digest, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == b"abc"


def test_leftovers_of_a_killed_process_are_cleared(store: ArtifactStore, tmp_path: Path) -> None:
    old, fresh = (tmp_path / "artifacts" / "tmp" / name for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))

    store.clear_temporary()

    assert files_under(tmp_path) == [fresh]  # somebody may still be writing it
