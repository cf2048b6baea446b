"""Numbers of channels that a device works on without waste."""

from collections.abc import Iterable, Iterator, Mapping
from math import lcm
from typing import Any

from hwmodels.profile import Profile

MOST = 16
"""Beyond this, rounding channels to whole vectors takes away more choices than it saves time."""


def channel_alignment(profile: Profile) -> int:
    """Return the number of which a layer's output channels should be a multiple on the device.

    Its vectors' lanes: output channels are rounded up to whole vectors, so that a channel more than a multiple costs as
    much as a whole vector. Where rates have different numbers of lanes, their least common multiple; 1 for a device
    whose profile names none.
    """
    return _limited(int(lanes) for lanes in _lanes(profile.model.model_dump()))


def common_alignment(profiles: Iterable[Profile]) -> int:
    """Return a number of channels that suits all devices of a job: the least common multiple of theirs."""
    return _limited(channel_alignment(profile) for profile in profiles)


def _limited(numbers: Iterable[int]) -> int:
    """Return the least common multiple of the numbers, smallest first, as far as it stays within ``MOST``."""
    found = 1
    for number in sorted(set(numbers)):
        together = lcm(found, max(1, number))
        found = together if together <= MOST else found
    return found


def _lanes(part: Any) -> Iterator[float]:
    if isinstance(part, Mapping):
        for name, value in part.items():
            if name == "lanes" and value is not None:
                yield float(value["value"] if isinstance(value, Mapping) else value)
            else:
                yield from _lanes(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _lanes(value)
