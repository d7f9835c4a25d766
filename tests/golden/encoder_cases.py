"""Tiny encoders of every architecture, with weights and clips from a formula.

The numbers come from the bits of PCG64, whose stream NumPy keeps for ever, so that
weights need not be stored beside what PyTorch made of them.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from metaperser_jax.encoders.config import SpeechConfig

TINY = SpeechConfig(
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=20,
    conv_dim=(8, 7, 9),
    conv_kernel=(10, 3, 2),
    conv_stride=(5, 2, 2),
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=3,
    conv_pos_kernel_size=5,
    num_buckets=16,
    max_bucket_distance=20,
)
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
CASES: dict[str, SpeechConfig] = {
    name: TINY._replace(**fields)
    for name, fields in {
        "wav2vec2-group": {},
        "wav2vec2-layer": {**LAYER, "conv_bias": True},
        "wav2vec2-adapters": {**LAYER, "conv_bias": True, "adapter_attn_dim": 6},
        "hubert-group": {"model_type": "hubert"},
        "hubert-layer": {**LAYER, "model_type": "hubert", "conv_bias": True},
        "hubert-batch-norm": {
            "model_type": "hubert",
            "conv_pos_batch_norm": True,
            "feat_proj_layer_norm": False,
        },
        "wavlm-group": {"model_type": "wavlm", "do_normalize": False},
        "wavlm-layer": {**LAYER, "model_type": "wavlm"},
        "data2vec-audio": {
            "model_type": "data2vec-audio",
            "feat_extract_norm": "layer",
            "num_conv_pos_embeddings": 3,
        },
    }.items()
}


def numbers(seed: int, *shape: int) -> np.ndarray:
    """Returns uniform numbers of zero mean and unit variance, float64."""
    bits = np.random.PCG64(seed).random_raw(math.prod(shape)) >> np.uint64(11)
    return math.sqrt(12) * (bits.astype(np.float64) * 2.0**-53 - 0.5).reshape(shape)


def make_params(shapes: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Returns path -> float32 weights: no norm is one, no bias zero.

    Args:
      shapes: path -> anything with a shape.
      seed: of all; each path draws for itself.
    """
    return {
        path: _make(
            path, shapes, numbers(seed + zlib.crc32(path.encode()), *leaf.shape)
        )
        for path, leaf in shapes.items()
    }


def _make(path: str, shapes: Mapping[str, Any], drawn: np.ndarray) -> np.ndarray:
    module, _, leaf = path.rpartition("/")
    if leaf == "kernel":
        drawn = drawn / math.sqrt(math.prod(drawn.shape[:-1]))
    elif leaf == "scale" and module.endswith("pos_conv_embed/conv"):
        taps, _, outputs = shapes[f"{module}/kernel"].shape
        drawn = (1.0 + 0.3 * drawn) * math.sqrt(outputs / taps)
    elif leaf in ("scale", "var", "gru_rel_pos_const"):
        drawn = 1.0 + 0.3 * drawn
    elif leaf in ("bias", "mean"):
        drawn = 0.2 * drawn
    return drawn.astype(np.float32)


def make_clip(seed: int, samples: int) -> np.ndarray:
    """Returns [samples] float32: a tone, noise and an offset."""
    tone = np.sin(np.arange(samples) * (0.05 + 0.01 * seed))
    return (0.1 * numbers(seed, samples) + 0.2 * tone + 0.05).astype(np.float32)


# --- What PyTorch was asked, in encoders/*.npz ---

SEED = 7
LENGTHS = (640, 397)
BUCKETS = ((320, 800), (32, 128), (64, 4000))  # (number, largest distance)


def directions(number: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What a clip's hidden states and its last one are multiplied with; then summed."""
    both = numbers(100 + number, shape[0] + 1, *shape[1:])
    return both[:-1], both[-1]
