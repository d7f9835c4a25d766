"""CREMA-D: acted speech with the single answers of 2,443 crowd listeners."""

from metaperser_jax.data.crema_d.folds import EMO_SUPERB_FOLDS, SPEAKER_GROUPS
from metaperser_jax.data.crema_d.loading import load_crema_d
from metaperser_jax.data.crema_d.spec import CremaDSpec, check_spec

__all__ = [
    "EMO_SUPERB_FOLDS",
    "SPEAKER_GROUPS",
    "CremaDSpec",
    "check_spec",
    "load_crema_d",
]
