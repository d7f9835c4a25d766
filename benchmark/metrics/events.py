"""Metrics of answers that name times: who spoke when, events, notes, beats, pitches.

Each is a function of sums over examples (`TextMetric`), so a score is that of the
corpus. Builders take the task and the profile. The profiles differ in what is read of a
diarization; of the other released scripts only the names of the measures are known.
"""

import functools
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from benchmark import parsing, wording
from benchmark.metrics.records import Row, Sums, Values, record
from benchmark.metrics.sequence import ratio
from benchmark.metrics.spans import (
    Note,
    Span,
    read_notes,
    read_pitches,
    read_spans,
    read_times,
    released_turns,
)
from benchmark.metrics.text import Profile, TextMetric
from benchmark.typing import Task

DER_STATS = ("missed", "false_alarm", "confusion", "speech")  # seconds of speakers
IOU_STATS = ("iou", "retrievals")
HIT_STATS = ("hits", "references", "answers")
ACCURACY_STATS = ("correct", "answerable")
BEAT_TOLERANCE = 0.07  # seconds (Davies et al., 2009; mir_eval)
BEATS_FROM = 5.0  # seconds; earlier beats are not scored, as in mir_eval
NOTE_TOLERANCE = 0.05  # seconds (MIREX, HEAR)
EVENT_COLLAR = 0.2  # seconds (DCASE task 4)
EVENT_SHARE = 0.2  # of an event's length, where that is the larger collar of its end
EVENT_CLASSES = (
    *("alarm bell ringing", "blender", "cat", "dishes", "dog"),
    *("electric shaver toothbrush", "frying", "running water", "speech"),
    "vacuum cleaner",
)  # of DESED
OTHER = "other"  # any further class
# Kinds of edits, so that an answer which lists many of them names several.
EDITS = (
    *("insertion", "deletion", "replacement", "cut", "splice", "repetition", "reverse"),
    *("silence", "noise", "echo", "reverb", "fade", "trim", "mute", "speed", "pitch"),
    *("volume", "music", "substitution", "speed change", "pitch shift"),
)
Times = Sequence[float] | np.ndarray


def diarization_seconds(
    reference: Sequence[Span], answer: Sequence[Span]
) -> Float[np.ndarray, "4"]:
    """Returns the seconds of missed, false and confused speakers, and of speech.

    No collar; overlapped speech counts once a speaker. Speakers are mapped one to one
    so that most time agrees (NIST RT-06 evaluation plan, by linear assignment).
    """
    from scipy.optimize import linear_sum_assignment

    edges = np.unique([t for span in (*reference, *answer) for t in span[:2]])
    seconds = np.diff(edges)
    truth, said = _active(reference, edges), _active(answer, edges)
    num_true, num_said = truth.sum(axis=0), said.sum(axis=0)
    shared = (truth * seconds) @ said.T.astype(float)  # [speakers, answered speakers]
    rows, columns = linear_sum_assignment(shared, maximize=True)
    both = seconds @ np.minimum(num_true, num_said)
    missed = seconds @ np.maximum(num_true - num_said, 0)
    false_alarm = seconds @ np.maximum(num_said - num_true, 0)
    confusion = max(both - shared[rows, columns].sum(), 0.0)
    return np.array([missed, false_alarm, confusion, seconds @ num_true])


def _active(
    spans: Sequence[Span], edges: Float[np.ndarray, " edges"]
) -> Bool[np.ndarray, "speakers segments"]:
    """Says in which stretches between edges each speaker speaks."""
    speakers = {label: k for k, label in enumerate({span.label: 0 for span in spans})}
    active = np.zeros((len(speakers), max(len(edges) - 1, 0)), bool)
    starts = np.searchsorted(edges, [span.start for span in spans])
    ends = np.searchsorted(edges, [span.end for span in spans])
    for span, start, end in zip(spans, starts, ends, strict=True):
        active[speakers[span.label], start:end] = True
    return active


def temporal_iou(reference: Sequence[Span], answer: Sequence[Span]) -> float:
    """Returns shared over joint time of two sets of spans; 0 if either is empty."""
    flat = [
        [span._replace(label="") for span in spans] for spans in (reference, answer)
    ]
    missed, false_alarm, _, speech = diarization_seconds(*flat)
    union = speech + false_alarm
    return float((speech - missed) / union) if union > 0 else 0.0


def num_matched(near: Bool[np.ndarray, "references answers"]) -> int:
    """Returns the size of the largest one-to-one matching of near pairs."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not near.size or not near.any():
        return 0
    matched = maximum_bipartite_matching(csr_array(near), perm_type="column")
    return int((matched >= 0).sum())


def near_times(
    reference: Times, answer: Times, tolerance: float | np.ndarray
) -> Bool[np.ndarray, "references answers"]:
    """Says which times are at most `tolerance` apart, rounding errors aside."""
    gaps = np.abs(np.subtract.outer(np.asarray(reference), np.asarray(answer)))
    return gaps <= np.asarray(tolerance) + 1e-9


def event_hits(reference: Sequence[Span], answer: Sequence[Span]) -> int:
    """Returns how many events agree in their onset and end; of one class.

    Onsets within 0.2 s; ends within 0.2 s or a fifth of the event's length, whichever
    is more (Mesaros et al., 2016, Applied Sciences 6, 162).
    """
    if not reference or not answer:
        return 0
    length = np.array([[span.end - span.start] for span in reference])
    collar = np.maximum(EVENT_COLLAR, EVENT_SHARE * length)
    ours, theirs = (np.array([s[:2] for s in spans]) for spans in (reference, answer))
    near = near_times(ours[:, 0], theirs[:, 0], EVENT_COLLAR)
    return num_matched(near & near_times(ours[:, 1], theirs[:, 1], collar))


def note_hits(reference: Sequence[Note], answer: Sequence[Note]) -> int:
    """Returns how many notes agree in pitch and, within 50 ms, in their onset."""
    return sum(
        num_matched(near_times(ours, theirs, NOTE_TOLERANCE))
        for ours, theirs in _by_key(
            [(note.pitch, note.onset) for note in reference],
            [(note.pitch, note.onset) for note in answer],
        )
    )


def beat_hits(reference: Times, answer: Times) -> int:
    """Returns how many beats agree within 70 ms, one to one."""
    return num_matched(near_times(reference, answer, BEAT_TOLERANCE))


def _by_key(
    ours: Sequence[tuple[Hashable, float]], theirs: Sequence[tuple[Hashable, float]]
) -> list[tuple[list[float], list[float]]]:
    keys = {key for key, _ in ours} & {key for key, _ in theirs}
    return [
        ([t for k, t in ours if k == key], [t for k, t in theirs if k == key])
        for key in keys
    ]


def der(sums: Sums) -> Values:
    """Diarization error rate: wrong over spoken seconds; can exceed 1."""
    return ratio(sums[..., :3].sum(axis=-1), sums[..., 3])


def share(sums: Sums) -> Values:
    """First sum over the second; NaN without any."""
    return ratio(sums[..., 0], sums[..., 1])


def hit_f1(sums: Sums) -> Values:
    """2 hits / (references + answers); NaN where there was nothing to find or said."""
    return ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def macro_f1(sums: Sums) -> Values:
    """Mean F1 of the classes that references or answers name."""
    size = 3 * (len(EVENT_CLASSES) + 1)
    counts = sums[..., :size].reshape(*sums.shape[:-1], -1, 3)  # [*sets, classes, 3]
    scores = hit_f1(counts)
    return ratio(
        np.nansum(scores, axis=-1), np.isfinite(scores).sum(axis=-1, dtype=float)
    )


def micro_f1(sums: Sums) -> Values:
    """F1 of all events."""
    size = 3 * (len(EVENT_CLASSES) + 1)
    counts = sums[..., :size].reshape(*sums.shape[:-1], -1, 3)
    return hit_f1(counts.sum(axis=-2))


def _diarization(reference: str, answer: str) -> Row:
    truth, said = read_spans(reference).spans, read_spans(answer).spans
    return Row(diarization_seconds(truth, said).tolist(), not truth, not said)


def _released_diarization(reference: str, answer: str) -> Row:
    truth, said = released_turns(reference).spans, released_turns(answer)
    faulty = said.num_unread > 0 or not said.spans
    return Row(diarization_seconds(truth, said.spans).tolist(), not truth, faulty)


def _retrieval(reference: str, answer: str) -> Row:
    truth, said = read_spans(reference).spans, read_spans(answer).spans
    return Row((temporal_iou(truth, said), bool(truth)), not truth, not said)


def _events(reference: str, answer: str) -> Row:
    truth, said = read_spans(reference).spans, read_spans(answer).spans
    classes = (*EVENT_CLASSES, OTHER)
    counts = np.zeros((len(classes), 3))
    for label in {span.label for span in (*truth, *said)}:
        ours = [span for span in truth if span.label == label]
        theirs = [span for span in said if span.label == label]
        row = classes.index(label) if label in EVENT_CLASSES else len(EVENT_CLASSES)
        counts[row] += (event_hits(ours, theirs), len(ours), len(theirs))
    return Row(counts.ravel().tolist(), not truth, not said)


def _notes(reference: str, answer: str) -> Row:
    truth, said = read_notes(reference), read_notes(answer)
    return Row((note_hits(truth, said), len(truth), len(said)), not truth, not said)


def _beats(reference: str, answer: str) -> Row:
    all_said = read_times(answer)
    truth = [time for time in read_times(reference) if time >= BEATS_FROM]
    said = [time for time in all_said if time >= BEATS_FROM]
    hits = beat_hits(truth, said)
    return Row((hits, len(truth), len(said)), not truth, not all_said)


def _pitches(reference: str, answer: str) -> Row:
    truth, said = read_pitches(reference), read_pitches(answer)
    return Row((bool(truth) and truth == said, bool(truth)), not truth, not said)


def edit_type(reference: str, answer: str) -> bool:
    """Whether an answer names the reference's kind of edit, and no other known one."""
    kind = _kind(reference)
    known = {kind, *wording.forms_of(kind)}
    options = (kind, *(edit for edit in EDITS if edit not in known))
    return parsing.parse_answer(answer, options).labels == (kind,) if kind else False


def _kind(reference: str) -> str:
    spans = read_spans(reference).spans
    labels = [span.label for span in spans if span.label]
    return labels[0] if labels else "" if spans else wording.key(reference)


def _editing(reference: str, answer: str) -> Row:
    """The overlap in time counts where the kind is right; without a span, 1."""
    truth, said = read_spans(reference).spans, read_spans(answer).spans
    kind = _kind(reference)
    expected = bool(truth or kind)
    right = edit_type(reference, answer) if kind else expected
    overlap = temporal_iou(truth, said) if truth else float(not said)
    return Row((right * overlap, expected), not expected, not (said or right))


def _editing_type(reference: str, answer: str) -> Row:
    kind = _kind(reference)
    return Row((edit_type(reference, answer), bool(kind)), not kind, not answer.strip())


_EVENT_STATS = tuple(
    f"{name} {label}" for label in (*EVENT_CLASSES, OTHER) for name in HIT_STATS
)
Entry = tuple[str, str, tuple[str, ...], Callable, Callable, dict[str, object]]
# name, doc, stats, measure, compute, other fields
_RECORDS: tuple[Entry, ...] = (
    ("speaker_diarization", "Diarization error rate; no collar, overlap counts.",
     DER_STATS, _diarization, der, {"direction": "lower"}),
    ("audio_segment_retrieval", "Mean temporal intersection over union.",
     IOU_STATS, _retrieval, share, {}),
    ("sound_event_detection", "Event F1, mean over classes; collars 0.2 s and 20 %.",
     _EVENT_STATS, _events, macro_f1, {"reconstructed": True}),
    ("sound_event_detection:micro", "Event F1 of all events; collars 0.2 s and 20 %.",
     _EVENT_STATS, _events, micro_f1, {"reconstructed": True}),
    ("music_transcription", "Note F1 of the corpus; pitch, and onset within 50 ms.",
     HIT_STATS, _notes, hit_f1, {"reconstructed": True}),
    ("marble_beat_tracking", "Beat F-measure, 70 ms, from 5 s on.",
     HIT_STATS, _beats, hit_f1, {"reconstructed": True}),
    ("music_beat_tracking", "Beat F-measure, 70 ms, from 5 s on.",
     HIT_STATS, _beats, hit_f1, {"reconstructed": True}),
    ("pitch_extraction", "Share of answers whose sequence of pitches is right.",
     ACCURACY_STATS, _pitches, share, {"reconstructed": True}),
    ("audio_editing_identification", "Mean overlap in time where the kind is right.",
     IOU_STATS, _editing, share, {"reconstructed": True}),
    ("audio_editing_identification:type", "Share of answers with the right kind.",
     ACCURACY_STATS, _editing_type, share, {"reconstructed": True}),
)  # fmt: skip


def _build(entry: Entry, task: Task, profile: Profile) -> TextMetric:
    name, doc, stats, measure, compute, fields = entry
    if profile == "parity" and name == "speaker_diarization":
        measure, doc = _released_diarization, f"{doc} Reads '(speaker, 0.5, 2.3)' only."
    return record(task.metric, doc, stats, measure, compute, profile=profile, **fields)


EVENT_BUILDERS: dict[str, Callable[[Task, Profile], TextMetric]] = {
    entry[0]: functools.partial(_build, entry) for entry in _RECORDS
}
EVENT_METRICS: dict[str, TextMetric] = {
    name: build(Task(name, "sequence_generation", name), "strict")
    for name, build in EVENT_BUILDERS.items()
}
