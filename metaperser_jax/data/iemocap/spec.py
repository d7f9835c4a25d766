"""What may be said about a copy of IEMOCAP, and what is fixed by its literature."""

import math
import os
from typing import Any, Literal, NamedTuple

from benchmark.audio import MAX_SECONDS
from metaperser_jax.errors import InputError, did_you_mean

Raters = Literal["all", "observers", "self"]
RATERS = ("all", "observers", "self")
DIMENSIONS = ("valence", "activation", "dominance")

# The nine classes of EMO-SUPERB in its order, by the label of the evaluation files.
CLASS_OF_LABEL = {
    "Frustration": "frustrated",
    "Anger": "angry",
    "Sadness": "sad",
    "Disgust": "disgust",
    "Excited": "excited",
    "Fear": "fear",
    "Neutral": "neutral",
    "Surprise": "surprise",
    "Happiness": "happy",
}
OTHER_CLASS = "other"

# Train, development and test sessions of the five folds of EMO-SUPERB.
EMO_SUPERB_FOLDS = (
    (("Ses01", "Ses02", "Ses03"), ("Ses05",), ("Ses04",)),
    (("Ses01", "Ses02", "Ses05"), ("Ses04",), ("Ses03",)),
    (("Ses01", "Ses04", "Ses05"), ("Ses03",), ("Ses02",)),
    (("Ses03", "Ses04", "Ses05"), ("Ses02",), ("Ses01",)),
    (("Ses02", "Ses03", "Ses04"), ("Ses01",), ("Ses05",)),
)


class IemocapSpec(NamedTuple):
    """Where the corpus is and what is taken of it; see docs/iemocap.md."""

    root: str = ""  # the folder with Session1 ... Session5, or one near it
    fake: bool = False  # an invented tree of the same form instead of the corpus
    raters: Raters = "all"
    other_class: bool = False  # keep 'Other' as a tenth class
    min_ratings: int = 1  # listeners with fewer are left out
    max_seconds: float = MAX_SECONDS  # longer recordings are cut
    fake_dialogs: int = 6  # a session
    fake_utterances: int = 16  # a dialog
    fake_seed: int = 0


def class_names(spec: IemocapSpec) -> tuple[str, ...]:
    """Returns the classes in their order: nine, or ten with 'other'."""
    extra = (OTHER_CLASS,) if spec.other_class else ()
    return (*CLASS_OF_LABEL.values(), *extra)


def check_spec(spec: IemocapSpec) -> None:
    """Raises one `InputError` that lists all faults of a specification."""
    faults = _choice_faults(spec) + _number_faults(spec)
    if faults:
        raise InputError("iemocap: " + "; ".join(faults))


def _choice_faults(spec: IemocapSpec) -> list[str]:
    faults = [
        f"{field} is {getattr(spec, field)!r}, expected True or False"
        for field in ("fake", "other_class")
        if not isinstance(getattr(spec, field), bool)
    ]
    if not isinstance(spec.root, str | os.PathLike):
        faults.append(f"root is {spec.root!r}, expected a folder")
    elif not os.fspath(spec.root) and spec.fake is False:
        faults.append(
            "root is empty: name your copy of IEMOCAP (the corpus is licensed, "
            "https://sail.usc.edu/iemocap), or set fake=True for an invented one"
        )
    elif os.fspath(spec.root) and spec.fake is True:
        faults.append(f"root is {spec.root!r} and fake is True: choose one of them")
    if spec.raters not in RATERS:
        hint = did_you_mean(str(spec.raters), RATERS)
        faults.append(f"raters is {spec.raters!r}, expected one of {RATERS}.{hint}")
    return faults


def _number_faults(spec: IemocapSpec) -> list[str]:
    limits = {
        "min_ratings": (1, math.inf),
        "fake_dialogs": (2, 99),
        "fake_utterances": (8, 1_000),
        "fake_seed": (0, 2**32 - 1),
    }
    faults = []
    for field, (low, high) in limits.items():
        value = getattr(spec, field)
        if not _is_number(value) or value != int(value) or not low <= value <= high:
            limit = f"at least {low}" if math.isinf(high) else f"{low} to {high}"
            faults.append(f"{field} is {value!r}, expected a whole number, {limit}")
    if not _is_number(spec.max_seconds) or spec.max_seconds < 1e-3:
        faults.append(f"max_seconds is {spec.max_seconds!r}, expected at least 0.001")
    return faults


def _is_number(value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and math.isfinite(value)
