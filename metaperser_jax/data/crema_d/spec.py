"""What may be declared about a copy of CREMA-D."""

import math
from typing import Any, Literal, NamedTuple, get_args

from benchmark.audio import MAX_SECONDS
from metaperser_jax.errors import InputError, did_you_mean

Modality = Literal["voice", "face", "audio_visual"]
MODALITIES: tuple[str, ...] = get_args(Modality)  # query types 1, 2 and 3
CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad")
LETTERS = "ADFHNS"  # of the answers, in the order of the classes
NUM_CLIPS, NUM_ACTORS, NUM_RATERS = 7442, 91, 2443  # as published


class CremaDSpec(NamedTuple):
    """Where the corpus is and which answers count."""

    root: str = ""  # the copy of the repository, or the folder around it
    fake: bool = False  # generate a corpus of the same form instead
    responses: str = "auto"  # 'auto' = finishedResponses.csv; or a path below root
    audio: str = "auto"  # 'auto' = AudioWAV; or a folder below root
    modality: Modality = "voice"  # what the listeners were given
    min_ratings: int = 1  # listeners with fewer are left out
    max_seconds: float = MAX_SECONDS  # longer recordings are cut
    fake_clips: int = NUM_CLIPS
    fake_raters: int = NUM_RATERS
    fake_seed: int = 0


def check_spec(spec: CremaDSpec) -> None:
    """Raises one `InputError` that lists all faults of a specification."""
    faults = _text_faults(spec) + _number_faults(spec)
    if faults:
        raise InputError("crema_d: " + "; ".join(faults))


def _text_faults(spec: CremaDSpec) -> list[str]:
    faults = []
    if not isinstance(spec.fake, bool):
        faults.append(f"fake is {spec.fake!r}, expected True or False")
    if not spec.fake and (not isinstance(spec.root, str) or not spec.root):
        faults.append(
            f"root is {spec.root!r}, expected the folder of the corpus (or fake=True)"
        )
    for field in ("responses", "audio"):
        value = getattr(spec, field)
        if not isinstance(value, str) or not value:
            faults.append(f"{field} is {value!r}, expected 'auto' or a path")
    if spec.modality not in MODALITIES:
        faults.append(
            f"modality is {spec.modality!r}, expected one of {MODALITIES}."
            f"{did_you_mean(str(spec.modality), MODALITIES)}"
        )
    return faults


def _number_faults(spec: CremaDSpec) -> list[str]:
    whole = {
        "min_ratings": (1, math.inf),
        "fake_clips": (12, NUM_CLIPS),
        "fake_raters": (4, 100_000),
        "fake_seed": (0, 2**32 - 1),
    }
    faults = [
        f"{field} is {getattr(spec, field)!r}, expected a whole number, "
        + (f"at least {low}" if high == math.inf else f"{low} to {high}")
        for field, (low, high) in whole.items()
        if not _is_within(getattr(spec, field), int, low, high)
    ]
    if not _is_within(spec.max_seconds, int | float, 0.1, 86_400):
        faults.append(
            f"max_seconds is {spec.max_seconds!r}, expected a number, 0.1 to 86400"
        )
    return faults


def _is_within(value: Any, kind: Any, low: int | float, high: int | float) -> bool:
    return (
        isinstance(value, kind)
        and not isinstance(value, bool)
        and (low <= value <= high)
    )
