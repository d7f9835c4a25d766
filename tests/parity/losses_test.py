"""Losses and their gradients against torch.nn.functional."""

import jax
import numpy as np
import pytest
import torch

from metaperser_jax import losses

SAMPLES, CLASSES = 20, 6


@pytest.mark.parametrize("size", [1.0, 30.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.05])
@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_loss_and_gradient(rng, oracle, precision, family, smoothing, size):
    dtype, rtol = precision
    logits = (size * rng.normal(size=(SAMPLES, CLASSES))).astype(dtype)
    targets = (rng.random((SAMPLES, CLASSES)) < 0.4).astype(dtype)
    mask = rng.random((SAMPLES, CLASSES)) < 0.8
    mask[4] = False
    weights = losses.effective_number_weights(targets.sum(0)).astype(dtype)
    value, grads = jax.jit(jax.value_and_grad(losses.LOSSES[family]), static_argnums=4)(
        logits, targets, mask, weights, smoothing
    )

    z = oracle.leaf(logits)
    rest = map(torch.tensor, (targets, mask, weights))
    expected = oracle.LOSSES[family](z, *rest, smoothing)
    expected.backward()
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected.item(), rtol=rtol)
    np.testing.assert_allclose(grads, z.grad, rtol=rtol, atol=rtol * 1e-2)
