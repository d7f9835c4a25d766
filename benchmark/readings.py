"""What each answer of an instance was read as, and the statistics that are summed.

A closed answer is read by the parser; what it cannot decide is decided by a judge's
verdict where there is one, and else counts as wrong and as unreadable. A number is
read by the parser or, where that fails, taken from a judge that rewrote the answer.
"""

import collections
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from benchmark import normalisers, parsing
from benchmark.confusions import confusion_cells
from benchmark.measures import ACCURACY, Measure, Settings, metrics_of, text_measure
from benchmark.metrics import text
from benchmark.metrics.counts import is_number, unit_of
from benchmark.numbers import parse_number
from benchmark.typing import Prediction, Task, Verdict


class Reading(NamedTuple):
    """What one answer was read as."""

    outcome: str
    read_as: str
    decided_by: str
    correct: bool | None
    reason: str


class _Beside(NamedTuple):
    """A score that is reported beside the headline."""

    measure: Measure
    statistics: Float[np.ndarray, "examples stats"]


class Readings(NamedTuple):
    """All answers of an instance, read, and what is summed."""

    measure: Measure
    readings: list[Reading]
    statistics: Float[np.ndarray, "examples stats"]
    beside: tuple[_Beside, ...] = ()
    labels: tuple[str, ...] = ()
    cells: Int[np.ndarray, " examples"] | None = None  # of the confusion matrix
    also: Mapping[str, Any] = types.MappingProxyType({})  # goes to the provenance


def read_classes(task, examples, predictions, verdicts, settings) -> Readings:
    """Reads the closed answers of an instance; arguments as of `evaluate_instance`."""
    answers = _read_answers(task, examples, predictions)
    readings = [
        _decide(answer, prediction, verdicts.get(example.id), settings)
        for answer, prediction, example in zip(
            answers, predictions, examples, strict=True
        )
    ]
    right = np.array([bool(reading.correct) for reading in readings], float)
    truths = [answer.reference or example.references for answer, example in zip(
        answers, examples, strict=True
    )]  # fmt: skip
    labels, cells = confusion_cells(task, truths, readings)
    counts = collections.Counter(tuple(sorted(truth)) for truth in truths)
    majority = max(counts.values()) / len(truths)
    statistics = np.stack([right, np.ones_like(right)], axis=1)
    also = {"majority": majority}
    return Readings(ACCURACY, readings, statistics, (), labels, cells, also)


def read_values(task, examples, predictions, verdicts, settings) -> Readings:
    """Reads numbers and texts; preambles are taken off texts in the strict profile."""
    references = [example.references[0] for example in examples]
    raw = [p.response if p else None for p in predictions]
    strip = task.type == "sequence_generation" and settings.profile == "strict"
    texts = [t and normalisers.strip_preamble(t) for t in raw] if strip else raw
    of_number = is_number(task)
    taken: list[_Taken] = []
    if of_number:
        taken = [
            _take_number(task, said, verdicts.get(example.id), settings)
            for said, example in zip(raw, examples, strict=True)
        ]
        texts = [one.text for one in taken]
    headline, *others = metrics_of(task, settings.profile)
    rows = text.examples(headline, references, texts)
    flags = rows[:, -len(text.FLAGS) :]
    if of_number:
        readings = list(map(_number_reading, taken, flags))
    else:
        readings = list(map(_value_reading, flags))
    beside = [
        _Beside(text_measure(metric), text.examples(metric, references, texts))
        for metric in others
    ]
    changed = sum(a != b for a, b in zip(raw, texts, strict=True))
    if strip:
        measure = text_measure(headline)._replace(name=f"{headline.name}_raw")
        beside.append(_Beside(measure, text.examples(headline, references, raw)))
    also: dict[str, Any] = {
        "majority": None,
        "normaliser": headline.normaliser,
        "preambles_taken_off": changed,
        "flags": dict(zip(text.FLAGS, _flag_sums(rows), strict=True)),
    }
    if of_number:
        also["numbers"] = _number_sources(readings)
    return Readings(text_measure(headline), readings, rows, tuple(beside), also=also)


def _flag_sums(rows: np.ndarray) -> list[int]:
    return [int(n) for n in rows[:, -len(text.FLAGS) :].sum(axis=0)]


def _value_reading(flags: np.ndarray) -> Reading:
    """Says what became of one answer, by the flags of its statistics."""
    odd = dict(zip(text.FLAGS, flags, strict=True))
    if odd["missing"]:
        return Reading("missing", "", "", None, "")
    outcome = "unreadable" if odd["unreadable"] else "scored"
    return Reading(outcome, "", "metric", None, "")


class _Taken(NamedTuple):
    """The number of an answer, as a text, and who read it."""

    text: str | None  # None = no answer, '' = no number
    read_as: str = ""
    decided_by: str = ""
    reason: str = ""


def _take_number(
    task: Task, said: str | None, verdict: Verdict | None, settings: Settings
) -> _Taken:
    """Lets the parser read a number, and the judge where it cannot, or always."""
    if said is None:
        return _Taken(None)
    number = parse_number(said, unit_of(task) or None, task.value_range)
    always = settings.judge_mode == "always" or settings.profile == "parity"
    if verdict is not None and (number.value is None or always):
        if verdict.value is not None:
            shown = f"{verdict.value:g} {unit_of(task)}".strip()
            return _Taken(repr(float(verdict.value)), shown, "judge", verdict.reason)
        if verdict.reason == "n/a":
            return _Taken("", "", "judge", verdict.reason)
        return _Taken("", "", "", verdict.reason)  # failed, unparsable ...
    if number.value is None:
        return _Taken(said, "", "", number.reason)
    shown = f"{number.value:g} {number.unit}".strip()
    return _Taken(said, shown, "parser", number.reason)


def _number_reading(taken: _Taken, flags: np.ndarray) -> Reading:
    odd = dict(zip(text.FLAGS, flags, strict=True))
    if odd["missing"]:
        return Reading("missing", "", "", None, "")
    read = "rewritten" if taken.decided_by == "judge" else "read"
    outcome = "unreadable" if odd["unreadable"] else read
    return Reading(outcome, taken.read_as, taken.decided_by, None, taken.reason)


def _number_sources(readings: Sequence[Reading]) -> dict[str, int]:
    """Counts where the numbers come from; a missing answer is no number either."""
    outcomes = collections.Counter(reading.outcome for reading in readings)
    parsed, rewritten = outcomes["read"], outcomes["rewritten"]
    return {
        "parsed": parsed,
        "rewritten": rewritten,
        "n/a": len(readings) - parsed - rewritten,
    }


def _read_answers(task, examples, predictions) -> list[parsing.Answer]:
    """Reads closed answers, each different one once: most are said many times."""
    known: dict[Any, parsing.Answer] = {}
    answers = []
    for example, prediction in zip(examples, predictions, strict=True):
        response = prediction.response if prediction else None
        options = str(example.extra.get("options"))
        key = (response, example.instruction, example.references, options)
        if key not in known:
            known[key] = parsing.read_answer(response, task, example)
        answers.append(known[key])
    return answers


def _decide(
    answer: parsing.Answer,
    prediction: Prediction | None,
    verdict: Verdict | None,
    settings: Settings,
) -> Reading:
    """Lets the parser decide, and the judge where the parser cannot, or always."""
    parsed, outcome = answer.parsed, str(answer.outcome)
    labels = ", ".join(parsed.labels)
    if prediction is None or prediction.response is None:
        return Reading("missing", "", "", False, "")
    undecided = outcome in ("several", "none")
    always = settings.judge_mode == "always" or settings.profile == "parity"
    if verdict is not None and verdict.correct is not None and (undecided or always):
        return Reading(outcome, labels, "judge", verdict.correct, verdict.reason)
    if verdict is not None and always:  # as released: no verdict is a NO
        return Reading(outcome, labels, "", False, verdict.reason)
    if undecided:
        return Reading(outcome, labels, "", False, parsed.reason)
    return Reading(outcome, labels, "parser", outcome == "matched", parsed.reason)
