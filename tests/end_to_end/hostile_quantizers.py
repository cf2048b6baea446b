"""Quantizers of a third party that ruin the process that fits them to a weight, each in a way of its own."""

import os
import time

from torch import Tensor

from compress.quantizers.uniform import UniformQuantizer

HOARD_BYTES = 2**26


class Crashing(UniformQuantizer):
    """Ends its process as a segmentation fault in a library does."""

    def fit(self, weight: Tensor) -> None:
        os.abort()


class Hoarding(UniformQuantizer):
    """Takes all the memory that its process may have."""

    def fit(self, weight: Tensor) -> None:
        hoard = []
        while True:
            hoard.append(bytearray(HOARD_BYTES))


class Hanging(UniformQuantizer):
    """Never comes back."""

    def fit(self, weight: Tensor) -> None:
        while True:
            time.sleep(3600)
