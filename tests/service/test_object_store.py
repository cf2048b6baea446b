"""Artefacts on a real S3 server."""

import hashlib
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from service.artifacts import ArtifactStore
from service.errors import NotFoundError
from tests.s3 import S3, running_s3

pytestmark = pytest.mark.slow

URL = "s3://tightfit/artifacts"
ABC = hashlib.sha256(b"abc").hexdigest()
PART_BYTES = 5 * 2**20  # the least that S3 takes
IMPATIENT = {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 1}}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3() as server:
        yield server


@pytest.fixture
def store(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtifactStore]:
    monkeypatch.setitem(fsspec.config.conf, "s3", {**s3.options, "default_block_size": PART_BYTES})
    store = ArtifactStore(URL)
    yield store
    for digest in store.older_than(-1e9):
        store.remove(digest)


def somebody_else(s3: S3) -> Any:
    """Return the storage as another process has it: with connections and a memory of its own."""
    return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False, **s3.options)


def test_a_content_is_found_under_its_sha256_and_nothing_is_left_beside_it(store: ArtifactStore, s3: S3) -> None:
    artifact = store.store([b"ab", b"c"])

    assert (artifact.digest, artifact.bytes) == (ABC, 3)
    assert store.read(ABC) == b"abc"
    assert store.store_bytes(b"abc") == artifact
    assert somebody_else(s3).find("tightfit") == [f"tightfit/artifacts/{ABC[:2]}/{ABC}"]


def test_a_content_longer_than_one_part_comes_back_whole(store: ArtifactStore) -> None:
    content = bytes(range(256)) * (3 * PART_BYTES // 256 + 1)

    artifact = store.store(content[start : start + 2**20] for start in range(0, len(content), 2**20))

    assert artifact.bytes == len(content)
    assert hashlib.sha256(store.read(artifact.digest)).hexdigest() == artifact.digest


def test_what_others_store_and_remove_is_seen_at_once(store: ArtifactStore, s3: S3) -> None:
    path = f"tightfit/artifacts/{ABC[:2]}/{ABC}"
    store.store_bytes(b"something in the same bucket")

    assert store.older_than(-1e9) != [ABC]  # lists everything
    somebody_else(s3).pipe_file(path, b"abc")
    assert store.read(ABC) == b"abc"
    somebody_else(s3).rm_file(path)
    assert not store.exists(ABC)
    with pytest.raises(NotFoundError):
        store.read(ABC)


def test_old_and_young_artefacts_are_told_apart(store: ArtifactStore) -> None:
    store.store_bytes(b"abc")

    assert store.older_than(3600) == []
    assert store.older_than(-60) == [ABC]  # S3 counts whole seconds


def test_leftovers_of_a_killed_process_are_cleared(store: ArtifactStore, s3: S3) -> None:
    somebody_else(s3).pipe_file("tightfit/artifacts/tmp/half", b"half")

    store.clear_temporary()
    young = somebody_else(s3).find("tightfit")
    store.clear_temporary(older_than_s=-60)

    assert young == ["tightfit/artifacts/tmp/half"]
    assert somebody_else(s3).find("tightfit") == []


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_a_store_that_is_away_is_an_os_error_until_it_is_back(
    s3: S3, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {**s3.options, "config_kwargs": IMPATIENT})
    store = ArtifactStore("s3://leaving/artifacts")
    store.store_bytes(b"abc")
    leave, come = (s3.relay.stop, s3.relay.start) if how == "refuses" else (s3.hang, s3.go_on)

    leave()
    try:
        for ask in (lambda: store.read(ABC), lambda: store.store_bytes(b"other"), store.check):
            with pytest.raises(OSError, match="does not answer") as error:
                ask()
            assert str(s3.relay.port) not in str(error.value)  # users may read it
    finally:
        come()

    store.check()
    assert store.read(ABC) == b"abc"
    assert store.store_bytes(b"other").bytes == 5


def test_who_starts_while_the_store_is_away_can_use_it_later(store: ArtifactStore, s3: S3) -> None:
    s3.relay.stop()
    try:
        early = ArtifactStore("s3://another/place")
        with pytest.raises(OSError, match="does not answer"):
            early.check()
    finally:
        s3.relay.start()

    early.check()

    assert early.read(early.store_bytes(b"abc").digest) == b"abc"
    early.remove(ABC)
