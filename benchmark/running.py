"""Running a model over examples: what it answered is on disk before it is counted.

A run that was killed goes on where it stopped. The questions in flight at the kill, at
most one a thread, are asked again; none is whose answer was appended, which happens as
soon as it has arrived whole.
"""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from benchmark import journal
from benchmark.errors import Problems
from benchmark.models import Model, NoAnswerError
from benchmark.predictions import append_prediction, read_predictions
from benchmark.typing import Example
from benchmark.workers import map_ordered

_Place = tuple[str, str]  # instance, id


class Counts(NamedTuple):
    """What became of the examples of a run."""

    answered: int = 0  # now
    already: int = 0  # in the file before
    skipped: int = 0  # not a question for this model, or an unreadable recording
    failed: int = 0  # the endpoint gave no answer: asked again by the next start
    not_asked: int = 0  # the budget was spent


class _Outcome(NamedTuple):
    example: Example
    kind: str  # 'answered', 'skipped', 'failed' or 'not_asked'
    message: str = ""


def run_model(
    model: Model,
    examples: Iterable[Example],
    path: str | os.PathLike,
    problems: Problems,
    limit: int | None = None,
) -> Counts:
    """Asks a model what the file does not answer yet, and appends each answer.

    Args:
      model: called from `model.max_concurrency` threads.
      examples: read as they are needed.
      path: predictions, JSON lines; its folder is made.
      problems: collects examples without an answer, each with its reason.
      limit: of examples that are asked now; None = all.

    Returns:
      How many were answered, skipped, and so on.

    Raises:
      InputError: an endpoint's key, address or model is wrong.
      MachineError: another run writes the file, the disk or the endpoint refuses.
    """
    path = pathlib.Path(path)
    with journal.lock(path):
        done = _answered(path, model.name)
        open_examples = _Open(examples, done, problems, limit)
        asker = _Asker(model, path)
        counts = dict.fromkeys(Counts._fields, 0)
        outcomes = map_ordered(
            asker.ask, iter(open_examples), model.max_concurrency, model.stop
        )
        with contextlib.closing(outcomes):  # what is in flight is still written
            for outcome in outcomes:
                counts[outcome.kind] += 1
                _record(outcome, problems)
        counts["already"] = open_examples.num_already
        return Counts(**counts)


def count_open(
    model: Model,
    examples: Iterable[Example],
    path: str | os.PathLike,
    problems: Problems,
    limit: int | None = None,
) -> int:
    """Returns how many examples `run_model` would ask; asks and writes nothing."""
    done = _answered(pathlib.Path(path), model.name)
    return sum(1 for _ in _Open(examples, done, problems, limit))


def _answered(path: pathlib.Path, name: str) -> set[_Place]:
    """Returns the places that hold an answer; what a kill left half is none."""
    if not path.exists():
        return set()
    rows = read_predictions(path, Problems())
    return {
        (row.instance, row.id)
        for row in rows
        if row.response is not None and row.model == name
    }


class _Open:
    """The examples that are to be asked, in order, each id once."""

    def __init__(
        self,
        examples: Iterable[Example],
        done: set[_Place],
        problems: Problems,
        limit: int | None,
    ):
        self.examples, self.done, self.problems = examples, done, problems
        self.limit, self.num_already = limit, 0

    def __iter__(self) -> Iterator[Example]:
        seen: set[_Place] = set()
        num_open = 0
        for example in self.examples:
            place = (example.instance, example.id)
            if place in seen:
                message = "the id occurs twice: the first example is used"
                self.problems.error("duplicate_id", " ".join(place), message)
                continue
            seen.add(place)
            if place in self.done:
                self.num_already += 1
                continue
            if self.limit is not None and num_open >= self.limit:
                return
            num_open += 1
            yield example


class _Asker:
    """Asks, writes, and stops asking once the budget is spent."""

    def __init__(self, model: Model, path: pathlib.Path):
        self.model, self.path = model, path
        self.spent = threading.Event()

    def ask(self, example: Example) -> _Outcome:
        if self.spent.is_set():
            return _Outcome(example, "not_asked", "the budget is spent")
        try:
            prediction = self.model.answer(example)
        except NoAnswerError as error:
            if error.kind == "not_asked":
                self.spent.set()
            return _Outcome(example, error.kind, error.message)
        if prediction is None:
            return _Outcome(example, "skipped", f"{self.model.name} has no answer")
        append_prediction(self.path, prediction)
        return _Outcome(example, "answered")


def _record(outcome: _Outcome, problems: Problems) -> None:
    if outcome.kind in ("answered", "not_asked"):  # the latter are counted alone
        return
    example = outcome.example
    where = f"{example.instance} {example.id}"
    problems.error(f"example_{outcome.kind}", where, outcome.message)
