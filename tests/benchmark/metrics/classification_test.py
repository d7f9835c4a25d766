"""Scores and losses agree with scikit-learn and with loops over cells."""

import inspect

import jax
import numpy as np
import pytest
import sklearn.metrics

from benchmark.metrics import base, classification
from benchmark.metrics.base import DecisionRule, evaluate

SOFTMAX, SIGMOID = DecisionRule("softmax"), DecisionRule("sigmoid")
RULES = [SOFTMAX, SIGMOID, DecisionRule("sigmoid", (0.2, 0.4, 0.5, 0.6, 0.8))]
SAMPLES, CLASSES = 50, 5


@pytest.fixture
def data(rng):
    """Multi-label data; class 4 is neither true nor, often, predicted."""
    logits = rng.normal(size=(SAMPLES, CLASSES)) - 3 * (np.arange(CLASSES) == 4)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    targets = (rng.random((SAMPLES, CLASSES)) < 0.3).astype(float)
    targets[:, 4] = 0
    targets[targets.sum(1) == 0, 1] = 1
    weights = rng.exponential(size=SAMPLES)
    return (
        probs.astype(np.float32),
        targets.astype(np.float32),
        weights.astype(np.float32),
    )


def sets(probs, rule):
    limits = 1 / CLASSES if rule.family == "softmax" else np.array(rule.thresholds)
    return (probs > limits).astype(int)


def everything(array):
    return np.ones(array.shape, bool)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_set_scores_agree_with_scikit_learn(rule, weighted, data):
    probs, targets, weights = data
    weights = weights if weighted else None
    predicted, truth = sets(probs, rule), targets.astype(int)
    seen = np.flatnonzero((truth + predicted).any(0))
    true = np.flatnonzero(truth.any(0))
    options = {"sample_weight": weights, "zero_division": 0}
    f1, recall = sklearn.metrics.f1_score, sklearn.metrics.recall_score

    def macro(score, labels):
        return score(truth, predicted, average="macro", labels=labels, **options)

    expected = {
        "macro_f1": macro(f1, seen),
        "macro_f1_fixed": macro(f1, range(CLASSES)),
        "micro_f1": f1(truth, predicted, average="micro", **options),
        "uar": macro(recall, true),
        "exact_match": sklearn.metrics.accuracy_score(
            truth, predicted, sample_weight=weights
        ),
        "accuracy": sklearn.metrics.accuracy_score(
            truth.ravel(),
            predicted.ravel(),
            sample_weight=None if weights is None else weights.repeat(CLASSES),
        ),
    }
    metrics = (
        *classification.standard_metrics(rule),
        classification.macro_f1(rule, "fixed"),
    )
    collected = base.collection(metrics)
    values = evaluate(collected, probs, targets, everything(probs), weights)
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_losses_agree_with_scikit_learn(weighted, data):
    probs, targets, weights = data
    weights = weights if weighted else np.ones(SAMPLES, np.float32)
    # one row for each label of a clip, which share the clip's weight
    row, label = np.nonzero(targets)
    share = (weights / targets.sum(1))[row]
    expected = sklearn.metrics.log_loss(
        label, probs[row], sample_weight=share, labels=range(CLASSES)
    )
    actual = evaluate(
        classification.nll(SOFTMAX), probs, targets, everything(probs), weights
    )
    np.testing.assert_allclose(actual, expected, rtol=2e-6)

    single = np.eye(CLASSES, dtype=np.float32)[label]
    expected = sklearn.metrics.brier_score_loss(
        single, probs[row], sample_weight=share, scale_by_half=False
    )
    actual = evaluate(
        classification.brier(SOFTMAX), probs[row], single, everything(single), share
    )
    np.testing.assert_allclose(actual, expected, rtol=2e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_losses_agree_with_scikit_learn(weighted, data):
    probs, targets, weights = data
    weights = weights if weighted else np.ones(SAMPLES, np.float32)
    cells = {"y_true": targets.ravel(), "y_proba": probs.ravel()}
    cells["sample_weight"] = weights.repeat(CLASSES)
    losses = {
        "nll": sklearn.metrics.log_loss(
            cells["y_true"], cells["y_proba"], sample_weight=cells["sample_weight"]
        ),
        "brier": sklearn.metrics.brier_score_loss(**cells),
    }
    for name, expected in losses.items():
        metric = getattr(classification, name)(SIGMOID)
        actual = evaluate(metric, probs, targets, everything(probs), weights)
        np.testing.assert_allclose(actual, expected, rtol=2e-6)


def loops(probs, targets, mask, rule):
    """The same definitions, cell by cell in plain Python."""
    counts = np.zeros((CLASSES, 3))
    right, hits, losses, briers = [], [], [], []
    for p, y, m in zip(probs, targets, mask, strict=True):
        answered = [c for c in range(CLASSES) if m[c]]
        true = {c for c in answered if y[c] > 0}
        limit = 1 / CLASSES if rule.family == "softmax" else 0.5
        predicted = {c for c in answered if p[c] > limit}
        for c in answered:
            counts[c] += (
                c in true & predicted,
                c in predicted - true,
                c in true - predicted,
            )
            right.append((c in true) == (c in predicted))
        if answered:
            hits.append(true == predicted)
        if rule.family == "softmax" and true:
            shares = {c: y[c] / sum(y[t] for t in true) for c in answered}
            losses.append(-sum(shares[c] * np.log(p[c]) for c in true))
            briers.append(sum((p[c] - shares[c]) ** 2 for c in answered))
        if rule.family == "sigmoid" and answered:
            pairs = [(p[c], y[c]) for c in answered]
            losses.append(
                -np.mean([t * np.log(q) + (1 - t) * np.log(1 - q) for q, t in pairs])
            )
            briers.append(np.mean([(q - t) ** 2 for q, t in pairs]))
    tp, fp, fn = counts.T
    occurs, true = tp + fp + fn > 0, tp + fn > 0
    return {
        "macro_f1": np.mean((2 * tp / np.maximum(2 * tp + fp + fn, 1))[occurs]),
        "micro_f1": 2 * tp.sum() / (2 * tp + fp + fn).sum(),
        "uar": np.mean(tp[true] / (tp + fn)[true]),
        "exact_match": np.mean(hits),
        "accuracy": np.mean(right),
        "nll": np.mean(losses),
        "brier": np.mean(briers),
    }


@pytest.mark.parametrize("rule", [SOFTMAX, SIGMOID], ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_masked_and_soft_targets_agree_with_loops_in_float64(rule, soft, rng, data):
    probs, targets, _ = (array.astype(np.float64) for array in data)
    mask = rng.random(probs.shape) < 0.6
    mask[:7] = False
    targets = targets * rng.uniform(0.2, 1, targets.shape) if soft else targets
    with jax.enable_x64(True):
        metrics = base.collection(classification.standard_metrics(rule))
        values = evaluate(metrics, probs, targets, mask)
        for name, expected in loops(probs, targets, mask, rule).items():
            np.testing.assert_allclose(values[name], expected, rtol=1e-12, err_msg=name)


def test_an_absent_class_counts_zero_or_not_at_all():
    targets = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    mask = everything(targets)
    for absent, expected in (("present", 1.0), ("fixed", 2 / 3)):
        metric = classification.macro_f1(SIGMOID, absent)
        np.testing.assert_allclose(evaluate(metric, targets, targets, mask), expected)
    # predicted once and never true: it occurs, with an F1 of 0
    probs = targets + np.array([[0, 0, 1], [0, 0, 0]], np.float32)
    metric = classification.macro_f1(SIGMOID, "present")
    np.testing.assert_allclose(evaluate(metric, probs, targets, mask), 2 / 3)
    with pytest.raises(ValueError, match="absent must be"):
        inspect.unwrap(classification.macro_f1)(SIGMOID, "all")


def test_where_nothing_is_true_f1_is_zero_and_recall_undefined():
    zeros = np.zeros((4, 3), np.float32)
    metrics = base.collection(classification.standard_metrics("sigmoid"))
    values = evaluate(metrics, zeros, zeros, everything(zeros))
    assert values["macro_f1"] == values["micro_f1"] == 0
    assert np.isnan(values["uar"])
    assert values["accuracy"] == values["exact_match"] == 1


def test_certain_and_wrong_costs_a_finite_loss():
    probs, targets = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    for rule in (SOFTMAX, SIGMOID):
        loss = evaluate(classification.nll(rule), probs, targets, everything(probs))
        np.testing.assert_allclose(loss, -np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_co_occurrence_is_the_share_of_a_true_class_where_another_is_predicted(rng):
    probs = rng.random((30, 3)).astype(np.float32)
    targets = (rng.random((30, 3)) < 0.4).astype(np.float32)
    targets[:, 2] = 0
    mask = rng.random((30, 3)) < 0.8
    matrix = evaluate(classification.co_occurrence(SIGMOID), probs, targets, mask)
    for a in range(3):
        for b in range(3):
            rows = mask[:, a] & mask[:, b] & (targets[:, a] > 0)
            expected = (probs[rows, b] > 0.5).mean() if rows.any() else np.nan
            np.testing.assert_allclose(matrix[a, b], expected, rtol=1e-6)


def test_the_standard_metrics_are_these():
    names = " ".join(m.name for m in classification.standard_metrics("softmax"))
    assert names == "macro_f1 micro_f1 exact_match nll uar ece brier accuracy"
    assert classification.standard_metrics("sigmoid") == (
        classification.standard_metrics(SIGMOID)
    )
    with pytest.raises(ValueError, match="family must be"):
        classification.nll(DecisionRule("tanh"))
