"""A pool on the device gives what the pool in memory gives."""

import jax
import numpy as np
import pytest

from metaperser_jax.data import episodes, pools
from metaperser_jax.typing import EpisodeRows, Pool


@pytest.fixture
def pool(rng):
    targets = (rng.random((7, 3)) < 0.5).astype(np.float32)
    return Pool(
        rng.normal(size=(4, 2, 5)).astype(np.float32),
        rng.integers(0, 4, 7).astype(np.int32),
        np.zeros(7, np.int32),
        np.zeros(7, np.int32),
        targets,
        rng.random((7, 3)) < 0.8,
        np.array([1.0, 2.0, 3.0], np.float32),
    )


def assert_same(found, expected, rows):
    kept = rows >= 0
    np.testing.assert_array_equal(found.inputs[kept], expected.inputs[kept])
    for a, b in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [[0, 6, 3], [2, -1, 2, -1], [-1]])
def test_rows_are_those_of_the_pool_and_padding_counts_nothing(pool, rows):
    rows = np.array(rows)
    found = pools.take_rows(pools.to_device(pool), rows)
    assert_same(found, episodes.gather(pool, rows), rows)
    assert not found.mask[rows < 0].any()


def test_an_episode_reads_both_sets(pool):
    rows = EpisodeRows(np.array([1, 4]), np.array([5, -1, 0]))
    found = jax.jit(pools.read_episode)(pools.to_device(pool), rows)
    for batch, wanted in zip(found, rows, strict=True):
        assert_same(batch, episodes.gather(pool, wanted), wanted)
