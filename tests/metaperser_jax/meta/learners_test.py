"""MAML against closed forms, finite differences, loops and its own variants."""

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metaperser_jax import heads, losses, trees
from metaperser_jax.errors import InputError
from metaperser_jax.evaluation import evaluators
from metaperser_jax.meta import learners
from metaperser_jax.typing import Batch, Episode, MetaParams

_path = pathlib.Path(__file__).with_name("quadratics.py")
_spec = importlib.util.spec_from_file_location("quadratics", _path)
quadratics = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(quadratics)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


QUADRATIC_MAML = learners.maml(quadratics.loss_fn, 2)


def quadratic_episode(rng, tasks=1):
    episodes = [
        Episode(quadratics.make_task(rng), quadratics.make_task(rng))
        for _ in range(tasks)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *episodes)


def quadratic_meta_params(rng, num_steps):
    return MetaParams(
        quadratics.make_params(rng), quadratics.make_rates(rng, num_steps)
    )


# A small network on masked batches, for what a quadratic cannot show.


def network_loss(params, batch):
    hidden = jnp.tanh(batch.inputs @ params["projector"]["kernel"])
    logits = hidden @ params["classifier"]["kernel"]
    logits = logits + params["classifier"]["bias"][None, :]
    losses = -(batch.targets * jax.nn.log_softmax(logits)).sum(-1)
    kept = batch.mask.any(-1)
    return jnp.where(kept, losses, 0.0).sum() / jnp.maximum(kept.sum(), 1)


def network_params(rng):
    return {
        "projector": {"kernel": rng.normal(size=(4, 6))},
        "classifier": {"kernel": rng.normal(size=(6, 3)), "bias": rng.normal(size=3)},
    }


def network_batch(rng, tasks, samples=5):
    targets = np.eye(3)[rng.integers(0, 3, (tasks, samples))]
    mask = rng.random((tasks, samples, 1)) < 0.8
    return Batch(
        rng.normal(size=(tasks, samples, 4)), targets, mask | np.zeros((1, 1, 3), bool)
    )


network_grad = jax.grad(network_loss)
NETWORK_MAML = learners.maml(network_loss, 3, init_learning_rate=0.3)


def network_episodes(rng, tasks=3):
    return Episode(network_batch(rng, tasks), network_batch(rng, tasks))


# One quick compilation for each function: these tests ask whether the mathematics is
# right, and nearly all their time is XLA's.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.lru_cache
def jitted(fn, **options):
    return jit(functools.partial(fn, **options))


@functools.lru_cache
def jitted_grad(meta_loss, order):
    return jit(jax.grad(lambda *arguments: meta_loss(*arguments, order=order)[0]))


def meta_grad(learner, meta_params, episodes, order):
    return jitted_grad(learner.meta_loss, order)(meta_params, episodes)


def meta_loss(learner, meta_params, episodes, order):
    return jitted(learner.meta_loss, order=order)(meta_params, episodes)


def adapt(learner, meta_params, support, **options):
    return jitted(learner.adapt, **options)(meta_params, support)


def assert_trees_close(a, b, rtol=1e-10):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-12), a, b
    )


class TestClosedForm:
    @pytest.mark.parametrize("num_steps", [0, 1, 2, 5])
    def test_adapted_point(self, rng, num_steps):
        meta_params = quadratic_meta_params(rng, num_steps)
        task = quadratics.make_task(rng)
        learner = learners.maml(quadratics.loss_fn, num_steps)
        params, info = adapt(learner, meta_params, task, order="second")
        expected = quadratics.adapted_point(task, *meta_params, num_steps)
        np.testing.assert_allclose(quadratics.flat(params), expected, rtol=1e-12)
        assert info.support_losses.shape == (num_steps,)

    @pytest.mark.parametrize("order", ["first", "second"])
    @pytest.mark.parametrize("num_steps", [1, 3])
    def test_meta_gradient_and_rate_gradients(self, rng, num_steps, order):
        meta_params = quadratic_meta_params(rng, num_steps)
        episodes = quadratic_episode(rng)
        learner = learners.maml(quadratics.loss_fn, num_steps)
        grads = meta_grad(learner, meta_params, episodes, order)
        support, query = trees.take(episodes, 0)
        theta, rates = quadratics.meta_gradients(
            support, query, *meta_params, num_steps, order
        )
        np.testing.assert_allclose(quadratics.flat(grads.params), theta, rtol=1e-10)
        assert_trees_close(grads.learning_rates, rates)


class TestGradients:
    def test_second_order_against_finite_differences(self, rng):
        meta_params = NETWORK_MAML.init(network_params(rng))
        episodes = network_episodes(rng)

        @jax.jit
        def loss(meta_params):
            return NETWORK_MAML.meta_loss(meta_params, episodes, order="second")[0]

        check_grads(loss, (meta_params,), order=1, modes=["rev"], rtol=1e-6)

    def test_first_order_is_the_gradient_at_the_adapted_point(self, rng):
        meta_params = NETWORK_MAML.init(network_params(rng))
        episodes = network_episodes(rng)
        expected = []
        for task in range(3):
            support, query = trees.take(episodes, task)
            adapted, _ = adapt(NETWORK_MAML, meta_params, support, order="first")
            expected.append(jitted(network_grad)(adapted, query))
        grads = meta_grad(NETWORK_MAML, meta_params, episodes, "first")
        mean = jax.tree.map(lambda *g: np.mean(g, axis=0), *expected)
        assert_trees_close(grads.params, mean)

    def test_first_order_differs_from_second(self, rng):
        meta_params = NETWORK_MAML.init(network_params(rng))
        episodes = network_episodes(rng)
        first = meta_grad(NETWORK_MAML, meta_params, episodes, "first")
        second = meta_grad(NETWORK_MAML, meta_params, episodes, "second")
        for name, leaf in trees.flatten(first.params).items():
            other = trees.flatten(second.params)[name]
            assert np.abs(leaf - other).max() > 1e-3 * np.abs(other).max(), name

    def test_no_inner_steps_is_plain_training(self, rng):
        learner = learners.maml(network_loss, 0)
        params = network_params(rng)
        episodes = network_episodes(rng)
        grads = meta_grad(learner, learner.init(params), episodes, "second")
        pooled = jax.vmap(network_loss, in_axes=(None, 0))
        plain = jit(jax.grad(lambda p: pooled(p, episodes.query).mean()))(params)
        assert_trees_close(grads.params, plain)

    @pytest.mark.parametrize("order", ["first", "second"])
    def test_frozen_tensors_still_learn_in_the_outer_loop(self, rng, order):
        learner = learners.maml(network_loss, 2, adapt="classifier/.*")
        meta_params = learner.init(network_params(rng))
        assert set(meta_params.learning_rates) == {
            "classifier/bias",
            "classifier/kernel",
        }
        grads = meta_grad(learner, meta_params, network_episodes(rng), order)
        assert np.abs(grads.params["projector"]["kernel"]).max() > 0

    def test_remat_equals_no_remat(self, rng):
        meta_params = NETWORK_MAML.init(network_params(rng))
        episodes = network_episodes(rng)
        remat = learners.maml(network_loss, 3, remat=True)
        assert_trees_close(
            meta_grad(NETWORK_MAML, meta_params, episodes, "second"),
            meta_grad(remat, meta_params, episodes, "second"),
        )

    def test_rates_out_of_bounds_are_clamped_and_can_come_back(self, rng):
        learner = learners.maml(quadratics.loss_fn, 1, rate_bounds=(0.0, 1.0))
        params = quadratics.make_params(rng)
        meta_params = MetaParams(params, {"a": np.array([-0.5]), "b": np.array([7.0])})
        episodes = quadratic_episode(rng)
        support = trees.take(episodes.support, 0)
        adapted, _ = adapt(learner, meta_params, support, order="first")
        inside = {"a": np.array([0.0]), "b": np.array([1.0])}
        expected = quadratics.adapted_point(support, params, inside, 1)
        np.testing.assert_allclose(quadratics.flat(adapted), expected, rtol=1e-12)
        grads = meta_grad(learner, meta_params, episodes, "second")
        assert all(np.abs(g).min() > 0 for g in grads.learning_rates.values())

    def test_proximal_term_adds_its_pull_to_each_inner_gradient(self, rng):
        """Equal to a quadratic with H + rho I and the matching centre."""
        meta_params = quadratic_meta_params(rng, 4)
        task, rho = quadratics.make_task(rng), 0.7
        theta = quadratics.flat(meta_params.params)
        H = task.H + rho * np.eye(5)
        c = np.linalg.solve(H, task.H @ task.c + rho * theta)
        pulled = quadratics.Quadratic(H, c)
        learner = learners.maml(quadratics.loss_fn, 4, proximal=rho)
        params, _ = adapt(learner, meta_params, task, order="second")
        expected = quadratics.adapted_point(pulled, *meta_params, 4)
        np.testing.assert_allclose(quadratics.flat(params), expected, rtol=1e-12)

    def test_multi_step_loss_weighs_the_query_loss_after_each_step(self, rng):
        weights = (0.1, 0.3, 0.6)
        meta_params = quadratic_meta_params(rng, 3)
        episodes = quadratic_episode(rng)
        learner = learners.maml(quadratics.loss_fn, 3, multi_step_weights=weights)
        loss, _ = meta_loss(learner, meta_params, episodes, order="second")
        support, query = trees.take(episodes, 0)
        expected = 0.0
        for steps, weight in enumerate(weights, start=1):
            phi = quadratics.adapted_point(support, *meta_params, steps) - query.c
            expected += weight * 0.5 * phi @ query.H @ phi
        np.testing.assert_allclose(loss, expected, rtol=1e-10)


class TestOverTasks:
    @pytest.mark.parametrize("order", ["first", "second"])
    def test_vmap_equals_a_python_loop(self, rng, order):
        meta_params = NETWORK_MAML.init(network_params(rng))
        episodes = network_episodes(rng)
        loss, info = meta_loss(NETWORK_MAML, meta_params, episodes, order=order)
        singles = []
        for task in range(3):
            support, query = trees.take(episodes, task)
            params, _ = adapt(NETWORK_MAML, meta_params, support, order=order)
            singles.append(jitted(network_loss)(params, query))
        np.testing.assert_allclose(info.per_task, singles, rtol=1e-12)
        np.testing.assert_allclose(loss, np.mean(singles), rtol=1e-12)

    @pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
    def test_chunked_equals_unchunked(self, rng, chunk):
        meta_params = quadratic_meta_params(rng, 2)
        episodes = quadratic_episode(rng, tasks=5)
        chunked = learners.maml(quadratics.loss_fn, 2, task_chunk=chunk)
        assert_trees_close(
            meta_grad(QUADRATIC_MAML, meta_params, episodes, "second"),
            meta_grad(chunked, meta_params, episodes, "second"),
        )


class TestSupportSets:
    def test_padding_changes_nothing(self, rng):
        learner = NETWORK_MAML
        meta_params = learner.init(network_params(rng))
        batch = trees.take(network_batch(rng, 1), 0)
        padded = Batch(*(np.pad(x, [(0, 4), (0, 0)], mode="edge") for x in batch))
        padded.mask[5:] = False
        a, _ = adapt(learner, meta_params, batch)
        b, _ = adapt(learner, meta_params, padded)
        assert_trees_close(a, b)

    def test_an_empty_support_set_changes_nothing(self, rng):
        learner = learners.maml(network_loss, 3, proximal=0.1)
        meta_params = learner.init(network_params(rng))
        batch = trees.take(network_batch(rng, 1), 0)
        empty = batch._replace(mask=np.zeros_like(batch.mask))
        params, _ = adapt(learner, meta_params, empty)
        assert_trees_close(params, meta_params.params)

    def test_steps_beyond_the_learned_repeat_the_last_rate(self, rng):
        meta_params = quadratic_meta_params(rng, 2)
        task = quadratics.make_task(rng)
        learner = learners.maml(quadratics.loss_fn, 2)
        params, info = adapt(learner, meta_params, task, num_steps=5)
        rates = {k: v[[0, 1, 1, 1, 1]] for k, v in meta_params.learning_rates.items()}
        expected = quadratics.adapted_point(task, meta_params.params, rates, 5)
        np.testing.assert_allclose(quadratics.flat(params), expected, rtol=1e-12)
        assert info.support_losses.shape == (5,)


class TestOtherLearners:
    def test_reptile_gradient_is_theta_minus_phi(self, rng):
        learner = learners.reptile(network_loss, 4, init_learning_rate=0.2)
        meta_params = learner.init(network_params(rng))
        episodes = network_episodes(rng, tasks=3)
        grads = meta_grad(learner, meta_params, episodes, "first")
        drifts = []
        for task in range(3):
            phi, _ = adapt(learner, meta_params, trees.take(episodes.support, task))
            drifts.append(trees.subtract(meta_params.params, phi))
        expected = jax.tree.map(lambda *d: np.mean(d, axis=0), *drifts)
        assert_trees_close(grads.params, expected)

    def test_no_adaptation_returns_the_shared_model(self, rng):
        learner = learners.no_adaptation(network_loss)
        meta_params = learner.init(network_params(rng))
        support = trees.take(network_batch(rng, 1), 0)
        params, _ = adapt(learner, meta_params, support)
        assert_trees_close(params, meta_params.params)

    def test_nearest_listener_takes_the_bank_entry_with_least_support_loss(self, rng):
        bank = [network_params(rng) for _ in range(5)]
        learner = learners.nearest_listener(network_loss)
        support = trees.take(network_batch(rng, 1), 0)
        params, _ = adapt(learner, learner.init(trees.stack(bank)), support)
        best = min(bank, key=lambda p: float(jitted(network_loss)(p, support)))
        assert_trees_close(params, best)

    def test_prototypes_without_support_are_the_shared_classifier(self, rng):
        learner = learners.prototypes(network_loss, network_embed)
        meta_params = learner.init(network_params(rng))
        batch = trees.take(network_batch(rng, 1), 0)
        empty = batch._replace(mask=np.zeros_like(batch.mask))
        params, _ = adapt(learner, meta_params, empty)
        assert_trees_close(params, meta_params.params)

    def test_prototypes_rank_classes_by_distance_to_the_smoothed_class_mean(self, rng):
        learner = learners.prototypes(network_loss, network_embed, strength=2.0)
        meta_params = learner.init(network_params(rng))
        shared = meta_params.params["classifier"]
        support = trees.take(network_batch(rng, 1), 0)
        params, _ = adapt(learner, meta_params, support)
        f = np.asarray(jitted(network_embed)(params, support.inputs))
        adapted = jax.tree.map(np.asarray, params["classifier"])
        logits = f @ adapted["kernel"] + adapted["bias"]
        for c in range(3):
            mine = (support.targets[:, c] > 0) & support.mask[:, c]
            anchor = shared["kernel"][:, c] / 2
            centre = (f[mine].sum(0) + 2.0 * anchor) / (mine.sum() + 2.0)
            distance = np.square(f - centre).sum(-1) - np.square(f).sum(-1)
            bonus = shared["bias"][c] + np.square(anchor).sum()
            np.testing.assert_allclose(logits[:, c], bonus - distance, rtol=1e-9)

    def test_base_rate_predicts_the_smoothed_rates_whatever_it_hears(self, rng):
        prior = np.array([0.5, 0.3, 0.2])
        learner = learners.base_rate(
            network_loss, prior, jnp.log, label_totals, strength=2.0
        )
        meta_params = learner.init(network_params(rng))
        batch = trees.take(network_batch(rng, 1), 0)
        support = batch._replace(mask=np.ones_like(batch.mask))
        params, _ = adapt(learner, meta_params, support)
        rates = (support.targets.sum(0) + 2.0 * prior) / 7.0
        probs = jitted(network_predict)(params, rng.normal(size=(4, 4)))
        np.testing.assert_allclose(probs, np.tile(rates, (4, 1)), rtol=1e-10)

    def test_prior_calibration_moves_only_the_bias_by_the_log_ratio(self, rng):
        learner = learners.prior_calibration(
            network_loss, network_predict, jnp.log, label_totals, strength=3.0
        )
        meta_params = learner.init(network_params(rng))
        batch = trees.take(network_batch(rng, 1), 0)
        support = batch._replace(mask=np.ones_like(batch.mask))
        params, _ = adapt(learner, meta_params, support)
        mean = jitted(network_predict)(meta_params.params, support.inputs).mean(0)
        rates = (support.targets.sum(0) + 3.0 * mean) / 8.0
        shift = params["classifier"]["bias"] - meta_params.params["classifier"]["bias"]
        np.testing.assert_allclose(shift, np.log(rates / mean), rtol=1e-10)
        assert_trees_close(params["projector"], meta_params.params["projector"])


def network_embed(params, inputs):
    return jnp.tanh(inputs @ params["projector"]["kernel"])


def network_predict(params, inputs):
    classifier = params["classifier"]
    logits = network_embed(params, inputs) @ classifier["kernel"]
    return jax.nn.softmax(logits + classifier["bias"][None, :])


def label_totals(batch):
    return jnp.where(batch.mask, batch.targets, 0.0).sum(0), batch.mask.sum(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": -1}, "num_steps=-1"),
        ({"num_steps": 2, "multi_step_weights": (1.0,)}, "1 entries"),
        ({"task_chunk": 0}, "task_chunk=0"),
        ({"adapt": "clasifier/.*"}, "Did you mean 'classifier/"),
        ({"adapt": "("}, "not a regular expression"),
    ],
)
def test_arguments_that_cannot_be_are_named(rng, arguments, message):
    with pytest.raises(InputError) as error:
        learners.maml(network_loss, **arguments).init(network_params(rng))
    assert message in str(error.value)


def test_base_rate_survives_the_compiled_loop_over_many_pairs(rng):
    """XLA's CPU backend may lose the bias of a batched product with a constant zero.

    It does so inside a loop and at some sizes: these are ones where it always did. The
    rates in numpy are the oracle.
    """
    pairs, size, num_query, rows, classes = 2 * evaluators.CHUNK + 1, 16, 60, 40, 6
    head = heads.make_head(classes, hidden=256)
    prior = np.full(classes, 1 / classes, np.float32)

    def predict(params, inputs):
        return losses.predict(heads.apply_head(head, params, inputs), "softmax")

    with jax.enable_x64(False):
        pool = evaluators.DevicePool(
            rng.normal(size=(rows, 2, 4)).astype(np.float32),
            np.arange(rows),
            np.eye(classes, dtype=np.float32)[rng.integers(0, classes, rows)],
            np.ones((rows, classes), bool),
        )
        learner = learners.base_rate(
            network_loss,
            prior,
            functools.partial(losses.link, family="softmax"),
            label_totals,
        )
        params = jax.jit(head.init)(jax.random.key(0), pool.inputs)["params"]
        meta_params = learner.init(params)
        support = rng.integers(0, rows, (pairs, size)).astype(np.int32)
        query = rng.integers(0, rows, (pairs, num_query)).astype(np.int32)
        found = evaluators.adapt_and_predict(
            learner.adapt, predict, meta_params, pool, support, query
        )
        rates = (pool.targets[support].sum(1) + prior) / (size + 1)
        expected = np.broadcast_to(rates[:, None], (pairs, num_query, classes))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
