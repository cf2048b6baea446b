"""Rewrites that change no output: always on, or free to choose by their price (``segregated``)."""

from compress.rewrites.dead_channels import remove_dead_channels
from compress.rewrites.fold import fold_batch_norm

__all__ = ["fold_batch_norm", "remove_dead_channels"]
