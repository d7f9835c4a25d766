"""The scores of a model on disk: `scores.json`, `scores.csv` and `examples.jsonl`.

A folder holds one model. `scores.json` is small and has every number with what
qualifies it; `examples.jsonl` has one line an example, for the report and for paired
tests.
"""

import csv
import io
import json
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmark import display
from benchmark.errors import InputError, MachineError
from benchmark.tasks import from_record
from benchmark.typing import Score, Task

FORMAT = 1
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
SCORES, TABLE, EXAMPLES = "scores.json", "scores.csv", "examples.jsonl"


class Row(NamedTuple):
    """One example with what a model answered and what the answer counts."""

    task: str
    instance: str
    id: str
    model: str
    instruction: str
    references: tuple[str, ...]
    response: str | None  # None = no answer
    outcome: (
        str  # a Parsed's, or 'missing', 'read', 'rewritten', 'scored', 'unreadable'
    )
    read_as: str  # options, number or text that was scored
    decided_by: str  # 'parser', 'judge', 'metric', ''
    correct: bool | None  # None where answers are not right or wrong
    speaker: str = ""
    audios: tuple[str, ...] = ()  # paths, '' for audio within a parquet file
    texts: tuple[str, ...] = ()
    reason: str = ""  # of the parser or the judge
    judge_text: str = ""
    statistics: tuple[float, ...] = ()  # their sum gives the metric


class Results(NamedTuple):
    """What `write_results` wrote for one model."""

    folder: pathlib.Path
    model: str
    scores: tuple[Score, ...]  # of instances; the headline metric first
    task_scores: tuple[Score, ...]  # headline, folds averaged
    tasks: Mapping[str, Task]
    problems: Mapping[str, int]


def check_folder(folder: pathlib.Path, model: str) -> None:
    """Refuses a folder with the scores of another model (`InputError`)."""
    if (folder / SCORES).is_file():
        known = read_results(folder).model
        if known != model:
            raise InputError(
                f"{folder}: holds scores of {known!r}, not of {model!r}; give each "
                "model a folder of its own with --out"
            )


def row_lines(rows: Iterable[Row]) -> Iterator[str]:
    """Yields the lines of `examples.jsonl`."""
    for row in rows:
        yield _ENCODE(row._asdict()) + "\n"


def write_results(results: Results) -> None:
    """Writes `scores.csv` and `scores.json`."""
    text = scores_csv((*results.task_scores, *results.scores))
    write_text(results.folder / TABLE, text)
    record = {
        "format": FORMAT,
        "model": results.model,
        "task_scores": [plain(score) for score in results.task_scores],
        "scores": [plain(score) for score in results.scores],
        "tasks": {name: plain(task) for name, task in results.tasks.items()},
        "problems": dict(results.problems),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(results.folder / SCORES, text + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file that is never seen half written; `MachineError` if it cannot be."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(path)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror})") from error


def read_results(folder: pathlib.Path) -> Results:
    """Reads `scores.json` of a folder.

    Raises:
      InputError: no such file, or not one that `write_results` wrote.
    """
    path = folder / SCORES
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; name a folder that `score --out` wrote"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise InputError(
                f"{path}: format {record['format']!r}, this version reads {FORMAT}; "
                "score again"
            )
        return Results(
            folder,
            str(record["model"]),
            tuple(_score(fields) for fields in record["scores"]),
            tuple(_score(fields) for fields in record["task_scores"]),
            {name: from_record(fields) for name, fields in record["tasks"].items()},
            record["problems"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); score again") from error


def read_rows(folder: pathlib.Path) -> Iterator[Row]:
    """Yields the examples of a folder.

    Raises:
      InputError: no such file, or a line that `write_results` did not write.
    """
    path = folder / EXAMPLES
    if not path.is_file():
        raise InputError(f"{path}: no such file; score again")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                fields = json.loads(line)
                for name in ("references", "audios", "texts", "statistics"):
                    fields[name] = tuple(fields[name])
                yield Row(**fields)
            except (ValueError, KeyError, TypeError) as error:
                message = f"{path}:{number}: damaged ({error!r}); score again"
                raise InputError(message) from error


def scores_csv(scores: Sequence[Score]) -> str:
    """Returns a table of scores as CSV that no spreadsheet takes for formulas."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Score._fields)
    for score in scores:
        cells = plain(score)
        cells["notes"] = "; ".join(score.notes)
        cells["provenance"] = json.dumps(cells["provenance"], ensure_ascii=False)
        writer.writerow([display.csv_safe(cells[name]) for name in Score._fields])
    return file.getvalue()


def plain(record: Any) -> dict[str, Any]:
    """Returns a NamedTuple as a dict for JSON; what is not finite becomes None."""
    return {name: _plain(value) for name, value in record._asdict().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _score(fields: dict[str, Any]) -> Score:
    return Score(**{**fields, "notes": tuple(fields["notes"])})
