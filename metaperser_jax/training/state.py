"""What a training stage carries from step to step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metaperser_jax.typing import MetaParams


class TrainState(NamedTuple):
    """The state of an outer optimisation; all of it is saved."""

    meta_params: MetaParams
    opt_state: Any
    step: jax.Array  # [] int32, steps taken
    num_skipped: jax.Array  # [] int32, steps whose gradient was not finite
    skipped_in_a_row: jax.Array  # [] int32


def init_state(meta_params: MetaParams, tx: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step.

    Every leaf is an array of its own: the state will be donated and must not alias.
    """
    counters = [jnp.zeros((), jnp.int32) for _ in range(3)]
    state = TrainState(meta_params, tx.init(meta_params), *counters)
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)
