"""The library's call: pure, jit-able, vmap-able, and indifferent to padding."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import heads, losses, make_batch, maml, meta_adapt, personal, trees
from metaperser_jax.errors import InputError
from metaperser_jax.meta import learners
from metaperser_jax.personal import default_loss_fn
from metaperser_jax.typing import MetaParams

LAYERS, WIDTH, HIDDEN, CLASSES = 2, 5, 6, 4
HEAD = heads.make_head(CLASSES, HIDDEN)
LEARNER = maml(default_loss_fn, num_steps=5, init_learning_rate=0.3)
adapt = jax.jit(meta_adapt, static_argnums=(2, 3))


@pytest.fixture(scope="module")
def meta_params():
    """Rates that differ by tensor and step, as after meta-training."""
    rng = np.random.default_rng(7)
    params = heads.init_head(HEAD, jax.random.key(0), LAYERS, WIDTH)
    rates = LEARNER.init(params).learning_rates
    return MetaParams(
        params,
        {k: v * rng.uniform(0.5, 1.5, v.shape).astype("f4") for k, v in rates.items()},
    )


def clips(rng, count):
    inputs = rng.normal(size=(count, LAYERS, WIDTH)).astype(np.float32)
    targets = (rng.random((count, CLASSES)) < 0.4).astype(np.float32)
    targets[rng.random((count, CLASSES)) < 0.1] = np.nan  # not answered
    return inputs, targets


def assert_trees_close(a, b, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
    )


class TestMetaAdapt:
    @pytest.mark.parametrize("num_steps", [None, 8])
    def test_is_the_adaptation_of_the_learner_it_was_trained_with(
        self, rng, meta_params, num_steps
    ):
        support = make_batch(*clips(rng, 8))
        adapted = adapt(meta_params, support, default_loss_fn, num_steps)
        expected, _ = jax.jit(
            lambda m, s: LEARNER.adapt(m, s, order="second", num_steps=num_steps)
        )(meta_params, support)
        assert_trees_close(adapted, expected)

    def test_clamps_and_pulls_as_the_learner_did(self, rng, meta_params):
        choices = {"rate_bounds": (0.0, 0.3), "proximal": 0.5}
        learner = maml(default_loss_fn, num_steps=5, **choices)
        support = make_batch(*clips(rng, 8))
        adapted = jax.jit(lambda m, s: meta_adapt(m, s, **choices))(
            meta_params, support
        )
        expected, _ = jax.jit(learner.adapt)(meta_params, support)
        assert_trees_close(adapted, expected)
        plain = adapt(meta_params, support, default_loss_fn, None)
        kernel = np.asarray(plain["classifier"]["kernel"])
        assert np.abs(adapted["classifier"]["kernel"] - kernel).max() > 1e-3

    def test_without_jit_is_the_same(self, rng, meta_params):
        support = make_batch(*clips(rng, 8))
        assert_trees_close(
            meta_adapt(meta_params, support), adapt(meta_params, support)
        )

    def test_lowers_the_loss_and_leaves_its_arguments_alone(self, rng, meta_params):
        support = make_batch(*clips(rng, 8))
        before = jax.tree.map(np.array, (meta_params, support))
        adapted = adapt(meta_params, support)
        jax.tree.map(np.testing.assert_array_equal, (meta_params, support), before)
        loss_fn = jax.jit(default_loss_fn)
        assert loss_fn(adapted, support) < loss_fn(meta_params.params, support)

    def test_takes_a_thousand_listeners_in_one_call(self, rng, meta_params):
        supports = [make_batch(*clips(rng, rng.integers(0, 9)), 8) for _ in range(1000)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *supports)
        together = jax.jit(jax.vmap(meta_adapt, in_axes=(None, 0)))(
            meta_params, stacked
        )
        singles = [adapt(meta_params, support) for support in supports]
        expected = jax.tree.map(lambda *leaves: np.stack(leaves), *singles)
        assert_trees_close(together, expected, rtol=1e-4, atol=1e-5)

    def test_support_sets_padded_to_one_size_share_one_compilation(
        self, rng, meta_params
    ):
        traces = []

        @jax.jit
        def counted(meta_params, support):
            traces.append(support.inputs.shape)
            return meta_adapt(meta_params, support)

        for count in (0, 3, 8):
            inputs, targets = clips(rng, count)
            padded = counted(meta_params, make_batch(inputs, targets, size=12))
            unpadded = adapt(meta_params, make_batch(inputs, targets))
            assert_trees_close(padded, unpadded)
        assert traces == [(12, LAYERS, WIDTH)]

    @pytest.mark.parametrize("size", [0, 8])
    def test_an_empty_support_set_gives_the_shared_parameters(
        self, rng, meta_params, size
    ):
        support = make_batch(*clips(rng, 0), size=size)
        adapted = adapt(meta_params, support)
        jax.tree.map(np.testing.assert_array_equal, adapted, meta_params.params)

    def test_no_steps_give_the_shared_parameters(self, rng, meta_params):
        support = make_batch(*clips(rng, 8))
        adapted = adapt(meta_params, support, default_loss_fn, 0)
        jax.tree.map(np.testing.assert_array_equal, adapted, meta_params.params)

    def test_steps_beyond_the_learned_repeat_the_last_rate(self, rng, meta_params):
        support = make_batch(*clips(rng, 8))
        more = adapt(meta_params, support, default_loss_fn, 7)
        five = adapt(meta_params, support)
        last = {path: v[-1:] for path, v in meta_params.learning_rates.items()}
        six = adapt(MetaParams(five, last), support)
        seven = adapt(MetaParams(six, last), support)
        assert_trees_close(more, seven)

    def test_moves_only_what_has_rates(self, rng, meta_params):
        rates = {
            path: rate
            for path, rate in meta_params.learning_rates.items()
            if path.startswith("classifier")
        }
        shared = meta_params.params
        adapted = adapt(MetaParams(shared, rates), make_batch(*clips(rng, 8)))
        for path, leaf in trees.flatten(adapted).items():
            moved = bool((leaf != trees.flatten(shared)[path]).any())
            assert moved == path.startswith("classifier"), path

    def test_takes_the_loss_it_is_given(self, rng, meta_params):
        loss_fn = losses.make_loss_fn(
            lambda params, inputs: heads.apply_head(HEAD, params, inputs), "sigmoid"
        )
        support = make_batch(*clips(rng, 8))
        adapted = adapt(meta_params, support, loss_fn, None)
        expected, _ = jax.jit(maml(loss_fn, 5).adapt)(meta_params, support)
        assert_trees_close(adapted, expected)

    def test_no_rates_and_no_steps_are_no_adaptation(self, rng, meta_params):
        shared = MetaParams(meta_params.params, {})
        support = make_batch(*clips(rng, 8))
        adapted = adapt(shared, support)
        jax.tree.map(np.testing.assert_array_equal, adapted, meta_params.params)

    def test_the_strength_of_a_closed_form_is_refused(self, rng, meta_params):
        strength = MetaParams(meta_params.params, {learners.STRENGTH: jnp.ones(1)})
        with pytest.raises(InputError, match="'strength', which is no parameter"):
            meta_adapt(strength, make_batch(*clips(rng, 2)))

    def test_steps_without_a_learned_rate_are_refused(self, rng, meta_params):
        none = {k: v[:0] for k, v in meta_params.learning_rates.items()}
        with pytest.raises(InputError, match="no learning rate to repeat"):
            meta_adapt(
                MetaParams(meta_params.params, none),
                make_batch(*clips(rng, 2)),
                num_steps=3,
            )


class TestDefaultLoss:
    def test_is_the_smoothed_cross_entropy_of_the_default_head(self, rng, meta_params):
        batch = make_batch(*clips(rng, 8), size=10)
        apply_head = jax.jit(heads.apply_head, static_argnums=0)
        logits = apply_head(HEAD, meta_params.params, batch.inputs)
        np.testing.assert_allclose(
            jax.jit(default_loss_fn)(meta_params.params, batch),
            losses.multilabel_cross_entropy(
                logits, batch.targets, batch.mask, smoothing=0.05
            ),
            rtol=1e-6,
        )

    def test_reads_the_listeners_shift_where_there_is_one(self, rng):
        head = heads.make_head(CLASSES, HIDDEN, listener_width=3)
        params = heads.init_head(head, jax.random.key(0), LAYERS, WIDTH)
        batch = make_batch(*clips(rng, 8))
        grads = jax.jit(jax.grad(default_loss_fn))(params, batch)
        assert np.abs(grads["listener"]["embedding"]).min() > 0


class TestMakeBatch:
    def test_marks_what_was_answered_and_zeroes_the_rest(self):
        targets = [[1, np.nan, 0], [np.nan] * 3]
        batch = make_batch(np.ones((2, 1, 4)), np.array(targets))
        np.testing.assert_array_equal(batch.targets, [[1, 0, 0], [0, 0, 0]])
        np.testing.assert_array_equal(batch.mask, [[1, 0, 1], [0, 0, 0]])
        assert batch.mask.dtype == bool

    def test_pads_with_clips_nobody_answered(self, rng):
        inputs, targets = clips(rng, 3)
        batch = make_batch(inputs, targets, size=5)
        assert [leaf.shape for leaf in jax.tree.leaves(batch)] == [
            (5, LAYERS, WIDTH),
            (5, CLASSES),
            (5, CLASSES),
        ]
        np.testing.assert_array_equal(batch.inputs[:3], inputs)
        np.testing.assert_array_equal(batch.mask[:3], ~np.isnan(targets))
        assert not batch.mask[3:].any()
        assert not batch.inputs[3:].any()

    def test_takes_jax_arrays(self, rng):
        inputs, targets = clips(rng, 3)
        batch = make_batch(jnp.asarray(inputs), jnp.asarray(targets))
        jax.tree.map(np.testing.assert_array_equal, batch, make_batch(inputs, targets))

    @pytest.mark.parametrize(
        ("inputs", "targets", "size", "message"),
        [
            ((3, 1, 4), (2, 5), None, "3 inputs and 2 targets for a batch of 3"),
            ((3, 1, 4), (3, 5), 2, "3 inputs and 3 targets for a batch of 2"),
            ((3, 4), (3, 5), None, "inputs of shape (3, 4)"),
            ((3, 1, 4), (3,), None, "targets of shape (3,)"),
            ((), (3, 5), None, "expected [samples, layers, width]"),
        ],
    )
    def test_shapes_that_do_not_fit_are_named(self, inputs, targets, size, message):
        with pytest.raises(InputError) as error:
            make_batch(np.zeros(inputs), np.zeros(targets), size)
        assert message in str(error.value)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_inputs_that_are_not_finite_are_named(self, rng, bad):
        inputs, targets = clips(rng, 4)
        inputs[2, 0, 1] = bad
        with pytest.raises(InputError) as error:
            make_batch(inputs, targets)
        assert "input 2 is not finite (1 of 4 are not)" in str(error.value)


def test_the_example_in_the_documentation_runs():
    """With warnings as errors, as everything here."""
    results = doctest.testmod(personal)
    assert results.attempted == 10
    assert results.failed == 0
