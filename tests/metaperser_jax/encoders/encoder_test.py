"""The encoder contract: pure encoding, masked pooling, fingerprints."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax.encoders import encoder as encoder_lib
from metaperser_jax.typing import EncoderOutput


def test_pool_is_the_mean_over_valid_frames(rng):
    states = rng.standard_normal((3, 2, 7, 4)).astype(np.float32)
    counts = np.array([7, 3, 1])
    mask = np.arange(7)[None] < counts[:, None]
    pooled = encoder_lib.pool(EncoderOutput(states, mask))
    for row, count in enumerate(counts):
        expected = states[row, :, :count].mean(axis=1)
        np.testing.assert_allclose(pooled[row], expected, rtol=1e-5, atol=1e-6)


def test_pool_ignores_what_lies_in_the_padding(rng):
    states = rng.standard_normal((1, 1, 5, 2)).astype(np.float32)
    mask = np.array([[True, True, False, False, False]])
    states[:, :, 2:] = np.nan
    pooled = encoder_lib.pool(EncoderOutput(states, mask))
    np.testing.assert_allclose(pooled[0, 0], states[0, 0, :2].mean(0), rtol=1e-6)


def test_pool_of_an_empty_clip_is_zero():
    output = EncoderOutput(np.ones((1, 2, 3, 4), np.float32), np.zeros((1, 3), bool))
    np.testing.assert_array_equal(encoder_lib.pool(output), np.zeros((1, 2, 4)))


def test_pool_sums_half_precision_states_in_single():
    states = jnp.full((1, 1, 4000, 1), 1.001, jnp.bfloat16)
    pooled = encoder_lib.pool(EncoderOutput(states, np.ones((1, 4000), bool)))
    assert pooled.dtype == jnp.float32
    np.testing.assert_allclose(pooled, float(states[0, 0, 0, 0]), rtol=1e-6)


def test_encode_applies_the_encoder_under_jit():
    def apply_fn(params, waveforms, lengths):
        states = params["scale"] * waveforms[:, None, :, None]
        return EncoderOutput(states, jnp.arange(4)[None] < lengths[:, None])

    def pooled_fn(*inputs):
        return encoder_lib.pool(apply_fn(*inputs))

    double = encoder_lib.Encoder("x", apply_fn, pooled_fn, lambda n: n, {}, "", 1, 1)
    inputs = {"scale": 2.0}, np.ones((2, 4), np.float32), np.array([4, 1])
    output = jax.jit(functools.partial(encoder_lib.encode, double))(*inputs)
    np.testing.assert_array_equal(output.hidden_states, np.full((2, 1, 4, 1), 2.0))
    np.testing.assert_array_equal(output.mask.sum(1), [4, 1])
    pooled = jax.jit(functools.partial(encoder_lib.encode_pooled, double))(*inputs)
    np.testing.assert_array_equal(pooled, np.full((2, 1, 1), 2.0))


CONFIG = {"hop": 160, "name": "x"}
PARAMS = {"layer": {"bias": np.zeros(2, np.float32), "kernel": np.ones((2, 3))}}


def test_fingerprint_ignores_the_order_of_keys():
    reordered = {"layer": dict(reversed(PARAMS["layer"].items()))}
    assert encoder_lib.fingerprint(CONFIG, PARAMS) == encoder_lib.fingerprint(
        dict(reversed(CONFIG.items())), reordered
    )
    on_device = jax.tree.map(jnp.asarray, {"bias": PARAMS["layer"]["bias"]})
    in_memory = {"bias": PARAMS["layer"]["bias"]}
    assert encoder_lib.fingerprint(CONFIG, on_device) == encoder_lib.fingerprint(
        CONFIG, in_memory
    )


@pytest.mark.parametrize(
    ("config", "params"),
    [
        ({**CONFIG, "hop": 161}, PARAMS),
        ({**CONFIG, "more": 1}, PARAMS),
        (CONFIG, {}),
        (CONFIG, {"other": PARAMS["layer"]}),
        (CONFIG, {"layer": {**PARAMS["layer"], "bias": np.full(2, 1e-30, "f")}}),
        (CONFIG, {"layer": {**PARAMS["layer"], "bias": np.zeros(2, "i4")}}),
        (CONFIG, {"layer": {**PARAMS["layer"], "kernel": np.ones((3, 2))}}),
    ],
)
def test_fingerprint_shows_every_change(config, params):
    before = encoder_lib.fingerprint(CONFIG, PARAMS)
    assert len(before) == 64
    assert encoder_lib.fingerprint(config, params) != before
