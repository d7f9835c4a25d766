"""Short answers of a closed form: part-of-speech tags, tone sandhi, spoken digits.

The released formulas are not published; what stands here is the usual measure of each.
"""

import collections
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from benchmark.metrics.pairs import MAX_CHARACTERS, overlap
from benchmark.metrics.sequence import ratio
from benchmark.normalisers import basic_v1, english_v1, mixed_v1

# Universal Dependencies, version 2.
# fmt: off
TAGS = frozenset([
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON",
    "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
])
_DIGITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
]
# fmt: on
ACCURACY_STATS = ("correct",)


def tag_tokens(text: str) -> list[str]:
    """Cuts 'words / TAGS', or tags alone, into tokens of an error rate.

    Both halves count, and a word never equals a tag: words are lower case and
    normalised (`english_v1`), tags upper case. After the last slash, and where there is
    no slash, the tags of Universal Dependencies are read if there are any, and all
    else if there are none; 'saw/VERB' is its tag.
    """
    said, slash, tags = text.rpartition(" / ")
    tokens = re.findall(r"[^\W_]+", tags)
    known = [token for token in tokens if token in TAGS]
    if not known:
        known = [token.upper() for token in tokens]
    return [*english_v1(said).split(), *known] if slash else known


def exact_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 4"]:
    """Says which answers equal their reference, unit by unit (`mixed_v1`).

    Returns:
      [examples, 4] as named by `ACCURACY_STATS` and `sequence.READING_STATS`.
    """
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        expected = mixed_v1(reference)
        correct = bool(expected) and mixed_v1(hypothesis[:MAX_CHARACTERS]) == expected
        truncated = len(hypothesis) > MAX_CHARACTERS
        rows.append([correct, not expected, False, truncated])
    return np.array(rows, np.float64)


def syllable_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 6"]:
    """Counts the units (`mixed_v1`) that reference and answer share, in any order.

    Returns:
      [examples, 6] as named by `pairs.F1_STATS` and `sequence.READING_STATS`.
    """
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        expected, found = (
            collections.Counter(mixed_v1(text[:MAX_CHARACTERS]).split())
            for text in (reference, hypothesis)
        )
        truncated = len(hypothesis) > MAX_CHARACTERS
        rows.append([*overlap(expected, found), not expected, False, truncated])
    return np.array(rows, np.float64)


def spoken_digit(text: str) -> int | None:
    """Returns the one digit that an answer names, None if none or several.

    'seven', '7', 'The digit is 7.' and '7 (seven)' name 7; '17' and '7 or 9' name none.
    """
    found = set()
    for token in basic_v1(text[:MAX_CHARACTERS]).split():
        if token in _DIGITS:
            found.add(_DIGITS.index(token))
        elif token.isdecimal():
            found.add(int(token) if len(token) < 5 else len(_DIGITS))
    digit = found.pop() if len(found) == 1 else len(_DIGITS)
    return digit if digit < len(_DIGITS) else None


def digit_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 4"]:
    """Says which answers name the digit of their reference.

    An answer that names no digit, or several, is wrong and counted as unreadable.

    Returns:
      [examples, 4] as named by `ACCURACY_STATS` and `sequence.READING_STATS`.
    """
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        expected, found = spoken_digit(reference), spoken_digit(hypothesis)
        unreadable = found is None and bool(hypothesis.strip())
        truncated = len(hypothesis) > MAX_CHARACTERS
        correct = expected is not None and found == expected
        rows.append([correct, expected is None, unreadable, truncated])
    return np.array(rows, np.float64)


def released_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 4"]:
    """Says which raw answers equal their reference but for case and outer spaces."""
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        expected = reference.strip().lower()
        correct = bool(expected) and hypothesis.strip().lower() == expected
        rows.append([correct, not expected, False, False])
    return np.array(rows, np.float64)


def accuracy(sums: Float[np.ndarray, "*sets stats"]) -> Float[np.ndarray, "*sets"]:
    """Returns the share of correct answers among examples that have a reference.

    Args:
      sums: `correct`, `sequence.READING_STATS`, then `examples`.
    """
    return ratio(sums[..., 0], sums[..., 4] - sums[..., 1])
