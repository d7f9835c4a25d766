"""Folding of text for comparison, its tokens, and declared forms of words.

What is folded away never carries meaning in a short answer: case, width and
compatibility forms, markup, control and invisible characters. Nothing here guesses.
"""

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

LIMIT = 20_000  # characters of a text that are read; longer ones are runaways
GAP = "\x01"  # stands for a passage that was left out
TAIL = 2_000  # of a runaway, where its final answer would stand

CJK = (
    "\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\u3099\u309a"
_WORD = rf"(?:(?![{CJK}\d])[^\W_]|[{_MARKS}])(?:(?![{CJK}])[^\W_]|[{_MARKS}])*"
# A minus belongs to its number where nothing but a space or an opening mark precedes.
_FIGURE = r"(?:(?<![^\s(\[{:=,;\"'/])-)?\d+(?:[.,]\d+)*"
_TOKEN = re.compile(rf"\n|[{CJK}]|{_FIGURE}|{_WORD}(?:'{_WORD})*[#♯]?|[^\s\w]|_")
_ASCII_TOKEN = re.compile(
    rf"\n|{_FIGURE}|[A-Za-z][A-Za-z0-9]*(?:'[A-Za-z]+)*#?|[^\s\w]|_"
)
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u0060\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u300c\u300d\u300e\u300f", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2014\u2015", " - "),
        "\u2212": "-",
        "\u3002": ". ",
        "\u3001": ", ",
        "\u2192": "->",
        "\u21d2": "=>",
        "\u266f": "#",
    }
)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_LINE = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.S | re.I)
_STRUCK = re.compile(r"~~[^~\n]{0,200}~~|<(s|del|strike)>[^<\n]{0,200}</\1>", re.I)
_LATEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]{0,200})\}")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,80}>")
_MARKUP = re.compile(
    r"\*+|^[ \t]*(?:#+[ \t]|>+[ \t](?![ \t]*[\d.]))[ \t]*|(?<![A-Za-z\d])`+|`+", re.M
)

_JOIN = re.compile(r"(?<=\w)[-_](?=\w)")
_RUN = re.compile(r"\s{2,}|[^\S \n]")

# A row holds the spellings of one word. They are interchangeable in an answer, unless
# two options of the same list stand in one row.
FORMS = tuple(
    tuple(part.strip() for part in row.split(","))
    for row in """
    happy, happiness, happily
    sad, sadness, sadly
    angry, anger, angrily
    fear, fearful, fearfulness, fearfully
    disgust, disgusted
    surprise, surprised
    neutral, neutrality, neutrally
    calm, calmness, calmly
    joy, joyful, joyfully, joyous
    amazement, amazed
    tender, tenderness, tenderly
    solemn, solemnity, solemnly
    nostalgia, nostalgic
    tense, tension
    powerful, power
    excited, excitement
    frustrated, frustration
    sarcasm, sarcastic, sarcastically
    positive, positively
    negative, negatively
    laughter, laughing, laugh, laughs
    sigh, sighing, sighs
    cough, coughing, coughs
    sneeze, sneezing, sneezes
    sniff, sniffing, sniffs
    throat clearing, throat-clearing, clearing throat, clears throat
    breathing, breath, breaths
    snoring, snore, snores
    clapping, clap, claps
    footsteps, footstep
    scream, screaming, screams
    male, males
    female, females
    teenager, teenagers
    dog, dogs
    cat, cats
    bird, birds
    hen, hens
    cow, cows
    pig, pigs
    frog, frogs
    crow, crows
    rooster, roosters
    insect, insects
    cricket, crickets
    siren, sirens
    helicopter, helicopters
    airplane, airplanes
    chainsaw, chainsaws
    guitar, guitars
    violin, violins
    drum, drums
    yes, yeah, yep, yup
    no, nope, nah
    authentic, authentically
    spoofed, spoof
    noisy, noisily
    clean, cleanly
    zero, 0
    one, 1
    two, 2
    three, 3
    four, 4
    five, 5
    six, 6
    seven, 7
    eight, 8
    nine, 9
    ten, 10
    eleven, 11
    twelve, 12
    thirteen, 13
    fourteen, 14
    fifteen, 15
    sixteen, 16
    seventeen, 17
    eighteen, 18
    nineteen, 19
    twenty, 20
    """.strip().splitlines()
)
FORMS_VERSION = "1"


class Hinted(NamedTuple):
    """A slow pattern with substrings, one of which stands in all that it matches."""

    hints: tuple[str, ...]  # in small letters
    pattern: re.Pattern[str]

    def may_match(self, text: str) -> bool:
        """Whether it is worth looking; letters that fold to ASCII are left to it."""
        lower = text.lower()
        for hint in self.hints:
            if hint in lower:
                return True
        return not text.isascii()

    def sub(self, replacement: str | Callable[[re.Match[str]], str], text: str) -> str:
        """Replaces all matches."""
        return self.pattern.sub(replacement, text) if self.may_match(text) else text

    def matches(self, text: str) -> list[re.Match[str]]:
        """Returns all matches, in order."""
        return list(self.pattern.finditer(text)) if self.may_match(text) else []


def hinted(hints: str, pattern: str) -> Hinted:
    """Returns a pattern that ignores case, with its hints in one text: 'so|thus'."""
    return Hinted(tuple(hints.split("|")), re.compile(pattern, re.I))


class Tokens(NamedTuple):
    """A text as words, CJK characters, marks and line ends."""

    words: tuple[str, ...]  # folded
    raws: tuple[str, ...]  # case as written


@functools.lru_cache(maxsize=16)  # rooms that read an answer fold it one by one
def fold(text: str) -> str:
    """Returns text with plain quotes, dashes and width; without markup; case kept.

    Thoughts between think tags and struck-out text are left out, as nobody would read
    them as an answer.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    if not (text.isascii() and text.isprintable()):
        text = _INVISIBLE.sub("", _ESCAPE.sub("", text))
        text = _LINE.sub("\n", text)
    if "<" in text:
        text = _thoughts_removed(text)
    if "~" in text or "<" in text:
        text = _TAG.sub(" ", _STRUCK.sub(" ", text))
    if "\\" in text:
        text = _LATEX.sub(r"\1", text)
    is_marked = any(mark in text for mark in "*#>`")
    return _MARKUP.sub("", text) if is_marked else text


def tokenize(folded: str) -> Tokens:
    """Splits folded text; joins of hyphens and underscores count as spaces.

    A possessive 's and trailing zeros of decimals are dropped. Each CJK character is
    a token of its own, as these scripts write no spaces.
    """
    pattern = _ASCII_TOKEN if folded.isascii() else _TOKEN
    joined = "-" in folded or "_" in folded
    spaced = _JOIN.sub(" ", folded) if joined else folded
    raws = tuple(pattern.findall(spaced))
    return Tokens(tuple(map(_word, raws)), raws)


@functools.lru_cache(maxsize=4096)
def key(text: str) -> str:
    """Returns what is compared of a label: its folded words, without articles."""
    words = tokenize(fold(text[:LIMIT])).words
    kept = [word for word in words if not is_mark(word)]
    if len(kept) > 1 and kept[0] in ("a", "an", "the"):
        kept = kept[1:]
    return " ".join(kept)


@functools.lru_cache(maxsize=4096)
def is_mark(token: str) -> bool:
    """Tells whether a token is punctuation or a line end; emoji are words."""
    return len(token) == 1 and (
        token in "\n+=<>|~^$`" or unicodedata.category(token)[0] in "PZC"
    )


@functools.cache
def forms_of(phrase: str) -> tuple[str, ...]:
    """Returns the other declared spellings of a folded phrase."""
    rows = (row for row in _folded_forms() if phrase in row)
    return tuple(form for row in rows for form in row if form != phrase)


@functools.cache
def _folded_forms() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(key(form) for form in row) for row in FORMS)


@functools.lru_cache(maxsize=16)
def squeeze(text: str) -> str:
    """Makes each run of white space one line end, if it holds one, or one space."""
    if text.isprintable() and "  " not in text:
        return text
    return _RUN.sub(lambda run: "\n" if "\n" in run.group() else " ", text)


def word_set(words: str) -> frozenset[str]:
    """Returns the words of a list that is written with single spaces."""
    return frozenset(words.split(" "))


@functools.lru_cache(maxsize=8192)
def _word(raw: str) -> str:
    if raw[-1].isdecimal():
        return _figure(raw)
    word = raw.casefold()
    return word[:-2] if word.endswith("'s") and len(word) > 2 else word


def _figure(raw: str) -> str:
    if not (raw[0].isdecimal() or raw[0] == "-"):
        return raw.casefold()  # a word that ends in a digit
    digits = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in raw)
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits


def _thoughts_removed(text: str) -> str:
    text = _THOUGHT.sub(" ", text)
    return re.split(r"</think(?:ing)?>", text, flags=re.I)[-1]
