import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compress.network.channels import _connected

LABELS = 40


@given(st.lists(st.tuples(st.integers(0, LABELS - 1), st.integers(0, LABELS - 1)), max_size=60))
def test_components_are_those_that_scipy_finds(pairs: list[tuple[int, int]]) -> None:
    firsts, seconds = np.array(pairs, dtype=np.int64).reshape(-1, 2).T

    found = _connected(LABELS, firsts, seconds)

    links = coo_array((np.ones(len(pairs)), (firsts, seconds)), shape=(LABELS, LABELS))
    np.testing.assert_array_equal(found, connected_components(links, directed=False)[1])


def test_a_long_chain_is_one_component() -> None:
    chain = np.arange(10_000)
    order = np.random.default_rng(0).permutation(9_999)

    found = _connected(10_000, chain[1:][order], chain[:-1][order])

    assert not found.any()
