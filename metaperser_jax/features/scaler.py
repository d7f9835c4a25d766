"""Features at mean zero and deviation one, as the training clips have it."""

import pathlib
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from metaperser_jax.errors import InputError

SCALER_FILE = "scaler.safetensors"


class Scaler(NamedTuple):
    """Mean and standard deviation of each feature on the training clips."""

    mean: np.ndarray  # [layers, width]
    scale: np.ndarray  # [layers, width]


def fit_scaler(values: np.ndarray) -> Scaler:
    """Returns the scaler of [samples, layers, width]; a constant keeps scale 1."""
    mean, scale = values.mean(0), values.std(0)
    constant = scale < 1e-6 * np.maximum(np.abs(mean), 1.0)
    return Scaler(mean, np.where(constant, 1.0, scale).astype(np.float32))


def standardise(scaler: Scaler, values: np.ndarray) -> np.ndarray:
    """Returns (values - mean) / scale, clipped to +-10 so that no outlier rules."""
    scaled = (values - scaler.mean[None]) / scaler.scale[None]
    return np.clip(scaled, -10.0, 10.0).astype(np.float32)


def save_scaler(folder: pathlib.Path, scaler: Scaler) -> None:
    """Writes the scaler, complete or not at all: trained models expect its inputs."""
    scratch = folder / f".{SCALER_FILE}"
    scratch.write_bytes(save_tensors(scaler._asdict()))
    scratch.replace(folder / SCALER_FILE)


def load_scaler(folder: pathlib.Path) -> Scaler:
    """Reads what `save_scaler` wrote.

    Raises:
      InputError: it is not there or cannot be read.
    """
    path = folder / SCALER_FILE
    try:
        return Scaler(**load_tensors(path.read_bytes()))
    except (OSError, SafetensorError, TypeError) as error:
        raise InputError(
            f"{path}: no scaler there ({error}). Train first (--mode=train) with the "
            "same --workdir."
        ) from error
