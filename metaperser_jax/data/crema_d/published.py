"""The published counts and vote tables, and how a copy compares with them.

`tabulatedVotes.csv` counts the votes of each clip in each modality, `summaryTable.csv`
names the majority. Both were made without the answers whose first click on an emotion
came more than ten seconds after the clip (processFinishedResponses.R of the corpus);
`finishedEmoResponses.csv` holds those clicks.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.crema_d.answers import CLIP_NAME, Answers
from metaperser_jax.data.crema_d.folds import speaker_of
from metaperser_jax.data.crema_d.lines import open_rows
from metaperser_jax.data.crema_d.sources import Sources
from metaperser_jax.data.crema_d.spec import (
    LETTERS,
    MODALITIES,
    NUM_ACTORS,
    NUM_CLIPS,
    NUM_RATERS,
)
from metaperser_jax.data.manifest.tables import parse_number
from metaperser_jax.errors import Problems

LATEST_CLICK_MS = 10_000.0
MAX_EXAMPLES = 5
_VOTE_KEYS = ("VoiceVote", "FaceVote", "MultiModalVote")  # in the order of MODALITIES
_COUNT_KEYS = ("answered_clips", "answered_actors", "answered_raters")

Cell = tuple[str, str]  # clip, modality
Votes = dict[Cell, tuple[int, ...]]  # answers of each letter of LETTERS


class Comparison(NamedTuple):
    """Cells (a clip in a modality) of a published table against the answers."""

    cells: int  # published
    different: int
    examples: list[str]


def check_counts(facts: Mapping[str, Any], where: str, problems: Problems) -> None:
    """Warns where a copy has not the clips, actors and raters that are published.

    Args:
      facts: holds the keys of `count_corpus`.
      where: the table of answers.
      problems: collects the warning.
    """
    found = [facts[key] for key in _COUNT_KEYS]
    wanted = [NUM_CLIPS, NUM_ACTORS, NUM_RATERS]
    if found != wanted:
        text = "{} clips, {} actors, {} raters"
        message = f"answers of {text.format(*found)}; published: {text.format(*wanted)}"
        problems.warning("published_counts", where, message)


def check_published(
    answers: Answers, sources: Sources, problems: Problems
) -> dict[str, Any]:
    """Compares a copy with the vote tables of its authors; differences are warnings.

    Args:
      answers: all answers of the copy.
      sources: names the published tables that are there.
      problems: collects one warning for each comparison that does not come out.

    Returns:
      JSON-ready facts: the counts, and for each table that is there the cells compared
      and those that differ.
    """
    facts: dict[str, Any] = dict(count_corpus(answers))
    late = None
    if sources.first_clicks is not None:
        late = late_questions(sources.first_clicks, problems)
        facts["answers_the_authors_set_aside"] = int(is_late(answers, late).sum())
    votes = count_votes(answers, late)
    if sources.votes is not None:
        published_votes = read_votes(sources.votes, problems)
        found = compare_votes(votes, published_votes, exact=late is not None)
        facts |= _report(found, "votes", sources.shown(sources.votes), problems)
    if sources.summary is not None and late is not None:
        found = compare_majority(votes, read_majority(sources.summary, problems))
        facts |= _report(found, "majority", sources.shown(sources.summary), problems)
    return facts


def _report(
    found: Comparison, what: str, where: str, problems: Problems
) -> dict[str, int]:
    if found.different:
        message = (
            f"{found.different} of {found.cells} cells differ from the answers, for "
            f"example {'; '.join(found.examples)}"
        )
        problems.warning(f"published_{what}", where, message)
    return {
        f"published_{what}_cells": found.cells,
        f"published_{what}_different": found.different,
    }


def count_corpus(answers: Answers) -> dict[str, int]:
    """Counts the clips, actors and raters with at least one usable answer."""
    clips = {answers.clips[index] for index in np.unique(answers.rows["clip"])}
    actors = {speaker_of(clip) for clip in clips}
    num_raters = np.unique(answers.rows["rater"]).size
    counts = (len(clips), len(actors), num_raters)
    return dict(zip(_COUNT_KEYS, counts, strict=True))


def count_votes(answers: Answers, late: np.ndarray | None = None) -> Votes:
    """Counts the answers of each clip in each modality by label.

    Args:
      answers: all answers.
      late: questions to leave out, from `late_questions`.
    """
    rows = answers.rows if late is None else answers.rows[~is_late(answers, late)]
    shape = (len(answers.clips), len(MODALITIES), len(LETTERS))
    table = np.zeros(shape, np.int64)
    np.add.at(table, (rows["clip"], rows["modality"], rows["label"]), 1)
    return {
        (answers.clips[clip], MODALITIES[modality]): tuple(
            table[clip, modality].tolist()
        )
        for clip, modality in np.argwhere(table.any(axis=2)).tolist()
    }


def late_questions(path: str | os.PathLike, problems: Problems) -> np.ndarray:
    """Returns the ids of the questions whose first click came late, sorted.

    Rows that name no question are counted as a warning each.
    """
    late = set()
    with open_rows(path) as (header, lines):
        columns = header.columns(("sessionNums", "queryType", "questNum", "ttr"))
        for line, cells, _ in lines:
            numbers = _numbers(cells, columns)
            if numbers is None:
                message = "no session, query type, question or time"
                problems.warning("bad_first_click", f"{path}:{line}", message)
            elif numbers[3] > LATEST_CLICK_MS:
                late.add(_question_id(*map(int, numbers[:3])))
    return np.array(sorted(late), np.int64)


def _numbers(cells: list[str], columns: tuple[int, ...]) -> list[float] | None:
    """Returns the numbers in some columns, None if one is none."""
    if len(cells) <= max(columns):
        return None
    found = [parse_number(cells[column]) for column in columns]
    numbers = [x for x in found if x is not None and abs(x) < 1e12]  # NaN is not
    return numbers if len(numbers) == len(columns) else None


def _question_id(session: Any, query_type: Any, question: Any) -> Any:
    return (session * 10 + query_type) * 100_000 + question


def is_late(answers: Answers, late: np.ndarray) -> np.ndarray:
    """Returns [answers] bool, True where the first click came late."""
    rows = answers.rows
    modality = rows["modality"].astype(np.int64) + 1
    ids = _question_id(rows["session"], modality, rows["question"])
    return np.isin(ids, late) & (rows["session"] >= 0)


def read_votes(path: str | os.PathLike, problems: Problems) -> Votes:
    """Reads tabulatedVotes.csv, whose row index begins with the query type."""
    votes: Votes = {}
    for line, (index, clip, *cells) in _table(path, ("", "fileName", *LETTERS)):
        numbers = [int(cell) for cell in cells if cell.isascii() and cell.isdigit()]
        if index[:1] not in ("1", "2", "3") or len(numbers) < len(LETTERS):
            message = f"index {index!r} and counts {cells}: expected whole numbers"
            problems.warning("bad_vote_row", f"{path}:{line}", message)
        elif CLIP_NAME.fullmatch(clip):
            votes[clip, MODALITIES[int(index[0]) - 1]] = tuple(numbers)
    return votes


def read_majority(
    path: str | os.PathLike, problems: Problems
) -> dict[Cell, frozenset[str]]:
    """Reads summaryTable.csv: the letters with the most votes in each cell."""
    majority = {}
    for line, (clip, *cells) in _table(path, ("FileName", *_VOTE_KEYS)):
        for modality, cell in zip(MODALITIES, cells, strict=True):
            letters = frozenset(cell.split(":"))
            if not letters <= set(LETTERS):
                message = f"votes {cell!r}, expected letters of {LETTERS}"
                problems.warning("bad_vote_row", f"{path}:{line}", message)
            else:
                majority[clip, modality] = letters
    return majority


def _table(
    path: str | os.PathLike, wanted: tuple[str, ...]
) -> Iterator[tuple[int, list[str]]]:
    """Yields the wanted cells of each row, '' for cells that are not there."""
    with open_rows(path) as (header, lines):
        columns = header.columns(wanted)
        for line, cells, _ in lines:
            yield (
                line,
                [cells[i].strip() if i < len(cells) else "" for i in columns],
            )


def majority_of(counts: tuple[int, ...]) -> frozenset[str]:
    """Returns the letters with the most votes."""
    most = max(counts)
    return frozenset(
        letter for letter, n in zip(LETTERS, counts, strict=True) if n == most
    )


def compare_votes(found: Votes, published: Votes, exact: bool) -> Comparison:
    """Compares counts cell by cell.

    Args:
      found: from the answers.
      published: from the table.
      exact: whether the late answers are out of `found`; if not, a published count may
        be lower, and only one that is higher counts as different.
    """
    nothing = (0,) * len(LETTERS)
    different = []
    for cell, counts in published.items():
        ours = found.get(cell, nothing)
        more = any(n > m for n, m in zip(counts, ours, strict=True))
        if (ours != counts) if exact else more:
            different.append(f"{' '.join(cell)}: {_spell(counts)}, here {_spell(ours)}")
    return Comparison(len(published), len(different), different[:MAX_EXAMPLES])


def compare_majority(found: Votes, published: dict[Cell, frozenset[str]]) -> Comparison:
    """Compares the letters with the most votes, cell by cell."""
    different = []
    for cell, letters in published.items():
        ours = majority_of(found[cell]) if cell in found else frozenset()
        if ours != letters:
            pair = [":".join(sorted(x)) or "none" for x in (letters, ours)]
            different.append(f"{' '.join(cell)}: {pair[0]}, here {pair[1]}")
    return Comparison(len(published), len(different), different[:MAX_EXAMPLES])


def _spell(counts: tuple[int, ...]) -> str:
    pairs = zip(counts, LETTERS, strict=True)
    return " ".join(f"{n}{letter}" for n, letter in pairs if n) or "none"
