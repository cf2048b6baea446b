"""How much accuracy a candidate may have lost, for all that the images can tell."""

import math

import numpy as np
from numpy.typing import NDArray

ONE_SIDED_95 = 1.645  # quantile of the normal distribution


def drop_bound(float_right: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """Return the drop of accuracy below the float network's that the images rule out more of, at 95 %, one-sided.

    The estimate alone favours lucky candidates: the cheapest of hundreds within a limit is there by chance as often as
    not. Bound of a difference of paired shares with one image added to either side (Bonett and Price 2012, Journal of
    Educational and Behavioral Statistics 37), which holds for small counts, too.

    Args:
        float_right: Which images the float network gets right.
        right: Which of the same images the candidate gets right.
    """
    lost, won = int((float_right & ~right).sum()), int((right & ~float_right).sum())
    images = len(right) + 2
    drop = (lost - won) / images
    return drop + ONE_SIDED_95 * math.sqrt((lost + won + 2) / images - drop**2) / math.sqrt(images)
