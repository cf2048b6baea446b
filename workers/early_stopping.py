"""When to stop measuring a candidate: as soon as more images cannot bring it onto a front.

A candidate's costs are known before it runs. On a device it can join the front only if it gets more of the search
images right than every trial there that costs no more: it is enough to look at the best of these, its rival. Both are
compared on the same images, at a few looks on growing subsets of a random order, by the images that only one of them
got right. Were the candidate at least as good over the whole split, a draw of such images would be the rival's with a
probability of at most one half each, so the number of the rival's has at most a binomial tail (drawing without
replacement only thins it): the one-sided sign test, also called the exact test of McNemar 1947, Psychometrika 12.
It is done at every look, so each is held to the error rate divided by the number of looks (Bonferroni). A candidate is
stopped only if the test rejects on every device that could take it, which needs no further correction.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ERROR_RATE = 0.01
"""Most probability, per trial, of stopping one that would have joined a front."""

LEAST_LOOK = 32
SHARES = (8, 4, 2)  # the first look is at one eighth of the images

Right = NDArray[np.bool_]


def looks(images: int) -> tuple[int, ...]:
    """Return after how many images a candidate is looked at before all of ``images`` are measured."""
    return tuple(images // share for share in SHARES if images // share >= LEAST_LOOK)


def hopeless(right: Right, rivals: Sequence[Right], *, looks: int, error_rate: float = ERROR_RATE) -> bool:
    """Tell whether a candidate cannot join a front.

    Args:
        right: Which images the candidate got right, of those measured so far.
        rivals: Which the rivals got right, one for every device that could take the candidate, of all images.
        looks: How many looks there are altogether.
        error_rate: Of stopping wrongly, over all looks.
    """
    return bool(rivals) and all(_worse(right, rival, error_rate / looks) for rival in rivals)


def pack(right: Right) -> bytes:
    """Return one bit per image."""
    return np.packbits(right).tobytes()


def unpack(bits: bytes, images: int) -> Right:
    """Return what ``pack`` was given."""
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=images).astype(bool)


def _worse(right: Right, rival: Right, error_rate: float) -> bool:
    seen = rival[: len(right)]
    lost, won = int((seen & ~right).sum()), int((right & ~seen).sum())
    if lost - won > int((~rival[len(right) :]).sum()):
        return True  # even with every image that is left
    if lost <= won:
        return False
    from scipy.special import bdtrc  # slow to import, and nobody who starts after a crash needs it yet

    return float(bdtrc(lost - 1, lost + won, 0.5)) <= error_rate
