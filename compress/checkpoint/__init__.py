"""The packed checkpoint: writing it, its size in advance, and running it from the file."""

from compress.checkpoint.files import CheckpointError, archive, load, load_compressed, save
from compress.checkpoint.layout import packed_bytes

__all__ = ["CheckpointError", "archive", "load", "load_compressed", "packed_bytes", "save"]
