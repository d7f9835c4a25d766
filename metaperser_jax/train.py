"""Training: SSL-E pretraining, then meta-training of each method, fold by fold.

Where the encoder is tuned, that comes first in each fold.
"""

import functools
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import memory, methods, processes
from metaperser_jax import mesh as meshes
from metaperser_jax.data import pools
from metaperser_jax.data.episodes import WIDTH_GRAIN, EpisodeSampler, round_up
from metaperser_jax.data.splits import Fold
from metaperser_jax.errors import MachineError
from metaperser_jax.experiment import (
    Experiment,
    FoldData,
    prepare_fold,
    stage_folder,
    trained_methods,
)
from metaperser_jax.features import save_scaler
from metaperser_jax.meta.schedules import derivative_order
from metaperser_jax.settings import MetaSettings
from metaperser_jax.stages import Stage, dev_loss_fn, initial_params, run_stage
from metaperser_jax.training import durations, optimizers, state, steps
from metaperser_jax.tune import each_fold
from metaperser_jax.typing import Batch, EpisodeRows, MetaParams, Params

log = logging.getLogger(__name__)

EPISODE_SEED, PRETRAIN_SEED = 102, 103
BLOCK = 32  # meta-steps of a call at most; a request to stop waits for one


def train(experiment: Experiment) -> None:
    """Trains every stage of every fold that is not complete yet."""
    for seen, fold in each_fold(experiment, training=True):
        train_fn = trainer(seen, begin_fold(seen, fold))
        for source in ("pretrain", *trained_methods(seen.settings)):
            train_fn(source)


def begin_fold(experiment: Experiment, fold: Fold) -> FoldData:
    """Prepares a fold's data and keeps its scaler."""
    data = prepare_fold(experiment, fold)
    folder = stage_folder(experiment.workdir, fold.index, "pretrain").parent

    def save() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_scaler(folder, data.scaler)

    processes.by_leader("a fold begins", save)
    note_left_out(experiment, data)
    return data


def trainer(experiment: Experiment, data: FoldData) -> Callable[[str], None]:
    """Returns a function that trains what a method starts from, each once.

    It takes 'pretrain' or the name of a recipe; anything else needs no training.
    """

    @functools.cache
    def shared() -> Params:
        return pretrain(experiment, data)

    @functools.cache
    def train_source(source: str) -> None:
        if source == "pretrain":
            shared()
        elif source in methods.RECIPES:
            meta_train(experiment, data, shared(), source)

    return train_source


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


def pretrain(experiment: Experiment, data: FoldData) -> Params:
    """SSL-E: the head on all (clip, listener label) pairs; returns the best epoch's."""
    settings = experiment.settings
    chosen = settings.pretrain
    model = methods.make_model(data.spec)
    learner = methods.make_learner("no_adaptation", data.spec, settings.meta)
    tx = _optimizer(chosen.learning_rate, 0.0, chosen.weight_decay, 1.0, None)
    epoch_fn = _pretrain_epoch(model.loss_fn, tx)
    mesh = meshes.make_mesh()
    train_data = everything(pools.to_device(data.train, mesh))
    rows = np.flatnonzero(data.train.annotator >= 0)
    dev_loss = dev_loss_fn(experiment, data, learner, data.spec)
    fresh = learner.init(initial_params(experiment, data, "pretrain"))
    start = meshes.replicate(state.init_state(fresh, tx), mesh)

    def advance(current: state.TrainState, epochs: range) -> tuple[Any, dict[str, Any]]:
        (epoch,) = epochs
        index = epoch_index(
            rows, chosen.batch_size, (settings.seed, PRETRAIN_SEED, epoch)
        )
        index = meshes.split_columns(index, mesh)
        current, losses = epoch_fn(current, train_data, index)
        return current, {"train_loss": losses.mean()}

    stage = Stage(
        "pretrain",
        stage_folder(experiment.workdir, data.fold.index, "pretrain"),
        chosen.epochs,
        max(chosen.epochs // chosen.evaluations, 1),
        advance,
        dev_loss,
        place=functools.partial(meshes.replicate, mesh=mesh),
    )
    return run_stage(experiment, stage, start).params


def meta_train(
    experiment: Experiment, data: FoldData, shared: Params, method: str
) -> MetaParams:
    """Meta-trains one method from the pretrained head; returns the best checkpoint."""
    settings, recipe = experiment.settings, methods.RECIPES[method]
    meta, spec = settings.meta, methods.spec_for(method, data.spec)
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
    mesh = meshes.make_mesh()
    pool = pools.to_device(data.train, mesh)
    params = methods.extend_params(shared, initial_params(experiment, data, method))
    annealed_from = meta.second_order_from
    if recipe.second_order_from is not None:
        annealed_from = recipe.second_order_from

    def draw(step: int) -> EpisodeRows:
        return sampler.sample(
            step,
            num_tasks,
            meta.num_support,
            meta.num_query,
            recipe.mode or meta.mode,
        )

    def step_bytes(meta: MetaSettings) -> int:
        learner = methods.make_learner(recipe.learner, spec, meta)
        order = derivative_order(total - 1, total, annealed_from)
        return steps.meta_gradient_bytes(
            learner, learner.init(params), draw(0), pool, order, mesh
        )

    meta = fit_memory(
        experiment, f"fold {data.fold.index}, {method}", meta, num_tasks, step_bytes
    )
    learner = methods.make_learner(recipe.learner, spec, meta)
    steps_fn = _meta_train_steps(learner, tx, mesh)
    every = max(total // meta.evaluations, 1)
    block = math.ceil(every / math.ceil(every / BLOCK))
    start = state.init_state(learner.init(params), tx)
    if not recipe.learn_rates:
        start = start._replace(opt_state=optimizers.with_rates_frozen(start.opt_state))
    start = meshes.replicate(start, mesh)

    def advance(current: state.TrainState, steps: range) -> tuple[Any, dict[str, Any]]:
        losses = []
        order_of = functools.partial(
            derivative_order, num_steps=total, second_order_from=annealed_from
        )
        for order, alike in itertools.groupby(steps, order_of):
            drawn = [draw(step) for step in alike]
            rows, is_real = stack_padded(drawn, block)
            current, metrics = steps_fn(current, rows, is_real, pool, order=order)
            losses.append(metrics["query_loss"][: len(drawn)])
        return current, {"train_loss": jnp.concatenate(losses)}

    def listeners_at(step: int) -> list[str]:
        places = sampler.listeners_at(step, num_tasks)
        return [experiment.corpus.annotators[sampler.annotators[p]] for p in places]

    stage = Stage(
        method,
        stage_folder(experiment.workdir, data.fold.index, method),
        total,
        every,
        advance,
        dev_loss_fn(experiment, data, learner, spec),
        listeners_at,
        block=block,
        place=functools.partial(meshes.replicate, mesh=mesh),
    )
    return run_stage(experiment, stage, start)


def stack_padded(
    drawn: Sequence[EpisodeRows], length: int
) -> tuple[EpisodeRows, np.ndarray]:
    """Returns the rows [length, tasks, ...] of some steps, and which steps are real.

    Padding repeats the last ones.
    """
    padded = [*drawn, *[drawn[-1]] * (length - len(drawn))]
    rows = jax.tree.map(lambda *parts: np.stack(parts), *padded)
    return rows, np.arange(length) < len(drawn)


def fit_memory(
    experiment: Experiment,
    where: str,
    meta: MetaSettings,
    num_tasks: int,
    step_bytes: Callable[[MetaSettings], int],
) -> MetaSettings:
    """Returns settings of which a step fits into memory, with a warning if changed.

    Adapting fewer listeners at once gives the same numbers, up to rounding.

    Args:
      experiment: whose problems are told.
      where: fold and method.
      meta: as configured.
      num_tasks: listeners of a meta-batch.
      step_bytes: settings -> estimate of what a step takes.

    Raises:
      MachineError: it does not fit with one listener at a time.
    """
    here = memory.available_bytes()
    available = processes.least(math.inf if here is None else float(here))
    needed = step_bytes(meta)
    if needed <= available:
        return meta
    asked = f"a meta-step takes about {needed / 1e9:.2f} GB, there are"
    found = f"{available / 1e9:.2f} GB"
    chunk = meta.task_chunk or num_tasks
    while chunk > 1:
        chunk = math.ceil(chunk / 2)
        fitted = meta._replace(task_chunk=chunk)
        if step_bytes(fitted) <= available:
            message = f"{asked} {found}: meta.task_chunk is lowered to {chunk}"
            experiment.problems.warning("memory_short", where, message)
            log.warning("%s: %s", where, message)
            return fitted
    raise MachineError(
        f"{where}: {asked} {found}, and adapting one listener at a time is not enough. "
        f"Lower meta.num_tasks (here {num_tasks}) or meta.num_support, set "
        "meta.inner=auto, or keep to the first order (meta.second_order_from=1.0)."
    )


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
_meta_train_steps = functools.lru_cache(maxsize=64)(steps.make_meta_train_steps)
_pretrain_epoch = functools.lru_cache(maxsize=64)(steps.make_pretrain_epoch)


def everything(pool: pools.DevicePool) -> Batch:
    """Returns all ratings of a pool as one batch [ratings, ...]."""
    return pools.take_rows(pool, jnp.arange(len(pool.row)))


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
