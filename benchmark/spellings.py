"""The spellings of a list of options: their texts, synonyms, forms and letters."""

import functools
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from benchmark import wording
from benchmark.numbers import NUMERALS, UNITS
from benchmark.options import Choices, read_choices
from benchmark.typing import Parsed

Synonyms = tuple[tuple[str, tuple[str, ...]], ...]
_QUALIFIED = frozenset("<>+%/:~=±≥≤-$")  # '<5' is not five
_OWN_MARKER = re.compile(r"\s*\(?([A-Za-z]|\d{1,2})[).:]\s+(\S.*)$", re.S)


_FLOAT = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?").fullmatch


class Reader(NamedTuple):
    """The spellings of a list of options, by their first word."""

    options: tuple[str, ...]
    keys: tuple[str, ...]
    aliases: dict[str, tuple[int, str]]  # folded spelling -> option, kind
    starts: dict[str, tuple[tuple[str, ...], ...]]  # first word -> spellings
    markers: dict[str, int]  # 'A' -> option
    longest: int  # words of a spelling
    numeric: bool  # some options are numbers
    values: dict[int, float]  # of the options that are numbers
    top: tuple[str, ...]  # spellings of the highest, where all options are numbers
    kinds: frozenset[str]  # of units that options or question name: 'time' ...


@functools.lru_cache(maxsize=1024)
def reader_of(options: tuple[str, ...], synonyms: Synonyms, instruction: str) -> Reader:
    """Returns the reader of a list of options, as `parse_answer` takes them."""
    texts, markers = _markers(options, instruction)
    keys = tuple(map(key_of, texts))
    aliases = _aliases(texts, keys, synonyms)
    starts: dict[str, list[tuple[str, ...]]] = {}
    for alias in aliases:
        words = tuple(alias.split())
        starts.setdefault(words[0], []).append(words)
    ordered = {
        word: tuple(sorted(found, key=len, reverse=True))
        for word, found in starts.items()
    }
    numeric = any(is_numeral(alias) for alias in aliases)
    named = wording.tokenize(wording.fold(" ".join((*aliases, instruction)))).words
    kinds = frozenset(
        UNITS[word][0] for word in named if len(word) > 1 and word in UNITS
    )
    values = {i: float(alias) for alias, (i, _) in aliases.items() if _FLOAT(alias)}
    whole = 0 < len(values) == len(options)
    best = max(values, key=lambda i: values[i]) if whole else -1
    top = tuple(alias for alias, (i, _) in aliases.items() if i == best)
    longest = max((len(alias.split()) for alias in aliases), default=0)
    return Reader(
        options, keys, aliases, ordered, markers, longest, numeric, values, top, kinds
    )


def key_of(label: str) -> str:
    """Returns what is compared of a label, which is never empty but for a blank."""
    return wording.key(label) or " ".join(label.casefold().split())


@functools.lru_cache(maxsize=4096)
def is_numeral(word: str) -> bool:
    """Tells whether a folded word is a number, or a part of one: '5', 'hundred'."""
    return word in NUMERALS or word.replace(".", "").lstrip("-").isdecimal()


def _markers(
    options: tuple[str, ...], instruction: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Returns the options' texts, and option numbers by letter."""
    own = [_OWN_MARKER.match(option) for option in options]
    letters = [match.group(1).upper() for match in own if match]
    if len(set(letters)) == len(options) > 1:
        texts = tuple(match.group(2) for match in own if match)
        return texts, {letter: i for i, letter in enumerate(letters)}
    choices = read_choices(instruction) if instruction else None
    return options, _letters_of(options, choices) if choices else {}


def _letters_of(options: tuple[str, ...], choices: Choices) -> dict[str, int]:
    """Letters hold if the question lists the very options of the task."""
    listed = [wording.key(option) for option in choices.options]
    known = [wording.key(option) for option in options]
    if sorted(listed) != sorted(known):
        return {}
    pairs = zip(choices.markers, listed, strict=False)
    return {marker: known.index(option) for marker, option in pairs}


def _aliases(
    texts: tuple[str, ...], keys: tuple[str, ...], synonyms: Synonyms
) -> dict[str, tuple[int, str]]:
    """Collects spellings; those that two options claim with equal right are dropped."""
    ranks = (
        [(key, i, "option") for i, key in enumerate(keys)],
        list(_declared(keys, synonyms)),
        [(part, i, "form") for i, text in enumerate(texts)
         for part in _without_and_within(text)],
    )  # fmt: skip
    aliases: dict[str, tuple[int, str]] = {}
    for rank in itertools.chain(ranks, (_forms(aliases),)):
        fresh: dict[str, set[tuple[int, str]]] = {}
        for alias, label, kind in rank:
            if alias and alias not in aliases:
                fresh.setdefault(alias, set()).add((label, kind))
        for alias, claims in fresh.items():
            same = (
                rank is ranks[0] and len({texts[i].casefold() for i, _ in claims}) == 1
            )
            if len(claims) == 1 or same:
                aliases[alias] = min(claims)
    return aliases


def _forms(aliases: dict[str, tuple[int, str]]) -> Iterator[tuple[str, int, str]]:
    """Yields the other forms of what the ranks before have collected."""
    for alias, (label, _) in list(aliases.items()):
        yield from ((form, label, "form") for form in wording.forms_of(alias))


def _without_and_within(text: str) -> tuple[str, ...]:
    """'adult (20-40)' is named by 'adult', and by '20-40' where that is a span."""
    found = re.match(r"(.*?)\s*\(([^()]*)\)\s*$", text, re.S)
    if not found:
        return ()
    outer, inner = map(wording.key, found.groups())
    return (outer, inner) if len(inner.split()) > 1 else (outer,)


def _declared(
    keys: tuple[str, ...], synonyms: Synonyms
) -> Iterator[tuple[str, int, str]]:
    for label, spellings in synonyms:
        if wording.key(label) in keys:
            index = keys.index(wording.key(label))
            yield from ((wording.key(word), index, "synonym") for word in spellings)


def lookup(reader: Reader, text: str) -> int | None:
    """Returns the option that a text is, alone."""
    found = reader.aliases.get(wording.key(text))
    if found:
        return found[0]
    letter = text.strip(" ().:").upper()
    return reader.markers.get(letter)


def exact(reader: Reader, text: str) -> Parsed | None:
    """The whole answer is one spelling, or one letter."""
    if "?" in text or len(text.split(None, reader.longest + 4)) > reader.longest + 4:
        return None
    tokens = wording.tokenize(text)
    if reader.numeric and _QUALIFIED.intersection(tokens.words):
        return None
    words = tuple(word for word in tokens.words if not wording.is_mark(word))
    article = len(words) > 1 and words[0] in ("a", "an", "the")
    if article and tokens.words[:2] == words[:2]:
        words = words[1:]
    found = reader.aliases.get(" ".join(words))
    if found:
        reason = {"option": "exact"}.get(found[1], found[1])
        return Parsed("matched", (reader.options[found[0]],), reason)
    if len(words) == 1 and words[0].upper() in reader.markers:
        label = reader.markers[words[0].upper()]
        return Parsed("matched", (reader.options[label],), "marker")
    return None


def parts_of(text: str, reader: Reader) -> tuple[str, ...]:
    """Splits a multi-label reference."""
    if lookup(reader, text) is not None:
        return (text,)
    inner = text.strip()
    if inner[:1] in "[({" and inner[-1:] in "])}":
        inner = inner[1:-1]
    parts = (part.strip(" \t\n'\"") for part in re.split(r"[,;|\n]", inner))
    return tuple(part for part in parts if part)
