"""Tuning: a division by path, an update of low rank, and nothing else moves."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import trees
from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.encoder import encode_pooled, encode_training
from metaperser_jax.encoders.logmel import logmel
from metaperser_jax.encoders.transformer import init_params, speech_encoder
from metaperser_jax.encoders.tuning import (
    LORA_PATTERN,
    Tuning,
    merge,
    num_parameters,
    trainable,
    tuned_encoder,
)
from metaperser_jax.errors import InputError

WIDTH, DEPTH = 8, 2
CONFIG = SpeechConfig(
    model_type="hubert",
    hidden_size=WIDTH,
    num_hidden_layers=DEPTH,
    num_attention_heads=2,
    intermediate_size=12,
    do_stable_layer_norm=True,
    conv_dim=(4, 4),
    conv_kernel=(40, 20),
    conv_stride=(20, 20),
    conv_pos_batch_norm=True,
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    mask_time_length=2,
)
MODES = [
    Tuning("top_n", num_layers=1),
    Tuning("top_n", num_layers=1, final_norm=True),
    Tuning("full"),
    Tuning("full", front_end=True),
    Tuning("lora", rank=2, alpha=6.0),
    Tuning("lora", rank=3, pattern=r".*/layers_0/.*_dense/kernel"),
]
each_mode = pytest.mark.parametrize("tuning", MODES, ids=lambda t: f"{t.mode}")


@pytest.fixture(scope="module")
def params():
    """Drawn by hand: compiling `init_params` takes longer."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return (0.8 + 0.4 * rng.random(leaf.shape)).astype(np.float32)

    def centred(leaf):
        return (0.3 * rng.normal(size=leaf.shape)).astype(np.float32)

    shapes = jax.eval_shape(lambda: init_params(CONFIG, 0))
    return jax.tree.map(lambda s: draw(s) if s.ndim < 2 else centred(s), shapes)


@pytest.fixture(scope="module")
def encoder(params):
    return speech_encoder(CONFIG, params)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    waveforms = rng.normal(0, 0.1, (3, 4000)).astype(np.float32)
    return waveforms, np.array([4000, 2500, 0], np.int32)


def make_key(seed):
    return jax.random.key(seed, impl="rbg")  # compiles in a fifth of the time


def moved(leaves, seed=1):
    """Returns the tensors with noise added."""
    rng = np.random.default_rng(seed)
    noise = {p: rng.normal(0, 0.1, v.shape) for p, v in leaves.items()}
    return {p: v + noise[p].astype(np.float32) for p, v in leaves.items()}


class TestDivision:
    @each_mode
    def test_the_start_equals_the_encoder(self, params, tuning):
        trained, frozen = trainable(params, tuning)
        merged = merge(frozen, trained, tuning)
        assert jax.tree.structure(merged) == jax.tree.structure(params)
        jax.tree.map(np.testing.assert_array_equal, merged, params)

    @each_mode
    def test_only_what_is_trained_moves(self, params, tuning):
        trained, frozen = trainable(params, tuning)
        merged = trees.flatten(merge(frozen, moved(trained), tuning))
        changed = {
            path
            for path, leaf in trees.flatten(params).items()
            if not np.array_equal(leaf, merged[path])
        }
        kernels = {re.sub(r"/lora_[ab]$", "", path) for path in trained}
        assert changed == kernels

    @pytest.mark.parametrize(
        ("tuning", "pattern"),
        [
            (Tuning("frozen"), r"nothing"),
            (Tuning("top_n", num_layers=1), r"encoder/layers_1/.*"),
            (Tuning("top_n", num_layers=2), r"encoder/layers_[01]/.*"),
            (
                Tuning("top_n", num_layers=1, final_norm=True),
                r"encoder/(layers_1|layer_norm)/.*",
            ),
            (Tuning("full"), r"(?!feature_extractor/|.*batch_norm/).*"),
            (Tuning("full", front_end=True), r"(?!.*batch_norm/).*"),
            (Tuning("lora"), r"encoder/layers_\d/attention/[qv]_proj/kernel/lora_[ab]"),
        ],
    )
    def test_paths(self, params, tuning, pattern):
        trained, frozen = trainable(params, tuning)
        there = [*trees.flatten(params), *(p for p in trained if "lora_" in p)]
        assert set(trained) == {p for p in there if re.fullmatch(pattern, p)}
        assert len(frozen) + len([p for p in trained if "lora_" not in p]) == len(
            trees.flatten(params)
        )

    def test_the_batch_norm_is_there_and_never_trained(self, params):
        norms = [path for path in trees.flatten(params) if "batch_norm" in path]
        assert len(norms) == 4
        for tuning in MODES:
            assert not set(norms) & set(trainable(params, tuning)[0])

    def test_half_precision_is_trained_in_single(self, params):
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        for tuning in MODES:
            trained, _ = trainable(half, tuning)
            assert {leaf.dtype for leaf in trained.values()} == {np.dtype("float32")}

    @pytest.mark.parametrize(
        ("tuning", "message"),
        [
            (Tuning("top_n", num_layers=3), "num_tuned_layers=3: expected 1 to 2"),
            (Tuning("top_n", num_layers=0), "num_tuned_layers=0: expected 1 to 2"),
            (Tuning("lora", pattern="q_proj"), r"fits no kernel .*There are: "),
            (Tuning("lora", pattern=r".*/conv/kernel"), r"of shape \[\d+, \d+, \d+\]"),
            (Tuning("lora", pattern=r".*/q_proj/bias"), r"q_proj/bias' of shape \[8\]"),
        ],
    )
    def test_what_the_encoder_does_not_have_is_refused(self, params, tuning, message):
        with pytest.raises(InputError, match=message):
            trainable(params, tuning)


class TestCounts:
    """Closed forms; w = width, f = inner width of the feed-forward."""

    LAYER = 4 * (WIDTH**2 + WIDTH) + (2 * WIDTH * 12 + 12 + WIDTH) + 4 * WIDTH

    @pytest.mark.parametrize(
        ("tuning", "count"),
        [
            (Tuning("frozen"), 0),
            (Tuning("top_n", num_layers=1), LAYER),
            (Tuning("top_n", num_layers=2, final_norm=True), 2 * LAYER + 2 * WIDTH),
            (Tuning("lora", rank=2), DEPTH * 2 * 2 * (WIDTH + WIDTH)),
            (
                Tuning("lora", rank=5, pattern=r".*/intermediate_dense/kernel"),
                DEPTH * 5 * (WIDTH + 12),
            ),
        ],
    )
    def test_number_of_trained_parameters(self, params, tuning, count):
        assert num_parameters(trainable(params, tuning)[0]) == count

    def test_full_is_all_but_the_front_end_and_the_batch_norm(self, params):
        front_end = num_parameters(params["feature_extractor"])
        everything = num_parameters(params)
        trained = num_parameters(trainable(params, Tuning("full"))[0])
        assert trained == everything - front_end - 4 * WIDTH

    def test_lora_on_a_large_encoder_is_a_few_per_mille(self):
        config = SpeechConfig(model_type="wavlm", hidden_size=1024,
                              num_hidden_layers=24, num_attention_heads=16,
                              intermediate_size=4096)  # fmt: skip
        params = jax.eval_shape(lambda: init_params(config, 0))
        trained, _ = jax.eval_shape(
            functools.partial(trainable, tuning=Tuning("lora")), params
        )
        assert num_parameters(trained) == 24 * 2 * 8 * 2048
        assert 0.002 < num_parameters(trained) / num_parameters(params) < 0.003


class TestLora:
    PATH = "encoder/layers_1/attention/q_proj/kernel"

    def test_the_merged_kernel_is_the_update_applied_beside_it(self, params, rng):
        tuning = Tuning("lora", rank=2, alpha=6.0)
        trained, frozen = trainable(params, tuning)
        trained = moved(trained)
        merged = trees.flatten(merge(frozen, trained, tuning))[self.PATH]
        x = rng.normal(size=(5, WIDTH)).astype(np.float32)
        a, b = trained[f"{self.PATH}/lora_a"], trained[f"{self.PATH}/lora_b"]
        beside = x @ frozen[self.PATH] + 3.0 * (x @ a) @ b
        np.testing.assert_allclose(x @ merged, beside, rtol=1e-5, atol=1e-6)

    def test_the_first_factors_differ_and_have_the_variance_one_over_inputs(self):
        kernel = {"kernel": np.zeros((400, 3), np.float32)}
        params = {"layer": {"q_proj": kernel, "v_proj": kernel}}
        trained, _ = trainable(params, Tuning("lora", rank=50))
        a, other = (trained[f"layer/{n}_proj/kernel/lora_a"] for n in "qv")
        np.testing.assert_allclose(np.var(a), 1 / 400, rtol=0.05)
        assert abs(np.corrcoef(a.ravel(), other.ravel())[0, 1]) < 0.05

    def test_the_seed_decides(self, params):
        first, again, other = (
            trainable(params, Tuning("lora"), seed)[0][f"{self.PATH}/lora_a"]
            for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_the_default_pattern_is_query_and_value_of_each_layer(self, params):
        found = trees.match(params, LORA_PATTERN)
        assert len(found) == 2 * DEPTH


class TestGradient:
    @pytest.mark.parametrize("tuning", [MODES[1], MODES[4]], ids=lambda t: t.mode)
    def test_it_is_that_of_the_merged_parameters(self, encoder, params, clips, tuning):
        """Chain rule: dA = s dW B^T and dB = s A^T dW; elsewhere dW itself."""

        def loss(p):
            return jnp.square(encode_pooled(encoder, p, *clips)).sum()

        trained, frozen = trainable(params, tuning)
        trained = moved(trained)
        merged = merge(frozen, trained, tuning)
        grad_fn = jax.jit(jax.grad(lambda t: loss(merge(frozen, t, tuning))))
        found, dense = grad_fn(trained), trees.flatten(jax.jit(jax.grad(loss))(merged))
        # the gradient of a key's bias is zero: softmax does not see it
        largest = max(np.abs(gradient).max() for gradient in dense.values())
        for path, gradient in found.items():
            expected = dense.get(path)
            if tuning.mode == "lora":
                kernel, factor = path.rsplit("/", 1)
                a, b = trained[f"{kernel}/lora_a"], trained[f"{kernel}/lora_b"]
                parts = {"lora_a": dense[kernel] @ b.T, "lora_b": a.T @ dense[kernel]}
                expected = 3.0 * parts[factor]
            atol = 1e-4 * np.abs(expected).max() + 1e-7 * largest
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=atol)
            assert np.any(gradient) or path.startswith("encoder/layer_norm")


class TestTraining:
    def test_dropout_depends_on_the_key_alone(self, encoder, params, clips):
        train_fn = jax.jit(functools.partial(encode_training, encoder))
        first, again, other = (
            train_fn(params, *clips, make_key(seed)) for seed in (0, 0, 1)
        )
        assert first.shape == (3, DEPTH + 1, WIDTH)
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first[:2], other[:2])
        np.testing.assert_array_equal(first[2], np.zeros((DEPTH + 1, WIDTH)))

    def test_without_its_noise_it_is_the_pooled_encoding(self, params, clips):
        quiet = CONFIG._replace(
            hidden_dropout=0.0,
            activation_dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
            apply_spec_augment=False,
        )
        encoder = speech_encoder(quiet, params)
        train_fn = jax.jit(functools.partial(encode_training, encoder))
        found = train_fn(params, *clips, make_key(0))
        expected = jax.jit(functools.partial(encode_pooled, encoder))(params, *clips)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    def test_recomputing_gives_the_same_gradient(self, params, clips):
        encoder = speech_encoder(CONFIG._replace(layerdrop=0.0), params)

        def loss(trained, frozen, remat):
            merged = merge(frozen, trained, tuning)
            key = make_key(3)
            found = encode_training(encoder, merged, *clips, key, remat=remat)
            return jnp.square(found).sum()

        tuning = Tuning("lora", rank=2)
        trained, frozen = trainable(params, tuning)
        grad_fn = jax.jit(jax.grad(loss), static_argnames="remat")
        kept, anew = (grad_fn(moved(trained), frozen, remat=r) for r in (False, True))
        for path, gradient in kept.items():
            assert np.any(gradient)
            scale = np.abs(gradient).max()
            np.testing.assert_allclose(
                anew[path], gradient, rtol=1e-4, atol=1e-4 * scale
            )
        traced = jax.make_jaxpr(jax.grad(functools.partial(loss, remat=True)))
        assert "remat" in str(traced(trained, frozen))

    def test_an_encoder_without_weights_is_refused(self, clips):
        with pytest.raises(InputError, match="'logmel' has no weights to train"):
            encode_training(logmel(), {}, *clips, make_key(0))


class TestFingerprint:
    @pytest.mark.parametrize(
        ("base", "tuning", "seed"),
        [("a", Tuning("lora", rank=2), 1), ("b", Tuning("lora", rank=2), 0),
         ("a", Tuning("lora", rank=2, alpha=1.0), 0)],
    )  # fmt: skip
    def test_it_shows_the_base_the_tuning_and_what_was_trained(
        self, encoder, params, base, tuning, seed
    ):
        def name(base, tuning, seed):
            trained = trainable(params, tuning, seed)[0]
            return tuned_encoder(
                encoder._replace(fingerprint=base), tuning, trained
            ).fingerprint

        usual = name("a", Tuning("lora", rank=2), 0)
        assert usual == name("a", Tuning("lora", rank=2), 0)
        assert name(base, tuning, seed) != usual

    def test_all_else_stays(self, encoder, params, clips):
        tuning = Tuning("lora", rank=2)
        tuned = tuned_encoder(encoder, tuning, trainable(params, tuning)[0])
        assert tuned.name == "hubert (lora)"
        assert tuned.config["tuning"]["rank"] == 2
        assert tuned.num_layers == encoder.num_layers
        assert tuned.pooled_fn is encoder.pooled_fn
