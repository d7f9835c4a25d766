"""What an application calls: adapt the shared model to one listener."""

from collections.abc import Callable

import jax
import numpy as np

from metaperser_jax import heads, losses, trees
from metaperser_jax.errors import InputError
from metaperser_jax.meta import inner_loop
from metaperser_jax.typing import Array, Batch, MetaParams, Params


def make_batch(inputs: Array, targets: Array, size: int | None = None) -> Batch:
    """Returns labelled clips as a batch, padded to `size` samples.

    Args:
      inputs: [samples, layers, width] pooled hidden states.
      targets: [samples, classes] multi-hot; NaN = not answered.
      size: samples to pad to, so that sets of any size share one compilation.

    Raises:
      InputError: the shapes do not fit, there are more than `size` samples, or an
        input is not finite (one such clip would make the whole model not a number).
    """
    inputs, targets = np.asarray(inputs), np.asarray(targets, np.float32)
    if inputs.ndim != 3 or targets.ndim != 2:
        raise InputError(
            f"inputs of shape {inputs.shape} and targets of shape {targets.shape}: "
            "expected [samples, layers, width] and [samples, classes]."
        )
    count = len(inputs)
    size = count if size is None else size
    if len(targets) != count or count > size:
        raise InputError(
            f"{count} inputs and {len(targets)} targets for a batch of {size}: "
            "expected as many inputs as targets, and at most the batch size."
        )
    if bad := np.flatnonzero(~np.isfinite(inputs).all((1, 2))).tolist():
        raise InputError(
            f"input {bad[0]} is not finite ({len(bad)} of {count} are not): expected "
            "numbers. Leave such clips out, or look at their recordings."
        )
    padding = size - count
    answered = ~np.isnan(targets)
    return Batch(
        np.pad(inputs, [(0, padding), (0, 0), (0, 0)]),
        np.pad(np.where(answered, targets, 0), [(0, padding), (0, 0)]),
        np.pad(answered, [(0, padding), (0, 0)]),
    )


def default_loss_fn(params: Params, batch: Batch) -> jax.Array:
    """The loss `meta_adapt` uses unless told: multi-label cross-entropy, smoothed.

    The head is read off the shapes of `params` (two linear layers, no activation, and
    the listener's shift where there is one).
    """
    hidden, num_classes = params["classifier"]["kernel"].shape
    width = len(params["listener"]["embedding"]) if "listener" in params else 0
    head = heads.make_head(num_classes, hidden, listener_width=width)
    logits = heads.apply_head(head, params, batch.inputs)
    return losses.multilabel_cross_entropy(
        logits, batch.targets, batch.mask, smoothing=0.05
    )


def meta_adapt(
    meta_params: MetaParams,
    support_set: Batch,
    loss_fn: Callable[[Params, Batch], jax.Array] = default_loss_fn,
    num_steps: int | None = None,
    rate_bounds: tuple[float, float] | None = None,
    proximal: float = 0.0,
) -> Params:
    """Returns the parameters adapted to one listener's support set.

    Pure; jit it, and vmap it over listeners. A support set of any size fits (mask the
    padding: `make_batch`); an empty one returns the shared parameters.

    >>> import jax, numpy as np
    >>> from metaperser_jax import heads, maml, make_batch, meta_adapt
    >>> from metaperser_jax.personal import default_loss_fn
    >>> head = heads.make_head(num_classes=4, hidden=8)
    >>> params = heads.init_head(head, jax.random.key(0), layers=1, width=6)
    >>> meta_params = maml(default_loss_fn, num_steps=5).init(params)
    >>> clips = np.random.default_rng(0).normal(size=(16, 1, 6)).astype(np.float32)
    >>> support_set = make_batch(clips, np.eye(4)[np.arange(16) % 4])
    >>> adapted = jax.jit(meta_adapt)(meta_params, support_set)
    >>> bool(default_loss_fn(adapted, support_set)
    ...      < default_loss_fn(params, support_set))
    True

    Args:
      meta_params: the shared starting point and its learned rates.
      support_set: the listener's labelled clips.
      loss_fn: (params, batch) -> [] loss; the default fits the default head.
      num_steps: inner steps; beyond the learned ones the last rate is repeated.
      rate_bounds: (low, high) to clamp the rates to, as in meta-training.
      proximal: pull towards the shared parameters, as in meta-training.

    Raises:
      InputError: the rates are no inner loop's (a closed form's strength), or
        `num_steps` is asked of rates that were learned for none.
    """
    known = trees.flatten(meta_params.params)
    if foreign := [path for path in meta_params.learning_rates if path not in known]:
        raise InputError(
            f"learning rate of {foreign[0]!r}, which is no parameter: meta_adapt takes "
            "gradient steps. Use the `adapt` of the learner that made these."
        )
    learned = {len(vector) for vector in meta_params.learning_rates.values()}
    loop = inner_loop.InnerLoop(max(learned, default=0), rate_bounds, proximal)
    params, _, _ = inner_loop.run(
        loop, loss_fn, *meta_params, support_set, order="first", num_steps=num_steps
    )
    return params
