import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.errors import InputError
from workers.spec import SplitSpec
from workers.split import MOST_CALIBRATION, resolvable_drop, split_images


@given(st.integers(80, 3000), st.floats(0.0, 0.5), st.floats(0.0, 0.49), st.integers(0, 2**32))
def test_every_image_is_in_exactly_one_part(images: int, calibration: float, search: float, seed: int) -> None:
    labels = np.arange(images) % 7

    split = split_images(labels, SplitSpec(calibration=calibration, search=search), seed=seed)

    together = np.concatenate([split.calibration, split.search, split.test])
    assert sorted(together) == list(range(images))
    assert 16 <= len(split.calibration) <= MOST_CALIBRATION
    assert len(split.search) >= 32
    assert len(split.test) >= 32


def test_the_same_seed_gives_the_same_split_and_another_one_does_not() -> None:
    labels = np.arange(500) % 10

    first, again, other = (split_images(labels, SplitSpec(), seed=seed) for seed in (1, 1, 2))

    assert np.array_equal(first.search, again.search)
    assert not np.array_equal(first.search, other.search)


def test_classes_are_spread_evenly() -> None:
    # 900 images of class 0, 100 of class 1: of 400 searched on, 40 are expected to be of class 1.
    labels = np.repeat([0, 1], [900, 100])

    split = split_images(labels, SplitSpec(calibration=0.2, search=0.4), seed=0)

    assert len(split.search) == 400
    assert abs(int(labels[split.search].sum()) - 40) <= 1


def test_too_few_images_are_refused_with_the_least_number() -> None:
    with pytest.raises(InputError, match=r"at least 80 images .* got 79"):
        split_images(np.zeros(79, dtype=np.int64), SplitSpec(), seed=0)


def test_shares_that_leave_no_test_split_are_refused() -> None:
    with pytest.raises(InputError, match="leave images for the test split"):
        split_images(np.zeros(500, dtype=np.int64), SplitSpec(calibration=0.5, search=0.5), seed=0)


def test_what_a_split_resolves_shrinks_with_the_root_of_its_size() -> None:
    # 1.645 * sqrt(2 * 0.9 * 0.1 / 200) = 1.645 * 0.03
    assert resolvable_drop(0.9, 200) == pytest.approx(0.04935)
    assert resolvable_drop(0.9, 800) == pytest.approx(0.04935 / 2)


def test_no_split_resolves_less_than_one_image() -> None:
    assert resolvable_drop(1.0, 50) == 0.02
