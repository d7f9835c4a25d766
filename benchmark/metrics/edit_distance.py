"""Edit distance of many pairs of token ids at once, jitted.

The tie rule is that of `sequence`, whose counts of texts are the same.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int

from benchmark.metrics.base import Array


class EditCounts(NamedTuple):
    """Edits of each pair; summable over pairs."""

    substitutions: Array  # [pairs]
    deletions: Array  # [pairs]
    insertions: Array  # [pairs]
    reference_length: Array  # [pairs]


@jax.jit
def edit_distance(
    references: Int[Array, "pairs reference"],
    hypotheses: Int[Array, "pairs hypothesis"],
    reference_mask: Bool[Array, "pairs reference"],
    hypothesis_mask: Bool[Array, "pairs hypothesis"],
) -> EditCounts:
    """Counts the edits of each pair.

    The table of Wagner and Fischer (1974) is filled by anti-diagonals, whose cells do
    not depend on each other. The tie rule is that of `sequence`.

    Args:
      references: [pairs, reference] token ids.
      hypotheses: [pairs, hypothesis] token ids.
      reference_mask: [pairs, reference] True where a token counts, anywhere in the row.
      hypothesis_mask: [pairs, hypothesis] the same of the hypotheses.

    Returns:
      `EditCounts` of int32 [pairs].

    Raises:
      ValueError: when the sequences are so long that costs do not fit 32 bits.
    """
    num_reference, num_hypothesis = references.shape[1], hypotheses.shape[1]
    unit = max(num_reference, num_hypothesis) + 1
    if (num_reference + num_hypothesis) * unit >= _INFINITE:
        raise ValueError(
            f"sequences of {num_reference} and {num_hypothesis} tokens are too long "
            "for 32 bits: cut them, or use sequence.count_edits"
        )
    references, lengths = _compact(references, reference_mask)
    hypotheses, heard = _compact(hypotheses, hypothesis_mask)
    one_pair = functools.partial(_cheapest, unit=unit)
    costs = jax.vmap(one_pair)(references, hypotheses, lengths, heard)
    edits, substitutions = jnp.divmod(costs, unit)
    deletions = (edits - substitutions + lengths - heard) // 2
    insertions = edits - substitutions - deletions
    return EditCounts(substitutions, deletions, insertions, lengths)


_INFINITE = 2**30


def _compact(tokens: Array, mask: Array) -> tuple[jax.Array, jax.Array]:
    """Moves the tokens that count to the front; returns them and their number."""
    order = jnp.argsort(jnp.logical_not(mask), axis=1, stable=True)
    lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
    return jnp.take_along_axis(jnp.asarray(tokens), order, axis=1), lengths


def _cheapest(
    reference: jax.Array,
    hypothesis: jax.Array,
    length: jax.Array,
    heard: jax.Array,
    *,
    unit: int,
) -> jax.Array:
    """Returns the cost of the cheapest alignment of one pair.

    Cell i of diagonal k is the cost of the first i reference tokens against the first
    k - i hypothesis tokens; cells with k - i < 0 stay infinite. Cells beyond the
    hypothesis are filled with what is never read.
    """
    rows, columns = reference.shape[0], hypothesis.shape[0]
    padded = jnp.pad(
        hypothesis[::-1], (rows, rows + 1)
    )  # a slice holds token k - i - 1 at i
    consumed = jnp.pad(reference, (1, 0))  # at i: token i - 1
    infinite = jnp.full(rows + 1, _INFINITE, jnp.int32)

    def shifted(diagonal: jax.Array) -> jax.Array:  # at i: cell i - 1
        return jnp.concatenate([infinite[:1], diagonal[:-1]])

    def step(carry, k):
        before, last, answer = carry
        tokens = jax.lax.dynamic_slice_in_dim(padded, columns + rows - k, rows + 1)
        replaced = jnp.where(tokens == consumed, 0, unit + 1)
        diagonal = jnp.minimum(shifted(last), last) + unit
        diagonal = jnp.minimum(diagonal, shifted(before) + replaced)
        diagonal = jnp.minimum(diagonal, _INFINITE)
        answer = jnp.where(k == length + heard, diagonal[length], answer)
        return (last, diagonal, answer), None

    start = infinite.at[0].set(0)
    diagonals = jnp.arange(1, rows + columns + 1)
    carry = (infinite, start, jnp.int32(0))
    (_, _, answer), _ = jax.lax.scan(step, carry, diagonals)
    return answer
