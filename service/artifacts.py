"""Artefacts: files under the sha256 of their content, in a folder or on any storage that fsspec reaches.

A file is written under a temporary name while it is hashed, and moved to its final name only when it is whole: what has
a digest can be trusted. Storing the same content twice stores it once.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from errno import ENOENT
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from service.errors import NotFoundError
from service.store.identifiers import new_id

CHUNK_BYTES = 2**20
LEFTOVER_S = 6 * 3600.0
_DIGEST = re.compile(r"[0-9a-f]{64}")


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


class ArtifactStore:
    """The artefacts under one URL."""

    def __init__(self, url: str) -> None:
        self._files, root = fsspec.core.url_to_fs(url)
        self._root: str = root.rstrip("/")
        self._files.makedirs(f"{self._root}/tmp", exist_ok=True)

    def store(self, content: Iterable[bytes]) -> Artifact:
        """Store a content that comes in pieces; nothing is left behind if it breaks off."""
        temporary = f"{self._root}/tmp/{new_id()}"
        digest, length = hashlib.sha256(), 0
        try:
            with self._files.open(temporary, "wb") as file:
                for piece in content:
                    file.write(piece)
                    digest.update(piece)
                    length += len(piece)
            artifact = Artifact(digest=digest.hexdigest(), bytes=length)
            self._commit(temporary, artifact.digest)
        finally:
            if self._files.exists(temporary):
                self._files.rm_file(temporary)
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
        if not self._files.exists(path):
            self.check()  # a store that is away has none of its files, and that is another matter
            raise NotFoundError("artifact", digest)
        return self._pieces(path)

    def exists(self, digest: str) -> bool:
        """Whether a content is there."""
        return bool(self._files.exists(self._path(digest)))

    def remove(self, digest: str) -> None:
        """Remove a content, if it is there."""
        path = self._path(digest)
        if self._files.exists(path):
            self._files.rm_file(path)

    def older_than(self, seconds: float) -> list[str]:
        """Return the digests of what was stored longer ago, on a store that tells when that was."""
        found = self._files.find(self._root, detail=True)
        return [
            name
            for path, about in found.items()
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
        if self._files.isdir(f"{self._root}/tmp"):
            return
        if isinstance(self._files, LocalFileSystem):
            raise FileNotFoundError(ENOENT, "the folder of artefacts is gone", self._root)
        self._files.makedirs(f"{self._root}/tmp", exist_ok=True)

    def clear_temporary(self) -> None:
        """Remove what processes that are gone were writing; nobody writes one file for hours."""
        if isinstance(self._files, LocalFileSystem):
            remove_leftovers(Path(f"{self._root}/tmp"))

    def _commit(self, temporary: str, digest: str) -> None:
        path = self._path(digest)
        if self._files.exists(path):
            return
        self._files.makedirs(self._files._parent(path), exist_ok=True)  # below a root that has just taken the file
        self._files.mv(temporary, path)

    def _path(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise NotFoundError("artifact", digest)
        return f"{self._root}/{digest[:2]}/{digest}"

    def _pieces(self, path: str) -> Iterator[bytes]:
        with self._files.open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
