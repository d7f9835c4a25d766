"""From answers to numbers: each instance of a task, then the task over its folds.

Classification: accuracy. Regression: the answer is read as a number, by the parser or,
where that fails, by a judge that rewrote it; the score stands for the answers that are
one, with their number beside it. Sequences: corpus-level scores of the text. A missing
answer counts as wrong, as an empty text, or as no number.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from benchmark import intervals
from benchmark.confusions import macro_f1
from benchmark.measures import STRICT, Profile, Settings
from benchmark.provenance import comparability, merged, sources
from benchmark.readings import read_classes, read_values
from benchmark.results import Row
from benchmark.typing import Example, Prediction, Score, Task, Verdict


class Evaluated(NamedTuple):
    """One instance: its scores, its examples, and how the headline varies."""

    scores: tuple[Score, ...]  # the headline metric first
    rows: tuple[Row, ...]
    replicates: Float[np.ndarray, " resamples"]


def evaluate_instance(
    task: Task,
    examples: Sequence[Example],
    predictions: Sequence[Prediction | None],
    verdicts: Mapping[str, Verdict] | None = None,
    settings: Settings = STRICT,
    provenance: Mapping[str, Any] | None = None,
) -> Evaluated:
    """Scores one model on one instance.

    Args:
      task: of the instance.
      examples: all of them; at least one.
      predictions: one an example, in their order, as `predictions.join` gives them;
        None = missing.
      verdicts: by id of the example.
      settings: see `Settings`.
      provenance: where the predictions come from: 'model', 'predictions',
        'predictions_sha256', 'data_revision' ...; kept with each number.

    Raises:
      InputError: the metric of the task is not known.
    """
    given, judged = provenance or {}, verdicts or {}
    read = read_classes if task.type == "classification" else read_values
    found = read(task, examples, predictions, judged, settings)
    rows = _rows(task, examples, predictions, judged, found, given)
    speakers = [example.speaker for example in examples]
    clusters = intervals.usable_clusters(speakers)
    seed = instance_seed(examples[0].instance, settings.seed)
    value, replicates = _estimate(
        found.measure, found.statistics, clusters, settings, seed
    )
    source = {
        **sources(task, examples, rows, judged, settings, found.measure),
        **found.also,
        **given,
    }
    base = Score(
        task=task.name,
        instance=examples[0].instance,
        model=str(given.get("model", "")),
        metric=found.measure.name,
        **value._asdict(),
        direction=found.measure.direction,
        chance=task.chance,
        num_examples=len(rows),
        num_answered=sum(row.outcome != "missing" for row in rows),
        num_unreadable=sum(_is_unreadable(row) for row in rows),
        notes=tuple(
            comparability(task, examples, judged, settings, found.measure, given)
        ),
        provenance=source,
    )
    others = _others(base, found, clusters, settings, seed)
    return Evaluated((base, *others), rows, replicates)


def score_instance(
    task: Task,
    examples: Sequence[Example],
    predictions: Sequence[Prediction | None],
    verdicts: Mapping[str, Verdict] | None = None,
    profile: Profile = "strict",
    num_resamples: int = intervals.NUM_RESAMPLES,
    seed: int = 0,
) -> list[Score]:
    """Returns the scores of one model on one instance, the headline metric first.

    See `evaluate_instance`, which also returns what they are made of.
    """
    settings = Settings(profile, num_resamples=num_resamples, seed=seed)
    found = evaluate_instance(task, examples, predictions, verdicts, settings)
    return list(found.scores)


def average_folds(folds: Sequence[Evaluated]) -> Score:
    """Returns a task's score: the mean over its instances, which weigh the same.

    The interval comes from resampling within each instance, or, where an instance is
    all right or all wrong and leaves nothing to vary, from the instances' intervals.
    Where one has no value, the mean has none.

    Args:
      folds: one an instance, at least one.
    """
    heads = [fold.scores[0] for fold in folds]
    first = heads[0]
    if len(folds) == 1:
        return first._replace(instance="")
    known = [head.value for head in heads if head.value is not None]
    value = sum(known) / len(heads) if len(known) == len(heads) else None
    replicates = np.mean([fold.replicates for fold in folds], axis=0)
    bounds = intervals.interval(replicates) if value is not None else (None, None)
    if value is not None and any(map(_is_rigid, folds)):
        parts = [(head.value or 0.0, head.low, head.high) for head in heads]
        bounds = intervals.mean_interval(parts)
    notes = dict.fromkeys(note for head in heads for note in head.notes)
    found = [head.provenance.get("majority") for head in heads]
    majorities = [majority for majority in found if majority is not None]
    whole = len(majorities) == len(heads)
    return first._replace(
        instance="",
        value=value,
        low=bounds[0],
        high=bounds[1],
        num_examples=sum(head.num_examples for head in heads),
        num_answered=sum(head.num_answered for head in heads),
        num_unreadable=sum(head.num_unreadable for head in heads),
        notes=(f"mean of {len(heads)} instances", *notes),
        provenance={
            **merged([head.provenance for head in heads]),
            "instances": [head.instance for head in heads],
            "majority": sum(majorities) / len(heads) if whole else None,
        },
    )


def _is_rigid(fold: Evaluated) -> bool:
    """Tells whether an interval came from elsewhere than replicates that vary."""
    head = fold.scores[0]
    return bool(np.ptp(fold.replicates) == 0) and head.low != head.high


def instance_seed(instance: str, seed: int) -> tuple[int, int]:
    """Returns the seed of an instance's bootstrap; models share it."""
    return seed, zlib.crc32(instance.encode("utf-8", "surrogatepass"))


class _Estimate(NamedTuple):
    value: float | None
    low: float | None
    high: float | None


def _others(base, readings, clusters, settings, seed) -> list[Score]:
    """Returns the scores beside the headline: macro-F1, or the raw text's."""
    if readings.cells is not None:
        value, replicates = macro_f1(
            readings.cells, len(readings.labels), clusters, settings.num_resamples, seed
        )
        low, high = intervals.interval(replicates)
        plain = base._replace(metric="macro_f1", value=value, low=low, high=high)
        return [plain._replace(chance=None)]
    scores = []
    for measure, statistics in readings.beside:
        found, _ = _estimate(measure, statistics, clusters, settings, seed)
        fields = {"direction": measure.direction, **found._asdict()}
        scores.append(base._replace(metric=measure.name, chance=None, **fields))
    return scores


def _estimate(measure, statistics, clusters, settings, seed):
    units = intervals.unit_sums(statistics, clusters)
    value = float(measure.compute(statistics.sum(axis=0)))
    drawn = intervals.replicates(measure.compute, units, settings.num_resamples, seed)
    if measure.binary:
        low, high = intervals.proportion_interval(drawn, value, len(statistics))
    else:
        low, high = intervals.interval(drawn)
    if not math.isfinite(value):
        return _Estimate(None, None, None), drawn
    return _Estimate(value, low, high), drawn


def _rows(task, examples, predictions, verdicts, found, given) -> tuple[Row, ...]:
    model = str(given.get("model", ""))
    columns = (examples, predictions, found.readings, found.statistics.tolist())
    return tuple(
        Row(
            task=task.name,
            instance=example.instance,
            id=example.id,
            model=model,
            instruction=example.instruction,
            references=example.references,
            response=prediction.response if prediction else None,
            outcome=reading.outcome,
            read_as=reading.read_as,
            decided_by=reading.decided_by,
            correct=reading.correct,
            speaker=example.speaker,
            audios=tuple(audio.path for audio in example.audios),
            texts=example.texts,
            reason=reading.reason,
            judge_text=verdicts[example.id].text if example.id in verdicts else "",
            statistics=tuple(statistics),
        )
        for example, prediction, reading, statistics in zip(*columns, strict=True)
    )


def _is_unreadable(row: Row) -> bool:
    """Tells whether an answer is there and nothing could be made of it."""
    undecided = row.outcome != "missing" and row.decided_by == ""
    return undecided or row.outcome == "unreadable"
