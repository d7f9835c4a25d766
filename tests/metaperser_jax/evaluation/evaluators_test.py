"""Adapting many pairs in one call equals adapting them one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import methods
from metaperser_jax.data import pools
from metaperser_jax.evaluation import evaluators
from metaperser_jax.meta import learners
from metaperser_jax.typing import Batch, MetaParams, Pool
from tests.metaperser_jax import meshed

RATINGS, WIDTH, CLASSES, PAIRS = 40, 3, 4, 19  # 19 pairs: a chunk of 16 and a rest


def logits_fn(params, inputs):
    return inputs[:, 0] @ params["kernel"] + params["bias"][None, :]


def loss_fn(params, batch):
    logs = jax.nn.log_softmax(logits_fn(params, batch.inputs))
    kept = batch.mask.any(-1)
    losses = jnp.where(kept, -(batch.targets * logs).sum(-1), 0.0)
    return losses.sum() / jnp.maximum(kept.sum(), 1)


def predict_fn(params, inputs):
    return jax.nn.softmax(logits_fn(params, inputs))


@pytest.fixture
def pool(rng):
    return Pool(
        rng.normal(size=(10, 1, WIDTH)).astype(np.float32),
        rng.integers(0, 10, RATINGS).astype(np.int32),
        np.arange(RATINGS, dtype=np.int32),
        np.zeros(RATINGS, np.int32),
        np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, RATINGS)],
        rng.random((RATINGS, CLASSES)) < 0.9,
    )


@pytest.fixture
def params(rng):
    kernel = jnp.asarray(rng.normal(size=(WIDTH, CLASSES)), jnp.float32)
    return {"kernel": kernel, "bias": jnp.zeros(CLASSES)}


def draw_rows(rng, size, fewest=0):
    """[PAIRS, size] rows with a padded tail of random length."""
    rows = np.stack([rng.permutation(RATINGS)[:size] for _ in range(PAIRS)])
    kept = rng.integers(fewest, size + 1, PAIRS)
    return np.where(np.arange(size) < kept[:, None], rows, -1).astype(np.int32)


def batch_of(pool, rows):
    """The rows as a batch without any padding."""
    rows = rows[rows >= 0]
    return Batch(pool.inputs[pool.row[rows]], pool.targets[rows], pool.mask[rows])


def softmax(params, batch):
    """[samples, classes] in NumPy and double precision."""
    kernel, bias = (np.asarray(params[k], np.float64) for k in ("kernel", "bias"))
    logits = batch.inputs[:, 0] @ kernel + bias
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def loss_of(params, batch):
    kept = batch.mask.any(-1)
    losses = -(batch.targets * np.log(softmax(params, batch))).sum(-1)
    return losses[kept].sum() / max(kept.sum(), 1)


def descend(params, rates, batch, num_steps):
    """Gradient descent with the rates and the gradient by hand."""
    for step in range(num_steps):
        kept = batch.mask.any(-1)[:, None]
        residual = kept * (softmax(params, batch) - batch.targets) / max(kept.sum(), 1)
        grads = {"kernel": batch.inputs[:, 0].T @ residual, "bias": residual.sum(0)}
        params = {
            name: np.asarray(value, np.float64) - rates[name][step] * grads[name]
            for name, value in params.items()
        }
    return params


class TestTakeRows:
    def test_rows_become_a_batch(self, pool):
        rows = np.array([3, 17, 5])
        found = pools.take_rows(pools.to_device(pool), jnp.asarray(rows))
        for a, b in zip(found, batch_of(pool, rows), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_padding_answers_nothing(self, pool):
        found = pools.take_rows(pools.to_device(pool), jnp.array([-1, 3]))
        assert not found.mask[0].any()
        assert not found.targets[0].any()
        assert np.isfinite(found.inputs).all()


class TestAdaptAndPredict:
    def test_it_equals_a_loop_over_pairs(self, rng, pool, params):
        learner = learners.maml(loss_fn, 3, ".*", 0.2)
        meta_params = learner.init(params)
        support, query = draw_rows(rng, 6), draw_rows(rng, 5)
        found = evaluators.adapt_and_predict(
            learner.adapt_for,
            predict_fn,
            meta_params,
            pools.to_device(pool),
            jnp.asarray(support),
            jnp.asarray(query),
        )
        assert found.shape == (PAIRS, 5, CLASSES)
        rates = jax.tree.map(np.asarray, meta_params.learning_rates)
        for pair in range(PAIRS):
            adapted = descend(params, rates, batch_of(pool, support[pair]), 3)
            asked = batch_of(pool, query[pair])
            expected = softmax(adapted, asked)
            np.testing.assert_allclose(
                found[pair, : len(expected)], expected, rtol=1e-4, atol=1e-6
            )

    def test_without_support_the_shared_model_answers(self, rng, pool, params):
        learner = learners.maml(loss_fn, 3, ".*", 0.2)
        query = draw_rows(rng, 5, fewest=5)
        found = evaluators.adapt_and_predict(
            learner.adapt_for,
            predict_fn,
            learner.init(params),
            pools.to_device(pool),
            jnp.full((PAIRS, 4), -1),
            jnp.asarray(query),
        )
        for pair in range(PAIRS):
            expected = softmax(params, batch_of(pool, query[pair]))
            np.testing.assert_allclose(found[pair], expected, rtol=1e-5)


def test_adapt_all_stacks_the_models_of_the_listeners(rng, pool, params):
    learner = learners.maml(loss_fn, 2, ".*", 0.2)
    meta_params = learner.init(params)
    support = draw_rows(rng, 6)
    found = evaluators.adapt_all(
        learner.adapt, meta_params, pools.to_device(pool), jnp.asarray(support)
    )
    for pair in (0, 7, PAIRS - 1):
        batch = batch_of(pool, support[pair])
        expected = descend(params, meta_params.learning_rates, batch, 2)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][pair], value, rtol=1e-4, atol=1e-6)


class TestCandidateScores:
    NUM_STEPS = 3

    def candidates(self, rng, count=4):
        return {
            name: jnp.asarray(rng.uniform(0, 0.5, (count, self.NUM_STEPS)), jnp.float32)
            for name in ("kernel", "bias")
        }

    def score(self, pool, params, candidates, support, query, count, **options):
        learner = learners.maml(loss_fn, self.NUM_STEPS)
        return evaluators.candidate_scores(
            learner.adapt_for,
            loss_fn,
            params,
            candidates,
            pools.to_device(pool),
            jnp.asarray(support),
            jnp.asarray(query),
            count,
            **options,
        )

    def loop(self, pool, params, candidates, support, query, count, num_steps):
        """[candidates] mean score over the pairs, one by one."""
        means = []
        for index in range(count):
            rates = {k: np.asarray(v[index]) for k, v in candidates.items()}
            scores = [
                loss_of(
                    descend(params, rates, batch_of(pool, s), num_steps),
                    batch_of(pool, q),
                )
                for s, q in zip(support, query, strict=True)
            ]
            means.append(np.mean(scores))
        return np.array(means)

    def test_it_equals_a_loop_over_candidates_and_pairs(self, rng, pool, params):
        candidates = self.candidates(rng, 3)
        support, query = draw_rows(rng, 5), draw_rows(rng, 6, fewest=1)
        found = self.score(pool, params, candidates, support, query, 3)
        expected = self.loop(pool, params, candidates, support, query, 3, 3)
        assert found.shape == (3, 1)
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)

    def test_every_step_is_what_so_many_steps_give(self, rng, pool, params):
        candidates = self.candidates(rng, 2)
        support, query = draw_rows(rng, 5), draw_rows(rng, 6, fewest=1)
        found = self.score(pool, params, candidates, support, query, 2, every_step=True)
        assert found.shape == (2, self.NUM_STEPS + 1)
        for steps in range(self.NUM_STEPS + 1):
            expected = self.loop(pool, params, candidates, support, query, 2, steps)
            np.testing.assert_allclose(found[:, steps], expected, rtol=1e-4)

    def test_a_learner_without_rates_has_one_candidate(self, rng, pool, params):
        query = draw_rows(rng, 6, fewest=1)
        learner = learners.no_adaptation(loss_fn)
        found = evaluators.candidate_scores(
            learner.adapt_for,
            loss_fn,
            params,
            {},
            pools.to_device(pool),
            jnp.full((PAIRS, 1), -1),
            jnp.asarray(query),
            1,
        )
        expected = np.mean([loss_of(params, batch_of(pool, q)) for q in query])
        np.testing.assert_allclose(found, [[expected]], rtol=1e-5)

    def test_a_setting_that_diverges_never_looks_good(self, rng, pool, params):
        good = jnp.full((1, self.NUM_STEPS), 0.1)
        candidates = {
            name: jnp.concatenate([good, jnp.full_like(good, np.inf)])
            for name in ("kernel", "bias")
        }
        support, query = draw_rows(rng, 5, fewest=1), draw_rows(rng, 6, fewest=1)
        found = self.score(pool, params, candidates, support, query, 2)
        assert np.isfinite(found).all()
        assert found[0, 0] < 10 < 1e6 < found[1, 0]


def test_the_adapted_parameters_do_not_depend_on_the_padding(rng, pool, params):
    learner = learners.maml(loss_fn, 2, ".*", 0.2)
    meta_params = MetaParams(params, learner.init(params).learning_rates)
    device = pools.to_device(pool)
    rows = jnp.array([[4, 9, 2]])
    padded = jnp.array([[4, -1, 9, 2, -1, -1]])
    narrow = evaluators.adapt_all(learner.adapt, meta_params, device, rows)
    wide = evaluators.adapt_all(learner.adapt, meta_params, device, padded)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        narrow,
        wide,
    )


class TestKnownUnits:
    """Products of the pool with the shared kernel, gathered by all pairs."""

    def predict(self, units_fn, learner, meta_params):
        pool = pools.to_device(meshed.make_pool())
        rows = meshed.draw(7, PAIRS, 6), meshed.draw(8, PAIRS, 3)
        model = methods.make_model(meshed.SPEC)
        return evaluators.adapt_and_predict(
            learner.adapt_for, model.predict_fn, meta_params, pool, *rows,
            units_fn=units_fn,
        )  # fmt: skip

    def test_predictions_are_the_same(self):
        learner = methods.make_learner("maml", meshed.SPEC, meshed.META)
        model = methods.make_model(meshed.SPEC)
        meta_params = learner.init(model.init_fn(jax.random.key(1)))
        calls = []

        def units_fn(*arguments):
            calls.append(arguments)
            return learner.units_fn(*arguments)

        found = self.predict(units_fn, learner, meta_params)
        assert len(calls) == 1
        wanted = self.predict(None, learner, meta_params)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
        shared = learner.units_fn(meta_params, meshed.make_pool().inputs)
        assert shared.shape == (20, meshed.SPEC.hidden)

    @pytest.mark.parametrize(
        ("name", "inner"), [("no_adaptation", "auto"), ("maml", "general")]
    )
    def test_who_takes_none(self, name, inner):
        meta = meshed.META._replace(inner=inner)
        learner = methods.make_learner(name, meshed.SPEC, meta)
        params = methods.make_model(meshed.SPEC).init_fn(jax.random.key(1))
        meta_params = learner.init(params)
        assert learner.units_fn(meta_params, meshed.make_pool().inputs) is None
        self.predict(learner.units_fn, learner, meta_params)
