"""Metrics of times against brute force, mir_eval and pyannote.metrics."""

import itertools
import math

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics import events
from benchmark.metrics import text as text_metrics
from benchmark.metrics.spans import Note, Span
from benchmark.typing import Task

NAMES = sorted(events.EVENT_METRICS)


def score(name, references, answers):
    return text_metrics.score(events.EVENT_METRICS[name], references, answers)


def _spans(rng, labels, count, grid=0.1, last=100):
    """Spans on a grid of a tenth of a second, so that cells can be counted."""
    found = []
    for _ in range(count):
        start = int(rng.integers(0, last - 1))
        end = int(rng.integers(start + 1, last))
        found.append(Span(start * grid, end * grid, str(rng.choice(labels))))
    return found


def _cells(spans, label, grid=0.1, last=100):
    cells = np.zeros(last, bool)
    for span in spans:
        if span.label == label:
            cells[round(span.start / grid) : round(span.end / grid)] = True
    return cells


def _der_by_permutation(reference, answer):
    """DER on the grid with every mapping of speakers tried."""
    truth = [_cells(reference, label) for label in sorted({s.label for s in reference})]
    said = [_cells(answer, label) for label in sorted({s.label for s in answer})]
    said += [np.zeros(100, bool)] * max(0, len(truth) - len(said))
    num_true, num_said = np.sum(truth, axis=0), np.sum(said, axis=0)
    best = max(
        sum((a & b).sum() for a, b in zip(truth, order, strict=False))
        for order in itertools.permutations(said, len(truth))
    )
    wrong = np.maximum(num_true, num_said).sum() - best
    return wrong / num_true.sum()


@pytest.mark.parametrize("seed", range(30))
def test_the_diarization_error_is_that_of_the_best_of_all_mappings(seed):
    rng = np.random.default_rng(seed)
    reference = _spans(rng, ["a", "b", "c"][: rng.integers(1, 4)], rng.integers(1, 7))
    answer = _spans(rng, ["x", "y", "z", "w"][: rng.integers(1, 5)], rng.integers(0, 7))
    found = events.der(events.diarization_seconds(reference, answer))
    assert found == pytest.approx(_der_by_permutation(reference, answer), abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_diarization_error_is_that_of_pyannote(seed):
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    rng = np.random.default_rng(seed)
    pairs = [
        (_spans(rng, ["a", "b"], 5), _spans(rng, ["x", "y", "z"], 6)) for _ in range(3)
    ]
    oracle = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    sums = np.zeros(4)
    for pair in pairs:
        truth, said = (Annotation(), Annotation())
        for annotation, spans in zip((truth, said), pair, strict=True):
            for label in {span.label for span in spans}:
                cells = np.diff(np.r_[0, _cells(spans, label), 0].astype(int))
                ends = np.flatnonzero(cells < 0)
                for start, end in zip(np.flatnonzero(cells > 0), ends, strict=True):
                    annotation[Segment(start / 10, end / 10), label] = label
        oracle(truth, said, uem=Timeline([Segment(0, 10)]))
        sums += events.diarization_seconds(*pair)
    assert events.der(sums) == pytest.approx(abs(oracle), abs=1e-6)


def test_diarization_from_text():
    reference = "speaker 1: 0-4, 6-8; speaker 2: 4-6"
    assert score("speaker_diarization", [reference], [reference]).value == 0
    swapped = "A: 4-6\nB: 0-4\nB: 6-8"
    assert score("speaker_diarization", [reference], [swapped]).value == 0
    one = score("speaker_diarization", [reference], ["A: 0-8"])
    assert one.value == pytest.approx(2 / 8)
    silent = score("speaker_diarization", [reference], ["I cannot tell."])
    assert (silent.value, silent.num_unreadable) == (1.0, 1)


def test_the_released_diarization_reads_turns_alone():
    turns = "(61, 0, 4) (1089, 4, 6) (61, 6, 8)"
    build = events.EVENT_BUILDERS["speaker_diarization"]
    metric = build(Task("T", "sequence_generation", "speaker_diarization"), "parity")
    renamed = "(b, 0, 4) (a, 4, 6) (b, 6, 8)"
    found = text_metrics.score(metric, [turns] * 3, [turns, renamed, "A: 0-4"])
    assert found.value == pytest.approx(1 / 3)
    assert found.num_unreadable == 1
    strict = score("speaker_diarization", [turns] * 3, [turns, renamed, "A: 0-4"])
    assert strict.value == pytest.approx(4 / 24)


def test_overlapped_speech_counts_once_a_speaker():
    found = score("speaker_diarization", ["A: 0-4, B: 2-4"], ["A: 0-4"])
    assert found.value == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("1 - 3", 1.0),
        ("from 1 s to 2 s", 0.5),
        ("2-4", 1 / 3),
        ("5-6", 0.0),
        ("[1, 2], [2, 3]", 1.0),
        ("no idea", 0.0),
        (None, 0.0),
    ],
)
def test_the_overlap_in_time(answer, expected):
    found = score("audio_segment_retrieval", ["1.0 - 3.0"], [answer])
    assert found.value == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_event_hits_are_those_of_mir_eval(seed):
    rng = np.random.default_rng(seed)
    reference = _spans(rng, ["dog"], 8, 0.07)
    answer = _spans(rng, ["dog"], 9, 0.07)
    answer += [
        span._replace(start=span.start + 0.15 * rng.random(), end=span.end + 0.1)
        for span in reference[:4]
    ]
    intervals = [
        np.array([span[:2] for span in spans]) for spans in (reference, answer)
    ]
    pitches = [np.full(len(times), 440.0) for times in intervals]
    matched = mir_eval.transcription.match_notes(
        intervals[0], pitches[0], intervals[1], pitches[1],
        onset_tolerance=0.2, offset_ratio=0.2, offset_min_tolerance=0.2,
    )  # fmt: skip
    assert events.event_hits(reference, answer) == len(matched)
    assert len(matched) > 0


def test_event_scores_from_text():
    reference = "Speech 0-1, Speech 2-3, Dog 4-5"
    answer = "event_label: Speech, onset: 0.1, offset: 1.1\nDog 4-5\nCat 6-7"
    micro = score("sound_event_detection:micro", [reference], [answer])
    assert micro.value == pytest.approx(2 * 2 / (3 + 3))
    macro = score("sound_event_detection", [reference], [answer])
    assert macro.value == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_an_event_of_an_unknown_class_counts_as_other():
    found = score("sound_event_detection", ["owl 0-1"], ["owl 0-1"])
    assert found.value == 1
    found = score("sound_event_detection", ["owl 0-1"], ["frog 0-1"])
    assert found.value == 0


@pytest.mark.parametrize("seed", range(20))
def test_note_scores_are_those_of_mir_eval(seed):
    rng = np.random.default_rng(seed)
    reference = [
        Note(float(t), int(rng.integers(60, 63))) for t in rng.uniform(0, 2, 20)
    ]
    answer = [
        Note(max(0.0, note.onset + rng.normal(0, 0.05)), note.pitch)
        for note in reference[:15]
    ]
    answer += [Note(float(t), 61) for t in rng.uniform(0, 2, 4)]
    parts = []
    for notes in (reference, answer):
        onsets = np.array([note.onset for note in notes])
        parts += [np.stack([onsets, onsets + 0.1], 1)]
        parts += [mir_eval.util.midi_to_hz(np.array([note.pitch for note in notes]))]
    matched = mir_eval.transcription.match_notes(*parts, offset_ratio=None)
    assert events.note_hits(reference, answer) == len(matched)


def test_notes_from_text():
    found = score("music_transcription", ["C4: 0.5-1, E4: 1-2"], ["C4 at 0.52s"])
    assert found.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(20))
def test_beat_scores_are_those_of_mir_eval(seed):
    rng = np.random.default_rng(seed)
    reference = np.sort(rng.uniform(0, 20, 40)).round(3)
    answer = np.sort(np.r_[reference[:30] + rng.normal(0, 0.06, 30), [7.0, 7.01, 19.5]])
    answer = np.unique(np.abs(answer).round(3))
    expected = mir_eval.beat.f_measure(
        mir_eval.beat.trim_beats(reference), mir_eval.beat.trim_beats(answer)
    )
    texts = [", ".join(map(str, times)) for times in (reference, answer)]
    for name in ("music_beat_tracking", "marble_beat_tracking"):
        found = score(name, texts[:1], texts[1:])
        assert found.value == pytest.approx(expected, abs=1e-12)


def test_beats_before_five_seconds_do_not_count():
    found = score("music_beat_tracking", ["1, 2, 6, 7"], ["6, 7, 3"])
    assert found.value == 1
    none = score("music_beat_tracking", ["1, 2"], ["1, 2"])
    assert math.isnan(none.value)
    assert none.num_empty_references == 1


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("A4 C#5", 1),
        ("The pitches are A4, Db5.", 1),
        ("C#5 A4", 0),
        ("A4", 0),
        ("A4 C#5 E5", 0),
        ("", 0),
    ],
)
def test_a_sequence_of_pitches_is_right_or_wrong(answer, correct):
    assert score("pitch_extraction", ["A4 C#5"], [answer]).value == correct


@pytest.mark.parametrize(
    ("answer", "value", "kind"),
    [
        ("insertion: 1.0 - 3.0", 1.0, 1),
        ("There is an insertion from 1 s to 2 s.", 0.5, 1),
        ("deletion: 1.0 - 3.0", 0.0, 0),
        ("insertion or deletion, 1.0 - 3.0", 0.0, 0),
        ("no insertion, 1-3", 0.0, 0),
        ("insertion", 0.0, 1),
    ],
)
def test_an_edit_has_a_kind_and_a_span(answer, value, kind):
    reference = "insertion: 1.0 - 3.0"
    found = score("audio_editing_identification", [reference], [answer])
    assert found.value == pytest.approx(value)
    found = score("audio_editing_identification:type", [reference], [answer])
    assert found.value == kind


def test_an_edit_without_a_reference_earns_nothing():
    found = score("audio_editing_identification", ["noise: 1-2", ""], ["cut: 1-2", ""])
    assert (found.value, found.num_empty_references) == (0.0, 1)


REFERENCES = {
    "pitch_extraction": "A4 C#5",
    "music_beat_tracking": "5.5 6.0 6.5",
    "marble_beat_tracking": "5.5 6.0 6.5",
    "music_transcription": "C4: 0.5-1.0",
}
ODD = st.one_of(
    st.none(),
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            [
                "dog",
                " ",
                "1",
                "2.5",
                "-",
                ":",
                "\n",
                "C4",
                "{",
                "[",
                "1e309",
                "5-3",
                ",",
            ]
        ),
        max_size=30,
    ).map("".join),
)


@settings(max_examples=40, deadline=None)
@given(ODD, st.sampled_from(NAMES))
def test_no_answer_breaks_a_metric(answer, name):
    reference = REFERENCES.get(name, "dog: 1.0 - 2.0")
    metric = events.EVENT_METRICS[name]
    row = metric.statistics(reference, answer)
    assert np.isfinite(row).all()
    value = metric.compute(row)
    assert value >= 0
    assert value <= 1 or name == "speaker_diarization"


@settings(max_examples=40, deadline=None)
@given(ODD, st.sampled_from(NAMES))
def test_no_reference_breaks_a_metric(reference, name):
    row = events.EVENT_METRICS[name].statistics(reference or "", "dog: 1.0 - 2.0")
    assert np.isfinite(row).all()


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_of_sums_and_do_not_depend_on_the_order(name):
    references = [REFERENCES.get(name, "dog: 1.0 - 2.0")] * 3
    answers = [references[0], "nothing", "5.5 C4: 0.6 dog: 1.5 - 3"]
    metric = events.EVENT_METRICS[name]
    rows = text_metrics.examples(metric, references, answers)
    assert rows.shape == (3, len(metric.stats))
    whole = float(metric.compute(rows.sum(axis=0)))
    assert metric.compute(rows[::-1].sum(axis=0)) == pytest.approx(whole)
    assert 0 < whole < 2
    perfect = score(name, references, references).value
    assert perfect == (0 if metric.direction == "lower" else 1)


def test_several_sets_are_computed_at_once():
    metric = events.EVENT_METRICS["sound_event_detection"]
    rows = text_metrics.examples(metric, ["dog 0-1", "cat 0-1"], ["dog 0-1", "dog 0-1"])
    weights = np.array([[1, 0], [0, 1], [1, 1]])
    assert metric.compute(weights @ rows).tolist() == pytest.approx([1, 0, 1 / 3])
