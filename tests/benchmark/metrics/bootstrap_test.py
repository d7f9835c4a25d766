"""The crossed bootstrap agrees with loops, known standard errors and its promises."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmark.metrics import base, classification
from benchmark.metrics.base import DecisionRule, Mean, Metric
from benchmark.metrics.bootstrap import (
    bootstrap,
    centred,
    interval,
    resample_weights,
)

SIGMOID = DecisionRule("sigmoid")
MACRO_F1 = classification.macro_f1(SIGMOID)
UPDATE = jax.jit(MACRO_F1.update)
LISTENERS, DRAWS, QUERY, CLASSES, CLIPS = 5, 3, 8, 3, 11
MEAN = Metric("mean", lambda probs, targets, mask: None, base.compute_mean)


@pytest.fixture
def key():
    return jax.random.key(3)


@pytest.fixture
def layout(rng):
    """Listener 3 has one draw less, listener 4 nothing; some queries are shorter."""
    shape = (LISTENERS, DRAWS, QUERY, CLASSES)
    probs = rng.random(shape).astype(np.float32)
    targets = (rng.random(shape) < 0.4).astype(np.float32)
    clip_ids = rng.integers(0, CLIPS, shape[:3]).astype(np.int32)
    clip_ids[1, :, 6:] = clip_ids[3, 2] = clip_ids[4] = -1
    mask = (rng.random(shape) < 0.9) & (clip_ids >= 0)[..., None]
    return probs, targets, mask, clip_ids


def mean_state(values):
    """State of a plain mean of `values` [listeners, draws, query]."""
    values = jnp.asarray(values, jnp.float32)
    return Mean(values, jnp.ones(values.shape, jnp.float32))


def six_replicates(state, clip_ids, key, over="both"):
    return bootstrap(MACRO_F1, state, clip_ids, CLIPS, key, 6, over)


def loops(metric, probs, targets, mask, clip_ids, weights):
    """Replicates one by one: weights, scores of the draws, the two means."""
    replicates = []
    for w_listeners, w_clips in zip(*(np.asarray(w).T for w in weights), strict=True):
        values = []
        for p, y, m, ids in zip(probs, targets, mask, clip_ids, strict=True):
            weighted = np.where(ids >= 0, w_clips[ids], 0).astype(np.float32)
            draws = zip(p, y, m, weighted, strict=True)
            scores = [base.evaluate(metric, *draw) for draw in draws]
            scores = [float(s) for s in scores if not np.isnan(s)]
            values.append(np.mean(scores) if scores else np.nan)
        heard = ~np.isnan(values)
        n, v, w = heard.sum(), np.array(values)[heard], w_listeners[heard]
        stretch = np.sqrt((n + 1) / (n - 1))
        mean = v.mean()
        replicates.append(mean + stretch * (np.sum(w * v) / np.sum(w) - mean))
    return np.array(replicates)


@pytest.mark.parametrize("over", ["both", "listeners", "clips"])
def test_replicates_agree_with_loops(layout, key, over):
    *data, clip_ids = layout
    state = UPDATE(*data)
    result = six_replicates(state, clip_ids, key, over)
    weights = resample_weights(key, jnp.arange(6), LISTENERS, CLIPS, over)
    expected = loops(MACRO_F1, *data, clip_ids, weights)
    np.testing.assert_allclose(result.replicates, expected, rtol=1e-5)
    assert len(set(expected.tolist())) == 6


def test_the_estimate_is_the_mean_over_draws_then_listeners(layout, key):
    *data, clip_ids = layout
    result = six_replicates(UPDATE(*data), clip_ids, key)
    per_draw = base.per_listener((MACRO_F1,), *data)["macro_f1"]
    expected = [np.nanmean(row) for row in np.asarray(per_draw)[:4]]
    np.testing.assert_allclose(result.values[:4], expected, rtol=1e-6)
    assert np.isnan(result.values[4])
    np.testing.assert_allclose(result.estimate, np.mean(expected), rtol=1e-6)


def test_the_block_size_and_more_resamples_change_no_replicate(layout, key):
    *data, clip_ids = layout
    state = UPDATE(*data)
    ten = bootstrap(MACRO_F1, state, clip_ids, CLIPS, key, 10, block_size=4)
    six = six_replicates(state, clip_ids, key)
    assert ten.replicates.shape == (10,)
    np.testing.assert_allclose(ten.replicates[:6], six.replicates, rtol=1e-6)


def test_a_collection_and_a_vmap_over_methods_use_the_same_weights(layout, key):
    probs, targets, mask, clip_ids = layout
    metrics = (MACRO_F1, classification.nll(SIGMOID))
    collected = base.collection(metrics)

    def run(metric, probs):
        state = jax.jit(metric.update)(probs, targets, mask)
        return bootstrap(metric, state, clip_ids, CLIPS, key, 5)

    together = jax.vmap(lambda p: run(collected, p))(np.stack([probs, probs**2]))
    for metric in metrics:
        for i, method in enumerate([probs, probs**2]):
            alone = run(metric, method)
            for field, expected in alone._asdict().items():
                actual = getattr(together, field)[metric.name][i]
                np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6)


def test_a_matrix_is_resampled_entry_by_entry(layout, key):
    *data, clip_ids = layout
    metric = classification.co_occurrence(SIGMOID)
    result = bootstrap(metric, jax.jit(metric.update)(*data), clip_ids, CLIPS, key, 4)
    assert result.replicates.shape == (4, CLASSES, CLASSES)
    assert result.values.shape == (LISTENERS, CLASSES, CLASSES)
    assert np.isfinite(result.replicates).all()


def test_nan_predictions_make_the_replicates_nan(layout, key):
    probs, targets, mask, clip_ids = layout
    probs[0, 0, 0], mask[0, 0, 0], clip_ids[0, 0, 0] = np.nan, True, 0
    state = UPDATE(probs, targets, mask)
    result = six_replicates(state, clip_ids, key)
    assert np.isnan(result.estimate)
    assert np.isnan(result.replicates).all()


def test_a_clip_id_that_does_not_exist_makes_the_replicates_nan(layout, key):
    *data, clip_ids = layout
    clip_ids[0, 0, 0] = CLIPS
    result = six_replicates(UPDATE(*data), clip_ids, key)
    assert np.isnan(result.replicates).all()


def test_what_has_no_clip_contributes_nothing(layout, key):
    *data, clip_ids = layout
    clip_ids[0, :, 5:] = -1
    state = UPDATE(*data)
    data[2][0, :, 5:] = False
    masked = UPDATE(*data)
    runs = [six_replicates(s, clip_ids, key) for s in (state, masked)]
    jax.tree.map(np.testing.assert_array_equal, *runs)


def test_one_listener_varies_with_the_clips_alone(key, rng):
    state = mean_state(rng.random((1, 2, 20)))
    clip_ids = np.tile(np.arange(20, dtype=np.int32), (1, 2, 1))
    both = bootstrap(MEAN, state, clip_ids, 20, key, 4)
    clips = bootstrap(MEAN, state, clip_ids, 20, key, 4, "clips")
    np.testing.assert_allclose(both.replicates, clips.replicates, rtol=1e-6)
    only = bootstrap(MEAN, state, clip_ids, 20, key, 4, "listeners")
    np.testing.assert_allclose(only.replicates, np.full(4, only.estimate), rtol=1e-6)


@pytest.mark.parametrize("number", [3, 12])
def test_over_listeners_the_standard_error_is_that_of_a_mean(number, key, rng):
    values = rng.normal(size=number)
    state = mean_state(values[:, None, None])
    clip_ids = np.zeros((number, 1, 1), np.int32)
    result = bootstrap(MEAN, state, clip_ids, 1, key, 20_000, "listeners")
    expected = values.std(ddof=1) / np.sqrt(number)
    assert np.std(result.replicates) == pytest.approx(expected, rel=0.03)


def test_over_clips_the_standard_error_is_that_of_the_jackknife_and_of_numpy(key, rng):
    probs = rng.random((120, 3)).astype(np.float32)
    targets = (rng.random((120, 3)) < 0.2 + 0.6 * probs).astype(np.float32)
    mask = np.ones((120, 3), bool)
    state = UPDATE(probs, targets, mask)
    one_set = jax.tree.map(lambda leaf: leaf[None, None], state)
    clip_ids = np.arange(120, dtype=np.int32)[None, None]
    result = bootstrap(MACRO_F1, one_set, clip_ids, 120, key, 4000)

    @jax.jit
    @jax.vmap
    def score(weights):
        return MACRO_F1.compute(base.reduce(state, weights))

    left_out = score(1 - np.eye(120, dtype=np.float32))
    jackknife = float(np.sqrt(119 * np.var(left_out)))
    counts = rng.multinomial(120, np.full(120, 1 / 120), 4000).astype(np.float32)
    naive = float(np.std(score(counts)))
    error = np.std(result.replicates)
    assert error == pytest.approx(jackknife, rel=0.06)
    assert error == pytest.approx(naive, rel=0.06)


def test_a_crossed_interval_covers_and_one_over_listeners_does_not(key):
    """95 % intervals of a mean with listener, clip and rating effects; truth is 0."""
    clip_ids = jnp.tile(jnp.arange(20), (10, 1))[:, None]

    @functools.partial(jax.jit, static_argnames=("over",))
    def covered(keys, over):
        return jax.lax.map(lambda key: covers(key, over), keys)

    def covers(key, over):
        parts = zip((0.3, 0.5, 0.5), ((10, 1), (1, 20), (10, 20)), strict=True)
        keys = jax.random.split(key, 4)
        effects = [
            scale * jnp.broadcast_to(jax.random.normal(k, shape), (10, 20))
            for k, (scale, shape) in zip(keys[:3], parts, strict=True)
        ]
        state = mean_state(sum(effects)[:, None])
        result = bootstrap(MEAN, state, clip_ids, 20, keys[3], 128, over)
        low, high = interval(result.replicates, estimate=result.estimate)
        return (low <= 0) & (high >= 0)

    keys = jax.random.split(key, 1000)
    both = covered(keys, "both").mean()
    listeners = covered(keys, "listeners").mean()
    assert 0.9 <= both <= 0.98
    assert listeners < 0.85


def test_weights_are_positive_with_mean_and_variance_one(key):
    weights = resample_weights(key, jnp.arange(500), 20, 300)
    assert weights.listeners.shape == (20, 500)
    assert weights.clips.shape == (300, 500)
    for array in weights:
        assert array.min() > 0
        assert array.mean() == pytest.approx(1, abs=0.02)
        assert array.var() == pytest.approx(1, abs=0.05)
    correlation = np.corrcoef(weights.clips[:20].ravel(), weights.listeners.ravel())
    assert abs(correlation[0, 1]) < 0.05


def test_what_is_not_resampled_has_weight_one(key):
    assert (resample_weights(key, jnp.arange(3), 4, 5, "listeners").clips == 1).all()
    assert (resample_weights(key, jnp.arange(3), 4, 5, "clips").listeners == 1).all()
    with pytest.raises(ValueError, match="over must be"):
        inspect.unwrap(resample_weights)(key, jnp.arange(3), 4, 5, "draws")


def test_the_interval_is_that_of_the_percentiles(rng):
    replicates = rng.normal(size=999).astype(np.float32)
    low, high = interval(replicates, 0.9)
    expected = np.quantile(replicates, [0.05, 0.95])
    np.testing.assert_allclose([low, high], expected, rtol=1e-5)
    shifted = interval(replicates, 0.9, estimate=np.float32(7))
    expected += 7 - replicates.mean()
    np.testing.assert_allclose(shifted, expected, rtol=1e-5)
    np.testing.assert_allclose(centred(replicates, np.float32(7)).mean(), 7, rtol=1e-6)
    replicates[5] = np.nan
    assert np.isnan(interval(replicates)).all()
