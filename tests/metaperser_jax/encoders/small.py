"""The smallest encoder with every part, for tests to which sizes do not matter."""

from metaperser_jax.encoders.config import SpeechConfig

SMALL = SpeechConfig(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    conv_dim=(4, 6),
    conv_kernel=(3, 2),
    conv_stride=(2, 2),
    num_conv_pos_embeddings=5,
    num_conv_pos_embedding_groups=2,
)
