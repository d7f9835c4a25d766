"""Products, activations and norms against float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from metaperser_jax.encoders import numerics as numerics_lib
from metaperser_jax.encoders.numerics import Numerics

POINTS = np.concatenate([np.linspace(-12, 12, 4001), [-1e4, 1e4, 0.0]])


def in_float64(x):
    return np.asarray(x, np.float64)


def sigmoid(x):
    return scipy.special.expit(x)


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
}


def test_the_layout_is_the_backends_unless_chosen():
    assert jax.default_backend() == "cpu"
    assert numerics_lib.default_layout() == "cpu"
    assert Numerics().on_cpu
    assert Numerics(layout="cpu").on_cpu
    assert not Numerics(layout="accelerator").on_cpu


def test_gelu_is_the_exact_one():
    x = POINTS.astype(np.float32)
    expected = ACTIVATIONS["gelu"](in_float64(x))
    found = in_float64(numerics_lib.gelu(x))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    tanh = ACTIVATIONS["gelu_new"](in_float64(x))
    assert np.abs(tanh - expected).max() > 1e-4  # the test would see the other one


def test_gelu_has_its_slope():
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    wide = in_float64(x)
    density = np.exp(-np.square(wide) / 2) / np.sqrt(2 * np.pi)
    slopes = jax.vmap(jax.grad(numerics_lib.gelu))(x)
    expected = scipy.special.ndtr(wide) + wide * density
    np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", numerics_lib.ACTIVATION_FNS)
def test_activations_follow_their_definitions(name):
    x = POINTS.astype(np.float32)
    found = numerics_lib.ACTIVATION_FNS[name](x)
    expected = ACTIVATIONS[name](in_float64(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_products_round_their_operands_and_nothing_else(rng, dtype, error):
    a = rng.standard_normal((2, 5, 300)).astype(np.float32)
    b = rng.standard_normal((300, 4)).astype(np.float32)
    found = numerics_lib.product("bti,io->bto", a, b, Numerics(dtype))
    assert found.dtype == jnp.float32
    rounded = (in_float64(jnp.asarray(x, dtype)) for x in (a, b))
    np.testing.assert_allclose(found, np.matmul(*rounded), rtol=1e-5, atol=2e-5)
    exact = in_float64(a) @ in_float64(b)
    assert np.abs(found - exact).mean() < error * np.abs(exact).mean()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_layer_norm_is_each_frames_own(rng, affine, eps):
    x = (3 * rng.standard_normal((2, 5, 16)) + 2).astype(np.float32)
    scale, bias = rng.standard_normal((2, 16)).astype(np.float32)
    expected = np.empty(x.shape)
    for clip, frame in itertools.product(range(2), range(5)):
        row = in_float64(x[clip, frame])
        expected[clip, frame] = (row - row.mean()) / np.sqrt(row.var() + eps)
    if affine:
        expected = expected * scale + bias
    parts = (scale, bias) if affine else (None, None)
    found = numerics_lib.layer_norm(x, *parts, eps)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_layer_norm_survives_a_big_offset(rng):
    x = (rng.standard_normal((1, 3, 64)) + 1000.0).astype(np.float32)
    wide = in_float64(x)
    centred = wide - wide.mean(-1, keepdims=True)
    expected = centred / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    found = numerics_lib.layer_norm(x, None, None, 1e-5)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_layer_norm_of_half_precision_is_computed_in_single(rng):
    x = jnp.asarray(rng.standard_normal((1, 2, 256)), jnp.bfloat16)
    found = numerics_lib.layer_norm(x, None, None, 1e-5)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(in_float64(found).mean(-1), 0.0, atol=1e-6)
    np.testing.assert_allclose(in_float64(found).var(-1), 1.0, atol=1e-4)


def test_layer_norm_of_a_constant_is_finite():
    x = np.full((1, 2, 8), 3.0, np.float32)
    np.testing.assert_array_equal(numerics_lib.layer_norm(x, None, None, 1e-5), 0.0)


def channel_norm_by_loops(x, lengths, scale, bias, eps):
    """The group norm with one channel a group, on the clip alone."""
    expected = np.empty(x.shape)
    for clip, channel in itertools.product(range(x.shape[0]), range(x.shape[2])):
        valid = in_float64(x[clip, : lengths[clip], channel])
        row = (in_float64(x[clip, :, channel]) - valid.mean()) / np.sqrt(
            valid.var() + eps
        )
        expected[clip, :, channel] = row * scale[channel] + bias[channel]
    return expected


@pytest.mark.parametrize("offset", [0.0, 30.0, 1000.0])
@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_channel_norm_is_over_the_valid_frames(rng, offset, size):
    lengths = np.array([400, 137, 1])
    mask = np.arange(400)[None] < lengths[:, None]
    x = size * rng.standard_normal((3, 400, 6)).astype(np.float32)
    x += np.float32(size * offset)
    scale, bias = rng.standard_normal((2, 6)).astype(np.float32)
    found = numerics_lib.channel_norm(x, mask, scale, bias, 1e-5)
    expected = channel_norm_by_loops(x, lengths, scale, bias, 1e-5)
    for row, length in enumerate(lengths):  # what lies outside is not used
        ours, theirs = found[row, :length], expected[row, :length]
        # the input itself is rounded to offset x 6e-8
        atol = 1e-5 + 3e-7 * offset
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=atol)


def test_channel_norm_of_an_empty_clip_is_finite():
    x = np.ones((1, 3, 2), np.float32)
    ones = np.ones(2, np.float32)
    found = numerics_lib.channel_norm(x, np.zeros((1, 3), bool), ones, ones, 1e-5)
    assert np.isfinite(found).all()


def test_channel_norm_ignores_what_lies_outside(rng):
    x = rng.standard_normal((1, 9, 3)).astype(np.float32)
    mask = np.arange(9)[None] < 5
    parts = mask, np.ones(3, np.float32), np.zeros(3, np.float32), 1e-5
    expected = numerics_lib.channel_norm(x, *parts)[:, :5]
    for garbage in (1e30, np.inf, np.nan):
        x[:, 5:] = garbage
        found = numerics_lib.channel_norm(x, *parts)[:, :5]
        np.testing.assert_array_equal(found, expected)


def test_channel_norm_has_the_gradient_of_its_definition(rng):
    x = (rng.standard_normal((1, 30, 2)) + 0.5).astype(np.float32)
    mask = np.arange(30)[None] < 21
    scale, bias = rng.standard_normal((2, 2)).astype(np.float32)
    weights = np.where(mask[:, :, None], rng.standard_normal(x.shape), 0.0)

    def scalar(x):
        return (numerics_lib.channel_norm(x, mask, scale, bias, 1e-5) * weights).sum()

    found = jax.grad(scalar)(x)
    for place in [(0, 0, 0), (0, 0, 1), (0, 7, 0), (0, 20, 1), (0, 25, 0)]:
        sides = []
        for step in (1e-4, -1e-4):
            moved = in_float64(x)
            moved[place] += step
            normed = channel_norm_by_loops(moved, [21], scale, bias, 1e-5)
            sides.append((normed * weights).sum())
        slope = (sides[0] - sides[1]) / 2e-4
        np.testing.assert_allclose(found[place], slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_waveforms_get_zero_mean_and_unit_variance(rng, offset):
    lengths = np.array([1000, 321])
    clips = (0.1 * rng.standard_normal((2, 1000)) + offset).astype(np.float32)
    inside = np.arange(1000)[None] < lengths[:, None]
    found = numerics_lib.normalise_waveforms(clips, inside)
    for row, length in enumerate(lengths):
        clip = in_float64(clips[row, :length])
        expected = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-5, atol=2e-5)
        np.testing.assert_array_equal(found[row, length:], 0.0)


def test_silence_and_nothing_are_normalised_to_zero():
    inside = np.arange(8)[None] < np.array([[8], [0]])
    clips = np.full((2, 8), 0.25, np.float32)
    np.testing.assert_array_equal(numerics_lib.normalise_waveforms(clips, inside), 0.0)


@pytest.mark.parametrize("garbage", [1e30, np.inf, np.nan])
def test_waveforms_are_normalised_without_what_lies_outside(rng, garbage):
    clips = rng.standard_normal((1, 50)).astype(np.float32)
    inside = np.arange(50)[None] < 30
    expected = numerics_lib.normalise_waveforms(clips, inside)
    clips[:, 30:] = garbage
    found = numerics_lib.normalise_waveforms(clips, inside)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("garbage", [np.inf, np.nan])
def test_no_gradient_comes_from_outside(rng, garbage):
    clips = rng.standard_normal((1, 40)).astype(np.float32)
    inside = np.arange(40)[None] < 30
    clips[:, 30:] = garbage

    def scalar(clips):
        clips = numerics_lib.normalise_waveforms(clips, inside)
        return (clips * np.linspace(0, 1, 40, dtype=np.float32)[None]).sum()

    grads = jax.grad(scalar)(clips)
    assert np.isfinite(grads).all()
    np.testing.assert_array_equal(grads[:, 30:], 0.0)
    assert np.abs(grads[:, :30]).max() > 1e-3
