import numpy as np
import pytest

from compress.network.groups import ChannelGroup, Member, Span
from compress.network.ties import Units, ties

PAIRS = np.array([0, 1, 2, 3, 0, 1, 2, 3])


def group(*layers: str, channels: int = 8, first: int = 0) -> ChannelGroup:
    """A group whose channels are the outputs of the first layer, from position ``first``."""
    member = Member(name=f"{layers[0]}.weight", axis=0, per_channel=1, spans=(Span(first, 0, channels),))
    return ChannelGroup(name=layers[0], channels=channels, layers=layers, tensors=(member,), values=())


def test_a_group_within_the_block_is_cut_by_units() -> None:
    found = ties([group("a")], {("a.weight", 0): PAIRS}, {"a", "b"})

    assert found.units["a"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert not found.held


def test_units_are_numbered_by_their_first_channel() -> None:
    found = ties([group("a")], {("a.weight", 0): np.array([7, 7, 2, 2, 5, 5, 0, 0])}, {"a"})

    assert found.units["a"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("written", "units"),
    [
        (group("a", "outside"), PAIRS),  # a layer outside the block writes these channels, too
        (group("a", channels=4, first=2), PAIRS),  # other positions are another group's
        (group("a", channels=6), PAIRS[[0, 1, 2, 0, 1, 2]]),  # half of it is one pair and a half
        (group("a"), np.array([0, 0, 0, 1, 2, 2, 2, 1])),  # units of three and of two
    ],
)
def test_a_group_that_cannot_be_cut_by_units_is_held(written: ChannelGroup, units: Units) -> None:
    found = ties([written], {("a.weight", 0): units}, {"a"})

    assert found.held == {"a"}
    assert not found.units


def test_other_groups_are_left_alone() -> None:
    found = ties([group("a"), group("b")], {("b.weight", 0): PAIRS}, {"a", "b"})

    assert set(found.units) == {"b"}
    assert not found.held
