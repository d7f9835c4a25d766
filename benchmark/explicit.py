"""Finds the part of an answer that states it: 'Answer: X', a box, 'Therefore, X'."""

import re

from benchmark import passages, spellings, wording
from benchmark.passages import Reading
from benchmark.spellings import Reader
from benchmark.typing import Parsed

MAX_ANSWERS = 8  # explicit ones that are read, the last
_SEPARATOR = (
    r"(?:[\"']?\s*(?::|=>?|->)|\s+(?:is|would be|should be|must be|will be)\b:?)"
)
_EXPLICIT = wording.hinted(
    "answer|choice|label|prediction|verdict|conclusion|classification|decision|答案"
    r"|\boxed",
    r"(?:(?<![\w])(?P<final>final )?\b(?:answer|choice|label|prediction|verdict"
    r"|conclusion|classification|decision)" + _SEPARATOR + r"|(?P<cjk>答案[是为:]+)"
    r"|(?P<tag><answer>|\\boxed\s*\{))\s*",
)
_CONCLUSION = wording.hinted(
    "therefore|thus|hence|consequently|accordingly|overall|conclusion|conclude|summar"
    "|short|so|choose|pick|select|go with|say|lean",
    r"(?:^|(?<=[.!?:;\n]))[ \t]*(?:therefore|thus|hence|consequently|accordingly"
    r"|overall|in conclusion|to conclude|in summary|to summarize|in short"
    r"|so(?=,| the| it| my| i)"
    r"|i (?:would )?(?:choose|pick|select|conclude|go with)|i'd go with)"
    r"|(?<=,) (?:i(?:'d| would)? (?:say|choose|pick|select|conclude|go with|lean))",
)
_SENTENCE_END = re.compile(r"\n|[.!?;](?=\s|$|[\"')])")
_OPENING = re.compile(
    r"([A-Za-z]|\d{1,2})(?=\s*(?:[).:,]|$|\s-\s|\s(?:because|since|as)\b))"
)


def answer_of(reader: Reader, raw: str, multi_label: bool) -> Parsed | None:
    """Reads 'Answer: X', boxed and tagged answers, and sentences of nothing but X.

    A final answer outranks an answer; of equal rank all must agree. An explicit
    answer that names no option is one that cannot be read.
    """
    text = wording.squeeze(_with_tags(raw))
    found = [
        (bool(match["final"] or match["tag"]), _segment(text, match.end()))
        for match in _EXPLICIT.matches(text)[-MAX_ANSWERS:]
    ]
    readings = [(final, _segment_reading(reader, piece)) for final, piece in found]
    readings = [(final, reading) for final, reading in readings if not reading.echo]
    if any(final and reading.asserted for final, reading in readings):
        readings = [pair for pair in readings if pair[0]]
    elif not any(reading.asserted for _, reading in readings):
        alone = [] if multi_label else _alone(reader, text)
        if readings and not alone:
            return passages.parsed_of(reader, readings[-1][1], multi_label, "final")
        readings = [(False, reading) for reading in alone]
    return _agreed(reader, [reading for _, reading in readings], multi_label)


def _agreed(
    reader: Reader, readings: list[Reading], multi_label: bool
) -> Parsed | None:
    parsed = [
        passages.parsed_of(reader, reading, multi_label, "final")
        for reading in readings
    ]
    named = [answer for answer in parsed if answer.outcome != "none"]
    if not named:
        return None
    if len({frozenset(answer.labels) for answer in named}) == 1:
        return named[-1]
    labels = dict.fromkeys(label for answer in named for label in answer.labels)
    return Parsed("several", tuple(labels), "answers_differ")


def _with_tags(raw: str) -> str:
    """Folds, but keeps the tags and boxes that mark an answer."""
    if "<" not in raw and "\\" not in raw:
        return wording.fold(raw)
    kept = re.sub(r"<answer>", "final answer: ", raw, flags=re.I)
    kept = re.sub(r"</answer>", "\n", kept, flags=re.I)
    kept = re.sub(r"\\boxed\s*\{([^{}]{0,200})\}", r"final answer: \1.\n", kept)
    return wording.fold(kept)


def _segment(text: str, start: int) -> str:
    """Returns the sentence after an answer's cue, or the next line if it is empty."""
    rest = text[start : start + 600].lstrip(" \t\n\"'({[")
    marker = re.match(r"[A-Za-z\d]{1,2}[.](?=\s)", rest)
    skip = marker.end() if marker else 0
    stop = _SENTENCE_END.search(rest, skip)
    return rest[: stop.start()] if stop else rest


def _segment_reading(reader: Reader, piece: str) -> Reading:
    """Reads a segment; a letter may open it."""
    match = _OPENING.match(piece)
    if match and match.group(1).upper() in reader.markers:
        label = reader.markers[match.group(1).upper()]
        rest = passages.read(reader, piece[match.end() :])
        asserted = tuple(dict.fromkeys((label, *rest.asserted)))
        return rest._replace(asserted=asserted, echo=False)
    return passages.read(reader, piece)


def _alone(reader: Reader, text: str) -> list[Reading]:
    """Sentences and lines that are one option and nothing else."""
    if len(text) > 4000 or not reader.aliases:
        return []
    readings = []
    for piece in re.split(r"\n|(?<=\w)[.!](?:\s|$)", text):
        exact = spellings.exact(reader, piece.strip()) if piece.strip() else None
        if exact and len(piece) < 80:
            label = reader.options.index(exact.labels[0])
            readings.append(Reading((label,), (), (), False, False, False))
    if not readings:
        return []
    whole = passages.read(reader, text)
    denied = {label for reading in readings for label in reading.asserted}
    return [] if whole.echo or denied.intersection(whole.negated) else readings


def conclusion_of(reader: Reader, text: str, multi_label: bool) -> Parsed | None:
    """The last 'Therefore ...' counts if nothing after it names another option."""
    cues = _CONCLUSION.matches(text)
    if not cues:
        return None
    tail = text[cues[-1].start() :].lstrip()
    stop = _SENTENCE_END.search(tail)
    first = passages.read(reader, tail[: stop.start()] if stop else tail)
    whole = passages.read(reader, tail)
    found = passages.parsed_of(reader, first, multi_label, "conclusion")
    if found.outcome == "matched" and set(whole.asserted) == set(first.asserted):
        return found
    return None
