"""Rewrites that change no output: always on."""

from compress.rewrites.fold import fold_batch_norm

__all__ = ["fold_batch_norm"]
