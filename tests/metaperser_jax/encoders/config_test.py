"""Settings in JSON: transformers' defaults, all faults at once, there and back."""

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.data2vec.configuration_data2vec_audio import (
    Data2VecAudioConfig,
)
from transformers.models.hubert.configuration_hubert import HubertConfig
from transformers.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config
from transformers.models.wav2vec2.feature_extraction_wav2vec2 import (
    Wav2Vec2FeatureExtractor,
)
from transformers.models.wavlm.configuration_wavlm import WavLMConfig

from metaperser_jax.encoders import config as config_lib
from metaperser_jax.encoders import numerics
from metaperser_jax.encoders.config import SpeechConfig, from_json, to_json
from metaperser_jax.errors import InputError

TRANSFORMERS = {
    "wav2vec2": Wav2Vec2Config,
    "hubert": HubertConfig,
    "wavlm": WavLMConfig,
    "data2vec-audio": Data2VecAudioConfig,
}


@pytest.mark.parametrize("model_type", TRANSFORMERS)
def test_what_a_file_leaves_out_is_as_in_transformers(model_type):
    theirs = TRANSFORMERS[model_type]().to_dict()
    ours = to_json(from_json({"model_type": model_type}, None, "x"))
    given_by_both = {name: theirs[name] for name in ours if name in theirs}
    given_by_both["architectures"] = ours["architectures"]  # a file's, no default
    extra = {"wavlm": {"mask_feature_min_masks"}}  # read there, where present
    extra |= {"data2vec-audio": {"apply_spec_augment"}, "hubert": {"adapter_attn_dim"}}
    assert {n: v for n, v in ours.items() if n in given_by_both} == given_by_both
    assert set(ours) - set(given_by_both) == extra.get(model_type, set())


@pytest.mark.parametrize("model_type", TRANSFORMERS)
def test_a_whole_config_of_transformers_is_read(model_type):
    changed = {"hidden_size": 96, "conv_bias": True, "layer_norm_eps": 1e-3}
    theirs = TRANSFORMERS[model_type](**changed).to_dict()
    config = from_json(json.loads(json.dumps(theirs)), None, "x")
    assert config.model_type == model_type
    assert {name: getattr(config, name) for name in changed} == changed


@pytest.mark.parametrize("model_type", TRANSFORMERS)
def test_transformers_reads_what_is_written(model_type):
    config = SpeechConfig(model_type, 48, conv_dim=(8, 4), conv_kernel=(3, 2))
    config = config._replace(conv_stride=(2, 1), layer_norm_eps=0.01, layerdrop=0.0)
    written = to_json(config)
    found = TRANSFORMERS[model_type](**written).to_dict()
    assert {name: found[name] for name in written} == written


def test_data2vec_is_built_with_layer_norms_whatever_its_file_says():
    config = from_json(
        {"model_type": "data2vec-audio", "feat_extract_norm": "group"}, None, "x"
    )
    assert config.feat_extract_norm == "layer"
    assert config.num_conv_pos_embeddings == 5


def test_a_field_of_another_model_type_is_not_read():
    config = from_json(
        {"model_type": "wav2vec2", "conv_pos_batch_norm": True, "num_buckets": "x"},
        None,
        "x",
    )
    assert config == SpeechConfig()


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("Wav2Vec2ForCTC", "wav2vec2"),
        ("HubertModel", "hubert"),
        ("WavLMForXVector", "wavlm"),
        ("Data2VecAudioModel", "data2vec-audio"),
    ],
)
def test_the_class_name_tells_a_missing_model_type(name, model_type):
    assert from_json({"architectures": [name]}, None, "x").model_type == model_type


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"^a/b: config.json: no model_type.*expected one of wav2vec2, hubert"),
        ({"architectures": ["Wav2Vec2ConformerModel"]}, "no model_type"),
        ({"architectures": "HubertModel"}, "no model_type"),
        ({"model_type": "wavml"}, r"'wavml'.*Did you mean 'wavlm'\?"),
        ({"model_type": "bert"}, r"'bert', expected one of wav2vec2, hubert"),
        ({"model_type": ["hubert"]}, r"\['hubert'\], expected one of"),
        ([1], "config.json holds no object"),
        (None, "config.json holds no object"),
    ],
)
def test_a_config_of_no_known_model_is_refused(config, message):
    with pytest.raises(InputError, match=message):
        from_json(config, None, "a/b")


FAULTS = {
    "hidden_size": ["768", 768.0, True, 0, -3, 1e999, 2**40, None],
    "num_hidden_layers": [0, 10_000],
    "hidden_act": ["mish", 3],
    "feat_extract_activation": ["tanh"],
    "feat_extract_norm": ["batch"],
    "layer_norm_eps": ["1e-5", 0.0, math.nan, 1.0],
    "do_stable_layer_norm": [1, "true", None],
    "conv_dim": [512, [], [512] * 99, [512, "512"], [512, 0], [[512]], {}],
    "layerdrop": [-0.1, 1.5],
    "adapter_attn_dim": [-1, 0.5],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, v) for name, values in FAULTS.items() for v in values]
)
def test_a_field_of_wrong_type_or_size_is_named(name, value):
    message = rf"^a/b: 1 fault.*\n  config.json: {name}: .*expected"
    with pytest.raises(InputError, match=message):
        from_json({"model_type": "wav2vec2", name: value}, None, "a/b")


def test_all_faults_come_in_one_message():
    faulty = {name: values[0] for name, values in FAULTS.items()}
    with pytest.raises(InputError) as caught:
        from_json(
            {"model_type": "wav2vec2", **faulty},
            {"sampling_rate": 8000, "do_normalize": "yes"},
            "a/b",
        )
    lines = str(caught.value).splitlines()
    assert f"{len(FAULTS) + 2} fault(s)" in lines[0]
    found = {re.match(r"  \S+: (\w+): ", line)[1] for line in lines[1:]}
    assert found == {*FAULTS, "sampling_rate", "do_normalize"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conv_dim": [8, 8]}, "have 2, 7 and 7 entries"),
        ({"num_attention_heads": 5}, "num_attention_heads: 5 does not divide"),
        ({"num_conv_pos_embedding_groups": 9}, "groups: 9 does not divide"),
        ({"max_bucket_distance": 80}, "max_bucket_distance: 80, expected more than"),
        (
            {
                "hidden_size": 16_384,
                "num_hidden_layers": 256,
                "num_attention_heads": 64,
                "intermediate_size": 65_536,
            },
            r"about 8.3e\+11 parameters",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(fields, message):
    with pytest.raises(InputError, match=message):
        from_json({"model_type": "wavlm", **fields}, None, "x")


@pytest.mark.parametrize(
    ("preprocessor", "do_normalize"),
    [(None, True), ({}, True), ({"do_normalize": False, "feature_size": 1}, False)],
)
def test_waveforms_are_normalised_unless_the_file_says_no(preprocessor, do_normalize):
    config = from_json({"model_type": "hubert"}, preprocessor, "x")
    assert config.do_normalize is do_normalize
    assert do_normalize or not Wav2Vec2FeatureExtractor(**preprocessor).do_normalize
    assert Wav2Vec2FeatureExtractor().do_normalize


@pytest.mark.parametrize("rate", [8000, 44_100, "16000", None])
def test_another_sampling_rate_is_refused(rate):
    message = "preprocessor_config.json: sampling_rate: .*expected 16000"
    with pytest.raises(InputError, match=message):
        from_json({"model_type": "hubert"}, {"sampling_rate": rate}, "x")


def test_a_preprocessor_that_is_no_object_is_refused():
    with pytest.raises(InputError, match=r"preprocessor_config.json: f"):
        from_json({"model_type": "hubert"}, ["do_normalize"], "x")


def test_transformers_reads_the_preprocessor_that_is_written():
    for normalise in (True, False):
        config = SpeechConfig(do_normalize=normalise, feat_extract_norm="layer")
        found = Wav2Vec2FeatureExtractor(**config_lib.preprocessor_to_json(config))
        assert found.do_normalize is normalise
        assert found.sampling_rate == 16_000
        assert found.return_attention_mask


def test_the_parameters_are_estimated():
    published = {  # millions, as their papers give them
        95: SpeechConfig(),
        317: SpeechConfig(hidden_size=1024, num_hidden_layers=24,
                          num_attention_heads=16, intermediate_size=4096),
        93: SpeechConfig("data2vec-audio", num_conv_pos_embeddings=5),
    }  # fmt: skip
    for millions, config in published.items():
        found = config_lib.estimate_parameters(config)
        assert found == pytest.approx(millions * 1e6, rel=0.02)


def test_every_activation_that_is_read_can_be_computed():
    assert set(config_lib.ACTIVATIONS) == set(numerics.ACTIVATION_FNS)


shares = st.floats(0.0, 1.0)
valid = st.builds(
    lambda **fields: SpeechConfig(**fields),
    model_type=st.sampled_from(sorted(TRANSFORMERS)),
    hidden_size=st.sampled_from([48, 96]),
    num_hidden_layers=st.integers(1, 4),
    num_attention_heads=st.sampled_from([1, 3, 8]),
    num_conv_pos_embedding_groups=st.sampled_from([2, 16]),
    hidden_act=st.sampled_from(config_lib.ACTIVATIONS),
    conv_bias=st.booleans(),
    layerdrop=shares,
    mask_time_prob=shares,
    do_normalize=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(valid)
def test_settings_come_back_as_they_went(config):
    if config.model_type == "data2vec-audio":
        config = config._replace(feat_extract_norm="layer")
    files = to_json(config), config_lib.preprocessor_to_json(config)
    assert from_json(*json.loads(json.dumps(files)), "x") == config


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
fields = st.dictionaries(st.sampled_from(SpeechConfig._fields), anything)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*TRANSFORMERS, "x"]), fields, anything | fields)
def test_whatever_the_files_hold_it_is_read_or_refused(model_type, found, preprocessor):
    try:
        config = from_json({"model_type": model_type, **found}, preprocessor, "x")
    except InputError:
        return
    assert isinstance(config, SpeechConfig)
    assert from_json(to_json(config), None, "x").hidden_size == config.hidden_size
