"""The jitted training steps; the state is donated, the order is static."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from metaperser_jax import memory, trees
from metaperser_jax import mesh as meshes
from metaperser_jax.data.pools import DevicePool, read_episode
from metaperser_jax.meta.inner_loop import LossFn
from metaperser_jax.meta.learners import MetaLearner
from metaperser_jax.training.state import TrainState
from metaperser_jax.typing import (
    Array,
    Batch,
    Episode,
    EpisodeRows,
    MetaInfo,
    MetaParams,
    Order,
)

Metrics = dict[str, jax.Array]


def make_meta_train_step(
    learner: MetaLearner,
    tx: optax.GradientTransformation,
    mesh: Mesh | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns meta_train_step(state, episodes, pool=None, *, order) -> state, metrics.

    With a pool on the device, `episodes` are the rows that they read of it: a step
    moves no inputs.

    Over a mesh each device takes its share of the tasks; state and pool are to be whole
    on all of them (`mesh.replicate`).

    A step whose loss or gradient is not finite leaves the state as it was and is
    counted. A run with derivative annealing compiles exactly two of these.
    """

    @functools.partial(jax.jit, static_argnames="order", donate_argnums=0)
    def meta_train_step(
        state: TrainState,
        episodes: Episode | EpisodeRows,
        pool: DevicePool | None = None,
        *,
        order: Order,
    ) -> tuple[TrainState, Metrics]:
        return _take_step(learner, tx, mesh, state, episodes, pool, order)

    return meta_train_step


def make_meta_train_steps(
    learner: MetaLearner,
    tx: optax.GradientTransformation,
    mesh: Mesh | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns meta_train_steps(state, episodes, is_real, pool=None, *, order).

    Several steps of `make_meta_train_step` in one call, a scan over the leading axis of
    `episodes`; the metrics come as [steps]. Where `is_real` [steps] is False the state
    stays as it is, so that fewer steps need no compilation of their own.
    """

    @functools.partial(jax.jit, static_argnames="order", donate_argnums=0)
    def meta_train_steps(
        state: TrainState,
        episodes: Episode | EpisodeRows,
        is_real: Array,
        pool: DevicePool | None = None,
        *,
        order: Order,
    ) -> tuple[TrainState, Metrics]:
        def step(state: TrainState, at: Any) -> tuple[TrainState, Metrics]:
            episodes, is_real = at
            moved, metrics = _take_step(learner, tx, mesh, state, episodes, pool, order)
            kept = jax.tree.map(lambda a, b: jnp.where(is_real, a, b), moved, state)
            return kept, metrics

        return jax.lax.scan(step, state, (episodes, is_real))

    return meta_train_steps


def _take_step(
    learner: MetaLearner,
    tx: optax.GradientTransformation,
    mesh: Mesh | None,
    state: TrainState,
    episodes: Episode | EpisodeRows,
    pool: DevicePool | None,
    order: Order,
) -> tuple[TrainState, Metrics]:
    query_loss, grads = meta_gradient(
        learner, state.meta_params, episodes, pool, order, mesh
    )
    state, finite = apply_if_finite(state, grads, query_loss, tx)
    metrics = {
        "query_loss": query_loss,
        "grad_norm": jnp.sqrt(trees.squared_norm(grads)),
        "finite": finite,
    }
    return state, metrics


def meta_gradient(
    learner: MetaLearner,
    meta_params: MetaParams,
    episodes: Episode | EpisodeRows,
    pool: DevicePool | None,
    order: Order,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, MetaParams]:
    """Returns the query loss [] and the gradient; see `make_meta_train_step`."""

    def averages(whole: Any, episodes: Any, weights: Any) -> Any:
        meta_params, pool = whole
        options = {} if weights is None else {"weights": weights}
        if pool is not None:
            options["read"] = functools.partial(read_episode, pool)

        def loss_fn(meta_params: MetaParams) -> tuple[jax.Array, MetaInfo]:
            return learner.meta_loss(meta_params, episodes, order=order, **options)

        (_, info), grads = jax.value_and_grad(loss_fn, has_aux=True)(meta_params)
        return jnp.asarray(info.query_loss), grads

    return meshes.mean_over(mesh, averages, (meta_params, pool), episodes)


def meta_gradient_bytes(
    learner: MetaLearner,
    meta_params: MetaParams,
    episodes: Episode | EpisodeRows,
    pool: DevicePool | None,
    order: Order,
    mesh: Mesh | None = None,
) -> int:
    """Estimates what `meta_gradient` takes at most, from arrays or their shapes.

    Over a mesh it is what each device takes for its share of the tasks.
    """

    def gradient(meta_params: MetaParams, episodes: Any, pool: Any) -> Any:
        return meta_gradient(learner, meta_params, episodes, pool, order, mesh)

    return memory.peak_bytes(gradient, meta_params, episodes, pool)


def apply_if_finite(
    state: TrainState,
    grads: MetaParams,
    loss: jax.Array,
    tx: optax.GradientTransformation,
) -> tuple[TrainState, jax.Array]:
    """Takes an optimiser step, or none if loss or gradient is not finite."""
    finite = trees.all_finite((grads, loss))
    updates, opt_state = tx.update(grads, state.opt_state, state.meta_params)
    moved = optax.apply_updates(state.meta_params, updates)
    new = (moved, opt_state)
    old = (state.meta_params, state.opt_state)
    meta_params, opt_state = jax.tree.map(
        lambda a, b: jnp.where(finite, a, b), new, old
    )
    skipped = (~finite).astype(jnp.int32)
    return TrainState(
        meta_params,
        opt_state,
        state.step + 1,
        state.num_skipped + skipped,
        (state.skipped_in_a_row + 1) * skipped,
    ), finite


def make_pretrain_epoch(
    loss_fn: LossFn, tx: optax.GradientTransformation
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, jax.Array]]:
    """Returns pretrain_epoch(state, data, index [steps, samples]) -> state, losses.

    SSL-E: the head on all (clip, listener label) pairs. The epoch is one scan over
    batches gathered on the device from `data` [ratings, ...].
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
        def loss(meta_params: MetaParams) -> jax.Array:
            return loss_fn(meta_params.params, batch)

        value, grads = jax.value_and_grad(loss)(state.meta_params)
        state, _ = apply_if_finite(state, grads, value, tx)
        return state, value

    @functools.partial(jax.jit, donate_argnums=0)
    def pretrain_epoch(
        state: TrainState, data: Batch, index: Array
    ) -> tuple[TrainState, jax.Array]:
        return jax.lax.scan(lambda s, i: step(s, trees.take(data, i)), state, index)

    return pretrain_epoch
