"""Derivative annealing: which order when, and what it costs to compile."""

import jax
import numpy as np
import pytest

from metaperser_jax import heads, make_batch, maml
from metaperser_jax.errors import InputError
from metaperser_jax.meta.schedules import derivative_order
from metaperser_jax.personal import default_loss_fn
from metaperser_jax.training.optimizers import outer_optimizer
from metaperser_jax.training.state import init_state
from metaperser_jax.training.steps import make_meta_train_step
from metaperser_jax.typing import Episode


@pytest.mark.parametrize(
    ("num_steps", "second_order_from", "orders"),
    [
        (4, 0.5, "1122"),
        (5, 0.5, "11122"),
        (4, 0.0, "2222"),
        (4, 1.0, "1111"),
        (4, 0.25, "1222"),
        (3, 0.34, "112"),
        (1, 0.5, "1"),
        (100, 0.07, "1" * 7 + "2" * 93),  # 0.07 * 100 > 7 in floating point
        (150, 80 / 150, "1" * 80 + "2" * 70),  # MAML++'s template
    ],
)
def test_the_order_is_first_up_to_a_share_of_the_steps(
    num_steps, second_order_from, orders
):
    names = {"1": "first", "2": "second"}
    for step, order in enumerate(orders):
        found = derivative_order(step, num_steps, second_order_from)
        assert found == names[order], step


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), 80.0])
def test_what_is_no_share_is_refused(fraction):
    with pytest.raises(InputError, match="expected a fraction"):
        derivative_order(0, 10, fraction)


def episodes(rng, tasks=3, samples=6):
    def batch():
        targets = (rng.random((samples, 4)) < 0.4).astype(np.float32)
        return make_batch(rng.normal(size=(samples, 2, 5)).astype(np.float32), targets)

    drawn = [Episode(batch(), batch()) for _ in range(tasks)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)


def test_an_annealed_run_traces_exactly_two_steps(rng):
    """A weak type, a Python number or a changed dtype in the state would add more."""
    traces = []
    learner = maml(default_loss_fn, num_steps=3, init_learning_rate=0.1)

    def counted(meta_params, batch, *, order):
        traces.append(order)
        return learner.meta_loss(meta_params, batch, order=order)

    tx = outer_optimizer(1e-3, 1e-2, cosine_steps=8)
    step_fn = make_meta_train_step(learner._replace(meta_loss=counted), tx)
    head = heads.make_head(num_classes=4, hidden=6)
    params = jax.jit(head.init)(jax.random.key(0), np.zeros((1, 2, 5), np.float32))
    state = init_state(learner.init(params["params"]), tx)
    types = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    losses = []
    for step in range(8):
        order = derivative_order(step, 8, 0.5)
        state, metrics = step_fn(state, episodes(rng), order=order)
        losses.append(float(metrics["query_loss"]))
    assert traces == ["first", "second"]
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == types
    assert int(state.step) == 8
    assert int(state.num_skipped) == 0
    assert np.isfinite(losses).all()
    moved = state.meta_params.learning_rates["classifier/kernel"]
    assert np.abs(np.asarray(moved) - 0.1).min() > 1e-3  # every step's rate has learned
