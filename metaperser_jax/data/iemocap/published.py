"""What is published about IEMOCAP, and what its own files let one derive again.

A copy that is complete and read rightly agrees with both; where it does not, the
difference is said.
"""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.iemocap import grammar
from metaperser_jax.data.iemocap.grammar import Block
from metaperser_jax.errors import Problems

UTTERANCES = {
    "Ses01": 1819,
    "Ses02": 1811,
    "Ses03": 2136,
    "Ses04": 2103,
    "Ses05": 2170,
}
DIALOGS = {"Ses01": 28, "Ses02": 30, "Ses03": 32, "Ses04": 30, "Ses05": 31}
CONSENSUS = {
    "neu": 1708,
    "hap": 595,
    "sad": 1084,
    "ang": 1103,
    "sur": 107,
    "fea": 40,
    "dis": 2,
    "fru": 1849,
    "exc": 1041,
    "oth": 3,
    "xxx": 2507,
}
TRIPLE_TOLERANCE = 5.1e-5  # the files give four decimals
MAX_EXAMPLES = 5
_CODE_OF_LABEL: dict[str, str] = dict(zip(grammar.LABELS, grammar.CODES, strict=True))


class Mismatch(NamedTuple):
    """Where a file says something else than its own rows."""

    utterance: str
    written: str
    derived: str


class Rederived(NamedTuple):
    """The comparison of consensus codes or triples with the raters' rows."""

    compared: int
    mismatches: tuple[Mismatch, ...]

    @property
    def text(self) -> str:
        """One line for the console."""
        return f"{len(self.mismatches)} of {self.compared} differ"


class RaterMatrix(NamedTuple):
    """How often each rater gave each label in each session."""

    raters: tuple[str, ...]
    sessions: tuple[str, ...]
    labels: tuple[str, ...]
    counts: np.ndarray  # [raters, sessions, labels] int
    rated: np.ndarray  # [raters, sessions] int, utterances with a label


def compare(blocks: Sequence[Block]) -> list[str]:
    """Returns a line for each count that is not the published one; none: all agree.

    Utterances and dialogs of each session, and consensus codes over all of them.
    """
    names = [grammar.split_utterance(block.utterance) for block in blocks]
    sessions = collections.Counter(name.session for name in names if name)
    dialogs = {(name.session, name.dialog) for name in names if name}
    found = {
        "utterances": (sessions, UTTERANCES),
        "dialogs": (collections.Counter(x for x, _ in dialogs), DIALOGS),
        "code": (collections.Counter(block.code for block in blocks), CONSENSUS),
    }
    lines = []
    for what, (counts, published) in found.items():
        for key in dict.fromkeys([*published, *sorted(counts)]):
            if counts[key] != published.get(key, 0):
                expected = published.get(key, 0)
                lines.append(f"{what} {key}: {counts[key]}, published {expected}")
    return lines


def derive_code(block: Block) -> str:
    """Derives the consensus code from the observers' labels.

    Each label of an observer's set is one vote; actors rating themselves have none,
    nor have empty sets. A label wins if more than half of the observers who gave a
    label name it, and if it has more votes than any other; with a tie (two labels
    named by the same two of three observers, say) there is no consensus: 'xxx'.
    With up to three observers, as in the release, this is the same as "the
    label with the most votes, if there is only one"; from four on it asks for more.
    """
    sets = [
        row.labels
        for row in block.labels
        if grammar.is_observer(row.rater) and row.labels
    ]
    votes = collections.Counter(label for labels in sets for label in labels)
    ranked = votes.most_common(2)
    if not ranked or 2 * ranked[0][1] <= len(sets):
        return grammar.NO_CONSENSUS
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return grammar.NO_CONSENSUS
    return _CODE_OF_LABEL[ranked[0][0]]


def derive_triple(block: Block) -> tuple[float, float, float]:
    """Derives valence, activation and dominance: the means over the observers.

    Values count as written; a missing one is left out of its mean. NaN = no value.
    """
    rows = [row for row in block.dimensions if grammar.is_observer(row.rater)]
    valence, activation, dominance = (
        _mean([value for row in rows if (value := row[column]) is not None])
        for column in (1, 2, 3)
    )
    return valence, activation, dominance


def _mean(values: list[Any]) -> float:
    return sum(values) / len(values) if values else math.nan


def rederive_codes(blocks: Sequence[Block]) -> Rederived:
    """Compares the consensus codes with those derived; see `derive_code`."""
    pairs = [(block, derive_code(block)) for block in blocks]
    found = [Mismatch(b.utterance, b.code, code) for b, code in pairs if b.code != code]
    return Rederived(len(blocks), tuple(found))


def rederive_triples(blocks: Sequence[Block]) -> Rederived:
    """Compares the triples with those derived; see `derive_triple`.

    Only where the file has a triple and observers rated all three dimensions.
    """
    compared, found = 0, []
    for block in blocks:
        derived = derive_triple(block)
        if block.triple is None or any(map(math.isnan, derived)):
            continue
        compared += 1
        gaps = [abs(x - y) for x, y in zip(block.triple, derived, strict=True)]
        if max(gaps) > TRIPLE_TOLERANCE:
            written, other = _triple_text(block.triple), _triple_text(derived)
            found.append(Mismatch(block.utterance, written, other))
    return Rederived(compared, tuple(found))


def _triple_text(triple: tuple[float, float, float]) -> str:
    return "[" + ", ".join(f"{x:.4f}" for x in triple) + "]"


def check_derived(
    blocks: Sequence[Block], where: str, problems: Problems
) -> dict[str, Rederived]:
    """Derives codes and triples again; one warning for each kind that differs."""
    checks = (
        ("consensus", "consensus_mismatch", rederive_codes),
        ("triple", "triple_mismatch", rederive_triples),
    )
    results = {}
    for name, kind, rederive_fn in checks:
        result = results[name] = rederive_fn(blocks)
        if result.mismatches:
            shown = "; ".join(
                f"{x.utterance} has {x.written}, its raters give {x.derived}"
                for x in result.mismatches[:MAX_EXAMPLES]
            )
            message = f"{result.text} from what the raters' rows give: {shown}"
            problems.warning(kind, where, message)
    return results


def count_labels(blocks: Sequence[Block]) -> RaterMatrix:
    """Counts labels by rater, session and label; observers first."""
    counter: collections.Counter[tuple[str, str, str]] = collections.Counter()
    rated: collections.Counter[tuple[str, str]] = collections.Counter()
    for block in blocks:
        name = grammar.split_utterance(block.utterance)
        session = name.session if name else ""
        for row in block.labels:
            rated[row.rater, session] += bool(row.labels)
            counter.update((row.rater, session, label) for label in row.labels)
    raters = tuple(sorted({rater for rater, _ in rated}, key=rater_order))
    sessions = tuple(sorted({session for _, session in rated}))
    shape = (len(raters), len(sessions), len(grammar.LABELS))
    counts = np.array(
        [counter[r, s, x] for r in raters for s in sessions for x in grammar.LABELS],
        np.int64,
    ).reshape(shape)
    seen = np.array([rated[r, s] for r in raters for s in sessions], np.int64)
    return RaterMatrix(
        raters, sessions, grammar.LABELS, counts, seen.reshape(shape[:2])
    )


def rater_order(rater: str) -> tuple[bool, int, str]:
    """Sorts observers first, then actors by session."""
    return not grammar.is_observer(rater), int(rater[1:]), rater


def describe_raters(matrix: RaterMatrix) -> str:
    """Returns a table for the console: a line for each rater and session.

    Columns: utterances the rater labelled, then how often each label was given.
    """
    heads = [_CODE_OF_LABEL.get(label, label[:5]) for label in matrix.labels]
    lines = [f"{'rater':<6}{'session':<9}{'clips':>6}" + _cells(heads)]
    for i, rater in enumerate(matrix.raters):
        for j, session in enumerate(matrix.sessions):
            if matrix.rated[i, j]:
                start = f"{rater:<6}{session:<9}{matrix.rated[i, j]:>6}"
                lines.append(start + _cells(matrix.counts[i, j].tolist()))
        if (matrix.rated[i] > 0).sum() > 1:
            start = f"{rater:<6}{'all':<9}{matrix.rated[i].sum():>6}"
            lines.append(start + _cells(matrix.counts[i].sum(axis=0).tolist()))
    return "\n".join(lines)


def _cells(values: Sequence[Any]) -> str:
    return "".join(f"{value:>6}" for value in values)


def matrix_as_dict(matrix: RaterMatrix) -> dict[str, Any]:
    """Returns a matrix in plain, JSON-ready values; see `matrix_from_dict`."""
    plain = matrix._asdict()
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else list(value)
        for name, value in plain.items()
    }


def matrix_from_dict(plain: Mapping[str, Any]) -> RaterMatrix:
    """Undoes `matrix_as_dict`."""
    raters, sessions, labels = (
        tuple(plain[name]) for name in ("raters", "sessions", "labels")
    )
    shape = (len(raters), len(sessions), len(labels))
    counts = np.array(plain["counts"], np.int64).reshape(shape)
    rated = np.array(plain["rated"], np.int64).reshape(shape[:2])
    return RaterMatrix(raters, sessions, labels, counts, rated)


def brief_raters(matrix: RaterMatrix) -> dict[str, str]:
    """Returns a short line a rater: kind, labelled clips by session, commonest labels.

    For example 'observer; Ses01 120, Ses02 96; fru 31 %, neu 22 %, ang 12 %': shares
    of the rater's labels.
    """
    lines = {}
    for i, rater in enumerate(matrix.raters):
        kind = "observer" if grammar.is_observer(rater) else "self"
        parts = zip(matrix.sessions, matrix.rated[i].tolist(), strict=True)
        sessions = ", ".join(f"{session} {count}" for session, count in parts if count)
        totals = matrix.counts[i].sum(axis=0)
        order = np.argsort(-totals, kind="stable")[:3].tolist()
        shares = ", ".join(
            f"{_CODE_OF_LABEL[matrix.labels[k]]} {totals[k] / totals.sum():.0%}"
            for k in order
            if totals[k]
        )
        lines[rater] = f"{kind}; {sessions or 'no clip'}; {shares or 'no label'}"
    return lines
