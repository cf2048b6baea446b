"""Non-dominated sets, their hypervolume, and an archive that grows one point at a time.

Every objective is minimised: callers negate what they maximise. A point dominates another if it is nowhere worse and
somewhere better, so equal points do not dominate each other.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)

FloatArray = NDArray[np.float64]


def non_dominated(points: FloatArray) -> NDArray[np.bool_]:
    """Tell for each of ``points`` (n, objectives), all finite, whether no other one dominates it.

    Takes O(n × front), O(n log n) for two objectives.
    """
    keep = np.zeros(len(points), dtype=bool)
    # In lexicographic order nothing later can dominate anything earlier: the first of what is left always stays.
    left = np.lexsort(points.T[::-1])
    if points.shape[1] == 2:
        keep[left] = _descends(points[left])
        return keep
    while len(left):
        first, left = left[0], left[1:]
        keep[first] = True
        point, rest = points[first], points[left]
        left = left[~(np.all(point <= rest, axis=1) & np.any(point < rest, axis=1))]
    return keep


def _descends(ordered: FloatArray) -> NDArray[np.bool_]:
    """Tell for points in lexicographic order, (n, 2), which have the least second value so far, copies included."""
    lowest = np.minimum.accumulate(ordered[:, 1])
    lower = np.append(True, ordered[1:, 1] < lowest[:-1])[: len(ordered)]
    copies = np.append(False, np.all(ordered[1:] == ordered[:-1], axis=1))[: len(ordered)]
    first_of_copies = np.maximum.accumulate(np.where(copies, 0, np.arange(len(ordered))))
    return lower[first_of_copies]


def hypervolume(points: FloatArray, reference: Sequence[float]) -> float:
    """Return the volume that ``points`` (n, objectives) dominate within ``reference``, exactly.

    Points that are not better than ``reference`` in every objective add nothing. Slices the volume along the last
    objective down to areas: O(n² log n) for three objectives, a factor n for each more; meant for fronts.

    Source: Zitzler and Thiele 1998 (the S metric); slicing as in While et al. 2006 (HSO).
    """
    corner = np.asarray(reference, dtype=np.float64)
    inside = points[np.all(points < corner, axis=1)]
    if len(inside) == 0:
        return 0.0
    if points.shape[1] == 2:
        return _area(inside, corner)  # dominated points do no harm there
    return _volume(inside[non_dominated(inside)], corner)


def _volume(points: FloatArray, corner: FloatArray) -> float:
    if points.shape[1] == 1:
        return float(corner[0] - points[:, 0].min())
    if points.shape[1] == 2:
        return _area(points, corner)
    ordered = points[np.argsort(points[:, -1], kind="stable")]
    depths = np.diff(np.append(ordered[:, -1], corner[-1]))
    return sum(
        float(depth) * _volume(ordered[: count + 1, :-1], corner[:-1])
        for count, depth in enumerate(depths)
        if depth > 0
    )


def _area(points: FloatArray, corner: FloatArray) -> float:
    ordered = points[np.argsort(points[:, 0], kind="stable")]
    heights = corner[1] - np.minimum.accumulate(ordered[:, 1])
    widths = np.diff(np.append(ordered[:, 0], corner[0]))
    return float(widths @ heights)


class FrontArchive(Generic[Key]):
    """The non-dominated points seen so far, by key; adding one costs O(front)."""

    def __init__(self, objectives: int) -> None:
        self._keys: list[Key] = []
        self._points: FloatArray = np.empty((0, objectives))

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    @property
    def points(self) -> FloatArray:
        """The front's points, (front, objectives), in the order of the keys."""
        return self._points.copy()

    def add(self, key: Key, point: Sequence[float]) -> bool:
        """Take ``point`` unless it is dominated, and drop what it dominates; tells whether it was taken."""
        row = np.asarray(point, dtype=np.float64)
        no_worse = np.all(self._points <= row, axis=1)
        if np.any(no_worse & np.any(self._points < row, axis=1)):
            return False
        beaten = np.all(row <= self._points, axis=1) & np.any(row < self._points, axis=1)
        self._keys = [name for name, out in zip(self._keys, beaten, strict=True) if not out] + [key]
        self._points = np.vstack([self._points[~beaten], row])
        return True

    def hypervolume(self, reference: Sequence[float]) -> float:
        """Return the volume that the front dominates within ``reference``."""
        return hypervolume(self._points, reference)
