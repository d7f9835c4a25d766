"""Adapt and predict for many (listener, draw) pairs in one jitted call."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from metaperser_jax import trees
from metaperser_jax.data.pools import DevicePool, take_rows
from metaperser_jax.typing import Array, Batch, MetaParams

CHUNK = 16  # pairs adapted at once; their weights stay in the cache


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
      adapt_fn: a learner's `adapt_for`.
      predict_fn: (params, inputs) -> probabilities.
      meta_params: what the learner adapts from.
      pool: ratings and inputs.
      support: rows to adapt to, -1 is padding.
      query: rows to predict, -1 is padding (predicted, to be masked).
    """

    def one(rows: tuple[jax.Array, jax.Array]) -> jax.Array:
        support, query = (take_rows(pool, r) for r in rows)
        params, *_ = adapt_fn(meta_params, support, query, order="first")
        return predict_fn(params, query.inputs)

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
      adapt_fn: a learner's `adapt_for`.
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
        batch, judged = (take_rows(pool, r) for r in rows)

        def score(adapted: Any) -> jax.Array:
            return score_fn(adapted, judged)

        watched = {"observe": score} if every_step else {}
        adapted, _, scores = adapt_fn(
            MetaParams(params, rates), batch, judged, order="first", **watched
        )
        if not every_step:
            return score(adapted)[None]
        return jnp.concatenate([score(params)[None], scores])

    def over_pairs(index: jax.Array) -> jax.Array:
        rates = trees.take(candidates, index)
        scores = jax.lax.map(
            lambda rows: one(rates, rows), (support, query), batch_size=CHUNK
        )  # [pairs, steps]
        return jnp.nanmean(jnp.where(jnp.isfinite(scores), scores, 1e9), axis=0)

    return jax.lax.map(over_pairs, jnp.arange(num_candidates))
