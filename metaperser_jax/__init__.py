"""Listener-personalised speech emotion recognition in JAX: the public names."""

from metaperser_jax.encoders.encoder import encode, encode_pooled
from metaperser_jax.encoders.pretrained import load_encoder, save_encoder
from metaperser_jax.meta import maml
from metaperser_jax.personal import make_batch, meta_adapt
from metaperser_jax.typing import Batch, Episode, MetaParams

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Episode",
    "MetaParams",
    "encode",
    "encode_pooled",
    "load_encoder",
    "make_batch",
    "maml",
    "meta_adapt",
    "save_encoder",
]
