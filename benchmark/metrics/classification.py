"""Scores and losses of multi-label predictions; conventions in `base`."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from benchmark.metrics.base import (
    Cells,
    DecisionRule,
    Family,
    Mean,
    Metric,
    answered_cells,
    compute_mean,
    predict_set,
    ratio,
    target_distribution,
)
from benchmark.metrics.calibration import ece


class LabelCounts(NamedTuple):
    """State of what is computed from predicted and true sets."""

    true_positives: jax.Array  # [*samples, classes]
    false_positives: jax.Array  # [*samples, classes]
    false_negatives: jax.Array  # [*samples, classes]
    cells: jax.Array  # [*samples] answered classes


class CoOccurrence(NamedTuple):
    """State of the co-occurrence matrix; rows are true, columns predicted classes."""

    both: jax.Array  # [*samples, classes, classes] row true and column predicted
    true: jax.Array  # [*samples, classes, classes] row true and column answered


@functools.cache
def macro_f1(
    rule: DecisionRule, absent: Literal["present", "fixed"] = "present"
) -> Metric:
    """Mean of the classes' F1 = 2 TP / (2 TP + FP + FN).

    Args:
      rule: makes sets of the probabilities.
      absent: what a class does that is neither true nor predicted. 'present': it is
        left out, the mean is over classes that occur in truth or prediction; the
        default, because a listener's query set often lacks classes. 'fixed': it
        counts 0, the mean is over all classes (scikit-learn, zero_division=0).

    Returns:
      The metric 'macro_f1' ('macro_f1_fixed'). 0 when there are answers, and no class
      is true or predicted.
    """
    if absent not in ("present", "fixed"):
        raise ValueError(f"absent must be 'present' or 'fixed', found {absent!r}")

    def compute(counts: LabelCounts):
        positives, double = counts.true_positives, 2 * counts.true_positives
        errors = counts.false_positives + counts.false_negatives
        occurs = positives + errors > 0
        f1 = jnp.where(occurs, double / jnp.where(occurs, double + errors, 1), 0)
        listed = jnp.sum(occurs) if absent == "present" else occurs.size
        return _where_answered(counts, jnp.sum(f1) / jnp.maximum(listed, 1))

    name = "macro_f1" if absent == "present" else "macro_f1_fixed"
    return Metric(name, _count_labels(rule), compute)


@functools.cache
def micro_f1(rule: DecisionRule) -> Metric:
    """F1 of the pooled counts of all classes; 0 when nothing is true or predicted."""

    def compute(counts: LabelCounts):
        double = 2 * jnp.sum(counts.true_positives)
        errors = jnp.sum(counts.false_positives) + jnp.sum(counts.false_negatives)
        occurs = double + errors > 0
        f1 = double / jnp.where(occurs, double + errors, 1)
        return _where_answered(counts, f1)

    return Metric("micro_f1", _count_labels(rule), compute)


@functools.cache
def uar(rule: DecisionRule) -> Metric:
    """Unweighted average recall over the classes that are true somewhere.

    Multi-label: the recall of a class is the share of the samples that carry it for
    which it is predicted. NaN when nothing is true.
    """

    def compute(counts: LabelCounts):
        true = counts.true_positives + counts.false_negatives
        present = true > 0
        recall = jnp.where(
            present, counts.true_positives / jnp.where(present, true, 1), 0
        )
        mean = ratio(jnp.sum(recall), jnp.sum(present, dtype=recall.dtype))
        return _where_answered(counts, mean)

    return Metric("uar", _count_labels(rule), compute)


@functools.cache
def accuracy(rule: DecisionRule) -> Metric:
    """Share of the answered (sample, class) cells that are decided rightly."""

    def compute(counts: LabelCounts):
        wrong = jnp.sum(counts.false_positives) + jnp.sum(counts.false_negatives)
        return ratio(counts.cells - wrong, counts.cells)

    return Metric("accuracy", _count_labels(rule), compute)


@functools.cache
def exact_match(rule: DecisionRule) -> Metric:
    """Share of the samples whose answered classes are all decided rightly."""

    def update(probs, targets, mask):
        cells = answered_cells(probs, targets, mask)
        truth, predicted = _label_sets(cells, rule)
        samples = jnp.sign(cells.answered)
        hit = jnp.all(truth == predicted, axis=-1)
        return Mean(jnp.where(hit, samples, 0), samples)

    return Metric("exact_match", update, compute_mean)


@functools.cache
def nll(rule: DecisionRule) -> Metric:
    """Negative log-likelihood in nats a sample.

    Softmax: cross-entropy -sum_c y_c / sum(y) log p_c; samples where nothing is true
    do not count. Sigmoid: binary cross-entropy, mean over the answered classes.
    Probabilities are clipped at the dtype's epsilon, as in scikit-learn: the loss of
    one prediction is at most 15.9 nats in float32.
    """

    def softmax(cells: Cells) -> Mean:
        shares, labelled = target_distribution(cells)
        loss = -jnp.sum(shares * _safe_log(cells.probs), axis=-1)
        return Mean(jnp.where(labelled, loss, 0), labelled.astype(loss.dtype))

    def sigmoid(cells: Cells) -> Mean:
        negative = (1 - cells.targets) * _safe_log(1 - cells.probs)
        loss = -(cells.targets * _safe_log(cells.probs) + negative)
        return _mean_over_answered(cells, loss)

    return Metric("nll", _loss_update(rule, softmax, sigmoid), compute_mean)


@functools.cache
def brier(rule: DecisionRule) -> Metric:
    """Brier score.

    Softmax: sum_c (p_c - y_c / sum(y))^2 over the answered classes, in [0, 2]; samples
    where nothing is true do not count. Sigmoid: (p_c - y_c)^2, mean over the answered
    classes. Mean over samples.
    """

    def softmax(cells: Cells) -> Mean:
        shares, labelled = target_distribution(cells)
        loss = jnp.sum((cells.probs - shares) ** 2, axis=-1)
        return Mean(jnp.where(labelled, loss, 0), labelled.astype(loss.dtype))

    def sigmoid(cells: Cells) -> Mean:
        return _mean_over_answered(cells, (cells.probs - cells.targets) ** 2)

    return Metric("brier", _loss_update(rule, softmax, sigmoid), compute_mean)


@functools.cache
def co_occurrence(rule: DecisionRule) -> Metric:
    """Which classes are predicted where a class is true; the value is a matrix.

    Entry [a, b] is the share of the samples that carry a, and for which b was
    answered, where b is predicted. The diagonal is the recall. A row need not sum to
    1, because labels are not exclusive; it is NaN when its class is never true.
    """

    def update(probs, targets, mask):
        cells = answered_cells(probs, targets, mask)
        truth, predicted = _label_sets(cells, rule)
        sound = jnp.sign(cells.answered)[..., None, None]  # 1, NaN for NaN input
        both = truth[..., :, None] & predicted[..., None, :]
        true = truth[..., :, None] & cells.mask[..., None, :]
        return CoOccurrence(both * sound, true * sound)

    def compute(state: CoOccurrence):
        return ratio(state.both, state.true)

    return Metric("co_occurrence", update, compute)


@functools.cache
def standard_metrics(rule: DecisionRule | Family) -> tuple[Metric, ...]:
    """Returns the metrics of every report, for a rule or for a family's default rule.

    macro_f1 (present classes), micro_f1, exact_match, nll, uar, ece, brier, accuracy.
    ECE pools the classes: query sets of a dozen clips leave bins of one class empty.
    """
    rule = DecisionRule(rule) if isinstance(rule, str) else rule
    pooled_ece = functools.partial(ece, classwise=False)
    makers = (macro_f1, micro_f1, exact_match, nll, uar, pooled_ece, brier, accuracy)
    return tuple(make(rule) for make in makers)


def _label_sets(cells: Cells, rule: DecisionRule) -> tuple[jax.Array, jax.Array]:
    """Returns the true and the predicted sets, both False where not answered."""
    return cells.targets > 0, predict_set(cells.probs, rule, cells.mask)


@functools.cache
def _count_labels(rule: DecisionRule):
    """Returns the update to `LabelCounts`, one object a rule, so that it is shared."""

    def update(probs, targets, mask):
        cells = answered_cells(probs, targets, mask)
        truth, predicted = _label_sets(cells, rule)
        return LabelCounts(
            (truth & predicted).astype(cells.probs.dtype),
            (~truth & predicted).astype(cells.probs.dtype),
            (truth & ~predicted).astype(cells.probs.dtype),
            cells.answered,
        )

    return update


def _loss_update(rule: DecisionRule, softmax, sigmoid):
    """Returns an update to `Mean` with the loss of the rule's family."""
    losses = {"softmax": softmax, "sigmoid": sigmoid}
    if rule.family not in losses:
        expected = "'softmax' or 'sigmoid'"
        raise ValueError(f"family must be {expected}, found {rule.family!r}")

    def update(probs, targets, mask):
        return losses[rule.family](answered_cells(probs, targets, mask))

    return update


def _mean_over_answered(cells: Cells, loss: jax.Array) -> Mean:
    total = jnp.sum(jnp.where(cells.mask, loss, 0), axis=-1)
    nothing = cells.answered == 0
    mean = jnp.where(nothing, 0, total / jnp.where(nothing, 1, cells.answered))
    return Mean(mean, jnp.sign(cells.answered))


def _where_answered(counts: LabelCounts, value: jax.Array) -> jax.Array:
    return jnp.where(counts.cells > 0, value, jnp.nan)


def _safe_log(probs: jax.Array) -> jax.Array:
    return jnp.log(jnp.clip(probs, jnp.finfo(probs.dtype).eps))
