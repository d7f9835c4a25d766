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
from metaperser_jax.data import pools
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
        padded = jax.tree.map(lambda x: np.pad(x, [(0, 4), (0, 0)], mode="edge"), batch)
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


class TestSupportLoss:
    """The inner steps may descend another loss than the query set is judged by."""

    def test_inner_steps_descend_it_and_the_query_loss_does_not(self, rng):
        def doubled(params, batch):
            return 2.0 * network_loss(params, batch)

        meta_params = NETWORK_MAML.init(network_params(rng))
        halved = MetaParams(
            meta_params.params,
            {path: rate / 2 for path, rate in meta_params.learning_rates.items()},
        )
        episodes = network_episodes(rng)
        learner = learners.maml(network_loss, 3, support_loss_fn=doubled)
        loss, info = meta_loss(learner, halved, episodes, "second")
        expected, plain = meta_loss(NETWORK_MAML, meta_params, episodes, "second")
        np.testing.assert_allclose(loss, expected, rtol=1e-10)
        np.testing.assert_allclose(
            info.support_losses, 2 * plain.support_losses, rtol=1e-10
        )

    def test_the_multi_step_loss_judges_by_the_query_loss(self, rng):
        last = learners.maml(
            network_loss,
            2,
            support_loss_fn=network_squares,
            multi_step_weights=(0.0, 1.0),
        )
        meta_params = last.init(network_params(rng))
        episodes = network_episodes(rng)
        plain = learners.maml(network_loss, 2, support_loss_fn=network_squares)
        np.testing.assert_allclose(
            meta_loss(last, meta_params, episodes, "second")[0],
            meta_loss(plain, meta_params, episodes, "second")[0],
            rtol=1e-10,
        )

    def test_reptile_drifts_along_it(self, rng):
        learner = learners.reptile(
            network_loss, 2, init_learning_rate=0.2, support_loss_fn=network_squares
        )
        by_squares = learners.maml(network_squares, 2, init_learning_rate=0.2)
        meta_params = learner.init(network_params(rng))
        episodes = network_episodes(rng, tasks=1)
        support, query = trees.take(episodes, 0)
        phi, _ = adapt(by_squares, meta_params, support)
        drift = trees.subtract(meta_params.params, phi)
        grads = meta_grad(learner, meta_params, episodes, "first")
        assert_trees_close(grads.params, drift)
        _, info = meta_loss(learner, meta_params, episodes, "first")
        expected = jitted(network_loss)(phi, query)
        np.testing.assert_allclose(info.query_loss, expected, rtol=1e-10)


def network_squares(params, batch):
    return jnp.square(network_predict(params, batch.inputs) - batch.targets).mean()


# Two classes and two dimensions on the same network, or the dimensions alone.


def rating_values(params, inputs):
    classifier = params["classifier"]
    values = network_embed(params, inputs) @ classifier["kernel"]
    return values + classifier["bias"][None, :]


def rating_problem(rng, num_classes):
    outputs, samples = num_classes + 2, 7
    params = network_params(rng)
    params["classifier"] = {
        "kernel": rng.normal(size=(6, outputs)),
        "bias": rng.normal(size=outputs),
    }
    targets = rng.normal(size=(samples, outputs))
    targets[:, :num_classes] = rng.random((samples, num_classes)) < 0.5
    mask = rng.random((samples, outputs)) < 0.7
    mask[:, :num_classes] = True
    mask[:2, num_classes:] = True
    return params, Batch(rng.normal(size=(samples, 4)), targets, mask)


def shrunk_residual(params, support, num_classes, strength):
    """Mean of what is left of the ratings, times n / (n + strength)."""
    values = np.asarray(jitted(rating_values)(params, support.inputs))
    shift = []
    for column in range(num_classes, values.shape[1]):
        kept = support.mask[:, column]
        left = (support.targets - values)[kept, column]
        shift.append(left.mean() * kept.sum() / (kept.sum() + strength))
    return np.array(shift)


@pytest.mark.parametrize("num_classes", [0, 2])
class TestClosedFormsOfDimensions:
    def loss(self, params, batch):
        return rating_values(params, batch.inputs).sum()

    def predict(self, num_classes):
        def predict(params, inputs):
            values = rating_values(params, inputs)
            return losses.on_classes(jax.nn.sigmoid, values, 2)

        return predict

    def link(self, rates):
        return losses.on_classes(lambda p: jnp.log(p / (1 - p)), rates, 2)

    def test_prototypes_move_the_bias_by_the_shrunk_residual(self, rng, num_classes):
        params, support = rating_problem(rng, num_classes)
        learner = learners.prototypes(
            self.loss, network_embed, strength=3.0, num_dimensions=2
        )
        adapted, _ = adapt(learner, learner.init(params), support)
        before, after = params["classifier"], adapted["classifier"]
        d = slice(num_classes, None)
        np.testing.assert_allclose(after["kernel"][:, d], before["kernel"][:, d])
        np.testing.assert_allclose(
            (after["bias"] - before["bias"])[d],
            shrunk_residual(params, support, num_classes, 3.0),
            rtol=1e-10,
        )
        if num_classes:  # they see nothing of the dimensions
            alone = learners.prototypes(self.loss, network_embed, strength=3.0)
            c = slice(num_classes)
            classifier = {"kernel": before["kernel"][:, c], "bias": before["bias"][c]}
            only, _ = adapt(
                alone,
                alone.init({**params, "classifier": classifier}),
                Batch(support.inputs, support.targets[:, c], support.mask[:, c]),
            )
            np.testing.assert_allclose(
                after["kernel"][:, c], only["classifier"]["kernel"], rtol=1e-10
            )
            np.testing.assert_allclose(
                after["bias"][c], only["classifier"]["bias"], rtol=1e-10
            )

    def test_prior_calibration_moves_it_as_well(self, rng, num_classes):
        params, support = rating_problem(rng, num_classes)
        learner = learners.prior_calibration(
            self.loss, self.predict(num_classes), self.link, label_totals, strength=3.0
        )
        adapted, _ = adapt(learner, learner.init(params), support)
        before, after = params["classifier"], adapted["classifier"]
        np.testing.assert_allclose(after["kernel"], before["kernel"])
        np.testing.assert_allclose(
            (after["bias"] - before["bias"])[num_classes:],
            shrunk_residual(params, support, num_classes, 3.0),
            rtol=1e-10,
        )

    def test_base_rate_is_the_mean_rating_shrunk_to_the_pooled_one(
        self, rng, num_classes
    ):
        params, support = rating_problem(rng, num_classes)
        prior = np.array([*(0.3, 0.6)[:num_classes], 0.0, 0.0])
        learner = learners.base_rate(
            self.loss, prior, self.link, label_totals, strength=2.0
        )
        adapted, _ = adapt(learner, learner.init(params), support)
        found = jitted(self.predict(num_classes))(adapted, rng.normal(size=(3, 4)))
        total = np.where(support.mask, support.targets, 0).sum(0)
        expected = (total + 2 * prior) / (support.mask.sum(0) + 2)
        np.testing.assert_allclose(found, np.tile(expected, (3, 1)), rtol=1e-10)

    def test_an_empty_support_set_changes_nothing(self, rng, num_classes):
        params, support = rating_problem(rng, num_classes)
        empty = support._replace(mask=np.zeros_like(support.mask))
        for learner in (
            learners.prototypes(self.loss, network_embed, num_dimensions=2),
            learners.prior_calibration(
                self.loss, self.predict(num_classes), self.link, label_totals
            ),
        ):
            adapted, _ = adapt(learner, learner.init(params), empty)
            assert_trees_close(adapted, params)


class TestListenersWhoUseTheScaleDifferently:
    """Pure regression: each listener shifts and stretches the same true valence."""

    NUM_SUPPORT, NUM_QUERY, WIDTH = 8, 24, 5

    def listeners(self, seed, count):
        """Ratings a_l z + b_l + noise of clips with valence z = w x, |w| = 1."""
        rng = np.random.default_rng(seed)
        samples = self.NUM_SUPPORT + self.NUM_QUERY
        inputs = rng.normal(size=(count, samples, self.WIDTH))
        w = np.array([0.6, -0.5, 0.4, 0.4, -0.3])
        valence = inputs @ (w / np.linalg.norm(w))
        scale = rng.uniform(0.4, 1.6, (count, 1))
        shift = rng.normal(0, 1, (count, 1))
        noise = rng.normal(0, 0.3, valence.shape)
        targets = (scale * valence + shift + noise)[..., None]
        batch = Batch(inputs, targets, np.ones(targets.shape, bool))
        at = self.NUM_SUPPORT
        return Episode(
            jax.tree.map(lambda x: x[:, :at], batch),
            jax.tree.map(lambda x: x[:, at:], batch),
        )

    def embed(self, params, inputs):
        return inputs

    def loss_fn(self, name):
        def apply(params, inputs):
            classifier = params["classifier"]
            return inputs @ classifier["kernel"] + classifier["bias"][None, :]

        return losses.make_loss_fn(apply, num_dimensions=1, dimension_loss=name)

    def learner(self, num_steps):
        return learners.maml(
            self.loss_fn("ccc"), num_steps, support_loss_fn=self.loss_fn("mse")
        )

    def train(self, learner, meta_params, rate, num_steps=200):
        """Gradient descent on the outer loss over the training listeners."""
        episodes = self.listeners(1, 40)

        def step(meta_params, _):
            def loss(m):
                return learner.meta_loss(m, episodes, order="second")[0]

            grads = jax.grad(loss)(meta_params)
            return jax.tree.map(lambda p, g: p - rate * g, meta_params, grads), None

        def loop(start):
            return jax.lax.scan(step, start, length=num_steps)[0]

        return jit(loop)(meta_params)

    def test_meta_trained_adaptation_learns_to_calibrate_a_new_one(self):
        start = {"kernel": np.full((self.WIDTH, 1), 0.01), "bias": np.zeros(1)}
        pooled = self.learner(0)
        shared = self.train(pooled, pooled.init({"classifier": start}), 0.3)
        learner = self.learner(3)
        trained = self.train(learner, learner.init(shared.params), 0.05)
        tests = self.listeners(2, 40)

        def concordance(learner, meta_params):
            return 1 - meta_loss(learner, meta_params, tests, "first")[0]

        shifted = learners.prototypes(
            self.loss_fn("ccc"), self.embed, strength=1.0, num_dimensions=1
        )
        unadapted = concordance(pooled, shared)
        by_shift = concordance(shifted, shifted.init(shared.params))
        adapted = concordance(learner, trained)
        assert unadapted < by_shift - 0.05
        assert by_shift < adapted - 0.05  # it learned the listener's scale as well
        assert adapted > 0.85


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
        pool = pools.DevicePool(
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
            learner.adapt_for, predict, meta_params, pool, support, query
        )
        rates = (pool.targets[support].sum(1) + prior) / (size + 1)
        expected = np.broadcast_to(rates[:, None], (pairs, num_query, classes))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
