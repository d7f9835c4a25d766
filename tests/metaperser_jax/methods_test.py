"""Each method's recipe, what it starts from, and what it is tuned over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import losses, methods
from metaperser_jax.meta.learners import STRENGTH
from metaperser_jax.settings import METHODS, MetaSettings, from_config
from metaperser_jax.typing import Batch, Episode, MetaParams

SPEC = methods.ModelSpec(2, 5, 3, 4, "none", "softmax", 0.05, class_balanced=True)
WEIGHTS = np.array([1.0, 0.5, 1.5], np.float32)
META = MetaSettings(num_steps=2, init_learning_rate=0.1)
PRIOR = (0.5, 0.3, 0.2)
LEARNED = [m for m in METHODS if m != "ground_truth"]


def learner_for(method):
    spec = methods.spec_for(method, SPEC)
    prior = PRIOR if method == "base_rate" else ()
    return methods.make_learner(methods.learner_of(method), spec, META, prior), spec


def make_batch(rng, *leading, samples=6):
    shape = (*leading, samples)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, shape)]
    inputs = rng.normal(size=(*shape, 2, 5)).astype(np.float32)
    weights = np.broadcast_to(WEIGHTS, targets.shape)
    return Batch(inputs, targets, np.ones((*shape, 3), bool), weights)


class TestRecipes:
    """What an ablation takes away, and nothing else."""

    @pytest.mark.parametrize(
        ("method", "changes"),
        [
            ("minus_csmt", {"mode": "disjoint"}),
            ("minus_da", {"second_order_from": 0.0}),
            ("minus_lslr", {"learn_rates": False}),
            (
                "maml",
                {"mode": "disjoint", "second_order_from": 0.0, "learn_rates": False},
            ),
            (
                "fomaml",
                {"mode": "disjoint", "second_order_from": 1.0, "learn_rates": False},
            ),
            ("anil", {"learner": "anil"}),
            (
                "reptile",
                {"learner": "reptile", "second_order_from": 1.0, "learn_rates": False},
            ),
            ("prototypes", {"learner": "prototypes", "second_order_from": 1.0}),
            ("listener_embedding", {"learner": "listener_embedding"}),
        ],
    )
    def test_a_method_differs_from_the_full_one_in(self, method, changes):
        full = methods.RECIPES["full"]._asdict()
        found = methods.RECIPES[method]._asdict()
        assert {k: v for k, v in found.items() if v != full[k]} == changes

    def test_the_full_method_is_as_configured(self):
        assert methods.RECIPES["full"] == methods.Recipe("maml", None, None, True)

    def test_controls_and_the_oracle_start_from_the_full_method(self):
        full = {m for m, start in methods.DERIVED.items() if start == "full"}
        assert full == {"oracle", "wrong_listener"}
        assert methods.DERIVED["scratch"] == "random"


class TestLearners:
    @pytest.mark.parametrize("method", LEARNED)
    def test_every_method_adapts_and_predicts(self, rng, method):
        learner, spec = learner_for(method)
        model = methods.make_model(spec)
        support = make_batch(rng)

        def answer(key):
            params = model.init_fn(key)
            if method == "nearest_listener":  # a bank of two listeners
                params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
            adapted, _ = learner.adapt(learner.init(params), support, order="first")
            return model.predict_fn(adapted, support.inputs)

        found = jax.eval_shape(answer, jax.random.key(0))
        assert found.shape == (6, 3)
        assert found.dtype == jnp.float32

    @pytest.mark.parametrize("method", methods.RECIPES)
    def test_every_recipe_has_a_meta_gradient(self, rng, method):
        learner, spec = learner_for(method)
        model = methods.make_model(spec)
        episodes = Episode(make_batch(rng, 2), make_batch(rng, 2))

        def grads(key):
            def loss(meta_params):
                return learner.meta_loss(meta_params, episodes, order="second")[0]

            return jax.grad(loss)(learner.init(model.init_fn(key)))

        assert jax.tree.leaves(jax.eval_shape(grads, jax.random.key(0)))

    @pytest.mark.parametrize(
        ("method", "adapted"),
        [
            ("anil", {"classifier/kernel", "classifier/bias"}),
            ("listener_embedding", {"listener/embedding"}),
            ("prototypes", {STRENGTH}),
            ("no_adaptation", set()),
        ],
    )
    def test_what_is_adapted(self, method, adapted):
        learner, spec = learner_for(method)
        params = methods.make_model(spec).init_fn(jax.random.key(0))
        assert set(learner.init(params).learning_rates) == adapted

    def test_methods_that_share_a_learner_share_the_object(self):
        """And so their compiled steps: jit takes learners as static arguments."""
        full = learner_for("full")[0]
        for method in ("minus_csmt", "minus_da", "minus_lslr", "maml", "fomaml"):
            assert learner_for(method)[0] is full
        assert methods.make_model(SPEC) is methods.make_model(SPEC._replace())

    def test_only_the_embedding_baseline_has_a_model_of_its_own(self):
        own = [m for m in LEARNED if methods.spec_for(m, SPEC) != SPEC]
        assert own == ["listener_embedding"]

    def test_base_rate_ignores_the_audio(self, rng):
        learner, spec = learner_for("base_rate")
        model = methods.make_model(spec)
        support = make_batch(rng)
        meta_params = learner.init(model.init_fn(jax.random.key(0)))
        params, _ = learner.adapt(meta_params, support, order="first")
        found = model.predict_fn(params, make_batch(rng).inputs)
        counts = support.targets.sum(0) + np.array(PRIOR)  # the prior is worth a clip
        np.testing.assert_allclose(
            found, np.tile(counts / counts.sum(), (6, 1)), rtol=1e-4
        )

    @pytest.mark.parametrize("family", ["softmax", "sigmoid"])
    def test_the_listeners_rates_are_over_what_was_answered(self, family):
        targets = np.array([[1, 1, 0], [1, 0, 0]], np.float32)
        mask = np.array([[True, True, True], [True, True, False]])
        batch = Batch(np.zeros((2, 2, 5), np.float32), targets, mask)
        model = methods.make_model(SPEC._replace(family=family))
        total, answers = model.rates_fn(jax.tree.map(jnp.asarray, batch))
        expected = {
            "softmax": ([1.5, 0.5, 0], [2, 2, 2]),
            "sigmoid": ([2, 1, 0], [2, 2, 1]),
        }[family]
        np.testing.assert_allclose(total, expected[0])
        np.testing.assert_allclose(answers, expected[1])


JOINT = SPEC._replace(num_dimensions=2)
ALONE = JOINT._replace(num_classes=0, class_balanced=False)


def make_rated_batch(rng, spec, *leading):
    """The classes of `make_batch`, if any, then two standardised dimensions."""
    batch = make_batch(rng, *leading)
    values = rng.normal(size=(*batch.targets.shape[:-1], 2)).astype(np.float32)
    rated = rng.random(values.shape) < 0.8
    targets = [batch.targets[..., : spec.num_classes], np.where(rated, values, 0)]
    mask = [batch.mask[..., : spec.num_classes], rated]
    return Batch(
        batch.inputs,
        np.concatenate(targets, -1, dtype=np.float32),
        np.concatenate(mask, -1),
        batch.weights,
    )


@pytest.mark.parametrize("spec", [JOINT, ALONE], ids=["joint", "alone"])
class TestDimensions:
    def learner_for(self, method, spec):
        spec = methods.spec_for(method, spec)
        prior = PRIOR[: spec.num_classes] if method == "base_rate" else ()
        return methods.make_learner(methods.learner_of(method), spec, META, prior), spec

    @pytest.mark.parametrize("method", LEARNED)
    def test_every_method_adapts_and_predicts(self, rng, method, spec):
        learner, own = self.learner_for(method, spec)
        model = methods.make_model(own)
        support = make_rated_batch(rng, spec)

        def answer(key):
            params = model.init_fn(key)
            if method == "nearest_listener":
                params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
            adapted, _ = learner.adapt(learner.init(params), support, order="first")
            return model.predict_fn(adapted, support.inputs)

        found = jax.eval_shape(answer, jax.random.key(0))
        assert found.shape == (6, spec.num_classes + 2)
        assert found.dtype == jnp.float32

    @pytest.mark.parametrize("method", ["full", "reptile", "prototypes"])
    def test_meta_gradients_are_finite_and_reach_every_output(self, rng, method, spec):
        """Also where a support set holds a single rating, or none."""
        learner, own = self.learner_for(method, spec)
        model = methods.make_model(own)
        support, query = make_rated_batch(rng, spec, 3), make_rated_batch(rng, spec, 3)
        dimensions = slice(spec.num_classes, None)
        support.mask[0, 1:, dimensions] = False
        support.mask[1, :, dimensions] = False

        def grads(key):
            def loss(meta_params):
                episodes = Episode(support, query)
                return learner.meta_loss(meta_params, episodes, order="second")[0]

            return jax.grad(loss)(learner.init(model.init_fn(key)))

        found = jax.jit(grads)(jax.random.key(0))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
        assert (np.abs(found.params["classifier"]["bias"]) > 0).all()

    def test_predictions_are_probabilities_then_values(self, rng, spec):
        model = methods.make_model(spec)
        params = model.init_fn(jax.random.key(0))
        params["classifier"]["bias"] += 9.0
        found = model.predict_fn(params, make_batch(rng).inputs)
        if spec.num_classes:
            sums = found[:, : spec.num_classes].sum(-1)
            np.testing.assert_allclose(sums, 1, rtol=1e-5)
        assert (found[:, spec.num_classes :] > 1).all()
        rates = jnp.array([0.2] * spec.num_classes + [-1.5, 0.0])
        linked = model.link_fn(rates)
        np.testing.assert_array_equal(linked[spec.num_classes :], rates[-2:])
        np.testing.assert_allclose(linked[:-2], np.log(0.2), rtol=1e-6)

    @pytest.mark.parametrize("family", ["softmax", "sigmoid"])
    def test_totals_are_of_what_was_rated(self, rng, spec, family):
        batch = make_rated_batch(rng, spec)
        model = methods.make_model(spec._replace(family=family))
        total, answers = model.rates_fn(jax.tree.map(jnp.asarray, batch))
        rated = batch.mask[:, spec.num_classes :]
        np.testing.assert_array_equal(answers[spec.num_classes :], rated.sum(0))
        values = np.where(rated, batch.targets[:, spec.num_classes :], 0)
        np.testing.assert_allclose(total[spec.num_classes :], values.sum(0), rtol=1e-5)
        np.testing.assert_allclose(
            total[: spec.num_classes],
            batch.targets[:, : spec.num_classes].sum(0),
            rtol=1e-5,
        )

    def test_base_rate_answers_the_shrunk_mean_rating(self, rng, spec):
        learner, _ = self.learner_for("base_rate", spec)
        model = methods.make_model(spec)
        support = make_rated_batch(rng, spec)
        meta_params = learner.init(model.init_fn(jax.random.key(0)))
        params, _ = learner.adapt(meta_params, support, order="first")
        found = model.predict_fn(params, make_batch(rng).inputs)[:, -2:]
        expected = support.targets.sum(0)[-2:] / (support.mask.sum(0)[-2:] + 1)
        np.testing.assert_allclose(found, np.tile(expected, (6, 1)), rtol=1e-4)

    def test_the_two_losses_differ_only_where_there_are_dimensions(self, rng, spec):
        model, batch = methods.make_model(spec), make_rated_batch(rng, spec)
        params = model.init_fn(jax.random.key(0))
        values = model.predict_fn(params, batch.inputs)[:, -2:]
        rated = values, batch.targets[:, -2:], batch.mask[:, -2:]
        difference = losses.concordance_loss(*rated) - losses.huber_loss(*rated)
        np.testing.assert_allclose(
            model.loss_fn(params, batch) - model.support_loss_fn(params, batch),
            difference,
            rtol=1e-4,
        )
        same = methods.make_model(spec._replace(dimension_support_loss="ccc"))
        assert same.support_loss_fn is same.loss_fn
        classes = methods.make_model(SPEC)
        assert classes.support_loss_fn is classes.loss_fn


class TestStart:
    def test_pretrained_tensors_are_taken_over_and_new_ones_kept(self):
        shared = {"head": {"kernel": 1, "bias": 2}, "old": 3}
        fresh = {"head": {"kernel": 0, "bias": 0}, "listener": {"embedding": 9}}
        assert methods.extend_params(shared, fresh) == {
            "head": {"kernel": 1, "bias": 2},
            "listener": {"embedding": 9},
        }

    def test_the_embedding_starts_as_the_shared_model(self, rng):
        plain = methods.make_model(SPEC)
        spec = methods.spec_for("listener_embedding", SPEC)
        model = methods.make_model(spec)
        shared = plain.init_fn(jax.random.key(0))
        extended = methods.extend_params(shared, model.init_fn(jax.random.key(1)))
        inputs = make_batch(rng).inputs
        np.testing.assert_allclose(
            model.predict_fn(extended, inputs),
            plain.predict_fn(shared, inputs),
            rtol=1e-5,
        )


RATES = {"head/kernel": np.array([0.1, 0.2]), "classifier/bias": np.array([0.3, 0.4])}


class TestCandidates:
    START = MetaParams({}, RATES)

    @pytest.mark.parametrize("method", ["full", "maml", "anil", "reptile"])
    def test_learned_rates_times_a_factor_none_among_them(self, method):
        found = methods.candidates(method, self.START)
        factors = [float(option["head/kernel"][0]) / 0.1 for option in found]
        np.testing.assert_allclose(factors, methods.RATE_SCALES, rtol=1e-6)
        assert 0.0 in methods.RATE_SCALES
        assert 1.0 in methods.RATE_SCALES
        for option, factor in zip(found, methods.RATE_SCALES, strict=True):
            np.testing.assert_allclose(
                option["classifier/bias"], factor * np.array([0.3, 0.4]), rtol=1e-6
            )

    @pytest.mark.parametrize("method", ["fine_tune", "scratch", "oracle"])
    def test_fine_tuning_over_rate_and_scope(self, method):
        found = methods.candidates(method, self.START)
        assert len(found) == 2 * len(methods.FINE_TUNE_RATES)
        rates = {
            (float(o["head/kernel"][0]), float(o["classifier/bias"][1])) for o in found
        }
        expected = {(np.float32(r), np.float32(r)) for r in methods.FINE_TUNE_RATES}
        expected |= {(np.float32(0), np.float32(r)) for r in methods.FINE_TUNE_RATES}
        assert rates == expected

    @pytest.mark.parametrize("method", ["base_rate", "prior_calibration"])
    def test_closed_forms_over_how_much_the_shared_model_is_worth(self, method):
        start = MetaParams({}, {STRENGTH: jnp.array([4.0])})
        found = [float(o[STRENGTH][0]) for o in methods.candidates(method, start)]
        np.testing.assert_allclose(found, methods.STRENGTHS)

    def test_a_learned_strength_is_kept(self):
        start = MetaParams({}, {STRENGTH: jnp.array([3.5])})
        (only,) = methods.candidates("prototypes", start)
        assert float(only[STRENGTH][0]) == 3.5

    @pytest.mark.parametrize("method", ["no_adaptation", "nearest_listener"])
    def test_nothing_to_choose(self, method):
        assert methods.candidates(method, MetaParams({}, {})) == [{}]

    @pytest.mark.parametrize(
        ("steps", "kept"),
        [(0, [0, 0, 0]), (2, [1, 2, 0]), (3, [1, 2, 3]), (9, [1, 2, 3])],
    )
    def test_fewer_steps_are_rates_of_zero(self, steps, kept):
        found = methods.first_steps({"a": jnp.array([1.0, 2.0, 3.0])}, steps)
        np.testing.assert_array_equal(found["a"], kept)


class TestModelSpec:
    def settings(self, **loss):
        return from_config({"corpus": "synthetic", "loss": loss, "head": {"hidden": 7}})

    def test_it_is_built_from_settings_and_data(self):
        found = methods.model_spec(self.settings(), 3, 8, 3, 0)
        assert (found.layers, found.width, found.num_classes) == (3, 8, 3)
        assert (found.hidden, found.num_dimensions) == (7, 0)
        assert hash(found)

    @pytest.mark.parametrize("balanced", [True, False])
    def test_labels_are_weighed_where_there_are_classes_to_balance(self, balanced):
        settings = self.settings(class_balanced=balanced)
        assert methods.model_spec(settings, 3, 8, 3, 0).class_balanced == balanced
        assert not methods.model_spec(settings, 3, 8, 0, 2).class_balanced

    def test_it_takes_dimensions_and_there_may_be_no_classes(self):
        settings = self.settings(
            dimension_loss="mse", dimension_support_loss="ccc", dimension_weight=0.5
        )
        spec = methods.model_spec(settings, 3, 8, 0, 2)
        assert spec[-4:] == (2, "mse", "ccc", 0.5)

    def test_weights_enter_the_loss(self, rng):
        batch = make_batch(rng)
        params = methods.make_model(SPEC).init_fn(jax.random.key(0))
        plain = SPEC._replace(class_balanced=False, smoothing=0.0)
        logs = np.log(methods.make_model(plain).predict_fn(params, batch.inputs))
        expected = -(batch.targets * logs).sum(-1)
        np.testing.assert_allclose(
            methods.make_model(plain).loss_fn(params, batch), expected.mean(), rtol=1e-5
        )
        weighted = methods.make_model(SPEC._replace(smoothing=0.0))
        weights = batch.targets @ WEIGHTS
        np.testing.assert_allclose(
            weighted.loss_fn(params, batch), (weights * expected).mean(), rtol=1e-5
        )
