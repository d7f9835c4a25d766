"""The encoders against transformers: every hidden state, gradients, half precision.

The reference is the single clip without padding, in float32. Weights are drawn: no norm
is one and no bias zero. Errors are relative to the largest, or the mean, absolute value
of a hidden state.
"""

import functools
import gc
import importlib.util
import math
import os
import pathlib

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import unflatten_dict

from metaperser_jax import trees
from metaperser_jax.encoders.encoder import encode, encode_pooled, pool
from metaperser_jax.encoders.published import PUBLISHED
from metaperser_jax.encoders.transformer import param_shapes, speech_encoder

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SIX = (
    "facebook/wav2vec2-base",
    "facebook/wav2vec2-large-lv60",
    "facebook/hubert-base-ls960",
    "facebook/hubert-large-ll60k",
    "microsoft/wavlm-base-plus",
    "microsoft/wavlm-large",
)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = load(GOLDEN / "encoder_cases.py")
theirs = load(GOLDEN / "torch_encoders.py")


@pytest.fixture(autouse=True)
def threads():
    """All processors for PyTorch, and no memory held for the next test."""
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield
    torch.set_num_threads(before)
    jax.clear_caches()
    gc.collect()


def make_clips(lengths, samples):
    """Returns [batch, samples] with garbage in the padding."""
    clips = np.full((len(lengths), samples), 9.0, np.float32)
    for row, length in enumerate(lengths):
        clips[row, :length] = cases.make_clip(row, length)
    return clips


def theirs_of(config, model, clips, lengths):
    """Returns [hidden states and the last one] of each clip alone, in float32."""
    found = []
    with torch.no_grad():
        for clip, length in zip(clips, lengths, strict=True):
            normalised = theirs.normalise(config, clip[:length])
            stages = theirs.encode(model, normalised)
            states = [*stages.hidden, stages.last]
            found.append([state.float().numpy() for state in states])
    return found


def ours_of(config, params, clips, lengths, dtype):
    """Returns the same from one padded batch, and the pooled states."""
    encoder = speech_encoder(config, params, dtype=dtype)
    run = jax.jit(functools.partial(encode, encoder))
    output = run(params, clips, np.array(lengths))
    states = [*np.asarray(output.hidden_states).swapaxes(0, 1)]
    states.append(np.asarray(output.last_hidden_state))
    counts = np.asarray(output.mask.sum(axis=1))
    found = [
        [state[row, :count] for state in states] for row, count in enumerate(counts)
    ]
    return found, np.asarray(pool(output))


def largest_error(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def mean_error(found, expected):
    return np.abs(found - expected).mean() / np.abs(expected).mean()


def check_states(config, params, lengths, samples):
    """Float32: every state and its mean near; bfloat16: nearer than PyTorch's."""
    clips = make_clips(lengths, samples)
    model = theirs.make_model(config, params)
    expected = theirs_of(config, model, clips, lengths)
    nested = unflatten_dict(params, sep="/")
    found, pooled = ours_of(config, nested, clips, lengths, "float32")
    for row, states in enumerate(expected):
        assert len(states) == config.num_hidden_layers + 2
        for layer, state in enumerate(states):
            assert 0.05 < state.std() < 50.0, "degenerate weights"
            assert largest_error(found[row][layer], state) < 1e-4, (row, layer)
        means = np.stack([state.mean(axis=0) for state in states[:-1]])
        assert largest_error(pooled[row], means) < 1e-4
    rounded = theirs_of(config, model.bfloat16(), clips, lengths)
    del model, found
    found, _ = ours_of(config, nested, clips, lengths, "bfloat16")
    exact, ours, pytorch = map(join_clips, (expected, found, rounded))
    for layer, state in enumerate(exact):
        error = mean_error(ours[layer], state)
        assert 1e-6 < error < mean_error(pytorch[layer], state), layer


def join_clips(states):
    """Returns each state's frames of all clips."""
    return [np.concatenate(layer) for layer in zip(*states, strict=True)]


@pytest.mark.parametrize("name", cases.CASES)
def test_states_of_tiny_encoders(name):
    config = cases.CASES[name]._replace(num_hidden_layers=3)
    params = cases.make_params(param_shapes(config), seed=11)
    check_states(config, params, [900, 612, 30], samples=900)


@pytest.mark.parametrize("name", SIX)
def test_states_of_published_shapes(name):
    config = PUBLISHED[name]
    params = cases.make_params(param_shapes(config), seed=20 + SIX.index(name))
    # the first clip fills the batch, the second is padded
    check_states(config, params, [16_000, 11_111], samples=16_000)


def check_gradients(config, params, lengths, samples):
    """The gradients of a scalar of the last state, for all parameters."""
    clips = make_clips(lengths, samples)
    model = theirs.make_model(config, params)
    directions, total = [], 0.0
    for row, length in enumerate(lengths):
        clip = theirs.normalise(config, clips[row, :length])
        last = theirs.encode(model, clip).last
        directions.append(cases.numbers(row, *last.shape).astype(np.float32))
        total = total + (last * torch.from_numpy(directions[-1])).mean()
    total.backward()
    shapes = param_shapes(config)
    expected = theirs.gradients(model, shapes)
    nested = unflatten_dict(params, sep="/")
    encoder = speech_encoder(config, nested)

    @jax.jit
    def gradients(params):
        def scalar(params):
            last = encode(encoder, params, clips, np.array(lengths)).last_hidden_state
            return sum(
                (last[row, : len(direction)] * direction).mean()
                for row, direction in enumerate(directions)
            )

        return jax.grad(scalar)(params)

    found = trees.flatten(gradients(nested))
    assert set(found) == set(expected) == set(shapes)
    largest = max(np.abs(grad).max() for grad in expected.values())
    for path, grad in expected.items():
        # sums that cancel (biases of keys) have only the rounding of their terms
        atol = 1e-3 * np.abs(grad).max() + 1e-6 * largest
        np.testing.assert_allclose(found[path], grad, atol=atol, err_msg=path)


@pytest.mark.parametrize("name", cases.CASES)
def test_gradients_of_tiny_encoders(name):
    config = cases.CASES[name]._replace(num_hidden_layers=3)
    params = cases.make_params(param_shapes(config), seed=13)
    check_gradients(config, params, [900, 612], samples=900)


def test_gradients_of_a_published_shape():
    config = PUBLISHED["microsoft/wavlm-base-plus"]
    params = cases.make_params(param_shapes(config), seed=14)
    check_gradients(config, params, [8000, 5555], samples=8000)


@pytest.mark.parametrize("name", ["wavlm-layer", "hubert-group"])
def test_pooled_states_of_tiny_encoders(name):
    config = cases.CASES[name]
    params = cases.make_params(param_shapes(config), seed=15)
    lengths, nested = [900, 333], unflatten_dict(params, sep="/")
    clips = make_clips(lengths, 900)
    expected = theirs_of(config, theirs.make_model(config, params), clips, lengths)
    encoder = speech_encoder(config, nested)
    run = jax.jit(functools.partial(encode_pooled, encoder))
    found = run(nested, clips, np.array(lengths))
    for row, states in enumerate(expected):
        means = np.stack([state.mean(axis=0) for state in states[:-1]])
        assert largest_error(found[row], means) < 1e-5


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_have_transformers_parameters(name):
    config = PUBLISHED[name]
    blank = {p: np.broadcast_to(np.float32(0), s.shape) for p, s in
             param_shapes(config).items()}  # fmt: skip
    model = theirs.blank_model(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == sum(math.prod(leaf.shape) for leaf in blank.values())
    wanted = {key: tuple(p.shape) for key, p in model.named_parameters()}
    given = theirs.to_hugging_face(blank, config)
    assert {key: array.shape for key, array in given.items()} == wanted
