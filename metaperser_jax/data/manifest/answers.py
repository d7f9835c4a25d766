"""What each row answers: labels, grades or soft labels, and dimensional ratings."""

import collections
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.manifest.spec import ManifestSpec
from metaperser_jax.data.manifest.tables import Table, numeric_column
from metaperser_jax.data.ratings import (
    encode_labels,
    normalise_soft_labels,
    parse_labels,
    threshold_grades,
    unknown_label,
)
from metaperser_jax.errors import Problems

SOFT_SUM_TOLERANCE = 1e-3


class Answers(NamedTuple):
    """The answers of all rows of a table; rows not kept hold zeros."""

    classes: tuple[str, ...]
    targets: np.ndarray  # [rows, classes] float32
    mask: np.ndarray  # [rows, classes] bool
    keep: np.ndarray  # [rows] bool, False = skipped
    counts: dict[str, Any]  # what was left out on request


def read_answers(
    table: Table, keep: np.ndarray, spec: ManifestSpec, problems: Problems
) -> Answers:
    """Reads the label or graded columns of the rows that are kept so far.

    Args:
      table: the ratings.
      keep: [rows] bool; other rows are not looked at.
      spec: names the columns, classes, separator and threshold.
      problems: collects rows without or with unknown labels, and bad grades.
    """
    if spec.graded_columns:
        return _read_grades(table, keep, spec, problems)
    return _read_labels(table, keep, spec, problems)


def read_dimensions(
    table: Table, keep: np.ndarray, spec: ManifestSpec, problems: Problems
) -> np.ndarray:
    """Reads dimensional ratings as [rows, dimensions] float32, NaN = not rated.

    A cell that is no number is recorded as a warning and taken as not rated.
    """
    values = np.zeros((len(table.lines), len(spec.dimension_columns)), np.float32)
    for column, name in enumerate(spec.dimension_columns):
        numbers, bad = numeric_column(table, name)
        values[:, column] = numbers
        for row in np.flatnonzero(bad & keep).tolist():
            message = f"{_cell(table, name, row)} is no number: taken as not rated"
            problems.warning("bad_dimension", table.place(row), message)
    return values


def _cell(table: Table, name: str, row: int) -> str:
    return f"column {name!r} holds {table.columns[name][row]!r}, which"


def _read_labels(
    table: Table, keep: np.ndarray, spec: ManifestSpec, problems: Problems
) -> Answers:
    """Unites the labels of the label columns of each row."""
    keep = keep.copy()
    rows: list[list[str]] = [[] for _ in keep]
    for row in np.flatnonzero(keep).tolist():
        cells = (table.columns[name][row] for name in spec.label_columns)
        found = (
            label for cell in cells for label in parse_labels(cell, spec.separator)
        )
        rows[row] = list(dict.fromkeys(found))
        if not rows[row]:
            names = ", ".join(map(repr, spec.label_columns))
            message = f"no label in {names}: rate the clip or delete the row"
            problems.error("no_label", table.place(row), message)
            keep[row] = False
    found_labels = {label for labels in rows for label in labels}
    _hint_separator(table, found_labels, spec, problems)
    classes = tuple(spec.classes or sorted(found_labels))
    counts = _drop_unknown(table, rows, keep, classes, spec, problems)
    targets = encode_labels(rows, classes)
    mask = np.repeat(keep[:, None], len(classes), axis=1)
    return Answers(classes, targets, mask, keep, counts)


def _hint_separator(
    table: Table, labels: set[str], spec: ManifestSpec, problems: Problems
) -> None:
    """Warns where labels look like several that were not split."""
    for separator in "|;":
        joined = sorted(label for label in labels if separator in label)
        if joined and spec.classes is None:
            message = (
                f"{len(joined)} labels hold {separator!r}, for example {joined[0]!r}: "
                f"if it stands between labels, set separator={separator!r}"
            )
            problems.warning("undeclared_separator", table.path, message)


def _drop_unknown(
    table: Table,
    rows: list[list[str]],
    keep: np.ndarray,
    classes: tuple[str, ...],
    spec: ManifestSpec,
    problems: Problems,
) -> dict[str, Any]:
    """Removes labels outside the classes, and rows as `unknown_labels` says."""
    known, dropped, emptied = set(classes), collections.Counter(), 0
    for row in np.flatnonzero(keep).tolist():
        unknown = [label for label in rows[row] if label not in known]
        if not unknown:
            continue
        if spec.unknown_labels == "error_row":
            problems.error(
                "unknown_label", table.place(row), unknown_label(unknown[0], classes)
            )
            rows[row], keep[row] = [], False
            continue
        dropped.update(unknown)
        rows[row] = [label for label in rows[row] if label in known]
        keep[row] = bool(rows[row])
        emptied += not rows[row]
    if not dropped:
        return {}
    return {"dropped_labels": dict(dropped), "ratings_left_without_label": emptied}


def _read_grades(
    table: Table, keep: np.ndarray, spec: ManifestSpec, problems: Problems
) -> Answers:
    """Reads one number a class; missing cells are masked, not taken as 'no'."""
    keep = keep.copy()
    classes = tuple(spec.classes or spec.graded_columns)
    grades = np.zeros((len(keep), len(classes)), np.float64)
    for column, name in enumerate(classes):
        grades[:, column], bad = numeric_column(table, name)
        for row in np.flatnonzero(bad & keep).tolist():
            message = f"{_cell(table, name, row)} is no number: write 3.5, not 3,5"
            problems.error("bad_grade", table.place(row), message)
        keep &= ~bad
    for row in np.flatnonzero(keep & np.isnan(grades).all(axis=1)).tolist():
        message = "no graded column is answered: rate the clip or delete the row"
        problems.error("no_label", table.place(row), message)
        keep[row] = False
    if spec.threshold is None:
        targets, mask, sums = normalise_soft_labels(grades)
        keep = _check_sums(table, sums, keep, problems)
    else:
        targets, mask = threshold_grades(grades, float(spec.threshold))
    return Answers(classes, targets, mask & keep[:, None], keep, {})


def _check_sums(
    table: Table, sums: np.ndarray, keep: np.ndarray, problems: Problems
) -> np.ndarray:
    """Returns `keep` without rows whose soft labels are no distribution."""
    usable = sums > 0
    for row in np.flatnonzero(keep & ~usable).tolist():
        message = "soft labels must be 0 or more, with a sum above 0"
        problems.error("bad_soft_label", table.place(row), message)
    off = np.abs(sums - 1) > SOFT_SUM_TOLERANCE
    for row in np.flatnonzero(keep & usable & off).tolist():
        message = f"soft labels sum to {sums[row]:.4g}, expected 1: rescaled"
        problems.warning("soft_label_sum", table.place(row), message)
    return keep & usable
