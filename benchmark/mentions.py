"""Finds where a passage names options: spellings, letters, and lists of all of them."""

import re
from typing import NamedTuple

from benchmark import spellings, wording
from benchmark.numbers import UNITS
from benchmark.spellings import Reader

LINKS = wording.word_set(", or and nor / & + ; | \n 或 和 与 跟 还")
OR = frozenset({"or", "nor", "/", "或"})
_NO = frozenset({"no", *wording.forms_of("no")})
_POLAR_FOLLOWED = wording.word_set(
    "there it they he she i we both these those this that the based as since because "
    "or and no yes 而 我 他 她"
)
_POLAR_OPENED = wording.word_set(
    "is be answer say or with so definitely clearly probably certainly likely well "
    "actually"
)
_CLOSING = frozenset(".,;:!?\n)]}\"'-")
_NEVER_OPENED = wording.word_set("oh ah there has have had hear heard contains with in")
_CUT = wording.word_set(
    "st nd rd th point x third thirds half halves quarter quarters fourths fifths"
)
_POWER = re.compile(r"e\d+").fullmatch
_MARKED = wording.word_set("option choice answer letter alternative candidate number")
_SKIPPED = frozenset('(),/&:-"<>+~')
_CHOSEN = frozenset({"is", "be", ",", "or", "and", "choose", "select", ":", '"'})
_JOINING = (("or",), ("and",), ("/",), (",",))
_ENDED = frozenset(".?!")
_LIST_WORDS = wording.word_set(
    "choose select pick option options choices between from following labels "
    "categories list"
)


class Mention(NamedTuple):
    """One place of an answer where an option is named."""

    start: int  # token
    end: int  # token, exclusive
    label: int  # index of the option
    kind: str  # 'option', 'synonym', 'form', 'marker'


def find(reader: Reader, tokens: wording.Tokens) -> list[Mention]:
    """Finds spellings, longest first, and letters in their usual dress."""
    found: list[Mention] = []
    i = 0
    while i < len(tokens.words):
        if tokens.words[i] not in reader.starts and not reader.markers:
            i += 1
            continue
        mention = (
            _spelling_at(reader, tokens.words, i)
            or _marker_at(reader, tokens, i)
            or _elliptic_at(reader, tokens.words, i)
        )
        if mention:
            found.append(mention)
            i = mention.end
        else:
            i += 1
    return found


def _spelling_at(reader: Reader, words: tuple[str, ...], i: int) -> Mention | None:
    for alias in reader.starts.get(words[i], ()):
        end = _match(alias, words, i)
        if end and _stands(reader, alias, words, i, end):
            label, kind = reader.aliases[" ".join(alias)]
            return Mention(i, end, label, kind)
    return None


def _stands(
    reader: Reader, alias: tuple[str, ...], words: tuple[str, ...], i: int, end: int
) -> bool:
    """Whether a spelling is the word it looks like, not an article or half a number."""
    if len(alias[0]) == 1 and words[end : end + 1] in (("sharp",), ("flat",)):
        return False  # another note
    if alias in (("a",), ("i",)):
        return wording.is_mark(words[end] if end < len(words) else ".")
    if alias[0] in _NO:
        return end - i > 1 or _interjection(words, i)
    return _whole_number(reader, alias, words, i, end)


def _whole_number(
    reader: Reader, alias: tuple[str, ...], words: tuple[str, ...], i: int, end: int
) -> bool:
    """Not the 2 of 'minus 2', '2nd', 'two hundred', '2%' or '2 seconds'."""
    before = words[i - 1] if i else "\n"
    after = words[end] if end < len(words) else "\n"
    if spellings.is_numeral(alias[0]) and (
        spellings.is_numeral(before) or before in ("minus", "negative", "point", "$")
    ):
        return False
    if not spellings.is_numeral(alias[-1]):
        return True
    if spellings.is_numeral(after) or after in _CUT or _POWER(after):
        return False
    if words[end : end + 3] == ("and", "a", "half"):
        return False
    kind = UNITS[after][0] if after in UNITS else ""
    return kind in ("", "level") or kind in reader.kinds


def _elliptic_at(reader: Reader, words: tuple[str, ...], i: int) -> Mention | None:
    """'acoustic or electric guitar' names the acoustic guitar too."""
    if words[i + 1 : i + 2] not in _JOINING:
        return None
    later = reader.starts.get(words[i + 2], ()) if i + 2 < len(words) else ()
    for alias in reader.starts.get(words[i], ()):
        rest = alias[1:]
        if rest and any(
            other[-len(rest) :] == rest and _match(other, words, i + 2)
            for other in later
        ):
            label, kind = reader.aliases[" ".join(alias)]
            return Mention(i, i + 1, label, kind)
    return None


def _match(alias: tuple[str, ...], words: tuple[str, ...], i: int) -> int:
    """Returns where a spelling ends; punctuation inside does not count; 0 = none."""
    for k, word in enumerate(alias):
        while k and i < len(words) and words[i] in _SKIPPED and words[i] != word:
            i += 1
        if i >= len(words) or words[i] != word:
            return 0
        i += 1
    return i


def _interjection(words: tuple[str, ...], i: int) -> bool:
    """'No' is an answer where a mark closes it or opens it, not before a noun."""
    before = words[i - 1] if i else "\n"
    after = words[i + 1] if i + 1 < len(words) else "\n"
    if words[max(0, i - 2) : i] in (("there", "is"), ("there", "are")):
        return False
    if after in _CLOSING:
        return before not in _NEVER_OPENED
    opened = wording.is_mark(before) or before in _POLAR_OPENED
    return opened and (after == "(" or after in _POLAR_FOLLOWED)


def _marker_at(reader: Reader, tokens: wording.Tokens, i: int) -> Mention | None:
    """'(B)', 'option B', 'B.' at the head of a line, 'B' before punctuation."""
    label = reader.markers.get(tokens.raws[i].upper()) if reader.markers else None
    return (
        Mention(i, i + 1, label, "marker")
        if label is not None and _dressed(reader, tokens, i)
        else None
    )


def _dressed(reader: Reader, tokens: wording.Tokens, i: int) -> bool:
    """Whether a letter stands as the name of an option, not as a word."""
    words, raw = tokens.words, tokens.raws[i]
    before = words[i - 1] if i else "\n"
    after, then = (*words[i + 1 : i + 3], "\n", "\n")[:2]
    closed = wording.is_mark(after)
    if (before in "([" and after in ")]") or (before == "\n" and after in ").:"):
        return True
    if before in _MARKED:
        return raw != "a" or closed
    if not raw.isupper():
        return False
    if after in ("and", "or", ",", "/") and then.upper() in reader.markers:
        return True
    if after in ("is", "fits", "seems") and raw != "I":
        return True
    if raw in ("A", "I"):
        return closed and before in _CHOSEN
    return closed or after in ("and", "or")


def without_echo(
    reader: Reader, words: tuple[str, ...], mentions: list[Mention]
) -> tuple[list[Mention], bool]:
    """Leaves out runs that list all options in their order."""
    size = len(reader.options)
    if size < 2 or len(mentions) < size:
        return mentions, False
    for run in _runs(reader, words, mentions):
        length = _echo_length(words, run, size)
        if length and _is_list(words, run[:length], size):
            at = mentions.index(run[0])
            return mentions[:at] + mentions[at + length :], True
    return mentions, False


def _echo_length(words: tuple[str, ...], run: list[Mention], size: int) -> int:
    """Returns how many mentions list all options in order; an answer may follow."""
    listed = 0
    for k, mention in enumerate(run):
        if mention.label == listed:
            listed += 1
        elif mention.label != listed - 1:
            answered = "\n" in words[run[k - 1].end : mention.start]
            return k if listed == size and answered else 0
    return len(run) if listed == size else 0


def _runs(
    reader: Reader, words: tuple[str, ...], mentions: list[Mention]
) -> list[list[Mention]]:
    """Splits mentions where more than marks, links and letters stand between."""
    runs: list[list[Mention]] = []
    for mention in mentions:
        between = words[runs[-1][-1].end : mention.start] if runs else ()
        inner = between[1:-1] if reader.markers else between
        ended = _ENDED.intersection(inner) or (":" in inner and not reader.markers)
        if runs and not ended and all(_links(reader, word) for word in between):
            runs[-1].append(mention)
        else:
            runs.append([mention])
    return runs


def _links(reader: Reader, word: str) -> bool:
    return (
        word in LINKS
        or word in ("a", "an", "the", "option")
        or wording.is_mark(word)
        or word.upper() in reader.markers
    )


def _is_list(words: tuple[str, ...], run: list[Mention], size: int) -> bool:
    """Two options in a row may be a hedge: then there must be a sign of a list."""
    if size > 2:
        return True
    before, after = words[: run[0].start], words[run[-1].end :]
    if after[:1] == (":",) or after[:2] == (")", ":"):
        return True
    alone = all(map(wording.is_mark, (*before, *after)))
    return alone or bool(_LIST_WORDS.intersection(before[-6:]))
