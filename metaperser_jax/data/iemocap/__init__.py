"""IEMOCAP: acted dialogs, each utterance rated by observers and by its speaker."""

from metaperser_jax.data.iemocap.loading import load_iemocap, rater_table
from metaperser_jax.data.iemocap.spec import EMO_SUPERB_FOLDS, IemocapSpec, check_spec

__all__ = [
    "EMO_SUPERB_FOLDS",
    "IemocapSpec",
    "check_spec",
    "load_iemocap",
    "rater_table",
]
