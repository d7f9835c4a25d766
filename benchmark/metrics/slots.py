"""Slot filling: F1 of the slot types, character error rate of the slot values.

Strict: types of all examples together (a type that occurs twice must be found twice),
and each reference value against the nearest unused value of its type. Released: the
mean over examples of the F1 of the sets of types (Chuang et al., SUPERB, 2021), and a
value CER in which, as in the public package, prediction and reference have changed
places.
"""

import collections
import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from benchmark.metrics.pairs import (
    MAX_CHARACTERS,
    Pairs,
    overlap,
    read_pairs,
    released_pairs,
)
from benchmark.metrics.sequence import count_edits, ratio
from benchmark.normalisers import english_v1

MEAN_F1_STATS = ("f1_total",)
_Slots = dict[str, list[str]]  # type -> values
_Row = Sequence[int | float] | np.ndarray


def type_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 6"]:
    """Returns true and false positives and false negatives of the slot types.

    Returns:
      [examples, 6] as named by `pairs.F1_STATS` and `sequence.READING_STATS`.
    """

    def one(reference: _Slots, hypothesis: _Slots) -> _Row:
        counts = [
            collections.Counter({kind: len(values) for kind, values in slots.items()})
            for slots in (reference, hypothesis)
        ]
        return overlap(*counts)

    return _each(references, hypotheses, read_pairs, _canonical, one)


def value_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 7"]:
    """Returns the character edits of the slot values.

    Slots that the reference does not have count in the F1 of the types alone.

    Returns:
      [examples, 7] as named by `sequence.ERROR_STATS` and `sequence.READING_STATS`.
    """

    def one(reference: _Slots, hypothesis: _Slots) -> _Row:
        return _value_edits(reference, hypothesis, reuse=False)

    return _each(references, hypotheses, read_pairs, _canonical, one)


def released_type_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 4"]:
    """Returns the F1 of the set of types of each example, 1 where both are empty."""

    def one(reference: _Slots, hypothesis: _Slots) -> _Row:
        if not reference and not hypothesis:
            return [1.0]
        common = len(reference.keys() & hypothesis.keys())
        return [2 * common / (len(reference) + len(hypothesis))]

    return _each(references, hypotheses, released_pairs, _as_written, one)


def released_value_statistics(
    references: Sequence[str], hypotheses: Sequence[str]
) -> Float[np.ndarray, "examples 7"]:
    """Returns the edits of predicted values against the nearest reference values.

    The lengths are those of the predicted values: the released exchange of roles.
    """

    def one(reference: _Slots, hypothesis: _Slots) -> _Row:
        return _value_edits(hypothesis, reference, reuse=True)

    return _each(references, hypotheses, released_pairs, _as_written, one)


def mean_f1(sums: Float[np.ndarray, "*sets stats"]) -> Float[np.ndarray, "*sets"]:
    """Returns the mean of the F1 of single examples; `examples` follows the reading."""
    return ratio(sums[..., 0], sums[..., 4])


def _each(
    references: Sequence[str],
    hypotheses: Sequence[str],
    read: Callable[[str], Pairs],
    gather: Callable[[Pairs], _Slots],
    one: Callable[[_Slots, _Slots], _Row],
) -> np.ndarray:
    """Returns the statistics of every example and how its reading went."""
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        truncated = len(hypothesis) > MAX_CHARACTERS
        found = read(hypothesis[:MAX_CHARACTERS])
        faulty = found.num_unread > 0 and bool(hypothesis.strip())
        unreadable = faulty and (read is released_pairs or not found.pairs)
        expected = gather(read(reference))
        row = one(expected, gather(found))
        rows.append([*row, not expected, unreadable, truncated])
    return np.array(rows, np.float64)


def _canonical(found: Pairs) -> _Slots:
    """Groups values by type; case and separators of types do not count."""
    slots: _Slots = {}
    for kind, value in found.pairs:
        name = re.sub(r"[\W_]+", "_", kind.lower()).strip("_")
        slots.setdefault(name, []).append(english_v1(value))
    return slots


def _as_written(found: Pairs) -> _Slots:
    slots: _Slots = {}
    for kind, value in found.pairs:
        slots.setdefault(kind, []).append(value.upper())
    return slots


def _value_edits(wanted: _Slots, offered: _Slots, reuse: bool) -> np.ndarray:
    """Sums the edits of each wanted value against the nearest offered of its type."""
    chosen: list[tuple[str, str]] = []
    for kind, values in wanted.items():
        left = list(offered.get(kind, ()))
        for value in values:
            nearest = _nearest(value, left)
            chosen.append((value, nearest or ""))
            if nearest is not None and not reuse:
                left.remove(nearest)
    edits = count_edits([a for a, _ in chosen], [b for _, b in chosen])
    return edits.sum(axis=0)


def _nearest(value: str, offered: list[str]) -> str | None:
    """Returns the value with the fewest edits, the first of equals."""
    if len(offered) < 2:
        return offered[0] if offered else None
    edits = count_edits([value] * len(offered), offered)[:, :3].sum(axis=1)
    return offered[int(np.argmin(edits))]
