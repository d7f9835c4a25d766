"""Corpus BLEU from sums of n-gram counts.

BLEU (Papineni et al., 2002, ACL) is a function of the lengths and of the clipped n-gram
matches of the whole corpus, so its statistics are sums over examples. One reference an
example, n = 1 ... 4, exponential smoothing of orders without a match (Chen and Cherry,
2014, WMT, their technique 3): the defaults of sacrebleu, with which it agrees to the
last digits. It lies in 0 ... 100.
"""

import collections
import re
import string
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from benchmark.metrics.sequence import MAX_TOKENS

ORDERS = 4
BLEU_STATS = (
    "hypothesis_length",
    "reference_length",
    *(f"matches_{n}" for n in range(1, ORDERS + 1)),
    *(f"ngrams_{n}" for n in range(1, ORDERS + 1)),
)
Tokeniser = Callable[[str], list[str]]

# mteval-v13a: ASCII punctuation stands alone, apart from these, which need context.
_ALONE = "".join(sorted(set(string.punctuation) - set("',-.")))
_SEPARATED = str.maketrans({mark: f" {mark} " for mark in _ALONE})
_MARK_AFTER_NO_DIGIT = re.compile(r"([^0-9])([.,])")
_MARK_BEFORE_NO_DIGIT = re.compile(r"([.,])([^0-9])")
_DASH_AFTER_DIGIT = re.compile(r"([0-9])(-)")
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# What sacrebleu 2 sets apart: Chinese of the basic plane, radicals, bopomofo,
# full-width forms, and all of U+2001 ... U+2A6D; neither kana nor the higher planes.
_CHINESE = re.compile(
    "([\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31bf"
    "\u31c0-\u31ef\u3200-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a"
    "\ufa70-\ufad9\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef])"
)


def _separate(text: str) -> list[str]:
    """The language-dependent part of mteval-v13a."""
    text = text.translate(_SEPARATED)
    text = _MARK_AFTER_NO_DIGIT.sub(r"\1 \2 ", text)
    text = _MARK_BEFORE_NO_DIGIT.sub(r" \1 \2", text)
    return _DASH_AFTER_DIGIT.sub(r"\1 \2 ", text).split()


def tokenise_13a(text: str) -> list[str]:
    """Cuts as mteval-v13a, the script of NIST, does: languages written with spaces."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for name, mark in _ENTITIES:
        text = text.replace(name, mark)
    return _separate(f" {text} ")


def tokenise_zh(text: str) -> list[str]:
    """Cuts Chinese into characters, what lies between as `tokenise_13a`."""
    return _separate(_CHINESE.sub(r" \1 ", text.strip()))


def tokenise_characters(text: str) -> list[str]:
    """Cuts into characters without white space; needs no dictionary, as MeCab does."""
    return [character for character in text if not character.isspace()]


TOKENISERS: dict[str, Tokeniser] = {
    "13a": tokenise_13a,
    "zh": tokenise_zh,
    "char": tokenise_characters,
}


def bleu_statistics(
    references: Sequence[str],
    hypotheses: Sequence[str],
    tokenise: Tokeniser,
    max_tokens: int = MAX_TOKENS,
) -> Float[np.ndarray, "examples 13"]:
    """Returns the sums of corpus BLEU for each example.

    Args:
      references: translations by people.
      hypotheses: translations by the model, in the same order.
      tokenise: text -> tokens.
      max_tokens: longer hypotheses are cut here, and counted as truncated.

    Returns:
      [examples, 13] as named by `BLEU_STATS` and `sequence.READING_STATS`.
    """
    rows = [
        _one_example(tokenise(reference), tokenise(hypothesis), max_tokens)
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
    return np.array(rows, np.float64).reshape(-1, len(BLEU_STATS) + 3)


def _one_example(
    reference: list[str], hypothesis: list[str], max_tokens: int
) -> list[int]:
    truncated = len(hypothesis) > max_tokens
    hypothesis = hypothesis[:max_tokens]
    matches, ngrams = [], []
    for order in range(1, ORDERS + 1):
        found = _ngrams(hypothesis, order)
        matches.append((found & _ngrams(reference, order)).total())
        ngrams.append(found.total())
    lengths = [len(hypothesis), len(reference)]
    return [*lengths, *matches, *ngrams, not reference, False, truncated]


def _ngrams(tokens: list[str], order: int) -> collections.Counter:
    shifted = (tokens[start:] for start in range(order))
    return collections.Counter(zip(*shifted, strict=False))


def bleu(sums: Float[np.ndarray, "*sets stats"]) -> Float[np.ndarray, "*sets"]:
    """Returns corpus BLEU, NaN where there are no reference tokens.

    Args:
      sums: as named by `BLEU_STATS`, summed over a corpus; more entries may follow.
        They need not be whole numbers (bootstrap weights).
    """
    heard, said = sums[..., 0], sums[..., 1]
    matches = sums[..., 2 : 2 + ORDERS]
    ngrams = sums[..., 2 + ORDERS : 2 + 2 * ORDERS]
    missed = (matches <= 0) & (ngrams > 0)
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_log = np.log(smoothed / ngrams).mean(axis=-1)
        brevity = np.minimum(0, 1 - said / heard)
        values = 100 * np.exp(brevity + mean_log)
    possible = (matches > 0).any(axis=-1) & (ngrams > 0).all(axis=-1)
    values = np.where(possible, values, 0.0)
    return np.where(said > 0, values, np.nan)
