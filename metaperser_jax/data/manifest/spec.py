"""What a manifest may declare about itself."""

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmark.audio import MAX_SECONDS, SAMPLE_RATE
from metaperser_jax.errors import InputError, did_you_mean

UNKNOWN_LABELS = ("error_row", "drop_label")


class ManifestSpec(NamedTuple):
    """Where the ratings, recordings and features are, and how to read them.

    Paths are relative to `root` or absolute; docs/manifest.md explains each option.
    """

    root: str | os.PathLike  # the folder
    name: str = ""  # '' = the folder's name
    ratings: str = "auto"  # a table: CSV, JSONL or Parquet
    items: str | None = "auto"  # a table with one row a clip; 'auto' = if there
    audio: str | None = "auto"  # folder; None = no recordings
    features: str | None = None  # table or npz of precomputed features
    features_clip_column: str = "auto"  # 'auto' = the first column
    clip_column: str = "clip"
    annotator_column: str = "annotator"
    label_columns: Sequence[str] = ("label",)  # cells that hold labels
    separator: str | None = "|"  # between labels in a cell; None = one label a cell
    graded_columns: Sequence[str] = ()  # instead of labels: one number a class
    threshold: float | None = 0.0  # a grade above it is a label; None = soft labels
    classes: Sequence[str] | None = None  # None = all that are found, sorted
    unknown_labels: str = "error_row"  # or 'drop_label'
    speaker_column: str | None = "auto"  # 'auto' = 'speaker' if there
    session_column: str | None = "auto"  # 'auto' = 'session' if there
    dimension_columns: Sequence[str] = ()  # numbers kept beside the labels
    keep_rows: Sequence[tuple[str, Sequence[str]]] = ()  # (column, values) to keep
    min_ratings: int = 1  # listeners with fewer are left out
    delimiter: str = "auto"  # of CSV files: 'auto' finds comma, semicolon or tab
    sample_rate: int = SAMPLE_RATE  # Hz of the waveforms
    max_seconds: float = MAX_SECONDS  # longer recordings are cut


def check_spec(spec: ManifestSpec) -> None:
    """Raises one `InputError` that lists all faults of a specification."""
    faults = _column_faults(spec) + _choice_faults(spec) + _number_faults(spec)
    faults += _filter_faults(spec.keep_rows)
    if faults:
        raise InputError("manifest: " + "; ".join(faults))


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(name, str) and name for name in value
    )


def _column_faults(spec: ManifestSpec) -> list[str]:
    faults = []
    for field in ("label_columns", "graded_columns", "dimension_columns", "classes"):
        value = getattr(spec, field)
        if field == "classes" and value is None:
            continue
        if not _is_names(value):
            faults.append(f"{field} is {value!r}, expected a list of names")
        elif len(set(value)) < len(value):
            faults.append(f"{field} holds a name twice: {', '.join(value)}")
    for field in ("clip_column", "annotator_column"):
        value = getattr(spec, field)
        if not isinstance(value, str) or not value:
            faults.append(f"{field} is {value!r}, expected a column's name")
    return faults


def _choice_faults(spec: ManifestSpec) -> list[str]:
    faults = []
    if not os.fspath(spec.root):
        faults.append("root is empty, expected a folder (--config.data.root=FOLDER)")
    if spec.unknown_labels not in UNKNOWN_LABELS:
        faults.append(
            f"unknown_labels is {spec.unknown_labels!r}, expected one of "
            f"{UNKNOWN_LABELS}.{did_you_mean(str(spec.unknown_labels), UNKNOWN_LABELS)}"
        )
    if not spec.label_columns and not spec.graded_columns:
        faults.append("label_columns and graded_columns are both empty: name one")
    if spec.graded_columns and tuple(spec.label_columns) not in ((), ("label",)):
        faults.append("label_columns and graded_columns are both given: name one")
    if spec.separator is not None and not spec.separator:
        faults.append("separator is '', expected a text such as '|', or None")
    if spec.delimiter != "auto" and len(spec.delimiter) != 1:
        faults.append(f"delimiter is {spec.delimiter!r}, expected one character")
    if spec.classes is not None and _is_names(spec.classes):
        if not spec.classes:
            faults.append("classes is empty: name them, or None for all that are found")
        unknown = [x for x in spec.classes if x not in spec.graded_columns]
        if spec.graded_columns and unknown:
            faults.append(f"classes {unknown} are not among the graded_columns")
    return faults


def _number_faults(spec: ManifestSpec) -> list[str]:
    limits = {"min_ratings": 1, "sample_rate": 1, "max_seconds": 1e-3}
    faults = []
    for field, low in limits.items():
        value = getattr(spec, field)
        if not _is_number(value) or value < low:
            faults.append(f"{field} is {value!r}, expected a number, at least {low}")
    if spec.threshold is not None and not _is_number(spec.threshold):
        faults.append(f"threshold is {spec.threshold!r}, expected a number or None")
    return faults


def _is_number(value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and math.isfinite(value)


def _filter_faults(keep_rows: Any) -> list[str]:
    pairs = list(keep_rows) if isinstance(keep_rows, list | tuple) else [keep_rows]
    return [
        f"keep_rows holds {pair!r}, expected (column, [value, ...])"
        for pair in pairs
        if not (
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and _is_names(pair[1])
        )
    ]
