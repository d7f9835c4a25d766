"""The outer optimiser: two groups, one clip, rates that can be frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metaperser_jax.training import optimizers
from metaperser_jax.typing import MetaParams

KERNEL = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
RATES = np.array([0.1, 0.2, 0.3], np.float32)


def meta_params():
    return MetaParams(
        {"layer": {"kernel": jnp.asarray(KERNEL)}}, {"layer/kernel": jnp.asarray(RATES)}
    )


def gradients(step=0):
    rng = np.random.default_rng(step)
    return MetaParams(
        {"layer": {"kernel": jnp.asarray(rng.normal(size=(2, 2)), jnp.float32)}},
        {"layer/kernel": jnp.asarray(rng.normal(size=3), jnp.float32)},
    )


def run(tx, num_steps, opt_state=None, scale=1.0):
    """Returns the meta-parameters after a few steps."""
    current = meta_params()
    opt_state = tx.init(current) if opt_state is None else opt_state
    for step in range(num_steps):
        grads = jax.tree.map(lambda g: scale * g, gradients(step))
        updates, opt_state = tx.update(grads, opt_state, current)
        current = optax.apply_updates(current, updates)
    return current


def assert_close(a, b, **tolerance):
    tolerance = tolerance or {"rtol": 1e-6, "atol": 1e-7}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def reference(theta_tx, rates_tx, num_steps, clip=np.inf, scale=1.0):
    """Two optimisers by hand on the jointly clipped gradient."""
    params, rates = meta_params()
    theta_state, rates_state = theta_tx.init(params), rates_tx.init(rates)
    for step in range(num_steps):
        grads = jax.tree.map(lambda g: scale * g, gradients(step))
        norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads)))
        factor = min(1.0, clip / norm)
        grads = jax.tree.map(lambda g: factor * g, grads)  # noqa: B023
        moved, theta_state = theta_tx.update(grads.params, theta_state, params)
        params = optax.apply_updates(params, moved)
        moved, rates_state = rates_tx.update(grads.learning_rates, rates_state, rates)
        rates = optax.apply_updates(rates, moved)
    return MetaParams(params, rates)


class TestGroups:
    @pytest.mark.parametrize("clip", [1e9, 1.0, 0.1])
    def test_adamw_on_theta_adam_on_rates_one_clip_over_both(self, clip):
        tx = optimizers.outer_optimizer(
            0.01, 0.1, weight_decay=0.3, clip_norm=float(clip)
        )
        expected = reference(
            optax.adamw(0.01, weight_decay=0.3), optax.adam(0.1), 5, clip
        )
        assert_close(run(tx, 5), expected)

    def test_rates_are_never_decayed(self):
        still = jax.tree.map(jnp.zeros_like, meta_params())
        tx = optimizers.outer_optimizer(0.1, 0.1, weight_decay=0.5)
        updates, _ = tx.update(still, tx.init(meta_params()), meta_params())
        np.testing.assert_array_equal(updates.learning_rates["layer/kernel"], 0)
        np.testing.assert_allclose(
            updates.params["layer"]["kernel"], -0.1 * 0.5 * KERNEL, rtol=1e-6
        )

    def test_a_huge_gradient_moves_no_further_than_the_clip_allows(self):
        tx = optimizers.outer_optimizer(0.01, 0.01, weight_decay=0.0)
        small, huge = run(tx, 1), run(tx, 1, scale=1e6)
        assert_close(small, huge, rtol=1e-4, atol=1e-6)

    def test_learners_without_rates_work(self):
        tx = optimizers.outer_optimizer(0.01, 0.01)
        bare = MetaParams({"bias": jnp.ones(2)}, {})
        updates, _ = tx.update(bare, tx.init(bare), bare)
        assert updates.learning_rates == {}
        assert (updates.params["bias"] < 0).all()


class TestFrozenRates:
    def frozen(self, tx):
        return optimizers.with_rates_frozen(tx.init(meta_params()))

    def test_frozen_rates_do_not_move_and_theta_moves_as_before(self):
        tx = optimizers.outer_optimizer(0.01, 0.1)
        free, frozen = run(tx, 4), run(tx, 4, self.frozen(tx))
        np.testing.assert_array_equal(frozen.learning_rates["layer/kernel"], RATES)
        assert not np.allclose(free.learning_rates["layer/kernel"], RATES)
        assert_close(free.params, frozen.params)

    def test_frozen_and_free_share_one_compiled_step(self):
        tx = optimizers.outer_optimizer(0.01, 0.1)
        update = jax.jit(tx.update)
        for opt_state in (tx.init(meta_params()), self.frozen(tx)):
            update(gradients(), opt_state, meta_params())
        assert update._cache_size() == 1

    def test_they_stay_frozen_under_the_cosine_schedule(self):
        tx = optimizers.outer_optimizer(0.01, 0.1, cosine_steps=4)
        frozen = run(tx, 4, self.frozen(tx))
        np.testing.assert_array_equal(frozen.learning_rates["layer/kernel"], RATES)


class TestCosine:
    def test_both_rates_anneal_to_zero(self):
        tx = optimizers.outer_optimizer(0.01, 0.1, weight_decay=0.1, cosine_steps=6)
        expected = reference(
            optax.adamw(optax.cosine_decay_schedule(0.01, 6), weight_decay=0.1),
            optax.adam(optax.cosine_decay_schedule(0.1, 6)),
            6,
            clip=1.0,
        )
        assert_close(run(tx, 6), expected)
        assert_close(run(tx, 9), run(tx, 6))
