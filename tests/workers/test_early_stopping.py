import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.early_stopping import hopeless, looks, pack, unpack


def right(*spans: tuple[int, bool]) -> np.ndarray:
    return np.concatenate([np.full(count, value) for count, value in spans])


def test_looks_double_and_small_ones_are_left_out() -> None:
    assert looks(800) == (100, 200, 400)
    assert looks(100) == (50,)
    assert looks(60) == ()


@pytest.mark.parametrize(("lost", "stops"), [(5, False), (6, False), (7, True)])
def test_a_candidate_is_stopped_by_the_sign_test_at_a_share_of_the_error_rate(lost: int, stops: bool) -> None:
    # Only the rival is right of 'lost' images, never the candidate alone: probability 2 ** -lost if both are as good.
    # One look in two at an error rate of 0.02: 0.01 lies between 2 ** -6 = 0.0156 and 2 ** -7 = 0.0078.
    rival = right((100, True), (100, False))  # so that the images that are left could make up for it
    candidate = right((lost, False), (100 - lost, True))

    assert hopeless(candidate, [rival], looks=2, error_rate=0.02) is stops


def test_a_candidate_is_stopped_only_where_every_device_has_a_rival_that_beats_it() -> None:
    candidate, strong, weak = right((50, False), (50, True)), right((200, True)), right((200, False))

    assert hopeless(candidate, [strong], looks=1)
    assert not hopeless(candidate, [strong, weak], looks=1)
    assert not hopeless(candidate, [], looks=1)


def test_a_candidate_that_cannot_catch_up_with_every_image_that_is_left_is_stopped() -> None:
    # Three behind with 98 of 100 images seen: no test could tell three apart, arithmetic does.
    rival = right((100, True))
    candidate = right((3, False), (95, True))

    assert hopeless(candidate, [rival], looks=1)


def test_a_candidate_as_good_as_its_rival_is_stopped_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(0)
    stopped = 0
    for _ in range(2000):
        rival, candidate = rng.random(800) < 0.8, rng.random(800) < 0.8
        wins = int(candidate.sum()) - int(rival.sum())
        if wins < 0:  # make the candidate exactly as good on the whole split
            worse = np.flatnonzero(rival & ~candidate)
            candidate[rng.choice(worse, -wins, replace=False)] = True
        stopped += any(hopeless(candidate[:end], [rival], looks=3, error_rate=0.1) for end in looks(800))

    # 10 % are allowed; the standard error of 2000 draws is 0.7 %.
    assert stopped / 2000 <= 0.1


@given(st.lists(st.booleans(), max_size=70))
def test_what_was_right_survives_packing(values: list[bool]) -> None:
    array = np.array(values, dtype=bool)

    assert unpack(pack(array), len(array)).tolist() == values
