"""What models answered: read from any form of file, joined by id, appended safely.

Forms: JSON lines (what this package writes), one JSON array, CSV or TSV with a header,
and the released scripts' `<model>/<task>.json`, an object keyed by the recording's
name whose records hold `sllm_response` and `sllm_name`; each of them gzipped or not.
"""

import contextlib
import csv
import itertools
import json
import math
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmark import journal, streams
from benchmark.errors import InputError, Problems
from benchmark.typing import Prediction

MAX_RESPONSE_CHARS = 100_000  # a longer answer is cut, and counted
ID_KEYS = ("id", "file")
RESPONSE_KEYS = ("response", "sllm_response", "prediction")
MODEL_KEYS = ("model", "sllm_name")
OWN_ID = "example_id"  # in records keyed by recording, where the id is another
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_KEYED = re.compile(r'\{\s*("([^"\\]|\\.)*"\s*:\s*\{|\}?\s*$)')  # {"a.wav": {...
_BESIDE = re.compile(r"^\.|\.(problems|cache)\.jsonl$")
_SHOWN = 5  # ids in a message


class Joined(NamedTuple):
    """The answers of one model to the examples of one instance."""

    predictions: tuple[Prediction | None, ...]  # one an example, None = missing
    missing: tuple[str, ...]  # ids of examples without a prediction
    unknown: tuple[str, ...]  # ids of predictions without an example
    num_repeated: int  # predictions that say again what another said
    coverage: float  # share of the examples with an answer, NaN without examples


class _Defaults(NamedTuple):
    instance: str
    model: str


def read_predictions(
    path: str | os.PathLike,
    problems: Problems,
    *,
    instance: str = "",
    model: str = "",
) -> Iterator[Prediction]:
    """Yields the predictions of a file, or of the files of a folder, row by row.

    Each row is yielded or recorded as an error. An answer that is no text is written
    as text, null is kept as None, and what is longer than `MAX_RESPONSE_CHARS` is cut:
    each with a warning.

    Args:
      path: file, or a folder with such files (a model's folder of the released form).
      problems: collects the rows that were skipped or changed.
      instance: of rows that name none; of a file keyed by recording it is the file's
        name.
      model: of rows that name none; of a file keyed by recording it is the folder's.

    Raises:
      InputError: no such file, no form that is known, damaged JSON.
    """
    for file in _files(pathlib.Path(path)):
        yield from _read_file(file, problems, _Defaults(instance, model))


def join(
    ids: Sequence[str],
    predictions: Iterable[Prediction],
    problems: Problems | None = None,
    *,
    instance: str = "",
    name: str = "",
) -> Joined:
    """Joins predictions to examples by id, never by order.

    Args:
      ids: of the examples of one instance.
      predictions: of one model; those that name another instance are passed over.
      problems: collects a warning for ids that no example has, for repetitions and
        for examples without a prediction.
      instance: of the examples; '' joins all predictions.
      name: of the instance in messages, where `instance` is not given.

    Returns:
      One prediction or None an example, in the order of `ids`. An answer goes before
      a repetition that has none.

    Raises:
      InputError: two predictions of one example differ, or two examples have one id.
    """
    name = instance or name
    by_id, num_repeated = _index(predictions, instance, name)
    known = set(ids)
    if len(known) < len(ids):
        twice = _shown([i for i, count in _counts(ids).items() if count > 1])
        raise InputError(f"{name}: examples with one id: {twice}")
    missing = tuple(i for i in ids if i not in by_id)
    unknown = tuple(i for i in by_id if i not in known)
    joined = tuple(by_id.get(i) for i in ids)
    answers = sum(p is not None and p.response is not None for p in joined)
    coverage = answers / len(ids) if ids else math.nan
    if problems is not None:
        _record_join(problems, name, missing, unknown, num_repeated)
    return Joined(joined, missing, unknown, num_repeated, coverage)


def group(
    predictions: Iterable[Prediction],
) -> dict[tuple[str, str], list[Prediction]]:
    """Returns the predictions by model and instance, in order of appearance."""
    groups: dict[tuple[str, str], list[Prediction]] = {}
    for prediction in predictions:
        key = (prediction.model, prediction.instance)
        groups.setdefault(key, []).append(prediction)
    return groups


def append_prediction(path: str | os.PathLike, prediction: Prediction) -> None:
    """Appends one JSON line, on the disk when this returns; ends a line left half.

    Raises:
      MachineError: the disk refuses.
    """
    row = {key: getattr(prediction, key) for key in ("instance", "id", "response")}
    row["model"] = prediction.model
    if prediction.scores:
        row["scores"] = dict(prediction.scores)
    journal.append(pathlib.Path(path), row)


def answered(
    path: str | os.PathLike, *, instance: str = "", model: str = ""
) -> set[str]:
    """Returns the ids that a file holds an answer to; none where there is no file.

    What a killed run left of a line, and a null, is no answer: it is asked again.

    Args:
      path: file of `append_prediction`.
      instance: only rows of this one; '' = all.
      model: only rows of this one; '' = all.

    Raises:
      InputError: the file cannot be read.
    """
    if not pathlib.Path(path).exists():
        return set()
    return {
        row.id
        for row in read_predictions(path, Problems())
        if row.response is not None
        and instance in ("", row.instance)
        and model in ("", row.model)
    }


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if _is_predictions(p))
    if not found:
        raise InputError(
            f"{path}: no predictions in this folder; expected {', '.join(_SUFFIXES)}"
        )
    return found


def _is_predictions(path: pathlib.Path) -> bool:
    """True for a file of a known form; problems and caches beside it are none."""
    return (
        path.is_file() and _suffix(path) in _SUFFIXES and not _BESIDE.search(path.name)
    )


def _suffix(path: pathlib.Path) -> str:
    """Returns the suffix in small letters, that below .gz where there is one."""
    name = path.name.lower().removesuffix(".gz")
    return pathlib.PurePath(name).suffix


def _stem(path: pathlib.Path) -> str:
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return pathlib.PurePath(name).stem


def _read_file(
    path: pathlib.Path, problems: Problems, defaults: _Defaults
) -> Iterator[Prediction]:
    chunks = streams.read_chunks(path, problems)
    first = next(chunks, "")
    chunks = itertools.chain([first], chunks)
    where = os.fspath(path)
    if _suffix(path) in (".csv", ".tsv"):
        delimiter = "\t" if _suffix(path) == ".tsv" else ","
        rows = _csv_rows(chunks, where, delimiter, problems)
    elif _is_json_lines(first, _suffix(path)):
        rows = _line_rows(chunks, where, problems)
    else:
        keyed = first.lstrip().startswith("{")
        if keyed:
            names = _stem(path), path.absolute().parent.name
            defaults = _Defaults(
                *(d or n for d, n in zip(defaults, names, strict=True))
            )
        rows = _json_rows(chunks, where, keyed, problems)
    for place, row in rows:
        prediction = _prediction(row, place, defaults, problems)
        if prediction is not None:
            yield prediction


def _is_json_lines(first: str, suffix: str) -> bool:
    """True unless the text is one array, or one object keyed by recording."""
    start = first.lstrip()
    if start.startswith("["):
        return False
    if suffix in (".jsonl", ".ndjson") or not _KEYED.match(start):
        return True
    try:
        row = streams.parse_json(start.partition("\n")[0])
    except ValueError:  # goes on in the next line
        return False
    return isinstance(row, dict) and any(key in row for key in ID_KEYS)


_Rows = Iterator[tuple[str, Mapping[str, Any]]]


def _line_rows(chunks: Iterable[str], where: str, problems: Problems) -> _Rows:
    for line in streams.read_lines(chunks, streams.MAX_RECORD_CHARS):
        place = f"{where}, line {line.number}"
        if line.text is None:
            message = f"over {streams.MAX_RECORD_CHARS} characters, skipped"
            problems.error("long_line", place, message)
        elif line.text.strip():
            row = _object(line.text)
            if row is not None:
                yield place, row
            elif line.ended:
                problems.error("damaged_line", place, "no JSON object, skipped")
            else:
                message = "half a line, left by a run that was killed: skipped"
                problems.error("half_line", place, message)


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        row = streams.parse_json(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _json_rows(
    chunks: Iterable[str], where: str, keyed: bool, problems: Problems
) -> _Rows:
    for key, row in streams.read_json_items(chunks, where):
        place = f"{where}, {'key' if keyed else 'item'} {key[:100]}"
        if not isinstance(row, dict):
            message = f"a {type(row).__name__}, expected an object with a response"
            problems.error("no_record", place, message)
        else:
            yield place, {**row, "id": row.get(OWN_ID) or key} if keyed else row


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Lifts the limit of 131,072 characters a field, which is one of the process."""
    before = csv.field_size_limit(streams.MAX_RECORD_CHARS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_rows(
    chunks: Iterable[str], where: str, delimiter: str, problems: Problems
) -> _Rows:
    lines = (f"{line.text or ''}\n" for line in streams.read_lines(chunks))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = None
    while True:
        try:
            with _long_fields():
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            place = f"{where}, line {reader.line_num}"
            problems.error("damaged_row", place, f"no CSV ({error}), skipped")
            continue
        if not any(cells):
            continue
        if header is None:
            header = _header(cells, where)
        elif len(cells) != len(header):
            message = f"{len(cells)} cells, the header has {len(header)}: skipped"
            problems.error("damaged_row", f"{where}, line {reader.line_num}", message)
        else:
            yield f"{where}, line {reader.line_num}", _csv_row(header, cells)


def _header(cells: list[str], where: str) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    if not {*header} & {*ID_KEYS} or not {*header} & {*RESPONSE_KEYS}:
        raise InputError(
            f"{where}: header {header[:8]}: expected a column {' or '.join(ID_KEYS)} "
            f"and a column {' or '.join(RESPONSE_KEYS)}"
        )
    return header


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(header, cells, strict=True))
    if row.get("scores"):
        row["scores"] = _object(row["scores"])
    return row


def _prediction(
    row: Mapping[str, Any], place: str, defaults: _Defaults, problems: Problems
) -> Prediction | None:
    """Turns a row into a prediction; None and an error row where it is none."""
    identity = _first(row, ID_KEYS)
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if not isinstance(identity, str) or not identity.strip():
        message = f"no id: expected text in {' or '.join(ID_KEYS)}, skipped"
        problems.error("missing_id", place, message)
        return None
    if not any(key in row for key in RESPONSE_KEYS):
        message = f"no answer: expected {' or '.join(RESPONSE_KEYS)}, skipped"
        problems.error("missing_response", place, message)
        return None
    response = _response(_first(row, RESPONSE_KEYS), place, problems)
    return Prediction(
        instance=_name(row.get("instance"), defaults.instance),
        id=streams.clean_text(identity),
        response=response,
        model=_name(_first(row, MODEL_KEYS), defaults.model),
        scores=_scores(row.get("scores"), place, problems),
    )


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> Any:
    for key in keys:
        if row.get(key) is not None:
            return row[key]
    return None


def _name(value: Any, default: str) -> str:
    return streams.clean_text(value) if isinstance(value, str) and value else default


def _response(value: Any, place: str, problems: Problems) -> str | None:
    if value is None:
        problems.warning("null_response", place, "null: counts as no answer")
        return None
    if not isinstance(value, str):
        message = f"a {type(value).__name__}, read as the text of it"
        problems.warning("non_text_response", place, message)
        value = json.dumps(value, ensure_ascii=False)
    if len(value) > MAX_RESPONSE_CHARS:
        message = f"{len(value)} characters, cut to {MAX_RESPONSE_CHARS}"
        problems.warning("long_response", place, message)
        value = value[:MAX_RESPONSE_CHARS]
    text = streams.clean_text(value)
    if text != value:
        message = "holds halves of surrogate pairs, read as U+FFFD"
        problems.warning("invalid_unicode", place, message)
    return text


def _scores(
    value: Any, place: str, problems: Problems
) -> tuple[tuple[str, float], ...]:
    """Returns the posteriors of the options; () with a warning where they are none."""
    if value is None or value == "":
        return ()
    if isinstance(value, dict) and all(_is_number(v) for v in value.values()):
        return tuple(
            (streams.clean_text(key), float(number)) for key, number in value.items()
        )
    message = "expected an object: option -> finite number; left out"
    problems.warning("bad_scores", place, message)
    return ()


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= 1e300  # neither NaN nor more than a float holds


def _index(
    predictions: Iterable[Prediction], instance: str, name: str
) -> tuple[dict[str, Prediction], int]:
    """Returns the predictions by id, and how many only said the same again."""
    by_id: dict[str, Prediction] = {}
    differing, num_repeated = [], 0
    for prediction in predictions:
        if instance and prediction.instance not in ("", instance):
            continue
        other = by_id.setdefault(prediction.id, prediction)
        if other is prediction:
            continue
        num_repeated += 1
        if other.response is None:
            by_id[prediction.id] = prediction
        elif prediction.response not in (None, other.response):
            differing.append((other, prediction))
    if differing:
        _refuse_differing(differing, name)
    return by_id, num_repeated


def _refuse_differing(
    pairs: list[tuple[Prediction, Prediction]], instance: str
) -> None:
    first, second = pairs[0]
    if first.model != second.model:
        cure = f"of two models, {first.model!r} and {second.model!r}: join one model"
    else:
        cure = "keep one of each"
    ids = _shown([pair[0].id for pair in pairs])
    raise InputError(
        f"{instance or 'predictions'}: {len(pairs)} predictions differ from another of "
        f"the same id ({ids}), for example {str(first.response)[:60]!r} and "
        f"{str(second.response)[:60]!r}; {cure}"
    )


def _record_join(
    problems: Problems,
    instance: str,
    missing: Sequence[str],
    unknown: Sequence[str],
    num_repeated: int,
) -> None:
    where = instance or "predictions"
    if missing:
        message = f"{len(missing)} examples without a prediction: {_shown(missing)}"
        problems.warning("missing_predictions", where, message)
    if unknown:
        message = f"{len(unknown)} ids that no example has: {_shown(unknown)}"
        problems.warning("unknown_ids", where, message)
    if num_repeated:
        message = f"{num_repeated} predictions say again what another said"
        problems.warning("repeated_predictions", where, message)


def _counts(ids: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for i in ids:
        counts[i] = counts.get(i, 0) + 1
    return counts


def _shown(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(repr(i[:80]) for i in ids[:_SHOWN]) + more
