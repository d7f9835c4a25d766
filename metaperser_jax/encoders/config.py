"""Settings of the encoders, and the JSON files that carry them."""

import math
from typing import Any, NamedTuple

from metaperser_jax.errors import InputError, did_you_mean


class LogMelConfig(NamedTuple):
    """Settings of the log-mel encoder; all are part of its fingerprint."""

    version: int = 1  # raise when the same settings give other features
    sample_rate: int = 16_000  # Hz
    window: int = 400  # samples of a frame, 25 ms
    hop: int = 160  # samples between frames, 10 ms
    pre_emphasis: float = 0.97
    num_bands: int = 40  # mel bands from 0 Hz to half the sample rate
    relative_floor: float = 1e-5  # of the clip's mean band power, -50 dB
    absolute_floor: float = 1e-18  # band power of digital silence, below 16-bit noise
    delta_width: int = 9  # frames of the regression slope, odd
    pitch_window: int = 640  # samples, 40 ms: two periods at 50 Hz
    pitch_min: float = 60.0  # Hz
    pitch_max: float = 500.0  # Hz
    pitch_smoothing: int = 17  # taps, odd; 17 keep about 0-700 Hz
    octave_cost: float = 0.02  # a period twice as long must be that much better
    voicing_floor: float = 0.35  # autocorrelation below it counts as unvoiced
    num_pitch_bands: int = 24  # about 1.5 semitones each


class SpeechConfig(NamedTuple):
    """Settings of the wav2vec 2.0 family, named as in the Hugging Face configs.

    wav2vec2 (Baevski et al., 2020), hubert (Hsu et al., 2021), wavlm (Chen et al.,
    2022) and data2vec-audio (Baevski et al., 2022) differ in these fields only.
    """

    model_type: str = "wav2vec2"  # wav2vec2 | hubert | wavlm | data2vec-audio
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    do_stable_layer_norm: bool = False  # norm before each block, not after it
    feat_extract_norm: str = "group"  # group: first convolution only | layer: all
    feat_extract_activation: str = "gelu"
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_proj_layer_norm: bool = True
    num_conv_pos_embeddings: int = 128  # kernel size; data2vec-audio: convolutions
    num_conv_pos_embedding_groups: int = 16
    conv_pos_kernel_size: int = 19  # data2vec-audio only
    conv_pos_batch_norm: bool = False  # hubert only
    num_buckets: int = 320  # of WavLM's relative positions
    max_bucket_distance: int = 800
    adapter_attn_dim: int = 0  # width of the per-layer adapters of MMS, 0 = none
    # training
    hidden_dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    layerdrop: float = 0.1
    apply_spec_augment: bool = True
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0
    # preprocessor_config.json
    sampling_rate: int = 16_000  # Hz
    do_normalize: bool = True  # zero mean, unit variance over each clip


ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish")
CLASS_NAMES = {  # model_type -> what the class names in `architectures` begin with
    "wav2vec2": "Wav2Vec2",
    "hubert": "Hubert",
    "wavlm": "WavLM",
    "data2vec-audio": "Data2VecAudio",
}
_NORMED = ("wav2vec2", "hubert", "wavlm")
_READ_BY = {  # fields that only some model types read
    "feat_extract_norm": _NORMED,
    "do_stable_layer_norm": _NORMED,
    "feat_proj_layer_norm": ("hubert",),
    "conv_pos_batch_norm": ("hubert",),
    "adapter_attn_dim": ("wav2vec2", "hubert"),
    "num_buckets": ("wavlm",),
    "max_bucket_distance": ("wavlm",),
    "conv_pos_kernel_size": ("data2vec-audio",),
}
_DEFAULTS = {  # where they differ from SpeechConfig's; read by no file: as built
    "data2vec-audio": {"num_conv_pos_embeddings": 5, "feat_extract_norm": "layer"}
}
_FROM_PREPROCESSOR = ("sampling_rate", "do_normalize")
_CHOICES = {
    "hidden_act": ACTIVATIONS,
    "feat_extract_activation": ACTIVATIONS,
    "feat_extract_norm": ("group", "layer"),
}
_SIZE, _SHARE, _COUNT = (1, 16_384), (0.0, 1.0), (0, 1_000_000)
_RANGES = {  # far above any published model, far below what exhausts a machine
    "hidden_size": _SIZE,
    "num_hidden_layers": (1, 256),
    "num_attention_heads": (1, 1024),
    "intermediate_size": (1, 131_072),
    "layer_norm_eps": (1e-12, 0.1),
    "conv_dim": _SIZE,
    "conv_kernel": (1, 4096),
    "conv_stride": (1, 4096),
    "num_conv_pos_embeddings": (1, 4096),
    "num_conv_pos_embedding_groups": _SIZE,
    "conv_pos_kernel_size": (1, 4096),
    "num_buckets": (4, 65_536),
    "max_bucket_distance": (1, 1_000_000),
    "adapter_attn_dim": (0, 16_384),
    "hidden_dropout": _SHARE,
    "activation_dropout": _SHARE,
    "attention_dropout": _SHARE,
    "feat_proj_dropout": _SHARE,
    "layerdrop": _SHARE,
    "mask_time_prob": _SHARE,
    "mask_time_length": (1, 1_000_000),
    "mask_time_min_masks": _COUNT,
    "mask_feature_prob": _SHARE,
    "mask_feature_length": (1, 1_000_000),
    "mask_feature_min_masks": _COUNT,
}
_MAX_CONVOLUTIONS = 32
_MAX_PARAMETERS = 20_000_000_000


def from_json(config: Any, preprocessor: Any, where: str) -> SpeechConfig:
    """Reads the settings of an encoder.

    What the files leave out has the default of its model type in transformers.

    Args:
      config: what config.json holds.
      preprocessor: what preprocessor_config.json holds, None if there is none.
      where: the folder or name, for messages.

    Returns:
      The settings, checked: sizes are positive and in bounds, and fit together.

    Raises:
      InputError: one message with all faults.
    """
    model_type = _find_model_type(config, where)
    settings = {"model_type": model_type, **_DEFAULTS.get(model_type, {})}
    faults: list[str] = []
    for file, source, fields in (
        ("config.json", config, _fields_of(model_type)),
        ("preprocessor_config.json", preprocessor, _FROM_PREPROCESSOR),
    ):
        if not isinstance(source, dict | None):
            faults.append(f"{file}: found {_short(source)}, expected an object")
            continue
        found = [_read_field(source or {}, name, settings) for name in fields]
        faults += [f"{file}: {fault}" for fault in found if fault]
    if not faults:  # sizes can only be compared when there are some
        faults = _find_contradictions(SpeechConfig(**settings))
    if faults:
        raise InputError(
            f"{where}: {len(faults)} fault(s) in the settings of this encoder; mend the"
            " file or download it again.\n" + "\n".join(f"  {f}" for f in faults)
        )
    return SpeechConfig(**settings)


def _find_model_type(config: Any, where: str) -> str:
    known = ", ".join(CLASS_NAMES)
    if not isinstance(config, dict):
        raise InputError(f"{where}: config.json holds no object; download it again.")
    found = config.get("model_type")
    if found is None:
        found = _from_class_name(config.get("architectures"))
    if found is None:
        raise InputError(
            f"{where}: config.json: no model_type, nor a known name under "
            f"architectures; expected one of {known}."
        )
    if not isinstance(found, str) or found not in CLASS_NAMES:
        hint = did_you_mean(str(found), CLASS_NAMES)
        raise InputError(
            f"{where}: config.json: model_type is {_short(found)}, expected one of "
            f"{known}.{hint} Other architectures are not read."
        )
    return found


def _from_class_name(architectures: Any) -> str | None:
    """'Wav2Vec2ForCTC' -> 'wav2vec2'; not 'Wav2Vec2ConformerModel'."""
    for name in architectures if isinstance(architectures, list) else ():
        for model_type, start in CLASS_NAMES.items():
            rest = str(name).removeprefix(start)
            if rest != str(name) and rest.startswith(("For", "Model")):
                return model_type
    return None


def _fields_of(model_type: str) -> list[str]:
    """Returns the fields of config.json that a model type reads."""
    skipped = ("model_type", *_FROM_PREPROCESSOR)
    return [
        name
        for name in SpeechConfig._fields
        if name not in skipped and model_type in _READ_BY.get(name, CLASS_NAMES)
    ]


def _read_field(source: dict[str, Any], name: str, settings: dict[str, Any]) -> str:
    """Puts one field into `settings`; returns what is wrong with it, or ''."""
    if name not in source or (name == "adapter_attn_dim" and source[name] is None):
        return ""
    value = source[name]
    default = SpeechConfig._field_defaults[name]
    if isinstance(default, tuple) and isinstance(value, list):
        if not 1 <= len(value) <= _MAX_CONVOLUTIONS:
            return f"{name}: {len(value)} entries, expected 1 to {_MAX_CONVOLUTIONS}"
        faults = [_find_fault(name, entry, 1) for entry in value]
        value = tuple(value)
    else:
        faults = [_find_fault(name, value, default)]
        value = float(value) if not faults[0] and type(default) is float else value
    settings[name] = value
    return next(filter(None, faults), "")


def _find_fault(name: str, value: Any, default: Any) -> str:
    """Returns what is wrong with one value, or ''."""
    low, high = _RANGES.get(name, (None, None))
    kinds, expected = {
        bool: ((bool,), "true or false"),
        int: ((int,), f"a whole number of {low} to {high}"),
        float: ((int, float), f"a number of {low} to {high}"),
        str: ((str,), f"one of {', '.join(_CHOICES.get(name, ()))}"),
        tuple: ((), "a list of whole numbers"),
    }[type(default)]
    fits = type(value) in kinds
    if fits and low is not None:
        fits = low <= value <= high
    if fits and name in _CHOICES:
        fits = value in _CHOICES[name]
    if name == "sampling_rate":
        expected = "16000, at which all audio is read"
        fits = fits and value == 16_000
    return "" if fits else f"{name}: found {_short(value)}, expected {expected}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _find_contradictions(c: SpeechConfig) -> list[str]:
    """Returns what does not fit together."""
    faults = []
    lengths = {len(c.conv_dim), len(c.conv_kernel), len(c.conv_stride)}
    if len(lengths) > 1:
        faults.append(
            f"conv_dim, conv_kernel and conv_stride have {len(c.conv_dim)}, "
            f"{len(c.conv_kernel)} and {len(c.conv_stride)} entries, expected as many"
        )
    faults += [
        f"{name}: {getattr(c, name)} does not divide hidden_size, {c.hidden_size}"
        for name in ("num_attention_heads", "num_conv_pos_embedding_groups")
        if c.hidden_size % getattr(c, name)
    ]
    if c.max_bucket_distance <= c.num_buckets // 4:
        faults.append(
            f"max_bucket_distance: {c.max_bucket_distance}, expected more than a "
            f"quarter of num_buckets, {c.num_buckets}"
        )
    if not faults and (count := estimate_parameters(c)) > _MAX_PARAMETERS:
        faults.append(
            f"about {count:.1e} parameters, expected at most {_MAX_PARAMETERS:.0e}"
        )
    return [f"config.json: {fault}" for fault in faults]


def estimate_parameters(config: SpeechConfig) -> int:
    """Returns about how many parameters an encoder has: its kernels, no biases."""
    width = config.hidden_size
    layer = 4 * width**2 + 2 * width * config.intermediate_size
    layer += 2 * width * config.adapter_attn_dim
    inputs = (1, *config.conv_dim[:-1])
    shapes = zip(inputs, config.conv_dim, config.conv_kernel, strict=True)
    front = sum(map(math.prod, shapes)) + config.conv_dim[-1] * width
    taps = config.num_conv_pos_embeddings
    if config.model_type == "data2vec-audio":
        taps *= config.conv_pos_kernel_size
    positional = taps * width**2 // config.num_conv_pos_embedding_groups
    return front + positional + config.num_hidden_layers * layer


def estimate_operations(config: SpeechConfig, samples: int) -> float:
    """Returns the multiplications and additions of one clip, attention included."""
    total, frames, channels = 0.0, samples, 1
    layers = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    for width, kernel, stride in layers:
        frames = (frames - kernel) // stride + 1
        total += frames * channels * width * kernel
        channels = width
    size, groups = config.hidden_size, config.num_conv_pos_embedding_groups
    total += frames * channels * size
    total += frames * size * size / groups * config.num_conv_pos_embeddings
    layer = 4 * size * size + 2 * size * config.intermediate_size + 2 * frames * size
    return 2 * (total + config.num_hidden_layers * frames * layer)


def to_json(config: SpeechConfig) -> dict[str, Any]:
    """Returns what config.json holds; transformers and `from_json` read it."""
    model_type = config.model_type
    settings = {name: getattr(config, name) for name in _fields_of(model_type)}
    settings = {k: list(v) if type(v) is tuple else v for k, v in settings.items()}
    if "adapter_attn_dim" in settings:
        settings["adapter_attn_dim"] = config.adapter_attn_dim or None
    names = {
        "architectures": [f"{CLASS_NAMES[model_type]}Model"],
        "model_type": model_type,
    }
    return names | settings


def preprocessor_to_json(config: SpeechConfig) -> dict[str, Any]:
    """Returns what preprocessor_config.json holds."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": config.sampling_rate,
        "do_normalize": config.do_normalize,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": config.feat_extract_norm == "layer",
    }
