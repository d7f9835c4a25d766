"""The registry: the released tasks, and those that a user adds as folders.

`tasks.json` holds the 181 released entries (see make_tasks.py). A user's task is a
folder with an `instance.json` of the official form: name, description, keywords,
metrics, path, version; what that form cannot say may stand beside it (`OWN_KEYS`).
"""

import functools
import hashlib
import importlib.resources
import json
import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from benchmark.errors import InputError, Problems, did_you_mean
from benchmark.typing import Example, Task, TaskType

# Every metric name of the release and the kind of task that it scores.
METRICS: Mapping[str, TaskType] = {
    "llm_classification": "classification",
    "accuracy": "classification",  # in task folders of the first phase
    **dict.fromkeys(
        (
            *("word_error_rate", "character_error_rate", "mix_error_rate"),
            *("phoneme_error_rate", "pos_estimation", "sacre_bleu", "slot_filling"),
            *("named_entity_recognition", "named_entity_localization"),
            *("speaker_diarization", "audio_segment_retrieval"),
            *("sound_event_detection", "music_transcription", "pitch_extraction"),
            *("marble_beat_tracking", "music_beat_tracking"),
            *("speech_command_recognition", "third_tone_sandhi_recognition"),
            "audio_editing_identification",
        ),
        "sequence_generation",
    ),
    **dict.fromkeys(
        (
            *("pearson_correlation_coefficient", "phone_segment_counting"),
            *("speaker_count", "code_switching_count", "singing_mos"),
            *("audio_duration_prediction", "audio_spatial_distance"),
            "sound_position",
        ),
        "regression",
    ),
}
OFFICIAL_KEYS = ("name", "description", "keywords", "metrics", "path", "version")
OWN_KEYS = (
    *("type", "domain", "subdomain", "labels", "synonyms", "multi_label"),
    *("language", "value_range", "unit", "instances"),
)
INSTANCE_FILE = "instance.json"
MAX_INSTANCE_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DEPTH = 3  # folders below a task_dir that are searched


def load_tasks(
    task_dirs: Iterable[str | os.PathLike] = (), problems: Problems | None = None
) -> dict[str, Task]:
    """Returns the released tasks and those found in folders, by name.

    A folder of a released task (the official checkout has one for each) adds its
    place and its revision to the released record.

    Args:
      task_dirs: folders with an `instance.json`, or with such folders below them.
      problems: collects warnings: keys that are not known, revisions that are none.

    Raises:
      InputError: a folder without task, a file that cannot be read, a key at fault,
        a name that is taken.
    """
    tasks = dict(_released())
    for task_dir in task_dirs:
        for folder in _task_folders(pathlib.Path(task_dir)):
            task = _placed(tasks, read_task(folder, problems))
            tasks[task.name] = task
    return tasks


@functools.cache
def _released() -> Mapping[str, Task]:
    resource = importlib.resources.files("benchmark").joinpath("tasks.json")
    rows = json.loads(resource.read_text(encoding="utf-8"))["tasks"]
    return {row["name"]: from_record(row) for row in rows}


def from_record(row: Mapping[str, Any]) -> Task:
    """Returns the task of a JSON record: lists to tuples, null of a range to infinity.

    Raises:
      TypeError: a field that a task does not have, or one that it must have.
    """
    fields = {key: _tuples(value) for key, value in row.items()}
    if limits := fields.get("value_range"):
        low, high = limits
        lowest = -math.inf if low is None else float(low)
        fields["value_range"] = (lowest, math.inf if high is None else float(high))
    return Task(**fields)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def task_of(tasks: Mapping[str, Task], name: str) -> Task | None:
    """Returns the task of this name, or with an instance of this name, or None."""
    if name in tasks:
        return tasks[name]
    return next((task for task in tasks.values() if name in task.instances), None)


def find_task(tasks: Mapping[str, Task], name: str) -> Task:
    """Returns the task of this name, or with an instance (a fold) of this name.

    Raises:
      InputError: no task of this name; names the nearest.
    """
    if task := task_of(tasks, name):
        return task
    folded = {key.casefold(): key for key in tasks}
    near = folded.get(name.casefold())
    hint = f" Did you mean {near!r}?" if near else did_you_mean(name, tasks)
    raise InputError(
        f"task {name!r}: not among the {len(tasks)} tasks.{hint} "
        "`python -m benchmark list` lists them; --task_dir adds your own."
    )


def select_tasks(
    tasks: Mapping[str, Task],
    domain: str = "",
    task_type: str = "",
    metric: str = "",
) -> list[Task]:
    """Returns the tasks of a (sub)domain, type and metric; '' = any.

    Domains match anywhere in the name of domain or subdomain, types by their start,
    both without regard to case; metrics by their whole name.

    Raises:
      InputError: a metric, a type or a domain that no task has.
    """
    if metric:
        check_metric(metric, "--metric")
    types = sorted(set(METRICS.values()))
    if not any(name.startswith(task_type.casefold()) for name in types):
        raise InputError(f"--type {task_type!r}: expected one of {', '.join(types)}")
    places = {name for t in tasks.values() for name in (t.domain, t.subdomain) if name}
    if not any(domain.casefold() in name.casefold() for name in places | {""}):
        known = ", ".join(sorted(places))
        raise InputError(f"--domain {domain!r}: no (sub)domain has it; known: {known}")
    domain, task_type = domain.casefold(), task_type.casefold()
    return [
        task
        for task in tasks.values()
        if domain in f"{task.domain}\n{task.subdomain}".casefold()
        and task.type.startswith(task_type)
        and metric in ("", task.metric)
    ]


def check_metric(metric: str, where: str) -> TaskType:
    """Returns the type of task that a metric scores; `InputError` if unknown."""
    if metric not in METRICS:
        hint = did_you_mean(metric, METRICS)
        known = ", ".join(sorted(METRICS))
        raise InputError(f"{where}: unknown metric {metric!r}.{hint} Known: {known}")
    return METRICS[metric]


def options_of(task: Task, example: Example | None = None) -> tuple[str, ...]:
    """Returns the options of a closed question that are known without its prose.

    Args:
      task: of the example.
      example: may name its own in a column `options`.

    Returns:
      The example's `options`, else the task's labels; () where both are silent and
      the options stand in the prose of the instruction.
    """
    options = example.extra.get("options") if example is not None else None
    if isinstance(options, list | tuple) and options:
        return tuple(str(option) for option in options)
    return task.labels


def revision_of(task: Task, instance: str) -> str:
    """Returns the commit of an instance's data, '' where it is not known."""
    return dict(zip(task.instances, task.revisions, strict=False)).get(instance, "")


def fingerprint(task: Task) -> str:
    """Returns 12 hex digits that change with any field of a record but `folder`."""
    text = json.dumps(task._replace(folder="")._asdict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_task(folder: str | os.PathLike, problems: Problems | None = None) -> Task:
    """Reads a user's task from the `instance.json` of its folder.

    Args:
      folder: that holds the file.
      problems: collects warnings: keys that are not known, a revision that is none.

    Raises:
      InputError: naming file, key and what was expected.
    """
    path = pathlib.Path(folder) / INSTANCE_FILE
    row = read_object(path)
    for key in row.keys() - {*OFFICIAL_KEYS, *OWN_KEYS}:
        hint = did_you_mean(key, (*OFFICIAL_KEYS, *OWN_KEYS))
        _warn(problems, "unknown_key", path, f"{key!r} is not known, ignored.{hint}")
    name = _text(row, "name", path)
    if not _NAME.fullmatch(name):
        _refuse(path, "name", "letters, digits and . _ + - only, as a file name", name)
    metric = _metric(row, path, problems)
    task_type = _type(row, metric, path)
    labels = _texts(row, "labels", path)
    multi_label = _flag(row, "multi_label", path)
    closed = labels and task_type == "classification" and not multi_label
    version = _version(row, path, problems)
    return Task(
        name=name,
        type=task_type,
        metric=metric,
        domain=_text(row, "domain", path, ""),
        subdomain=_text(row, "subdomain", path, ""),
        phase="user",
        instances=_texts(row, "instances", path) or (name,),
        hf_datasets=tuple(filter(None, [_text(row, "path", path, "")])),
        revisions=(version,),
        labels=labels,
        synonyms=_synonyms(row, labels, path),
        multi_label=multi_label,
        language=_text(row, "language", path, ""),
        value_range=_range(row, path),
        unit=_text(row, "unit", path, ""),
        chance=1 / len(labels) if closed else None,
        folder=os.fspath(path.parent),
    )


def about(task: Task, instance: str, revision: str = "") -> dict[str, Any]:
    """Returns the instance.json of an instance, of the official form.

    Args:
      task: of the instance; one that a user added keeps what the form cannot say.
      instance: its name.
      revision: commit of the data that it describes, '' = not known.
    """
    datasets = dict(zip(task.instances, task.hf_datasets, strict=False))
    row: dict[str, Any] = {
        "name": instance,
        "description": f"{task.type} task {task.name}",
        "keywords": [word for word in (task.domain, task.subdomain) if word],
        "metrics": [task.metric],
        "path": datasets.get(instance, ""),
        "version": revision,
    }
    if task.phase == "user":
        own = {key: getattr(task, key) for key in OWN_KEYS}
        own.update(synonyms=dict(task.synonyms), instances=None)
        if task.value_range:
            own["value_range"] = [
                v if abs(v) < math.inf else None for v in task.value_range
            ]
        row.update({key: value for key, value in own.items() if value})
    return row


def _task_folders(task_dir: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders with an instance.json at or below a folder, sorted."""
    if not task_dir.is_dir():
        raise InputError(f"{task_dir}: no such folder; --task_dir wants a folder")
    patterns = ["/".join(["*"] * depth + [INSTANCE_FILE]) for depth in range(_DEPTH)]
    found = sorted(path.parent for p in patterns for path in task_dir.glob(p))
    if not found:
        raise InputError(
            f"{task_dir}: no {INSTANCE_FILE} in it or {_DEPTH - 1} folders below; a "
            f"task is a folder with one: {', '.join(OFFICIAL_KEYS)}"
        )
    return found


def _placed(tasks: Mapping[str, Task], task: Task) -> Task:
    """Returns the task, or the released one of its name with its folder and revision.

    Raises:
      InputError: another task has the name.
    """
    released = task_of(_released(), task.name)
    if released is None and task.name not in tasks:
        return task
    if released and (
        not task.hf_datasets or task.hf_datasets[0] in released.hf_datasets
    ):
        return _refined(tasks[released.name], task)
    other = tasks[released.name if released else task.name]
    place = other.folder or f"a released task with the data {other.hf_datasets[0]}"
    raise InputError(
        f"{task.folder}/{INSTANCE_FILE}: key 'name': {task.name!r} is taken by "
        f"{place}; give this task another name"
    )


def _refined(released: Task, task: Task) -> Task:
    """Adds the folder and the revision of an official task folder."""
    index = (
        released.instances.index(task.name) if task.name in released.instances else 0
    )
    revisions = list(released.revisions)
    revisions[index] = task.revisions[0] or revisions[index]
    return released._replace(revisions=tuple(revisions), folder=task.folder)


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """Reads a small JSON file that holds one object; `InputError` if it does not."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INSTANCE_BYTES + 1)
        if len(data) > MAX_INSTANCE_BYTES:
            raise InputError(f"{path}: over {MAX_INSTANCE_BYTES} bytes, no task")
        row = json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON in UTF-8 ({error}); mend it") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}: a {type(row).__name__}, expected one JSON object")
    return row


def _refuse(path: pathlib.Path, key: str, expected: str, found: Any) -> NoReturn:
    text = repr(found)
    text = text if len(text) < 80 else text[:77] + "..."
    raise InputError(f"{path}: key {key!r}: expected {expected}, found {text}")


def _text(
    row: Mapping[str, Any], key: str, path: pathlib.Path, default: str | None = None
) -> str:
    """Returns a text; a missing key is a fault where there is no default."""
    value = row.get(key)
    if value is None:
        value = default
    if value is None:
        raise InputError(f"{path}: key {key!r} is missing, expected text")
    if not isinstance(value, str):
        _refuse(path, key, "text", value)
    return value


def _texts(row: Mapping[str, Any], key: str, path: pathlib.Path) -> tuple[str, ...]:
    values = row.get(key) or []
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        _refuse(path, key, "a list of texts", values)
    if len(set(values)) < len(values) or not all(v.strip() for v in values):
        _refuse(path, key, "texts that are not blank, each once", values)
    return tuple(values)


def _flag(row: Mapping[str, Any], key: str, path: pathlib.Path) -> bool:
    value = row.get(key, False)
    if not isinstance(value, bool):
        _refuse(path, key, "true or false", value)
    return value


def _metric(
    row: Mapping[str, Any], path: pathlib.Path, problems: Problems | None
) -> str:
    """Returns the first metric; the official form holds a list, or one name."""
    given = row.get("metrics")
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        _refuse(path, "metrics", "a list with the name of a metric", given)
    check_metric(names[0], f"{path}: key 'metrics'")
    if len(names) > 1:
        message = (
            f"key 'metrics': {names[0]} is used, not {', '.join(map(str, names[1:]))}"
        )
        _warn(problems, "more_metrics", path, message)
    return names[0]


def _type(row: Mapping[str, Any], metric: str, path: pathlib.Path) -> TaskType:
    task_type = METRICS[metric]
    given = row.get("type", task_type)
    if given != task_type:
        _refuse(path, "type", f"{task_type!r} with the metric {metric!r}", given)
    return task_type


def _version(
    row: Mapping[str, Any], path: pathlib.Path, problems: Problems | None
) -> str:
    """Returns the commit of the data, '' where the key holds none."""
    version = _text(row, "version", path, "")
    if not _COMMIT.fullmatch(version):
        message = f"key 'version': {version!r} is no commit (40 hex digits): not pinned"
        _warn(problems, "no_revision", path, message)
        return ""
    return version


def _synonyms(
    row: Mapping[str, Any], labels: Sequence[str], path: pathlib.Path
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    table = row.get("synonyms") or {}
    if not isinstance(table, dict):
        _refuse(path, "synonyms", "an object: label -> list of spellings", table)
    for label in table:
        if label not in labels:
            _refuse(path, "synonyms", f"labels of {list(labels)}", label)
    return tuple((label, _texts(table, label, path)) for label in table)


def _range(row: Mapping[str, Any], path: pathlib.Path) -> tuple[float, float] | None:
    """Returns the lowest and highest value; null on either side is no limit."""
    value = row.get("value_range")
    if value is None:
        return None
    expected = "[lowest, highest], numbers or null"
    if not isinstance(value, list) or len(value) != 2:
        _refuse(path, "value_range", expected, value)
    low, high = (
        default if v is None else v
        for v, default in zip(value, (-math.inf, math.inf), strict=True)
    )
    numbers = all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high)
    )
    if not numbers or not low < high:
        _refuse(path, "value_range", expected, value)
    return float(low), float(high)


def _warn(
    problems: Problems | None, kind: str, path: pathlib.Path, message: str
) -> None:
    if problems is not None:
        problems.warning(kind, os.fspath(path), message)
