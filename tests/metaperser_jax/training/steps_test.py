"""The jitted steps against plain Python; what is not finite is skipped and counted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metaperser_jax import trees
from metaperser_jax.meta import learners
from metaperser_jax.training import optimizers, state, steps
from metaperser_jax.typing import Batch, Episode, MetaParams

SAMPLES, WIDTH, CLASSES = 24, 4, 3


def loss_fn(params, batch):
    """Softmax regression on masked multi-hot targets."""
    logits = batch.inputs[:, 0] @ params["kernel"] + params["bias"][None, :]
    losses = -(batch.targets * jax.nn.log_softmax(logits)).sum(-1)
    kept = batch.mask.any(-1)
    return jnp.where(kept, losses, 0.0).sum() / jnp.maximum(kept.sum(), 1)


def make_params(seed=0):
    rng = np.random.default_rng(seed)
    kernel = jnp.asarray(rng.normal(size=(WIDTH, CLASSES)), jnp.float32)
    return {"kernel": kernel, "bias": jnp.zeros(CLASSES)}


def make_batch(shape, seed=0, poison=False):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(*shape, 1, WIDTH)).astype(np.float32)
    if poison:
        inputs[..., 0, 0, 0] = np.nan
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, shape)]
    return Batch(inputs, targets, np.ones((*shape, CLASSES), bool))


def make_episodes(seed=0, poison=False):
    return Episode(make_batch((2, 5), seed, poison), make_batch((2, 5), seed + 100))


def optimizer():
    return optimizers.outer_optimizer(0.05, 0.01, weight_decay=0.1, clip_norm=1.0)


def assert_close(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, atol), a, b)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def to_numpy(tree):
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


@pytest.fixture(scope="module")
def meta_step():
    """The compiled step of a two-step MAML, and a way to begin."""
    learner, tx = learners.maml(loss_fn, 2, ".*", 0.3), optimizer()
    step = steps.make_meta_train_step(learner, tx)
    return learner, tx, step, lambda: state.init_state(learner.init(make_params()), tx)


class TestState:
    def test_it_starts_at_zero_and_shares_nothing(self):
        params = make_params()
        start = state.init_state(MetaParams(params, {}), optimizer())
        assert [int(c) for c in start[2:]] == [0, 0, 0]
        leaves = jax.tree.leaves(start)
        pointers = {leaf.unsafe_buffer_pointer() for leaf in leaves}
        assert len(pointers) == len(leaves)  # donated: no leaf twice
        assert params["kernel"].unsafe_buffer_pointer() not in pointers

    def test_every_leaf_is_an_array_that_can_be_saved(self):
        start = state.init_state(MetaParams(make_params(), {}), optimizer())
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(start))


class TestMetaTrainStep:
    @pytest.mark.parametrize("order", ["first", "second"])
    def test_it_equals_gradient_and_optimiser_by_hand(self, meta_step, order):
        learner, tx, step, begin = meta_step
        episodes = make_episodes()
        before = begin()

        def loss(meta_params):
            return learner.meta_loss(meta_params, episodes, order=order)[0]

        value, grads = jax.value_and_grad(loss)(before.meta_params)
        updates, _ = tx.update(grads, before.opt_state, before.meta_params)
        expected = to_numpy(optax.apply_updates(before.meta_params, updates))
        norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads)))
        after, metrics = step(before, episodes, order=order)
        assert_close(after.meta_params, expected)
        np.testing.assert_allclose(metrics["query_loss"], value, rtol=1e-6)
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
        assert bool(metrics["finite"])
        assert int(after.step) == 1

    def test_the_orders_differ(self, meta_step):
        _, _, step, begin = meta_step
        first, second = (
            float(step(begin(), make_episodes(), order=order)[1]["grad_norm"])
            for order in ("first", "second")
        )
        assert abs(first - second) > 0.01 * first

    def test_a_run_compiles_exactly_two_steps(self, meta_step):
        _, _, step, begin = meta_step
        current = begin()
        for number in range(4):
            order = "first" if number < 2 else "second"
            current, _ = step(current, make_episodes(number), order=order)
        assert step._cache_size() == 2

    @pytest.mark.parametrize("order", ["first", "second"])
    def test_a_block_of_steps_equals_them_one_by_one(self, meta_step, order):
        learner, tx, step, begin = meta_step
        block_fn = steps.make_meta_train_steps(learner, tx)
        drawn = [make_episodes(n, poison=n == 1) for n in range(4)]
        one, losses = begin(), []
        for episodes in drawn[:3]:
            one, metrics = step(one, episodes, order=order)
            losses.append(metrics["query_loss"])
        rows = jax.tree.map(lambda *parts: np.stack(parts), *drawn)
        is_real = np.arange(4) < 3
        block, metrics = block_fn(begin(), rows, is_real, order=order)
        assert_close(block, one, rtol=1e-6, atol=1e-7)
        assert (int(block.step), int(block.num_skipped)) == (3, 1)
        np.testing.assert_allclose(metrics["query_loss"][:3], losses, rtol=1e-6)
        again, _ = block_fn(block, rows, np.arange(4) < 1, order=order)
        assert int(again.step) == 4
        assert block_fn._cache_size() == 1  # padding is no other shape

    def test_a_block_needs_no_more_memory_than_a_step(self, meta_step):
        learner, tx, step, begin = meta_step
        block_fn = steps.make_meta_train_steps(learner, tx)
        rows = jax.tree.map(lambda leaf: np.stack([leaf] * 64), make_episodes())
        real = np.ones(64, bool)
        block = block_fn.lower(begin(), rows, real, order="second").compile()
        one = step.lower(begin(), make_episodes(), order="second").compile()
        temporary = [
            c.memory_analysis().temp_size_in_bytes  # type: ignore[union-attr]
            for c in (block, one)
        ]
        assert temporary[0] < 2 * temporary[1] + 2**14

    def test_the_state_is_donated(self, meta_step):
        _, _, step, begin = meta_step
        before = begin()
        step(before, make_episodes(), order="first")
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.meta_params))

    def test_training_lowers_the_loss(self, meta_step):
        _, _, step, begin = meta_step
        current, losses = begin(), []
        for _ in range(30):
            current, metrics = step(current, make_episodes(), order="second")
            losses.append(float(metrics["query_loss"]))
        assert losses[-1] < 0.7 * losses[0]
        rates = current.meta_params.learning_rates["kernel"]
        assert (np.abs(rates - 0.3) > 0.01).all()


class TestSkipping:
    def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(self, meta_step):
        _, _, step, begin = meta_step
        current, _ = step(begin(), make_episodes(), order="first")
        kept = to_numpy((current.meta_params, current.opt_state))
        after, metrics = step(current, make_episodes(poison=True), order="first")
        assert_equal((after.meta_params, after.opt_state), kept)
        assert not bool(metrics["finite"])
        assert [int(n) for n in after[2:]] == [2, 1, 1]

    def test_steps_in_a_row_are_counted_until_a_good_one(self, meta_step):
        _, _, step, begin = meta_step
        current, seen = begin(), []
        for poison in (True, True, False, True, False):
            current, _ = step(current, make_episodes(poison=poison), order="first")
            seen.append((int(current.num_skipped), int(current.skipped_in_a_row)))
        assert seen == [(1, 1), (2, 2), (2, 0), (3, 1), (3, 0)]
        assert int(current.step) == 5

    @pytest.mark.parametrize("place", ["loss", "theta", "rates"])
    def test_loss_and_both_gradients_are_looked_at(self, place):
        meta_params = MetaParams(make_params(), {"kernel": jnp.full(2, 0.1)})
        tx = optimizer()
        start = state.init_state(meta_params, tx)
        grads = jax.tree.map(jnp.ones_like, meta_params)
        loss = jnp.float32(np.inf if place == "loss" else 1.0)
        if place == "theta":
            grads.params["bias"] = grads.params["bias"].at[1].set(np.nan)
        if place == "rates":
            grads.learning_rates["kernel"] = jnp.array([1.0, -np.inf])
        after, finite = steps.apply_if_finite(start, grads, loss, tx)
        assert not bool(finite)
        assert_equal(after.meta_params, meta_params)
        assert int(after.num_skipped) == 1


class TestPretrainEpoch:
    def index(self, seed=0, batch=6):
        rng = np.random.default_rng(seed)
        return jnp.asarray(rng.permutation(SAMPLES).reshape(-1, batch), jnp.int32)

    def begin(self, tx):
        return state.init_state(MetaParams(make_params(), {}), tx)

    def test_an_epoch_equals_a_python_loop(self):
        tx, data, index = optimizer(), make_batch((SAMPLES,)), self.index()
        current, losses = self.begin(tx), []
        params, opt_state = current.meta_params, current.opt_state
        for rows in np.asarray(index):
            batch = trees.take(data, rows)
            value, grads = jax.value_and_grad(lambda m, b=batch: loss_fn(m.params, b))(
                params
            )
            updates, opt_state = tx.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            losses.append(value)
        epoch = steps.make_pretrain_epoch(loss_fn, tx)
        after, found = epoch(current, data, index)
        assert_close(after.meta_params, params)
        np.testing.assert_allclose(found, np.stack(losses), rtol=1e-5)
        assert int(after.step) == len(index)

    def test_bad_batches_are_skipped_and_counted(self):
        tx, data = optimizer(), make_batch((SAMPLES,))
        data.inputs[0] = np.nan  # one clip: one batch of four
        epoch = steps.make_pretrain_epoch(loss_fn, tx)
        after, losses = epoch(self.begin(tx), data, self.index())
        assert int(after.num_skipped) == 1
        assert int(np.isnan(losses).sum()) == 1
        assert all(
            np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.meta_params)
        )

    def test_the_state_is_donated(self):
        tx = optimizer()
        before = self.begin(tx)
        steps.make_pretrain_epoch(loss_fn, tx)(
            before, make_batch((SAMPLES,)), self.index()
        )
        assert before.meta_params.params["kernel"].is_deleted()
