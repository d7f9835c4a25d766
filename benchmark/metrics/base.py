"""Metrics as functions of sums: mergeable, weightable, masked.

A metric is an `update` that gives statistics of each sample and a `compute` that
turns their (weighted) sum over samples into a value. So the state of a set is the
sum over its samples, the state of a union is the sum of the states, and a bootstrap
replicate is a weighted sum. A score of a full set is `compute` of the merged state,
never the mean of scores of its parts.

Conventions shared by all metrics:

- `probs`, `targets` and `mask` are [samples, classes] (more leading axes may be
  added). `mask` is True where an answer counts. A sample whose mask is all False is
  padding. What stands in a cell that does not count is never read, NaN included.
- The true set of a sample is {c : y_c > 0}.
- A value is NaN where it is undefined: nothing was answered, or (softmax losses, UAR)
  nothing is true. That depends on targets and mask only, never on the predictions, so
  two methods are undefined for the same listeners. A NaN probability or target in an
  answered cell makes the state NaN, and every value computed from it.
- Statistics are float32 (float64 for float64 input): counts are exact up to 2**24
  samples in one sum; beyond that, merge in float64 on the host.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

Array = jax.Array | np.ndarray
Scalar = float | np.floating | Float[Array, ""]
State = Any  # pytree; leaves [samples, ...] from `update`, [...] once summed
Family = Literal["softmax", "sigmoid"]

_HIGHER_IS_BETTER = {
    "accuracy": True,
    "adaptive_ece": False,
    "brier": False,
    "ccc": True,
    "ece": False,
    "exact_match": True,
    "macro_f1": True,
    "macro_f1_fixed": True,
    "mae": False,
    "micro_f1": True,
    "nll": False,
    "pearson": True,
    "rmse": False,
    "uar": True,
}
# Also reported for each dimension apart: 'ccc_valence'.
_OF_DIMENSIONS = ("ccc", "mae", "pearson", "rmse")


class Metric(NamedTuple):
    """A metric; hashable, so that it can be a static argument of a jitted function."""

    name: str
    update: Callable[[Array, Array, Array], State]  # probs, targets, mask -> statistics
    compute: Callable[[State], Any]  # summed state -> value, as a rule a scalar


class DecisionRule(NamedTuple):
    """How probabilities become a predicted set; hashable.

    `softmax`: the classes share one distribution; c is predicted when p_c > 1/C. The
    largest p_c exceeds 1/C unless all are equal (up to rounding), so the set is empty
    for a uniform prediction only. `sigmoid`: c is predicted when p_c > threshold_c;
    the set may well be empty. `empty` says what an empty set becomes: 'keep' leaves
    it, 'argmax' takes the most probable answered class (the first of equals).

    Thresholds that differ between samples do not fit in here: decide first, and give
    the sets as 0/1 probabilities to the sigmoid rule.
    """

    family: Family
    thresholds: float | tuple[float, ...] = 0.5  # sigmoid only: one, or one a class
    empty: Literal["keep", "argmax"] = "keep"


class Cells(NamedTuple):
    """Checked input of an `update`; what is not answered is 0."""

    probs: jax.Array  # [*samples, classes] at least float32
    targets: jax.Array  # [*samples, classes] same dtype
    mask: jax.Array  # [*samples, classes] bool
    answered: jax.Array  # [*samples] number of answered classes; NaN if one is NaN


class Mean(NamedTuple):
    """State of a mean over samples."""

    total: jax.Array  # [*samples]
    count: jax.Array  # [*samples] 1 where the sample counts, 0 where not


def higher_is_better(name: str) -> bool:
    """Says whether larger values of the metric called `name` are better.

    Raises:
      ValueError: when the name is not known.
    """
    first, _, dimension = name.partition("_")
    if dimension and first in _OF_DIMENSIONS:
        name = first
    if name not in _HIGHER_IS_BETTER:
        known = ", ".join(sorted(_HIGHER_IS_BETTER))
        raise ValueError(f"metric {name!r} has no known direction; known are {known}")
    return _HIGHER_IS_BETTER[name]


def reduce(state: State, weights: Float[Array, "samples"] | None = None) -> State:
    """Sums a state over its samples.

    Args:
      state: pytree with leaves [samples, ...].
      weights: [samples], 1 each when None.

    Returns:
      The same pytree with leaves [...].
    """
    if weights is None:
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), state)
    highest = jax.lax.Precision.HIGHEST  # or counts are rounded on an accelerator
    return jax.tree.map(
        lambda leaf: jnp.tensordot(weights, leaf, axes=1, precision=highest), state
    )


def merge(a: State, b: State) -> State:
    """Returns the state of the union of two disjoint sets, from their summed states."""
    return jax.tree.map(jnp.add, a, b)


@functools.partial(jax.jit, static_argnames=("metric",))
def evaluate(
    metric: Metric,
    probs: Float[Array, "samples classes"],
    targets: Float[Array, "samples classes"],
    mask: Bool[Array, "samples classes"],
    weights: Float[Array, "samples"] | None = None,
) -> Any:
    """Returns the value of a metric on a set of samples.

    Args:
      metric: what to compute.
      probs: [samples, classes] predicted probabilities.
      targets: [samples, classes] multi-hot or soft labels in [0, 1].
      mask: [samples, classes] True where an answer counts.
      weights: [samples], 1 each when None.
    """
    return metric.compute(reduce(metric.update(probs, targets, mask), weights))


@functools.cache
def collection(metrics: tuple[Metric, ...]) -> Metric:
    """Returns one metric whose value is a dict, name -> value of each of `metrics`.

    Statistics that several metrics share are kept once.

    Raises:
      ValueError: when two metrics have the same name.
    """
    names = [metric.name for metric in metrics]
    if len(set(names)) != len(names):
        raise ValueError(f"metric names must differ, found {names}")
    updates = tuple(dict.fromkeys(metric.update for metric in metrics))

    def update(probs, targets, mask):
        return tuple(one(probs, targets, mask) for one in updates)

    def compute(states):
        return {m.name: m.compute(states[updates.index(m.update)]) for m in metrics}

    return Metric("+".join(names), update, compute)


@functools.cache
def on_columns(
    metrics: tuple[Metric, ...], start: int, stop: int
) -> tuple[Metric, ...]:
    """Returns metrics that read the columns from `start` to before `stop` alone.

    So classes and dimensions, side by side in one array, make one `collection`, whose
    replicates are drawn with the same weights. Shared statistics stay shared.
    """
    return tuple(m._replace(update=_on_columns(m.update, start, stop)) for m in metrics)


@functools.cache
def _on_columns(update: Callable[..., State], start: int, stop: int):
    def of_columns(probs, targets, mask):
        return update(*(x[..., start:stop] for x in (probs, targets, mask)))

    return of_columns


@functools.partial(jax.jit, static_argnames=("metrics",))
def per_listener(
    metrics: tuple[Metric, ...],
    probs: Float[Array, "listeners draws query classes"],
    targets: Float[Array, "listeners draws query classes"],
    mask: Bool[Array, "listeners draws query classes"],
) -> dict[str, Any]:
    """Returns each metric on every query set.

    Args:
      metrics: what to compute, names distinct.
      probs: [listeners, draws, query, classes] predicted probabilities.
      targets: [listeners, draws, query, classes] labels.
      mask: [listeners, draws, query, classes]; padding is False.

    Returns:
      name -> [listeners, draws], NaN where the value is undefined.
    """
    one_set = functools.partial(evaluate, collection(metrics))
    return jax.vmap(jax.vmap(one_set))(probs, targets, mask)


def ratio(total: Float[Array, "*any"], count: Float[Array, "*any"]) -> jax.Array:
    """Returns total / count, NaN where the count is 0."""
    positive = count > 0
    return jnp.where(positive, total / jnp.where(positive, count, 1), jnp.nan)


def compute_mean(state: Mean) -> jax.Array:
    """Returns the mean of a summed `Mean`, NaN when nothing counted."""
    return ratio(state.total, state.count)


def answered_cells(
    probs: Float[Array, "*samples classes"],
    targets: Float[Array, "*samples classes"],
    mask: Bool[Array, "*samples classes"],
) -> Cells:
    """Widens half precision and clears what is not answered."""
    dtype = jnp.promote_types(probs.dtype, jnp.float32)
    faulty = jnp.any(mask & (jnp.isnan(probs) | jnp.isnan(targets)), axis=-1)
    answered = jnp.sum(mask, axis=-1, dtype=dtype)
    return Cells(
        jnp.where(mask, jnp.asarray(probs, dtype), 0),
        jnp.where(mask, jnp.asarray(targets, dtype), 0),
        jnp.asarray(mask),
        jnp.where(faulty, jnp.nan, answered),
    )


def target_distribution(cells: Cells) -> tuple[jax.Array, jax.Array]:
    """Returns the normalised target sets and which samples have one.

    Returns:
      shares: [*samples, classes] y / sum(y); 0 in samples where nothing is true.
      labelled: [*samples] bool, something is true.
    """
    total = jnp.sum(cells.targets, axis=-1)
    labelled = total != 0  # NaN counts, and shows
    return cells.targets / jnp.where(labelled, total, 1)[..., None], labelled


@functools.partial(jax.jit, static_argnames=("rule",))
def predict_set(
    probs: Float[Array, "*samples classes"],
    rule: DecisionRule,
    mask: Bool[Array, "*samples classes"] | None = None,
) -> Bool[jax.Array, "*samples classes"]:
    """Returns the predicted set of each sample.

    Args:
      probs: [*samples, classes]. Softmax probabilities are used as they are, not
        renormalised over the answered classes: whoever knows which classes were
        offered does that before.
      rule: see `DecisionRule`.
      mask: [*samples, classes]; classes where it is False are never predicted.

    Raises:
      ValueError: unknown family or policy, or a wrong number of thresholds.
    """
    mask = jnp.ones(probs.shape, bool) if mask is None else jnp.asarray(mask)
    chosen = mask & (probs > _thresholds(rule, probs.shape))
    if rule.empty == "keep":
        return chosen
    if rule.empty != "argmax":
        raise ValueError(f"empty must be 'keep' or 'argmax', found {rule.empty!r}")
    top = jnp.argmax(jnp.where(mask, probs, -jnp.inf), axis=-1)
    best = mask & jax.nn.one_hot(top, probs.shape[-1], dtype=bool)
    return jnp.where(jnp.any(chosen, axis=-1, keepdims=True), chosen, best)


def _thresholds(rule: DecisionRule, shape: tuple[int, ...]) -> jax.Array:
    """Returns the probability above which a class is predicted, in `shape`."""
    if rule.family == "softmax":
        return jnp.full(shape, 1 / shape[-1])
    if rule.family != "sigmoid":
        expected = "'softmax' or 'sigmoid'"
        raise ValueError(f"family must be {expected}, found {rule.family!r}")
    thresholds = jnp.asarray(rule.thresholds)
    if thresholds.shape not in ((), shape[-1:]):
        raise ValueError(
            f"expected one threshold or one for each of the {shape[-1]} classes, "
            f"found {thresholds.size}"
        )
    return jnp.broadcast_to(thresholds, shape)


def check_predictions(
    probs: Float[np.ndarray, "*samples classes"],
    targets: Float[np.ndarray, "*samples classes"],
    mask: Bool[np.ndarray, "*samples classes"],
    family: Family,
    tolerance: float = 1e-3,
) -> None:
    """Checks on the host what jitted code cannot report. Returns nothing.

    Args:
      probs: [*samples, classes] predicted probabilities.
      targets: [*samples, classes] labels.
      mask: [*samples, classes] True where an answer counts.
      family: 'softmax' also asks that wholly answered rows sum to 1.
      tolerance: by how much a sum may miss 1, or a probability leave [0, 1].

    Raises:
      ValueError: names the first faulty cell or row, and how many there are.
    """
    for name, values in (("probability", probs), ("target", targets)):
        inside = (values >= -tolerance) & (values <= 1 + tolerance)  # False for NaN
        _refuse(mask & ~inside, values, f"{name} outside [0, 1]")
    if family == "softmax":
        sums = probs.sum(axis=-1, dtype=np.float64)
        wrong = mask.all(axis=-1) & ~(np.abs(sums - 1) <= tolerance)
        _refuse(wrong, sums, "softmax probabilities of a row that do not sum to 1, sum")


def _refuse(faulty: np.ndarray, values: np.ndarray, what: str) -> None:
    if faulty.any():
        where = tuple(int(i) for i in np.argwhere(faulty)[0])
        raise ValueError(
            f"{what}: {values[where]} at index {list(where)} (and "
            f"{int(faulty.sum()) - 1} more); mend the predictions, or mask them"
        )
