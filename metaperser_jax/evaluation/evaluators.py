"""Adapt and predict for many (listener, draw) pairs in one jitted call.

Over a mesh each device takes its share of the pairs; results are whole on all of them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Float, Int

from metaperser_jax import mesh as meshes
from metaperser_jax import trees
from metaperser_jax.data.pools import DevicePool, are_reread, take_rows, take_units
from metaperser_jax.typing import Array, Batch, MetaParams

UnitsFn = Callable[[MetaParams, Array], jax.Array | None] | None
CHUNK = 16  # pairs adapted at once on a device; their weights stay in the cache


@functools.partial(
    jax.jit, static_argnames=("adapt_fn", "predict_fn", "mesh", "units_fn")
)
def adapt_and_predict(
    adapt_fn: Callable[..., Any],
    predict_fn: Callable[..., jax.Array],
    meta_params: MetaParams,
    pool: DevicePool,
    support: Int[Array, "pairs support"],
    query: Int[Array, "pairs query"],
    mesh: Mesh | None = None,
    units_fn: UnitsFn = None,
) -> Float[jax.Array, "pairs query classes"]:
    """Returns the predictions of each pair's adapted model on its query set.

    Args:
      adapt_fn: a learner's `adapt_for`.
      predict_fn: (params, inputs) -> probabilities.
      meta_params: what the learner adapts from.
      pool: ratings and inputs.
      support: rows to adapt to, -1 is padding.
      query: rows to predict, -1 is padding (predicted, to be masked).
      mesh: the devices; None is one.
      units_fn: of the learner, see `MetaLearner`; what it gives is computed once for
        the whole pool where the pairs read each clip more than once.
    """

    def predict(whole: Any, pairs: Any) -> jax.Array:
        meta_params, pool, units = whole

        def one(rows: tuple[jax.Array, jax.Array]) -> jax.Array:
            support, query = (take_rows(pool, r) for r in rows)
            known = _units_of(pool, units, rows)
            params, *_ = adapt_fn(meta_params, support, query, order="first", **known)
            return predict_fn(params, query.inputs)

        return jax.lax.map(one, pairs, batch_size=CHUNK)

    units = None
    if units_fn is not None and are_reread(pool.inputs, support, query):
        units = units_fn(meta_params, pool.inputs)
    whole = (meta_params, pool, units)
    return meshes.map_over(mesh, predict, whole, (support, query))


def _units_of(
    pool: DevicePool, units: Array | None, rows: tuple[jax.Array, jax.Array]
) -> dict[str, Any]:
    if units is None:
        return {}
    return {"units": tuple(take_units(pool, units, part) for part in rows)}


@functools.partial(jax.jit, static_argnames=("adapt_fn", "mesh"))
def adapt_all(
    adapt_fn: Callable[..., Any],
    meta_params: MetaParams,
    pool: DevicePool,
    support: Int[Array, "listeners support"],
    mesh: Mesh | None = None,
) -> Any:
    """Returns the adapted parameters of each listener, stacked."""

    def adapt(whole: Any, support: jax.Array) -> Any:
        meta_params, pool = whole

        def one(rows: jax.Array) -> Any:
            return adapt_fn(meta_params, take_rows(pool, rows), order="first")[0]

        return jax.lax.map(one, support, batch_size=CHUNK)

    return meshes.map_over(mesh, adapt, (meta_params, pool), support)


@functools.partial(
    jax.jit,
    static_argnames=("adapt_fn", "score_fn", "num_candidates", "every_step", "mesh"),
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
    mesh: Mesh | None = None,
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
      mesh: the devices; None is one.
    """

    def means(whole: Any, pairs: Any, weights: jax.Array | None) -> jax.Array:
        params, candidates, pool = whole

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
                lambda rows: one(rates, rows), pairs, batch_size=CHUNK
            )  # [pairs, steps]
            finite = jnp.where(jnp.isfinite(scores), scores, 1e9)
            return trees.average(finite, weights)

        return jax.lax.map(over_pairs, jnp.arange(num_candidates))

    whole = (params, candidates, pool)
    return meshes.mean_over(mesh, means, whole, (support, query))
