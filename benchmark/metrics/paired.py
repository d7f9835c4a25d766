"""Is one method better than another for the same listeners?"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from benchmark.metrics.base import Array, Scalar
from benchmark.metrics.bootstrap import centred, interval

EXACT_LIMIT = 16  # listeners up to which all sign patterns are tried
BLOCK_SIZE = 256  # random sign patterns drawn at a time


class PairedDifference(NamedTuple):
    """Method a minus method b, in the metric's own unit and sign."""

    mean: jax.Array  # [] mean over listeners
    low: jax.Array  # [] percentile interval of the paired, centred replicates
    high: jax.Array  # []
    p_bootstrap: jax.Array  # [] two-sided: does the interval reach 0?
    p_permutation: jax.Array  # [] two-sided sign-flip test over listeners
    share_worse: jax.Array  # [] share of the listeners for whom a is worse than b
    num_listeners: jax.Array  # [] int32, listeners for whom both are defined


@functools.partial(
    jax.jit, static_argnames=("higher_is_better", "num_permutations", "level")
)
def paired_difference(
    values_a: Float[Array, "listeners"],
    values_b: Float[Array, "listeners"],
    replicates_a: Float[Array, "resamples"],
    replicates_b: Float[Array, "resamples"],
    key: Key[Array, ""] | None = None,
    *,
    higher_is_better: bool = True,
    tolerance: Scalar = 0.0,
    num_permutations: int = 9999,
    level: float = 0.95,
) -> PairedDifference:
    """Compares method a (new) with method b (baseline) on the same listeners.

    The two p-values answer different questions. The bootstrap's is about listeners
    and clips of the population; it is twice the smaller share of replicates on either
    side of 0, counting the estimate itself, so at least 2 / (resamples + 1). The
    permutation's is about whether a and b are exchangeable for these listeners; it
    assumes nothing else, and cannot fall below 2 / 2**listeners.

    Args:
      values_a: [listeners] from `bootstrap`, NaN where undefined (left out).
      values_b: [listeners] of the same listeners.
      replicates_a: [resamples] drawn with the same key as `replicates_b`.
      replicates_b: [resamples].
      key: for the random sign flips, used above `EXACT_LIMIT` listeners only; a fixed
        key when None.
      higher_is_better: the metric's direction, see `base.higher_is_better`.
      tolerance: a listener is worse off when a loses more than this.
      num_permutations: number of random sign flips.
      level: of the interval.
    """
    difference = values_a - values_b
    valid = ~jnp.isnan(difference)
    number = jnp.sum(valid)
    mean = jnp.sum(jnp.where(valid, difference, 0)) / number
    replicates = centred(replicates_a - replicates_b, mean)
    low, high = interval(replicates, level)
    gain = difference if higher_is_better else -difference
    return PairedDifference(
        mean=mean,
        low=low,
        high=high,
        p_bootstrap=bootstrap_p_value(replicates),
        p_permutation=sign_flip_p_value(difference, key, num_permutations),
        share_worse=jnp.sum(gain < -tolerance) / number,
        num_listeners=number.astype(jnp.int32),
    )


@jax.jit
def bootstrap_p_value(replicates: Float[Array, "resamples"]) -> Float[jax.Array, ""]:
    """Returns the two-sided p-value of 'the difference is 0'; NaN if a replicate is."""
    tail = jnp.minimum(jnp.sum(replicates <= 0), jnp.sum(replicates >= 0))
    p_value = jnp.minimum(2 * (tail + 1) / (replicates.size + 1), 1.0)
    return jnp.where(jnp.any(jnp.isnan(replicates)), jnp.nan, p_value)


@functools.partial(jax.jit, static_argnames=("num_permutations",))
def sign_flip_p_value(
    differences: Float[Array, "listeners"],
    key: Key[Array, ""] | None = None,
    num_permutations: int = 9999,
) -> Float[jax.Array, ""]:
    """Returns the two-sided p-value of the mean difference under random signs.

    Exact up to `EXACT_LIMIT` listeners; beyond, `num_permutations` random patterns
    and (1 + hits) / (1 + patterns), which keeps the level (Phipson and Smyth, 2010).

    Args:
      differences: [listeners], NaN are left out.
      key: of the random patterns; a fixed one when None.
      num_permutations: number of random patterns.
    """
    kept = jnp.nan_to_num(differences)  # a 0 changes no sum, whatever its sign
    # sums of the same numbers in another order differ by rounding
    bound = jnp.abs(jnp.sum(kept)) - 1e-5 * jnp.sum(jnp.abs(kept))

    def hit(positive: Bool[Array, "listeners"]) -> jax.Array:
        return jnp.abs(jnp.sum(jnp.where(positive, kept, -kept))) >= bound

    if differences.size <= EXACT_LIMIT:
        # one sign stays: a pattern and its mirror image have the same |sum|
        patterns = jnp.arange(2 ** max(differences.size - 1, 0))[:, None]
        bits = patterns >> jnp.arange(differences.size)[None] & 1
        return jnp.mean(jax.vmap(hit)(bits == 0), dtype=kept.dtype)
    key = jax.random.key(0) if key is None else key

    def draw(block):
        shape = (BLOCK_SIZE, differences.size)
        return jax.vmap(hit)(
            jax.random.bernoulli(jax.random.fold_in(key, block), shape=shape)
        )

    hits = jax.lax.map(draw, jnp.arange(-(-num_permutations // BLOCK_SIZE)))
    return (1 + jnp.sum(hits.ravel()[:num_permutations])) / (1 + num_permutations)


@jax.jit
def holm(p_values: Float[Array, "tests"]) -> Float[jax.Array, "tests"]:
    """Returns p-values adjusted for the number of tests (Holm, 1979).

    Step-down Bonferroni: controls the chance of any false finding, whatever the
    dependence between the tests.
    """
    number = p_values.size
    order = jnp.argsort(p_values)
    scaled = p_values[order] * jnp.arange(number, 0, -1)
    adjusted = jnp.minimum(jax.lax.cummax(scaled), 1.0)
    return jnp.zeros(number, adjusted.dtype).at[order].set(adjusted)
