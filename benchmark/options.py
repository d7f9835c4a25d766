"""Reads the options of a closed question out of its instruction's prose.

Only lists whose form leaves no doubt are read: lettered or numbered ones, bullets,
quoted words, and comma lists after a cue such as 'choose from'. Otherwise nothing is
returned, and the question goes to a judge.
"""

import functools
import itertools
import re
from typing import NamedTuple

from benchmark import wording

MAX_OPTIONS = 400
MAX_WORDS = 6  # of an option in a comma list
MAX_LETTERS = 60
MAX_LISTS = 20  # of an instruction that are looked at

_CUE = re.compile(
    r"""\b(?:
    (?:choose|select|pick|decide|choosing|selecting|picking|deciding|classify|chosen)
      (?:\s+\w+){0,5}?\s+(?:from|between|among|amongst|of|out\ of|into|as)
      (?:\s+(?:the\ )?(?:following|these|this\ list)
         (?:\s+[\w-]+){0,3}|\s+among|\s+between)?
    |(?:your\ )?(?:options?|choices|possible\ \w+|candidates|candidate\ \w+|labels
      |categories|classes|available\ \w+)\s*(?:are|include|is|being)?(?=\s*:|\s+are|\s)
    |(?:the\ |your\ )?(?:answers?|response|output|label|result|reply|category|emotion)
      (?:\ \w+){0,2}?\ (?:could|should|can|must|may|will|might|has\ to|have\ to
      |needs\ to|shall)\ (?:only\ )?be
    |(?:answer|respond|reply|response|responding|answering|replying)
      (?:\ \w+){0,3}?\ (?:with|by|using|as)(?:\ (?:only|just|either|exactly))*
    |(?:one|either|any)\ of(?:\ the)?(?:\ following|\ these)?(?:\ [\w-]+){0,2}?(?=\s*:)
    |following(?:\ [\w-]+){0,3}?(?=\s*:)
    |one\ of\ the\ following(?:\ [\w-]+){0,2}
    |(?:is|are)\ (?:it|they|this)
    )|选项(?:是|为|包括|有)?|从(?=[^。\n]{2,200}中)|答案(?:是|为|可以是|可能是)""",
    re.I | re.X,
)
_CHOOSE = re.compile(r"\b(?:choose|select|pick|one of|options?)\b[^.?!]*$", re.I)
_MARKER = re.compile(
    r"(?:(?<=\s)|^|(?<=[:;,]))(?:\(([A-Za-z]|\d{1,2})\)|([A-Za-z]|\d{1,2})[).:](?=\s))"
    r"\s*",
)
_QUOTED = r"(?:\"[^\"\n]{1,60}\"|(?<!\w)'(?:[^'\n]|'(?=\w)){1,60}'(?!\w))"
_BETWEEN = r"\s*(?:,|/|;|\||\bor\b|\band\b|,\s*or\b|,\s*and\b)\s*"
_QUOTED_RUN = re.compile(rf"{_QUOTED}(?:{_BETWEEN}{_QUOTED})+", re.I)
_BULLET = re.compile(r"^[ \t]*[-•‣·*][ \t]+(\S[^\n]{0,80})$", re.M)
_BRACKETS = re.compile(r"[\[({]([^\[\](){}\n]{1,2000})[\])}]")
_POLAR = re.compile(
    r"\b(yes)(?:\s+or\s+|\s*/\s*|,\s*|\s+and\s+)(no)\b"
    r"|\b(true)(?:\s+or\s+|\s*/\s*)(false)\b",
    re.I,
)
_TAILS = re.compile(
    r"\s+(?:based on|according to|depending on|as (?:your|the|an)|to (?:describe|answer"
    r"|indicate|classify)|for (?:the|this|your|each)|in (?:your|the|this|response)"
    r"|that (?:best|most)|which (?:best|most)|when|given|from the|from this|only)\b.*$",
    re.I | re.S,
)
_ORDERS = re.compile(
    r",?\s+(?:and|then|but)\s+(?:respond|answer|reply|provide|output|give|return|explain"
    r"|do|please|only|justify|nothing|no other)\b.*$|(?<=[\u4e00-\u9fff])中.*$",
    re.I | re.S,
)
_UNLIKELY = wording.word_set(
    "the your you please is are that which this based audio clip answer following "
    "question it them these those label option options choose select respond if "
    "determine identify only we i should could must can will would be been"
)


class Choices(NamedTuple):
    """The options of a question, with their letters or numbers where it gives them."""

    options: tuple[str, ...]
    markers: tuple[str, ...] = ()  # 'A', 'B' ... in order; () = none


def options_from_instruction(instruction: str) -> tuple[str, ...] | None:
    """Returns the options that an instruction lists, or None where in doubt.

    Args:
      instruction: prose such as 'Choose from happy, sad or angry.'

    Returns:
      At least two different options, as written, in order.
    """
    choices = read_choices(instruction)
    return choices.options if choices else None


@functools.lru_cache(maxsize=4096)
def read_choices(instruction: str) -> Choices | None:
    """Returns the options with their letters or numbers, or None where in doubt."""
    if not instruction or len(instruction) > wording.LIMIT:
        return None
    text = wording.fold(re.sub(r"(?m)^([ \t]*)\*(?=[ \t])", r"\1-", instruction))
    lettered = _lettered(text)
    if lettered:
        return lettered
    for read in (_quoted, _bulleted, _polar, _bracketed, _listed):
        found = read(text)
        if found:
            return Choices(found) if _sound(found) else None
    return None


def _lettered(text: str) -> Choices | None:
    """'(A) happy (B) sad', '1) happy, 2) sad', 'A. happy' each on its line."""
    marks = list(itertools.islice(_MARKER.finditer(text), MAX_OPTIONS))
    for first, mark in enumerate(marks):
        if _label(mark).upper() not in ("A", "1") or first > MAX_LISTS:
            continue
        run = _consecutive(marks[first:])
        if len(run) < 2:
            continue
        ends = [later.start() for later in run[1:]]
        ends.append(_end_of_last(text, run))
        pieces = [_trim(text[m.end() : end]) for m, end in zip(run, ends, strict=True)]
        markers = tuple(_label(m).upper() for m in run)
        return Choices(tuple(pieces), markers) if _sound(tuple(pieces)) else None
    return None


def _label(mark: re.Match[str]) -> str:
    return mark.group(1) or mark.group(2)


def _consecutive(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """Returns the longest prefix A, B, C ... or 1, 2, 3 ..., others skipped."""
    digits = _label(marks[0]).isdigit()
    run: list[re.Match[str]] = []
    for mark in marks:
        expected = str(len(run) + 1) if digits else chr(ord("A") + len(run))
        if _label(mark).upper() == expected:
            run.append(mark)
    return run


def _end_of_last(text: str, run: list[re.Match[str]]) -> int:
    """The last option ends with its line, or its sentence."""
    start = run[-1].end()
    stop = re.search(r"\n|(?<=\w)[.?!](?:\s|$)|;", text[start:])
    return start + stop.start() if stop else len(text)


def _quoted(text: str) -> tuple[str, ...] | None:
    runs = [_unquote(run.group()) for run in _QUOTED_RUN.finditer(text)]
    return runs[0] if runs and _agree(runs) else None


def _unquote(run: str) -> tuple[str, ...]:
    return tuple(_trim(item[1:-1]) for item in re.findall(_QUOTED, run))


def _bulleted(text: str) -> tuple[str, ...] | None:
    items = tuple(_trim(item) for item in _BULLET.findall(text))
    return items if len(items) >= 2 else None


def _polar(text: str) -> tuple[str, ...] | None:
    runs = [
        tuple(word for word in match.groups() if word)
        for match in _POLAR.finditer(text)
        if not _goes_on(text, match)
    ]
    return runs[0] if runs and _agree(runs) else None


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether 'yes or no' is only part of a longer list."""
    before = text[: match.start()].rstrip(" \"'")
    after = text[match.end() :].lstrip(" \"'")
    return before.endswith(",") or bool(re.match(r"(?:,\s*)?(?:or|and)\b", after, re.I))


def _bracketed(text: str) -> tuple[str, ...] | None:
    """'[happy, sad]'; round or curly brackets only after a cue; of items alone."""
    runs = []
    for match in itertools.islice(_BRACKETS.finditer(text), MAX_LISTS):
        items = _split(match.group(1))
        before = text[max(0, match.start() - 120) : match.start()]
        cued = match.group()[0] == "[" or _CUE.search(before) or _CHOOSE.search(before)
        if cued and len(items) >= 2 and all(map(_plausible, items)):
            runs.append(items)
    return runs[0] if runs and _agree(runs) else None


def _listed(text: str) -> tuple[str, ...] | None:
    """'Choose from happy, sad or angry', 'The answer could be happy or sad'."""
    runs = []
    for cue in itertools.islice(_CUE.finditer(text), MAX_LISTS):
        rest = text[cue.end() : cue.end() + 4000]
        if ":" in rest[:60] and not re.search(r"[.?!,\n]", rest[: rest.index(":")]):
            rest = rest[rest.index(":") + 1 :]
        items = _split(_sentence(rest))
        if len(items) >= 2 and all(map(_plausible, items)):
            runs.append(items)
    return runs[0] if runs and _agree(runs) else None


def _sentence(rest: str) -> str:
    stop = re.search(r"(?<!\d)[.](?=\s|$|[\"'])|[.](?=\s|$)|[?!;]|\n\s*\n", rest)
    return rest[: stop.start()] if stop else rest


def _split(listed: str) -> tuple[str, ...]:
    """Splits at commas, and the last piece at its only 'or' or 'and'."""
    listed = re.sub(
        r"^\s*(?:either|the|both)\s+", "", listed.strip(" \n:-"), flags=re.I
    )
    listed = _TAILS.sub("", _ORDERS.sub("", listed)).strip()
    pieces = re.split(r"\s*[,|]\s*|\s*/\s*|\n+", listed)
    pieces = [piece for piece in pieces if piece]
    if not pieces:
        return ()
    last = re.sub(r"^(?:or|and)\s+", "", pieces[-1], flags=re.I)
    if last == pieces[-1]:
        halves = re.split(r"\s+(?:or|and)\s+|还是|或者|或", last, flags=re.I)
        pieces[-1:] = halves if len(halves) <= 2 else ["", ""]
    else:
        pieces[-1] = last
    return tuple(_trim(piece) for piece in pieces)


def _trim(item: str) -> str:
    item = re.sub(r"[\s,;]+(?:or|and)?\s*$", "", item.strip(), flags=re.I)
    item = item.strip(" \t\n,;:\"'")
    return item.rstrip(".") if not re.search(r"\.\w", item) else item


def _plausible(item: str) -> bool:
    words = wording.key(item).split()
    return (
        0 < len(words) <= MAX_WORDS
        and len(item) <= MAX_LETTERS
        and ":" not in item
        and not _UNLIKELY.intersection(words)
    )


def _agree(runs: list[tuple[str, ...]]) -> bool:
    """Whether all lists of an instruction are the same."""
    return len({tuple(map(wording.key, run)) for run in runs}) == 1


def _sound(options: tuple[str, ...]) -> bool:
    keys = [wording.key(option) for option in options]
    return 2 <= len(keys) <= MAX_OPTIONS and all(keys) and len(set(keys)) == len(keys)
