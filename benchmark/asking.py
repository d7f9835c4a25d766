"""Which examples a command is about, their options, and which answers need a judge."""

import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmark.errors import InputError, Problems
from benchmark.instances import read_instance
from benchmark.judge import verdict_of_number, verdict_of_parsed
from benchmark.metrics.counts import is_number, unit_of
from benchmark.numbers import parse_number
from benchmark.options import options_from_instruction
from benchmark.parsing import read_answer
from benchmark.predictions import group, join
from benchmark.prompts import JudgeItem, NumberItem
from benchmark.tasks import find_task, options_of, task_of
from benchmark.typing import Example, Prediction, Task, Verdict

Instance = tuple[Task, str]  # a task and the name of one of its instances


class Question(NamedTuple):
    """One answer that may need a judge, and what the parser says of it."""

    item: JudgeItem | NumberItem
    parser: Verdict
    undecided: bool  # the parser leaves it to a judge


def choose_instances(
    known: Mapping[str, Task], names: Sequence[str], data: pathlib.Path
) -> list[Instance]:
    """Returns the instances that are named, or all that have a folder in the data.

    Args:
      known: tasks by name.
      names: tasks (all their folds) or instances.
      data: folder with a folder for each instance.

    Raises:
      InputError: a name that is not known, an instance without a folder among others
        that have one, or no folder of any task.
    """
    there = {
        instance: task
        for task in known.values()
        for instance in _instances_of(task)
        if (data / instance).is_dir()
    }
    chosen: dict[str, Task] = {} if names else there
    for name in names:
        task = find_task(known, name)
        found = [name] if name in task.instances else _instances_of(task)
        chosen |= dict.fromkeys(found, task)
    missing = [instance for instance in chosen if instance not in there]
    if missing and (there or len(chosen) > 1):  # else the data may be the one instance
        raise InputError(f"{data}: no folder {missing[0]}; `prepare` writes it")
    if not chosen:
        raise InputError(
            f"{data}: no folder of a known task; `prepare` writes them, --tasks names "
            "the tasks where the data are one file, --task_dir adds your own"
        )
    return [(task, instance) for instance, task in chosen.items()]


def _instances_of(task: Task) -> tuple[str, ...]:
    return task.instances or (task.name,)


def read_examples(
    instances: Iterable[Instance], data: pathlib.Path, problems: Problems
) -> Iterator[Example]:
    """Yields the examples of instances, one after the other."""
    for task, instance in instances:
        yield from read_instance(data, task, instance, problems)


def make_options_of(
    known: Mapping[str, Task],
) -> Callable[[Example], tuple[str, ...] | None]:
    """Returns the function that finds the options of an example.

    They are the example's own, the task's labels, or those of the instruction's prose;
    None where the task is no classification.
    """
    tasks: dict[str, Task | None] = {}

    def find(example: Example) -> tuple[str, ...] | None:
        if example.instance not in tasks:
            tasks[example.instance] = task_of(known, example.instance)
        task = tasks[example.instance]
        if task is not None and task.type != "classification":
            return None
        declared = options_of(task, example) if task is not None else ()
        return declared or options_from_instruction(example.instruction)

    return find


def choose_model(
    rows: Iterable[Prediction], model: str, where: pathlib.Path
) -> dict[str, list[Prediction]]:
    """Returns the predictions of one model by instance.

    Args:
      rows: predictions.
      model: its name; the only model of a file may be called otherwise.
      where: the file, in messages.

    Raises:
      InputError: several models and none of this name.
    """
    groups = group(rows)
    found = sorted({name for name, _ in groups})
    if len(found) > 1 and model not in found:
        raise InputError(
            f"{where}: holds answers of {', '.join(map(repr, found))}: "
            "choose one with --model"
        )
    chosen = model if model in found else "".join(found)
    return {i: answers for (name, i), answers in groups.items() if name == chosen}


def read_questions(
    answers: Mapping[str, Sequence[Prediction]],
    instances: Iterable[Instance],
    data: pathlib.Path,
    problems: Problems,
) -> Iterator[Question]:
    """Yields what a judge may be asked: answers to classifications and regressions.

    Missing answers are wrong without a judge and are left out; sequences and places are
    scored without one.

    Args:
      answers: of one model, by instance.
      instances: of which the answers are judged.
      data: folder with a folder for each instance.
      problems: collects rows that are skipped, ids that are missing or unknown.
    """
    for task, instance in instances:
        is_first = instance == _instances_of(task)[0]
        said = answers.get(instance) or (answers.get(task.name) if is_first else None)
        if not said or not (task.type == "classification" or is_number(task)):
            continue
        ask = _number_question if is_number(task) else _question
        rows = read_instance(data, task, instance, problems)
        examples = [example._replace(audios=()) for example in rows]
        ids = [example.id for example in examples]
        joined = join(ids, said, problems)
        for example, prediction in zip(examples, joined.predictions, strict=True):
            if prediction is not None and prediction.response is not None:
                yield ask(task, example, prediction.response)


def _question(task: Task, example: Example, response: str) -> Question:
    answer = read_answer(response, task, example)
    place = (example.instance, example.id)
    parsed = answer.parsed._replace(outcome=answer.outcome)
    right = answer.outcome == "matched"
    item = JudgeItem(*place, example.instruction, example.references, response)
    undecided = answer.outcome in ("several", "none")
    return Question(item, verdict_of_parsed(*place, parsed, right), undecided)


def _number_question(task: Task, example: Example, response: str) -> Question:
    unit, place = unit_of(task), (example.instance, example.id)
    number = parse_number(response, unit or None, task.value_range)
    item = NumberItem(*place, example.instruction, response, unit, task.value_range)
    undecided = number.value is None and bool(response.strip())
    return Question(item, verdict_of_number(*place, number), undecided)
