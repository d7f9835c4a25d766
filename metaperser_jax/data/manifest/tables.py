"""Tables as people keep them: CSV, JSONL and Parquet, read into named columns.

A row that cannot be read is an error row in `Problems`; a file that cannot be read
raises `InputError`. Nothing else is raised, whatever the bytes are.
"""

import collections
import csv
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.ratings import MISSING, cell_text
from metaperser_jax.errors import InputError, Problems, did_you_mean

READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BINARY_MAGIC = {b"PK\x03\x04": "an Excel or zip file", b"PAR1": "a Parquet file"}


class Table(NamedTuple):
    """A table by columns; cells are as the file gives them, text in CSV."""

    path: str
    columns: dict[str, list[Any]]  # name -> [rows]
    lines: list[int]  # [rows] line in the file, or row number in Parquet
    num_bad: int = 0  # rows that could not be read

    def place(self, row: int) -> str:
        """Names a row for messages: file and line."""
        return f"{self.path}:{self.lines[row]}"

    def texts(self, name: str) -> list[str]:
        """Returns a column as text, '' where missing."""
        return [cell_text(cell) for cell in self.columns[name]]


def read_table(
    path: str | os.PathLike, problems: Problems, delimiter: str = "auto"
) -> Table:
    """Reads a table; its kind is told by the extension.

    CSV: UTF-8 with or without a byte-order mark, UTF-16 with one, else latin-1 with a
    warning; any line ends; quoted cells; comma, semicolon or tab. JSONL: one object a
    line. Parquet: all column types become Python values.

    Args:
      path: a .csv, .tsv, .txt, .jsonl, .ndjson, .parquet or .pq file.
      problems: collects rows that cannot be read.
      delimiter: of CSV files; 'auto' takes what splits the header best.

    Returns:
      The table, with at least one row.

    Raises:
      InputError: no such file, not a table, no rows, a column name twice.
    """
    text_path = os.fspath(path)
    suffix = pathlib.PurePath(text_path).suffix.lower()
    if suffix not in READERS:
        raise InputError(
            f"{text_path}: unknown kind of table {suffix!r}, expected one of "
            f"{', '.join(READERS)}"
        )
    data = _read_bytes(text_path)
    if READERS[suffix] == "csv":
        return _read_csv(text_path, data, problems, delimiter)
    if READERS[suffix] == "jsonl":
        return _read_jsonl(text_path, data, problems)
    return _read_parquet(text_path, data)


def require_columns(table: Table, names: Sequence[str]) -> None:
    """Raises `InputError` for columns that are not there; names those found."""
    for name in names:
        if name not in table.columns:
            found = ", ".join(map(repr, table.columns))
            raise InputError(
                f"{table.path}: no column {name!r}; found {found}."
                f"{did_you_mean(name, table.columns)}"
            )


def numeric_column(table: Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a column as float64 [rows], NaN = missing, and [rows] bool not a number.

    Infinity is not a number here; missing are '', NaN, 'NA', 'null' and the like.
    """
    parsed = [parse_number(cell) for cell in table.columns[name]]
    bad = np.array([value is None for value in parsed], bool)
    values = [math.nan if value is None else value for value in parsed]
    return np.array(values, np.float64), bad


def parse_number(cell: Any) -> float | None:
    """Returns a cell's finite number, NaN for a missing cell, None for another."""
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        text = cell.strip()
        if text.lower() in MISSING:
            return math.nan
        if not _NUMBER.fullmatch(text):
            return None
        cell = text
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isinf(value) else value


def _read_bytes(path: str) -> bytes:
    try:
        data = pathlib.Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from error
    if not data.strip():
        raise InputError(f"{path}: an empty file, expected a header and rows")
    return data


def _decode(path: str, data: bytes, problems: Problems) -> str:
    """Decodes a text file, latin-1 being the last resort."""
    for magic, name in _BINARY_MAGIC.items():
        if data.startswith(magic):
            raise InputError(f"{path}: {name}, not text: save it as CSV (UTF-8)")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise InputError(f"{path}: broken UTF-16: save it as UTF-8") from error
        text = data.decode("latin-1")
        if "\0" not in text:
            message = (
                f"not UTF-8 (byte 0x{data[error.start]:02x} at {error.start}), read as "
                "latin-1: check accents and save it as UTF-8"
            )
            problems.warning("latin1_text", path, message)
    if "\0" in text:
        raise InputError(f"{path}: binary data, expected text: save it as CSV (UTF-8)")
    return text


def _read_csv(path: str, data: bytes, problems: Problems, delimiter: str) -> Table:
    text = _decode(path, data, problems)
    if delimiter == "auto":
        delimiter = _find_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records, line = [], 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((line, cells))
            line = reader.line_num + 1  # where the next record begins
    except csv.Error as error:
        raise InputError(
            f"{path}:{line}: not CSV ({error}): look for an unclosed quote"
        ) from error
    names = [name.strip() for name in records[0][1]] if records else []
    _check_names(path, names)
    good = []
    for line, cells in records[1:]:
        if len(cells) == len(names):
            good.append((line, cells))
        else:
            message = (
                f"{len(cells)} cells under {len(names)} columns: quote cells that "
                f"hold {delimiter!r}"
            )
            problems.error("ragged_row", f"{path}:{line}", message)
    if not good:
        raise InputError(f"{path}: a header and no rows")
    columns = zip(*(cells for _, cells in good), strict=True)
    by_name = dict(zip(names, map(list, columns), strict=True))
    num_bad = len(records) - 1 - len(good)
    return Table(path, by_name, [line for line, _ in good], num_bad)


def _find_delimiter(text: str) -> str:
    """Returns the delimiter that splits the first line into the most cells."""
    header = next((line for line in text.splitlines() if line.strip()), "")

    def num_cells(delimiter: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=delimiter), []))
        except csv.Error:
            return 0

    return max(",;\t", key=num_cells)


def _check_names(path: str, names: Sequence[str]) -> None:
    counts = collections.Counter(names)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise InputError(f"{path}: columns twice: {', '.join(map(repr, repeated))}")


def _read_jsonl(path: str, data: bytes, problems: Problems) -> Table:
    records, lines, faults = [], [], []
    for number, line in enumerate(_decode(path, data, problems).split("\n"), start=1):
        if not line.strip():
            continue
        record = _parse_record(line)
        if isinstance(record, dict):
            records.append(record)
            lines.append(number)
        else:
            faults.append(f"{path}:{number}: {record}")
            problems.error("bad_json", f"{path}:{number}", record)
    if not records:
        first = f": {faults[0]}" if faults else ""
        raise InputError(f"{path}: no line holds a JSON object{first}")
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: [record.get(name) for record in records] for name in names}
    return Table(path, columns, lines, len(faults))


def _parse_record(line: str) -> dict[str, Any] | str:
    """Returns the object on a line, or what is wrong with it."""
    try:
        record = json.loads(line)
        if "\\u" in line:  # half a surrogate pair cannot be written out again
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error}): expected one object a line"
    if not isinstance(record, dict):
        return f"a {type(record).__name__}, expected one object a line"
    return record


def _read_parquet(path: str, data: bytes) -> Table:
    import pyarrow as pa  # slow to import, and most manifests are CSV
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(pa.BufferReader(data)) as file:
            table = file.read()
        names = [str(name) for name in table.column_names]
        cells = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        first_line = str(error).split("\n")[0][:200]
        raise InputError(f"{path}: not a Parquet file ({first_line})") from error
    _check_names(path, names)
    if not table.num_rows:
        raise InputError(f"{path}: a header and no rows")
    columns = dict(zip(names, cells, strict=True))
    return Table(path, columns, list(range(1, table.num_rows + 1)))
