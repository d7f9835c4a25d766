"""Encoders with drawn weights, saved as checkpoints: for trials without a download.

    python -m metaperser_jax.encoders.drawn wavlm_tiny checkpoints/wavlm_tiny

They have the architecture of the real ones and tell next to nothing about a voice:
config.json says so, and so does every report made with them.
"""

import argparse
import sys

from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.pretrained import save_encoder
from metaperser_jax.encoders.transformer import init_params
from metaperser_jax.errors import InputError, MachineError

TINY = SpeechConfig(
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=96,
    conv_dim=(32,) * 7,
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=4,
)
SHAPES = {
    "wav2vec2_tiny": TINY,
    "hubert_tiny": TINY._replace(model_type="hubert"),
    "wavlm_tiny": TINY._replace(model_type="wavlm", num_buckets=64),
}


def main(arguments: list[str]) -> int:
    """Draws and saves an encoder; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m metaperser_jax.encoders.drawn",
        description="Saves an encoder with drawn weights.",
    )
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    config = SHAPES[options.shape]
    params = init_params(config, options.seed)
    try:
        save_encoder(
            options.folder, config, params, random_weights=True, seed=options.seed
        )
    except (InputError, MachineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.folder}: {options.shape}, weights drawn with seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
