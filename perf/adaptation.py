"""Adapting to listeners with this library: one compiled call, for one or for many."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import Batch, MetaParams, heads, maml, meta_adapt
from metaperser_jax.meta.inner_loop import over_tasks
from metaperser_jax.personal import default_loss_fn
from perf.workload import (
    CLASSES,
    HIDDEN,
    LEARNING_RATE,
    STEPS,
    WIDTH,
    Listeners,
)

CHUNK = 4  # listeners at once: more leave the caches of a core


def make_meta_params() -> MetaParams:
    head = heads.make_head(CLASSES, HIDDEN)
    params = heads.init_head(head, jax.random.key(0), layers=1, width=WIDTH)
    return maml(default_loss_fn, STEPS, init_learning_rate=LEARNING_RATE).init(params)


def adapt_and_predict(
    meta_params: MetaParams, support: Batch, query: jax.Array
) -> jax.Array:
    """Returns the adapted model's logits [samples, classes] of the query clips."""
    head = heads.make_head(CLASSES, HIDDEN)
    return heads.apply_head(head, meta_adapt(meta_params, support), query)


def adapt_and_predict_all(
    meta_params: MetaParams, support: Batch, query: jax.Array, chunk: int = CHUNK
) -> jax.Array:
    """The same for [listeners, ...], `chunk` listeners at a time."""
    return over_tasks(
        lambda task: adapt_and_predict(meta_params, *task), (support, query), chunk
    )


def one_listener(listeners: Listeners) -> Callable[[], dict]:
    """Returns a call that gives the first listener's adapted parameters."""
    meta_params = make_meta_params()
    support = jax.tree.map(lambda x: x[0], as_batch(listeners))
    adapt = jax.jit(meta_adapt)
    return lambda: jax.block_until_ready(adapt(meta_params, support))


def all_listeners(listeners: Listeners) -> Callable[[], np.ndarray]:
    """Returns a call that gives all listeners' logits [listeners, samples, classes]."""
    meta_params = make_meta_params()
    support, query = as_batch(listeners), jnp.asarray(listeners.query)
    predict = jax.jit(adapt_and_predict_all)
    return lambda: np.asarray(predict(meta_params, support, query))


def as_batch(listeners: Listeners) -> Batch:
    mask = np.ones(listeners.targets.shape, bool)
    return jax.tree.map(jnp.asarray, Batch(listeners.support, listeners.targets, mask))
