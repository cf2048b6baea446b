import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.pareto import FrontArchive, hypervolume, non_dominated

SIDE = 5  # points lie on the corners of a grid of SIDE cells per axis, so that volumes are whole cells


def grid_points(objectives: int) -> st.SearchStrategy[np.ndarray]:
    return st.integers(0, 8).flatmap(
        lambda count: arrays(np.float64, (count, objectives), elements=st.integers(0, SIDE).map(float))
    )


def dominates(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.all(first <= second) and np.any(first < second))


def cells_dominated(points: np.ndarray, objectives: int) -> int:
    return sum(
        any(all(point[axis] <= cell[axis] for axis in range(objectives)) for point in points)
        for cell in itertools.product(range(SIDE), repeat=objectives)
    )


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_is_the_number_of_dominated_grid_cells(objectives: int) -> None:
    @given(grid_points(objectives))
    def check(points: np.ndarray) -> None:
        assert hypervolume(points, [SIDE] * objectives) == cells_dominated(points, objectives)

    check()


@given(grid_points(3))
def test_a_point_is_kept_exactly_if_no_other_dominates_it(points: np.ndarray) -> None:
    kept = non_dominated(points)

    for index, point in enumerate(points):
        assert kept[index] == (not any(dominates(other, point) for other in points))


@given(grid_points(3))
def test_an_archive_ends_with_the_front_of_all_that_it_was_given(points: np.ndarray) -> None:
    archive: FrontArchive[int] = FrontArchive(3)

    for key, point in enumerate(points):
        archive.add(key, point)

    assert sorted(archive) == np.flatnonzero(non_dominated(points)).tolist()
    assert archive.hypervolume([SIDE] * 3) == hypervolume(points, [SIDE] * 3)


def test_an_archive_tells_whether_it_took_a_point_and_drops_what_it_dominates() -> None:
    archive: FrontArchive[str] = FrontArchive(2)

    assert archive.add("middle", (2.0, 2.0))
    assert not archive.add("worse", (2.0, 3.0))
    assert archive.add("left", (1.0, 3.0))
    assert archive.add("best", (1.0, 2.0))

    assert list(archive) == ["best"]
    assert archive.points.tolist() == [[1.0, 2.0]]


def test_points_beyond_the_reference_add_no_volume() -> None:
    # (1, 1) spans 3 x 2 up to (4, 3); (0, 9) lies above the reference.
    assert hypervolume(np.array([[1.0, 1.0], [0.0, 9.0]]), (4.0, 3.0)) == 6.0
