"""Every stage of every architecture against what PyTorch once made of it."""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from metaperser_jax import trees
from metaperser_jax.encoders.attention import relative_buckets
from metaperser_jax.encoders.numerics import Numerics
from metaperser_jax.encoders.transformer import SpeechModel, param_shapes

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
PARTS = {  # named as in the checkpoints
    "front": ("feature_extractor",),
    "projected": ("feature_projection",),
    "positions": ("encoder", "pos_conv_embed"),
}


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = load(GOLDEN / "encoder_cases.py")


@functools.lru_cache
def read(name):
    with np.load(GOLDEN / "encoders" / f"{name}.npz") as file:
        return dict(file)


@functools.lru_cache
def run(name):
    """Returns ours: (stages, the scalar, its gradients), clips in one padded batch."""
    config = cases.CASES[name]
    model = SpeechModel(config, Numerics("float32"))
    golden = read(name)
    clips = np.full((2, 700), 5.0, np.float32)
    for row, length in enumerate(cases.LENGTHS):
        clips[row, :length] = golden[f"clip_{row}"]
    hidden_shapes = [golden[f"hidden_{row}"].shape for row in range(2)]

    def scalar(params):
        (states, last, mask), noted = model.apply(
            {"params": params},
            clips,
            np.array(cases.LENGTHS),
            lambda x, mask: x,
            capture_intermediates=lambda module, _: module.name in names,
            mutable="intermediates",
        )
        total = 0.0
        for row, shape in enumerate(hidden_shapes):
            weights, last_weights = cases.directions(row, shape)
            kept = jnp.stack(states)[:, row, : shape[1]]
            total += jnp.vdot(kept, weights)
            total += jnp.vdot(last[row, : shape[1]], last_weights)
        return total, (jnp.stack(states, 1), last, mask, noted["intermediates"])

    names = {path[-1] for path in PARTS.values()}
    params = cases.make_params(param_shapes(config), cases.SEED)
    compute = jax.jit(
        jax.value_and_grad(scalar, has_aux=True),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    (total, (hidden, last, mask, noted)), grads = compute(
        unflatten_dict(params, sep="/")
    )
    stages = {"hidden": hidden, "last": last, "mask": mask}
    for stage, path in PARTS.items():
        (stages[stage],) = functools.reduce(dict.__getitem__, path, noted)["__call__"]
    return stages, total, trees.flatten(grads)


def relative(found, expected):
    """The largest difference, in units of the largest value."""
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


each_case = pytest.mark.parametrize("name", cases.CASES)


@each_case
def test_the_clips_are_those_of_the_formula(name):
    for number, samples in enumerate(cases.LENGTHS):
        clip = read(name)[f"clip_{number}"]
        np.testing.assert_array_equal(clip, cases.make_clip(number, samples))


@each_case
def test_the_file_says_what_wrote_it(name):
    versions = json.loads(str(read(name)["versions"]))
    assert set(versions) == {"python", "numpy", "torch", "transformers"}


@each_case
@pytest.mark.parametrize("stage", [*PARTS, "hidden", "last"])
def test_each_stage_is_pytorchs(name, stage):
    stages, _, _ = run(name)
    for row in range(len(cases.LENGTHS)):
        expected = read(name)[f"{stage}_{row}"]
        frames = expected.shape[-2]
        assert stages["mask"][row].sum() == frames
        found = np.asarray(stages[stage][row])[..., :frames, :]
        if stage == "hidden":
            assert found.shape[0] == cases.CASES[name].num_hidden_layers + 1
            for ours, theirs in zip(found, expected, strict=True):
                assert relative(ours, theirs) < 5e-6
        else:
            assert relative(found, expected) < 5e-6


@each_case
def test_the_scalar_and_its_gradients_are_pytorchs(name):
    _, total, grads = run(name)
    golden = read(name)
    np.testing.assert_allclose(total, golden["scalar"], rtol=2e-5, atol=1e-3)
    expected = {path: golden[f"grad/{path}"] for path in grads}
    assert len(expected) == sum(key.startswith("grad/") for key in golden)
    largest = max(np.abs(grad).max() for grad in expected.values())
    for path, grad in expected.items():
        atol = 1e-5 * np.abs(grad).max() + 1e-6 * largest
        np.testing.assert_allclose(grads[path], grad, atol=atol, err_msg=path)


@pytest.mark.parametrize(("num_buckets", "max_distance"), cases.BUCKETS)
def test_buckets_of_relative_positions_are_pytorchs(num_buckets, max_distance):
    golden = read("wavlm-buckets")
    offsets = golden["offsets"].astype(np.int64)
    found = relative_buckets(offsets, num_buckets, max_distance)
    np.testing.assert_array_equal(found, golden[f"{num_buckets}_{max_distance}"])
