"""Configurations of the encoders that carry no weights."""

from typing import NamedTuple


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
