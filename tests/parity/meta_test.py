"""The inner loop and the meta-gradient against torch.autograd.

Three tasks of five steps, on multi-label answers with gaps. In PyTorch the second order
comes from `create_graph=True` through a plain loop, and the first order from gradients
that are held fixed; here both come from a scan under vmap.
"""

import functools

import jax
import numpy as np
import pytest
import torch

from metaperser_jax import heads, losses, make_batch, maml, trees
from metaperser_jax.typing import Episode, MetaParams

TASKS, STEPS, SAMPLES, LAYERS, WIDTH, HIDDEN, CLASSES = 3, 5, 10, 3, 6, 8, 5
WEIGHTS = np.array([0.3, 2.0, 1.0, 0.6, 1.1])
SMOOTHING = 0.05
HEAD = heads.make_head(CLASSES, HIDDEN)


def draw_batch(rng, dtype):
    """Multi-label answers, some not given, some clips without any, some padding."""
    count = SAMPLES - rng.integers(0, 4)
    targets = (rng.random((count, CLASSES)) < 0.35).astype(dtype)
    targets[rng.random((count, CLASSES)) < 0.15] = np.nan
    targets[0] = np.nan
    inputs = rng.normal(size=(count, LAYERS, WIDTH)).astype(dtype)
    batch = make_batch(inputs, targets, SAMPLES)
    targets = batch.targets.astype(dtype)
    weights = np.broadcast_to(WEIGHTS.astype(dtype), targets.shape)
    return batch._replace(targets=targets, weights=weights)


def draw(rng, dtype):
    shapes = jax.eval_shape(
        lambda: heads.init_head(HEAD, jax.random.key(0), LAYERS, WIDTH)
    )
    params = jax.tree.map(
        lambda s: (0.5 * rng.normal(size=s.shape)).astype(dtype), shapes
    )
    rates = {
        path: rng.uniform(0.05, 0.4, STEPS).astype(dtype)
        for path in trees.flatten(params)
    }
    episodes = [
        Episode(draw_batch(rng, dtype), draw_batch(rng, dtype)) for _ in range(TASKS)
    ]
    return MetaParams(params, rates), episodes


def make_learner(family, dtype):
    loss_fn = losses.make_loss_fn(
        functools.partial(heads.apply_head, HEAD),
        family,
        class_balanced=True,
        smoothing=SMOOTHING,
    )
    return maml(loss_fn, STEPS)


def make_loss(oracle, family, dtype):
    weights = torch.tensor(WEIGHTS.astype(dtype))

    def loss(params, batch):
        logits = oracle.head(params, batch.inputs)
        return oracle.LOSSES[family](
            logits, batch.targets, batch.mask, weights, SMOOTHING
        )

    return loss


def to_torch(batch):
    return jax.tree.map(lambda leaf: torch.tensor(np.array(leaf)), batch)


def assert_close(found, expected, rtol, name):
    """Relative to the tensor's largest entry, as a sum of many terms is."""
    expected = np.asarray(expected)
    scale = np.abs(expected).max()
    assert scale > 0, name
    np.testing.assert_allclose(
        found, expected, rtol=rtol, atol=rtol * scale, err_msg=name
    )


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_adapted_parameters_and_support_losses(rng, oracle, precision, family):
    dtype, rtol = precision
    meta_params, episodes = draw(rng, dtype)
    adapt = jax.jit(make_learner(family, dtype).adapt)
    loss = make_loss(oracle, family, dtype)
    params = oracle.leaves(trees.flatten(meta_params.params))
    rates = oracle.leaves(meta_params.learning_rates)
    for episode in episodes:
        adapted, info = adapt(meta_params, episode.support)
        expected, support_losses = oracle.adapt(
            loss, params, rates, to_torch(episode.support), "first"
        )
        np.testing.assert_allclose(info.support_losses, support_losses, rtol=rtol)
        for path, leaf in trees.flatten(adapted).items():
            assert leaf.dtype == dtype
            assert_close(leaf, expected[path].detach(), rtol, path)


@pytest.mark.parametrize(
    ("family", "order"),
    [("softmax", "first"), ("softmax", "second"), ("sigmoid", "second")],
)
def test_meta_gradient_of_parameters_and_rates(rng, oracle, precision, family, order):
    dtype, rtol = precision
    meta_params, episodes = draw(rng, dtype)
    learner = make_learner(family, dtype)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *episodes)
    (value, info), grads = jax.jit(
        jax.value_and_grad(
            functools.partial(learner.meta_loss, order=order), has_aux=True
        )
    )(meta_params, stacked)

    params = oracle.leaves(trees.flatten(meta_params.params))
    rates = oracle.leaves(meta_params.learning_rates)
    pairs = [(to_torch(e.support), to_torch(e.query)) for e in episodes]
    expected, per_task = oracle.meta_loss(
        make_loss(oracle, family, dtype), params, rates, pairs, order
    )
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=rtol)
    np.testing.assert_allclose(info.per_task, per_task, rtol=rtol)
    for path, grad in trees.flatten(grads.params).items():
        assert_close(grad, params[path].grad, rtol, path)
    for path, grad in grads.learning_rates.items():
        assert_close(grad, rates[path].grad, rtol, f"rate of {path}")


def test_the_oracles_two_orders_differ(rng, oracle):
    """So that agreeing with both means something."""
    meta_params, episodes = draw(rng, "float64")
    pairs = [(to_torch(e.support), to_torch(e.query)) for e in episodes]
    grads = {}
    for order in ("first", "second"):
        params = oracle.leaves(trees.flatten(meta_params.params))
        rates = oracle.leaves(meta_params.learning_rates)
        loss = make_loss(oracle, "softmax", "float64")
        oracle.meta_loss(loss, params, rates, pairs, order)[0].backward()
        grads[order] = {path: leaf.grad.numpy() for path, leaf in params.items()}
    for path, first in grads["first"].items():
        second = grads["second"][path]
        assert np.abs(first - second).max() > 1e-2 * np.abs(second).max(), path
