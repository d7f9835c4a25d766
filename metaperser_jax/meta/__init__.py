"""Meta-learners over a pytree of parameters; no audio and no Flax in here."""

from metaperser_jax.meta.inner_loop import InnerLoop
from metaperser_jax.meta.learners import (
    MetaLearner,
    base_rate,
    maml,
    nearest_listener,
    no_adaptation,
    prior_calibration,
    prototypes,
    reptile,
)
from metaperser_jax.meta.schedules import derivative_order

__all__ = [
    "InnerLoop",
    "MetaLearner",
    "base_rate",
    "derivative_order",
    "maml",
    "nearest_listener",
    "no_adaptation",
    "prior_calibration",
    "prototypes",
    "reptile",
]
