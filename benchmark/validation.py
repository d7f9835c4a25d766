"""What is wrong with the data of an instance, found before a model is run on it."""

import collections
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmark import instances, tasks
from benchmark.audio import SAMPLE_RATE
from benchmark.errors import Problems
from benchmark.headers import AudioError
from benchmark.typing import Audio, Example, Task

MAX_TASK_SECONDS = 3_600.0  # of recordings, a rule of the release
MIN_INSTRUCTIONS = 10  # different ones, and one for 20 examples: a rule too


class Validation(NamedTuple):
    """What was found in an instance."""

    task: str
    instance: str
    num_examples: int
    num_recordings: int
    seconds: float  # of all recordings
    num_instructions: int  # different ones
    labels: tuple[tuple[str, int], ...]  # the references and how often, the first 50
    problems: Problems

    @property
    def num_errors(self) -> int:
        """How many findings make the data unfit."""
        return sum(problem.severity == "error" for problem in self.problems.rows)


class Finding(NamedTuple):
    """All problems of one kind."""

    severity: str
    kind: str
    count: int
    where: str  # the first place
    message: str  # what was wrong there


class _Totals:
    """What is counted over the examples of an instance."""

    def __init__(self):
        self.ids: collections.Counter[str] = collections.Counter()
        self.labels: collections.Counter[str] = collections.Counter()
        self.instructions: set[str] = set()
        self.num_recordings, self.seconds = 0, 0.0


def validate_instance(
    source: str | os.PathLike,
    task: Task,
    instance: str = "",
    *,
    problems: Problems | None = None,
    decode: bool = True,
) -> Validation:
    """Checks an instance: columns, ids, labels, recordings, instructions, revision.

    Errors are rows that cannot be used, ids that stand twice, labels outside the
    task's, recordings that cannot be read; what breaks a rule of the release without
    harm (length, number of instructions) is a warning.

    Args:
      source: see `read_instance`.
      task: whose labels and revision are expected.
      instance: its name, '' = the task's first.
      problems: collects the findings.
      decode: decode each recording; False looks only whether files are there.

    Raises:
      InputError: the data cannot be read at all.
    """
    problems = Problems() if problems is None else problems
    instance = instance or task.instances[0]
    totals, allowed = _Totals(), _allowed(task)
    for example in instances.read_instance(source, task, instance, problems):
        totals.ids[example.id] += 1
        totals.instructions.add(example.instruction)
        totals.labels.update(example.references)
        _check_labels(example, task, allowed, problems)
        for audio in example.audios:
            _check_audio(audio, example, totals, problems, decode)
    _check_totals(totals, instance, problems)
    _check_revision(source, task, instance, problems)
    return Validation(
        task=task.name,
        instance=instance,
        num_examples=totals.ids.total(),
        num_recordings=totals.num_recordings,
        seconds=totals.seconds,
        num_instructions=len(totals.instructions),
        labels=tuple(totals.labels.most_common(50)),
        problems=problems,
    )


def findings(problems: Problems) -> list[Finding]:
    """Returns the problems by kind, errors first, the most frequent first."""
    found: dict[tuple[str, str], Finding] = {}
    for problem in problems.rows:
        key = problem.severity, problem.kind
        other = found.get(key) or Finding(*key, 0, problem.where, problem.message)
        found[key] = other._replace(count=other.count + 1)
    return sorted(found.values(), key=lambda f: (f.severity, -f.count))


def _allowed(task: Task) -> set[str]:
    """Returns labels and synonyms of a closed task, case folded."""
    spoken = [spelling for _, spellings in task.synonyms for spelling in spellings]
    return {label.strip().casefold() for label in (*task.labels, *spoken)}


def _check_labels(
    example: Example, task: Task, allowed: set[str], problems: Problems
) -> None:
    if not allowed:
        return
    for label in example.references:
        if label.strip().casefold() not in allowed:
            message = f"label {label[:60]!r}, expected one of {', '.join(task.labels)}"
            # What the inventory inferred the data may know better.
            severity = "warning" if "labels" in task.inferred else "error"
            problems.add(severity, "other_label", _place(example), message)


def _check_audio(
    audio: Audio, example: Example, totals: _Totals, problems: Problems, decode: bool
) -> None:
    totals.num_recordings += 1
    if not decode and (audio.data or os.path.exists(audio.path)):
        return
    try:
        waveform = instances.load_audio(audio, _place(example), problems=problems)
    except AudioError as error:
        problems.error(error.kind, error.where, error.message)
    else:
        totals.seconds += len(waveform) / SAMPLE_RATE


def _check_totals(totals: _Totals, instance: str, problems: Problems) -> None:
    count = totals.ids.total()
    if not count:
        problems.error("no_examples", instance, "no example can be used")
    for identity, times in totals.ids.items():
        if times > 1:
            message = f"stands {times} times: an id names one example"
            problems.error("duplicate_id", f"{instance}, {identity}", message)
    if totals.seconds > MAX_TASK_SECONDS:
        minutes = totals.seconds / 60
        message = f"{minutes:.1f} minutes of recordings, the rule is 60 at most"
        problems.warning("long_task", instance, message)
    wanted = min(max(MIN_INSTRUCTIONS, math.ceil(count / 20)), count)
    if len(totals.instructions) < wanted:
        message = (
            f"{len(totals.instructions)} different instructions for {count} examples, "
            f"the rule is {wanted} at least"
        )
        problems.warning("few_instructions", instance, message)


def _check_revision(
    source: str | os.PathLike, task: Task, instance: str, problems: Problems
) -> None:
    """Compares the commit that a folder names with that of the registry."""
    expected = tasks.revision_of(task, instance)
    if not expected:
        message = "the registry knows no commit of these data"
        problems.warning("no_revision", instance, message)
        return
    found = _read_about(source).get("version")
    if found is not None and found != expected:
        message = f"data of {str(found)[:40]!r}, the registry names {expected}"
        problems.warning("other_revision", instance, message)


def _read_about(source: str | os.PathLike) -> Mapping[str, Any]:
    """Returns the instance.json beside the data, {} where there is none."""
    path = pathlib.Path(source) / tasks.INSTANCE_FILE
    return tasks.read_object(path) if path.is_file() else {}


def _place(example: Example) -> str:
    return f"{example.instance}, {example.id}"
