"""Outer optimisers: AdamW for theta, Adam for the learned rates, one clip."""

from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metaperser_jax.typing import MetaParams


def outer_optimizer(
    learning_rate: float,
    rate_learning_rate: float,
    *,
    weight_decay: float = 1e-4,
    clip_norm: float = 1.0,
    cosine_steps: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser of `MetaParams`.

    The two learning rates are hyper-parameters in the optimiser's state, so that
    methods that differ only in them share one compiled step; see `with_rates_frozen`.

    Args:
      learning_rate: AdamW's, for theta.
      rate_learning_rate: Adam's, for the learned rates; these are never decayed.
      weight_decay: of theta.
      clip_norm: largest global norm of the gradient of theta and rates together.
      cosine_steps: anneal both to zero over that many steps; None keeps them.
    """

    def build(
        learning_rate: jax.Array, rate_learning_rate: jax.Array
    ) -> optax.GradientTransformation:
        groups: dict[Hashable, optax.GradientTransformation] = {
            "params": optax.adamw(
                _annealed(learning_rate, cosine_steps), weight_decay=weight_decay
            ),
            "rates": optax.adam(_annealed(rate_learning_rate, cosine_steps)),
        }
        return optax.chain(
            optax.clip_by_global_norm(clip_norm),
            optax.partition(groups, _labels),
        )

    return optax.inject_hyperparams(build)(
        learning_rate=np.asarray(learning_rate, np.float32),
        rate_learning_rate=np.asarray(rate_learning_rate, np.float32),
    )


def _annealed(value: jax.Array, steps: int | None) -> jax.Array | Callable:
    if steps is None:
        return value
    shape = optax.cosine_decay_schedule(1.0, steps)
    return lambda count: value * shape(count)


def _labels(meta_params: MetaParams) -> MetaParams:
    params, rates = meta_params
    return MetaParams(
        jax.tree.map(lambda _: "params", params), jax.tree.map(lambda _: "rates", rates)
    )


def with_rates_frozen(opt_state):
    """Returns the optimiser state with the inner rates held where they are."""
    frozen = {**opt_state.hyperparams, "rate_learning_rate": jnp.float32(0.0)}
    return opt_state._replace(hyperparams=frozen)
