"""Steps that train an encoder together with the head, from waveforms.

A step may take several batches, of other padded lengths: their gradients are summed
before the optimiser moves, so that it moves as if they had been one.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from metaperser_jax import trees
from metaperser_jax.losses import LOSSES, Family, normalise_targets
from metaperser_jax.training.state import TrainState
from metaperser_jax.training.steps import apply_if_finite
from metaperser_jax.typing import Array, MetaParams

ENCODER, HEAD = "encoder", "head"  # the two groups of parameters
LIMIT = 10.0  # standard deviations, what lies beyond is clipped, as in features
KEY_IMPLEMENTATION = "rbg"  # noise for dropout: a fifth of threefry's compile time

EncodeFn = Callable[[Any, Any, Array, Array, jax.Array], Array]
LogitsFn = Callable[[Any, Array], jax.Array]


class ClipBatch(NamedTuple):
    """Some clips with all that was said of them."""

    waveforms: Array  # [clips, samples]
    lengths: Array  # [clips] samples, 0 = no clip
    clip: Array  # [pairs] int32, which of the clips a label is for
    targets: Array  # [pairs, classes] multi-hot, 0 where not answered
    mask: Array  # [pairs, classes] True = this answer counts; padding is all False


class Fixed(NamedTuple):
    """What steps read and leave as it is; an argument, so that folds share steps."""

    frozen: Any  # the encoder's parameters that are not trained
    mean: Array  # [layers, width] of the head's inputs
    scale: Array  # [layers, width]
    limit: Array  # [] of what the head sees, infinite for none
    class_weights: Array  # [classes]


class Sums(NamedTuple):
    """What batches add up to."""

    loss: jax.Array  # [] over the terms
    count: jax.Array  # [] terms
    grads: Any  # of `loss`


def make_gradient(
    encode_fn: EncodeFn, logits_fn: LogitsFn, family: Family, smoothing: float
) -> Callable[[Any, Fixed, ClipBatch, jax.Array], Sums]:
    """Returns gradient(params, fixed, batch, key) -> sums; compiles for each length.

    Each clip is encoded once, however many listeners labelled it.

    Args:
      encode_fn: (frozen, trained, waveforms, lengths, key) -> [clips, layers, width].
      logits_fn: (head's params, [clips, layers, width]) -> [clips, classes].
      family: of the loss.
      smoothing: of the labels.
    """

    def total(params: Any, fixed: Fixed, batch: ClipBatch, key: jax.Array):
        pooled = encode_fn(
            fixed.frozen, params[ENCODER], batch.waveforms, batch.lengths, key
        )
        inputs = standardise(pooled, fixed)
        logits = logits_fn(params[HEAD], inputs)[batch.clip]  # [pairs, classes]
        targets, mask = batch.targets, batch.mask
        loss = LOSSES[family](logits, targets, mask, fixed.class_weights, smoothing)
        count = count_terms(targets, mask, family)
        return loss * count, count

    @jax.jit
    def gradient(params: Any, fixed: Fixed, batch: ClipBatch, key: jax.Array) -> Sums:
        grad_fn = jax.value_and_grad(total, has_aux=True)
        (loss, count), grads = grad_fn(params, fixed, batch, key)
        return Sums(loss, count, grads)

    return gradient


def standardise(
    pooled: Float[Array, "clips layers width"], fixed: Fixed
) -> Float[jax.Array, "clips layers width"]:
    """Returns what the head sees of hidden states, as features are standardised.

    The gradient passes as if nothing were clipped, so that it reaches outliers too.
    """
    scaled = (jnp.asarray(pooled) - fixed.mean[None]) / fixed.scale[None]
    clipped = jnp.clip(scaled, -fixed.limit, fixed.limit)
    return scaled + jax.lax.stop_gradient(clipped - scaled)


def count_terms(
    targets: Float[Array, "pairs classes"], mask: Bool[Array, "pairs classes"], family
) -> Float[jax.Array, ""]:
    """Returns how many terms a loss is the mean of: label sets, or answered cells."""
    if family == "softmax":
        mask = normalise_targets(targets, mask).sum(-1) > 0
    return mask.sum().astype(jnp.float32)


@functools.partial(jax.jit, donate_argnums=0)
def add_sums(a: Sums, b: Sums) -> Sums:
    """Returns a + b."""
    return trees.add(a, b)


def make_tuning_step(
    tx: optax.GradientTransformation,
) -> Callable[[TrainState, Sums], tuple[TrainState, jax.Array]]:
    """Returns tuning_step(state, sums) -> state, mean loss; the state is donated.

    A step whose loss or gradient is not finite changes nothing and is counted.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def tuning_step(state: TrainState, sums: Sums) -> tuple[TrainState, jax.Array]:
        share = 1.0 / jnp.maximum(sums.count, 1.0)
        grads = MetaParams(trees.scale(sums.grads, share), {})
        state, _ = apply_if_finite(state, grads, sums.loss * share, tx)
        return state, sums.loss * share

    return tuning_step


def tuning_optimizer(
    learning_rate: float,
    head_learning_rate: float,
    num_steps: int,
    *,
    warmup: float = 0.1,
    weight_decay: float = 1e-4,
    clip_norm: float = 1.0,
) -> optax.GradientTransformation:
    """Returns AdamW for `MetaParams` of an encoder and a head.

    Both rates rise linearly and then fall linearly to zero. Biases and scales are not
    decayed.

    Args:
      learning_rate: highest one, of the encoder.
      head_learning_rate: highest one, of the head.
      num_steps: in all.
      warmup: share of the steps in which the rates rise.
      weight_decay: of kernels.
      clip_norm: largest global norm of the gradient of both together.
    """
    rates = {ENCODER: learning_rate, HEAD: head_learning_rate}
    groups: dict[Hashable, optax.GradientTransformation] = {
        name: optax.adamw(
            rise_and_fall(rate, num_steps, warmup),
            weight_decay=weight_decay,
            mask=_kernels,
        )
        for name, rate in rates.items()
    }
    return optax.chain(
        optax.clip_by_global_norm(clip_norm), optax.partition(groups, _labels)
    )


def rise_and_fall(
    highest: float, num_steps: int, warmup: float
) -> Callable[[Any], jax.Array]:
    """Returns a schedule: up to `highest` at the end of the warm-up, then down to 0."""
    rising = max(round(warmup * num_steps), 1)
    falling = max(num_steps - rising, 1)

    def schedule(count: Any) -> jax.Array:
        up, down = (count + 1) / rising, (num_steps - count) / falling
        return highest * jnp.clip(jnp.minimum(up, down), 0.0, 1.0)

    return schedule


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def _labels(meta_params: MetaParams) -> MetaParams:
    params = {
        name: jax.tree.map(lambda _, name=name: name, part)
        for name, part in meta_params.params.items()
    }
    return MetaParams(params, {})
