"""Edit distance and error rates over words, characters or phonemes.

Tie rule: among the alignments with the fewest edits, the one with the fewest
substitutions counts, that is the one with the most correct tokens. So 'a b' heard as
'b c' is a deletion and an insertion with 'b' correct, not two substitutions. The number
of edits, and with it the error rate, is the same under every rule.

An error rate is that of the corpus: edits of all examples over reference tokens of all
examples. What is said to an empty reference counts as insertions.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

Tokens = Sequence[str]  # a plain text is the sequence of its characters
Tokeniser = Callable[[str], Tokens]

MAX_TOKENS = 10_000  # of a hypothesis, or twice its reference where that is more
ERROR_STATS = ("substitutions", "deletions", "insertions", "reference_length")
# What every batch of statistics ends with, one 0 or 1 an example.
READING_STATS = ("empty_references", "unreadable", "truncated")
_BLOCK = 8192  # pairs whose tokens are held at a time


def count_edits(
    references: Sequence[Tokens], hypotheses: Sequence[Tokens]
) -> Int[np.ndarray, "pairs 4"]:
    """Counts the edits of each pair of token sequences, or of texts by character.

    Both numbers that the tie rule compares are minimised at once: with N larger than
    any number of edits, insertions and deletions cost N, substitutions N + 1.

    Args:
      references: what was said.
      hypotheses: what was heard, in the same order.

    Returns:
      [pairs, 4] as named by `ERROR_STATS`.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    lengths = np.fromiter(map(len, references), np.int64, len(references))
    heard = np.fromiter(map(len, hypotheses), np.int64, len(hypotheses))
    if not len(lengths):
        return np.zeros((0, 4), np.int64)
    unit = int(max(lengths.max(), heard.max())) + 1
    costs = process.cpdist(
        references,
        hypotheses,
        scorer=Levenshtein.distance,
        scorer_kwargs={"weights": (unit, unit, unit + 1)},
        dtype=np.int64,
    )
    edits, substitutions = np.divmod(costs, unit)
    deletions = (edits - substitutions + lengths - heard) // 2
    insertions = edits - substitutions - deletions
    return np.stack([substitutions, deletions, insertions, lengths], axis=1)


def words(text: str) -> list[str]:
    """Cuts at white space."""
    return text.split()


def characters(text: str) -> str:
    """Every character counts, spaces too."""
    return text


def released_words(text: str) -> list[str]:
    """Upper case, cut at single spaces: two in a row hold an empty word between."""
    return text.upper().split(" ")


def released_characters(text: str) -> str:
    """Upper case, every character."""
    return text.upper()


def error_statistics(
    references: Sequence[str],
    hypotheses: Sequence[str],
    tokenise: Tokeniser,
    max_tokens: int = MAX_TOKENS,
) -> Float[np.ndarray, "examples 7"]:
    """Returns the sums of an error rate for each example.

    Args:
      references: texts.
      hypotheses: texts, in the same order.
      tokenise: text -> tokens, normalisation included.
      max_tokens: a hypothesis longer than this and than twice its reference is cut to
        the larger of the two, and counted as truncated.

    Returns:
      [examples, 7] as named by `ERROR_STATS` and `READING_STATS`.
    """
    blocks = [
        _block_statistics(
            [tokenise(text) for text in references[start : start + _BLOCK]],
            [tokenise(text) for text in hypotheses[start : start + _BLOCK]],
            max_tokens,
        )
        for start in range(0, max(len(references), 1), _BLOCK)
    ]
    return np.concatenate(blocks)


def _block_statistics(
    references: list[Tokens], hypotheses: list[Tokens], max_tokens: int
) -> np.ndarray:
    truncated = np.zeros(len(references))
    for index, (reference, hypothesis) in enumerate(
        zip(references, hypotheses, strict=True)
    ):
        if len(hypothesis) > max_tokens:
            limit = max(max_tokens, 2 * len(reference))
            truncated[index] = len(hypothesis) > limit
            hypotheses[index] = hypothesis[:limit]
    counts = count_edits(references, hypotheses)
    empty = [not any(tokens) for tokens in references]  # no token, or an empty one
    readings = [empty, np.zeros(len(references)), truncated]
    return np.column_stack([counts, *readings]).astype(np.float64)


def error_rate(sums: Float[np.ndarray, "*sets stats"]) -> Float[np.ndarray, "*sets"]:
    """Returns edits over reference tokens, NaN where there are no such tokens."""
    return ratio(sums[..., :3].sum(axis=-1), sums[..., 3])


Sums = Float[np.ndarray, "*sets"] | np.floating


def ratio(total: Sums, count: Sums) -> Float[np.ndarray, "*sets"]:
    """Returns total / count, NaN where the count is 0."""
    total, count = np.broadcast_arrays(total, count)
    undefined = np.full(total.shape, np.nan)
    return np.divide(total, count, out=undefined, where=count > 0)
