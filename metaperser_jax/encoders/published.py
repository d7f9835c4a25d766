"""Architectures of the published encoders, by their name on the hub.

For measurements, tests and documents. Loading an encoder reads the config.json that
comes with its weights; what serves training only (dropout, SpecAugment) is left at its
default here.
"""

from typing import Any

from metaperser_jax.encoders.config import SpeechConfig

_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_ONE_BILLION = {
    "hidden_size": 1280,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
}
_TWO_BILLIONS = {
    "hidden_size": 1920,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "intermediate_size": 7680,
}
_STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
_STABLE_BIAS = {**_STABLE, "conv_bias": True}


def _wav2vec2(*parts: dict[str, Any]) -> SpeechConfig:
    return _config("wav2vec2", *parts)


def _hubert(*parts: dict[str, Any]) -> SpeechConfig:
    return _config("hubert", *parts)


def _wavlm(*parts: dict[str, Any]) -> SpeechConfig:
    return _config("wavlm", *parts)


def _data2vec(*parts: dict[str, Any]) -> SpeechConfig:
    fields = {"feat_extract_norm": "layer", "num_conv_pos_embeddings": 5}
    return _config("data2vec-audio", fields, *parts)


def _config(model_type: str, *parts: dict[str, Any]) -> SpeechConfig:
    fields = {name: value for part in parts for name, value in part.items()}
    return SpeechConfig(model_type=model_type, **fields)


PUBLISHED: dict[str, SpeechConfig] = {
    # Baevski et al., 2020
    "facebook/wav2vec2-base": _wav2vec2(),
    "facebook/wav2vec2-base-960h": _wav2vec2(),
    "facebook/wav2vec2-large": _wav2vec2(_LARGE),
    "facebook/wav2vec2-large-960h": _wav2vec2(_LARGE),
    "facebook/wav2vec2-large-lv60": _wav2vec2(_LARGE, _STABLE_BIAS),
    # Hsu et al., 2021, robust wav2vec 2.0; Conneau et al., 2021; Babu et al., 2022
    "facebook/wav2vec2-large-robust": _wav2vec2(_LARGE, _STABLE_BIAS),
    "facebook/wav2vec2-large-xlsr-53": _wav2vec2(_LARGE, _STABLE_BIAS),
    "facebook/wav2vec2-xls-r-300m": _wav2vec2(_LARGE, _STABLE_BIAS),
    "facebook/wav2vec2-xls-r-1b": _wav2vec2(_ONE_BILLION, _STABLE_BIAS),
    "facebook/wav2vec2-xls-r-2b": _wav2vec2(_TWO_BILLIONS, _STABLE_BIAS),
    # Pratap et al., 2024
    "facebook/mms-300m": _wav2vec2(_LARGE, _STABLE_BIAS),
    "facebook/mms-1b": _wav2vec2(_ONE_BILLION, _STABLE_BIAS),
    "facebook/mms-1b-all": _wav2vec2(
        _ONE_BILLION, _STABLE_BIAS, {"adapter_attn_dim": 16}
    ),
    # Hsu et al., 2021, HuBERT
    "facebook/hubert-base-ls960": _hubert(),
    "facebook/hubert-large-ll60k": _hubert(_LARGE, _STABLE_BIAS),
    "facebook/hubert-xlarge-ll60k": _hubert(_ONE_BILLION, _STABLE_BIAS),
    # Chen et al., 2022
    "microsoft/wavlm-base": _wavlm({"do_normalize": False}),
    "microsoft/wavlm-base-plus": _wavlm({"do_normalize": False}),
    "microsoft/wavlm-large": _wavlm(_LARGE, _STABLE),
    # Baevski et al., 2022
    "facebook/data2vec-audio-base": _data2vec(),
    "facebook/data2vec-audio-large": _data2vec(_LARGE),
}
