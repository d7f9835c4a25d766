"""Calibration agrees with loops over bins, and with what is known beforehand."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.calibration

from benchmark.metrics import calibration
from benchmark.metrics.base import DecisionRule, evaluate

SOFTMAX, SIGMOID = DecisionRule("softmax"), DecisionRule("sigmoid")


@pytest.fixture
def data(rng):
    probs = rng.dirichlet(np.ones(4), 80).astype(np.float32)
    targets = (rng.random((80, 4)) < 0.4).astype(np.float32)
    return probs, targets, rng.random((80, 4)) < 0.8


def one_ece(probs, events, bins):
    """Sum over bins of |mean p - mean event| * count, for one list of predictions."""
    index = np.minimum(np.floor(probs * np.float32(bins)).astype(int), bins - 1)
    return sum(
        abs(np.sum(probs[index == b], dtype=float) - events[index == b].sum())
        for b in range(bins)
    )


@pytest.mark.parametrize("classwise", [True, False])
@pytest.mark.parametrize("bins", [1, 7, 15])
def test_sigmoid_ece_agrees_with_loops(data, bins, classwise):
    probs, targets, mask = data
    if classwise:
        rows = zip(probs.T, targets.T, mask.T, strict=True)
        total = sum(one_ece(p[m], y[m], bins) for p, y, m in rows)
    else:
        total = one_ece(probs[mask], targets[mask], bins)
    metric = calibration.ece(SIGMOID, bins, classwise)
    actual = evaluate(metric, probs, targets, mask)
    np.testing.assert_allclose(actual, total / mask.sum(), rtol=1e-5)


def test_softmax_ece_is_about_shares_of_the_true_set(data):
    probs, targets, mask = data
    answered = np.where(mask, targets, 0)
    labelled = answered.sum(1) > 0
    assert not labelled.all()
    shares = answered[labelled] / answered[labelled].sum(1, keepdims=True)
    kept, counts = probs[labelled], mask[labelled]
    rows = zip(kept.T, shares.T, counts.T, strict=True)
    total = sum(one_ece(p[m], s[m], 15) for p, s, m in rows)
    actual = evaluate(calibration.ece(SOFTMAX), probs, targets, mask)
    np.testing.assert_allclose(actual, total / counts.sum(), rtol=1e-5)


def test_softmax_ece_of_labels_is_that_of_sigmoid(data):
    labels = calibration.ece(SOFTMAX, event="label")
    expected = evaluate(calibration.ece(SIGMOID), *data)
    np.testing.assert_array_equal(evaluate(labels, *data), expected)
    with pytest.raises(ValueError, match="event must be"):
        inspect.unwrap(calibration.ece)(SOFTMAX, event="set").update(*data)


def test_overrated_and_underrated_classes_do_not_make_up_for_each_other():
    probs = np.full((100, 2), 0.5, np.float32)
    targets = np.tile(np.array([[0, 1]], np.float32), (100, 1))
    mask = np.ones(probs.shape, bool)
    values = [
        float(evaluate(calibration.ece(SIGMOID, classwise=c), probs, targets, mask))
        for c in (True, False)
    ]
    assert values == [0.5, 0.0]


def test_ece_of_calibrated_predictions_vanishes_with_their_number(rng):
    probs = rng.random((200_000, 1)).astype(np.float32)
    targets = (rng.random((200_000, 1)) < probs).astype(np.float32)
    mask = np.ones(probs.shape, bool)
    assert evaluate(calibration.ece(SIGMOID), probs, targets, mask) < 0.005
    assert calibration.adaptive_ece(probs, targets, mask) < 0.005
    overconfident = evaluate(calibration.ece(SIGMOID), probs**2, targets, mask)
    assert overconfident == pytest.approx(1 / 6, abs=0.005)  # E[u - u^2]


def test_reliability_bins_agree_with_scikit_learn(data):
    probs, targets, mask = data
    frequency, confidence = sklearn.calibration.calibration_curve(
        targets[mask], probs[mask], n_bins=8
    )
    bins = calibration.reliability_bins(probs, targets, mask, 8)
    filled = np.asarray(bins.count) > 0
    np.testing.assert_allclose(bins.confidence[filled], confidence, rtol=1e-5)
    np.testing.assert_allclose(bins.frequency[filled], frequency, rtol=1e-5)
    assert bins.count.sum() == mask.sum()
    assert np.isnan(bins.confidence[~filled]).all()


def test_zero_and_one_fall_into_the_first_and_the_last_bin():
    probs = np.array([[0.0, 1.0, 0.5]], np.float32)
    mask = np.array([[True, True, False]])
    bins = calibration.reliability_bins(probs, probs, mask, 4)
    np.testing.assert_array_equal(bins.count, [1, 0, 0, 1])
    np.testing.assert_array_equal(bins.frequency, [0, np.nan, np.nan, 1])


def test_adaptive_bins_hold_equally_many_predictions(data):
    probs, targets, mask = data
    order = np.argsort(probs[mask])
    gaps = (probs[mask] - targets[mask])[order].astype(float)
    runs = np.arange(gaps.size) * 10 // gaps.size
    expected = np.abs(np.bincount(runs, gaps)).sum() / gaps.size
    actual = calibration.adaptive_ece(probs, targets, mask, 10)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert np.isnan(calibration.adaptive_ece(probs, targets, mask & False))


def test_counts_stay_exact_where_float32_would_saturate():
    probs = jnp.full((3, 2), 0.5)
    bins = calibration.reliability_bins(probs, probs, jnp.ones((3, 2), bool))
    assert jnp.issubdtype(bins.count.dtype, jnp.integer)
