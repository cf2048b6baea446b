import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.drop import drop_bound


def rights(both: int, lost: int, won: int, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return what the float network and a candidate get right, by how many images fall where."""
    float_right = np.repeat([True, True, False, False], [both, lost, won, neither])
    right = np.repeat([True, False, True, False], [both, lost, won, neither])
    return float_right, right


def test_equal_networks_may_still_differ_by_what_so_few_images_hide() -> None:
    # (0 + 0 + 2) / 100 under the root, over the root of 100.
    assert drop_bound(*rights(98, 0, 0)) == pytest.approx(1.645 * math.sqrt(0.02) / 10)


def test_images_on_which_only_one_is_right_widen_the_bound() -> None:
    drop = 2 / 400
    assert drop_bound(*rights(388, 6, 4)) == pytest.approx(drop + 1.645 * math.sqrt(12 / 400 - drop**2) / 20)
    assert drop_bound(*rights(388, 6, 4)) > drop_bound(*rights(396, 2, 0))


@given(st.integers(10, 300), st.integers(0, 20), st.integers(0, 20))
def test_the_bound_is_above_the_estimate_and_nears_it_with_more_images(both: int, lost: int, won: int) -> None:
    estimate = (lost - won) / (both + lost + won)
    few, many = drop_bound(*rights(both, lost, won)), drop_bound(*rights(100 * both, 100 * lost, 100 * won))

    assert few > estimate - 2 / (both + lost + won)  # the two images that are added pull it towards zero
    assert abs(many - estimate) < abs(few - estimate) + 1e-3
