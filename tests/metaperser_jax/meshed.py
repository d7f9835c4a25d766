"""What a few meta-training steps and evaluations give on a mesh, as plain lists."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import mesh as meshes
from metaperser_jax import methods
from metaperser_jax.data import pools
from metaperser_jax.evaluation import evaluators
from metaperser_jax.settings import MetaSettings
from metaperser_jax.train import stack_padded
from metaperser_jax.training import optimizers, state, steps
from metaperser_jax.typing import EpisodeRows, Pool

LAYERS, WIDTH, CLASSES, RATINGS, PAIRS = 1, 16, 3, 60, 11
SPEC = methods.ModelSpec(
    LAYERS, WIDTH, CLASSES, 8, "relu", "sigmoid", 0.0, class_balanced=False
)
META = MetaSettings(num_steps=2, init_learning_rate=0.3, task_chunk=2)

QUICKLY = "--xla_backend_optimization_level=0"  # is compiled


def devices(count):
    """XLA's flags of so many; on a busy machine they may wait long for one another."""
    return (
        f"--xla_force_host_platform_device_count={count}",
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
    )


def on_devices(count):
    """Environment of a process of so many simulated devices."""
    flags = (*devices(count), QUICKLY)
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}


def make_pool():
    rng = np.random.default_rng(0)
    return Pool(
        rng.normal(size=(20, LAYERS, WIDTH)).astype(np.float32),
        rng.integers(0, 20, RATINGS).astype(np.int32),
        np.arange(RATINGS, dtype=np.int32),
        np.zeros(RATINGS, np.int32),
        (rng.random((RATINGS, CLASSES)) < 0.4).astype(np.float32),
        rng.random((RATINGS, CLASSES)) < 0.9,
    )


def draw(seed, count, size):
    """[count, size] rows, some of them padding."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, RATINGS, (count, size))
    rows[:, -1] = np.where(rng.random(count) < 0.5, -1, rows[:, -1])
    return rows.astype(np.int32)


def train(mesh, learner_name, num_tasks, order, num_steps=2, at_once=False):
    """The losses of each step, and what was learned in the end."""
    learner = methods.make_learner(learner_name, SPEC, META)
    tx = optimizers.outer_optimizer(0.05, 0.01, weight_decay=0.1, clip_norm=1.0)
    params = methods.make_model(SPEC).init_fn(jax.random.key(0))
    start = meshes.replicate(state.init_state(learner.init(params), tx), mesh)
    pool = pools.to_device(make_pool(), mesh)
    rows = [
        EpisodeRows(draw(step, num_tasks, 5), draw(100 + step, num_tasks, 4))
        for step in range(num_steps)
    ]
    if at_once:
        return in_blocks(steps.make_meta_train_steps(learner, tx, mesh), start, rows,
                         pool, order)  # fmt: skip
    step_fn, losses = steps.make_meta_train_step(learner, tx, mesh), []
    for drawn in rows:
        start, metrics = step_fn(start, drawn, pool, order=order)
        losses.append(float(metrics["query_loss"]))
    return {"losses": losses, "learned": flat(start.meta_params)}


def in_blocks(steps_fn, start, rows, pool, order):
    """The same in two calls, the first one a step, which are compiled once."""
    losses = []
    for part in (rows[:1], rows[1:]):
        drawn, is_real = stack_padded(part, len(rows))
        start, metrics = steps_fn(start, drawn, is_real, pool, order=order)
        losses += metrics["query_loss"][: len(part)].tolist()
    assert steps_fn._cache_size() == 1
    return {"losses": losses, "learned": flat(start.meta_params)}


def step_bytes(mesh, num_tasks=64):
    """Estimate of the memory of a meta-gradient, on each device."""
    meta = META._replace(task_chunk=0, inner="general")
    learner = methods.make_learner("maml", SPEC, meta)
    meta_params = learner.init(methods.make_model(SPEC).init_fn(jax.random.key(0)))
    rows = EpisodeRows(draw(0, num_tasks, 5), draw(1, num_tasks, 4))
    pool = pools.to_device(make_pool(), mesh)
    return steps.meta_gradient_bytes(learner, meta_params, rows, pool, "second", mesh)


def evaluate(mesh):
    """Predictions, models and scores of candidates of 11 pairs."""
    learner = methods.make_learner("maml", SPEC, META)
    model = methods.make_model(SPEC)
    meta_params = learner.init(model.init_fn(jax.random.key(1)))
    rates = jax.tree.map(
        lambda rate: jnp.stack([rate, 0.5 * rate]), meta_params.learning_rates
    )
    place = functools.partial(meshes.replicate, mesh=mesh)
    meta_params, rates = place(meta_params), place(rates)
    pool = pools.to_device(make_pool(), mesh)
    support, query = draw(7, PAIRS, 6), draw(8, PAIRS, 3)
    predictions = evaluators.adapt_and_predict(
        learner.adapt_for, model.predict_fn, meta_params, pool, support, query, mesh
    )
    models = evaluators.adapt_all(learner.adapt, meta_params, pool, support, mesh)
    scores = evaluators.candidate_scores(
        learner.adapt_for, model.loss_fn, meta_params.params, rates, pool, support,
        query, 2, every_step=True, mesh=mesh,
    )  # fmt: skip
    return {"predictions": flat(predictions), "models": flat(models),
            "scores": flat(scores)}  # fmt: skip


def flat(tree):
    return [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(tree)]
