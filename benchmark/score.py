"""From answers to numbers: each instance of a task, then the task over its folds.

Classification: accuracy. A closed answer is read by the parser; what it cannot decide
is decided by a judge's verdict where there is one, and else counts as wrong and as
unreadable. Regression: the answer is read as a number, by the parser or, where that
fails, by a judge that rewrote it; the score stands for the answers that are one, with
their number beside it. Sequences: corpus-level scores of the
text. A missing answer counts as wrong, as an empty text, or as no number.
"""

import collections
import hashlib
import importlib.metadata
import math
import types
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from benchmark import intervals, normalisers, parsing, tasks
from benchmark.metrics import text
from benchmark.metrics.counts import NUMBER_BUILDERS, is_number, unit_of
from benchmark.metrics.events import EVENT_BUILDERS
from benchmark.numbers import parse_number
from benchmark.results import Row
from benchmark.typing import Direction, Example, Prediction, Score, Task, Verdict

Profile = Literal["strict", "parity"]
JudgeMode = Literal["undecided", "always"]

VERSION = "1"  # of this way of scoring
JUDGES_OF_RECORD = ("gpt-4o", "llama-3.1-8b-instruct")  # of paper and released code
_CONFUSION_CELLS = 20_000_000  # more are not resampled
_SHOWN_LABELS = 64  # a confusion matrix of more labels serves nobody


class Settings(NamedTuple):
    """How answers are scored."""

    profile: Profile = "strict"  # 'parity': as the released scripts do, judge included
    judge_mode: JudgeMode = "undecided"  # 'always': a verdict outdoes the parser
    num_resamples: int = intervals.NUM_RESAMPLES
    seed: int = 0


STRICT = Settings()


class Measure(NamedTuple):
    """A score of a sum of statistics."""

    name: str
    compute: intervals.Compute  # NaN = undefined
    direction: Direction
    version: str = "1"
    reconstructed: bool = False
    binary: bool = False  # statistics are (right, 1)


class Evaluated(NamedTuple):
    """One instance: its scores, its examples, and how the headline varies."""

    scores: tuple[Score, ...]  # the headline metric first
    rows: tuple[Row, ...]
    replicates: Float[np.ndarray, " resamples"]


def accuracy(sums: Float[np.ndarray, "*sets 2"]) -> Float[np.ndarray, "*sets"]:
    """Returns right / all of summed (right, 1)."""
    return np.asarray(sums[..., 0] / sums[..., 1])


ACCURACY = Measure("accuracy", accuracy, "higher", binary=True)


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
    read = _read_classes if task.type == "classification" else _read_values
    found = read(task, examples, predictions, judged, settings)
    rows = _rows(task, examples, predictions, judged, found, given)
    speakers = [example.speaker for example in examples]
    clusters = intervals.usable_clusters(speakers)
    seed = instance_seed(examples[0].instance, settings.seed)
    value, replicates = _estimate(
        found.measure, found.statistics, clusters, settings, seed
    )
    source = {
        **_sources(task, examples, rows, judged, settings, found.measure),
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

    The interval comes from resampling within each instance. Where one has no value,
    the mean has none.

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
            **first.provenance,
            "instances": [head.instance for head in heads],
            "majority": sum(majorities) / len(heads) if whole else None,
        },
    )


def measure_of(task: Task, profile: Profile = "strict") -> Measure:
    """Returns what turns summed statistics of a task's examples into its score.

    Raises:
      InputError: the metric is not known.
    """
    if task.type == "classification":
        return ACCURACY
    return _text_measure(metrics_of(task, profile)[0])


def metrics_of(task: Task, profile: Profile = "strict") -> tuple[text.TextMetric, ...]:
    """Returns the metric of a task, then those reported beside it.

    Raises:
      InputError: the metric is not known.
    """
    builders = {**NUMBER_BUILDERS, **EVENT_BUILDERS}
    if task.metric not in builders:
        return text.metrics_for(task, profile)
    start = f"{task.metric}:"
    names = [task.metric, *(name for name in builders if name.startswith(start))]
    return tuple(builders[n](task._replace(metric=n), profile) for n in names)


def instance_seed(instance: str, seed: int) -> tuple[int, int]:
    """Returns the seed of an instance's bootstrap; models share it."""
    return seed, zlib.crc32(instance.encode("utf-8", "surrogatepass"))


def data_hash(examples: Iterable[Example]) -> str:
    """Returns the sha256 of ids, instructions, texts and references, in any order."""
    lines = sorted(repr((e.id, e.instruction, e.texts, e.references)) for e in examples)
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def comparability(
    task: Task,
    examples: Sequence[Example],
    verdicts: Mapping[str, Verdict],
    settings: Settings,
    measure: Measure,
    given: Mapping[str, Any],
) -> list[str]:
    """Says what stands between a number and those that others publish."""
    notes = []
    if task.replaces:
        notes.append(
            f"the released data replace {task.replaces}: numbers from before do not "
            "compare"
        )
    recorded = tasks.revision_of(task, examples[0].instance)
    revision = str(given.get("data_revision") or "")
    if recorded and revision and revision != recorded:
        notes.append(f"data of revision {revision[:12]}, released: {recorded[:12]}")
    released = task.num_examples
    if released and len(task.instances) < 2 and len(examples) != released:
        notes.append(f"{len(examples)} of {released} released examples")
    if measure.reconstructed or "metric" in task.reconstructed:
        notes.append(f"metric reconstructed: {task.metric_note or task.metric}")
    if task.type == "classification" and task.phase != "user":
        notes += _judge_notes(verdicts, settings)
    if is_number(task) and task.phase != "user":
        notes.append(_number_note(verdicts))
    speakers = {example.speaker for example in examples if example.speaker}
    if 0 < len(speakers) < intervals.MIN_CLUSTERS:
        notes.append(f"the interval is for these {len(speakers)} speakers")
    if settings.profile == "parity":
        notes.append("profile 'parity': text as the released scripts treat it")
    return notes


class _Reading(NamedTuple):
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


class _Readings(NamedTuple):
    """All answers of an instance, read, and what is summed."""

    measure: Measure
    readings: list[_Reading]
    statistics: Float[np.ndarray, "examples stats"]
    beside: tuple[_Beside, ...] = ()
    labels: tuple[str, ...] = ()
    cells: Int[np.ndarray, " examples"] | None = None  # of the confusion matrix
    also: Mapping[str, Any] = types.MappingProxyType({})  # goes to the provenance


class _Estimate(NamedTuple):
    value: float | None
    low: float | None
    high: float | None


def _read_classes(task, examples, predictions, verdicts, settings) -> _Readings:
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
    labels, cells = _confusion_cells(task, truths, readings)
    counts = collections.Counter(tuple(sorted(truth)) for truth in truths)
    majority = max(counts.values()) / len(truths)
    statistics = np.stack([right, np.ones_like(right)], axis=1)
    also = {"majority": majority}
    return _Readings(ACCURACY, readings, statistics, (), labels, cells, also)


def _read_values(task, examples, predictions, verdicts, settings) -> _Readings:
    """Reads numbers and texts; preambles are taken off texts in the strict profile."""
    references = [example.references[0] for example in examples]
    raw = [p.response if p else None for p in predictions]
    strip = task.type == "sequence_generation" and settings.profile == "strict"
    texts = [t and normalisers.strip_preamble(t) for t in raw] if strip else raw
    of_number = is_number(task)
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
        _Beside(_text_measure(metric), text.examples(metric, references, texts))
        for metric in others
    ]
    changed = sum(a != b for a, b in zip(raw, texts, strict=True))
    if strip:
        measure = _text_measure(headline)._replace(name=f"{headline.name}_raw")
        beside.append(_Beside(measure, text.examples(headline, references, raw)))
    also: dict[str, Any] = {
        "majority": None,
        "normaliser": headline.normaliser,
        "preambles_taken_off": changed,
        "flags": dict(zip(text.FLAGS, _flag_sums(rows), strict=True)),
    }
    if of_number:
        also["numbers"] = _number_sources(readings)
    return _Readings(_text_measure(headline), readings, rows, tuple(beside), also=also)


def _flag_sums(rows: np.ndarray) -> list[int]:
    return [int(n) for n in rows[:, -len(text.FLAGS) :].sum(axis=0)]


def _value_reading(flags: np.ndarray) -> _Reading:
    """Says what became of one answer, by the flags of its statistics."""
    odd = dict(zip(text.FLAGS, flags, strict=True))
    if odd["missing"]:
        return _Reading("missing", "", "", None, "")
    outcome = "unreadable" if odd["unreadable"] else "scored"
    return _Reading(outcome, "", "metric", None, "")


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


def _number_reading(taken: _Taken, flags: np.ndarray) -> _Reading:
    odd = dict(zip(text.FLAGS, flags, strict=True))
    if odd["missing"]:
        return _Reading("missing", "", "", None, "")
    read = "rewritten" if taken.decided_by == "judge" else "read"
    outcome = "unreadable" if odd["unreadable"] else read
    return _Reading(outcome, taken.read_as, taken.decided_by, None, taken.reason)


def _number_sources(readings: Sequence[_Reading]) -> dict[str, int]:
    """Counts where the numbers come from; a missing answer is no number either."""
    outcomes = collections.Counter(reading.outcome for reading in readings)
    parsed, rewritten = outcomes["read"], outcomes["rewritten"]
    return {
        "parsed": parsed,
        "rewritten": rewritten,
        "n/a": len(readings) - parsed - rewritten,
    }


def _text_measure(metric: text.TextMetric) -> Measure:
    return Measure(
        metric.name,
        metric.compute,
        metric.direction,
        metric.version,
        metric.reconstructed,
    )


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
) -> _Reading:
    """Lets the parser decide, and the judge where the parser cannot, or always."""
    parsed, outcome = answer.parsed, str(answer.outcome)
    labels = ", ".join(parsed.labels)
    if prediction is None or prediction.response is None:
        return _Reading("missing", "", "", False, "")
    undecided = outcome in ("several", "none")
    always = settings.judge_mode == "always" or settings.profile == "parity"
    if verdict is not None and verdict.correct is not None and (undecided or always):
        return _Reading(outcome, labels, "judge", verdict.correct, verdict.reason)
    if verdict is not None and always:  # as released: no verdict is a NO
        return _Reading(outcome, labels, "", False, verdict.reason)
    if undecided:
        return _Reading(outcome, labels, "", False, parsed.reason)
    return _Reading(outcome, labels, "parser", outcome == "matched", parsed.reason)


def _confusion_cells(task, truths, readings):
    """Returns the labels, and each example's cell of [truth, answer or none].

    Only for single closed labels: () and None otherwise.
    """
    labels = task.labels or tuple(sorted({t[0] for t in truths if len(t) == 1}))
    index = {label: i for i, label in enumerate(labels)}
    single = all(len(t) == 1 and t[0] in index for t in truths)
    if task.multi_label or not single or not 2 <= len(labels) <= _SHOWN_LABELS:
        return (), None
    width = len(labels) + 1  # the last column: nothing that counts was said
    cells = np.empty(len(truths), int)
    for row, (truth, reading) in enumerate(zip(truths, readings, strict=True)):
        said = truth[0] if reading.correct else reading.read_as
        unsaid = reading.correct is False and reading.decided_by != "parser"
        column = width - 1 if unsaid else index.get(said, width - 1)
        cells[row] = index[truth[0]] * width + column
    return labels, cells


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


def macro_f1(
    cells: Int[np.ndarray, " examples"],
    num_labels: int,
    clusters: Sequence[str] = (),
    num_resamples: int = intervals.NUM_RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> tuple[float, Float[np.ndarray, " resamples"]]:
    """Returns macro-F1 over single labels with bootstrap replicates.

    The mean of F1 over the labels that occur in truth or answers. An answer that names
    no label is a miss of the true one.

    Args:
      cells: [examples] truth * (num_labels + 1) + answer; answer = num_labels: none.
      num_labels: number of labels.
      clusters: [examples] speakers, see `intervals.unit_sums`.
      num_resamples: number of bootstrap samples.
      seed: of the samples.
    """
    shape = (num_labels, num_labels + 1)
    counts = np.bincount(cells, minlength=math.prod(shape)).reshape(shape)
    if clusters and any(clusters):
        drawn = _clustered_confusions(cells, clusters, shape, num_resamples, seed)
    else:
        rng = np.random.default_rng(seed)
        drawn = intervals.resampled_counts(counts, num_resamples, rng)
    return float(f1_of(counts[None])[0]), f1_of(drawn)


def f1_of(confusions: np.ndarray) -> Float[np.ndarray, " tables"]:
    """Returns macro-F1 of each table, [tables, labels, labels + 1], rows are true."""
    confusions = np.asarray(confusions, float)
    num_labels = confusions.shape[1]
    hits = np.einsum("tll->tl", confusions[:, :, :num_labels])
    true = confusions.sum(axis=2)
    said = confusions[:, :, :num_labels].sum(axis=1)
    f1 = 2 * hits / np.maximum(true + said, 1e-300)
    occurs = true + said > 0
    return f1.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)


def _clustered_confusions(cells, clusters, shape, num_resamples, seed) -> np.ndarray:
    """Returns confusion matrices of bootstrap samples of speakers."""
    names = [name or f"\0{row}" for row, name in enumerate(clusters)]
    _, unit = np.unique(names, return_inverse=True)
    number, width = unit.max() + 1, math.prod(shape)
    if number * width > _CONFUSION_CELLS:
        return np.full((1, *shape), np.nan)
    flat = np.bincount(unit * width + cells, minlength=number * width)
    units = flat.reshape(number, width).astype(float)
    return intervals.resampled_sums(units, num_resamples, seed).reshape(-1, *shape)


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


def _judge_notes(verdicts, settings) -> list[str]:
    names = sorted({verdict.judge for verdict in verdicts.values()})
    if not names:
        return ["read by the closed-label parser; published: judged by GPT-4o"]
    known = [name for name in names if name.lower().endswith(JUDGES_OF_RECORD)]
    notes = [] if known == names else [f"judge {', '.join(names)}; published: GPT-4o"]
    if settings.judge_mode == "undecided" and settings.profile == "strict":
        notes.append("the judge decided only what the parser could not")
    return notes


def _number_note(verdicts) -> str:
    names = sorted({verdict.judge for verdict in verdicts.values()})
    if not names:
        return "numbers read by the parser; published: rewritten by a language model"
    return f"numbers rewritten by {', '.join(names)} where the judge was asked"


def _sources(task, examples, rows, verdicts, settings, measure) -> dict[str, Any]:
    """Returns what a number depends on."""
    outcomes = collections.Counter(row.outcome for row in rows)
    speakers = [example.speaker for example in examples]
    resampled = {name for name in intervals.usable_clusters(speakers) if name}
    judges = sorted({verdict.judge for verdict in verdicts.values()})
    return {
        "kind": "re-run",
        "task_record": tasks.fingerprint(task),
        "data_sha256": data_hash(examples),
        "outcomes": dict(outcomes.most_common()),
        "speakers": len({name for name in speakers if name}),
        "clusters": len(resampled),
        "judge": ", ".join(judges) or None,
        "judged": sum(row.decided_by == "judge" for row in rows),
        "metric_version": measure.version,
        "scoring_version": VERSION,
        **settings._asdict(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of the packages that numbers may depend on."""
    names = ("metaperser-jax", "numpy", "jax", "jiwer")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
