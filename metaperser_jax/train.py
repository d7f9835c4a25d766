"""Training: SSL-E pretraining, then meta-training of each method, fold by fold."""

import functools
import json
import logging
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from metaperser_jax import methods
from metaperser_jax.checkpoints import Checkpoints, save_meta_params
from metaperser_jax.data.episodes import WIDTH_GRAIN, EpisodeSampler, round_up
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluation import evaluators
from metaperser_jax.experiment import (
    Experiment,
    FoldData,
    flat_pairs,
    plan_dev,
    prepare_fold,
    selection_loss,
    stage_folder,
    trained_methods,
)
from metaperser_jax.features import save_scaler
from metaperser_jax.meta.learners import MetaLearner
from metaperser_jax.meta.schedules import derivative_order
from metaperser_jax.training import durations, optimizers, state, steps
from metaperser_jax.training.writers import Writer
from metaperser_jax.typing import Batch, MetaParams, Params

log = logging.getLogger(__name__)

DEV_DRAWS = 4
DEV_SEED, EPISODE_SEED, PRETRAIN_SEED = 101, 102, 103


def train(experiment: Experiment) -> None:
    """Trains every stage of every fold that is not complete yet."""
    for fold in experiment.folds:
        data = prepare_fold(experiment, fold)
        folder = stage_folder(experiment.workdir, fold.index, "pretrain").parent
        folder.mkdir(parents=True, exist_ok=True)
        save_scaler(folder, data.scaler)
        note_left_out(experiment, data)
        shared = pretrain(experiment, data)
        for method in trained_methods(experiment.settings):
            meta_train(experiment, data, shared, method)


def note_left_out(experiment: Experiment, data: FoldData) -> None:
    """Counts training listeners with too few clips for an episode."""
    if not any(trained_methods(experiment.settings)):
        return
    if left_out := EpisodeSampler(data.train, 2, seed=0).num_left_out:
        experiment.problems.warning(
            "listener_left_out",
            f"fold {data.fold.index}, training",
            f"{left_out} listener(s) rated a single clip there: no episode from them",
        )


def initial_params(experiment: Experiment, data: FoldData, method: str) -> Params:
    """Returns a method's fresh parameters; the same seed for all methods of a fold."""
    model = methods.make_model(methods.spec_for(method, data.spec))
    key = jax.random.fold_in(jax.random.key(experiment.settings.seed), data.fold.index)
    return model.init_fn(key)


def pretrain(experiment: Experiment, data: FoldData) -> Params:
    """SSL-E: the head on all (clip, listener label) pairs; returns the best epoch's."""
    settings = experiment.settings
    chosen = settings.pretrain
    model = methods.make_model(data.spec)
    learner = methods.make_learner("no_adaptation", data.spec, settings.meta)
    tx = _optimizer(chosen.learning_rate, 0.0, chosen.weight_decay, 1.0, None)
    epoch_fn = _pretrain_epoch(model.loss_fn, tx)
    train_data = everything(evaluators.to_device(data.train))
    rows = np.flatnonzero(data.train.annotator >= 0)
    dev_loss = dev_loss_fn(experiment, data, learner, data.spec)
    start = state.init_state(
        learner.init(initial_params(experiment, data, "pretrain")), tx
    )

    def advance(current: state.TrainState, epoch: int) -> tuple[Any, dict[str, float]]:
        index = epoch_index(
            rows, chosen.batch_size, (settings.seed, PRETRAIN_SEED, epoch)
        )
        current, losses = epoch_fn(current, train_data, index)
        return current, {"train_loss": float(losses.mean())}

    stage = Stage(
        "pretrain",
        stage_folder(experiment.workdir, data.fold.index, "pretrain"),
        chosen.epochs,
        max(chosen.epochs // chosen.evaluations, 1),
        advance,
        dev_loss,
    )
    return run_stage(experiment, stage, start).params


def meta_train(
    experiment: Experiment, data: FoldData, shared: Params, method: str
) -> MetaParams:
    """Meta-trains one method from the pretrained head; returns the best checkpoint."""
    settings, recipe = experiment.settings, methods.RECIPES[method]
    meta, spec = settings.meta, methods.spec_for(method, data.spec)
    learner = methods.make_learner(recipe.learner, spec, meta)
    sampler = EpisodeSampler(data.train, 2, seed=settings.seed * 1000 + EPISODE_SEED)
    num_tasks = min(meta.num_tasks, sampler.num_listeners)
    total = durations.to_steps(
        meta.duration, math.ceil(sampler.num_listeners / num_tasks)
    )
    tx = _optimizer(
        meta.learning_rate,
        meta.rate_learning_rate,
        meta.weight_decay,
        meta.clip_norm,
        total if meta.cosine else None,
    )
    step_fn = _meta_train_step(learner, tx)
    start = state.init_state(
        learner.init(
            methods.extend_params(shared, initial_params(experiment, data, method))
        ),
        tx,
    )
    if not recipe.learn_rates:
        start = start._replace(opt_state=optimizers.with_rates_frozen(start.opt_state))
    annealed_from = meta.second_order_from
    if recipe.second_order_from is not None:
        annealed_from = recipe.second_order_from

    def advance(current: state.TrainState, step: int) -> tuple[Any, dict[str, Any]]:
        drawn = sampler.sample(
            step,
            num_tasks,
            meta.num_support,
            meta.num_query,
            recipe.mode or meta.mode,
        )
        order = derivative_order(step, total, annealed_from)
        current, metrics = step_fn(current, drawn, order=order)
        return current, {"train_loss": metrics["query_loss"]}

    def listeners_at(step: int) -> list[str]:
        places = sampler.listeners_at(step, num_tasks)
        return [experiment.corpus.annotators[sampler.annotators[p]] for p in places]

    stage = Stage(
        method,
        stage_folder(experiment.workdir, data.fold.index, method),
        total,
        max(total // meta.evaluations, 1),
        advance,
        dev_loss_fn(experiment, data, learner, spec),
        listeners_at,
    )
    return run_stage(experiment, stage, start)


@functools.lru_cache(maxsize=32)
def _optimizer(learning_rate, rate_learning_rate, weight_decay, clip_norm, cosine):
    return optimizers.outer_optimizer(
        learning_rate,
        rate_learning_rate,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        cosine_steps=cosine,
    )


# Methods and folds that share learner and optimiser share their compiled steps.
_meta_train_step = functools.lru_cache(maxsize=64)(steps.make_meta_train_step)
_pretrain_epoch = functools.lru_cache(maxsize=64)(steps.make_pretrain_epoch)


def everything(pool: evaluators.DevicePool) -> Batch:
    """Returns all ratings of a pool as one batch [ratings, ...]."""
    return Batch(pool.inputs[pool.row], pool.targets, pool.mask)


def epoch_index(rows: np.ndarray, batch_size: int, seed: tuple[int, ...]) -> jax.Array:
    """Returns [steps, batch] the rows in a new order, topped up to whole batches.

    The number of batches is a multiple of 16 where there are as many: folds of nearly
    one size share a compilation.
    """
    order = np.random.default_rng(seed).permutation(rows)
    size = min(batch_size, len(rows))
    steps = math.ceil(len(rows) / size)
    steps = round_up(steps) if steps > WIDTH_GRAIN else steps
    return jnp.asarray(np.resize(order, (steps, size)), jnp.int32)


def dev_loss_fn(
    experiment: Experiment,
    data: FoldData,
    learner: MetaLearner,
    spec: methods.ModelSpec,
) -> Callable[[MetaParams], float]:
    """Returns meta_params -> mean loss of development listeners once adapted."""
    settings = experiment.settings
    plan = plan_dev(
        data,
        settings,
        settings.evaluation.headline_support,
        DEV_DRAWS,
        settings.seed * 1000 + DEV_SEED,
    )
    pool = evaluators.to_device(data.dev)
    support, query = flat_pairs(plan, settings.evaluation.headline_support)
    score_fn = selection_loss(spec)

    def dev_loss(meta_params: MetaParams) -> float:
        rates = jax.tree.map(lambda leaf: leaf[None], meta_params.learning_rates)
        scores = evaluators.candidate_scores(
            learner.adapt, score_fn, meta_params.params, rates, pool, support, query, 1
        )
        return float(scores.mean())

    return dev_loss


class Stage(NamedTuple):
    """One outer optimisation: where it is kept and how it goes forward."""

    name: str
    folder: pathlib.Path
    total: int  # steps
    every: int  # steps between two looks at the development listeners
    advance: Callable[[state.TrainState, int], tuple[Any, dict[str, Any]]]
    dev_loss: Callable[[MetaParams], float]
    listeners_at: Callable[[int], list[str]] | None = None

    @property
    def label(self) -> str:
        """What the console calls it."""
        return f"fold {self.folder.parent.name[-2:]} {self.name}"


def run_stage(
    experiment: Experiment, stage: Stage, start: state.TrainState
) -> MetaParams:
    """Runs (or resumes) one stage and returns the parameters best on dev listeners.

    Every `every` steps the development loss is taken and a checkpoint written; a
    resumed run continues from the newest readable one, to the same numbers.
    """
    begun = time.monotonic()
    with (
        Checkpoints(stage.folder / "checkpoints") as checkpoints,
        Writer(stage.folder, experiment.settings.tensorboard) as writer,
    ):
        current, first = _resume(stage, start, checkpoints, writer, experiment.problems)
        current = _go_on(experiment, stage, current, first, checkpoints, writer)
        best = checkpoints.best(start)
    report_skipped(current, stage.label, experiment.problems)
    seconds = time.monotonic() - begun
    log.info(
        "%s: %d steps in %.1f s, best at %d",
        stage.label, stage.total - first, seconds, best.step,
    )  # fmt: skip
    save_meta_params(stage.folder, best.tree.meta_params)
    return jax.tree.map(jnp.asarray, best.tree.meta_params)


def _resume(
    stage: Stage,
    start: state.TrainState,
    checkpoints: Checkpoints,
    writer: Writer,
    problems: Problems,
) -> tuple[state.TrainState, int]:
    """Returns the newest readable state and its step, or the start, saved as step 0."""
    found = checkpoints.latest(start, problems)
    writer.drop_after(found.step if found else -1)
    if found is not None:
        return jax.tree.map(jnp.asarray, found.tree), found.step
    _look(stage, start, 0, {}, checkpoints, writer)
    return start, 0


def _go_on(
    experiment: Experiment,
    stage: Stage,
    current: state.TrainState,
    first: int,
    checkpoints: Checkpoints,
    writer: Writer,
) -> state.TrainState:
    """Takes the steps that are left; training losses are means since the last look."""
    most = experiment.settings.meta.max_skipped
    seen: list[dict[str, Any]] = []
    bar = tqdm(total=stage.total, initial=first, desc=stage.label, disable=None)
    for done in range(first + 1, stage.total + 1):
        current, scalars = stage.advance(current, done - 1)
        seen.append(scalars)
        bar.update()
        if done % stage.every == 0 or done == stage.total:
            refuse_divergence(
                current, most, stage.label, stage.folder, stage.listeners_at
            )
            means = {k: float(np.mean([s[k] for s in seen])) for k in scalars}
            loss = _look(stage, current, done, means, checkpoints, writer)
            bar.set_postfix(dev_loss=f"{loss:.4f}", refresh=False)
            seen = []
    bar.close()
    return current


def _look(
    stage: Stage,
    current: state.TrainState,
    step: int,
    scalars: dict[str, float],
    checkpoints: Checkpoints,
    writer: Writer,
) -> float:
    """Asks the development listeners and saves; returns their loss."""
    loss = stage.dev_loss(current.meta_params)
    writer.write(step, {**scalars, "dev_loss": loss})
    info = {"total": stage.total, "every": stage.every}
    checkpoints.save(step, current, finite_or_huge(loss), info)
    return loss


def finite_or_huge(loss: float) -> float:
    """Returns the loss, or the largest number if it is not finite: never the best."""
    return loss if math.isfinite(loss) else 1e30


def refuse_divergence(
    current: state.TrainState,
    most: int,
    label: str,
    folder: pathlib.Path,
    listeners_at: Callable[[int], list[str]] | None = None,
) -> None:
    """Stops a run whose loss or gradient has not been finite for `most` steps.

    Who was in the batches of those steps is written to diverged.json.

    Raises:
      InputError: with what to change.
    """
    in_a_row, step = int(current.skipped_in_a_row), int(current.step)
    if in_a_row < most:
        return
    where = ""
    if listeners_at is not None:
        batches = {n: listeners_at(n) for n in range(step - in_a_row, step)}
        path = folder / "diverged.json"
        path.write_text(json.dumps(batches, indent=1, ensure_ascii=False))
        where = f" Who was in the batches: {path}."
    raise InputError(
        f"{label}: loss or gradient was not finite {in_a_row} steps in a row (at step "
        f"{step}). Lower meta.init_learning_rate or meta.learning_rate, or bound the "
        f"rates with meta.rate_bounds.{where}"
    )


def report_skipped(current: state.TrainState, label: str, problems: Problems) -> None:
    """Counts skipped steps among the problems."""
    if skipped := int(current.num_skipped):
        problems.warning(
            "skipped_steps", label, f"{skipped} steps were not finite and skipped"
        )
