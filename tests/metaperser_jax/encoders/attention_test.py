"""Attention against plain loops; relative positions against their definition."""

import functools
import importlib.util
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax import trees
from metaperser_jax.encoders import attention
from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.numerics import Numerics

_path = pathlib.Path(__file__).with_name("reference.py")
_spec = importlib.util.spec_from_file_location("reference", _path)
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

# nothing here runs for long: compiling is what takes time
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

WIDTH, HEADS, FRAMES = 12, 3, 9
CONFIG = SpeechConfig(
    hidden_size=WIDTH, num_attention_heads=HEADS, attention_dropout=0.0
)
WAVLM = CONFIG._replace(model_type="wavlm", num_buckets=8, max_bucket_distance=6)


# --- Relative positions ---


@pytest.mark.parametrize(
    ("num_buckets", "max_distance"), [(320, 800), (32, 128), (8, 6), (64, 4000)]
)
def test_buckets_follow_their_definition(num_buckets, max_distance):
    offsets = np.arange(-5000, 5001)
    found = attention.relative_buckets(offsets, num_buckets, max_distance)
    expected = [reference.bucket(int(n), num_buckets, max_distance) for n in offsets]
    edges = {n for n in offsets if at_an_edge(abs(int(n)), num_buckets, max_distance)}
    keep = [n not in edges for n in offsets]  # there rounding decides
    assert sum(keep) > 9900
    np.testing.assert_array_equal(found[keep], np.array(expected)[keep])
    np.testing.assert_allclose(found, expected, atol=1)


def at_an_edge(distance, num_buckets, max_distance):
    half = num_buckets // 2
    if distance < half // 2:
        return False
    share = math.log(distance / (half // 2)) / math.log(max_distance / (half // 2))
    place = share * (half - half // 2)
    return abs(place - round(place)) < 1e-4


@pytest.mark.parametrize(
    ("offset", "bucket"),
    [
        *[(0, 0), (-1, 1), (-79, 79), (-80, 80), (1, 161), (79, 239), (80, 240)],
        *[(-799, 159), (-800, 159), (-5000, 159), (799, 319), (800, 319)],
    ],
)
def test_buckets_of_the_published_models(offset, bucket):
    assert attention.relative_buckets(np.array([offset]), 320, 800) == [bucket]


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 100), st.integers(1, 1000))
def test_buckets_are_in_order_and_in_bounds(quarter, more):
    num_buckets = 4 * quarter
    found = attention.relative_buckets(np.arange(3000), num_buckets, quarter + more)
    assert found[0] == 0
    assert found.max() < num_buckets
    assert np.all(np.diff(found[1:]) >= 0)
    mirrored = attention.relative_buckets(-np.arange(3000), num_buckets, quarter + more)
    np.testing.assert_array_equal(found[1:], mirrored[1:] + num_buckets // 2)


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_toeplitz_is_the_gather(rng, n):
    values = rng.standard_normal((3, 2 * n - 1)).astype(np.float32)
    rows, columns = np.indices((n, n))
    expected = values[:, columns - rows + n - 1]
    np.testing.assert_array_equal(jit(attention.toeplitz)(values), expected)


def test_toeplitz_sums_gradients_along_diagonals(rng):
    values = rng.standard_normal((2, 9)).astype(np.float32)
    weights = rng.standard_normal((2, 5, 5)).astype(np.float32)
    found = jit(jax.grad(lambda v: jnp.vdot(attention.toeplitz(v), weights)))(values)
    expected = [[np.trace(w, k) for k in range(-4, 5)] for w in weights]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_learned_bias_belongs_to_a_bucket():
    module = attention.Buckets(WAVLM)
    table = np.arange(8 * HEADS, dtype=np.float32).reshape(8, HEADS)
    found = module.apply({"params": {"embedding": table}}, FRAMES)
    assert found.shape == (HEADS, FRAMES, FRAMES)
    for query in range(FRAMES):
        for key in range(FRAMES):
            bucket = reference.bucket(key - query, 8, 6)
            np.testing.assert_array_equal(found[:, query, key], table[bucket])


# --- Attention ---


def make(rng, config, numerics):
    """Returns the module, its parameters as if trained, and its inputs."""
    module = attention.Attention(config, numerics)
    x = jnp.asarray(rng.standard_normal((2, FRAMES, WIDTH)), jnp.float32)
    mask = np.arange(FRAMES)[None] < np.array([[FRAMES], [4]])
    bias = None
    if config.model_type == "wavlm":
        bias = rng.standard_normal((HEADS, FRAMES, FRAMES)).astype(np.float32)
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), x, mask, bias)["params"]
    params = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32) / 2, shapes
    )
    return module, params, x, mask, bias


@pytest.mark.parametrize("config", [CONFIG, WAVLM], ids=lambda c: c.model_type)
@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 0.02)])
@pytest.mark.parametrize(
    "kind", [("cpu", False), ("accelerator", False), ("cpu", True)]
)
def test_attention_is_its_equations(rng, config, dtype, error, kind):
    module, params, x, mask, bias = make(rng, config, Numerics(dtype, *kind))
    apply = jit(module.apply, static_argnums=4)
    found = apply({"params": params}, x, mask, bias, False)
    assert found.dtype == jnp.float32
    params, x = reference.wide(params), reference.wide(x)
    for row, length in enumerate(mask.sum(1)):
        expected = reference.attend(config, params, x[row], bias, length)
        atol = error * np.abs(expected).max()
        np.testing.assert_allclose(found[row], expected, atol=atol)


each_kind = pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])


@each_kind
def test_keys_of_the_padding_weigh_nothing(rng, fused):
    numerics = Numerics(fused_attention=fused)
    module, params, x, mask, bias = make(rng, WAVLM, numerics)
    apply = jit(module.apply, static_argnums=4)
    expected = apply({"params": params}, x, mask, bias, False)[1, :4]
    x = x.at[1, 4:].set(1e4)
    found = apply({"params": params}, x, mask, bias, False)[1, :4]
    np.testing.assert_array_equal(found, expected)


@each_kind
def test_big_scores_do_not_overflow(rng, fused):
    numerics = Numerics(fused_attention=fused)
    module, params, x, mask, bias = make(rng, CONFIG, numerics)
    x = 100.0 * x  # scores of some ten thousand: one key takes all
    found = jit(module.apply, static_argnums=4)(
        {"params": params}, x, mask, bias, False
    )
    params, x = reference.wide(params), reference.wide(x)
    for row, length in enumerate(mask.sum(1)):
        expected = reference.attend(CONFIG, params, x[row], bias, length)
        atol = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(found[row], expected, atol=atol)


@each_kind
def test_without_a_valid_key_attention_is_finite(rng, fused):
    numerics = Numerics(fused_attention=fused)
    module, params, x, mask, bias = make(rng, CONFIG, numerics)
    mask = np.zeros_like(mask)

    def scalar(params):
        return module.apply({"params": params}, x, mask, bias, False).sum()

    found, grads = jit(jax.value_and_grad(scalar))(params)
    assert np.isfinite(found)
    assert trees.all_finite(grads)


@each_kind
def test_attention_weights_are_dropped_in_training_only(rng, fused):
    config = CONFIG._replace(attention_dropout=0.5)
    numerics = Numerics(fused_attention=fused)
    module, params, x, mask, bias = make(rng, config, numerics)
    apply = jit(module.apply, static_argnums=4)
    without = apply({"params": params}, x, mask, bias, False)
    draws = [
        apply({"params": params}, x, mask, bias, True, rngs={"dropout": key})
        for key in jax.random.split(jax.random.key(0, impl="rbg"), 200)
    ]
    assert not np.allclose(draws[0], draws[1])
    error = np.std(draws, axis=0) / math.sqrt(len(draws))  # of the mean
    away = np.abs(np.mean(draws, axis=0) - without) / np.maximum(error, 1e-6)
    assert away.max() < 5.0  # unbiased
