"""The commands list, show, validate and prepare: tasks and their data.

Each command takes the parsed arguments and returns an exit code; what is wrong with
the user's input is raised as `InputError` or `MachineError`.
"""

import argparse
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from benchmark import instances, tasks, validation, writing
from benchmark.display import WIDTH, number, printable
from benchmark.errors import InputError, MachineError, Problems
from benchmark.typing import Task

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHORT = {
    "classification": "class",
    "regression": "regr",
    "sequence_generation": "seq",
}


class Source(NamedTuple):
    """Where the data of an instance come from."""

    task: Task
    instance: str
    place: str  # path, or id of a dataset on the hub
    is_hub: bool
    revision: str  # commit, '' = not known


def add_parsers(subparsers: Any) -> None:
    """Adds the four commands to the parsers of `python -m benchmark`.

    Args:
      subparsers: what `ArgumentParser.add_subparsers` returned. Each parsed namespace
        has `run`, the function of its command.
    """
    command = _add(subparsers, "list", list_tasks, "list the tasks")
    command.add_argument("--domain", default="", help="(part of) a domain or subdomain")
    command.add_argument("--type", default="", help="classification, regression ...")
    command.add_argument("--metric", default="", help="name of a metric")
    command = _add(subparsers, "show", show_task, "show all that is known of a task")
    command.add_argument("task", help="its name, or that of one of its instances")
    command = _add(subparsers, "validate", validate, "check the data of an instance")
    command.add_argument("folder", help="folder with metadata.json, or parquet files")
    _add_names(command)
    command.add_argument("--quick", action="store_true", help="decode no recording")
    command.add_argument("--strict", action="store_true", help="warnings are errors")
    command.add_argument("--problems", help="file for all findings, as JSON lines")
    command = _add(subparsers, "prepare", prepare, "write data in the local form")
    command.add_argument("source", help="folder, parquet file, or dataset on the hub")
    command.add_argument("--out", required=True, help="new folder")
    _add_names(command)
    command.add_argument(
        "--revision", default="", help="commit of a dataset on the hub"
    )
    command.add_argument(
        "--strict", action="store_true", help="stop at what is doubtful"
    )


def _add(subparsers: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=run.__doc__)
    parser.set_defaults(run=run)
    parser.add_argument(
        *("--task_dir", "--task-dir"),
        action="append",
        default=[],
        help=f"folder of your own tasks (with {tasks.INSTANCE_FILE}); repeatable",
    )
    return parser


def _add_names(parser: argparse.ArgumentParser) -> None:
    text = "task (default: what instance.json or the folder's name says)"
    parser.add_argument("--task", default="", help=text)
    parser.add_argument("--instance", default="", help="one of the task's folds")


def list_tasks(args: argparse.Namespace) -> int:
    """Lists the tasks by domain: name, type, labels or metric, instances."""
    known = _load(args)
    chosen = tasks.select_tasks(known, args.domain, args.type, args.metric)
    heading = None
    for task in sorted(chosen, key=lambda t: (t.domain, t.subdomain, t.name.lower())):
        if (task.domain, task.subdomain) != heading:
            heading = task.domain, task.subdomain
            print(f"\n{' / '.join(map(printable, heading)).strip(' /') or 'your own'}")
        print(_list_line(task))
    num_instances = sum(len(task.instances) for task in chosen)
    print(f"\n{len(chosen)} of {len(known)} tasks, {num_instances} instances")
    return 0


def _list_line(task: Task) -> str:
    """Returns a line of the list; a name that is too long has one for itself."""
    folds = f" x{len(task.instances)}" if len(task.instances) > 1 else ""
    scored = task.metric
    if task.type == "classification":
        scored = f"{len(task.labels)} labels" if task.labels else "options in prose"
    tail = f"{_SHORT[task.type]:5} {scored}{folds}"
    name = f"  {task.name}"
    size = WIDTH - 40
    return (
        f"{name:{size}} {tail}" if len(name) <= size else f"{name}\n{'':{size}} {tail}"
    )


def show_task(args: argparse.Namespace) -> int:
    """Shows a task: how it is scored, its labels, data and what is doubtful."""
    task = tasks.find_task(_load(args), args.task)
    for key, value in _facts(task):
        for text in value if isinstance(value, list) else [value]:
            print("\n".join(_wrapped(key, printable(text))))
            key = ""
    return 0


def _facts(task: Task) -> list[tuple[str, str | list[str]]]:
    """Returns what is known of a task as (name, text or lines)."""
    synonyms = [f"{label}: {', '.join(other)}" for label, other in task.synonyms]
    limits = task.value_range and "{:g} to {:g}".format(*task.value_range)
    data = [
        f"{instance}  {revision or 'revision not known'}"
        for instance, revision in zip(
            task.instances, (*task.revisions, *[""] * len(task.instances)), strict=False
        )
    ]
    facts = [
        *(("name", task.name), ("type", task.type), ("metric", task.metric)),
        *(("metric note", task.metric_note), ("domain", task.domain)),
        *(("subdomain", task.subdomain), ("phase", task.phase)),
        *(("language", task.language), ("labels", ", ".join(task.labels))),
        *(("synonyms", synonyms), ("multi label", "yes" if task.multi_label else "")),
        *(("range", limits), ("unit", task.unit)),
        ("chance", "" if task.chance is None else number(task.chance)),
        ("examples", str(task.num_examples or "")),
        *(("instances", data), ("hub", list(task.hf_datasets))),
        *(("replaces", task.replaces), ("notes", list(task.notes))),
        ("our reading", ", ".join(task.reconstructed)),
        ("inferred", ", ".join(task.inferred)),
        *(("folder", task.folder), ("record", tasks.fingerprint(task))),
    ]
    return [(key, value) for key, value in facts if value]


def _wrapped(key: str, text: str, indent: int = 14) -> Iterable[str]:
    """Yields lines no wider than the table; a long word is left whole."""
    import textwrap

    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{key:{indent}}",
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def validate(args: argparse.Namespace) -> int:
    """Checks columns, ids, labels, recordings, instructions and revision."""
    if not os.path.exists(args.folder):
        raise InputError(f"{args.folder}: no such folder; `prepare` fetches data first")
    source = _source(args.folder, args, _load(args))
    problems = Problems()
    result = validation.validate_instance(
        source.place,
        source.task,
        source.instance,
        problems=problems,
        decode=not args.quick,
    )
    print(f"{source.task.name}, instance {source.instance}")
    length = "" if args.quick else f", {result.seconds / 60:.1f} minutes"
    print(
        f"{result.num_examples} examples, {result.num_recordings} recordings{length}, "
        f"{result.num_instructions} different instructions"
    )
    print(findings_table(problems))
    if args.problems:
        _write(problems, pathlib.Path(args.problems))
    is_faulty = result.num_errors or (args.strict and problems.rows)
    return InputError.exit_code if is_faulty else 0


def findings_table(problems: Problems) -> str:
    """Returns the findings of each kind with their number and the first of them."""
    found = validation.findings(problems)
    if not found:
        return "no findings"
    lines = [f"{'count':>7}  severity  kind"]
    for finding in found:
        lines.append(f"{finding.count:7,}  {finding.severity:8}  {finding.kind}")
        first = printable(f"{finding.where}: {finding.message}", 500)
        lines.extend(_wrapped(" " * 9 + "first:", first, 16))
    return "\n".join(lines)


def prepare(args: argparse.Namespace) -> int:
    """Writes the data of an instance as metadata.json, WAV files and instance.json."""
    source = _source(args.source, args, _load(args))
    place = _download(source) if source.is_hub else source.place
    problems = Problems(strict=args.strict)
    rows = instances.read_instance(place, source.task, source.instance, problems)
    count = writing.write_instance(args.out, rows, problems)
    about = tasks.about(source.task, source.instance, source.revision)
    path = pathlib.Path(args.out) / tasks.INSTANCE_FILE
    try:
        path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror})") from error
    print(f"{source.instance}: {count} examples written to {printable(args.out)}")
    if problems.rows:
        print(findings_table(problems))
    return 0 if count else InputError.exit_code


def _load(args: argparse.Namespace) -> dict[str, Task]:
    problems = Problems()
    known = tasks.load_tasks(args.task_dir, problems)
    if problems.rows:
        print(findings_table(problems), file=sys.stderr)
    return known


def _source(given: str, args: argparse.Namespace, known: Mapping[str, Task]) -> Source:
    """Finds out which instance of which task a folder or a dataset holds.

    The flags say it, else the folder's instance.json, else the name itself.
    """
    path = pathlib.Path(given)
    file = path / tasks.INSTANCE_FILE
    row = tasks.read_object(file) if file.is_file() else {}
    name = re.sub(r"\.(parquet|json)$", "", path.absolute().name)
    named = args.instance or args.task or row.get("name") or name
    if args.task or args.instance or tasks.task_of(known, str(named)):
        task = tasks.find_task(known, str(args.task or named))
    elif row:
        task = tasks.read_task(path)
    else:
        raise InputError(
            f"{given}: which task is it? Pass --task, or name the folder after it"
        )
    instance = _instance(args.instance, row.get("name"), path.name, task)
    if path.exists():
        return Source(task, instance, given, False, str(row.get("version") or ""))
    hub = dict(zip(task.instances, task.hf_datasets, strict=False)).get(instance, "")
    place = hub if given in (task.name, instance) else given
    if not _HUB_ID.fullmatch(place):
        raise InputError(
            f"{given}: does not exist, and is no dataset such as owner/name"
        )
    known_revision = tasks.revision_of(task, instance) if place == hub else ""
    revision = getattr(args, "revision", "") or known_revision
    return Source(task, instance, place, True, revision)


def _instance(wanted: str, *others: Any) -> str:
    """Returns the instance that is named first, or the task's only one."""
    *names, task = others
    if wanted and wanted not in task.instances:
        raise InputError(
            f"--instance {wanted!r}: {task.name} has {', '.join(task.instances)}"
        )
    for name in (wanted, *names):
        if name in task.instances:
            return name
    if len(task.instances) == 1:
        return task.instances[0]
    raise InputError(
        f"{task.name} has {len(task.instances)} instances: choose one with --instance, "
        f"{', '.join(task.instances)}"
    )


def _download(source: Source) -> str:
    """Fetches a dataset's parquet files; returns the folder that holds them.

    Raises:
      InputError: no such dataset or commit, or it may not be read.
      MachineError: no network.
    """
    import huggingface_hub
    from huggingface_hub.errors import (
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{source.place} at {source.revision or 'main'}"
    try:
        folder = huggingface_hub.snapshot_download(
            source.place,
            repo_type="dataset",
            revision=source.revision or None,
            allow_patterns=["*.parquet"],
        )
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(
            f"{where}: not there, or not open to you ({type(error).__name__}); check "
            "the name and --revision, or log in with `hf auth login`"
        ) from error
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if not names & {"OSError", "HTTPError"}:  # of any HTTP client: they changed
            raise
        raise MachineError(
            f"{where}: cannot be fetched ({type(error).__name__}); without network, "
            "copy its parquet files here and pass their folder"
        ) from error
    if not any(pathlib.Path(folder).rglob("*.parquet")):
        raise InputError(
            f"{where}: holds no parquet files; try --revision refs/convert/parquet, "
            "where the hub keeps converted copies"
        )
    return folder


def _write(problems: Problems, path: pathlib.Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        problems.write(path)
    except OSError as error:
        raise MachineError(
            f"{os.fspath(path)}: cannot be written ({error.strerror})"
        ) from error
