"""Finds where a passage names options: spellings, letters, and lists of all of them."""

from typing import NamedTuple

from benchmark import wording
from benchmark.spellings import Reader

LINKS = wording.word_set(", or and nor / & + ; | \n 或 和 与 跟 还")
OR = frozenset({"or", "nor", "/", "或"})
_POLAR = frozenset({"yes", "no"})
_POLAR_WORDS = _POLAR.union(
    form for word in _POLAR for form in wording.forms_of(word)
)  # fmt: skip
_POLAR_FOLLOWED = wording.word_set(
    "there it they he she i we both these those this that the based as since because "
    "而 我 他 她"
)
_POLAR_OPENED = wording.word_set(
    "is be answer say or with so definitely clearly probably certainly likely well "
    "actually"
)
_MARKED = wording.word_set("option choice answer letter alternative candidate number")
_CHOSEN = frozenset({"is", "be", ",", "or", "and", "choose", "select", ":", '"'})
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
        mention = _spelling_at(reader, tokens.words, i) or _marker_at(reader, tokens, i)
        if mention:
            found.append(mention)
            i = mention.end
        else:
            i += 1
    return found


def _spelling_at(reader: Reader, words: tuple[str, ...], i: int) -> Mention | None:
    for alias in reader.starts.get(words[i], ()):
        end = _match(alias, words, i)
        if end and not (alias[0] in _POLAR_WORDS and not _interjection(words, i, end)):
            label, kind = reader.aliases[" ".join(alias)]
            if _articles(reader, alias, words, i):
                continue
            return Mention(i, end, label, kind)
    return None


def _articles(
    reader: Reader, alias: tuple[str, ...], words: tuple[str, ...], i: int
) -> bool:
    """Whether a single-letter option is really the word 'a' or 'i'."""
    if alias not in (("a",), ("i",)):
        return False
    after = words[i + 1] if i + 1 < len(words) else "."
    return not wording.is_mark(after)


def _match(alias: tuple[str, ...], words: tuple[str, ...], i: int) -> int:
    """Returns where a spelling ends; punctuation inside does not count; 0 = none."""
    for k, word in enumerate(alias):
        while k and i < len(words) and words[i] in '(),/&:-"' and words[i] != word:
            i += 1
        if i >= len(words) or words[i] != word:
            return 0
        i += 1
    return i


def _interjection(words: tuple[str, ...], i: int, end: int) -> bool:
    """'No' is an answer at the head of a sentence, not before a noun."""
    if end - i > 1:
        return True
    before = words[i - 1] if i else "\n"
    after = words[end] if end < len(words) else "\n"
    closed = wording.is_mark(after) or after in _POLAR_FOLLOWED
    if words[i] in ("no", "nope", "nah"):
        opened = wording.is_mark(before) or before in _POLAR_OPENED
        return opened and (closed or after == "or")
    return True


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
    if after in ("and", "or", ",") and then.upper() in reader.markers:
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
        order = [m.label for m in run]
        distinct = [x for k, x in enumerate(order) if k == 0 or x != order[k - 1]]
        if distinct == list(range(size)) and _is_list(words, run, size):
            at = mentions.index(run[0])
            rest = mentions[:at] + mentions[at + len(run) :]
            return rest, True
    return mentions, False


def _runs(
    reader: Reader, words: tuple[str, ...], mentions: list[Mention]
) -> list[list[Mention]]:
    """Splits mentions where more than marks, links and letters stand between."""
    runs: list[list[Mention]] = []
    for mention in mentions:
        between = words[runs[-1][-1].end : mention.start] if runs else ()
        inner = between[1:-1] if reader.markers else between
        ended = {".", "?", "!"}.intersection(inner)
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
    before = words[: run[0].start]
    rest = [
        word for word in (*before, *words[run[-1].end :]) if not wording.is_mark(word)
    ]
    return not rest or bool(_LIST_WORDS.intersection(before[-6:]))
