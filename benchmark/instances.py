"""The examples of one instance: read row by row from any released form.

Forms: a dataset's parquet files, whose recordings are bytes in the rows; a folder with
`metadata.json` keyed by recording, the recordings beside it (`x_pair2.wav`,
`x_pair3.wav` are further inputs of x.wav); the same records with a model's responses.
"""

import ast
import contextlib
import functools
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmark import streams
from benchmark.audio import SAMPLE_RATE, load, load_bytes
from benchmark.errors import InputError, Problems
from benchmark.headers import is_audio_name
from benchmark.typing import Audio, Example, Task

DATASET_FOLDERS = ("data", "default", "test")  # of a dataset on the hub
METADATA = "metadata.json"
OWN_ID = "example_id"  # in a record whose id is not the name of its recording
MAX_SECONDS = 600.0  # of one recording; what is longer is cut, with a warning
ID_COLUMNS = ("file", "file1", "id")
AUDIO_PAIRS = ("enrollment", "testing", "query", "doc")  # irregular names, in order
SPEAKER_COLUMNS = ("speaker", "speaker_id")
RESPONSE_COLUMNS = ("sllm_name", "sllm_response")  # belong to predictions
_NUMBERED = re.compile(r"(audio|text|label)(\d*)")
_SEPARATORS = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_BATCH_ROWS = 8  # rows with recordings held at a time
_MAX_PAIRS = 64


def read_instance(
    source: str | os.PathLike,
    task: Task,
    instance: str,
    problems: Problems,
) -> Iterator[Example]:
    """Yields the examples of an instance; memory does not grow with their number.

    Args:
      source: parquet file, folder with parquet files (those of the split `test` where
        there are several), `metadata.json` or its folder, or a folder that holds the
        instance's folder.
      task: of the instance; says whether a label is a list of labels.
      instance: its name, '' = the task's first.
      problems: collects the rows that are skipped or doubtful.

    Yields:
      One example a row; recordings as paths or bytes, nothing is decoded.

    Raises:
      InputError: no such data, or a file that is damaged.
    """
    instance = instance or task.instances[0]
    for file in find_files(source, instance):
        if file.suffix.lower() == ".parquet":
            yield from _read_parquet(file, task, instance, problems)
        else:
            yield from _read_local(file, task, instance, problems)


def find_files(source: str | os.PathLike, instance: str = "") -> list[pathlib.Path]:
    """Returns the files that hold an instance's rows.

    What lies in the folder of another instance is never taken for this one.

    Raises:
      InputError: none of the forms that are known.
    """
    path = pathlib.Path(source)
    if path.suffix.lower() in (".parquet", ".json") and path.is_file():
        return [path]
    if (path / METADATA).is_file():
        return [path / METADATA]
    if instance and (path / instance).is_dir():
        return find_files(path / instance)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else []
    if instance and path.name != instance:
        files = [f for f in files if _is_own(f.relative_to(path))]
    if not files:
        found = "is there" if path.exists() else "does not exist"
        raise InputError(
            f"{path}: {found}, and holds no data: expected a .parquet file, a folder "
            f"with some, or a folder with {METADATA} and recordings"
        )
    test = [file for file in files if _is_test_split(file.relative_to(path))]
    return test or files


def _is_own(file: pathlib.Path) -> bool:
    """Tells whether a parquet file lies where a dataset of its own keeps it."""
    return len(file.parts) == 1 or file.parts[0] in DATASET_FOLDERS


def load_audio(
    audio: Audio,
    where: str = "",
    sample_rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    problems: Problems | None = None,
) -> Float[np.ndarray, " samples"]:
    """Decodes one input of an example.

    Args:
      audio: a file, or the bytes of one.
      where: name of the example in messages; a file is named by its path.
      sample_rate: Hz of the result.
      max_seconds: what is longer is cut, with a warning.
      problems: collects warnings.

    Returns:
      [samples] float32 mono, full scale 1.

    Raises:
      AudioError: (an `InputError`) it cannot be used, see `benchmark.audio.load`.
    """
    if audio.path:
        return load(audio.path, sample_rate, max_seconds, problems)
    name = where or "recording in memory"
    return load_bytes(audio.data, name, sample_rate, max_seconds, problems)


def safe_path(folder: str | os.PathLike, name: str, is_opened: bool = True) -> str:
    """Returns the path of a file that a row names, which must lie in the folder.

    Args:
      folder: that the name is read in.
      name: of the file.
      is_opened: whether links are followed, to see where they lead.

    Raises:
      InputError: an absolute name, one with '..', or a link that leads elsewhere.
    """
    pieces = _SEPARATORS.split(name)
    is_plain = name and "\0" not in name and name == streams.clean_text(name)
    if not is_plain or ".." in pieces or not pieces[0] or _DRIVE.match(name):
        raise InputError(f"{name[:100]!r} is no name of a file in {folder}")
    path = os.path.join(folder, name)
    if not is_opened or (len(pieces) == 1 and not os.path.islink(path)):
        return path
    root = os.path.realpath(folder)
    if os.path.commonpath([root, os.path.realpath(path)]) != root:
        raise InputError(f"{name[:100]!r} leads out of {folder}")
    return path


def _is_test_split(path: pathlib.Path) -> bool:
    return any(re.match(r"test\b|test[-_.]", piece) for piece in path.parts)


def _read_parquet(
    file: pathlib.Path, task: Task, instance: str, problems: Problems
) -> Iterator[Example]:
    for number, row in enumerate(_parquet_rows(file), 1):
        place = f"{file}, row {number}"
        identity = _identity(row)
        if identity is None:
            message = f"no id in {', '.join(ID_COLUMNS)}: skipped"
            problems.error("missing_id", place, message)
            continue
        try:
            audios = _row_audios(row, file.parent, place, problems)
        except InputError as error:
            problems.error("unsafe_path", place, f"{error}: skipped")
            continue
        example = _example(row, identity, instance, task, audios, place, problems)
        if example is not None:
            yield example


def _parquet_rows(file: pathlib.Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(
            file, buffer_size=1 << 20, pre_buffer=False
        ) as table:
            for batch in table.iter_batches(_BATCH_ROWS, use_threads=False):
                yield from batch.to_pylist()
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        LookupError,
        OverflowError,
    ) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else repr(error)
        raise InputError(
            f"{file}: cannot be read ({reason}); fetch it again"
        ) from error


def _identity(row: Mapping[str, Any]) -> str | None:
    for column in ID_COLUMNS:
        value = row.get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _row_audios(
    row: Mapping[str, Any], folder: pathlib.Path, place: str, problems: Problems
) -> tuple[Audio, ...]:
    """Returns the recordings of a row in the order of their columns."""
    columns = [
        *_numbered(row, "audio"),
        *(c for c in AUDIO_PAIRS if _is_audio(row.get(c))),
    ]
    audios = []
    for column in columns:
        value = row[column]
        data = value.get("bytes") if isinstance(value, dict) else value
        name = value.get("path") if isinstance(value, dict) else value
        if isinstance(data, bytes) and data:
            audios.append(Audio(data=data))
        elif isinstance(name, str) and name:
            audios.append(Audio(path=safe_path(folder, name)))
        else:
            message = f"column {column!r} holds no recording: left out"
            problems.warning("null_audio", place, message)
    return tuple(audios)


def _is_audio(value: Any) -> bool:
    return isinstance(value, bytes) or (isinstance(value, dict) and "bytes" in value)


def _numbered(row: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """Returns the columns x, x1, x2 ... that a row has, in this order."""
    return _numbered_of(tuple(row), kind)


@functools.lru_cache(maxsize=256)  # rows of a file have the same columns
def _numbered_of(columns: tuple[str, ...], kind: str) -> tuple[str, ...]:
    found = []
    for column in columns:
        match = _NUMBERED.fullmatch(column)
        if match and match[1] == kind:
            found.append((int(match[2] or 0), column))
    return tuple(column for _, column in sorted(found))


def _read_local(
    file: pathlib.Path, task: Task, instance: str, problems: Problems
) -> Iterator[Example]:
    folder = os.fspath(file.parent)
    chunks = streams.read_chunks(file, problems)
    first = next(chunks, "")
    if not first.lstrip().startswith("{"):
        raise InputError(f"{file}: expected an object keyed by the recordings' names")
    has_audio = _has_audio(folder)
    if not has_audio:
        message = "no recordings beside it: examples are read without"
        problems.warning("no_recordings", os.fspath(file), message)
    chunks = itertools.chain([first], chunks)
    for key, row in streams.read_json_items(chunks, os.fspath(file)):
        place = f"{file}, key {key[:100]}"
        if not isinstance(row, dict):
            message = f"a {type(row).__name__}, expected an object: skipped"
            problems.error("no_record", place, message)
            continue
        try:
            main = safe_path(folder, key, has_audio)
            audios = _local_audios(main) if has_audio else ()
        except InputError as error:
            problems.error("unsafe_path", place, f"{error}: skipped")
            continue
        identity = _as_text(row.get(OWN_ID) or key)
        example = _example(row, identity, instance, task, audios, place, problems)
        if example is not None:
            yield example


def _has_audio(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(is_audio_name(entry.name) or entry.is_dir() for entry in entries)


def _local_audios(main: str) -> tuple[Audio, ...]:
    """Returns the recording that a key names, be it there or not, and further ones."""
    folder, name = os.path.split(main)
    audios = [Audio(path=main)]
    for number in range(2, _MAX_PAIRS):
        further = pair_name(name, number)
        if not os.path.lexists(os.path.join(folder, further)):
            break
        audios.append(Audio(path=safe_path(folder, further)))
    return tuple(audios)


def pair_name(name: str, number: int) -> str:
    """Returns the name of the n-th recording of an example, from that of the first."""
    if number == 1:
        return name
    return f"{name.removesuffix('.wav')}_pair{number}.wav"


def _example(
    row: Mapping[str, Any],
    identity: str,
    instance: str,
    task: Task,
    audios: tuple[Audio, ...],
    place: str,
    problems: Problems,
) -> Example | None:
    """Turns a row into an example; None and an error where it asks nothing."""
    instruction = row.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        message = "no text in 'instruction': skipped"
        problems.error("missing_instruction", place, message)
        return None
    texts = [*_numbered(row, "text")]
    texts += [c for c in AUDIO_PAIRS if c in row and _is_prose(row[c])]
    speaker = next((row[c] for c in SPEAKER_COLUMNS if row.get(c) is not None), "")
    return Example(
        id=identity,
        instance=instance,
        instruction=streams.clean_text(instruction),
        references=_references(row, task.multi_label, place, problems),
        audios=audios,
        texts=tuple(_as_text(row[c]) for c in texts if row[c] is not None),
        speaker=_as_text(speaker),
        extra={k: v for k, v in row.items() if _is_extra(k) and not _is_audio(v)},
    )


def _is_prose(value: Any) -> bool:
    return isinstance(value, str) and not is_audio_name(value)


@functools.lru_cache(maxsize=1024)
def _is_extra(column: str) -> bool:
    known = (*AUDIO_PAIRS, *SPEAKER_COLUMNS, *RESPONSE_COLUMNS, OWN_ID, "instruction")
    return column not in known and not _NUMBERED.fullmatch(column)


def _references(
    row: Mapping[str, Any], multi_label: bool, place: str, problems: Problems
) -> tuple[str, ...]:
    """Returns what is expected, as text; of a multi-label task each label once."""
    values = []
    for column in _numbered(row, "label"):
        value = row[column]
        values.extend(value if isinstance(value, list | tuple) else [value])
    values = [value for value in values if value is not None]
    if not values:
        problems.warning("missing_label", place, "no label: it cannot be scored")
    if not all(isinstance(value, str) for value in values):
        kinds = ", ".join(sorted({type(v).__name__ for v in values} - {"str"}))
        problems.warning("non_text_label", place, f"label of type {kinds}, made text")
    texts = [_as_text(value) for value in values]
    if multi_label:
        parts = (part for text in texts for part in split_labels(text))
        texts = dict.fromkeys(parts)
    return tuple(texts)


def split_labels(text: str) -> tuple[str, ...]:
    """Splits several labels in one text: 'a, b', "['a', 'b']" or '["a", "b"]'."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            values = ast.literal_eval(text)
            if isinstance(values, list):
                return tuple(_as_text(v).strip() for v in values)
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return streams.clean_text(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
