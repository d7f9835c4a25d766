"""Class-balanced losses for multi-label targets, losses for dimensional ratings.

The softmax family treats a listener's label set as a distribution over classes, as
EMO-SUPERB does; the sigmoid family treats each class as a question of its own. Ratings
of dimensions (valence, arousal, ...) are columns after the classes, in units of the
training listeners' standard deviation (`DimensionScale`). All are masked everywhere.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from metaperser_jax.typing import Array, Batch, Params

Family = Literal["softmax", "sigmoid"]
DimensionLoss = Literal["ccc", "mse", "huber"]
CCC_EPSILON = 1e-6  # squared SDs; bounds the gradient where nothing varies


class DimensionScale(NamedTuple):
    """What makes ratings of dimensions comparable: z = (rating - mean) / deviation."""

    mean: np.ndarray  # [dimensions] in the unit of the ratings
    deviation: np.ndarray  # [dimensions] in the unit of the ratings


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


def fit_dimension_scale(
    dimensions: Float[np.ndarray, "ratings dimensions"],
) -> DimensionScale:
    """Returns the mean and population standard deviation of each dimension.

    Args:
      dimensions: [ratings, dimensions] of the training listeners, NaN = not rated. A
        dimension nobody rated gets mean 0, one without variation deviation 1.
    """
    raw = np.asarray(dimensions, np.float64)
    rated = ~np.isnan(raw)
    count = np.maximum(rated.sum(0), 1)
    mean = np.where(rated, raw, 0.0).sum(0) / count
    deviation = np.sqrt(np.where(rated, (raw - mean[None]) ** 2, 0.0).sum(0) / count)
    flat = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return DimensionScale(
        mean.astype(np.float32), np.where(flat, 1.0, deviation).astype(np.float32)
    )


def join_targets(
    targets: Float[np.ndarray, "ratings classes"],
    mask: Bool[np.ndarray, "ratings classes"],
    dimensions: Float[np.ndarray, "ratings dimensions"],
    scale: DimensionScale,
) -> tuple[Float[np.ndarray, "ratings outputs"], Bool[np.ndarray, "ratings outputs"]]:
    """Appends standardised ratings of dimensions to the columns of the classes.

    Args:
      targets: [ratings, classes] multi-hot; there may be no classes.
      mask: [ratings, classes] True where answered.
      dimensions: [ratings, dimensions] as rated, NaN = not rated.
      scale: of the training listeners.

    Returns:
      targets [ratings, classes + dimensions] float32, 0 where not rated, and mask.
    """
    rated = ~np.isnan(dimensions)
    z = (dimensions - scale.mean[None]) / scale.deviation[None]
    return (
        np.concatenate([targets, np.where(rated, z, 0.0)], 1).astype(np.float32),
        np.concatenate([mask, rated], 1),
    )


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
    class_weights: Float[Array, "... classes"] | None = None,
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
        losses = losses * (y * jnp.broadcast_to(class_weights, y.shape)).sum(-1)
    return masked_mean(losses, present)


def multilabel_bce(
    logits: Float[Array, "samples classes"],
    targets: Float[Array, "samples classes"],
    mask: Bool[Array, "samples classes"],
    class_weights: Float[Array, "... classes"] | None = None,
    smoothing: float = 0.0,
) -> Float[jax.Array, ""]:
    """Returns the class-balanced binary cross-entropy, in nats per answered cell.

    Each class is a yes/no question, with targets smoothed towards one half.
    """
    y = (1.0 - smoothing) * targets + 0.5 * smoothing
    losses = jnp.logaddexp(0.0, logits) - y * logits
    if class_weights is not None:
        losses = losses * jnp.broadcast_to(class_weights, y.shape)
    return masked_mean(losses, mask)


LOSSES = {"softmax": multilabel_cross_entropy, "sigmoid": multilabel_bce}


def concordance_loss(
    values: Float[Array, "samples dimensions"],
    targets: Float[Array, "samples dimensions"],
    mask: Bool[Array, "samples dimensions"],
) -> Float[jax.Array, ""]:
    """Returns 1 - CCC, mean over the dimensions with two rated clips or more.

    CCC = 2 cov / (var x + var y + (mean x - mean y)^2) with population moments (Lin,
    1989), and `CCC_EPSILON` added below the line. Where ratings or predictions are all
    the same it is 0, the loss 1; with equal ratings the gradient is 0 as well: they
    teach nothing. Without a dimension that counts, loss and gradient are 0.
    """
    kept = mask.astype(values.dtype)
    number = kept.sum(0)  # [dimensions]
    share = kept / jnp.maximum(number, 1.0)[None]
    x, y = jnp.where(mask, values, 0.0), jnp.where(mask, targets, 0.0)
    mean_x, mean_y = (share * x).sum(0), (share * y).sum(0)
    x, y = x - mean_x[None], y - mean_y[None]
    spread = (share * (x * x + y * y)).sum(0) + jnp.square(mean_x - mean_y)
    ccc = 2.0 * (share * x * y).sum(0) / (spread + CCC_EPSILON)
    return masked_mean(1.0 - ccc, number >= 2)


def squared_error_loss(
    values: Float[Array, "samples dimensions"],
    targets: Float[Array, "samples dimensions"],
    mask: Bool[Array, "samples dimensions"],
) -> Float[jax.Array, ""]:
    """Returns the mean squared error, mean over the dimensions that are rated.

    Without a rating, loss and gradient are 0.
    """
    errors = jnp.where(mask, values - targets, 0.0)
    return _mean_of_dimensions(jnp.square(errors), mask)


def huber_loss(
    values: Float[Array, "samples dimensions"],
    targets: Float[Array, "samples dimensions"],
    mask: Bool[Array, "samples dimensions"],
) -> Float[jax.Array, ""]:
    """Returns Huber's loss (1964), mean over the dimensions that are rated.

    e^2 / 2 up to one standard deviation, |e| - 1/2 beyond: the gradient of a clip is
    bounded, as that of the cross-entropy is, so that an inner step of the same rate
    does not run away. Without a rating, loss and gradient are 0.
    """
    errors = jnp.where(mask, values - targets, 0.0)
    size = jnp.abs(errors)
    near = 0.5 * jnp.square(errors)
    return _mean_of_dimensions(jnp.where(size <= 1.0, near, size - 0.5), mask)


def _mean_of_dimensions(losses: jax.Array, mask: Array) -> jax.Array:
    """Averages [samples, dimensions] over the rated clips, then the dimensions."""
    number = mask.sum(0)  # [dimensions]
    per_dimension = losses.sum(0) / jnp.maximum(number, 1).astype(losses.dtype)
    return masked_mean(per_dimension, number > 0)


DIMENSION_LOSSES = {
    "ccc": concordance_loss,
    "mse": squared_error_loss,
    "huber": huber_loss,
}


def make_loss_fn(
    apply_fn: Callable[[Params, Array], jax.Array],
    family: Family = "softmax",
    class_balanced: bool = False,
    smoothing: float = 0.0,
    num_dimensions: int = 0,
    dimension_loss: DimensionLoss = "ccc",
    dimension_weight: float = 1.0,
) -> Callable[[Params, Batch], jax.Array]:
    """Returns loss_fn(params, batch) -> [] for a model of logits and dimensions.

    The loss is that of the classes, the first columns, plus `dimension_weight` times
    that of the dimensions, the last; what a model lacks adds nothing.

    Args:
      apply_fn: (params, inputs [samples, ...]) -> outputs [samples, classes +
        dimensions].
      family: 'softmax' (label set as a distribution) or 'sigmoid' (yes/no per class).
      class_balanced: weigh labels with `batch.weights`, see
        `effective_number_weights`.
      smoothing: label smoothing e in [0, 1).
      num_dimensions: how many of the last columns are dimensions.
      dimension_loss: 'ccc' or 'mse'.
      dimension_weight: of the dimensions' loss.
    """
    loss, of_dimensions = LOSSES[family], DIMENSION_LOSSES[dimension_loss]

    def loss_fn(params: Params, batch: Batch) -> jax.Array:
        outputs = apply_fn(params, batch.inputs)
        columns = (outputs, batch.targets, batch.mask)
        num_classes = outputs.shape[-1] - num_dimensions
        total = jnp.zeros((), outputs.dtype)
        if num_classes:
            logits, y, answered = (x[:, :num_classes] for x in columns)
            weights = None
            if class_balanced:
                assert batch.weights is not None, "a class-balanced loss needs weights"
                weights = batch.weights[:, :num_classes]
            total = loss(logits, y, answered, weights, smoothing)
        if num_dimensions:
            values, y, rated = (x[:, num_classes:] for x in columns)
            total = total + dimension_weight * of_dimensions(values, y, rated)
        return total

    return loss_fn


def link(rates: Array, family: Family) -> jax.Array:
    """Returns the logits whose prediction is `rates`: log, or log-odds."""
    tiny = jnp.finfo(jnp.result_type(rates)).eps
    rates = jnp.clip(rates, tiny, 1.0 - tiny)
    return jnp.log(rates) - (0.0 if family == "softmax" else jnp.log1p(-rates))


def predict(logits: Array, family: Family) -> jax.Array:
    """Returns probabilities [..., classes] of the family."""
    return jax.nn.softmax(logits) if family == "softmax" else jax.nn.sigmoid(logits)


def on_classes(
    fn: Callable[[jax.Array], jax.Array], columns: Array, num_dimensions: int
) -> jax.Array:
    """Applies `fn` to the classes' columns and leaves those of dimensions as they are.

    Args:
      fn: [..., classes] -> [..., classes], for example `predict` or `link`.
      columns: [..., classes + dimensions].
      num_dimensions: how many of the last columns are dimensions.
    """
    columns = jnp.asarray(columns)
    num_classes = columns.shape[-1] - num_dimensions
    if not num_dimensions:
        return fn(columns)
    if not num_classes:
        return columns
    classes = fn(columns[..., :num_classes])
    return jnp.concatenate([classes, columns[..., num_classes:]], axis=-1)
