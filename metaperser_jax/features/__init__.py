"""Pooled hidden states of every clip, computed once and kept on disk."""

from metaperser_jax.features.extraction import (
    Effort,
    Features,
    collect,
    describe,
    extract,
    fill,
    open_cache,
)
from metaperser_jax.features.scaler import (
    SCALER_FILE,
    Scaler,
    fit_scaler,
    load_scaler,
    save_scaler,
    standardise,
)

__all__ = [
    "SCALER_FILE",
    "Effort",
    "Features",
    "Scaler",
    "collect",
    "describe",
    "extract",
    "fill",
    "fit_scaler",
    "load_scaler",
    "open_cache",
    "save_scaler",
    "standardise",
]
