"""The outer optimiser against torch.optim: AdamW, Adam, one clip over both."""

import jax
import numpy as np
import optax
import pytest
import torch

from metaperser_jax import trees
from metaperser_jax.training.optimizers import outer_optimizer, with_rates_frozen
from metaperser_jax.typing import MetaParams

STEPS, LR, RATE_LR, DECAY, CLIP = 12, 3e-3, 1e-2, 0.05, 1.0


def draw(rng):
    params = {
        "projector": {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    }
    meta_params = MetaParams(
        params, {path: np.full(5, 0.01) for path in trees.flatten(params)}
    )
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), meta_params)


def draw_grads(rng, like):
    """Norms from far below to far above the clip, half of them clipped."""
    norms = 10.0 ** np.linspace(-2, 2, STEPS)
    for norm in rng.permutation(norms):
        grads = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), like)
        factor = norm / np.sqrt(sum(np.square(g).sum() for g in jax.tree.leaves(grads)))
        yield jax.tree.map(lambda g, k=factor: (g * k).astype(np.float32), grads)


def run_optax(meta_params, grads, frozen, cosine_steps):
    tx = outer_optimizer(
        LR, RATE_LR, weight_decay=DECAY, clip_norm=CLIP, cosine_steps=cosine_steps
    )
    state = tx.init(meta_params)
    state = with_rates_frozen(state) if frozen else state

    @jax.jit
    def step(meta_params, state, grads):
        updates, state = tx.update(grads, state, meta_params)
        return optax.apply_updates(meta_params, updates), state

    for grad in grads:
        meta_params, state = step(meta_params, state, grad)
        yield trees.flatten(meta_params)


def run_torch(oracle, meta_params, grads, frozen, cosine_steps):
    leaves = oracle.leaves(trees.flatten(meta_params))
    theta = [leaf for path, leaf in leaves.items() if path.startswith("params/")]
    rates = [
        leaf for path, leaf in leaves.items() if path.startswith("learning_rates/")
    ]
    optimisers = [
        torch.optim.AdamW(theta, lr=LR, weight_decay=DECAY),
        torch.optim.Adam(rates, lr=0.0 if frozen else RATE_LR),
    ]
    schedules = [
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, cosine_steps)
        for optimiser in optimisers
        if cosine_steps
    ]
    for grad in grads:
        for path, leaf in trees.flatten(grad).items():
            leaves[path].grad = torch.tensor(leaf)
        torch.nn.utils.clip_grad_norm_(theta + rates, CLIP)
        for moving in (*optimisers, *schedules):
            moving.step()
        yield {path: leaf.detach().clone() for path, leaf in leaves.items()}


@pytest.mark.parametrize(
    ("frozen", "cosine_steps"), [(False, None), (True, None), (False, STEPS)]
)
def test_every_step_is_torchs(rng, oracle, frozen, cosine_steps):
    meta_params = draw(rng)
    grads = list(draw_grads(rng, meta_params))
    ours = run_optax(meta_params, grads, frozen, cosine_steps)
    theirs = run_torch(oracle, meta_params, grads, frozen, cosine_steps)
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert list(a) == list(b)
        for path in a:
            np.testing.assert_allclose(
                a[path], b[path], rtol=1e-5, atol=1e-7, err_msg=f"{path}, step {step}"
            )
    start = trees.flatten(meta_params)
    for path, leaf in a.items():
        held = frozen and path.startswith("learning_rates/")
        assert np.array_equal(leaf, start[path]) == held, path
