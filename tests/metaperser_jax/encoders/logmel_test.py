"""The log-mel encoder against librosa, known signals and its own promises."""

import functools

import jax
import librosa
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metaperser_jax.encoders import logmel as logmel_lib
from metaperser_jax.encoders.config import LogMelConfig
from metaperser_jax.encoders.encoder import encode, pool

CONFIG = LogMelConfig()
ENCODER = logmel_lib.logmel()
RATE = CONFIG.sample_rate
NAMES = logmel_lib.channel_names(CONFIG)
_encode = jax.jit(functools.partial(encode, ENCODER, {}))
track_pitch = jax.jit(functools.partial(logmel_lib.track_pitch, config=CONFIG))


def encode_jit(clips, lengths):
    return _encode(np.asarray(clips, np.float32), np.asarray(lengths))


def voice(num_samples=16_000, hertz=140.0, seed=0):
    """A pulse train with some noise, and a syllable's rise and fall every 200 ms."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / RATE
    buzz = sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 12))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 5 * time)
    noise = 0.02 * rng.standard_normal(num_samples)
    return (0.1 * envelope * (buzz + noise)).astype(np.float32)


def states_of(clip):
    """Hidden states [frames, width] of one clip without padding."""
    output = encode_jit(clip[None], np.array([len(clip)]))
    return np.asarray(output.hidden_states)[0, 0][np.asarray(output.mask)[0]]


def channel(states, name):
    return states[:, NAMES.index(name)]


def test_frames_are_those_of_a_plain_loop(rng):
    clips = rng.standard_normal((2, 1999)).astype(np.float32)
    frames = logmel_lib.frame(clips, 400, 160)
    assert frames.shape == (2, 10, 400)
    for t in range(10):
        np.testing.assert_array_equal(frames[:, t], clips[:, t * 160 : t * 160 + 400])


def test_mel_power_equals_librosa(rng):
    clip = rng.standard_normal(8000).astype(np.float32)
    frames = logmel_lib.frame(clip[None], CONFIG.window, CONFIG.hop)
    expected = librosa.feature.melspectrogram(
        y=clip.astype(np.float64),
        sr=RATE,
        n_fft=CONFIG.window,
        hop_length=CONFIG.hop,
        n_mels=CONFIG.num_bands,
        center=False,
    )
    actual = logmel_lib.mel_power(frames, CONFIG)[0]
    np.testing.assert_allclose(actual, expected.T, rtol=1e-4)


@pytest.mark.parametrize("width", [3, 9])
def test_slope_equals_librosa_inside_the_clip(rng, width):
    values = rng.standard_normal((1, 50, 6)).astype(np.float32)
    mask = np.arange(50)[None] < 40
    expected = librosa.feature.delta(values[0, :40].T, width=width).T
    actual = np.asarray(logmel_lib.slope(values, mask, width))[0, :40]
    half = width // 2
    np.testing.assert_allclose(actual[half:-half], expected[half:-half], atol=1e-5)


def test_slope_repeats_the_clips_ends(rng):
    values = rng.standard_normal((1, 30, 2)).astype(np.float32)
    mask = np.arange(30)[None] < 12
    held = np.pad(values[0, :12], ((4, 4), (0, 0)), mode="edge")
    expected = [sum(k * held[4 + t + k] for k in range(-4, 5)) / 60 for t in range(12)]
    actual = np.asarray(logmel_lib.slope(values, mask, 9))[0, :12]
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("hertz", [65.0, 90.0, 140.0, 220.0, 330.0, 480.0])
def test_pitch_of_a_voice_is_found(hertz):
    clip = voice(hertz=hertz)[None]
    pitch = track_pitch(clip, np.ones((1, 98), bool))
    inside = slice(3, -3)  # windows that lie wholly within the clip
    np.testing.assert_allclose(np.asarray(pitch.hertz)[0, inside], hertz, rtol=0.01)
    assert np.asarray(pitch.voicing)[0, inside].min() > 0.8


def test_noise_and_silence_have_no_voice(rng):
    noise = rng.standard_normal((1, 16_000)).astype(np.float32)
    mask = np.ones((1, 98), bool)
    assert np.mean(track_pitch(noise, mask).voicing) < 0.25
    silence = np.zeros((1, 16_000), np.float32)
    assert np.max(track_pitch(silence, mask).voicing) == 0.0


def test_pitch_histogram_tells_level_and_spread():
    first = NAMES.index("pitch0")
    edges = np.log2([CONFIG.pitch_min, CONFIG.pitch_max])
    centres = np.linspace(*edges, CONFIG.num_pitch_bands)
    for hertz in (100.0, 250.0):
        states = states_of(voice(hertz=hertz))[3:-3]
        histogram = states[:, first:].mean(0)
        voicing = channel(states, "voicing").mean()
        assert histogram.sum() == pytest.approx(voicing, rel=1e-4)
        level = (histogram * centres).sum() / histogram.sum()
        assert level == pytest.approx(np.log2(hertz), abs=0.02)
    time = np.arange(16_000) / RATE
    phase = (
        2 * np.pi * np.cumsum(180 * 2 ** (0.4 * np.sin(2 * np.pi * 2 * time))) / RATE
    )
    glide = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 9)).astype(np.float32)
    steady, moving = states_of(voice(hertz=180.0)), states_of(glide)
    assert (moving[:, first:].mean(0) > 0.02).sum() > (
        steady[:, first:].mean(0) > 0.02
    ).sum() + 3
    name = "voiced_pitch_movement"
    assert channel(moving, name).mean() > 3 * channel(steady, name).mean()


def test_band_channels_follow_their_definitions():
    clip = voice()
    states = states_of(clip)
    centred = (clip - clip.mean()).astype(np.float64)
    emphasised = centred - 0.97 * np.concatenate([centred[:1], centred[:-1]])
    power = librosa.feature.melspectrogram(
        y=emphasised, sr=RATE, n_fft=400, hop_length=160, n_mels=40, center=False
    ).T
    power /= 200.0**2
    floor = 1e-5 * power.mean() + 1e-18
    bands = np.log((power + floor) / (power.mean() + 1e-18)) / 4
    np.testing.assert_allclose(states[:, :40], bands, atol=1e-4)
    squared = (bands - bands.mean(0)) ** 2
    np.testing.assert_allclose(states[:, 40:80], squared, atol=1e-4)
    slopes = 10 * librosa.feature.delta(bands.T).T[4:-4]
    np.testing.assert_allclose(states[4:-4, 80:120], slopes, atol=1e-4)
    np.testing.assert_allclose(states[4:-4, 120:160], np.abs(slopes), atol=1e-4)
    total = power.mean(1)
    level = (np.log(total + 1e-5 * total.mean() + 1e-18) + 17) / 4
    np.testing.assert_allclose(channel(states, "level"), level, atol=1e-4)


@pytest.mark.parametrize("gain", [0.1, 5.0])
def test_gain_moves_only_the_level(gain):
    before, after = states_of(voice()), states_of(gain * voice())
    level = NAMES.index("level")
    shift = 2 * np.log(gain) / 4
    np.testing.assert_allclose(after[:, level] - before[:, level], shift, atol=1e-4)
    others = np.delete(np.arange(len(NAMES)), level)
    np.testing.assert_allclose(after[:, others], before[:, others], atol=2e-3)


def test_a_constant_offset_changes_nothing():
    np.testing.assert_allclose(states_of(voice() + 0.2), states_of(voice()), atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 0.5, -1.0])
@pytest.mark.parametrize("num_samples", [1, 399, 400, 5000])
def test_silence_and_offset_stay_finite(value, num_samples):
    clips = np.zeros((3, 8000), np.float32)
    clips[0, :num_samples] = value
    output = encode_jit(clips, [num_samples, 0, 8000])
    assert np.isfinite(output.hidden_states).all()
    assert np.abs(output.hidden_states).max() < 10.0


def test_loud_noise_stays_of_order_one(rng):
    states = states_of(rng.uniform(-1, 1, 16_000).astype(np.float32))
    assert np.abs(states).max() < 10.0


@settings(deadline=None, max_examples=30)
@given(
    num_samples=st.integers(1, 8000),
    size=st.sampled_from([8000, 9777]),
    seed=st.integers(0, 9),
)
@example(num_samples=400, size=9777, seed=0)
@example(num_samples=399, size=8000, seed=1)
@example(num_samples=559, size=8000, seed=2)
@example(num_samples=8000, size=9777, seed=3)
def test_padding_and_batch_mates_change_nothing(num_samples, size, seed):
    clip = voice(num_samples, hertz=100.0 + 20 * seed, seed=seed)
    padded = np.pad(clip, (0, 8000 - num_samples))
    alone = encode_jit([padded, 0 * padded, 0 * padded], [num_samples, 0, 0])
    rng = np.random.default_rng(seed)
    batch = rng.standard_normal((3, size)).astype(np.float32)  # garbage as padding
    batch[1, :num_samples] = clip
    among = encode_jit(batch, [size, num_samples, max(1, num_samples // 2)])
    count = max(1, 1 + (num_samples - 400) // 160)
    assert int(alone.mask[0].sum()) == int(among.mask[1].sum()) == count
    np.testing.assert_allclose(
        among.hidden_states[1, :, :count],
        alone.hidden_states[0, :, :count],
        atol=1e-6,
        rtol=1e-6,
    )
    np.testing.assert_allclose(pool(among)[1], pool(alone)[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 0), (1, 1), (399, 1), (400, 1), (559, 1), (560, 2), (16_000, 98)],
)
def test_frames_lie_inside_the_clip(samples, frames):
    assert int(ENCODER.frames_fn(np.array(samples))) == frames
    output = encode_jit(np.zeros((1, 16_000), np.float32), np.array([samples]))
    assert int(output.mask.sum()) == frames


def test_waveforms_shorter_than_a_frame_are_padded():
    output = encode_jit(voice(120)[None], np.array([120]))
    assert output.hidden_states.shape == (1, 1, 1, ENCODER.width)
    longer = np.pad(voice(120), (0, 1000))[None]
    expected = encode_jit(longer, np.array([120])).hidden_states[:, :, :1]
    np.testing.assert_allclose(output.hidden_states, expected, atol=1e-6)


def test_invalid_frames_are_zero():
    output = encode_jit(np.tile(voice(8000), (3, 1)), [8000, 1000, 8000])
    states = np.asarray(output.hidden_states)
    assert np.all(states[1, 0, 4:] == 0.0)
    assert np.any(states[1, 0, 3] != 0.0)


def test_pooled_features_are_float32_and_named():
    output = encode_jit(voice()[None], np.array([16_000]))
    assert output.hidden_states.dtype == np.float32
    assert pool(output).shape == (1, ENCODER.num_layers, ENCODER.width)
    assert len(NAMES) == len(set(NAMES)) == ENCODER.width


def test_one_shape_compiles_once():
    encode_jit(voice()[None], [16_000])
    before = _encode._cache_size()
    for seed in range(3):
        encode_jit(voice(seed=seed)[None], [16_000 - seed])
    assert _encode._cache_size() == before


def test_settings_are_part_of_the_fingerprint():
    other = logmel_lib.logmel(CONFIG._replace(num_bands=32))
    assert other.fingerprint != ENCODER.fingerprint
    assert other.width == ENCODER.width - 4 * 8
    assert other.config["num_bands"] == 32
