"""Class-balanced losses for multi-label targets, masked everywhere.

The softmax family treats a listener's label set as a distribution over classes, as
EMO-SUPERB does; the sigmoid family treats each class as a question of its own.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from metaperser_jax.typing import Array, Batch, Params

Family = Literal["softmax", "sigmoid"]


def effective_number_weights(counts: np.ndarray) -> np.ndarray:
    """Returns class weights by the effective number of samples, which sum to C.

    beta = (N-1)/N with N the sum of the counts, w_c = (1-beta)/(1-beta^n_c), rescaled
    (Cui et al., CVPR 2019, eq. 4). A class never seen gets the weight of one seen once.

    Args:
      counts: [classes] how often each class was given, on the training listeners.
    """
    counts = np.maximum(np.asarray(counts, np.float64), 1.0)
    total = counts.sum()
    beta = (total - 1.0) / total
    weights = (1.0 - beta) / (1.0 - beta**counts) if beta > 0 else np.ones_like(counts)
    return (weights * len(counts) / weights.sum()).astype(np.float32)


def normalise_targets(
    targets: Float[Array, "*samples classes"], mask: Bool[Array, "*samples classes"]
) -> Float[jax.Array, "*samples classes"]:
    """Returns each label set as a distribution: multi-hot / number of labels.

    A sample without an answered label stays all zero.
    """
    kept = jnp.where(mask, targets, 0.0)
    total = kept.sum(-1, keepdims=True)
    return kept / jnp.where(total > 0, total, 1.0)


def masked_mean(values: Array, mask: Array) -> jax.Array:
    """Returns the mean of `values` where `mask`, and 0 where nothing is kept."""
    kept = jnp.where(mask, values, 0.0).sum()
    return kept / jnp.maximum(mask.sum(), 1).astype(kept.dtype)


def multilabel_cross_entropy(
    logits: Float[Array, "samples classes"],
    targets: Float[Array, "samples classes"],
    mask: Bool[Array, "samples classes"],
    class_weights: Float[Array, " classes"] | None = None,
    smoothing: float = 0.0,
) -> Float[jax.Array, ""]:
    """Returns the class-balanced cross-entropy over a set of clips, in nats per clip.

    y = multi-hot / labels given, smoothed y <- (1-e) y + (1-y) e/(C-1); a clip's loss
    is (sum_c w_c y_c) * CE(softmax(logits), y) (EMO-SUPERB). A clip without labels
    does not count; an empty set has loss 0.
    """
    y = normalise_targets(targets, mask)
    present = y.sum(-1) > 0  # [samples]
    y = (1.0 - smoothing) * y + (1.0 - y) * smoothing / (logits.shape[-1] - 1)
    losses = -(y * jax.nn.log_softmax(logits)).sum(-1)
    if class_weights is not None:
        losses = losses * (y @ class_weights)
    return masked_mean(losses, present)


def multilabel_bce(
    logits: Float[Array, "samples classes"],
    targets: Float[Array, "samples classes"],
    mask: Bool[Array, "samples classes"],
    class_weights: Float[Array, " classes"] | None = None,
    smoothing: float = 0.0,
) -> Float[jax.Array, ""]:
    """Returns the class-balanced binary cross-entropy, in nats per answered cell.

    Each class is a yes/no question, with targets smoothed towards one half.
    """
    y = (1.0 - smoothing) * targets + 0.5 * smoothing
    losses = jnp.logaddexp(0.0, logits) - y * logits
    if class_weights is not None:
        losses = losses * class_weights[None, :]
    return masked_mean(losses, mask)


LOSSES = {"softmax": multilabel_cross_entropy, "sigmoid": multilabel_bce}


def make_loss_fn(
    apply_fn: Callable[[Params, Array], jax.Array],
    family: Family = "softmax",
    class_weights: np.ndarray | None = None,
    smoothing: float = 0.0,
) -> Callable[[Params, Batch], jax.Array]:
    """Returns loss_fn(params, batch) -> [] for a model of logits.

    Args:
      apply_fn: (params, inputs [samples, ...]) -> logits [samples, classes].
      family: 'softmax' (label set as a distribution) or 'sigmoid' (yes/no per class).
      class_weights: [classes], as of `effective_number_weights`; None for none.
      smoothing: label smoothing e in [0, 1).
    """
    loss = LOSSES[family]

    def loss_fn(params: Params, batch: Batch) -> jax.Array:
        logits = apply_fn(params, batch.inputs)
        return loss(logits, batch.targets, batch.mask, class_weights, smoothing)

    return loss_fn


def link(rates: Array, family: Family) -> jax.Array:
    """Returns the logits whose prediction is `rates`: log, or log-odds."""
    tiny = jnp.finfo(jnp.result_type(rates)).eps
    rates = jnp.clip(rates, tiny, 1.0 - tiny)
    return jnp.log(rates) - (0.0 if family == "softmax" else jnp.log1p(-rates))


def predict(logits: Array, family: Family) -> jax.Array:
    """Returns probabilities [..., classes] of the family."""
    return jax.nn.softmax(logits) if family == "softmax" else jax.nn.sigmoid(logits)
