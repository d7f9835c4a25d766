"""Reads times, labelled spans and notes from the forms in which models write them.

Read are JSON; RTTM lines; the released form of turns, '(speaker, 0.5, 2.3)', in which a
speaker may be a number; 'event_label: Speech, onset: 0.0, offset: 2.0'; and lines in
which a label stands before or after its times: 'speaker 1: 0.5-2.3, 3.1 to 4.0',
'[00:01 - 00:05] Speaker A', '0.5 2.3 dog'. Times are in seconds unless they name
milliseconds or minutes. Nothing raises; what is no span is counted.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmark import wording

MAX_SPANS = 2_000  # of an answer; further ones are not read
LATEST = 1e6  # seconds; later times are no times

_START = ("start", "onset", "begin", "start_time", "starttime", "from", "t0", "time")
_END = ("end", "offset", "stop", "end_time", "endtime", "to", "t1", "finish")
_LENGTH = ("duration", "dur", "length")
_LABEL = ("speaker", "label", "event_label", "event", "class", "note", "pitch", "midi")
_LABELS = (*_LABEL, "speaker_id", "spk", "name", "type", "category", "edit")
_UNITS = {"ms": 1e-3, "milliseconds": 1e-3, "millisecond": 1e-3, "msec": 1e-3,
          "min": 60.0, "minutes": 60.0, "minute": 60.0, "mins": 60.0}  # fmt: skip
_TIME = (
    r"(?<![\w.#])(?:(?P<{0}clock>\d{{1,3}}(?::\d{{2}}){{1,2}}(?:\.\d{{1,40}})?)"
    r"|(?P<{0}sign>-)?(?P<{0}number>\d{{1,12}}(?:\.\d{{0,40}})?(?:e[-+]?\d{{1,3}})?))"
    r"(?!:\d|\.?\d)\s?(?P<{0}unit>ms(?:ecs?)?|milliseconds?|min(?:ute)?s?|s(?:ec(?:ond)?s?)?)?"
    r"(?![a-z\d])"
)
_TO = (
    r"[\])]?\s{0,3}(?:-{1,2}>?|~|to|until|till|through|and|,|;|\||\.\.+)?\s{0,3}"
    r"(?:\"?(?:(?P<length>dur(?:ation)?|length)|(?:end|ends|offset|stop|finish|ending)"
    r"(?:[_ ]?time)?)\"?(?:\s(?:at|of))?\s{0,3}[:=]?\s{0,3})?[\[(]?"
)
_PAIR = re.compile(_TIME.format("a") + _TO + _TIME.format("b"), re.I)
TURN = re.compile(
    r"\(\s{0,3}([^(),\n]{1,80}),\s{0,3}(\d[^\s(),]{0,60})\s?s?,"
    r"\s{0,3}(\d[^\s(),]{0,60})\s?s?\s{0,3}\)"
)
_RELEASED_TURN = re.compile(r"\(([^\s,()]+),\s?([^\s,()]+),\s?([^\s,()]+)\)")
_POINT = re.compile(_TIME.format("a"), re.I)
_NUMBERED = re.compile(
    r"\b(speaker|spk|person|talker|voice|participant)[\s_#]{0,2}(\d{1,4})\b", re.I
)
_COUNTED = re.compile(
    r"(?im)^\s{0,9}\d{1,4}[.)]\s+(?=\S)|\b(?:segment|event|beat|clip|item|part|interval"
    r"|turn)[\s_#]{0,2}\d{1,4}\b|\b\d+(?:\.\d+)?\s?(?:bpm|hz|khz|beats?|events?)\b"
)
_FILLERS = re.compile(
    r"\b(?:event_label|label|from|between|at|starts?|starting|onset|begins?|time|times"
    r"|speaks?|speaking|talks?|talking|is|are|was|heard|occurs?|detected|the|and"
    r"|then|in|interval|segments?|timestamps?|seconds?|audio|of|sound|event|there|with"
    r"|again|start_time|on|during|by|s|sec|to)\b|(?-i:an?)\s(?=[\w])|[^\w\s/#'-]|(?<!\w)[-'/]|[-'/](?!\w)",
    re.I,
)
_COMMAS = re.compile(r"\d,\d{1,3}\s?(?:s|sec\w*)?\s?(?:-|~|to|bis)\s?\d{1,6},\d")
NOTE = re.compile(
    r"(?<![A-Za-z\d#])([A-G])(?:[\s-]?(##|#|bb|b|sharp|flat|x))?(-1|[\s-]?\d)"
    r"(?!\d|\.\d)",
    re.I,
)
_MIDI = re.compile(
    r"\b(?:midi|note|pitch)(?:[\s_]?(?:midi|note|number|pitch)){0,2}[\s:=#]{0,3}(\d{1,3})\b"
    r"|(?:^|(?<=[;,\n(\[]))\s{0,3}(\d{1,3})(?=\s{0,2}[:@])",
    re.I,
)
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_SHIFTS = {"": 0, "#": 1, "sharp": 1, "b": -1, "flat": -1, "##": 2, "x": 2, "bb": -2}


class Span(NamedTuple):
    """A stretch of time with its label."""

    start: float  # seconds
    end: float  # seconds, later than start
    label: str = ""  # folded


class Spans(NamedTuple):
    """What an answer lists."""

    spans: tuple[Span, ...]  # in order of writing
    num_unread: int = 0  # pairs of times that are no span: negative, reversed, endless


class Note(NamedTuple):
    """A tone that begins at a time."""

    onset: float  # seconds
    pitch: int  # MIDI number


def read_spans(text: str) -> Spans:
    """Returns the labelled spans of an answer; see the module for the forms."""
    text = wording.fold(re.sub(r"(?<!-)[<>]", " ", text))
    rows = _json_rows(text)
    found = [span for row in rows for span in _row_spans(row)]
    found = found or list(_rttm(text)) or list(_turns(text)) or list(_lines(text))
    return _kept(found)


def released_turns(text: str) -> Spans:
    """Reads '(speaker, 0.5, 2.3) ...' as the released script does, and nothing else.

    That script raises on times that are no numbers, negative or reversed; here the turn
    is left out and counted.
    """
    return _kept(
        [
            Span(_plain_number(start), _plain_number(end), speaker)
            for speaker, start, end in _RELEASED_TURN.findall(re.sub(" +", " ", text))
        ]
    )


def _kept(found: list[Span]) -> Spans:
    sound = [span for span in found if _sound(span)]
    return Spans(tuple(sound[:MAX_SPANS]), len(found) - len(sound))


def _plain_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_times(text: str) -> tuple[float, ...]:
    """Returns the times of a list of beats or onsets, in order, each once.

    'in milliseconds' holds for all numbers without a unit.
    """
    text = wording.fold(text)
    text = _COUNTED.sub(lambda match: " " * len(match.group()), text)
    scale = 1e-3 if re.search(r"\bmilliseconds?\b|\(ms\)", text, re.I) else 1.0
    found = []
    for count, match in enumerate(_POINT.finditer(text)):
        if count > 10 * MAX_SPANS:
            break
        found.append(_time(match, "a") * (1.0 if match["aunit"] else scale))
    return tuple(sorted({time for time in found if 0 <= time <= LATEST}))


def read_notes(text: str) -> tuple[Note, ...]:
    """Returns the notes of a transcription: names or MIDI numbers with their onsets.

    The first time beside a note is its onset, after it or, where the list begins with a
    time, before it.
    """
    text = wording.fold(text)
    rows = [note for row in _json_rows(text) for note in _row_note(row)]
    rows = rows or list(_turn_notes(text))
    if rows:
        return tuple(rows[:MAX_SPANS])
    marks = _note_marks(text)
    if not marks:
        return ()
    leading = bool(_POINT.search(_line_before(text, marks[0][0])))
    notes = []
    for k, (start, end, pitch) in enumerate(marks[:MAX_SPANS]):
        if leading:
            times = list(_POINT.finditer(text, marks[k - 1][1] if k else 0, start))
            time = times[0] if times else None
        else:
            after = marks[k + 1][0] if k + 1 < len(marks) else len(text)
            time = _POINT.search(text, end, after)
        if time and 0 <= _time(time, "a") <= LATEST:
            notes.append(Note(_time(time, "a"), pitch))
    return tuple(notes)


def read_pitches(text: str) -> tuple[int, ...]:
    """Returns note names as MIDI numbers: 'A4 C#5' -> (69, 73); Db4 is C#4."""
    return tuple(pitch for _, _, pitch in _names(wording.fold(text))[:MAX_SPANS])


def _names(text: str) -> list[tuple[int, int, int]]:
    return [
        (match.start(), match.end(), _midi(*match.groups()))
        for match in NOTE.finditer(text.replace("\u266d", "b"))
    ]


def _note_marks(text: str) -> list[tuple[int, int, int]]:
    numbers = [
        (match.start(), match.end(), int(match[1] or match[2]))
        for match in _MIDI.finditer(text)
    ]
    return _names(text) or [mark for mark in numbers if mark[2] <= 127]


def _line_before(text: str, at: int) -> str:
    return text[text.rfind("\n", 0, at) + 1 : at]


def _midi(step: str, shift: str | None, octave: str) -> int:
    moved = _STEPS[step.lower()] + _SHIFTS[(shift or "").lower()]
    number = -1 if octave == "-1" else int(octave[-1])
    return 12 * (number + 1) + moved


def _time(match: re.Match[str], side: str) -> float:
    """Returns seconds."""
    if match[side + "clock"]:
        parts = map(float, reversed(match[side + "clock"].split(":")))
        return math.fsum(part * 60**k for k, part in enumerate(parts))
    value = float(match[side + "number"])
    scale = _UNITS.get((match[side + "unit"] or "").lower(), 1.0)
    return -value * scale if match[side + "sign"] else value * scale


def _sound(span: Span) -> bool:
    return 0 <= span.start < span.end <= LATEST  # false for NaN


def _json_rows(text: str) -> list[Any]:
    """Returns the items of a JSON list or object, wherever it begins; [] if none."""
    first = re.search(r"[\[{]\s*[\[{\"']", text[:2000])
    if not first:
        return []
    text = text[first.start() :]
    if '"' not in text:  # as Python writes it
        text = text.replace("'", '"')
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):  # not JSON, or nested without end
        return []
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        nested = (
            len(found) == 1 and lists and all(isinstance(x, dict) for x in lists[0])
        )
        return lists[0] if nested else [found]
    return found if isinstance(found, list) else []


def _row_spans(row: Any) -> Iterator[Span]:
    """A dict with start and end; [start, end, label] in any order; label -> pairs."""
    if isinstance(row, dict):
        lower = {str(key).lower(): value for key, value in row.items()}
        start, end = _field(lower, _START), _field(lower, _END)
        length = _field(lower, _LENGTH)
        if start is not None and (end is not None or length is not None):
            label = next((lower[key] for key in _LABELS if key in lower), "")
            yield Span(start, end if end is not None else start + (length or 0.0),
                       wording.key(str(label)[:400]))  # fmt: skip
            return
        for key, value in row.items():
            label = wording.key(str(key)[:400])
            for item in value if isinstance(value, list) else ():
                pairs = _row_spans(item)
                yield from (
                    span._replace(label=wording.key(str(key)[:400])) for span in pairs
                )
    elif isinstance(row, list):
        numbers = [_number(item) for item in row]
        times = [number for number in numbers if number is not None]
        names = [item for item, number in zip(row, numbers, strict=True)
                 if number is None and isinstance(item, str)]  # fmt: skip
        if len(times) == 2:
            yield Span(times[0], times[1], wording.key(names[0][:400]) if names else "")


def _row_note(row: Any) -> Iterator[Note]:
    if not isinstance(row, dict):
        return
    lower = {str(key).lower(): value for key, value in row.items()}
    onset = _field(lower, _START)
    raw = next((lower[key] for key in ("pitch", "note", "midi") if key in lower), None)
    number = _number(raw)
    names = read_pitches(str(raw)) if number is None else ()
    pitch = int(number) if number is not None and 0 <= number <= 127 else None
    pitch = names[0] if names else pitch
    if onset is not None and 0 <= onset <= LATEST and pitch is not None:
        yield Note(onset, pitch)


def _turn_notes(text: str) -> Iterator[Note]:
    """'(60, 0.5, 1.0)' or '(C4, 0.5, 1.0)': pitch, onset, end."""
    for name, onset, end in TURN.findall(text):
        yield from _row_note({"pitch": name, "onset": onset, "end": end})


def _field(row: dict[str, Any], keys: tuple[str, ...]) -> float | None:
    for key in keys:
        if key in row:
            return _number(row[key])
    return None


def _number(value: Any) -> float | None:
    """A JSON number, or a time in a string."""
    if isinstance(value, str):
        match = _POINT.fullmatch(value.strip())
        return _time(match, "a") if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= LATEST else math.inf


def _rttm(text: str) -> Iterator[Span]:
    """'SPEAKER file 1 0.50 1.80 <NA> <NA> name <NA> <NA>'."""
    for line in text.splitlines():
        if line.startswith("SPEAKER "):
            fields = [field for field in line.split() if field != "NA"]
            start = _number(fields[3]) if len(fields) >= 6 else None
            length = _number(fields[4]) if len(fields) >= 6 else None
            if start is not None and length is not None:
                yield Span(start, start + length, clean_label(fields[5]))


def _turns(text: str) -> Iterator[Span]:
    """'(speaker, 0.5, 2.3)': the first of the three is a name, be it a number."""
    for name, *times in TURN.findall(text):
        start, end = map(_number, times)
        if start is not None and end is not None:
            yield Span(start, end, wording.key(name))


def _lines(text: str) -> Iterator[Span]:
    if _COMMAS.search(text):
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)
    text = _NUMBERED.sub(lambda m: f"{m[1]}_{m[2]}", text)
    text = _COUNTED.sub(" ", text)
    label, count = "", 0
    for line in re.split(r"\n|(?<=[^\d\s])\.\s", text):
        pairs = list(_PAIR.finditer(line))
        if not pairs:
            label = clean_label(line) if len(line) < 60 and line.strip() else label
            continue
        for span in _line_spans(line, pairs, label):
            label, count = span.label, count + 1
            yield span
        if count > MAX_SPANS:
            return


def _line_spans(line: str, pairs: list[re.Match[str]], label: str) -> Iterator[Span]:
    """Labels stand before their times if the line begins with one."""
    ends = [0, *(pair.end() for pair in pairs)]
    starts = [*(pair.start() for pair in pairs), len(line)]
    gaps = [clean_label(line[a:b]) for a, b in zip(ends, starts, strict=True)]
    trailing = not gaps[0] and any(gaps[1:])
    for k, pair in enumerate(pairs):
        label = (gaps[k + 1] if trailing else gaps[k]) or label
        start, end = _time(pair, "a"), _time(pair, "b")
        if pair["aclock"] is None and pair["bunit"] and not pair["aunit"]:
            start *= _UNITS.get(pair["bunit"].lower(), 1.0)
        yield Span(start, start + end if pair["length"] else end, label)


def clean_label(text: str) -> str:
    """Folds a label and drops the words that only lead to it: 'from', 'speaks'."""
    text = _NUMBERED.sub(lambda m: f"{m[1]}_{m[2]}", text[:400])
    return wording.key(" ".join(_FILLERS.sub(" ", text).split()))
