"""Calibration: does a probability of 0.4 come true in 40 % of the cases?

Every answered (sample, class) cell is one prediction. See Naeini et al., 2015 (ECE);
Nixon et al., 2019 (static, that is class-wise, and adaptive calibration error).

The estimates are biased upwards on small sets: the bins' random errors enter with
their absolute value, more so the more bins and classes. Bootstrap replicates carry
that bias twice, so centre them on the estimate (`bootstrap.interval`), and compare
methods on the same clips only.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from benchmark.metrics.base import (
    Array,
    Cells,
    DecisionRule,
    Metric,
    answered_cells,
    ratio,
    target_distribution,
)


class CalibrationGaps(NamedTuple):
    """State of the expected calibration error."""

    gaps: jax.Array  # [*samples, classes, bins] or [*samples, bins] sum of p - event
    cells: jax.Array  # [*samples] number of predictions


class ReliabilityBins(NamedTuple):
    """A reliability diagram; NaN in bins without a prediction."""

    confidence: jax.Array  # [bins] mean probability
    frequency: jax.Array  # [bins] mean of the event
    count: jax.Array  # [bins] int32, number of predictions


@functools.cache
def ece(
    rule: DecisionRule,
    num_bins: int = 15,
    classwise: bool = True,
    event: Literal["share", "label"] = "share",
) -> Metric:
    """Expected calibration error: sum over bins of |sum(p - event)| / predictions.

    Args:
      rule: only its family is used.
      num_bins: equal-width bins [k/n, (k+1)/n), the last one closed.
      classwise: each class has its own bins, so that a class that is overrated does
        not make up for one that is underrated: the mean of the classes' errors,
        weighted by their numbers of answers. False: one set of bins for all cells.
      event: what a softmax probability predicts. 'share': y_c / sum(y), what a label
        drawn from the true set is; NLL and Brier score have the same optimum, and
        samples where nothing is true do not count. 'label': y_c itself, which no
        softmax can meet where two labels are true. Sigmoid: always y_c.

    Returns:
      The metric 'ece', in [0, 1].
    """

    def update(probs, targets, mask):
        cells = answered_cells(probs, targets, mask)
        events, counted = _events(cells, rule, event)
        gap = jnp.where(cells.mask & counted[..., None], cells.probs - events, 0)
        onehot = jax.nn.one_hot(_bin_index(cells.probs, num_bins), num_bins, dtype=bool)
        gaps = jnp.where(onehot, gap[..., None], 0)  # [*samples, classes, bins]
        gaps = gaps if classwise else jnp.sum(gaps, axis=-2)
        return CalibrationGaps(gaps, jnp.where(counted, cells.answered, 0))

    return Metric("ece", update, _compute_ece)


@functools.partial(jax.jit, static_argnames=("num_bins",))
def reliability_bins(
    probs: Float[Array, "*samples classes"],
    targets: Float[Array, "*samples classes"],
    mask: Bool[Array, "*samples classes"],
    num_bins: int = 15,
) -> ReliabilityBins:
    """Returns the reliability diagram over all answered cells.

    Args:
      probs: [*samples, classes] predicted probabilities.
      targets: [*samples, classes] the events, taken as they are: for softmax
        probabilities give y / sum(y).
      mask: [*samples, classes] True where an answer counts.
      num_bins: equal-width bins over [0, 1].
    """
    cells = answered_cells(probs, targets, mask)
    # what does not count goes to an extra bin that is cut off
    bins = jnp.where(cells.mask, _bin_index(cells.probs, num_bins), num_bins).ravel()
    count = jnp.bincount(bins, length=num_bins + 1)[:num_bins]

    def mean(values):
        total = jnp.bincount(bins, weights=values.ravel(), length=num_bins + 1)
        return ratio(total[:num_bins], count.astype(values.dtype))

    return ReliabilityBins(mean(cells.probs), mean(cells.targets), count)


@functools.partial(jax.jit, static_argnames=("num_bins",))
def adaptive_ece(
    probs: Float[Array, "*samples classes"],
    targets: Float[Array, "*samples classes"],
    mask: Bool[Array, "*samples classes"],
    num_bins: int = 15,
) -> Float[jax.Array, ""]:
    """Returns the calibration error over bins that hold equally many predictions.

    The answered cells of all classes, sorted by probability, are cut into `num_bins`
    runs. Sorting does not add up over parts of a set, so this is no `Metric`. Equal
    probabilities may fall into two bins.

    Args:
      probs: [*samples, classes] predicted probabilities.
      targets: [*samples, classes] the events, taken as they are.
      mask: [*samples, classes] True where an answer counts.
      num_bins: number of runs.
    """
    cells = answered_cells(probs, targets, mask)
    order = jnp.argsort(jnp.where(cells.mask, cells.probs, jnp.inf).ravel())
    gaps = (cells.probs - cells.targets).ravel()[order]  # 0 where not answered
    total = jnp.sum(cells.mask)
    rank = jnp.arange(gaps.size)
    bins = rank * num_bins // jnp.maximum(total, 1)  # beyond the last: dropped
    sums = jax.ops.segment_sum(gaps, bins, num_bins)
    return ratio(jnp.sum(jnp.abs(sums)), total.astype(gaps.dtype))


def _compute_ece(state: CalibrationGaps) -> jax.Array:
    return ratio(jnp.sum(jnp.abs(state.gaps)), state.cells)


def _events(
    cells: Cells, rule: DecisionRule, event: str
) -> tuple[jax.Array, jax.Array]:
    """Returns what is predicted [*samples, classes], and which samples count."""
    if event not in ("share", "label"):
        raise ValueError(f"event must be 'share' or 'label', found {event!r}")
    if rule.family == "softmax" and event == "share":
        return target_distribution(cells)
    return cells.targets, jnp.ones(cells.answered.shape, bool)


def _bin_index(probs: jax.Array, num_bins: int) -> jax.Array:
    return jnp.clip((probs * num_bins).astype(jnp.int32), 0, num_bins - 1)
