"""The single answers: who heard which emotion in which clip, and how strongly.

`finishedResponses.csv` holds one answer a row. Its `localid` is documented as "a
participant identifier" and is what the authors' own script groups by to describe a
rater; ids read 'SSI_1132064474'. `sessionNums` is "the distinct number for the
session". An independent public analysis of the file (fetched in August 2026) counts
219,688 rows, exactly 2,443 distinct `localid` (the published number of participants)
and finds the session to be one-to-one with it, so `localid` is the rater. Two rows
repeat a (rater, clip, modality); three hold no level.
"""

import collections
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.crema_d.lines import Header, Row, open_rows
from metaperser_jax.data.crema_d.spec import LETTERS, MODALITIES
from metaperser_jax.data.manifest.tables import parse_number
from metaperser_jax.errors import InputError, Problems

CLIP_NAME = re.compile(r"\d{4}_[A-Z]{3}_(?:ANG|DIS|FEA|HAP|NEU|SAD)_(?:LO|MD|HI|XX)")
LEVEL_LIMITS = (0.0, 100.0)
ROW = np.dtype(
    [
        ("line", np.int32),  # of the file
        ("clip", np.int32),  # index into Answers.clips
        ("rater", np.int32),  # index into Answers.raters
        ("modality", np.int8),  # index into MODALITIES
        ("label", np.int8),  # index into CLASSES
        ("level", np.float32),  # intensity 0-100, NaN = not given
        ("response_ms", np.float32),  # NaN = not known
        ("session", np.int64),  # -1 = not known
        ("question", np.int64),  # -1 = not known
    ]
)
_MODALITY_OF = {
    **{str(number): number - 1 for number in (1, 2, 3)},  # the query type
    **{name: index for index, name in enumerate(MODALITIES)},
    "audiovisual": MODALITIES.index("audio_visual"),
}
_LABEL_OF = {letter: index for index, letter in enumerate(LETTERS)}


class Layout(NamedTuple):
    """Names of the columns of one form of the table."""

    clip: str
    rater: str
    modality: str
    label: str
    level: str
    response_ms: str


LAYOUTS = (
    Layout("clipName", "localid", "queryType", "respEmo", "respLevel", "ttr"),
    Layout("clip", "annotator", "modality", "label", "level", "response_ms"),
)
_QUESTION_COLUMNS = ("sessionNums", "questNum")  # together they name a question


class Answers(NamedTuple):
    """All answers that can be used, in the order of the file."""

    path: str
    rows: np.ndarray  # [answers] ROW
    clips: tuple[str, ...]  # in the order of their first row
    raters: tuple[str, ...]  # in the order of their first row
    num_read: int  # rows of the file, those skipped included


class _Fault(NamedTuple):
    kind: str
    message: str


def read_answers(
    path: str | os.PathLike, problems: Problems, shown_as: str | None = None
) -> Answers:
    """Reads a table of answers, finished responses or the layout of the sample.

    Columns are found by name, in any order. A row that cannot be used is an error row:
    `ragged_row`, `bad_clip_name`, `no_rater`, `bad_modality`, `bad_label`, or
    `duplicate_answer` where the rater answered the clip before in the same modality
    (the first answer is kept). A level that is no number from 0 to 100 is taken as not
    given (warning `bad_level`), a negative time as not known (`bad_response_time`).

    Args:
      path: CSV file, plain or gzipped.
      problems: collects the rows.
      shown_as: name of the file in messages; its path by default.

    Returns:
      The answers; `num_read` = the answers kept + the error rows.

    Raises:
      InputError: the file cannot be read, lacks a column, or holds no usable answer.
    """
    name = shown_as or os.fspath(path)
    clips: dict[str, int] = {}
    raters: dict[str, int] = {}
    counts: collections.Counter[str] = collections.Counter()
    with open_rows(path) as (header, lines):
        parse = _row_parser(header, clips, raters)
        good = _good_rows(lines, parse, name, problems, counts)
        rows = np.fromiter(good, ROW)
    rows = _first_answers(rows, tuple(clips), tuple(raters), name, problems)
    if not rows.size:
        raise InputError(f"{path}: no answer can be used.\n{problems.summary()}")
    return Answers(name, rows, tuple(clips), tuple(raters), counts["read"])


def _row_parser(
    header: Header, clips: dict[str, int], raters: dict[str, int]
) -> Callable[[list[str]], tuple[Any, ...] | _Fault]:
    """Returns a function from cells to a row without its line number, or a fault."""
    layout = max(LAYOUTS, key=lambda names: len(set(names) & set(header.names)))
    columns = header.columns(layout)
    question = (
        header.columns(_QUESTION_COLUMNS)
        if set(_QUESTION_COLUMNS) <= set(header.names)
        else None
    )

    def parse(cells: list[str]) -> tuple[Any, ...] | _Fault:
        if len(cells) != len(header.names):
            message = f"{len(cells)} cells under {len(header.names)} columns"
            return _Fault("ragged_row", message)
        clip, rater, modality, label, level, time = (
            cells[column].strip() for column in columns
        )
        fault = _id_fault(clip, rater, clips) or _answer_fault(modality, label)
        if fault:
            return fault
        place = (-1, -1)
        if question:
            place = tuple(_whole(cells[column]) for column in question)
        return (
            clips.setdefault(clip, len(clips)),
            raters.setdefault(rater, len(raters)),
            _MODALITY_OF[modality.lower()],
            _LABEL_OF[label.upper()],
            _within(level, *LEVEL_LIMITS),
            _within(time, 0.0, 1e9),
            *place,
            level,
            time,
        )

    return parse


def _id_fault(clip: str, rater: str, clips: dict[str, int]) -> _Fault | None:
    if clip not in clips and not CLIP_NAME.fullmatch(clip):
        message = f"clip {clip!r}, expected a name such as '1001_DFA_ANG_XX'"
        return _Fault("bad_clip_name", message)
    if not rater or "\ufffd" in rater:
        return _Fault("no_rater", f"rater {rater!r}, expected an id")
    return None


def _answer_fault(modality: str, label: str) -> _Fault | None:
    if modality.lower() not in _MODALITY_OF:
        known = ", ".join(_MODALITY_OF)
        return _Fault("bad_modality", f"modality {modality!r}, expected one of {known}")
    if label.upper() not in _LABEL_OF:
        return _Fault("bad_label", f"label {label!r}, expected one letter of {LETTERS}")
    return None


def _within(cell: str, low: float, high: float) -> float | None:
    """Returns a number, NaN for a missing cell, None for what is neither."""
    value = parse_number(cell)
    return None if value is None or value < low or value > high else value


def _whole(cell: str) -> int:
    text = cell.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else -1


def _good_rows(
    lines: Iterator[Row],
    parse: Callable[[list[str]], tuple[Any, ...] | _Fault],
    name: str,
    problems: Problems,
    counts: collections.Counter[str],
) -> Iterator[tuple[Any, ...]]:
    """Yields the rows that can be used; the others become problems."""
    for line, cells, fault in lines:
        counts["read"] += 1
        parsed = _Fault("ragged_row", fault) if fault else parse(cells)
        if isinstance(parsed, _Fault):
            problems.error(parsed.kind, f"{name}:{line}", parsed.message)
            continue
        *ids, level, time, session, question, level_cell, time_cell = parsed
        if level is None or level != level:
            message = f"level {level_cell!r}, expected 0 to 100: taken as not given"
            problems.warning("bad_level", f"{name}:{line}", message)
        if time is None:
            message = f"response time {time_cell!r} ms: taken as not known"
            problems.warning("bad_response_time", f"{name}:{line}", message)
        yield (line, *ids, _or_nan(level), _or_nan(time), session, question)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _first_answers(
    rows: np.ndarray,
    clips: tuple[str, ...],
    raters: tuple[str, ...],
    name: str,
    problems: Problems,
) -> np.ndarray:
    """Leaves out later answers of a rater to the same clip in the same modality."""
    key = rows["rater"].astype(np.int64) * max(len(clips), 1) + rows["clip"]
    key = key * len(MODALITIES) + rows["modality"]
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    keep = first[group.reshape(-1)] == np.arange(len(rows))
    for index in np.flatnonzero(~keep).tolist():
        row, kept = rows[index], rows[first[group.reshape(-1)[index]]]
        same = "the same" if row["label"] == kept["label"] else "another"
        message = (
            f"rater {raters[row['rater']]!r} answered {clips[row['clip']]!r} before "
            f"(line {kept['line']}, {MODALITIES[row['modality']]}) with {same} label; "
            "the first is kept"
        )
        problems.error("duplicate_answer", f"{name}:{row['line']}", message)
    return rows[keep]
