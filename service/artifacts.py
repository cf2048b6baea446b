"""Artefacts: files under the sha256 of their content, in a folder or on any storage that fsspec reaches.

A file is written under a temporary name while it is hashed, and moved to its final name only when it is whole: what has
a digest can be trusted. Storing the same content twice stores it once.
"""

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from errno import EIO, ENOENT
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from service.errors import NotFoundError
from service.store.identifiers import new_id

CHUNK_BYTES = 2**20
LEFTOVER_S = 6 * 3600.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_S3_CONFIG = {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 2}}
"""A store that hangs is given up within two minutes, not within seven: whoever asks can wait and ask again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What is stored: the sha256 of a content, and its length."""

    digest: str
    bytes: int


def remove_leftovers(folder: Path) -> None:
    """Remove what has lain in a folder for temporary files longer than anybody needs it."""
    for path in folder.iterdir():
        if time.time() - path.lstat().st_mtime > LEFTOVER_S:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _age_s(about: Mapping[str, Any]) -> float:
    """Return the age of a file: folders say ``mtime``, S3 says ``LastModified``."""
    when = about.get("mtime", about.get("LastModified"))
    if isinstance(when, datetime):
        when = when.timestamp()
    return 0.0 if when is None else time.time() - float(when)


def _options(url: str) -> dict[str, Any]:
    """Return how to open a storage, besides what the operator says of it in ``FSSPEC_<PROTOCOL>_<OPTION>``."""
    options: dict[str, Any] = {"use_listings_cache": False}  # other processes write, too
    protocol = fsspec.core.split_protocol(url)[0]
    if protocol in ("s3", "s3a"):
        options["session"] = _s3_session()
        if "config_kwargs" not in fsspec.config.conf.get("s3", {}):
            options["config_kwargs"] = _S3_CONFIG
    return options


def _s3_session() -> Any:
    """Return a session that sends what it uploads at once.

    By default it asks first whether it may (``Expect: 100-continue``), and no timeout bounds the wait for the answer.
    """
    from aiobotocore.session import get_session  # only who uses S3 has it
    from botocore.handlers import add_expect_header

    session = get_session()
    session.unregister("before-call.s3", add_expect_header)
    return session


@contextmanager
def _os_errors() -> Iterator[None]:
    """Let whatever a storage's library raises be an ``OSError`` in words that users may read.

    Those of object stores have families of their own, and name hosts.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        raise OSError(EIO, f"the store of artefacts does not answer ({type(error).__name__})") from error


class ArtifactStore:
    """The artefacts under one URL.

    A storage elsewhere may be away when this is made: whoever needs it later gets an ``OSError`` as long as it is. A
    folder must be there, or possible to make.
    """

    def __init__(self, url: str) -> None:
        self._files, root = fsspec.core.url_to_fs(url, **_options(url))
        self._root: str = root.rstrip("/")
        self._is_folder = isinstance(self._files, LocalFileSystem)
        try:
            with _os_errors():
                self._files.makedirs(f"{self._root}/tmp", exist_ok=True)
        except OSError as error:
            if self._is_folder:
                raise
            logger.warning("going on without the store of artefacts: %s", error)

    def store(self, content: Iterable[bytes]) -> Artifact:
        """Store a content that comes in pieces; nothing is left behind if it breaks off."""
        temporary = f"{self._root}/tmp/{new_id()}"
        digest, length = hashlib.sha256(), 0
        try:
            with self._opened(temporary, "wb") as file:
                for piece in content:
                    with _os_errors():
                        file.write(piece)
                    digest.update(piece)
                    length += len(piece)
            artifact = Artifact(digest=digest.hexdigest(), bytes=length)
            self._commit(temporary, artifact.digest)
        finally:
            with suppress(OSError):  # of a store that is away; what is left there goes when it is old
                self._remove(temporary)
        return artifact

    def store_bytes(self, content: bytes) -> Artifact:
        """Store a content that is at hand."""
        return self.store([content])

    def store_file(self, path: Path) -> Artifact:
        """Store the content of a local file."""
        with path.open("rb") as file:
            return self.store(iter(lambda: file.read(CHUNK_BYTES), b""))

    def read(self, digest: str) -> bytes:
        """Return a whole content."""
        return b"".join(self.stream(digest))

    def stream(self, digest: str) -> Iterator[bytes]:
        """Return a content in pieces; raises ``NotFoundError`` at once if it is not there."""
        path = self._path(digest)
        if not self.exists(digest):
            self.check()  # a store that is away has none of its files, and that is another matter
            raise NotFoundError("artifact", digest)
        return self._pieces(path)

    def exists(self, digest: str) -> bool:
        """Whether a content is there."""
        path = self._path(digest)
        with _os_errors():
            return bool(self._files.exists(path))

    def remove(self, digest: str) -> None:
        """Remove a content, if it is there."""
        self._remove(self._path(digest))

    def older_than(self, seconds: float) -> list[str]:
        """Return the digests of what was stored longer ago, on a store that tells when that was."""
        return [
            name
            for path, about in self._found(self._root).items()
            if _DIGEST.fullmatch(name := path.rpartition("/")[2]) and _age_s(about) > seconds
        ]

    def copy_to(self, digest: str, path: Path) -> None:
        """Write a content to a local file."""
        with path.open("wb") as file:
            for piece in self.stream(digest):
                file.write(piece)

    def check(self) -> None:
        """Raise ``OSError`` if the storage cannot be reached.

        A folder that was there at the start and is gone is not made anew: what is stored is elsewhere, on a disk that
        is not mounted, say.
        """
        with _os_errors():
            if self._files.isdir(f"{self._root}/tmp"):
                return
            if self._is_folder:
                raise FileNotFoundError(ENOENT, "the folder of artefacts is gone", self._root)
            self._files.makedirs(f"{self._root}/tmp", exist_ok=True)

    def clear_temporary(self, older_than_s: float = LEFTOVER_S) -> None:
        """Remove what processes that are gone were writing; nobody writes one file for hours."""
        for path, about in self._found(f"{self._root}/tmp").items():
            if _age_s(about) > older_than_s:
                self._remove(path)

    def _found(self, folder: str) -> dict[str, dict[str, Any]]:
        """Return all files below a folder, and what the storage knows about each."""
        with _os_errors():
            return dict(self._files.find(folder, detail=True))

    def _commit(self, temporary: str, digest: str) -> None:
        path = self._path(digest)
        if self.exists(digest):
            return
        with _os_errors():
            self._files.makedirs(self._files._parent(path), exist_ok=True)  # below a root that has just taken the file
            self._files.mv(temporary, path)

    def _remove(self, path: str) -> None:
        with _os_errors():
            if self._files.exists(path):
                self._files.rm_file(path)

    def _path(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise NotFoundError("artifact", digest)
        return f"{self._root}/{digest[:2]}/{digest}"

    def _pieces(self, path: str) -> Iterator[bytes]:
        with self._opened(path, "rb") as file:
            while True:
                with _os_errors():
                    piece = file.read(CHUNK_BYTES)
                if not piece:
                    return
                yield piece

    @contextmanager
    def _opened(self, path: str, mode: str) -> Iterator[Any]:
        with _os_errors():
            file = self._files.open(path, mode)
        try:
            yield file
        finally:
            with _os_errors():
                file.close()
