"""The demonstration: twelve tasks, four models, their scores and one report.

Everything runs on this machine, in under two minutes on two cores. The tasks are made
from recordings of several speakers (`--data`) or from generated voices; the classifier
has heard other speakers than those of the test.
"""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmark import demo_audio, demo_classifier, demo_tasks, report, scoring
from benchmark.demo_audio import Clip
from benchmark.demo_listener import make_listener
from benchmark.demo_tasks import DemoTask
from benchmark.errors import InputError, Problems
from benchmark.instances import read_instance
from benchmark.models.base import Model, ModelSettings
from benchmark.models.specs import make_model
from benchmark.results import write_text
from benchmark.running import run_model
from benchmark.tasks import load_tasks, options_of, task_of
from benchmark.typing import Example, Task
from benchmark.writing import write_instance

TRAINING = 240  # questions a task, from the speakers for training
MIN_SPEAKERS = 3  # in each part
SPECS = {
    "classifier": "classifier:benchmark.demo_classifier:classify",
    "chance": "baseline:chance",
    "majority": "baseline:majority",
    "chatty": "scripted:chatty",
}


class Settings(NamedTuple):
    """What the demonstration makes."""

    out: pathlib.Path
    data: pathlib.Path | None = None  # None = generated voices
    num_examples: int = demo_tasks.NUM_QUESTIONS  # a task
    seed: int = 0


class Timer:
    """Prints what is done and how long it took."""

    def __init__(self):
        self.start = time.perf_counter()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Prints the name and the seconds of a step."""
        start = time.perf_counter()
        yield
        print(f"{name:<58} {time.perf_counter() - start:5.1f} s", flush=True)

    def seconds(self) -> float:
        """Returns the seconds since the start."""
        return time.perf_counter() - self.start


def run(settings: Settings) -> str:
    """Makes tasks, asks the models, scores their answers and writes the report.

    A second run in the same folder asks nothing twice.

    Returns:
      A table of the models and the place of the report.

    Raises:
      InputError: the folder holds another demonstration, or too few speakers.
    """
    timer = Timer()
    _claim(settings)
    clips = _clips(settings.data)
    made = demo_tasks.demo_tasks(clips)
    train, test = demo_tasks.split_speakers(clips)
    _check_speakers(train, test)
    with timer.step(f"{len(made)} tasks of {settings.num_examples} questions"):
        write_tasks(made, test, settings)
    if not (settings.out / "classifier.npz").is_file():
        with timer.step("classifier trained on the other speakers"):
            train_classifier(made, train, settings)
    problems = Problems()
    known = load_tasks([settings.out / "tasks"], problems)
    tasks = {task.name: known[task.name] for task in made}
    examples = list(_examples(tasks, settings.out / "data", problems))
    folders = []
    for name, model in models(settings, examples, known).items():
        with timer.step(f"{name}: asked and scored"):
            said = settings.out / "predictions" / f"{name}.jsonl"
            run_model(model, examples, said, Problems())
            folders.append(_score(name, said, tasks, known, settings))
    page = settings.out / "report.html"
    with timer.step("report"):
        title = "Demonstration: " + (
            f"tasks made from {settings.data.name}"
            if settings.data
            else "generated voices"
        )
        groups = report.write_report(folders, page, title)
    return (
        f"{report.summary(groups)}\nall of it: {timer.seconds():.0f} s\n"
        f"report: {page.resolve()}"
    )


def models(
    settings: Settings, examples: list[Example], known: Mapping[str, Task]
) -> dict[str, Model]:
    """Returns the models of the demonstration by name."""
    os.environ[demo_classifier.PLACE] = os.fspath(settings.out / "classifier.npz")
    given = ModelSettings(
        options_of=lambda example: options_of(_task(known, example), example) or None,
        examples=examples,
        seed=settings.seed,
        option_maps=settings.out / "option_maps.json",
    )
    found = {
        name: make_model(spec, given._replace(name=name))
        for name, spec in SPECS.items()
    }
    own = make_listener(demo_classifier.classify, found["classifier"])
    return {**found, "classifier": own}


def write_tasks(made: list[DemoTask], test: list[Clip], settings: Settings) -> None:
    """Writes the official form of each task: its record and its data."""
    dataset = settings.data.name if settings.data else "generated voices"
    for task in made:
        demo_tasks.write_task(task, settings.out / "tasks", dataset)
        folder = settings.out / "data" / task.name
        if folder.is_dir() and any(folder.glob("metadata.json")):
            continue
        questions = demo_tasks.make_questions(
            task, test, settings.num_examples, settings.seed
        )
        problems = Problems(strict=True)
        examples = demo_tasks.as_examples(task, questions, settings.seed)
        write_instance(folder, examples, problems)


def train_classifier(
    made: list[DemoTask], train: list[Clip], settings: Settings
) -> None:
    """Trains one head for each closed task with one recording, and says what is what.

    The option map tells which of the classifier's labels is which option of a task.
    """
    heads, maps = {}, {}
    for task in made:
        if not task.labels or task.name.startswith("SpeakerVerification"):
            continue
        number = max(TRAINING, 24 * len(task.labels))
        questions = demo_tasks.make_questions(task, train, number, settings.seed + 1)
        waves = [question.waves[0] for question in questions]
        heads[task.name] = demo_classifier.train(waves, [q.answer for q in questions])
        options = {
            demo_classifier.label_of(task.name, label): [label] for label in task.labels
        }
        maps[task.name] = {"options": options}
    text = json.dumps({"aliases": {}, "tasks": maps}, indent=1, ensure_ascii=False)
    write_text(settings.out / "option_maps.json", text + "\n")
    demo_classifier.save(heads, settings.out / "classifier.npz")


def _claim(settings: Settings) -> None:
    """Refuses a folder that holds something else."""
    note = settings.out / "demo.json"
    wanted = {
        "data": os.fspath(settings.data) if settings.data else None,
        "num_examples": settings.num_examples,
        "seed": settings.seed,
    }
    if note.is_file():
        if note.read_text(encoding="utf-8") != json.dumps(wanted) + "\n":
            raise InputError(
                f"{settings.out}: holds a demonstration with other settings; name "
                "another folder with --out"
            )
    elif settings.out.exists() and any(settings.out.iterdir()):
        raise InputError(f"{settings.out}: is not empty; name another with --out")
    write_text(note, json.dumps(wanted) + "\n")


def _clips(folder: pathlib.Path | None) -> list[Clip]:
    if folder is None:
        return demo_audio.generated_clips()
    return demo_audio.read_clips(folder)


def _check_speakers(*parts: list[Clip]) -> None:
    fewest = min(len({clip.speaker for clip in part}) for part in parts)
    if fewest < MIN_SPEAKERS:
        raise InputError(
            f"the data: {fewest} speakers for training or test, expected at least "
            f"{MIN_SPEAKERS} each; take recordings of more speakers"
        )


def _examples(
    tasks: Mapping[str, Task], data: pathlib.Path, problems: Problems
) -> Iterator[Example]:
    for task in tasks.values():
        yield from read_instance(data, task, task.instances[0], problems)


def _task(known: Mapping[str, Task], example: Example) -> Task:
    task = task_of(known, example.instance)
    assert task is not None  # the examples were read for known tasks
    return task


def _score(
    name: str,
    said: pathlib.Path,
    tasks: Mapping[str, Task],
    known: Mapping[str, Task],
    settings: Settings,
) -> pathlib.Path:
    """Scores a model on all tasks, those that it skipped included."""
    folder = settings.out / "results" / name
    job = scoring.Job(
        said, settings.out / "data", folder, task_names=tuple(tasks), model=name
    )
    scoring.score_predictions(job, known, Problems())
    return folder
