"""LSLR: one learned rate per adapted tensor and inner step (MAML++, section 4)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from metaperser_jax import trees
from metaperser_jax.errors import InputError
from metaperser_jax.typing import Array


def init(params: Any, adapt: str, num_steps: int, value: float) -> dict[str, Array]:
    """Returns {path: [num_steps] rates of `value`} for each tensor `adapt` matches.

    The rates carry the dtype of their tensor explicitly: a weak type would compile
    each step twice.

    Raises:
      InputError: no tensor matches, or `num_steps` is negative.
    """
    if num_steps < 0:
        raise InputError(f"num_steps={num_steps}: expected 0 or more inner steps.")
    chosen = trees.select(params, trees.match(params, adapt))
    return {
        path: jnp.full((num_steps,), value, dtype=jnp.result_type(leaf))
        for path, leaf in chosen.items()
    }


def at_steps(
    rates: Mapping[str, Any], num_steps: int, bounds: tuple[float, float] | None
) -> dict[str, jax.Array]:
    """Returns the rates for `num_steps` steps, the last one repeated, and clamped.

    The clamp acts on the value alone: its gradient passes straight through, so that a
    rate that was driven out of bounds can come back.
    """
    extended = {path: _extend(vector, num_steps) for path, vector in rates.items()}
    return {path: _clamp(vector, bounds) for path, vector in extended.items()}


def _extend(vector: Any, num_steps: int) -> jax.Array:
    learned = vector.shape[0]
    if num_steps and not learned:
        raise InputError(
            f"num_steps={num_steps} asked of a learner that was trained with none: "
            "it has no learning rate to repeat."
        )
    index = jnp.minimum(jnp.arange(num_steps), max(learned - 1, 0))
    return jnp.asarray(vector)[index]


def _clamp(vector: jax.Array, bounds: tuple[float, float] | None) -> jax.Array:
    if bounds is None:
        return vector
    return vector + jax.lax.stop_gradient(jnp.clip(vector, *bounds) - vector)
