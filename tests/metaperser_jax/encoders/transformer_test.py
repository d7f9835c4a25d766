"""The whole encoders: their equations, padding, training mode, derivatives."""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax import trees
from metaperser_jax.encoders import transformer
from metaperser_jax.encoders.augmentation import spec_augment
from metaperser_jax.encoders.encoder import (
    encode,
    encode_pooled,
    encode_training,
    mean_frames,
    pool,
)
from metaperser_jax.encoders.numerics import Numerics
from metaperser_jax.errors import InputError

TESTS = pathlib.Path(__file__).parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = load(TESTS / "golden" / "encoder_cases.py")
reference = load(TESTS / "metaperser_jax" / "encoders" / "reference.py")

CASES = {  # each architecture and layout; golden_test has all combinations
    name: cases.CASES[name]
    for name in (
        *("wavlm-group", "wav2vec2-adapters", "hubert-batch-norm", "wavlm-layer"),
        "data2vec-audio",
    )
}
SAMPLES, LEAST = 640, 30  # 31 frames; the receptive field
LENGTHS = np.array([640, 397, 30])
# nothing here runs for long: compiling is what takes time
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.lru_cache
def shapes_of(config):
    return transformer.param_shapes(config)


def make(config, seed=0, **options):
    """Returns an encoder and its parameters."""
    params = cases.make_params(shapes_of(config), seed)
    params = unflatten_dict(params, sep="/")
    return transformer.speech_encoder(config, params, **options), params


@functools.lru_cache
def compiled(name, layout="cpu", dtype="float32"):
    """Returns (waveforms, lengths) -> EncoderOutput of a case."""
    encoder, params = make(CASES[name], numerics=Numerics(dtype, layout))
    return functools.partial(jit(functools.partial(encode, encoder)), params)


def one_layer(name):
    return CASES[name]._replace(num_hidden_layers=1)


def make_clips(lengths=LENGTHS, samples=SAMPLES, fill=0.0):
    """Returns [batch, samples], garbage in the padding."""
    clips = np.full((len(lengths), samples), fill, np.float32)
    for row, length in enumerate(lengths):
        clips[row, :length] = cases.make_clip(row, length)
    return clips


def relative(found, expected):
    """The largest difference, in units of the largest value."""
    return np.abs(found - expected).max() / np.abs(expected).max()


# --- What it computes ---


@pytest.mark.parametrize("name", CASES)
def test_every_hidden_state_is_its_equations_for_the_clip_alone(name):
    encoder, params = make(CASES[name])
    clips = make_clips(fill=7.0)
    output = compiled(name)(clips, LENGTHS)
    for row, length in enumerate(LENGTHS):
        expected = reference.encode(CASES[name], params, clips[row, :length])
        frames = expected["last"].shape[0]
        assert output.mask[row].sum() == frames
        assert output.mask[row, :frames].all()
        for layer, states in enumerate(expected["hidden"]):
            found = output.hidden_states[row, layer, :frames]
            assert relative(found, states) < 1e-5, layer
        found = output.last_hidden_state[row, :frames]
        assert relative(found, expected["last"]) < 1e-5
    np.testing.assert_array_equal(encoder.frames_fn(LENGTHS), output.mask.sum(1))


@pytest.mark.parametrize("name", ["wavlm-layer", "data2vec-audio"])
def test_an_accelerators_layout_computes_the_same(name):
    clips = make_clips()
    on_cpu = compiled(name)(clips, LENGTHS)
    elsewhere = compiled(name, "accelerator")(clips, LENGTHS)
    keep = np.asarray(on_cpu.mask)[:, None, :, None]
    for field in ("hidden_states", "last_hidden_state"):
        kept = keep if field == "hidden_states" else keep[:, 0]
        found, expected = (
            np.where(kept, getattr(output, field), 0.0)
            for output in (elsewhere, on_cpu)
        )
        assert relative(found, expected) < 1e-5


@pytest.mark.parametrize(
    ("name", "layout"), [("wavlm-layer", "cpu"), ("hubert-batch-norm", "accelerator")]
)
def test_half_precision_is_near(name, layout):
    clips = make_clips()
    exact = compiled(name)(clips, LENGTHS)
    rounded = compiled(name, layout, "bfloat16")(clips, LENGTHS)
    assert rounded.hidden_states.dtype == jnp.float32
    keep = np.asarray(exact.mask)
    for layer in range(3):
        expected = np.asarray(exact.hidden_states)[:, layer][keep]
        error = np.asarray(rounded.hidden_states)[:, layer][keep] - expected
        assert 1e-5 < np.abs(error).mean() / np.abs(expected).mean() < 1e-2


def test_a_clips_loudness_and_offset_are_normalised_away():
    clips = make_clips()
    expected = compiled("wav2vec2-adapters")(clips, LENGTHS).hidden_states
    found = compiled("wav2vec2-adapters")(3.0 * clips - 0.2, LENGTHS).hidden_states
    keep = compiled("wav2vec2-adapters")(clips, LENGTHS).mask[:, None, :, None]
    assert relative(np.where(keep, found, 0), np.where(keep, expected, 0)) < 1e-4


def test_waveforms_are_taken_as_they_are_where_the_config_says_so():
    config = CASES["wav2vec2-adapters"]
    encoder, params = make(config._replace(do_normalize=False))
    clips = make_clips()
    raw = jit(functools.partial(encode, encoder))(params, clips, LENGTHS)
    normalised = compiled("wav2vec2-adapters")(clips, LENGTHS)
    assert relative(raw.hidden_states, normalised.hidden_states) > 1e-2
    clip = clips[0].astype(np.float64)
    clips[0] = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
    raw = jit(functools.partial(encode, encoder))(params, clips, LENGTHS)
    assert relative(raw.hidden_states[0], normalised.hidden_states[0]) < 1e-5


# --- Padding ---


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(
        ["wavlm-group", "hubert-batch-norm", "wavlm-layer", "data2vec-audio"]
    ),
    length=st.integers(1, SAMPLES),
    samples=st.sampled_from([SAMPLES, 900]),
    mates=st.lists(st.integers(0, SAMPLES), min_size=2, max_size=2),
    row=st.integers(0, 2),
    garbage=st.sampled_from([0.0, 1.0, -1e4, 1e30, np.inf, np.nan]),
)  # fmt: skip
def test_padding_and_other_clips_change_nothing(
    name, length, samples, mates, row, garbage
):
    clip = cases.make_clip(9, length)

    def run(lengths, place, samples, fill):
        clips = make_clips(lengths, samples, fill)
        clips[place, :length] = clip
        output = compiled(name)(clips, np.array(lengths))
        frames = int(output.mask[place].sum())
        states = output.hidden_states[place, :, :frames]
        return np.asarray(states), np.asarray(output.last_hidden_state[place, :frames])

    expected = run([length, 100, 0], 0, SAMPLES, 0.0)
    lengths = [*mates[:row], length, *mates[row:]]
    for found, wanted in zip(
        run(lengths, row, samples, garbage), expected, strict=True
    ):
        assert found.shape == wanted.shape
        assert relative(found, wanted) < 1e-5


@pytest.mark.parametrize("name", ["wavlm-group", "wavlm-layer", "data2vec-audio"])
@pytest.mark.parametrize("garbage", [1e30, np.inf, np.nan])
def test_what_the_padding_holds_changes_no_bit(name, garbage):
    expected = compiled(name)(make_clips(), LENGTHS)
    found = compiled(name)(make_clips(fill=garbage), LENGTHS)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", CASES)
def test_short_clips_and_empty_ones_are_finite(name):
    lengths = np.array([0, 1, 29])
    output = compiled(name)(make_clips(lengths, fill=np.nan), lengths)
    np.testing.assert_array_equal(output.mask.sum(1), [0, 1, 1])
    assert np.isfinite(output.hidden_states).all()
    assert np.isfinite(output.last_hidden_state).all()
    np.testing.assert_array_equal(pool(output)[0], 0.0)


@pytest.mark.parametrize("name", ["wav2vec2-adapters", "wavlm-group"])
@pytest.mark.parametrize("samples", [1, 12, 29])
def test_a_short_clip_is_one_with_silence_behind(name, samples):
    config = CASES[name]
    clip = cases.make_clip(3, samples)
    padded = np.zeros(LEAST)
    padded[:samples] = clip
    if config.do_normalize:  # over the samples that are there
        wide = clip.astype(np.float64)
        padded[:samples] = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)
    alone = config._replace(do_normalize=False)
    expected = reference.encode(alone, make(config)[1], padded)
    clips = make_clips()
    clips[0, :samples] = clip
    output = compiled(name)(clips, np.array([samples, 100, 0]))
    # one sample of any size is normalised to about zero
    assert relative(output.hidden_states[0, :, :1], expected["hidden"]) < 1e-4


def test_a_batch_narrower_than_one_frame_is_encoded():
    encoder, params = make(CASES["wav2vec2-adapters"])
    clips = make_clips(np.array([12, 5]), samples=12)
    output = jit(functools.partial(encode, encoder))(params, clips, np.array([12, 5]))
    assert output.hidden_states.shape == (2, 3, 1, 12)
    clips = make_clips(np.array([12, 5, 0]))
    wider = compiled("wav2vec2-adapters")(clips, np.array([12, 5, 0])).hidden_states
    assert relative(output.hidden_states, wider[:2, :, :1]) < 1e-5


# --- What is asked for ---


@pytest.mark.parametrize("name", ["hubert-batch-norm", "wavlm-layer"])
def test_pooled_states_are_the_means_of_the_valid_frames(name):
    encoder, params = make(CASES[name])
    lengths = np.array([640, 397, 0])
    clips = make_clips(lengths, fill=3.0)
    pooled = jit(functools.partial(encode_pooled, encoder))(params, clips, lengths)
    assert pooled.shape == (3, encoder.num_layers, encoder.width)
    expected = pool(compiled(name)(clips, lengths))
    assert relative(pooled, expected) < 1e-6
    for row, frames in enumerate([31, 19]):
        states = reference.encode(CASES[name], params, clips[row, : lengths[row]])
        assert states["hidden"].shape[1] == frames
        assert relative(pooled[row], states["hidden"].mean(1)) < 1e-5
    np.testing.assert_array_equal(pooled[2], 0.0)


@pytest.mark.parametrize("layers", [(1,), (0, 2)])
def test_chosen_layers_are_those_of_all(layers):
    encoder, params = make(CASES["wavlm-layer"], layers=layers)
    assert encoder.num_layers == len(layers)
    run = jit(functools.partial(encode, encoder))
    clips = make_clips()
    found = run(params, clips, LENGTHS).hidden_states
    expected = compiled("wavlm-layer")(clips, LENGTHS).hidden_states
    assert relative(found, expected[:, np.array(layers)]) < 1e-6


def test_layers_above_the_last_chosen_one_are_not_computed():
    def count(layers):
        encoder, params = make(CASES["hubert-batch-norm"], layers=layers)
        traced = jax.make_jaxpr(functools.partial(encode, encoder))
        return str(traced(params, make_clips(), LENGTHS)).count("erf")

    activations = [count((i,)) for i in range(3)]
    assert activations == [activations[0] + i for i in range(3)]
    encoder, params = make(CASES["hubert-batch-norm"], layers=(1,))
    above = trees.select(params, [p for p in trees.flatten(params) if "layers_1/" in p])
    above = {p: leaf for p, leaf in above.items() if "conv_layers" not in p}
    broken = trees.replace(params, {p: leaf * np.nan for p, leaf in above.items()})
    found = jit(functools.partial(encode, encoder))(broken, make_clips(), LENGTHS)
    assert above
    assert np.isfinite(found.hidden_states).all()


@pytest.mark.parametrize("layers", [(), (3,), (-1,), (1, 0), (1, 1)])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(InputError, match=r"layers=.*ascending numbers from 0 .* to 2"):
        make(CASES["hubert-batch-norm"], layers=layers)


def test_an_encoder_says_what_it_is():
    config = CASES["hubert-batch-norm"]
    encoder, params = make(config, name="x", revision="abc", random_weights=True)
    assert (encoder.name, encoder.revision, encoder.random_weights) == (
        "x",
        "abc",
        True,
    )
    assert (encoder.num_layers, encoder.width) == (3, 12)
    assert make(config)[0].name == "hubert"
    json.dumps(encoder.config)
    others = [
        make(config, dtype="bfloat16")[0],
        make(config, layers=(1,))[0],
        make(config._replace(do_normalize=False))[0],
        make(config, seed=1)[0],
    ]
    prints = {encoder.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 5
    again = transformer.speech_encoder(config, params, name="y")
    assert again.fingerprint == encoder.fingerprint


def test_drawn_weights_are_those_of_the_seed():
    config = one_layer("wavlm-group")._replace(
        conv_dim=(8,), conv_kernel=(10,), conv_stride=(5,)
    )
    first, other = (trees.flatten(transformer.init_params(config, s)) for s in (1, 2))
    assert {p: (v.shape, v.dtype) for p, v in first.items()} == {
        p: (v.shape, v.dtype) for p, v in transformer.param_shapes(config).items()
    }
    kernels = [path for path in first if path.endswith("kernel")]
    assert kernels
    for path in kernels:
        assert np.any(first[path] != other[path])


# --- Training ---


NOISES = {
    "hidden_dropout": 0.1,
    "activation_dropout": 0.1,
    "attention_dropout": 0.1,
    "feat_proj_dropout": 0.1,
    "layerdrop": 0.5,
    "apply_spec_augment": True,
}
QUIET = {name: type(value)(0) for name, value in NOISES.items()}
SPANS = {
    "apply_spec_augment": True,
    "mask_time_prob": 0.4,
    "mask_time_length": 3,
    "mask_feature_prob": 0.3,
    "mask_feature_length": 2,
}
# this generator compiles in a third of the time
KEYS = jax.random.split(jax.random.key(0, impl="rbg"), 300)


def states_in_training(config):
    """Returns params and key -> (hidden states [layers + 1, batch, ...], mask)."""
    model = transformer.SpeechModel(config)
    inputs = make_clips(fill=np.nan), LENGTHS, lambda x, mask: x

    def run(params, key):
        rngs = {"dropout": key}
        states, _, mask = model.apply(
            {"params": params}, *inputs, train=True, rngs=rngs
        )
        return jnp.stack(states), mask

    return run


@pytest.mark.parametrize("name", ["hubert-batch-norm", "wavlm-layer"])
def test_training_without_noise_is_inference(name):
    config = CASES[name]._replace(**QUIET)
    encoder, params = make(config)
    train = jit(functools.partial(encode_training, encoder))
    found = train(params, make_clips(fill=np.inf), LENGTHS, KEYS[0])
    assert relative(found, pool(compiled(name)(make_clips(), LENGTHS))) < 1e-5


@pytest.mark.parametrize("noise", NOISES)
def test_each_noise_depends_on_the_key_alone(noise):
    config = one_layer("wav2vec2-adapters")._replace(**QUIET | {noise: NOISES[noise]})
    encoder, params = make(config)

    train = jit(functools.partial(encode_training, encoder))
    keys = KEYS[np.array([0, 0, 1, 2, 3, 4, 5])]
    draws = [train(params, make_clips(), LENGTHS, key) for key in keys]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert any(relative(draws[0], draw) > 1e-4 for draw in draws[2:])


def test_dropout_drops_the_share_it_should():
    config = CASES["wav2vec2-adapters"]._replace(**QUIET | {"hidden_dropout": 0.3})
    _, params = make(config)
    run = jit(states_in_training(config))
    states = np.stack([run(params, key)[0][0, 0] for key in KEYS[:50]])
    clean = compiled("wav2vec2-adapters")(make_clips(), LENGTHS).hidden_states[0, 0]
    assert (states == 0).mean() == pytest.approx(0.3, abs=0.02)
    scaled = np.where(states == 0, 0.0, np.asarray(clean) / 0.7)
    assert relative(states, scaled) < 1e-5


@pytest.mark.parametrize("name", ["wavlm-layer", "data2vec-audio"])
def test_frames_are_masked_before_the_positions_are_added(name, monkeypatch):
    config = one_layer(name)._replace(**QUIET | SPANS)
    _, params = make(config)
    seen = []

    def augment(key, x, mask, embedding, config):
        masked = spec_augment(key, x, mask, embedding, config)
        seen.append((x, mask, embedding, masked))
        return masked

    def run(params):
        states, mask = states_in_training(config)(params, KEYS[0])
        return states[0], mask, seen.pop()

    monkeypatch.setattr(transformer, "spec_augment", augment)
    found, mask, (x, given, embedding, masked) = jit(run)(params)
    np.testing.assert_array_equal(given, mask)
    np.testing.assert_array_equal(embedding, params["masked_spec_embed"])
    encoder = reference.wide(params["encoder"])
    for row, length in enumerate(LENGTHS[:2]):
        frames = int(mask[row].sum())
        plain = reference.encode(config, params, make_clips()[row, :length])
        assert relative(x[row, :frames], plain["projected"]) < 1e-5
        expected = np.asarray(masked[row, :frames], np.float64)
        part = reference.positions(config, encoder["pos_conv_embed"], expected)
        expected = expected + part
        if not config.do_stable_layer_norm:
            expected = reference.norm(expected, 1, encoder["layer_norm"])
        assert relative(found[row, :frames], expected) < 1e-5
        assert relative(plain["hidden"][0], expected) > 1e-2


@pytest.mark.parametrize("name", ["hubert-batch-norm", "wavlm-layer"])
def test_layers_are_dropped_with_their_probability(name):
    config = CASES[name]._replace(**QUIET | {"layerdrop": 0.3, "num_hidden_layers": 3})
    _, params = make(config)
    run = jit(states_in_training(config))
    dropped = []
    for key in KEYS:
        states = np.asarray(run(params, key)[0])
        same = (states[1:] == states[:-1]).all(axis=(2, 3))  # [layers, batch]
        assert (same == same[:, :1]).all()  # all clips or none
        dropped.append(same[:, 0])
    expected = np.array([0.3, 0.3, 0.3])
    if config.model_type == "wavlm":  # its first layer learns the bias of all
        expected[0] = 0.0
        assert not np.any(dropped, axis=0)[0]
    error = 4 * np.sqrt(0.3 * 0.7 / len(KEYS))
    np.testing.assert_allclose(np.mean(dropped, axis=0), expected, atol=error)
    both = np.mean([row[1] and row[2] for row in dropped])  # each draws for itself
    assert both == pytest.approx(0.09, abs=4 * np.sqrt(0.09 * 0.91 / len(KEYS)))


@pytest.mark.parametrize("name", ["wavlm-group", "wavlm-layer"])
def test_gradients_in_training_are_finite_whatever_the_padding_holds(name):
    config = one_layer(name)._replace(**SPANS, feat_proj_dropout=0.1, layerdrop=0.0)
    encoder, params = make(config)
    lengths = np.array([640, 12, 0])
    clips = make_clips(lengths, fill=np.nan)

    def scalar(params, clips):
        return jnp.square(
            encode_training(encoder, params, clips, lengths, KEYS[1])
        ).sum()

    by_params, by_clips = jit(jax.grad(scalar, (0, 1)))(params, clips)
    assert trees.all_finite(by_params)
    assert np.isfinite(by_clips).all()
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(by_clips[row, length:], 0.0)
    still = {p for p, grad in trees.flatten(by_params).items() if not np.any(grad)}
    # no pooled frame passes the last norm of a stack that ends with one
    last = {"encoder/layer_norm/scale", "encoder/layer_norm/bias"}
    assert still == (last if config.do_stable_layer_norm else set())


def test_computing_layers_anew_changes_neither_draws_nor_gradients():
    encoder, params = make(one_layer("wavlm-layer")._replace(**SPANS, layerdrop=0.0))

    def scalar(params, remat):
        inputs = make_clips(), LENGTHS, KEYS[1]
        return jnp.square(encode_training(encoder, params, *inputs, remat=remat)).sum()

    run = jit(jax.value_and_grad(scalar), static_argnums=1)
    (value, grads), (again, anew) = run(params, False), run(params, True)
    assert relative(again, value) < 1e-6
    for path, grad in trees.flatten(grads).items():
        found = trees.flatten(anew)[path]
        np.testing.assert_allclose(found, grad, rtol=1e-4, atol=1e-4, err_msg=path)


# --- Derivatives ---


def scalar_of(config, direction):
    """The same scalar of the hidden states, here and in the reference."""
    encoder, params = make(config)
    clip = cases.make_clip(4, 120)
    lengths = np.array([120])

    def ours(params):
        output = encode(encoder, params, clip[None], lengths)
        return jnp.vdot(output.hidden_states[0], direction) + jnp.vdot(
            output.last_hidden_state[0], direction[0]
        )

    def theirs(params):
        found = reference.encode(config, params, clip)
        return np.vdot(found["hidden"], direction) + np.vdot(
            found["last"], direction[0]
        )

    return params, ours, theirs


@pytest.mark.parametrize("name", ["wavlm-layer", "hubert-batch-norm"])
def test_gradients_are_the_slopes_of_the_equations(name):
    config = one_layer(name)
    frames = int(transformer.num_frames(np.array([120]), config)[0])
    direction = cases.numbers(5, 2, frames, config.hidden_size)
    params, ours, theirs = scalar_of(config, direction)
    grads = trees.flatten(jit(jax.grad(ours))(params))
    largest = max(np.abs(grad).max() for grad in grads.values())
    flat = trees.flatten(reference.wide(params))
    for seed, (path, leaf) in enumerate(flat.items()):
        step = 1e-5 * cases.numbers(seed, *leaf.shape)
        sides = [
            theirs(trees.replace(params, {**flat, path: leaf + sign * step}))
            for sign in (1, -1)
        ]
        slope = (sides[0] - sides[1]) / 2e-5
        found = np.vdot(grads[path], step / 1e-5)
        size = np.linalg.norm(grads[path])
        if path.endswith(("/mean", "/var", "masked_spec_embed")):
            assert size == 0.0, path
            continue
        tolerance = 1e-4 * size + 1e-6 * largest
        np.testing.assert_allclose(found, slope, rtol=0, atol=tolerance, err_msg=path)


def test_second_derivatives_are_the_slopes_of_the_gradients():
    config = one_layer("wavlm-layer")
    frames = int(transformer.num_frames(np.array([120]), config)[0])
    direction = cases.numbers(6, 2, frames, config.hidden_size)
    params, ours, _ = scalar_of(config, direction)
    towards = unflatten_dict(cases.make_params(shapes_of(config), seed=9), sep="/")

    def gradient(t):
        moved = jax.tree.map(lambda p, d: p + t * d, params, towards)
        return jax.grad(lambda params: 1e-3 * jnp.square(ours(params)))(moved)

    @jit
    def derivatives(t):  # the gradient, and the Hessian times `towards`
        return jax.jvp(gradient, (t,), (jnp.float32(1),))

    step = 2e-3
    found = trees.flatten(derivatives(np.float32(0))[1])
    sides = [
        trees.flatten(derivatives(np.float32(k * step))[0]) for k in (1, -1, 2, -2)
    ]
    largest = max(np.abs(leaf).max() for leaf in found.values())
    assert largest > 1e-3
    for path, leaf in found.items():  # five points: the error is of the fourth order
        near, below, far, under = (side[path] for side in sides)
        slope = (8 * (near - below) - (far - under)) / (12 * step)
        np.testing.assert_allclose(leaf, slope, atol=5e-3 * largest, err_msg=path)


def test_vmap_over_parameters_and_clips_is_a_loop():
    config = one_layer("wav2vec2-adapters")
    (encoder, first), (_, second) = make(config), make(config, seed=1)
    clips = np.stack([make_clips(), make_clips()[::-1]])
    lengths = np.stack([LENGTHS, LENGTHS[::-1]])

    def scalar(params, clips, lengths):
        return jnp.sin(encode_pooled(encoder, params, clips, lengths)).sum()

    run = jax.grad(scalar)
    found = jit(jax.vmap(run))(trees.stack([first, second]), clips, lengths)
    alone = jit(run)
    for i, params in enumerate((first, second)):
        expected = trees.flatten(alone(params, clips[i], lengths[i]))
        largest = max(np.abs(grad).max() for grad in expected.values())
        assert largest > 1e-2
        for path, grad in trees.flatten(trees.take(found, i)).items():
            atol = 1e-5 * largest
            np.testing.assert_allclose(
                grad, expected[path], rtol=1e-4, atol=atol, err_msg=path
            )


@pytest.mark.parametrize("frames", [1, 4])
def test_mean_frames_is_the_mean_of_the_valid_frames(rng, frames):
    x = rng.standard_normal((2, 6, 5)).astype(np.float32)
    x[0, frames:] = np.nan
    mask = np.arange(6)[None] < np.array([[frames], [0]])
    found = mean_frames(jnp.asarray(x), mask)
    np.testing.assert_allclose(found[0], x[0, :frames].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[1], 0.0)
