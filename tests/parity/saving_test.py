"""Encoders go to transformers and come from it without a change."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from metaperser_jax import trees
from metaperser_jax.encoders.pretrained import _nest, read_encoder, save_encoder
from metaperser_jax.encoders.tensors import open_tensors
from metaperser_jax.encoders.transformer import param_shapes
from tests.metaperser_jax.encoders.small import SMALL

WAVLM = SMALL._replace(model_type="wavlm", num_buckets=8, max_bucket_distance=20)
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
CONFIGS = {
    "wav2vec2": SMALL,
    "wav2vec2-stable": SMALL._replace(conv_bias=True, adapter_attn_dim=4, **STABLE),
    "hubert": SMALL._replace(model_type="hubert", feat_proj_layer_norm=False),
    "hubert-stable": SMALL._replace(model_type="hubert", **STABLE),
    "hubert-batch-norm": SMALL._replace(model_type="hubert", conv_pos_batch_norm=True),
    "wavlm": WAVLM,
    "wavlm-stable": WAVLM._replace(**STABLE),
    "wavlm-unmasked": WAVLM._replace(mask_time_prob=0.0),
    "data2vec-audio": SMALL._replace(
        model_type="data2vec-audio",
        feat_extract_norm="layer",
        conv_pos_kernel_size=5,
        num_conv_pos_embeddings=2,
    ),
}
HEADS = {
    "wav2vec2": transformers.Wav2Vec2ForCTC,
    "hubert": transformers.HubertForSequenceClassification,
    "wavlm": transformers.WavLMForXVector,
    "data2vec-audio": transformers.Data2VecAudioForCTC,
}


def draw(config, dtype="float32"):
    rng = np.random.default_rng(0)
    return _nest(
        {
            path: jnp.asarray(rng.uniform(0.5, 1.5, size=shape.shape), dtype)
            for path, shape in param_shapes(config).items()
        }
    )


def check_equal(state, stored):
    assert set(state) == set(stored)
    for name, tensor in state.items():
        np.testing.assert_array_equal(tensor.numpy(), stored[name].read(), name)


@pytest.mark.parametrize(
    ("kind", "max_shard_bytes"),
    [*((kind, 10**9) for kind in CONFIGS), ("hubert-stable", 2000)],
)
def test_transformers_loads_what_is_saved(tmp_path, kind, max_shard_bytes):
    config = CONFIGS[kind]
    save_encoder(
        tmp_path, config, draw(config), random_weights=True, seed=3,
        max_shard_bytes=max_shard_bytes,
    )  # fmt: skip
    model, info = transformers.AutoModel.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    assert type(model).__name__ == model.config.architectures[0]
    assert model.dtype == torch.float32
    assert (model.config.random_weights, model.config.seed) == (True, 3)
    files = tmp_path.glob("model*.safetensors")
    stored = {n: t for file in files for n, t in open_tensors(file).items()}
    check_equal(model.state_dict(), stored)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    assert extractor.do_normalize is config.do_normalize


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        *((kind, "safetensors") for kind in CONFIGS),
        *(("wavlm-stable", kind) for kind in ("shards", "torch", "old torch")),
        *(("hubert-batch-norm", "torch"), ("data2vec-audio", "torch")),
    ],
)
def test_what_transformers_saves_is_loaded(tmp_path, kind, weights):
    config = CONFIGS[kind]
    save_encoder(tmp_path / "first", config, draw(config))
    head = HEADS[config.model_type].from_pretrained(tmp_path / "first")
    folder = tmp_path / "second"
    size = {"shards": "4KB"}.get(weights, "1GB")
    head.save_pretrained(folder, max_shard_size=size)
    if "torch" in weights:
        state = head.state_dict()
        if weights == "old torch":
            new = ".parametrizations.weight.original"
            old = {f"{new}0": ".weight_g", f"{new}1": ".weight_v"}
            for ending, spelling in old.items():
                state = {n.replace(ending, spelling): t for n, t in state.items()}
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    _, params, report = read_encoder(str(folder))
    found, expected = trees.flatten(params), trees.flatten(draw(config))
    if config.mask_time_prob == 0.0:
        assert report.missing == ("masked_spec_embed",)
        expected["masked_spec_embed"] = np.zeros(SMALL.hidden_size)
    assert set(found) == set(expected)
    for path, leaf in expected.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)
    assert report.dropped
    assert (report.format == "torch") == ("torch" in weights)
    assert report.config == config._replace(do_normalize=True)


def test_low_precision_is_loaded_by_transformers(tmp_path):
    config = CONFIGS["wavlm-stable"]
    save_encoder(tmp_path, config, draw(config, "bfloat16"))
    model = transformers.AutoModel.from_pretrained(tmp_path)
    stored = open_tensors(tmp_path / "model.safetensors")
    for name, tensor in model.state_dict().items():
        expected = stored[name].read().astype(np.float32)
        np.testing.assert_array_equal(tensor.float().numpy(), expected)


def test_unused_settings_of_transformers_do_not_matter(tmp_path):
    config = CONFIGS["wavlm"]
    save_encoder(tmp_path, config, draw(config))
    model = transformers.AutoModel.from_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert len(written) > 60
    assert read_encoder(str(tmp_path)).report.config == config
