"""Named entities: which there are (F1, label-F1) and when they are said (frame-F1).

As in SLUE: entities are an unordered list with repetitions, micro F1 over the corpus
(Shon et al., 2022, ICASSP); localisation counts frames of 10 ms inside and outside of
entities (Shon et al., 2023, ACL, section 3.4). The form of the released labels could
not be read: many forms are (`pairs`, `time_spans`).
"""

import collections
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmark.metrics.pairs import MAX_CHARACTERS, Pairs, overlap, read_pairs
from benchmark.metrics.spans import TURN
from benchmark.normalisers import english_v1

# The combined labels of SLUE, and the finer ones of OntoNotes 5 that they stand for.
_COMBINED = {
    "PLACE": ("GPE", "LOC", "LOCATION"),
    "QUANT": ("CARDINAL", "MONEY", "ORDINAL", "PERCENT", "QUANTITY"),
    "ORG": ("ORGANIZATION", "ORGANISATION"),
    "WHEN": ("DATE", "TIME"),
    "NORP": (),
    "PERSON": ("PER",),
    "LAW": (),
}
_LABELS = {name: name for name in _COMBINED} | {
    fine: name for name, several in _COMBINED.items() for fine in several
}
_OTHER_LABELS = ("EVENT", "FAC", "LANGUAGE", "PRODUCT", "WORK_OF_ART")
_KNOWN = frozenset(_LABELS) | frozenset(_OTHER_LABELS)

FRAMES_PER_SECOND = 100
MAX_SECONDS = 120.0  # no clip of the task is as long: what is later is no time
_TIME = r"(?:(\d{1,2}):)?(\d{1,5}(?:\.\d{1,40})?)(?!\d|[.:]\d)"
_UNIT = r"\s{0,3}(?:s|sec|secs|seconds?)?\b"
_LINK = r"(?:to|and|until|till|through|ends?|end_time|stop|at|time)"
_BETWEEN = rf"\W{{0,9}}(?:{_LINK}\b\W{{0,9}}){{0,3}}"
_SPAN = re.compile(rf"(?<![\w.])(?<!\d:){_TIME}{_UNIT}{_BETWEEN}{_TIME}", re.IGNORECASE)


class Spans(NamedTuple):
    """The times that an answer names."""

    spans: tuple[tuple[int, int], ...]  # first and last frame, the last exclusive
    num_unread: int  # pairs of numbers that are no times


def entity_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 6"]:
    """Counts entities whose label and phrase are both right.

    Returns:
      [examples, 6] as named by `pairs.F1_STATS` and `sequence.READING_STATS`.
    """
    return _compare(references, hypotheses, phrases=True)


def label_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 6"]:
    """Counts entities whose label is right, whatever the phrase (label-F1)."""
    return _compare(references, hypotheses, phrases=False)


def _compare(
    references: Sequence[str], hypotheses: Sequence[str], phrases: bool
) -> np.ndarray:
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        found = read_pairs(hypothesis)
        expected = _entities(read_pairs(reference), phrases)
        counts = overlap(expected, _entities(found, phrases))
        truncated = len(hypothesis) > MAX_CHARACTERS
        unreadable = found.num_unread > 0 and not found.pairs
        rows.append([*counts, not expected, unreadable, truncated])
    return np.array(rows, np.float64)


def _entities(found: Pairs, phrases: bool) -> collections.Counter:
    """Counts (label, phrase); a known label is found on either side of the pair."""
    entities = collections.Counter()
    for first, second in found.pairs:
        label, phrase = _label(first), second
        if label not in _KNOWN and _label(second) in _KNOWN:
            label, phrase = _label(second), first
        name = _LABELS.get(label, label)
        entities[name, english_v1(phrase) if phrases else ""] += 1
    return entities


def _label(text: str) -> str:
    return re.sub(r"[\W_]+", "_", text.upper()).strip("_")


def time_spans(text: str) -> Spans:
    """Returns the spans of time in an answer, whatever stands around them.

    Read are pairs of numbers, in seconds or minutes and seconds, with a dash, a comma,
    'to', 'end:' and the like between them: '0.52-1.10', '(europe, 0.52, 1.10)',
    'from 0.52 s to 1.10 s', '00:01.5 - 00:02.0'. A span must end after its start and
    by `MAX_SECONDS`.
    """
    spans, num_unread = [], 0
    text = TURN.sub(r"(\2, \3)", text[:MAX_CHARACTERS])  # a phrase may be a number
    for found in _SPAN.finditer(text):
        start, stop = _seconds(found[1], found[2]), _seconds(found[3], found[4])
        if start < stop <= MAX_SECONDS:
            frames = [round(time * FRAMES_PER_SECOND) for time in (start, stop)]
            spans.append((frames[0], frames[1]))
        else:
            num_unread += 1
    return Spans(tuple(spans), num_unread)


def _seconds(minutes: str | None, seconds: str) -> float:
    return 60 * int(minutes or 0) + float(seconds)


def frame_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 6"]:
    """Counts frames of 10 ms inside entities: of both, of one, of the other.

    An answer with text but neither a time nor a word for none is unreadable.

    Returns:
      [examples, 6] as named by `pairs.F1_STATS` and `sequence.READING_STATS`.
    """
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        expected, found = _frames(time_spans(reference)), time_spans(hypothesis)
        heard = _frames(found)
        size = max(len(expected), len(heard))
        inside = [
            np.pad(frames, (0, size - len(frames))) for frames in (expected, heard)
        ]
        both = int((inside[0] & inside[1]).sum())
        counts = [both, heard.sum() - both, expected.sum() - both]
        truncated = len(hypothesis) > MAX_CHARACTERS
        unreadable = not found.spans and read_pairs(hypothesis) != Pairs((), 0)
        rows.append([*counts, not expected.any(), unreadable, truncated])
    return np.array(rows, np.float64)


def _frames(found: Spans) -> np.ndarray:
    """Returns [frames] True inside a span; overlapping spans count once."""
    inside = np.zeros(max((stop for _, stop in found.spans), default=0), bool)
    for start, stop in found.spans:
        inside[start:stop] = True
    return inside
