"""Predictions on disk: one file for each method of a fold, complete or not at all."""

import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from metaperser_jax.errors import Problems
from metaperser_jax.evaluation.protocol import Predictions


def save_predictions(path: pathlib.Path, found: dict[str, Predictions]) -> None:
    """Writes the predictions of each scenario."""
    arrays: dict[str, np.ndarray] = {}
    for scenario, part in found.items():
        for name in ("annotators", "clip", "targets", "mask"):
            arrays[f"{scenario}|{name}"] = getattr(part, name)
        for (method, k), probs in part.probs.items():
            arrays[f"{scenario}|probs|{method}|{k}"] = probs
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    with scratch.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def kept_predictions(
    path: pathlib.Path, problems: Problems
) -> dict[str, Predictions] | None:
    """Returns what was saved, None if there is nothing or it is damaged."""
    if not path.exists():
        return None
    try:
        return load_predictions(path)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        message = f"cannot be read ({type(error).__name__}): made anew"
        problems.warning("damaged_predictions", str(path), message)
        return None


def load_predictions(path: pathlib.Path) -> dict[str, Predictions]:
    """Reads what `save_predictions` wrote."""
    parts: dict[str, dict[str, Any]] = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            scenario, kind, *key = name.split("|")
            part = parts.setdefault(scenario, {"probs": {}})
            if kind == "probs":
                part["probs"][key[0], int(key[1])] = arrays[name]
            else:
                part[kind] = arrays[name]
    return {scenario: Predictions(**part) for scenario, part in parts.items()}
