"""Every released metric by name: an independent oracle on texts, sums, and fuzz.

The oracles work on the values from which the texts are written, with libraries that the
metrics do not use, or in a line of numpy.
"""

import functools
import math

import jiwer
import librosa
import mir_eval
import numpy as np
import pytest
import sacrebleu
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import measures, tasks
from benchmark.metrics import text
from benchmark.typing import Task

TASKS = tasks.load_tasks()
NAMES = sorted({t.metric for t in TASKS.values() if t.type != "classification"})
LABELS, SECONDS = ("dog", "cat", "speech", "blender"), 12
WORDS = ("one", "cat", "sat", "on", "mat", "dogs")


def metrics_of(name, profile="strict"):
    return measures.metrics_of(Task(name, tasks.METRICS[name], name), profile)


HIGHEST = {"": 1 + 1e-12, "BLEU": 100 + 1e-9}  # rounding errors aside
METRICS = {metric.name: metric for name in NAMES for metric in metrics_of(name)}
BOTH = [*METRICS.values(), *(m for name in NAMES for m in metrics_of(name, "parity"))]


def sentences(rng, words=WORDS, number=20, shortest=1):
    """Texts of tokens and answers that share most of them."""
    said = [list(rng.choice(words, rng.integers(shortest, 9))) for _ in range(number)]
    heard = [[w if rng.random() < 0.7 else rng.choice(words) for w in s] for s in said]
    return [" ".join(s) for s in said], [" ".join(s[: len(s) - k % 2]) or "on"
                                         for k, s in enumerate(heard)]  # fmt: skip


def by_words(rng, error_rate=jiwer.wer, words=WORDS, join=" "):
    said, heard = sentences(rng, words)
    texts = [[text.replace(" ", join) for text in side] for side in (said, heard)]
    return *texts, error_rate(said, heard)


def by_characters(rng):
    return by_words(rng, jiwer.cer)


def mixed(rng):
    return by_words(rng, words=tuple("我们去学校"), join="")


def bleu(rng):
    said, heard = sentences(rng, shortest=5)
    return said, heard, sacrebleu.corpus_bleu(heard, [said]).score


def multi_hot(rng, number=20, width=4):
    truth = rng.random((2, number, width)) < 0.5
    return truth[0], truth[1]


def listed(rng, write, average="micro", none=""):
    """Sets of named things, written by `write`, against scikit-learn's F1."""
    truth, said = multi_hot(rng)
    texts = [
        [write([LABELS[k] for k in np.flatnonzero(row)]) or none for row in side]
        for side in (truth, said)
    ]
    f1 = sklearn.metrics.f1_score(truth, said, average=average, zero_division=np.nan)
    return *texts, f1


def slots(rng):
    return listed(rng, lambda kinds: ", ".join(f"{kind}: x" for kind in kinds))


def entities(rng):
    return listed(rng, lambda found: ", ".join(f"PLACE: {name}" for name in found))


def entity_labels(rng):
    known = dict(zip(LABELS, ("PLACE", "ORG", "WHEN", "LAW"), strict=True))
    return listed(rng, lambda found: ", ".join(f"{known[k]}: x" for k in found))


def slot_values(rng):
    said, heard = sentences(rng, number=8)
    texts = [[f"city: {text}" for text in side] for side in (said, heard)]
    return *texts, jiwer.cer(said, heard)


def accuracy(rng, words, number=30):
    truth, said = rng.integers(0, len(words), (2, number))
    return (
        [words[k] for k in truth],
        [words[k] for k in said],
        sklearn.metrics.accuracy_score(truth, said),
    )


def digits(rng):
    words = ("zero", "one", "two", "three", "four", "five", "six")
    return accuracy(rng, words)


def sandhi(rng):
    return accuracy(rng, ("總統", "老闆", "總統, 老闆"))


def syllables(rng):
    known = dict(zip(LABELS, "總統老闆", strict=True))
    return listed(rng, lambda found: " ".join(known[k] for k in found))


def random_spans(rng, number):
    """Spans of tenths of a second, as [spans, 2] of tenths."""
    starts = rng.integers(0, 10 * SECONDS - 1, number)
    return np.stack([starts, np.minimum(starts + rng.integers(1, 40, number), 120)], 1)


def frames(spans):
    found = np.zeros(10 * SECONDS, bool)
    for start, end in spans:
        found[start:end] = True
    return found


def written(spans, label=""):
    return ", ".join(f"{label}{start / 10}-{end / 10}" for start, end in spans)


def retrieval(rng):
    sides = [[random_spans(rng, rng.integers(1, 4)) for _ in range(8)] for _ in "ab"]
    overlaps = [
        sklearn.metrics.jaccard_score(frames(a), frames(b))
        for a, b in zip(*sides, strict=True)
    ]
    return *([written(spans) for spans in side] for side in sides), np.mean(overlaps)


def entity_times(rng):
    sides = [[random_spans(rng, rng.integers(1, 4)) for _ in range(8)] for _ in "ab"]
    cells = [np.concatenate([frames(spans) for spans in side]) for side in sides]
    texts = [[written(spans, "eu: ") for spans in side] for side in sides]
    return *texts, sklearn.metrics.f1_score(*cells)


def editing(rng):
    references, answers, overlap = retrieval(rng)
    wrong = [f"deletion: {answer}" for answer in answers]
    right = [f"insertion: {answer}" for answer in answers]
    references = [f"insertion: {reference}" for reference in references]
    return references * 2, right + wrong, overlap / 2


def editing_kind(rng):
    return accuracy(rng, ("insertion: 1-2", "deletion: 1-2", "noise: 1-2"))


def diarization(rng):
    """Turns in the released form, of speakers whose names are numbers."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    oracle = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    sides = ([], [])
    for _ in range(4):
        pair = []
        for side in sides:
            annotation, turns = Annotation(), []
            for name in ("61", "1089-1", "s2"):
                cells = np.diff(np.r_[0, frames(random_spans(rng, 3)), 0].astype(int))
                ends = np.flatnonzero(cells < 0)
                for start, end in zip(np.flatnonzero(cells > 0), ends, strict=True):
                    annotation[Segment(start / 10, end / 10), name] = name
                    turns.append(f"({name}, {start / 10}, {end / 10})")
            side.append(" ".join(rng.permutation(turns)))
            pair.append(annotation)
        oracle(*pair, uem=Timeline([Segment(0, SECONDS)]))
    return *sides, abs(oracle)


def sound_events(rng, pooled=False):
    """Hits of each class by the matching of mir_eval, counted over the clips."""
    counts = np.zeros((len(LABELS), 3))
    texts = ([], [])
    for _ in range(6):
        clip = ([], [])
        for row, label in enumerate(LABELS):
            truth = random_spans(rng, 3)
            moved = truth + rng.integers(-3, 4, truth.shape)
            said = np.clip(moved, 0, 200)
            said = said[said[:, 1] > said[:, 0]]
            for side, spans in zip(clip, (truth, said), strict=True):
                side.append(written(spans, f"{label} "))
            hits = mir_eval.transcription.match_notes(
                truth / 10, np.full(len(truth), 440.0), said / 10,
                np.full(len(said), 440.0), onset_tolerance=0.2, offset_ratio=0.2,
                offset_min_tolerance=0.2,
            )  # fmt: skip
            counts[row] += len(hits), len(truth), len(said)
        for side, parts in zip(texts, clip, strict=True):
            side.append("\n".join(filter(None, parts)))
    hits, truth, said = counts.sum(axis=0) if pooled else counts.T
    return *texts, np.mean(2 * hits / (truth + said))


def notes(rng):
    hits = total = 0
    texts = ([], [])
    for _ in range(5):
        onsets, pitches = rng.uniform(0, 5, 15).round(3), rng.integers(58, 64, 15)
        heard = np.abs(onsets + rng.normal(0, 0.05, 15)).round(3)
        sides = [np.stack([t, t + 0.1], 1) for t in (onsets, heard)]
        hz = mir_eval.util.midi_to_hz(pitches)
        matched = mir_eval.transcription.match_notes(
            sides[0], hz, sides[1], hz, offset_ratio=None
        )
        hits, total = hits + len(matched), total + 15
        for side, times in zip(texts, (onsets, heard), strict=True):
            names = [librosa.midi_to_note(p, unicode=False) for p in pitches]
            pairs = zip(names, times, strict=True)
            side.append(", ".join(f"{name}: {onset}" for name, onset in pairs))
    return *texts, hits / total


def beats(rng):
    truth = np.unique(rng.uniform(0, 30, 60).round(3))
    said = np.unique(np.abs(truth + rng.normal(0, 0.06, len(truth))).round(3))
    trimmed = [mir_eval.beat.trim_beats(times) for times in (truth, said)]
    texts = [[", ".join(map(str, times))] for times in (truth, said)]
    return *texts, mir_eval.beat.f_measure(*trimmed)


def pitches(rng):
    texts, midi = [], []
    for _ in "ab":
        numbers = rng.integers(60, 62, (40, 2))
        names = [[librosa.midi_to_note(p, unicode=False) for p in row]
                 for row in numbers]  # fmt: skip
        texts.append([" ".join(row) for row in names])
        midi.append([tuple(librosa.note_to_midi(row)) for row in names])
    return *texts, np.mean([a == b for a, b in zip(*midi, strict=True)])


def numbers(rng, oracle, low=0, high=9, unit=""):
    truth, said = rng.integers(low, high, (2, 40))
    answers = [f"I would say {value}{unit}." for value in said]
    return [str(value) for value in truth], answers, oracle(truth, said)


def correlation(rng):
    return numbers(rng, lambda a, b: scipy.stats.pearsonr(a, b).statistic)


def positions(rng):
    truth, said = rng.uniform(-5, 5, (2, 20, 3))  # all digits of a float
    texts = [[str(tuple(map(float, row))) for row in side] for side in (truth, said)]
    return *texts, np.linalg.norm(truth - said, axis=1).mean()


ORACLES = {
    "audio_duration_prediction": functools.partial(
        numbers, oracle=sklearn.metrics.mean_absolute_error, unit=" seconds"
    ),
    "audio_editing_identification": editing,
    "audio_editing_identification:type": editing_kind,
    "audio_segment_retrieval": retrieval,
    "audio_spatial_distance": functools.partial(
        numbers, oracle=sklearn.metrics.mean_squared_error, unit=" m"
    ),
    "character_error_rate": by_characters,
    "code_switching_count": functools.partial(
        numbers, oracle=sklearn.metrics.mean_absolute_error
    ),
    "marble_beat_tracking": beats,
    "mix_error_rate": mixed,
    "music_beat_tracking": beats,
    "music_transcription": notes,
    "named_entity_localization": entity_times,
    "named_entity_recognition": entities,
    "named_entity_recognition:label_f1": entity_labels,
    "pearson_correlation_coefficient": correlation,
    "phone_segment_counting": functools.partial(
        numbers, oracle=sklearn.metrics.mean_squared_error
    ),
    "phoneme_error_rate": functools.partial(by_words, words=("HH", "AH", "L", "OW")),
    "pitch_extraction": pitches,
    "pos_estimation": functools.partial(by_words, words=("NOUN", "VERB", "PRON")),
    "sacre_bleu": bleu,
    "singing_mos": correlation,
    "slot_filling": slots,
    "slot_filling:value_cer": slot_values,
    "sound_event_detection": sound_events,
    "sound_event_detection:micro": functools.partial(sound_events, pooled=True),
    "sound_position": positions,
    "speaker_count": functools.partial(numbers, oracle=sklearn.metrics.accuracy_score),
    "speaker_diarization": diarization,
    "speech_command_recognition": digits,
    "third_tone_sandhi_recognition": sandhi,
    "third_tone_sandhi_recognition:syllable_f1": syllables,
    "word_error_rate": by_words,
}


def test_an_oracle_stands_behind_every_released_name():
    assert set(ORACLES) == set(METRICS)
    assert {name.partition(":")[0] for name in ORACLES} == set(NAMES)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ORACLES)
def test_the_value_is_that_of_the_oracle(name, seed):
    references, answers, expected = ORACLES[name](np.random.default_rng(seed))
    found = text.score(METRICS[name], references, answers)
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.num_unreadable == 0 or "" in answers


@pytest.mark.parametrize("name", ORACLES)
def test_order_and_parts_change_nothing(name, rng):
    references, answers, _ = ORACLES[name](rng)
    metric = METRICS[name]
    rows = text.examples(metric, references, answers)
    whole = float(metric.compute(rows.sum(axis=0)))
    order = rng.permutation(len(rows))
    parts = np.array_split(order, 3)
    one_by_one = [
        text.examples(
            metric, [references[i] for i in part], [answers[i] for i in part]
        ).sum(axis=0)
        for part in parts
    ]
    assert metric.compute(sum(one_by_one)) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("metric", BOTH, ids=lambda m: f"{m.profile}-{m.name}")
def test_an_example_without_anything_changes_no_score(metric):
    """Neither the reference nor the answer says anything, beside one that does."""
    references, answers, _ = ORACLES[metric.name](np.random.default_rng(0))
    alone = text.score(metric, references, answers)
    beside = text.score(metric, [*references, "", ""], [*answers, "", ""])
    assert beside.num_empty_references == alone.num_empty_references + 2
    if metric.profile == "strict":
        assert beside.value == pytest.approx(alone.value, rel=1e-12)


MARKS = "[](){}<>\"':;,.-/|#%+=*_~ \n\t\r\0\x1b\x0b\u202e\ud800\u0301\ufdfa½²①٣三百半°♭"
FRAGMENTS = """
    0 1 7 1-2 2-1 0-1/7 3-4 /5 1e309 -1e308 1/0 NaN Infinity null true x10^9999 1: :30
    0.5-1.2 min ms {"a": "start": "end": "pitch": "label": [[ ]] [0,1,2] (s,0.1,0.2)
    (1,2 (s,nan,1) B-city E-city FILL SEP city: york PLACE NOUN / C4 Db minus one
    hundred point out of 5 answer: deg insertion not dog beat \\boxed{ </answer> to
"""
PIECES = (*MARKS, *FRAGMENTS.split(), "9" * 400, "SPEAKER a 1 0.5 1.8 <NA> <NA> b\n")
HOSTILE = st.one_of(
    st.none(),
    st.text(st.characters(codec=None), max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join),
    st.integers(-(10**400), 10**400).map(str),
    st.floats().map(repr),
)


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", NAMES)
@given(pairs=st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=4))
def test_nothing_raises_on_any_text(name, pairs):
    references = [reference or "" for reference, _ in pairs]
    answers = [answer for _, answer in pairs]
    for metric in (*metrics_of(name), *metrics_of(name, "parity")):
        rows = text.examples(metric, references, answers)
        assert np.isfinite(rows).all()
        assert set(np.unique(rows[:, -len(text.FLAGS) :])) <= {0.0, 1.0}
        value = float(metric.compute(rows.sum(axis=0)))
        highest = math.inf if metric.direction == "lower" else HIGHEST[metric.unit]
        assert math.isnan(value) or (math.isfinite(value) and value <= highest)
