"""Scores a predictions file: reads, joins, scores and writes, instance by instance."""

import collections
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmark import display, predictions, results, score, tasks
from benchmark.aggregate import chance_corrected
from benchmark.errors import InputError, MachineError, Problems
from benchmark.instances import read_instance
from benchmark.measures import STRICT, Settings
from benchmark.results import EXAMPLES, Results
from benchmark.typing import Example, Prediction, Score, Task, Verdict


class Job(NamedTuple):
    """What is scored."""

    predictions: pathlib.Path
    data: pathlib.Path  # folder with a folder for each instance, or one file
    out: pathlib.Path
    verdicts: pathlib.Path | None = None
    task_names: tuple[str, ...] = ()  # tasks or instances; () = those of predictions
    model: str = ""  # '' = the one that the predictions name
    settings: Settings = STRICT


def score_predictions(
    job: Job, known: Mapping[str, Task], problems: Problems
) -> Results:
    """Scores one model and writes the three files of `results`.

    Args:
      job: what is scored.
      known: tasks by name.
      problems: collects rows that were skipped, ids that are missing or unknown.

    Raises:
      InputError: predictions of several models, of no known instance, or two that
        disagree; data that are not there.
      MachineError: the disk refuses.
    """
    given = predictions.read_predictions(job.predictions, problems)
    model, by_instance = _of_one_model(list(given), job)
    results.check_folder(job.out, model)
    chosen = _instances(job.task_names, by_instance, known, problems)
    if not chosen:
        raise InputError(_nothing_known(job.predictions, by_instance, problems))
    by_instance = _given_to(chosen, by_instance, job.predictions, problems)
    verdicts = read_verdicts(job.verdicts) if job.verdicts else {}
    source = _source(job, model)
    evaluated: dict[str, list[score.Evaluated]] = collections.defaultdict(list)
    part = job.out / f"{EXAMPLES}.part"
    try:
        job.out.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", errors="replace") as file:
            for task, instance in chosen:
                said = by_instance.get(instance, [])
                one = _evaluate(task, instance, said, verdicts, job, source, problems)
                file.writelines(results.row_lines(one.rows))
                evaluated[task.name].append(one._replace(rows=()))
        part.replace(job.out / EXAMPLES)
    except OSError as error:
        raise MachineError(f"{job.out}: cannot be written ({error})") from error
    found = _collect(evaluated, known, model, job.out, problems)
    results.write_results(found)
    try:
        problems.write(job.out / "problems.jsonl")
    except OSError as error:
        raise MachineError(f"{job.out}: cannot be written ({error})") from error
    return found


def read_verdicts(path: pathlib.Path) -> dict[str, dict[str, Verdict]]:
    """Returns a judge's verdicts, by instance and id; the last of an example counts.

    Raises:
      InputError: no such file, or a line that is no verdict.
    """
    found: dict[str, dict[str, Verdict]] = collections.defaultdict(dict)
    try:
        with path.open("rb") as file:  # a line that is no UTF-8 is named as damaged
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                verdict = _verdict(line, f"{path}:{number}")
                found[verdict.instance][verdict.id] = verdict
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); --verdicts names the "
        raise InputError(message + "file that `judge` wrote") from error
    return found


def summary(found: Results) -> str:
    """Returns a console table of the tasks."""
    rows = [_summary_row(one) for one in found.task_scores]
    header = ["task", "metric", "value", "95 %", "corrected", "missing", "unread"]
    return display.table(header, rows)


def _summary_row(one: Score) -> list[str]:
    corrected = chance_corrected(one)
    return [
        one.task,
        one.metric,
        display.number(one.value),
        display.between(one.low, one.high),
        display.number(corrected.value if corrected else None),
        f"{one.num_examples - one.num_answered}/{one.num_examples}",
        f"{one.num_unreadable}/{one.num_examples}",
    ]


def _verdict(line: bytes, where: str) -> Verdict:
    try:
        row = json.loads(line)
        fields = {name: row[name] for name in Verdict._fields if name in row}
        verdict = Verdict(**fields)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{where}: no verdict ({error}); judge again") from error
    if not (verdict.correct is None or isinstance(verdict.correct, bool)):
        raise InputError(f"{where}: 'correct' is {verdict.correct!r}; judge again")
    value = verdict.value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and math.isfinite(value)):
        raise InputError(f"{where}: 'value' is {value!r}; judge again")
    for name, value in verdict._asdict().items():
        if name not in ("correct", "value") and not isinstance(value, str):
            raise InputError(f"{where}: {name!r} is no text; judge again")
    return verdict


def _of_one_model(
    given: Sequence[Prediction], job: Job
) -> tuple[str, dict[str, list[Prediction]]]:
    """Returns the model's name and its predictions by instance."""
    groups = predictions.group(given)
    models = list(dict.fromkeys(model for model, _ in groups))
    wanted = job.model if job.model in models else ""
    if len(models) > 1 and not wanted:
        names = ", ".join(display.printable(name) or "no name" for name in models)
        raise InputError(
            f"{job.predictions}: predictions of several models ({names}); choose one "
            "with --model"
        )
    model = wanted or (models[0] if models else "")
    found = {
        instance: group for (name, instance), group in groups.items() if name == model
    }
    return job.model or model or job.predictions.stem, found


def _instances(
    names: Iterable[str],
    by_instance: Mapping[str, Sequence[Prediction]],
    known: Mapping[str, Task],
    problems: Problems,
) -> list[tuple[Task, str]]:
    """Returns (task, instance): those that are named, or those with predictions."""
    chosen: dict[str, Task] = {}
    for name in names:
        task = tasks.find_task(known, name)
        instances = [name] if name in task.instances else task.instances
        chosen |= dict.fromkeys(instances, task)
    if not chosen:
        for instance, group in by_instance.items():
            task = tasks.task_of(known, instance)
            if task and (own := _own_instance(task, instance)):
                chosen[own] = task
            elif task:
                message = (
                    f"{len(group)} predictions name a task of {len(task.instances)} "
                    f"instances, not one of them: {', '.join(task.instances)}"
                )
                problems.error("unknown_instance", instance, message)
            elif instance:
                message = f"{len(group)} predictions for a task that is not known"
                problems.error("unknown_instance", instance, message)
    order = {name: i for i, name in enumerate(known)}
    pairs = [(task, instance) for instance, task in chosen.items()]
    return sorted(pairs, key=lambda pair: order[pair[0].name])


def _own_instance(task: Task, name: str) -> str:
    """Returns the instance of this name; the task's own name stands for its only one.

    '' where the task has several and this is none of them.
    """
    if name in task.instances:
        return name
    return task.instances[0] if len(task.instances) == 1 else ""


def _given_to(
    chosen: Sequence[tuple[Task, str]],
    by_instance: Mapping[str, list[Prediction]],
    path: pathlib.Path,
    problems: Problems,
) -> dict[str, list[Prediction]]:
    """Returns the predictions of each instance that is scored.

    Those that name its task stand for its only instance; those that name none stand
    for the instance, where one alone is scored, and are left out and counted elsewhere.
    """
    found = {}
    for task, instance in chosen:
        names = [instance]
        if task.name != instance and _own_instance(task, task.name):
            names.append(task.name)
        names += [""] if len(chosen) == 1 else []
        found[instance] = [one for name in names for one in by_instance.get(name, ())]
    if (unnamed := by_instance.get("")) and len(chosen) > 1:
        message = (
            f"{len(unnamed)} predictions name no instance and {len(chosen)} are "
            "scored: left out; add 'instance' to each, or choose one with --tasks"
        )
        problems.error("no_instance", os.fspath(path), message)
    return found


def _nothing_known(
    path: pathlib.Path, by_instance: Mapping[str, Sequence[Prediction]], problems
) -> str:
    """Says why nothing can be scored: of what task, or what was wrong with the rows."""
    if not by_instance:
        first = next((row for row in problems.rows if row.severity == "error"), None)
        told = f"; {first.where}: {first.message}" if first else ""
        return f"{path}: no predictions in it{told}"
    names = [name or "(no instance named)" for name in sorted(by_instance)]
    return (
        f"{path}: no predictions for a known task (instances: {', '.join(names[:3])}); "
        "--task_dir adds tasks, --tasks chooses one"
    )


def _evaluate(
    task: Task,
    instance: str,
    said: Sequence[Prediction],
    verdicts: Mapping[str, Mapping[str, Verdict]],
    job: Job,
    source: Mapping[str, Any],
    problems: Problems,
) -> score.Evaluated:
    examples = _usable(read_instance(job.data, task, instance, problems), problems)
    if not examples:
        raise InputError(f"{job.data}: no example of {instance} can be used")
    ids = [example.id for example in examples]
    joined = predictions.join(ids, said, problems, name=instance)
    revision = _revision(job.data, instance)
    given = {**source, "data_revision": revision} if revision else source
    return score.evaluate_instance(
        task, examples, joined.predictions, verdicts.get(instance), job.settings, given
    )


def _revision(data: pathlib.Path, instance: str) -> str:
    """Returns the commit that `prepare` noted beside the data, '' if there is none."""
    for folder in (data / instance, data):
        try:
            text = (folder / tasks.INSTANCE_FILE).read_text(encoding="utf-8")
            record = json.loads(text)
        except (OSError, ValueError):
            continue
        version = record.get("version") if isinstance(record, dict) else None
        return version if isinstance(version, str) else ""
    return ""


def _usable(examples: Iterable[Example], problems: Problems) -> list[Example]:
    """Returns the examples with a reference, each id once, without audio in memory."""
    found: dict[str, Example] = {}
    for example in examples:
        where = f"{example.instance} {example.id}"
        if example.id in found:
            message = "the id occurs twice: the first example is used"
            problems.error("duplicate_id", where, message)
        elif example.references:
            if example.audios:
                audios = tuple(audio._replace(data=b"") for audio in example.audios)
                example = example._replace(audios=audios)
            found[example.id] = example
        else:
            problems.error("no_reference", where, "has no label to score against")
    return list(found.values())


def _source(job: Job, model: str) -> dict[str, Any]:
    source: dict[str, Any] = {
        "model": model,
        "predictions": os.fspath(job.predictions),
        "predictions_sha256": file_hash(job.predictions),
        "data": os.fspath(job.data),
    }
    if job.verdicts:
        source["verdicts_sha256"] = file_hash(job.verdicts)
    return source


def file_hash(path: pathlib.Path) -> str:
    """Returns the sha256 of a file, or of the names and bytes of a folder's files."""
    digest = hashlib.sha256()
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
    for file in files:
        if path.is_dir():
            digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _collect(
    evaluated: Mapping[str, Sequence[score.Evaluated]],
    known: Mapping[str, Task],
    model: str,
    folder: pathlib.Path,
    problems: Problems,
) -> Results:
    """Averages the folds of each task."""
    whole = []
    for name, folds in evaluated.items():
        one = score.average_folds(folds)
        number = len(known[name].instances)
        if len(folds) < number:
            notes = (f"{len(folds)} of {number} instances", *one.notes)
            one = one._replace(notes=notes)
        whole.append(one)
    return Results(
        folder,
        model,
        tuple(one for folds in evaluated.values() for fold in folds for one in fold[0]),
        tuple(whole),
        {name: known[name] for name in evaluated},
        problems.counts(),
    )
