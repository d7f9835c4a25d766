"""Adapt and predict for many (listener, draw) pairs in one jitted call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from metaperser_jax import trees
from metaperser_jax.typing import Array, Batch, MetaParams, Pool

CHUNK = 16  # pairs adapted at once; their weights stay in the cache


class DevicePool(NamedTuple):
    """A pool on the device, read by row; moved once, gathered there."""

    inputs: jax.Array  # [rows, layers, width]
    row: jax.Array  # [ratings] int32
    targets: jax.Array  # [ratings, classes]
    mask: jax.Array  # [ratings, classes] bool
    class_weights: jax.Array | None = None  # [classes]


def to_device(pool: Pool) -> DevicePool:
    """Moves a pool to the device."""
    return DevicePool(
        jnp.asarray(pool.inputs),
        jnp.asarray(pool.row),
        jnp.asarray(pool.targets, jnp.float32),
        jnp.asarray(pool.mask),
        None if pool.class_weights is None else jnp.asarray(pool.class_weights),
    )


def take_rows(pool: DevicePool, rows: Int[Array, " samples"]) -> Batch:
    """Returns the ratings at `rows` as a batch; -1 is padding."""
    kept = rows >= 0
    safe = jnp.where(kept, rows, 0)
    weights = pool.class_weights
    if weights is not None:
        weights = jnp.broadcast_to(weights, (*rows.shape, *weights.shape))
    return Batch(
        pool.inputs[pool.row[safe]],
        jnp.where(kept[:, None], pool.targets[safe], 0.0),
        pool.mask[safe] & kept[:, None],
        weights,
    )


@functools.partial(jax.jit, static_argnames=("adapt_fn", "predict_fn"))
def adapt_and_predict(
    adapt_fn: Callable[..., Any],
    predict_fn: Callable[..., jax.Array],
    meta_params: MetaParams,
    pool: DevicePool,
    support: Int[Array, "pairs support"],
    query: Int[Array, "pairs query"],
) -> Float[jax.Array, "pairs query classes"]:
    """Returns the predictions of each pair's adapted model on its query set.

    Args:
      adapt_fn: a learner's `adapt`.
      predict_fn: (params, inputs) -> probabilities.
      meta_params: what the learner adapts from.
      pool: ratings and inputs.
      support: rows to adapt to, -1 is padding.
      query: rows to predict, -1 is padding (predicted, to be masked).
    """

    def one(rows: tuple[jax.Array, jax.Array]) -> jax.Array:
        params, _ = adapt_fn(meta_params, take_rows(pool, rows[0]), order="first")
        return predict_fn(params, take_rows(pool, rows[1]).inputs)

    return jax.lax.map(one, (support, query), batch_size=CHUNK)


@functools.partial(jax.jit, static_argnames=("adapt_fn",))
def adapt_all(
    adapt_fn: Callable[..., Any],
    meta_params: MetaParams,
    pool: DevicePool,
    support: Int[Array, "listeners support"],
) -> Any:
    """Returns the adapted parameters of each listener, stacked."""

    def one(rows: jax.Array) -> Any:
        return adapt_fn(meta_params, take_rows(pool, rows), order="first")[0]

    return jax.lax.map(one, support, batch_size=CHUNK)


@functools.partial(
    jax.jit, static_argnames=("adapt_fn", "score_fn", "num_candidates", "every_step")
)
def candidate_scores(
    adapt_fn: Callable[..., Any],
    score_fn: Callable[[Any, Batch], jax.Array],
    params: Any,
    candidates: dict[str, jax.Array],
    pool: DevicePool,
    support: Int[Array, "pairs support"],
    query: Int[Array, "pairs query"],
    num_candidates: int,
    every_step: bool = False,
) -> Float[jax.Array, "candidates steps"]:
    """Returns the mean score of each candidate setting over the pairs.

    Args:
      adapt_fn: a learner's `adapt`.
      score_fn: (params, query batch) -> [] score.
      params: shared parameters.
      candidates: rates, with a leading candidates axis ({} for a learner without).
      pool: ratings and inputs.
      support: rows to adapt to.
      query: rows to score.
      num_candidates: length of the candidates axis.
      every_step: score after each inner step (0 steps first), else after the last.
    """

    def one(rates: dict[str, jax.Array], rows: tuple[jax.Array, jax.Array]):
        batch, judged = take_rows(pool, rows[0]), take_rows(pool, rows[1])
        meta_params = MetaParams(params, rates)
        if not every_step:
            adapted, _ = adapt_fn(meta_params, batch, order="first")
            return score_fn(adapted, judged)[None]
        return _score_every_step(adapt_fn, score_fn, meta_params, batch, judged)

    def over_pairs(index: jax.Array) -> jax.Array:
        rates = trees.take(candidates, index)
        scores = jax.lax.map(
            lambda rows: one(rates, rows), (support, query), batch_size=CHUNK
        )  # [pairs, steps]
        return jnp.nanmean(jnp.where(jnp.isfinite(scores), scores, 1e9), axis=0)

    return jax.lax.map(over_pairs, jnp.arange(num_candidates))


def _score_every_step(adapt_fn, score_fn, meta_params, support, query) -> jax.Array:
    """[steps + 1] scores, taking one inner step at a time with its own rate."""
    rates = meta_params.learning_rates

    def step(params: Any, rate: dict[str, jax.Array]) -> tuple[Any, jax.Array]:
        single = {path: value[None] for path, value in rate.items()}
        params, _ = adapt_fn(
            MetaParams(params, single), support, order="first", num_steps=1
        )
        return params, score_fn(params, query)

    start = score_fn(meta_params.params, query)
    _, scores = jax.lax.scan(step, meta_params.params, rates)
    return jnp.concatenate([start[None], scores])
