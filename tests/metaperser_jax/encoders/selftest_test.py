"""The self-test passes for a sound encoder and names what is wrong with another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax.encoders import selftest
from metaperser_jax.encoders.drawn import TINY
from metaperser_jax.encoders.encoder import pool
from metaperser_jax.encoders.logmel import logmel
from metaperser_jax.encoders.transformer import init_params, speech_encoder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sound_encoder_passes(dtype):
    params = init_params(TINY, 0)
    found = selftest.self_test(speech_encoder(TINY, params, dtype=dtype), params)
    assert found.passed
    assert (found.num_layers, found.width) == (
        TINY.num_hidden_layers + 1,
        TINY.hidden_size,
    )
    assert found.real_time > 0
    assert all(line.startswith("ok") for line in selftest.describe(found))


def test_the_encoder_without_weights_passes():
    assert selftest.self_test(logmel(), {}).passed


def test_weights_that_are_not_finite_are_an_error():
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, init_params(TINY, 0))
    found = selftest.self_test(speech_encoder(TINY, params), params)
    assert not found.finite
    assert not found.passed
    assert "NaN" in selftest.describe(found)[0]


def test_an_encoder_that_sees_the_padding_is_an_error():
    sound = logmel()

    def pooled_fn(params, waveforms, lengths):
        everything = jnp.full_like(lengths, waveforms.shape[1])
        return pool(sound.apply_fn(params, waveforms, everything))

    found = selftest.self_test(sound._replace(pooled_fn=pooled_fn), {})
    assert found.padding_error > 1e-2
    assert selftest.describe(found)[1].startswith("error")


def test_the_synthetic_voice_sounds_like_one():
    voice = selftest.synthetic_voice(1.0)
    assert voice.shape == (16_000,)
    assert 0.01 < np.sqrt(np.mean(voice**2)) < 0.3
    assert np.abs(voice).max() < 1.0
