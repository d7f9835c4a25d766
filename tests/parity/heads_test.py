"""The head's logits and gradients against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from metaperser_jax import heads, trees

LAYERS, WIDTH, HIDDEN, CLASSES = 4, 7, 9, 5


@pytest.mark.parametrize("listener_width", [0, 3])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
def test_logits_and_gradients(rng, oracle, precision, activation, listener_width):
    dtype, rtol = precision
    head = heads.make_head(CLASSES, HIDDEN, activation, listener_width)
    shapes = jax.eval_shape(
        lambda: heads.init_head(head, jax.random.key(0), LAYERS, WIDTH)
    )
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(dtype), shapes)
    pooled = rng.normal(size=(11, LAYERS, WIDTH)).astype(dtype)
    direction = rng.normal(size=(11, CLASSES)).astype(dtype)

    def projected(params):
        logits = heads.apply_head(head, params, pooled)
        return jnp.vdot(logits, direction), logits

    grads, logits = jax.jit(jax.grad(projected, has_aux=True))(params)

    leaves = oracle.leaves(trees.flatten(params))
    expected = oracle.head(leaves, torch.tensor(pooled), activation)
    (expected * torch.tensor(direction)).sum().backward()
    reference = expected.detach().numpy()
    atol = rtol * np.abs(reference).max()
    np.testing.assert_allclose(logits, reference, rtol=rtol, atol=atol)
    for path, grad in trees.flatten(grads).items():
        reference = leaves[path].grad.numpy()
        atol = rtol * np.abs(reference).max()
        np.testing.assert_allclose(grad, reference, rtol=rtol, atol=atol, err_msg=path)
