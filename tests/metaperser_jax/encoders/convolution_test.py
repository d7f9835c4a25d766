"""Convolutions against plain loops, in both layouts and precisions."""

import functools
import importlib.util
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.encoders import convolution
from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.numerics import Numerics

_path = pathlib.Path(__file__).with_name("reference.py")
_spec = importlib.util.spec_from_file_location("reference", _path)
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

# nothing here runs for long: compiling is what takes time
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
ALL_NUMERICS = [
    Numerics(dtype, layout)
    for dtype in ("float32", "bfloat16")
    for layout in ("cpu", "accelerator")
]
each_numerics = pytest.mark.parametrize(
    "numerics", ALL_NUMERICS, ids=lambda n: f"{n.dtype}-{n.layout}"
)
CONFIG = SpeechConfig()


def rounded(x, dtype):
    """The operand as a product in `dtype` sees it, in float64."""
    return np.asarray(jnp.asarray(x, dtype), np.float64)


def count_frames(samples, config):
    return int(convolution.num_frames(np.array([samples]), config)[0])


strided = jit(convolution.strided_convolution, static_argnums=(2, 3))
positional = jit(convolution.same_convolution, static_argnums=(2, 3))


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


# --- Frames ---


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200_000))
def test_frames_are_counted_as_the_convolutions_make_them(samples):
    seen = max(samples, 400)
    for kernel, stride in zip(CONFIG.conv_kernel, CONFIG.conv_stride, strict=True):
        seen = len(range(0, seen - kernel + 1, stride))
    assert count_frames(samples, CONFIG) == (seen if samples else 0)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 0), (1, 1), (399, 1), (400, 1), (719, 1), (720, 2), (16_000, 49)],
)
def test_frames_of_the_published_front_end(samples, frames):
    assert count_frames(samples, CONFIG) == frames


@pytest.mark.parametrize(
    ("kernels", "strides", "samples"),
    [
        (CONFIG.conv_kernel, CONFIG.conv_stride, 400),  # 25 ms, as in the paper
        ((7,), (3,), 7),
        ((3, 3), (1, 1), 5),
        ((1, 1), (4, 4), 1),
        ((2, 3), (5, 2), 12),
    ],
)
def test_a_frame_sees_its_receptive_field(kernels, strides, samples):
    config = CONFIG._replace(conv_kernel=kernels, conv_stride=strides)
    assert convolution.receptive_field(config) == samples


def test_the_receptive_field_is_what_moves_a_frame():
    config = SpeechConfig(
        conv_dim=(1,) * 3, conv_kernel=(4, 3, 2), conv_stride=(3, 2, 1)
    )
    ones = [np.ones((taps, 1, 1), np.float32) for taps in config.conv_kernel]

    def first_frame(x):
        for kernel, stride in zip(ones, config.conv_stride, strict=True):
            x = convolution.strided_convolution(x, kernel, stride, Numerics())
        return x[0, 0, 0]

    grads = jax.grad(first_frame)(np.ones((1, 40, 1), np.float32))
    (moving,) = np.nonzero(np.asarray(grads)[0, :, 0])
    assert moving.max() + 1 == convolution.receptive_field(config)


# --- Strided ---


@each_numerics
@pytest.mark.parametrize(
    ("taps", "stride", "channels"),
    [(10, 5, 1), (3, 2, 3), (2, 2, 3), (2, 3, 3), (5, 3, 2)],
)
def test_strided_convolution_is_the_plain_one(rng, numerics, taps, stride, channels):
    x, kernel = draw(rng, 2, 29, channels), draw(rng, taps, channels, 4)
    found = strided(x, kernel, stride, numerics)
    assert found.dtype == jnp.float32
    operands = (rounded(operand, numerics.dtype) for operand in (x, kernel))
    x, kernel = operands
    expected = [reference.convolve(clip, kernel, stride) for clip in x]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(0, 14),
    st.sampled_from(ALL_NUMERICS),
)
def test_no_frame_of_a_strided_convolution_is_lost(taps, stride, more, numerics):
    x = np.ones((1, taps + more, 2), np.float32)
    kernel = np.ones((taps, 2, 1), np.float32)
    found = strided(x, kernel, stride, numerics)
    expected = np.full((1, more // stride + 1, 1), 2.0 * taps)
    np.testing.assert_array_equal(found, expected)


@each_numerics
def test_gradients_of_the_strided_convolution(rng, numerics):
    x, kernel = draw(rng, 2, 13, 3), draw(rng, 3, 3, 4)
    weights = draw(rng, 2, 6, 4)

    def scalar(x, kernel):
        y = convolution.strided_convolution(x, kernel, 2, numerics)
        return jnp.vdot(y, weights)

    found = jit(jax.grad(scalar, (0, 1)))(x, kernel)
    wide = [rounded(a, numerics.dtype) for a in (x, kernel)]
    by_input, by_kernel = np.zeros(x.shape), np.zeros(kernel.shape)
    for n, tap in itertools.product(range(6), range(3)):
        by_input[:, 2 * n + tap] += weights[:, n] @ wide[1][tap].T
        by_kernel[tap] += wide[0][:, 2 * n + tap].T @ weights[:, n]
    rtol = 1e-5 if numerics.dtype == "float32" else 1e-2
    for ours, theirs in zip(found, (by_input, by_kernel), strict=True):
        atol = rtol * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


# --- Positional ---


@each_numerics
@pytest.mark.parametrize(
    ("taps", "groups", "frames"),
    [
        *[(16, 2, 7), (16, 4, 97)],  # shorter than the kernel, many blocks
        *[(19, 4, 30), (2, 8, 1)],
    ],
)
def test_same_convolution_is_the_plain_one(rng, numerics, taps, groups, frames):
    x, kernel = draw(rng, 2, frames, 8), draw(rng, taps, 8 // groups, 8)
    found = positional(x, kernel, groups, numerics)
    assert found.shape == x.shape
    assert found.dtype == jnp.float32
    x, kernel = reference.wide(x), reference.wide(kernel)
    expected = [reference.convolve_same(clip, kernel, groups) for clip in x]
    size = np.abs(expected).max()
    atol = (2e-6 if numerics.dtype == "float32" else 2e-2) * size
    np.testing.assert_allclose(found, expected, atol=atol)


@pytest.mark.parametrize("taps", [4, 5])
@pytest.mark.parametrize("layout", ["cpu", "accelerator"])
def test_the_impulse_response_of_same_convolution(taps, layout):
    kernel = np.arange(1.0, taps + 1, dtype=np.float32)[:, None, None]
    x = np.zeros((1, 11, 1), np.float32)
    x[0, 5] = 1.0
    found = positional(x, kernel, 1, Numerics(layout=layout))
    expected = np.zeros(11)
    for tap in range(taps):  # output n sees n - taps // 2 onwards
        expected[5 - tap + taps // 2] = tap + 1
    np.testing.assert_allclose(found[0, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("layout", ["cpu", "accelerator"])
def test_same_convolution_keeps_apart_what_differs_in_size(rng, layout):
    # frames a million times larger elsewhere: an error is one of its surroundings
    x, kernel = draw(rng, 1, 200, 4), draw(rng, 8, 2, 4)
    x[:, :20] *= 1e4
    found = positional(x, kernel, 2, Numerics(layout=layout))
    expected = reference.convolve_same(x[0].astype(np.float64), kernel, 2)
    np.testing.assert_allclose(found[0, 60:], expected[60:], rtol=1e-4, atol=1e-4)


def test_gradients_of_the_positional_convolution_agree_between_layouts(rng):
    x, kernel, weights = draw(rng, 2, 37, 8), draw(rng, 16, 4, 8), draw(rng, 2, 37, 8)

    def gradients(layout):
        def scalar(x, kernel):
            numerics = Numerics(layout=layout)
            y = convolution.same_convolution(x, kernel, 2, numerics)
            return jnp.vdot(jnp.sin(y), weights)

        return jit(jax.grad(scalar, (0, 1)))(x, kernel)

    for ours, theirs in zip(*map(gradients, ("cpu", "accelerator")), strict=True):
        atol = 1e-5 * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=atol)


# --- Modules ---

SMALL = SpeechConfig(
    hidden_size=12,
    conv_dim=(6, 5),
    conv_kernel=(4, 3),
    conv_stride=(3, 2),
    num_conv_pos_embeddings=6,
    num_conv_pos_embedding_groups=3,
)


def like_trained(name, drawn):
    """Norms and biases away from one and zero."""
    if name in ("scale", "var"):
        return np.exp(0.3 * drawn)
    return 0.3 * drawn


def run(module, rng, *inputs):
    """Draws parameters; returns them, in float64, and what the module makes."""
    inputs = jax.tree.map(jnp.asarray, inputs)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    params = unflatten_dict(
        {
            path: like_trained(path[-1], draw(rng, *leaf.shape))
            for path, leaf in flatten_dict(shapes).items()
        }
    )
    found = jit(module.apply)({"params": params}, *inputs)
    return reference.wide(params), found


@pytest.mark.parametrize(("norm", "bias"), [("group", False), ("layer", True)])
@pytest.mark.parametrize("layout", ["cpu", "accelerator"])
def test_the_front_end_is_its_equations_for_each_clip(rng, norm, bias, layout):
    config = SMALL._replace(feat_extract_norm=norm, conv_bias=bias)
    lengths = np.array([60, 30, 12])
    clips = draw(rng, 3, 60)
    module = convolution.FeatureExtractor(config, Numerics(layout=layout))
    params, found = run(module, rng, clips, lengths)
    for row, length in enumerate(lengths):
        clip = clips[row, :length].astype(np.float64)
        expected = reference.front_end(config, params, clip)
        assert len(expected) == count_frames(length, config)
        ours = found[row, : len(expected)]
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_in_half_precision_the_first_convolution_stays_in_single(rng):
    config = SMALL._replace(conv_dim=(6,), conv_kernel=(4,), conv_stride=(3,))
    clips, lengths = draw(rng, 1, 40), np.array([40])
    module = convolution.FeatureExtractor(config, Numerics("float32"))
    params, expected = run(module, rng, clips, lengths)
    module = convolution.FeatureExtractor(config, Numerics("bfloat16"))
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
    found = module.apply({"params": params}, jnp.asarray(clips), lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


POSITIONAL = {
    "weight norm": {},
    "odd kernel": {"num_conv_pos_embeddings": 5},
    "batch norm": {"model_type": "hubert", "conv_pos_batch_norm": True},
    "stack": {
        "model_type": "data2vec-audio",
        "num_conv_pos_embeddings": 3,
        "conv_pos_kernel_size": 5,
    },
}


@pytest.mark.parametrize("case", POSITIONAL)
@pytest.mark.parametrize("layout", ["cpu", "accelerator"])
def test_positions_are_the_equations_for_each_clip(rng, case, layout):
    config = SMALL._replace(**POSITIONAL[case])
    lengths = np.array([23, 9, 1])
    mask = np.arange(23)[None] < lengths[:, None]
    x = draw(rng, 3, 23, 12)
    module = convolution.positional_conv(config, Numerics(layout=layout))
    params, found = run(module, rng, x, mask)
    for row, length in enumerate(lengths):
        clip = x[row, :length].astype(np.float64)
        expected = reference.positions(config, params, clip)
        ours = found[row, :length]
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-5)


def test_the_statistics_of_batch_norm_are_not_trained(rng):
    module = convolution.BatchNorm(4)
    x = jnp.asarray(draw(rng, 1, 5, 4))
    params, _ = run(module, rng, x)
    params = jax.tree.map(jnp.float32, params)
    grads = jax.grad(lambda p: jnp.sin(module.apply({"params": p}, x)).sum())(params)
    assert not np.any(grads["mean"])
    assert not np.any(grads["var"])
    assert np.all(grads["scale"])
    assert np.all(grads["bias"])


def test_weight_norm_starts_where_the_kernel_was_drawn():
    module = convolution.Kernel((5, 2, 4), use_bias=True, weight_norm=True)
    (kernel, bias), variables = module.init_with_output(jax.random.key(1))
    drawn = variables["params"]["kernel"]
    np.testing.assert_allclose(kernel, drawn, rtol=1e-6)
    np.testing.assert_array_equal(bias, np.zeros(4))
