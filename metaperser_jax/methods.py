"""The methods that are compared: which learner, trained how, tuned over what."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import heads, losses
from metaperser_jax.kernels import FixedDense
from metaperser_jax.losses import DimensionLoss, Family
from metaperser_jax.meta import learners
from metaperser_jax.meta.learners import STRENGTH, MetaLearner
from metaperser_jax.settings import MetaSettings, Settings
from metaperser_jax.typing import Array, Batch, MetaParams, Params, SupportMode

LISTENER_WIDTH = 16  # of the embedding baseline
FINE_TUNE_STEPS = 20
FINE_TUNE_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RATE_SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)  # 0: does not adapt
STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 1e6)


class Model(NamedTuple):
    """A head as pure functions of its parameters."""

    init_fn: Callable[[jax.Array], Params]  # key -> fresh parameters
    loss_fn: Callable[[Params, Batch], jax.Array]  # of a pool or of a query set
    predict_fn: Callable[[Params, Array], jax.Array]  # -> [samples, outputs]:
    #   probabilities of the classes, then standardised values of the dimensions
    embed_fn: Callable[[Params, Array], jax.Array]  # -> [samples, hidden]
    link_fn: Callable[[Array], jax.Array]  # rates -> logits; dimensions: the identity
    rates_fn: Callable[[Batch], tuple[jax.Array, jax.Array]]  # sums, answers [outputs]
    support_loss_fn: Callable[[Params, Batch], jax.Array]  # of a support set; the
    #   same object as loss_fn where the two do not differ
    layer: FixedDense  # the dense layer on the inputs, for the dual form


class ModelSpec(NamedTuple):
    """What fixes a model; hashable, so that folds share compiled functions."""

    layers: int
    width: int
    num_classes: int
    hidden: int
    activation: str
    family: Family
    smoothing: float
    class_balanced: bool  # weigh labels with the weights of their batch
    listener_width: int = 0
    num_dimensions: int = 0  # columns after the classes; then there may be no class
    dimension_loss: DimensionLoss = "ccc"  # of pools and query sets
    dimension_support_loss: DimensionLoss = "huber"  # of support sets, see docs
    dimension_weight: float = 1.0  # of the dimensions beside the classes


class Recipe(NamedTuple):
    """How a method is trained; None = as configured for the full method."""

    learner: str
    mode: SupportMode | None = None
    second_order_from: float | None = None
    learn_rates: bool = True


RECIPES: dict[str, Recipe] = {
    "full": Recipe("maml"),
    "minus_csmt": Recipe("maml", mode="disjoint"),
    "minus_da": Recipe("maml", second_order_from=0.0),
    "minus_lslr": Recipe("maml", learn_rates=False),
    "maml": Recipe("maml", "disjoint", 0.0, learn_rates=False),
    "fomaml": Recipe("maml", "disjoint", 1.0, learn_rates=False),
    "anil": Recipe("anil"),
    "reptile": Recipe("reptile", second_order_from=1.0, learn_rates=False),
    "prototypes": Recipe("prototypes", second_order_from=1.0),
    "listener_embedding": Recipe("listener_embedding"),
}
# Methods without meta-training of their own: what they start from.
DERIVED = {
    "no_adaptation": "pretrain",
    "base_rate": "pretrain",
    "prior_calibration": "pretrain",
    "fine_tune": "pretrain",
    "scratch": "random",
    "nearest_listener": "pretrain",
    "oracle": "full",
    "wrong_listener": "full",
}


@functools.lru_cache(maxsize=64)
def make_model(spec: ModelSpec) -> Model:
    """Returns the head of a specification; the same object for the same one."""
    head = heads.make_head(
        spec.num_classes,
        spec.hidden,
        spec.activation,
        spec.listener_width,
        spec.num_dimensions,
    )
    apply_fn = functools.partial(heads.apply_head, head)
    predict = functools.partial(losses.predict, family=spec.family)
    link = functools.partial(losses.link, family=spec.family)

    def predict_fn(params: Params, inputs: Array) -> jax.Array:
        outputs = apply_fn(params, inputs)
        return losses.on_classes(predict, outputs, spec.num_dimensions)

    loss_fn = _make_loss_fn(spec, apply_fn, spec.dimension_loss)
    same = not spec.num_dimensions or spec.dimension_support_loss == spec.dimension_loss
    return Model(
        lambda key: heads.init_head(head, key, spec.layers, spec.width),
        loss_fn,
        predict_fn,
        functools.partial(heads.embed_inputs, head),
        lambda rates: losses.on_classes(link, rates, spec.num_dimensions),
        functools.partial(label_totals, spec),
        loss_fn if same else _make_loss_fn(spec, apply_fn, spec.dimension_support_loss),
        heads.first_layer(spec.layers),
    )


def _make_loss_fn(
    spec: ModelSpec,
    apply_fn: Callable[[Params, Array], jax.Array],
    dimension_loss: DimensionLoss,
) -> Callable[[Params, Batch], jax.Array]:
    return losses.make_loss_fn(
        apply_fn,
        spec.family,
        spec.class_balanced,
        spec.smoothing,
        spec.num_dimensions,
        dimension_loss,
        spec.dimension_weight,
    )


def label_totals(spec: ModelSpec, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Returns the sum of the targets [outputs] and the number of answers [outputs].

    In the softmax family a label set counts as one answer, shared by its labels. For
    dimensions these are the sum of the standardised ratings and their number.
    """
    total = jnp.where(batch.mask, batch.targets, 0.0).sum(0)
    answers = jnp.asarray(batch.mask).sum(0)
    if spec.family == "sigmoid" or not spec.num_classes:
        return total, answers
    classes = slice(spec.num_classes)
    y = losses.normalise_targets(batch.targets[:, classes], batch.mask[:, classes])
    shared = jnp.broadcast_to(y.sum(), y.shape[1:])
    if not spec.num_dimensions:
        return y.sum(0), shared
    rest = slice(spec.num_classes, None)
    return (
        jnp.concatenate([y.sum(0), total[rest]]),
        jnp.concatenate([shared, answers[rest].astype(shared.dtype)]),
    )


def make_maml(model: Model, meta: MetaSettings, adapt: str) -> MetaLearner:
    """Returns MAML as configured, adapting the tensors that match `adapt`."""
    bounded = bool(meta.rate_bounds)
    low, high = meta.rate_bounds or (0.0, 0.0)
    return learners.maml(
        model.loss_fn,
        meta.num_steps,
        adapt,
        meta.init_learning_rate,
        support_loss_fn=model.support_loss_fn,
        rate_bounds=(low, high) if bounded else None,
        proximal=meta.proximal,
        multi_step_weights=meta.multi_step_weights or None,
        task_chunk=meta.task_chunk or None,
        remat=meta.remat,
        layer=model.layer,
        inner=meta.inner,
    )


@functools.lru_cache(maxsize=256)
def make_learner(
    name: str, spec: ModelSpec, meta: MetaSettings, prior: tuple[float, ...] = ()
) -> MetaLearner:
    """Returns the learner of a recipe (or of a derived method) for a model.

    Args:
      name: of the learner.
      spec: of the model.
      meta: settings of the inner loop.
      prior: [classes] rates of the training listeners, read by 'base_rate'; those of
        dimensions, standardised, are 0.
    """
    model = make_model(spec)
    loss_fn, support_loss_fn = model.loss_fn, model.support_loss_fn
    rates = np.asarray((*prior, *(0.0,) * spec.num_dimensions), np.float32)
    makers: dict[str, Callable[[], MetaLearner]] = {
        "maml": lambda: make_maml(model, meta, meta.adapt),
        "anil": lambda: make_maml(model, meta, "classifier/.*"),
        "listener_embedding": lambda: make_maml(model, meta, "listener/embedding"),
        "reptile": lambda: learners.reptile(
            loss_fn,
            meta.num_steps,
            meta.adapt,
            meta.init_learning_rate,
            support_loss_fn=support_loss_fn,
            layer=model.layer,
            inner=meta.inner,
        ),
        "prototypes": lambda: learners.prototypes(
            loss_fn, model.embed_fn, num_dimensions=spec.num_dimensions
        ),
        "no_adaptation": lambda: learners.no_adaptation(loss_fn),
        "nearest_listener": lambda: learners.nearest_listener(support_loss_fn),
        "fine_tune": lambda: learners.maml(
            loss_fn,
            FINE_TUNE_STEPS,
            support_loss_fn=support_loss_fn,
            layer=model.layer,
            inner=meta.inner,
        ),
        "prior_calibration": lambda: learners.prior_calibration(
            loss_fn, model.predict_fn, model.link_fn, model.rates_fn
        ),
        "base_rate": lambda: learners.base_rate(
            loss_fn, rates, model.link_fn, model.rates_fn
        ),
    }
    return makers[name]()


def learner_of(method: str) -> str:
    """Returns the learner that a method adapts with."""
    if method in RECIPES:
        return RECIPES[method].learner
    shared = {"scratch": "fine_tune", "oracle": "fine_tune", "wrong_listener": "maml"}
    return shared.get(method, method)


def spec_for(method: str, spec: ModelSpec) -> ModelSpec:
    """Returns the model a method uses: only the embedding baseline has its own."""
    if method == "listener_embedding":
        return spec._replace(listener_width=LISTENER_WIDTH)
    return spec


def extend_params(params: Params, like: Params) -> Params:
    """Returns `like` with the values of `params` where both have a tensor."""
    return {
        name: extend_params(params[name], value)
        if isinstance(value, dict) and name in params
        else params.get(name, value)
        for name, value in like.items()
    }


def candidates(method: str, meta_params: MetaParams) -> list[dict[str, Any]]:
    """Returns the inner rates (or strengths) that development listeners choose from.

    Every method is tuned the same way: fine-tuning over rate, scope and (by
    `first_steps`) steps; learned rates over a common factor, 0 being no adaptation;
    closed forms over how much the shared model is worth.
    """
    rates = meta_params.learning_rates
    if STRENGTH in rates:
        grid = STRENGTHS if method not in RECIPES else ()
        values = [jnp.full((1,), s) for s in grid] or [rates[STRENGTH]]
        return [{STRENGTH: value} for value in values]
    if learner_of(method) == "fine_tune":
        return [
            {
                path: jnp.full_like(v, rate if scope in path else 0.0)
                for path, v in rates.items()
            }
            for rate in FINE_TUNE_RATES
            for scope in ("", "classifier")
        ]
    return [
        {path: v * np.float32(scale) for path, v in rates.items()}
        for scale in (RATE_SCALES if rates else (1.0,))
    ]


def first_steps(rates: dict[str, Any], num_steps: int) -> dict[str, Any]:
    """Returns the rates with all steps after the first `num_steps` set to 0."""
    return {
        path: jnp.where(jnp.arange(v.shape[0]) < num_steps, v, 0.0)
        for path, v in rates.items()
    }


def model_spec(
    settings: Settings, layers: int, width: int, num_classes: int, num_dimensions: int
) -> ModelSpec:
    """Returns the model's specification.

    Args:
      settings: of the run.
      layers: hidden-state layers of the features.
      width: of the features.
      num_classes: that are learned; 0 for dimensions alone.
      num_dimensions: that are learned.
    """
    loss = settings.loss
    return ModelSpec(
        layers,
        width,
        num_classes,
        settings.head.hidden,
        settings.head.activation,
        loss.family,
        loss.smoothing,
        loss.class_balanced and num_classes > 0,
        num_dimensions=num_dimensions,
        dimension_loss=loss.dimension_loss,
        dimension_support_loss=loss.dimension_support_loss,
        dimension_weight=loss.dimension_weight,
    )
