"""Is model A better than model B? Task by task, on the examples that both were asked.

Each task has a paired difference with its interval and a p-value; the p-values are
adjusted for the number of tasks (Holm, 1979), so that among many tasks a difference by
chance is not taken for one.
"""

import csv
import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmark import display, figures, intervals, measures
from benchmark.errors import InputError, Problems
from benchmark.metrics.paired import holm
from benchmark.provenance import scored_apart
from benchmark.results import Results, Row, read_results, read_rows
from benchmark.score import instance_seed
from benchmark.typing import Task

ALPHA = 0.05


class Difference(NamedTuple):
    """Model A minus model B on one task."""

    task: str
    metric: str
    direction: str  # 'higher' or 'lower' is better
    value_a: float
    value_b: float
    difference: float  # a - b
    low: float | None  # 95 %
    high: float | None
    p_value: float
    p_holm: float
    test: str
    num_examples: int
    num_units: int  # speakers, where they are known
    better: str  # 'a', 'b'; '' = not clear


class Comparison(NamedTuple):
    """Two models, and what was left out."""

    model_a: str
    model_b: str
    differences: tuple[Difference, ...]
    problems: Problems


def compare(
    folder_a: pathlib.Path,
    folder_b: pathlib.Path,
    num_resamples: int = intervals.NUM_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compares two models by the folders that `score` wrote.

    Raises:
      InputError: they share no task, or were scored in different profiles, or on
        examples of one id with different references.
    """
    a, b = read_results(folder_a), read_results(folder_b)
    profile = _same_profile(a, b)
    rows_a, rows_b = _by_task(folder_a), _by_task(folder_b)
    problems = Problems()
    for name in sorted(rows_a.keys() ^ rows_b.keys()):
        have, lack = (a, b) if name in rows_a else (b, a)
        message = f"scored for {have.model}, not for {lack.model}; left out"
        problems.warning("one_model_only", name, message)
    found = []
    for name in [name for name in a.tasks if name in rows_a and name in rows_b]:
        pairs = _pairs(name, rows_a[name], rows_b[name], problems)
        if not pairs:
            continue
        one = _difference(a.tasks[name], pairs, profile, num_resamples, seed)
        if math.isfinite(one.difference):
            found.append(one)
            _check_alike(name, a, b, problems)
        else:
            problems.warning("no_value", name, _no_value(one, a.model, b.model))
    if not found:
        told = "; ".join(f"{row.where}: {row.message}" for row in problems.rows[:2])
        raise InputError(
            f"{folder_a} and {folder_b}: no example that both models were scored on, "
            f"with a value each{f' ({told})' if told else ''}"
        )
    return Comparison(a.model, b.model, tuple(_adjusted(found)), problems)


def as_text(comparison: Comparison) -> str:
    """Returns a console table of the differences."""
    rows = [
        [
            one.task,
            one.metric,
            display.number(one.value_a),
            display.number(one.value_b),
            f"{one.difference:+.3f}",
            display.between(one.low, one.high),
            f"{one.p_holm:.3f}",
            one.better.upper() or "-",
        ]
        for one in comparison.differences
    ]
    header = ["task", "metric", "A", "B", "A - B", "95 %", "p (Holm)", "better"]
    names = [display.printable(m) for m in (comparison.model_a, comparison.model_b)]
    return f"A = {names[0]}\nB = {names[1]}\n{display.table(header, rows)}"


def as_json(comparison: Comparison) -> str:
    """Returns the differences as JSON."""
    record = {
        "model_a": comparison.model_a,
        "model_b": comparison.model_b,
        "alpha": ALPHA,
        "adjustment": "Holm over tasks",
        "differences": [one._asdict() for one in comparison.differences],
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(comparison: Comparison) -> str:
    """Returns the differences as CSV without formulas."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model_a", "model_b", *Difference._fields])
    for one in comparison.differences:
        cells = (comparison.model_a, comparison.model_b, *one)
        writer.writerow([display.csv_safe(cell) for cell in cells])
    return file.getvalue()


def plot(comparison: Comparison) -> bytes:
    """Returns a dumbbell plot (SVG) of the tasks in which higher is better.

    Where only tasks with lower values better were compared, of those.
    """
    shown = [one for one in comparison.differences if one.direction == "higher"]
    label = "score, higher is better"
    if not shown:
        shown, label = list(comparison.differences), "error, lower is better"
    shown.sort(key=lambda one: -one.difference)
    pairs = [
        figures.Pair(one.task, one.value_a, one.value_b, bool(one.better))
        for one in shown
    ]
    return figures.dumbbell(pairs, comparison.model_a, comparison.model_b, label)


def _same_profile(a: Results, b: Results) -> measures.Profile:
    """Returns the profile that both were scored in."""
    found = {
        result.model: result.scores[0].provenance.get("profile", "strict")
        for result in (a, b)
        if result.scores
    }
    if len(set(found.values())) > 1:
        told = ", ".join(f"{model}: {profile}" for model, profile in found.items())
        raise InputError(f"scored in different profiles ({told}); score one again")
    return next(iter(found.values()), "strict")


def _no_value(one: Difference, model_a: str, model_b: str) -> str:
    lack = [
        model
        for model, value in ((model_a, one.value_a), (model_b, one.value_b))
        if not math.isfinite(value)
    ]
    return f"{' and '.join(lack)}: no answer that gives a value; left out"


def _check_alike(name: str, a: Results, b: Results, problems: Problems) -> None:
    """Warns where two scores differ in more than the model."""
    heads = [score for one in (a, b) for score in one.task_scores if score.task == name]
    if apart := scored_apart(heads):
        message = f"the two were not scored alike: other {', '.join(apart)}"
        problems.warning("scored_apart", name, message)


def _by_task(folder: pathlib.Path) -> dict[str, dict[tuple[str, str], Row]]:
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for row in read_rows(folder):
        found.setdefault(row.task, {})[row.instance, row.id] = row
    return found


def _pairs(
    name: str,
    rows_a: Mapping[tuple[str, str], Row],
    rows_b: Mapping[tuple[str, str], Row],
    problems: Problems,
) -> list[tuple[Row, Row]]:
    """Returns the rows of both models of each example that both have."""
    shared = [key for key in rows_a if key in rows_b]
    alone = len(rows_a) + len(rows_b) - 2 * len(shared)
    if alone:
        message = f"{alone} examples that only one model was scored on; left out"
        problems.warning("one_model_only", name, message)
    for key in shared:
        if rows_a[key].references != rows_b[key].references:
            raise InputError(
                f"{name}: example {key[1]!r} has different references in the two "
                "results: they were scored on different data; score one again"
            )
    return [(rows_a[key], rows_b[key]) for key in shared]


def _difference(
    task: Task,
    pairs: Sequence[tuple[Row, Row]],
    profile: measures.Profile,
    num_resamples: int,
    seed: int,
) -> Difference:
    measure = measures.measure_of(task, profile)
    folds = list(dict.fromkeys(a.instance for a, _ in pairs))
    fold = np.array([folds.index(a.instance) for a, _ in pairs])
    statistics = [
        _apart(np.array([pair[side].statistics for pair in pairs]), fold, len(folds))
        for side in (0, 1)
    ]

    def compute(sums: np.ndarray) -> np.ndarray:
        parts = np.split(sums, len(folds), axis=-1)
        return np.asarray(np.mean([measure.compute(part) for part in parts], axis=0))

    found = intervals.compare_paired(
        compute,
        *statistics,
        clusters=intervals.usable_clusters([a.speaker for a, _ in pairs]),
        num_resamples=num_resamples,
        seed=instance_seed(task.name, seed),
        binary=measure.binary and len(folds) == 1,
    )
    value_a, value_b = (float(compute(side.sum(axis=0))) for side in statistics)
    return Difference(
        task=task.name,
        metric=measure.name,
        direction=measure.direction,
        value_a=value_a,
        value_b=value_b,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        p_holm=found.p_value,
        test=found.test,
        num_examples=len(pairs),
        num_units=found.num_units,
        better="",
    )


def _apart(
    statistics: Float[np.ndarray, "examples stats"], fold: np.ndarray, num_folds: int
) -> Float[np.ndarray, "examples wide"]:
    """Gives each fold columns of its own, so that folds are scored, then averaged."""
    number, width = statistics.shape
    wide = np.zeros((number, num_folds, width))
    wide[np.arange(number), fold] = statistics
    return wide.reshape(number, num_folds * width)


def _adjusted(found: Sequence[Difference]) -> list[Difference]:
    p_values = np.array([one.p_value for one in found], np.float32)
    adjusted = np.asarray(holm(p_values))
    return [
        one._replace(p_holm=float(p), better=_better(one, float(p)))
        for one, p in zip(found, adjusted, strict=True)
    ]


def _better(one: Difference, p_holm: float) -> str:
    if p_holm >= ALPHA or one.difference == 0:
        return ""
    return "a" if (one.difference > 0) == (one.direction == "higher") else "b"
