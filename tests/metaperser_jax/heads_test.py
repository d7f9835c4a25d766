"""The head against numpy, and the identities that let features be pooled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import heads, trees
from metaperser_jax.encoders.encoder import pool
from metaperser_jax.errors import InputError
from metaperser_jax.typing import EncoderOutput

LAYERS, WIDTH, HIDDEN, CLASSES = 3, 6, 5, 4
apply_head = jax.jit(heads.apply_head, static_argnums=0)
embed_inputs = jax.jit(heads.embed_inputs, static_argnums=0)


def make(rng, **options):
    """A head whose parameters are all away from their starting values."""
    head = heads.make_head(CLASSES, HIDDEN, **options)
    params = heads.init_head(head, jax.random.key(0), LAYERS, WIDTH)
    return head, jax.tree.map(lambda leaf: normal(rng, leaf.shape), params)


def normal(rng, shape):
    return rng.normal(size=shape).astype(np.float32)


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def numpy_units(params, pooled):
    mixed = np.einsum("l,nlw->nw", softmax(params["layers"]["weights"]), pooled)
    return mixed @ params["projector"]["kernel"] + params["projector"]["bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


class TestHead:
    @pytest.mark.parametrize(
        ("activation", "function"),
        [("none", lambda x: x), ("relu", lambda x: np.maximum(x, 0)), ("gelu", gelu)],
    )
    def test_is_two_linear_layers_on_the_weighted_layers(
        self, rng, activation, function
    ):
        head, params = make(rng, activation=activation)
        pooled = normal(rng, (7, LAYERS, WIDTH))
        units = function(numpy_units(params, pooled))
        np.testing.assert_allclose(
            embed_inputs(head, params, pooled), units, rtol=1e-5, atol=1e-6
        )
        classifier = params["classifier"]
        np.testing.assert_allclose(
            apply_head(head, params, pooled),
            units @ classifier["kernel"] + classifier["bias"],
            rtol=1e-5,
            atol=1e-5,
        )

    def test_starts_from_the_plain_mean_over_layers(self, rng):
        head = heads.make_head(CLASSES, HIDDEN)
        params = heads.init_head(head, jax.random.key(0), LAYERS, WIDTH)
        pooled = normal(rng, (2, LAYERS, WIDTH))
        mean = np.repeat(pooled.mean(1, keepdims=True), LAYERS, axis=1)
        np.testing.assert_allclose(
            apply_head(head, params, pooled),
            apply_head(head, params, mean),
            rtol=1e-5,
            atol=1e-6,
        )

    def test_reads_half_precision_features_in_single_precision(self, rng):
        head, params = make(rng)
        pooled = normal(rng, (3, LAYERS, WIDTH)).astype(np.float16)
        found = apply_head(head, params, pooled)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(
            found, apply_head(head, params, pooled.astype(np.float32)), rtol=1e-6
        )

    def test_a_clip_does_not_see_the_others(self, rng):
        """No batch statistics: nothing of the query set leaks into a prediction."""
        head, params = make(rng)
        pooled = normal(rng, (5, LAYERS, WIDTH))
        alone = [apply_head(head, params, clip[None])[0] for clip in pooled]
        np.testing.assert_allclose(
            apply_head(head, params, pooled), np.stack(alone), rtol=1e-5, atol=1e-5
        )

    def test_names_its_parameters_for_the_adapted_set(self):
        head = heads.make_head(CLASSES, HIDDEN, listener_width=2)
        params = heads.init_head(head, jax.random.key(0), LAYERS, WIDTH)
        shapes = {path: leaf.shape for path, leaf in trees.flatten(params).items()}
        assert shapes == {
            "layers/weights": (LAYERS,),
            "projector/kernel": (WIDTH, HIDDEN),
            "projector/bias": (HIDDEN,),
            "listener/embedding": (2,),
            "listener/scale": (2, HIDDEN),
            "listener/shift": (2, HIDDEN),
            "classifier/kernel": (HIDDEN, CLASSES),
            "classifier/bias": (CLASSES,),
        }

    def test_has_no_listener_unless_asked(self):
        head = heads.make_head(CLASSES, HIDDEN)
        params = heads.init_head(head, jax.random.key(0), LAYERS, WIDTH)
        assert set(params) == {"layers", "projector", "classifier"}

    @pytest.mark.parametrize(("classes", "dimensions"), [(4, 3), (0, 1), (0, 3)])
    def test_values_of_dimensions_stand_after_the_classes(self, classes, dimensions):
        head = heads.make_head(classes, HIDDEN, num_dimensions=dimensions)
        params = heads.init_head(head, jax.random.key(0), LAYERS, WIDTH)
        found = apply_head(head, params, np.ones((2, LAYERS, WIDTH), np.float32))
        assert found.shape == (2, classes + dimensions)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"activation": "relo"}, "activation='relo': expected one of none, relu"),
            ({"num_classes": 1}, "num_classes=1"),
            ({"num_classes": 1, "num_dimensions": 3}, "num_classes=1"),
            ({"num_classes": 0}, "num_classes=0, num_dimensions=0"),
            ({"num_dimensions": -1}, "num_dimensions=-1"),
            ({"hidden": 0}, "hidden=0"),
            ({"listener_width": -1}, "listener_width=-1"),
        ],
    )
    def test_what_cannot_be_is_named(self, options, message):
        with pytest.raises(InputError) as error:
            heads.make_head(**{"num_classes": CLASSES, "hidden": HIDDEN, **options})
        assert message in str(error.value)


class TestListenerShift:
    def test_is_the_identity_while_the_embedding_is_zero(self, rng):
        head, params = make(rng, listener_width=2)
        params["listener"]["embedding"] = np.zeros(2, np.float32)
        plain = {name: params[name] for name in ("layers", "projector", "classifier")}
        pooled = normal(rng, (4, LAYERS, WIDTH))
        np.testing.assert_array_equal(
            apply_head(head, params, pooled),
            apply_head(heads.make_head(CLASSES, HIDDEN), plain, pooled),
        )

    def test_starts_at_zero(self):
        head = heads.make_head(CLASSES, HIDDEN, listener_width=2)
        params = heads.init_head(head, jax.random.key(0), LAYERS, WIDTH)
        assert not params["listener"]["embedding"].any()
        assert params["listener"]["scale"].any()
        assert params["listener"]["shift"].any()

    def test_scales_and_shifts_the_units(self, rng):
        head, params = make(rng, listener_width=2)
        pooled = normal(rng, (4, LAYERS, WIDTH))
        listener = params["listener"]
        scale = 1 + listener["embedding"] @ listener["scale"]
        shift = listener["embedding"] @ listener["shift"]
        np.testing.assert_allclose(
            embed_inputs(head, params, pooled),
            numpy_units(params, pooled) * scale + shift,
            rtol=1e-5,
            atol=1e-6,
        )

    def test_learns_from_its_start_at_zero(self, rng):
        """The embedding's gradient must not vanish where it starts."""
        head, params = make(rng, listener_width=2)
        params["listener"]["embedding"] = np.zeros(2, np.float32)
        pooled = normal(rng, (4, LAYERS, WIDTH))
        grads = jax.jit(
            jax.grad(lambda p: jnp.square(heads.apply_head(head, p, pooled)).sum())
        )(params)
        assert np.abs(grads["listener"]["embedding"]).min() > 1e-3


class TestPooledOnce:
    """Why the pooled states of all layers are enough, whatever the head's weights."""

    LENGTHS = np.array([9, 5, 1])
    MASK = np.arange(9)[None, :] < LENGTHS[:, None]

    def test_pooling_commutes_with_the_layer_weighted_sum(self, rng):
        states = normal(rng, (3, LAYERS, 9, WIDTH))
        weights = softmax(normal(rng, (LAYERS,)))
        mixed = np.einsum("l,blfw->bfw", weights, states)[:, None]
        first_mixed = pool(EncoderOutput(mixed, self.MASK))[:, 0]
        pooled = pool(EncoderOutput(states, self.MASK))
        first_pooled = np.einsum("l,blw->bw", weights, pooled)
        np.testing.assert_allclose(first_mixed, first_pooled, rtol=1e-5, atol=1e-6)

    def test_the_head_of_the_mean_is_the_mean_of_the_head(self, rng):
        """The whole head without activation is linear, so it commutes as well."""
        head, params = make(rng)
        states = normal(rng, (3, LAYERS, 9, WIDTH))
        logits = apply_head(head, params, pool(EncoderOutput(states, self.MASK)))
        by_frame = apply_head(head, params, np.moveaxis(states, 2, 1))
        for clip, length in enumerate(self.LENGTHS):
            mean = by_frame[clip, :length].mean(0)
            np.testing.assert_allclose(logits[clip], mean, rtol=1e-4, atol=1e-5)
