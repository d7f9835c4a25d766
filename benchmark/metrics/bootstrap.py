"""Crossed bootstrap over listeners and clips.

Listeners and clips are both samples of a population, and a clip is heard by several
listeners (and drawn several times), so neither axis may be resampled alone: the
"pigeonhole" bootstrap resamples both and weights a rating with the product of its
listener's and its clip's weight (Owen, 2007, Annals of Applied Statistics 1(2)).

Weights are independent Exp(1), the Bayesian bootstrap (Rubin, 1981): mean 1 and
variance 1 as for multinomial counts (Owen and Eckles, 2012), but never 0, so that no
class, clip or listener drops out of a replicate and every replicate is defined where
the estimate is.

The variance is on the large side: what is particular to a single rating is counted up
to three times (Owen, 2007). With 12 listeners, 40 shared clips and 5 classes
(simulated) the standard error of macro-F1 is 1.4 times the true one and a 95 % interval
covers in 99 %; resampling listeners alone covers in 85 %. Where listeners hear
different clips, `over='listeners'` is the sharper choice.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Int, Key

from benchmark.metrics.base import Array, Metric, Scalar, State

Over = Literal["both", "listeners", "clips"]


class Bootstrap(NamedTuple):
    """A score and how it varies; dicts of these shapes for a `collection`."""

    estimate: Any  # [] mean over listeners of their mean over draws
    values: Any  # [listeners] mean over draws, NaN where undefined
    replicates: Any  # [resamples]


class Interval(NamedTuple):
    """A confidence interval."""

    low: jax.Array  # []
    high: jax.Array  # []


class Weights(NamedTuple):
    """Bootstrap weights; replicate b depends on the key, b and the numbers alone."""

    listeners: jax.Array  # [listeners, resamples]
    clips: jax.Array  # [clips, resamples]


def centred(
    replicates: Float[Array, "resamples"], estimate: Scalar
) -> Float[jax.Array, "resamples"]:
    """Shifts replicates so that their mean is the estimate.

    Unequal weights make a small query set smaller still. That lowers macro-F1 and
    raises ECE in every replicate, and says nothing about the score at the query size
    of the protocol, which is what is estimated.
    """
    return jnp.asarray(estimate) + (replicates - jnp.mean(replicates))


@functools.partial(jax.jit, static_argnames=("level",))
def interval(
    replicates: Float[Array, "resamples"],
    level: float = 0.95,
    estimate: Scalar | None = None,
) -> Interval:
    """Returns the percentile interval of bootstrap replicates; NaN if one is NaN.

    Args:
      replicates: [resamples].
      level: share of the replicates inside.
      estimate: when given, the replicates are `centred` on it first. Give it, save to
        see the replicates' own shift: in the simulation above the plain interval of
        ECE covers in 23 %, the centred one in 99 %, and with query sets of 15 clips
        and thousands of listeners the plain one of macro-F1 excludes the estimate.
    """
    if estimate is not None:
        replicates = centred(replicates, estimate)
    tail = (1 - level) / 2
    low, high = jnp.quantile(replicates, jnp.asarray([tail, 1 - tail]))
    return Interval(low, high)


def resample_weights(
    key: Key[Array, ""],
    resamples: Int[Array, "resamples"],
    num_listeners: int,
    num_clips: int,
    over: Over = "both",
) -> Weights:
    """Returns the weights of the replicates whose numbers are given.

    Args:
      key: the source of all randomness.
      resamples: [resamples] numbers of replicates.
      num_listeners: how many listeners there are.
      num_clips: how many clips there are.
      over: what is resampled; the weights of the other are 1.

    Raises:
      ValueError: unknown `over`.
    """
    if over not in ("both", "listeners", "clips"):
        raise ValueError(f"over must be 'both', 'listeners' or 'clips', found {over!r}")

    def draw(resample):
        shape = (num_clips + num_listeners,)
        return jax.random.exponential(jax.random.fold_in(key, resample), shape)

    weights = jax.vmap(draw, out_axes=-1)(resamples)
    clips, listeners = weights[:num_clips], weights[num_clips:]
    return Weights(
        jnp.ones_like(listeners) if over == "clips" else listeners,
        jnp.ones_like(clips) if over == "listeners" else clips,
    )


@functools.partial(
    jax.jit,
    static_argnames=("metric", "num_clips", "num_resamples", "over", "block_size"),
)
def bootstrap(
    metric: Metric,
    state: State,
    clip_ids: Int[Array, "listeners draws query"],
    num_clips: int,
    key: Key[Array, ""],
    num_resamples: int = 1000,
    over: Over = "both",
    block_size: int = 128,
) -> Bootstrap:
    """Returns a metric's mean over draws, then listeners, with bootstrap replicates.

    In a replicate a (listener, draw)'s value comes from its clip-weighted sums; these
    are averaged over draws, then over listeners with the listeners' weights. Draws
    are not resampled. The same key gives the same weights whatever the metric or the
    method, so differences of replicates are paired; under `jax.vmap` over methods the
    weights are drawn once.

    The listeners' deviations from equal weights are stretched by
    sqrt((n + 1) / (n - 1)), after Rao and Wu (1988): without it the variance of a mean
    over n listeners would be too small, by 18 % at n = 10.

    (listener, draw)s where the value is undefined are left out of the means. Memory
    is about (num_clips + statistics * draws) * block_size floats.

    Args:
      metric: a metric or a `collection`.
      state: `jax.jit(metric.update)(probs, targets, mask)` with probs [listeners,
        draws, query, classes]; leaves [listeners, draws, query, ...].
      clip_ids: [listeners, draws, query] in [0, num_clips), -1 for padding, which
        contributes nothing. Larger ids make the replicates NaN. Use ids of the whole
        corpus to pair across query sets, dense ones for speed.
      num_clips: number of clip ids.
      key: same key, same weights.
      num_resamples: number of replicates.
      over: 'both', or 'listeners' or 'clips' alone.
      block_size: replicates computed at a time; changes memory, not results.
    """
    samples, unravel = _flatten(state, clip_ids)

    def compute(totals):
        return metric.compute(unravel(totals))

    totals = jnp.sum(samples, axis=2)  # [listeners, draws, stats]
    per_draw = jax.vmap(jax.vmap(compute))(totals)
    defined = jax.tree.map(functools.partial(_defined, totals=totals), per_draw)
    values = jax.tree.map(jax.vmap(_defined_mean), per_draw, defined)
    heard = jax.tree.map(lambda flags: jnp.any(flags, axis=1), defined)

    def block(start):
        resamples = start * block_size + jnp.arange(block_size)
        weights = resample_weights(key, resamples, clip_ids.shape[0], num_clips, over)
        replicated = _clip_weighted(compute, samples, clip_ids, defined, weights.clips)
        mean = functools.partial(_listener_mean, weights=weights.listeners)
        return jax.tree.map(mean, replicated, heard)  # [block, ...]

    blocks = jax.lax.map(block, jnp.arange(-(-num_resamples // block_size)))
    replicates = jax.tree.map(lambda x: jnp.concatenate(x)[:num_resamples], blocks)
    return Bootstrap(jax.tree.map(_defined_mean, values, heard), values, replicates)


def _flatten(state: State, clip_ids: Array) -> tuple[jax.Array, Any]:
    """Returns the statistics, 0 where there is no clip, and how to unflatten them.

    Returns:
      samples: [listeners, draws, query, stats].
      unravel: function of [stats] to the state of one sample.
    """
    samples = jax.vmap(jax.vmap(jax.vmap(lambda one: ravel_pytree(one)[0])))(state)
    unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0, 0, 0], state))[1]
    return jnp.where((clip_ids >= 0)[..., None], samples, 0), unravel


def _clip_weighted(compute, samples, clip_ids, defined, weights) -> Any:
    """Returns each listener's mean over draws in each replicate.

    Args:
      compute: [stats] -> value.
      samples: [listeners, draws, query, stats].
      clip_ids: [listeners, draws, query].
      defined: [listeners, draws] bool, a tree like the value.
      weights: [clips, resamples].

    Returns:
      [listeners, resamples], a tree like the value.
    """
    # one listener at a time, and rows of replicates: what is gathered stays in cache
    table = jnp.pad(weights, ((1, 0), (0, 0)))  # row 0 is for what has no clip
    rows = jnp.where(clip_ids >= 0, clip_ids + 1, 0)

    def listener(inputs):
        samples, rows, defined = inputs
        drawn = table.at[rows].get(mode="fill", fill_value=jnp.nan)
        totals = jnp.einsum(  # [draws, stats, resamples]
            "dqs,dqr->dsr", samples, drawn, precision=jax.lax.Precision.HIGHEST
        )
        replicated = jax.vmap(jax.vmap(compute, in_axes=-1))(totals)
        mean = jax.vmap(_defined_mean, in_axes=(1, None))
        return jax.tree.map(mean, replicated, defined)

    return jax.lax.map(listener, (samples, rows, defined))


def _listener_mean(values, heard, weights) -> jax.Array:
    """Returns the weighted mean over listeners of each replicate, stretched.

    Args:
      values: [listeners, resamples, ...].
      heard: [listeners, ...] bool, listeners that count.
      weights: [listeners, resamples].
    """

    def one(values, weights):  # [listeners, ...], [listeners]
        weights = jnp.where(heard, _trailing(weights, heard.ndim), 0)
        number = jnp.sum(heard, axis=0)
        share = weights / jnp.maximum(jnp.sum(weights, axis=0, keepdims=True), 1e-30)
        equal = heard / jnp.maximum(number, 1)[None]
        stretch = jnp.sqrt((number + 1) / jnp.maximum(number - 1, 1))
        weights = equal + stretch[None] * (share - equal)
        total = jnp.sum(jnp.where(heard, weights * values, 0), axis=0)
        return jnp.where(number > 0, total, jnp.nan)

    return jax.vmap(one, in_axes=(1, 1))(values, weights)


def _defined(values: jax.Array, totals: jax.Array) -> jax.Array:
    """Says which values count: all but the NaNs that come from sound sums."""
    faulty = jnp.any(jnp.isnan(totals), axis=-1)  # NaN input, must not pass unseen
    return ~jnp.isnan(values) | _trailing(faulty, values.ndim)


def _defined_mean(values: jax.Array, defined: jax.Array) -> jax.Array:
    """Returns the mean over the first axis where defined, NaN if nowhere."""
    number = jnp.sum(defined, axis=0)
    total = jnp.sum(jnp.where(defined, values, 0), axis=0)
    return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.nan)


def _trailing(array: jax.Array, ndim: int) -> jax.Array:
    """Appends axes of length 1 until there are `ndim`."""
    return array.reshape(array.shape + (1,) * (ndim - array.ndim))
