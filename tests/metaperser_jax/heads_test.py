"""The head against numpy, and the identities that let features be pooled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import heads, trees
from metaperser_jax.errors import InputError

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


pool_frames = jax.jit(heads.pool_frames)


def frames(rng, batch=4, count=9):
    states = normal(rng, (batch, LAYERS, count, WIDTH))
    lengths = np.array([count, 5, 1, 0])[:batch]
    return states, np.arange(count)[None, :] < lengths[:, None], lengths


class TestPoolFrames:
    def test_is_the_mean_over_valid_frames(self, rng):
        states, mask, lengths = frames(rng)
        pooled = pool_frames(states, mask)
        for clip, length in enumerate(lengths[:3]):
            mean = states[clip, :, :length].astype(np.float64).mean(1)
            np.testing.assert_allclose(pooled[clip], mean, rtol=1e-5, atol=1e-6)

    def test_gives_zeros_where_no_frame_is_valid(self, rng):
        states, mask, _ = frames(rng)
        np.testing.assert_array_equal(pool_frames(states, mask)[3], 0)

    @pytest.mark.parametrize("filling", [1e30, np.inf, np.nan])
    def test_never_reads_the_padding(self, rng, filling):
        states, mask, _ = frames(rng)
        filled = np.where(mask[:, None, :, None], states, np.float32(filling))
        np.testing.assert_array_equal(
            pool_frames(filled, mask), pool_frames(states, mask)
        )

    def test_is_the_same_however_long_the_padding(self, rng):
        states, mask, _ = frames(rng)
        longer = np.pad(states, [(0, 0), (0, 0), (0, 23), (0, 0)], mode="edge")
        np.testing.assert_allclose(
            pool_frames(longer, np.pad(mask, [(0, 0), (0, 23)])),
            pool_frames(states, mask),
            rtol=1e-6,
            atol=1e-7,
        )

    def test_of_long_half_precision_clips_does_not_overflow(self):
        states = np.full((1, 2, 3000, 1), 60.0, np.float16)
        pooled = pool_frames(states, np.ones((1, 3000), bool))
        assert pooled.dtype == jnp.float32
        np.testing.assert_allclose(pooled, np.full((1, 2, 1), 60.0))

    def test_commutes_with_the_layer_weighted_sum(self, rng):
        """Why the pooled states of all layers are enough, whatever the weights."""
        states, mask, _ = frames(rng)
        weights = softmax(normal(rng, (LAYERS,)))
        mixed = np.einsum("l,blfw->bfw", weights, states)[:, None]
        first_mixed = pool_frames(mixed, mask)[:, 0]
        first_pooled = np.einsum("l,blw->bw", weights, pool_frames(states, mask))
        np.testing.assert_allclose(first_mixed, first_pooled, rtol=1e-5, atol=1e-6)

    def test_commutes_with_a_linear_map_of_each_frame(self, rng):
        states, mask, _ = frames(rng)
        kernel, bias = normal(rng, (WIDTH, 2)), normal(rng, (2,))
        mapped = pool_frames(states @ kernel + bias, mask)
        pooled = np.asarray(pool_frames(states, mask)) @ kernel + bias
        np.testing.assert_allclose(mapped[:3], pooled[:3], rtol=1e-5, atol=1e-5)

    def test_then_head_equals_the_head_of_each_frame_then_mean(self, rng):
        """The whole head without activation is linear, so it commutes as well."""
        head, params = make(rng)
        states, mask, lengths = frames(rng)
        logits = apply_head(head, params, pool_frames(states, mask))
        by_frame = apply_head(head, params, np.moveaxis(states, 2, 1))
        for clip, length in enumerate(lengths[:3]):
            mean = by_frame[clip, :length].mean(0)
            np.testing.assert_allclose(logits[clip], mean, rtol=1e-4, atol=1e-5)
