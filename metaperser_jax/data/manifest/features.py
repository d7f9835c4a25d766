"""Precomputed features: one row a clip, as a table or as NumPy arrays."""

import os
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.manifest.tables import (
    Table,
    numeric_column,
    read_table,
    require_columns,
)
from metaperser_jax.data.ratings import cell_text
from metaperser_jax.errors import InputError, Problems

_NPZ_ERRORS = (  # what NumPy and zipfile raise on a damaged or foreign archive
    *(OSError, ValueError, EOFError, KeyError, SyntaxError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, AttributeError),
    *(TypeError, RuntimeError, OverflowError),
)


class FeatureRows(NamedTuple):
    """Features by clip."""

    path: str
    row: dict[str, int]  # clip -> index into `values`
    values: np.ndarray  # [rows, layers, width] float32


def read_features(
    path: str | os.PathLike,
    clip_column: str,
    problems: Problems,
    delimiter: str = "auto",
) -> FeatureRows:
    """Reads features of clips.

    A table (CSV, JSONL, Parquet) has a column with the clip and either numeric columns
    or one column of lists ([width] or [layers, width]). An npz file has the arrays
    `clips` [rows] and `features` ([rows, width] or [rows, layers, width]), or one array
    a clip under the clip's name.

    Args:
      path: the file.
      clip_column: name of the column with the clip; 'auto' = the first.
      problems: collects rows that are not finite numbers or name a clip again.
      delimiter: of a CSV file.

    Raises:
      InputError: the file cannot be used at all.
    """
    where = os.fspath(path)
    if where.lower().endswith(".npz"):
        clips, rows = _npz_rows(where)
        places = [f"{where}: {clip}" for clip in clips]
    else:
        table = read_table(where, problems, delimiter)
        if clip_column == "auto":
            clip_column = next(iter(table.columns))
        require_columns(table, [clip_column])
        clips, rows = table.texts(clip_column), _table_rows(table, clip_column)
        places = [table.place(row) for row in range(len(clips))]
    return _gather(where, clips, rows, places, problems)


def _table_rows(table: Table, clip_column: str) -> list[Any]:
    """Returns what each row holds: an array, or a message about what is wrong."""
    names = [name for name in table.columns if name != clip_column]
    if not names:
        raise InputError(f"{table.path}: no column beside {clip_column!r}")
    if len(names) == 1 and isinstance(table.columns[names[0]][0], list):
        return [_as_array(cell) for cell in table.columns[names[0]]]
    values = np.zeros((len(table.lines), len(names)), np.float64)
    faults: dict[int, str] = {}
    for column, name in enumerate(names):
        values[:, column], bad = numeric_column(table, name)
        if bad.all():
            raise InputError(
                f"{table.path}: column {name!r} holds no numbers (for example "
                f"{table.columns[name][0]!r}): remove it, features are numbers"
            )
        for row in np.flatnonzero(bad).tolist():
            text = f"column {name!r} holds {table.columns[name][row]!r}, no number"
            faults.setdefault(row, text)
    return [faults.get(row, values[row]) for row in range(len(values))]


def _as_array(cell: Any) -> np.ndarray | str:
    try:
        return np.asarray(cell, np.float64)
    except (TypeError, ValueError, OverflowError):
        return "a list of numbers was expected"


def _npz_rows(where: str) -> tuple[list[str], list[Any]]:
    try:
        with open(where, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _NPZ_ERRORS as error:
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{where}: not an npz file of arrays ({reason})") from error
    if not {"clips", "features"} <= arrays.keys():
        return list(arrays), [_as_array(array) for array in arrays.values()]
    clips, features = arrays["clips"], arrays["features"]
    if clips.ndim != 1 or features.ndim not in (2, 3) or len(clips) != len(features):
        raise InputError(
            f"{where}: clips {clips.shape} and features {features.shape}, expected "
            "[rows] and [rows, width] or [rows, layers, width]"
        )
    return [cell_text(clip) for clip in clips.tolist()], list(map(_as_array, features))


def _gather(
    where: str,
    clips: list[str],
    rows: list[Any],
    places: list[str],
    problems: Problems,
) -> FeatureRows:
    """Stacks the rows that can be used; all take the shape of the first of them."""
    index: dict[str, int] = {}
    values: list[np.ndarray] = []
    for clip, row, place in zip(clips, rows, places, strict=True):
        fault = _row_fault(row, values)
        if not clip:
            fault = "no clip is named"
        elif clip in index:
            fault = f"clip {clip!r} is named twice, the first row is kept"
        if fault:
            problems.error("bad_features", place, fault)
            continue
        index[clip] = len(values)
        values.append(np.atleast_2d(row).astype(np.float32))  # [layers, width]
    if not values:
        raise InputError(f"{where}: no usable row of features.\n{problems.summary()}")
    return FeatureRows(where, index, np.stack(values))


def _row_fault(row: Any, values: list[np.ndarray]) -> str:
    """Returns what is wrong with a row of features, '' if nothing."""
    if isinstance(row, str):
        return row
    if row.ndim not in (1, 2) or row.size == 0:
        return f"features of shape {row.shape}, expected [width] or [layers, width]"
    if not (np.abs(row) <= np.finfo(np.float32).max).all():
        return "a feature is missing, NaN, infinite or beyond float32"
    if values and np.atleast_2d(row).shape != values[0].shape:
        shape = np.atleast_2d(row).shape
        return f"[layers, width] is {shape}, the first row has {values[0].shape}"
    return ""
