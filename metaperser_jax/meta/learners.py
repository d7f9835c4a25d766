"""Learners: MAML and its baselines as NamedTuples of pure functions.

Each constructor returns `MetaLearner(init, adapt, meta_loss)`. A learner knows a loss
over parameters and a batch; it knows neither audio nor the model. The constructors that
need more of the model say so in their arguments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import trees
from metaperser_jax.errors import InputError
from metaperser_jax.kernels import FixedDense
from metaperser_jax.meta import dual, inner_loop, learning_rates
from metaperser_jax.meta.inner_loop import InnerLoop, LossFn
from metaperser_jax.typing import (
    AdaptInfo,
    Array,
    Batch,
    Data,
    Episode,
    Inner,
    MetaInfo,
    MetaParams,
    Order,
    Params,
)

PredictFn = Callable[[Params, Array], jax.Array]  # inputs -> rates [samples, outputs]
ReadFn = Callable[[Any], Episode]
STRENGTH = "strength"  # how many clips the shared model is worth, [1]
DUAL_CHUNK = 16  # tasks adapted at once: what they keep stays in the caches
NO_STEPS = AdaptInfo(np.zeros((0,), np.float32))  # numpy: no device at import


def _no_units(_: MetaParams, __: Array) -> None:
    return None


class MetaLearner(NamedTuple):
    """One method: how it starts, how it adapts, and what meta-training minimises.

    init: params -> MetaParams.
    adapt: (meta_params, support, *, order) -> (params, AdaptInfo).
    meta_loss: (meta_params, episodes, *, order) -> (loss, MetaInfo); `episodes` has a
      leading tasks axis. With `read`, (one entry of `episodes`) -> Episode, they are
      read task by task, for example by index from a pool on the device. `weights`
      [tasks] are those of a sum over the tasks; None takes the mean.
    adapt_for: (meta_params, support, query, *, order, observe) -> (params, AdaptInfo,
      seen). The same as `adapt`, for parameters that are applied to the inputs of
      `query` alone: kernels may then be known by their products (`kernels.dense`).
      `observe(params)` is taken after each inner step, `seen` are its stacked results.
    units_fn: (meta_params, inputs [rows, ...]) -> [rows, units] what `adapt_for` may be
      given as `units`, gathered for support and query; None where it takes none.
    """

    init: Callable[[Params], MetaParams]
    adapt: Callable[..., tuple[Params, AdaptInfo]]
    meta_loss: Callable[..., tuple[jax.Array, MetaInfo]]
    adapt_for: Callable[..., tuple[Params, AdaptInfo, Any]]
    units_fn: Callable[[MetaParams, Array], jax.Array | None] = _no_units


def maml(
    loss_fn: LossFn,
    num_steps: int = 5,
    adapt: str = ".*",
    init_learning_rate: float = 1e-2,
    *,
    support_loss_fn: LossFn | None = None,
    rate_bounds: tuple[float, float] | None = None,
    proximal: float = 0.0,
    multi_step_weights: tuple[float, ...] | None = None,
    task_chunk: int | None = None,
    remat: bool = False,
    layer: FixedDense | None = None,
    inner: Inner = "auto",
) -> MetaLearner:
    """MAML with per-layer per-step learning rates (Finn et al. 2017; MAML++ 2019).

    ANIL is `adapt='classifier/.*'`; FOMAML is order='first' throughout; MAML with one
    fixed rate keeps the learning rates out of the outer optimiser; plain fine-tuning
    is `adapt` from trained parameters; `num_steps=0` is plain training.

    Args:
      loss_fn: (params, batch) -> [] loss, of the query set.
      num_steps: inner steps n.
      adapt: regular expression over parameter paths, matched in full.
      init_learning_rate: every rate's start.
      support_loss_fn: what the inner steps descend, for losses that a few clips
        cannot tell well; None takes `loss_fn`.
      rate_bounds: (low, high) the rates are clamped to when used.
      proximal: weight of |phi - theta|^2 / 2 in the inner loss.
      multi_step_weights: [num_steps] weights of the query loss after each step
        (MAML++); None takes the loss after the last step.
      task_chunk: how many tasks are adapted at once; None: all in the general form,
        as many as the caches like in the dual form.
      remat: recompute inner steps in the backward pass, where memory matters.
      layer: the model's dense layer on its inputs, which the loss functions apply by
        `kernels.dense`; None: there is none, and no dual form.
      inner: 'general' takes gradients of the parameters; 'dual' never forms the
        adapted kernel of `layer` (the same results, see `meta.dual`); 'auto' is dual
        where that is smaller.

    Raises:
      InputError: an argument that cannot be.
    """
    _check_maml(num_steps, multi_step_weights, task_chunk, layer, inner)
    loop = InnerLoop(num_steps, rate_bounds, proximal, remat)
    inner_loss_fn = support_loss_fn or loss_fn

    def init(params: Params) -> MetaParams:
        rates = learning_rates.init(params, adapt, num_steps, init_learning_rate)
        return MetaParams(params, rates)

    def is_dual(meta_params: MetaParams, support: Data) -> bool:
        return inner != "general" and dual.applies(
            layer, meta_params.learning_rates, support, inner == "dual"
        )

    def run(
        meta_params: MetaParams, support: Data, query: Data | None, **options: Any
    ) -> tuple[Params, AdaptInfo, Any]:
        if layer is not None and is_dual(meta_params, support):
            return dual.run(
                loop, inner_loss_fn, layer, *meta_params, support, query, **options
            )
        options.pop("prepared", None)
        return inner_loop.run(loop, inner_loss_fn, *meta_params, support, **options)

    def adapt_fn(
        meta_params: MetaParams,
        support: Data,
        *,
        order: Order = "first",
        num_steps: int | None = None,
    ) -> tuple[Params, AdaptInfo]:
        params, info, _ = run(
            meta_params, support, None, order=order, num_steps=num_steps
        )
        return params, info

    def adapt_for(
        meta_params: MetaParams,
        support: Data,
        query: Data,
        *,
        order: Order = "first",
        num_steps: int | None = None,
        observe: Callable[[Params], Any] | None = None,
        units: tuple[Array, Array] | None = None,
    ) -> tuple[Params, AdaptInfo, Any]:
        prepared = None
        if layer is not None and units is not None and is_dual(meta_params, support):
            prepared = dual.prepare(layer, *meta_params, support, query, order, units)
        return run(
            meta_params,
            support,
            query,
            order=order,
            num_steps=num_steps,
            observe=observe,
            prepared=prepared,
        )

    def units_fn(meta_params: MetaParams, inputs: Array) -> jax.Array | None:
        fixed = layer and dual.has_fixed_inputs(layer, meta_params.learning_rates)
        if layer is None or not fixed or inner == "general":
            return None
        return dual.known_units(layer, meta_params.params, inputs)

    def task_loss(
        meta_params: MetaParams, episode: Episode, order: Order, prepared: Any = None
    ) -> tuple[jax.Array, AdaptInfo]:
        weights = multi_step_weights
        params, info, losses = run(
            meta_params,
            *episode,
            order=order,
            prepared=prepared,
            observe=weights and (lambda params: loss_fn(params, episode.query)),
        )
        if weights is None:
            return loss_fn(params, episode.query), info
        return jnp.asarray(weights, losses.dtype) @ losses, info

    general_loss = _episodic(task_loss, task_chunk)

    def meta_loss(
        meta_params: MetaParams,
        episodes: Any,
        *,
        order: Order = "first",
        read: ReadFn = _as_it_is,
        weights: Array | None = None,
    ) -> tuple[jax.Array, MetaInfo]:
        def general() -> tuple[jax.Array, MetaInfo]:
            return general_loss(
                meta_params, episodes, order=order, read=read, weights=weights
            )

        support, _ = jax.eval_shape(read, jax.tree.map(lambda x: x[0], episodes))
        if layer is None or not is_dual(meta_params, support):
            return general()
        if not dual.has_fixed_inputs(layer, meta_params.learning_rates):
            return general()

        def one(shared: MetaParams, learned: Any, task: Any) -> tuple[jax.Array, Any]:
            episode, fixed = task
            prepared = dual.join(learned, fixed)
            return task_loss(shared, read(episode), order, prepared)

        prepared = dual.prepare_all(
            layer, *meta_params, jax.vmap(read)(episodes), order
        )
        learned, fixed = dual.split_learned(layer, prepared)
        loss, per_task, infos = inner_loop.mean_over_tasks(
            one,
            dual.shared_part(layer, meta_params),
            learned,
            (episodes, fixed),
            task_chunk or DUAL_CHUNK,
            weights,
        )
        support_losses = trees.average(infos.support_losses, weights)
        return loss, MetaInfo(loss, support_losses, per_task)

    return MetaLearner(init, adapt_fn, meta_loss, adapt_for, units_fn)


def _as_it_is(episode: Episode) -> Episode:
    return episode


def _check_maml(
    num_steps: int,
    weights: Any,
    task_chunk: int | None,
    layer: FixedDense | None,
    inner: str,
) -> None:
    if inner not in get_args(Inner):
        expected = ", ".join(get_args(Inner))
        raise InputError(f"inner={inner!r}: expected one of {expected}.")
    if inner == "dual" and layer is None:
        raise InputError("inner='dual' needs `layer`, the dense layer on the inputs.")
    if num_steps < 0:
        raise InputError(f"num_steps={num_steps}: expected 0 or more inner steps.")
    if weights is not None and len(weights) != num_steps:
        raise InputError(
            f"multi_step_weights has {len(weights)} entries: expected one for each of "
            f"the {num_steps} inner steps."
        )
    if task_chunk is not None and task_chunk < 1:
        raise InputError(f"task_chunk={task_chunk}: expected 1 or more, or None.")


def _episodic(
    task_loss: Callable[..., tuple[jax.Array, AdaptInfo]],
    task_chunk: int | None = None,
) -> Callable[..., tuple[jax.Array, MetaInfo]]:
    """Lifts the loss of one task to the mean over the tasks of a meta-batch."""

    def meta_loss(
        meta_params: MetaParams,
        episodes: Any,
        *,
        order: Order = "first",
        read: ReadFn = _as_it_is,
        weights: Array | None = None,
    ) -> tuple[jax.Array, MetaInfo]:
        def one(task: Any) -> tuple[jax.Array, AdaptInfo]:
            return task_loss(meta_params, read(task), order)

        per_task, infos = inner_loop.over_tasks(one, episodes, task_chunk)
        loss, support_losses = trees.average((per_task, infos.support_losses), weights)
        return loss, MetaInfo(loss, support_losses, per_task)

    return meta_loss


def _adapts_without_steps(
    loss_fn: LossFn,
    init: Callable[[Params], MetaParams],
    closed_form: Callable[[MetaParams, Batch], Params],
) -> MetaLearner:
    """A learner whose adaptation is a formula, and whose outer loss is episodic."""

    def adapt(
        meta_params: MetaParams, support: Batch, *, order: Order = "first"
    ) -> tuple[Params, AdaptInfo]:
        return closed_form(meta_params, support), NO_STEPS

    def adapt_for(
        meta_params: MetaParams, support: Batch, query: Batch, *, order: Order = "first"
    ) -> tuple[Params, AdaptInfo, Any]:
        return (*adapt(meta_params, support, order=order), None)

    def task_loss(
        meta_params: MetaParams, episode: Episode, order: Order
    ) -> tuple[jax.Array, AdaptInfo]:
        params, info = adapt(meta_params, episode.support, order=order)
        return loss_fn(params, episode.query), info

    return MetaLearner(init, adapt, _episodic(task_loss), adapt_for)


def _no_rates(params: Params) -> MetaParams:
    return MetaParams(params, {})


def _with_strength(strength: float) -> Callable[[Params], MetaParams]:
    """A closed form keeps its smoothing where others keep rates: it can be learned."""
    return lambda params: MetaParams(params, {STRENGTH: jnp.full((1,), strength)})


def _strength(meta_params: MetaParams) -> jax.Array:
    return jnp.maximum(meta_params.learning_rates[STRENGTH][0], 1e-3)


def no_adaptation(loss_fn: LossFn) -> MetaLearner:
    """The shared model as it is; its outer loss is plain pooled training."""
    return _adapts_without_steps(loss_fn, _no_rates, lambda meta, _: meta.params)


def reptile(
    loss_fn: LossFn,
    num_steps: int = 5,
    adapt: str = ".*",
    init_learning_rate: float = 1e-2,
    *,
    support_loss_fn: LossFn | None = None,
    task_chunk: int | None = None,
    layer: FixedDense | None = None,
    inner: Inner = "auto",
) -> MetaLearner:
    """Reptile (Nichol et al. 2018): the meta-gradient is theta - phi.

    It is expressed as the loss |theta - phi|^2 / 2 with phi held fixed; `query_loss`
    in MetaInfo is the loss on the query set after adaptation, for the log.
    """
    learner = maml(
        loss_fn,
        num_steps,
        adapt,
        init_learning_rate,
        support_loss_fn=support_loss_fn,
        layer=layer,
        inner=inner,
    )

    def meta_loss(
        meta_params: MetaParams,
        episodes: Any,
        *,
        order: Order = "first",
        read: ReadFn = _as_it_is,
        weights: Array | None = None,
    ) -> tuple[jax.Array, MetaInfo]:
        def one(task: Any) -> tuple[jax.Array, jax.Array, AdaptInfo]:
            episode = read(task)
            phi, info = learner.adapt(meta_params, episode.support, order="first")
            drift = trees.subtract(meta_params.params, jax.lax.stop_gradient(phi))
            return 0.5 * trees.squared_norm(drift), loss_fn(phi, episode.query), info

        surrogate, per_task, infos = inner_loop.over_tasks(one, episodes, task_chunk)
        loss, query_loss, support_losses = trees.average(
            (surrogate, per_task, infos.support_losses), weights
        )
        return loss, MetaInfo(query_loss, support_losses, per_task)

    return MetaLearner(learner.init, learner.adapt, meta_loss, learner.adapt_for)


def base_rate(
    loss_fn: LossFn,
    prior: Array,
    link_fn: Callable[[Array], jax.Array],
    rates_fn: Callable[[Batch], tuple[jax.Array, jax.Array]],
    *,
    strength: float = 1.0,
    classifier: str = "classifier",
) -> MetaLearner:
    """The listener's own base rate: what it says whatever it hears.

    The classifier's kernel is zero and its bias the link of the smoothed rates
    (sum of targets + strength * prior) / (answers + strength). For a dimension this is
    the listener's mean rating, shrunk towards that of the training listeners.

    Args:
      loss_fn: (params, batch) -> [] loss.
      prior: [outputs] rates of the training listeners; 0 for standardised dimensions.
      link_fn: rates [outputs] -> logits [outputs]; the identity for dimensions.
      rates_fn: batch -> (sum of targets [outputs], answers [outputs]).
      strength: how many clips the prior is worth.
      classifier: path of the layer that holds `kernel` and `bias`.
    """

    def closed_form(meta_params: MetaParams, support: Batch) -> Params:
        total, answers = rates_fn(support)
        worth = _strength(meta_params)
        rates = (total + worth * jnp.asarray(prior)) / (answers + worth)
        kernel = trees.flatten(meta_params.params)[f"{classifier}/kernel"]
        # Not zeros_like: XLA's CPU backend loses the bias when a batched product with
        # a constant zero is compiled inside a loop.
        leaves = {
            f"{classifier}/kernel": 0.0 * kernel,
            f"{classifier}/bias": link_fn(rates),
        }
        return trees.replace(meta_params.params, leaves)

    return _adapts_without_steps(loss_fn, _with_strength(strength), closed_form)


def prior_calibration(
    loss_fn: LossFn,
    predict_fn: PredictFn,
    link_fn: Callable[[Array], jax.Array],
    rates_fn: Callable[[Batch], tuple[jax.Array, jax.Array]],
    *,
    strength: float = 4.0,
    classifier: str = "classifier",
) -> MetaLearner:
    """Shifts the shared model's bias by the listener's base rate, nothing else.

    bias += link(smoothed rates) - link(mean prediction on the support clips), where the
    rates are smoothed towards that mean prediction by `strength` clips. An empty
    support set changes nothing. For a dimension, whose link is the identity, this adds
    the mean residual on the n rated clips, times n / (n + strength).
    """

    def closed_form(meta_params: MetaParams, support: Batch) -> Params:
        total, answers = rates_fn(support)
        predicted = predict_fn(meta_params.params, support.inputs)
        kept = jnp.where(support.mask, predicted, 0.0).sum(0)  # [outputs]
        mean = kept / jnp.maximum(support.mask.sum(0), 1).astype(kept.dtype)
        mean = jnp.where(answers > 0, mean, 0.5)
        worth = _strength(meta_params)
        rates = (total + worth * mean) / (answers + worth)
        shift = jnp.where(answers > 0, link_fn(rates) - link_fn(mean), 0.0)
        path = f"{classifier}/bias"
        bias = trees.flatten(meta_params.params)[path]
        return trees.replace(meta_params.params, {path: bias + shift})

    return _adapts_without_steps(loss_fn, _with_strength(strength), closed_form)


def prototypes(
    loss_fn: LossFn,
    embed_fn: PredictFn,
    *,
    strength: float = 4.0,
    classifier: str = "classifier",
    num_dimensions: int = 0,
) -> MetaLearner:
    """Prototypes per class for multi-label data (after Snell et al. 2017).

    A class prototype is the mean embedding of the support clips that carry the label,
    smoothed towards the shared one: p_c = (sum f + strength w_c/2) / (n_c + strength),
    w_c the classifier's column. Since -|f - p_c|^2 is linear in f up to a constant, the
    adapted classifier is kernel 2 p_c and bias b_c + |w_c/2|^2 - |p_c|^2: with no
    support it is the shared classifier itself.

    A dimension has no classes to be near to: its column, one of the last
    `num_dimensions`, keeps the shared kernel, and its bias moves by the mean residual
    on the n rated clips, times n / (n + strength).
    """

    def closed_form(meta_params: MetaParams, support: Batch) -> Params:
        leaves = trees.flatten(meta_params.params)
        kernel = leaves[f"{classifier}/kernel"]  # [hidden, outputs]
        bias = leaves[f"{classifier}/bias"]
        num_classes = bias.shape[0] - num_dimensions
        units = embed_fn(meta_params.params, support.inputs)  # [samples, hidden]
        given = jnp.where(support.mask, support.targets, 0.0)  # [samples, outputs]
        worth = _strength(meta_params)
        centred, offset = _class_centres(
            units, given[:, :num_classes], kernel[:, :num_classes], worth
        )
        if num_dimensions:
            centred = jnp.concatenate([centred, kernel[:, num_classes:]], axis=1)
            residual = given - units @ kernel - bias[None]
            total = jnp.where(support.mask, residual, 0.0).sum(0)
            shift = total / (support.mask.sum(0) + worth)  # [outputs]
            offset = jnp.concatenate([offset, shift[num_classes:]])
        adapted = {
            f"{classifier}/kernel": centred,
            f"{classifier}/bias": bias + offset,
        }
        return trees.replace(meta_params.params, adapted)

    return _adapts_without_steps(loss_fn, _with_strength(strength), closed_form)


def _class_centres(
    units: jax.Array, given: jax.Array, kernel: jax.Array, worth: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the adapted kernel [hidden, classes] and the bias' change [classes]."""
    shared = kernel / 2
    centres = (units.T @ given + worth * shared) / (given.sum(0) + worth)[None, :]
    offset = jnp.square(shared).sum(0) - jnp.square(centres).sum(0)
    return 2 * centres, offset


def nearest_listener(loss_fn: LossFn) -> MetaLearner:
    """The known listener whose own model explains the support set best.

    `init` takes the bank: parameters with a leading listeners axis. An empty support
    set ties all losses and takes the first, so the bank should start with the shared
    model.
    """

    def closed_form(meta_params: MetaParams, support: Batch) -> Params:
        losses = jax.vmap(lambda params: loss_fn(params, support))(meta_params.params)
        return trees.take(meta_params.params, jnp.argmin(losses))

    return _adapts_without_steps(loss_fn, _no_rates, closed_form)
