"""Stages of training: one outer optimisation each, resumed, best on dev listeners."""

import functools
import json
import logging
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from metaperser_jax import mesh as meshes
from metaperser_jax import methods, processes
from metaperser_jax.checkpoints import Checkpoints, refuse_origin, save_meta_params
from metaperser_jax.data import pools
from metaperser_jax.data.episodes import EvaluationPlan
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluation import evaluators
from metaperser_jax.experiment import (
    Experiment,
    FoldData,
    flat_pairs,
    plan_dev,
    selection_loss,
)
from metaperser_jax.meta.learners import MetaLearner
from metaperser_jax.training import state
from metaperser_jax.training.writers import AnyWriter, NoWriter, Writer
from metaperser_jax.typing import MetaParams, Params

log = logging.getLogger(__name__)

DEV_DRAWS = 4
DEV_SEED = 101
META_REMEDY = (
    "Lower meta.init_learning_rate or meta.learning_rate, or bound the rates with "
    "meta.rate_bounds."
)


def initial_params(experiment: Experiment, data: FoldData, method: str) -> Params:
    """Returns a method's fresh parameters; the same seed for all methods of a fold."""
    model = methods.make_model(methods.spec_for(method, data.spec))
    key = jax.random.fold_in(jax.random.key(experiment.settings.seed), data.fold.index)
    return model.init_fn(key)


def dev_draws(experiment: Experiment, data: FoldData) -> EvaluationPlan:
    """Returns the draws on development listeners that checkpoints are chosen on."""
    settings = experiment.settings
    return plan_dev(
        data,
        settings,
        settings.evaluation.headline_support,
        DEV_DRAWS,
        settings.seed * 1000 + DEV_SEED,
    )


def dev_loss_fn(
    experiment: Experiment,
    data: FoldData,
    learner: MetaLearner,
    spec: methods.ModelSpec,
) -> Callable[[MetaParams], float]:
    """Returns meta_params -> mean loss of development listeners once adapted."""
    score_fn = dev_score_fn(experiment, data, learner, spec)
    pool = pools.to_device(data.dev, meshes.make_mesh())
    return lambda meta_params: score_fn(meta_params, pool)


def dev_score_fn(
    experiment: Experiment,
    data: FoldData,
    learner: MetaLearner,
    spec: methods.ModelSpec,
) -> Callable[[MetaParams, pools.DevicePool], float]:
    """Returns the same with the pool as an argument, where inputs are trained too."""
    headline = experiment.settings.evaluation.headline_support
    support, query = flat_pairs(dev_draws(experiment, data), headline)
    score_fn = selection_loss(spec)

    def dev_loss(meta_params: MetaParams, pool: pools.DevicePool) -> float:
        rates = jax.tree.map(lambda leaf: leaf[None], meta_params.learning_rates)
        scores = evaluators.candidate_scores(
            learner.adapt_for,
            score_fn,
            meta_params.params,
            rates,
            pool,
            support,
            query,
            1,
            mesh=meshes.make_mesh(),
        )
        return float(scores.mean())

    return dev_loss


class Stage(NamedTuple):
    """One outer optimisation: where it is kept and how it goes forward."""

    name: str
    folder: pathlib.Path
    total: int  # steps
    every: int  # steps between two looks at the development listeners
    advance: Callable[[state.TrainState, range], tuple[Any, dict[str, Any]]]
    #   state, which steps (`block` at most) -> state, scalars [] or [steps]
    dev_loss: Callable[[MetaParams], float]
    listeners_at: Callable[[int], list[str]] | None = None
    origin: dict[str, Any] | None = None  # JSON: what its checkpoints build on
    remedy: str = META_REMEDY  # of a loss that is not finite
    block: int = 1  # steps that `advance` takes in one call
    place: Callable[[Any], Any] = functools.partial(meshes.replicate, mesh=None)
    #   state -> the state on its devices

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
        _writer(stage, experiment.settings.tensorboard) as writer,
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
    learned = best.tree.meta_params
    save = functools.partial(save_meta_params, stage.folder, learned, stage.origin)
    processes.by_leader("a stage is complete", save)
    return jax.tree.map(jnp.asarray, best.tree.meta_params)


def _writer(stage: Stage, tensorboard: bool) -> AnyWriter:
    """Returns what writes the curves; of several processes only the first does."""
    return Writer(stage.folder, tensorboard) if processes.leads() else NoWriter()


def _resume(
    stage: Stage,
    start: state.TrainState,
    checkpoints: Checkpoints,
    writer: AnyWriter,
    problems: Problems,
) -> tuple[state.TrainState, int]:
    """Returns the newest readable state and its step, or the start, saved as step 0."""
    found = checkpoints.latest(start, problems)
    writer.drop_after(found.step if found else -1)
    if found is not None:
        refuse_origin(found.info.get("origin"), stage.origin, str(checkpoints.folder))
        restored = jax.tree.map(jnp.array, found.tree)  # copies: the state is donated
        return stage.place(restored), found.step
    _look(stage, start, 0, {}, checkpoints, writer)
    return start, 0


def _go_on(
    experiment: Experiment,
    stage: Stage,
    current: state.TrainState,
    first: int,
    checkpoints: Checkpoints,
    writer: AnyWriter,
) -> state.TrainState:
    """Takes the steps that are left; training losses are means since the last look.

    Between two looks the device always has a call queued, and no more than one: the
    bar shows what is done.
    """
    most = experiment.settings.meta.max_skipped
    seen: list[dict[str, Any]] = []
    bar = tqdm(total=stage.total, initial=first, desc=stage.label, disable=None)
    for block in blocks(first, stage.total, stage.every, stage.block):
        current, scalars = stage.advance(current, block)
        seen.append(scalars)
        jax.block_until_ready(seen[-2:-1])
        bar.update(len(block))
        done = block.stop
        if done % stage.every == 0 or done == stage.total:
            refuse_divergence(current, most, stage)
            means = {k: _mean(s[k] for s in seen) for k in scalars}
            loss = _look(stage, current, done, means, checkpoints, writer)
            bar.set_postfix(dev_loss=f"{loss:.4f}", refresh=False)
            seen = []
    bar.close()
    return current


def blocks(first: int, total: int, every: int, most: int) -> Iterator[range]:
    """Yields the steps from `first` on, at most so many at once, up to each look."""
    while first < total:
        look = min((first // every + 1) * every, total)
        block = range(first, min(first + most, look))
        yield block
        first = block.stop


def _mean(values: Iterable[Any]) -> float:
    return float(np.mean(np.concatenate([np.atleast_1d(value) for value in values])))


def _look(
    stage: Stage,
    current: state.TrainState,
    step: int,
    scalars: dict[str, float],
    checkpoints: Checkpoints,
    writer: AnyWriter,
) -> float:
    """Asks the development listeners and saves; returns their loss."""
    loss = stage.dev_loss(current.meta_params)
    writer.write(step, {**scalars, "dev_loss": loss})
    info = {"total": stage.total, "every": stage.every, "origin": stage.origin}
    checkpoints.save(step, current, finite_or_huge(loss), info)
    return loss


def finite_or_huge(loss: float) -> float:
    """Returns the loss, or the largest number if it is not finite: never the best."""
    return loss if math.isfinite(loss) else 1e30


def refuse_divergence(current: state.TrainState, most: int, stage: Stage) -> None:
    """Stops a run whose loss or gradient has not been finite for `most` steps.

    Who was in the batches of those steps is written to diverged.json.

    Raises:
      InputError: with what to change.
    """
    in_a_row, step = int(current.skipped_in_a_row), int(current.step)
    if in_a_row < most:
        return
    where = ""
    if stage.listeners_at is not None and processes.leads():
        batches = {n: stage.listeners_at(n) for n in range(step - in_a_row, step)}
        path = stage.folder / "diverged.json"
        path.write_text(json.dumps(batches, indent=1, ensure_ascii=False))
        where = f" Who was in the batches: {path}."
    raise InputError(
        f"{stage.label}: loss or gradient was not finite {in_a_row} steps in a row "
        f"(at step {step}). {stage.remedy}{where}"
    )


def report_skipped(current: state.TrainState, label: str, problems: Problems) -> None:
    """Counts skipped steps among the problems."""
    if skipped := int(current.num_skipped):
        problems.warning(
            "skipped_steps", label, f"{skipped} steps were not finite and skipped"
        )
