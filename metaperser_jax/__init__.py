"""Listener-personalised speech emotion recognition in JAX: the public names."""

from metaperser_jax.meta import maml
from metaperser_jax.personal import make_batch, meta_adapt
from metaperser_jax.typing import Batch, Episode, MetaParams

__version__ = "0.1.0"

__all__ = ["Batch", "Episode", "MetaParams", "make_batch", "maml", "meta_adapt"]
