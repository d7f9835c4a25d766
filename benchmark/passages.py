"""Says what one passage asserts, denies or leaves open of the options."""

import re
from typing import NamedTuple

from benchmark import mentions, negation, spellings, wording
from benchmark.mentions import Mention
from benchmark.spellings import Reader
from benchmark.typing import Parsed

_IDIOMS = re.compile(
    r"\b(?:no doubt|without (?:(?:a|any) )?doubt|no question|nothing but"
    r"|none other than|not only|not just|not merely|beyond question|all the same"
    r"|one of|(?:the|this|that|which|each|another|no|any|every|some|first|second|former"
    r"|latter|last|other|correct|only) one|one another|one thing|one can|one might"
    r"|(?:the|your|this|that|my|first|second) (?:audio )?question(?! mark)\b"
    r"(?= (?:is|asks|about|of|was|whether|correctly|,|:)|[,.:])"
    r"|to (?:the|your) question"
    r"|(?:answer|answering) (?:the|your|this) question"
    r"|(?:true|false) (?:to|that|alarm)|fear not|no problem"
    r"|if i had to \w+)\b",
    re.I,
)
_BOUND_NUMBER = re.compile(
    r"\b(?:more than|less than|fewer than|at least|at most|up to|over|under|only after)"
    r" (?=[\w])",
    re.I,
)


class Reading(NamedTuple):
    """What one passage says of the options."""

    asserted: tuple[int, ...]
    unclear: tuple[int, ...]
    negated: tuple[int, ...]
    ignored: bool  # mentions in quotes, questions, conditions
    echo: bool
    alternatives: bool  # joined by 'or'


def read(reader: Reader, text: str) -> Reading:
    """Says of each option that a passage names whether it is asserted."""
    text, quoted = _unquoted(reader, text)
    text = _IDIOMS.sub(f" {wording.GAP} ", text)
    if reader.numeric:
        text = _BOUND_NUMBER.sub("not ", text)
    tokens = wording.tokenize(text)
    named = mentions.find(reader, tokens)
    kept, echo = mentions.without_echo(reader, tokens.words, named)
    groups = negation.groups_of(tokens.words, kept)
    found: dict[negation.Status, list[Mention]] = {
        "asserted": [], "negated": [], "unclear": [], "ignored": [],
    }  # fmt: skip
    for group in groups:
        for mention, status in negation.statuses(tokens.words, group, kept):
            found[status].append(mention)
    alternatives = any(
        mentions.OR.intersection(tokens.words[group[0].end : group[-1].start])
        for group in groups
        if len({m.label for m in group}) > 1
    )
    return Reading(
        _labels(found["asserted"]),
        _labels(found["unclear"]),
        _labels(found["negated"]),
        quoted or bool(found["ignored"]),
        echo,
        alternatives,
    )


def _labels(mentions: list[Mention]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(m.label for m in mentions))


def _unquoted(reader: Reader, text: str) -> tuple[str, bool]:
    """Opens quotes around one option; leaves out other quotes: they are speech."""
    stripped = text.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        text = stripped[1:-1]
    dropped = False

    def replace(match: re.Match[str]) -> str:
        nonlocal dropped
        inner = match.group(1) if match.group(1) is not None else match.group(2)
        if spellings.lookup(reader, inner) is not None:
            return f" {inner} "
        words = wording.tokenize(inner)
        dropped = dropped or bool(mentions.find(reader, words))
        return f" {wording.GAP} "

    pattern = r"\"([^\"\n]{1,1000})\"|(?<!\w)'((?:[^'\n]|'(?=\w)){1,300})'(?!\w)"
    return re.sub(pattern, replace, text), dropped


def parsed_of(
    reader: Reader, reading: Reading, multi_label: bool, reason: str
) -> Parsed:
    """Decides what a reading comes to; `reason` is told where it names an option."""
    labels = tuple(reader.options[label] for label in reading.asserted)
    if set(reading.unclear) - set(reading.asserted):
        return Parsed("none", (), "ambiguous")
    if set(reading.negated) & set(reading.asserted):
        return Parsed("none", (), "ambiguous")
    if not labels:
        return Parsed("none", (), _why_not(reading))
    if len(labels) == 1:
        return Parsed("matched", labels, reason)
    if reading.alternatives:
        return Parsed("several", labels, "alternatives")
    return Parsed("matched" if multi_label else "several", labels,
                  reason if multi_label else "several")  # fmt: skip


def _why_not(reading: Reading) -> str:
    if reading.echo:
        return "echo"
    if reading.negated:
        return "negated"
    return "ignored" if reading.ignored else "absent"
