"""Metrics of text answers: one record a released metric, all as functions of sums.

A `TextMetric` gives statistics of each example and computes its value from their sum,
so a score is that of the corpus, sets can be merged, and a bootstrap replicate is a
weighted sum: `metric.compute(weights @ examples(metric, references, hypotheses))`.
Every row of statistics ends with `FLAGS`: what was odd about the example.

Policies, the same for all:

- No answer (None) counts as an empty one and in `missing`.
- An example with an empty reference stays in: what is answered counts against the
  corpus (insertions, false positives); accuracies leave it out. A corpus without any
  reference has no value (NaN). (As released, an empty text holds one empty word.)
- An answer is read up to a million characters, 10,000 tokens (twice the reference, if
  that is more) or, for lists and short answers, 100,000 characters; it counts in
  `truncated`. Nothing raises, whatever the text.

Profiles: `strict` normalises the text by the language of the task and reads the forms
in which models answer. `parity` does what is known of the released scripts, on the raw
response: upper case, cut at single spaces or into characters, edits of the corpus over
its references; SacreBLEU 13a for every language; slots as 'type: value, type: value',
mean F1 of examples. `reconstructed` marks formulas that the release does not tell.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from benchmark import normalisers
from benchmark.errors import InputError, did_you_mean
from benchmark.metrics import answers, entities, pairs, sequence, slots, translation
from benchmark.typing import Direction, Task

Profile = Literal["strict", "parity"]
_PROFILES: dict[str, Profile] = {"strict": "strict", "parity": "parity"}
Batch = Callable[[Sequence[str], Sequence[str]], np.ndarray]  # -> [examples, stats]

MAX_CHARACTERS = 1_000_000
FLAGS = (*sequence.READING_STATS, "examples", "missing")
_RELEASED_MAX_TOKENS = MAX_CHARACTERS


class TextMetric(NamedTuple):
    """A metric on text answers."""

    name: str
    version: str
    # Reference, answer -> [stats]; sums of it over examples are what `compute` takes.
    statistics: Callable[[str, str | None], Float[np.ndarray, "stats"]]
    compute: Callable[[Float[np.ndarray, "*sets stats"]], Float[np.ndarray, "*sets"]]
    direction: Direction
    unit: str
    reconstructed: bool  # the released formula is not known
    doc: str
    stats: tuple[str, ...]  # names of the statistics, the last are `FLAGS`
    batch: Batch  # statistics of many examples at once, without the last two flags
    profile: Profile = "strict"
    normaliser: str = "none_v1"  # name of the normaliser, or of the tokeniser of BLEU


class TextResult(NamedTuple):
    """A metric's value on a set of examples, and what it rests on."""

    value: float  # NaN where it is not defined
    sums: dict[str, float]  # the summed statistics by name
    num_examples: int
    num_empty_references: int
    num_missing: int  # no answer was given
    num_unreadable: int  # an answer that could not be read
    num_truncated: int


class RawAndStripped(NamedTuple):
    """The same answers as they are, and without a chat model's preamble."""

    raw: TextResult
    stripped: TextResult
    num_stripped: int  # answers that had one


def examples(
    metric: TextMetric, references: Sequence[str], hypotheses: Sequence[str | None]
) -> Float[np.ndarray, "examples stats"]:
    """Returns the statistics of each example.

    Args:
      metric: what to measure.
      references: what is right.
      hypotheses: the answers in the same order, None where there is none.

    Returns:
      [examples, stats] float64, named by `metric.stats`.

    Raises:
      InputError: when there are not as many answers as references.
    """
    if len(references) != len(hypotheses):
        raise InputError(
            f"{metric.name}: found {len(references)} references and "
            f"{len(hypotheses)} answers; join them by id first"
        )
    if not len(references):
        return np.zeros((0, len(metric.stats)))
    missing = np.array([text is None for text in hypotheses])
    given = [text or "" for text in hypotheses]
    cut = np.array([len(text) > MAX_CHARACTERS for text in given])
    if cut.any():
        given = [text[:MAX_CHARACTERS] for text in given]
    rows = metric.batch(references, given)
    rows[:, -1] = np.maximum(rows[:, -1], cut)
    return np.column_stack([rows, np.ones(len(rows)), missing])


def summarise(
    metric: TextMetric, rows: Float[np.ndarray, "examples stats"]
) -> TextResult:
    """Returns the value of a metric from the statistics of each example."""
    sums = rows.sum(axis=0)
    named = dict(zip(metric.stats, sums.tolist(), strict=True))
    empty, unreadable, truncated, number, missing = (int(named[flag]) for flag in FLAGS)
    value = float(metric.compute(sums))
    return TextResult(value, named, number, empty, missing, unreadable, truncated)


def score(
    metric: TextMetric, references: Sequence[str], hypotheses: Sequence[str | None]
) -> TextResult:
    """Returns the value of a metric on a set of examples; see `examples`."""
    return summarise(metric, examples(metric, references, hypotheses))


def side_by_side(
    metric: TextMetric, references: Sequence[str], hypotheses: Sequence[str | None]
) -> RawAndStripped:
    """Scores answers as they are and without preamble (`strip_preamble`)."""
    stripped = [text and normalisers.strip_preamble(text) for text in hypotheses]
    changed = sum(a != b for a, b in zip(hypotheses, stripped, strict=True))
    raw = score(metric, references, hypotheses)
    return RawAndStripped(
        raw, score(metric, references, stripped) if changed else raw, changed
    )


def _metric(
    name: str,
    doc: str,
    stats: tuple[str, ...],
    batch: Batch,
    compute: Callable[[np.ndarray], np.ndarray],
    **fields,
) -> TextMetric:
    """Returns a metric, with a version, whose `statistics` are those of its batch."""

    def statistics(reference: str, hypothesis: str | None) -> np.ndarray:
        return examples(metric, [reference], [hypothesis])[0]

    settings = {"direction": "higher", "unit": "", "reconstructed": False} | fields
    metric = TextMetric(
        name=name,
        version="1",
        statistics=statistics,
        compute=compute,
        doc=doc,
        stats=(*stats, *FLAGS),
        batch=batch,
        **settings,
    )
    return metric


_CUTS = {
    "words": (sequence.words, sequence.released_words),
    "characters": (sequence.characters, sequence.released_characters),
}


def _error_rate(task: Task, profile: Profile, by: str, doc: str) -> TextMetric:
    """Builds an error rate over words or characters, normalised by language."""
    normaliser, limit = normalisers.normaliser_for(task), sequence.MAX_TOKENS
    cut, released = _CUTS[by]
    if profile == "parity":
        normaliser, limit = normalisers.none_v1, _RELEASED_MAX_TOKENS
        cut, doc = released, f"{doc} Upper case, no other normalisation."

    def tokenise(text: str) -> sequence.Tokens:
        return cut(normaliser(text))

    return _metric(
        task.metric,
        doc,
        sequence.ERROR_STATS,
        functools.partial(
            sequence.error_statistics, tokenise=tokenise, max_tokens=limit
        ),
        sequence.error_rate,
        direction="lower",
        profile=profile,
        normaliser=normaliser.__name__,
    )


def _word_error_rate(task: Task, profile: Profile) -> TextMetric:
    return _error_rate(task, profile, "words", "Word errors over reference words.")


def _character_error_rate(task: Task, profile: Profile) -> TextMetric:
    doc = "Character errors over reference characters, spaces included."
    return _error_rate(task, profile, "characters", doc)


def _phoneme_error_rate(task: Task, profile: Profile) -> TextMetric:
    return _error_rate(task, profile, "words", "Phoneme errors over reference symbols.")


def _mix_error_rate(task: Task, profile: Profile) -> TextMetric:
    """The released formula is not told; parity cuts as strict does, in upper case."""
    doc = "Errors over Chinese or Japanese characters and other words."
    if profile == "strict":
        return _error_rate(task, profile, "words", doc)._replace(reconstructed=True)

    def tokenise(text: str) -> list[str]:
        return normalisers.space_out(text.upper()).split()

    batch = functools.partial(
        sequence.error_statistics, tokenise=tokenise, max_tokens=_RELEASED_MAX_TOKENS
    )
    metric = _metric(task.metric, doc, sequence.ERROR_STATS, batch, sequence.error_rate)
    return metric._replace(direction="lower", reconstructed=True, profile=profile)


def _sacre_bleu(task: Task, profile: Profile) -> TextMetric:
    language = task.language.lower().replace("_", "-").split("-")[0]
    known = {"zh": "zh", "cmn": "zh", "yue": "zh", "ja": "char"}
    name = known.get(language, "13a") if profile == "strict" else "13a"
    limit = sequence.MAX_TOKENS if profile == "strict" else _RELEASED_MAX_TOKENS
    batch = functools.partial(
        translation.bleu_statistics,
        tokenise=translation.TOKENISERS[name],
        max_tokens=limit,
    )
    return _metric(
        task.metric,
        f"Corpus BLEU of 0 ... 100, one reference, tokeniser {name}, case counts.",
        translation.BLEU_STATS,
        batch,
        translation.bleu,
        unit="BLEU",
        profile=profile,
        normaliser=name,
    )


def _pos_estimation(task: Task, profile: Profile) -> TextMetric:
    if profile == "parity":
        metric = _error_rate(task, profile, "words", "Token errors of the whole label.")
        return metric._replace(reconstructed=True)
    batch = functools.partial(sequence.error_statistics, tokenise=answers.tag_tokens)
    return _metric(
        task.metric,
        "Errors over words, where the label has them, and part-of-speech tags.",
        sequence.ERROR_STATS,
        batch,
        sequence.error_rate,
        direction="lower",
        reconstructed=True,
        normaliser="english_v1",
    )


def _slot_filling(task: Task, profile: Profile) -> TextMetric:
    if profile == "parity":
        return _metric(
            task.metric,
            "Mean over examples of the F1 of the sets of slot types.",
            slots.MEAN_F1_STATS,
            slots.released_type_statistics,
            slots.mean_f1,
            profile=profile,
        )
    return _metric(
        task.metric,
        "Micro F1 of the slot types of the corpus.",
        pairs.F1_STATS,
        slots.type_statistics,
        pairs.f1,
    )


def _slot_value_cer(task: Task, profile: Profile) -> TextMetric:
    strict = profile == "strict"
    return _metric(
        task.metric,
        "Character error rate of the values of the reference slots."
        if strict
        else "The same of the predicted slots, reference and prediction exchanged.",
        sequence.ERROR_STATS,
        slots.value_statistics if strict else slots.released_value_statistics,
        sequence.error_rate,
        direction="lower",
        profile=profile,
        normaliser="english_v1" if strict else "none_v1",
    )


def _f1(
    doc: str, batch: Batch, normaliser: str, task: Task, profile: Profile
) -> TextMetric:
    """Builds an F1 whose released form is not known: both profiles are the same."""
    return _metric(
        task.metric,
        doc,
        pairs.F1_STATS,
        batch,
        pairs.f1,
        reconstructed=True,
        profile=profile,
        normaliser=normaliser,
    )


def _accuracy(
    doc: str, batch: Batch, normaliser: str, task: Task, profile: Profile
) -> TextMetric:
    """Builds an accuracy; parity compares raw texts but for case and outer spaces."""
    strict = profile == "strict"
    return _metric(
        task.metric,
        doc if strict else "Share of raw answers that equal the reference.",
        answers.ACCURACY_STATS,
        batch if strict else answers.released_statistics,
        answers.accuracy,
        reconstructed=True,
        profile=profile,
        normaliser=normaliser if strict else "none_v1",
    )


_BUILDERS: dict[str, Callable[[Task, Profile], TextMetric]] = {
    "character_error_rate": _character_error_rate,
    "mix_error_rate": _mix_error_rate,
    "named_entity_localization": functools.partial(
        _f1,
        "Frame-F1: frames of 10 ms in entities.",
        entities.frame_statistics,
        "none_v1",
    ),
    "named_entity_recognition": functools.partial(
        _f1, "Micro F1 of (label, phrase).", entities.entity_statistics, "english_v1"
    ),
    "named_entity_recognition:label_f1": functools.partial(
        _f1, "Micro F1 of the labels.", entities.label_statistics, "none_v1"
    ),
    "phoneme_error_rate": _phoneme_error_rate,
    "pos_estimation": _pos_estimation,
    "sacre_bleu": _sacre_bleu,
    "slot_filling": _slot_filling,
    "slot_filling:value_cer": _slot_value_cer,
    "speech_command_recognition": functools.partial(
        _accuracy, "Share of digits named.", answers.digit_statistics, "basic_v1"
    ),
    "third_tone_sandhi_recognition": functools.partial(
        _accuracy, "Share of exact answers.", answers.exact_statistics, "mixed_v1"
    ),
    "third_tone_sandhi_recognition:syllable_f1": functools.partial(
        _f1, "Micro F1 of the syllables named.", answers.syllable_statistics, "mixed_v1"
    ),
    "word_error_rate": _word_error_rate,
}


def metric_for(task: Task, profile: str = "strict") -> TextMetric:
    """Returns the metric of a task, which normalises by the task's language.

    Args:
      task: its `metric` and `language` are read.
      profile: see the module.

    Raises:
      InputError: when the metric or the profile is not known.
    """
    if task.metric not in _BUILDERS:
        hint = did_you_mean(task.metric, _BUILDERS)
        raise InputError(f"task {task.name}: no text metric {task.metric!r}.{hint}")
    if profile not in _PROFILES:
        raise InputError(f"profile must be 'strict' or 'parity', found {profile!r}")
    return _BUILDERS[task.metric](task, _PROFILES[profile])


def metrics_for(task: Task, profile: str = "strict") -> tuple[TextMetric, ...]:
    """Returns the metric of a task, then those reported beside it ('name:part')."""
    names = [name for name in _BUILDERS if name.startswith(f"{task.metric}:")]
    tasks = [task, *(task._replace(metric=name) for name in names)]
    return tuple(metric_for(one, profile) for one in tasks)


def _registry(profile: Profile) -> dict[str, TextMetric]:
    tasks = [Task(name, "sequence_generation", name) for name in _BUILDERS]
    return {task.name: metric_for(task, profile) for task in tasks}


METRICS: dict[str, TextMetric] = _registry("strict")  # as for English
PARITY: dict[str, TextMetric] = _registry("parity")
