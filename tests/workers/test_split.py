import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.errors import InputError
from workers.spec import SplitSpec
from workers.split import (
    ACCURACY,
    DIVERGENCE,
    MOST_CALIBRATION,
    resolvable_drop,
    search_signal,
    split_images,
)


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


def test_images_that_the_network_was_trained_on_do_not_rank_candidates() -> None:
    signal, warning = search_signal(0.996, 4000, None)

    assert signal == DIVERGENCE
    assert warning is not None
    assert "99.60% of the 4000 search images" in warning


@pytest.mark.parametrize(("images", "signal"), [(500, DIVERGENCE), (5000, ACCURACY)])
def test_a_drop_below_what_the_images_resolve_is_said_with_the_figure(images: int, signal: str) -> None:
    # At 90 %: 1.645 * sqrt(2 * 0.9 * 0.1 / images) is 3.12 % of 500 images and 0.99 % of 5000.
    found, warning = search_signal(0.9, images, 0.02)

    assert found == signal
    assert (warning is not None and "3.12%" in warning) is (signal == DIVERGENCE)


def test_without_an_asked_drop_few_images_still_rank_by_accuracy() -> None:
    assert search_signal(0.9, 40, None) == (ACCURACY, None)
