"""Labels of listeners as arrays: encoding, counts, styles, and the other raters.

What separates listeners (base rates, labels a clip) and how much the listener tells
about a label (mutual information) are measured here too.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metaperser_jax.errors import InputError, did_you_mean
from metaperser_jax.typing import Corpus, Ratings

MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "null"})  # in lower case
NEUTRAL = frozenset({"neutral", "neu", "n"})  # names of the neutral class
_GRID = 2.0**20  # see `_sum_of_others`


class Information(NamedTuple):
    """An estimate of mutual information, in bits."""

    plug_in: float  # from the observed frequencies; biased upwards
    corrected: float  # with the Miller-Madow correction; may fall below 0


def cell_text(cell: Any) -> str:
    """Returns a cell as text: '' for None and NaN, '1' for 1 and 1.0, stripped.

    Tables in CSV hold text, in JSONL and Parquet numbers: both meet here.
    """
    if cell is None:
        return ""
    if isinstance(cell, float | np.floating):
        if math.isnan(cell):
            return ""
        return str(int(cell)) if cell.is_integer() else str(cell)
    return str(cell).strip()


def parse_labels(cell: Any, separator: str | None = "|") -> list[str]:
    """Splits a cell into its labels, without repeats, in their order.

    Args:
      cell: text, a number, a list of them, or None.
      separator: what stands between labels; None = a cell is one label.

    Returns:
      The labels; empty for a missing cell ('', NaN, 'NA', 'null' ...).
    """
    if isinstance(cell, list | tuple | np.ndarray):
        parts = [cell_text(part) for part in cell]
    else:
        text = cell_text(cell)
        parts = text.split(separator) if separator else [text]
    labels = (part.strip() for part in parts)
    return list(dict.fromkeys(x for x in labels if x.lower() not in MISSING))


def encode_labels(
    rows: Sequence[Sequence[str]], classes: Sequence[str]
) -> Float[np.ndarray, "rows classes"]:
    """Encodes lists of labels as multi-hot rows.

    Args:
      rows: the labels of each row.
      classes: label names in the order of the columns.

    Returns:
      [rows, classes] float32 of 0 and 1.

    Raises:
      InputError: a label is not among the classes.
    """
    column = {name: index for index, name in enumerate(classes)}
    targets = np.zeros((len(rows), len(classes)), np.float32)
    for row, labels in enumerate(rows):
        for label in labels:
            if label not in column:
                raise InputError(f"row {row}: {unknown_label(label, classes)}")
            targets[row, column[label]] = 1
    return targets


def unknown_label(label: str, classes: Sequence[str]) -> str:
    """Returns the message for a label outside the declared classes."""
    return (
        f"label {label!r} is not among the classes {', '.join(classes)}."
        f"{did_you_mean(label, classes)}"
    )


def threshold_grades(
    grades: Float[np.ndarray, "ratings items"], threshold: float
) -> tuple[
    Float[np.ndarray, "ratings items"],
    Bool[np.ndarray, "ratings items"],
]:
    """Makes labels of grades: an item is a label where it is above the threshold.

    Args:
      grades: [ratings, items], NaN = not answered.
      threshold: a grade equal to it is no label.

    Returns:
      targets [ratings, items] float32 of 0 and 1, and mask [ratings, items], False
      where not answered (a missing answer is no negative answer).
    """
    mask = ~np.isnan(grades)
    return np.where(mask, grades > threshold, False).astype(np.float32), mask


def normalise_soft_labels(
    grades: Float[np.ndarray, "ratings classes"],
) -> tuple[
    Float[np.ndarray, "ratings classes"],
    Bool[np.ndarray, "ratings classes"],
    Float[np.ndarray, " ratings"],
]:
    """Rescales soft labels to sum to 1 over the answered classes.

    Args:
      grades: [ratings, classes] shares of each class, NaN = not answered.

    Returns:
      targets [ratings, classes] float32, mask [ratings, classes], and the sums
      [ratings] found before: NaN where a share is negative or infinite, so that only
      rows with a positive, finite sum are fit to use.
    """
    mask = ~np.isnan(grades)
    shares = np.where(mask, grades, 0.0).astype(np.float64)
    sums = np.where(np.isfinite(shares) & (shares >= 0), shares, np.nan).sum(axis=1)
    usable = sums > 0  # NaN is not
    scale = np.where(usable, sums, 1.0)[:, None]
    targets = np.where(usable[:, None], shares, 0.0) / scale
    return targets.astype(np.float32), mask, sums.astype(np.float32)


def count_classes(
    ratings: Ratings, annotators: Sequence[int] | np.ndarray | None = None
) -> Float[np.ndarray, " classes"]:
    """Counts how often each class was given.

    Args:
      ratings: the corpus' ratings.
      annotators: indices of the listeners to count, None = all.

    Returns:
      [classes] float32, the sum of the counted targets.
    """
    counted = np.where(ratings.mask, ratings.targets, 0)
    if annotators is not None:
        counted = counted[np.isin(ratings.annotator, list(annotators))]
    return counted.sum(axis=0, dtype=np.float64).astype(np.float32)


def other_raters_inputs(
    ratings: Ratings, exclude_annotators: Sequence[int] | np.ndarray = ()
) -> tuple[Float[np.ndarray, "ratings 1 features"], Bool[np.ndarray, " ratings"]]:
    """Represents the clip of each rating by what the *other* raters said about it.

    For votes without audio. Nothing that listener i said, on this clip or on another,
    and nothing that an excluded listener said enters the inputs of listener i: the
    dimensional ratings are standardised by the mean and standard deviation of the
    other listeners' ratings.

    Args:
      ratings: the corpus' ratings.
      exclude_annotators: indices of listeners whose votes are to stay unseen, for
        example the held-out ones; their own rows get inputs all the same.

    Returns:
      inputs [ratings, 1, classes + dimensions + 1] float32: mean vote of the others
      who answered for each class, their mean standardised dimensions (0 where nobody
      rated), log(1 + number of others); and valid [ratings], False where a clip has
      no other rater: those rows are all 0, to be dropped and counted by the caller.
    """
    kept = ~np.isin(ratings.annotator, np.array(list(exclude_annotators), np.int32))
    answered = ratings.mask & kept[:, None]
    rated = ~np.isnan(ratings.dimensions) & kept[:, None]
    votes = _mean_of_others(ratings, np.where(answered, ratings.targets, 0), answered)
    raw = np.where(rated, ratings.dimensions, 0)
    dimensions = _mean_of_others(ratings, raw, rated)
    mean, deviation = _moments_of_others(ratings, raw, rated)
    has_rating = _sum_of_others(ratings, rated) > 0
    dimensions = np.where(has_rating, (dimensions - mean) / deviation, 0)
    others = _sum_of_others(ratings, kept[:, None])
    inputs = np.concatenate([votes, dimensions, np.log1p(others)], axis=1)
    # [ratings, features] -> [ratings, 1, features]
    return inputs[:, None].astype(np.float32), others[:, 0] > 0


def _mean_of_others(ratings: Ratings, values: np.ndarray, there: np.ndarray):
    """Mean over the other raters of the clip of the values that are there, else 0."""
    count = _sum_of_others(ratings, there)
    return _sum_of_others(ratings, values) / np.maximum(count, 1)


def _sum_of_others(ratings: Ratings, values: np.ndarray) -> np.ndarray:
    """Sums [ratings, k] over the other raters of each rating's clip.

    The sum over the clip less the listener's own part. Values are rounded to a grid of
    2 ** -20 first, which makes float64 sums of human-sized ratings exact: not even a
    rounding error tells what was taken away.
    """
    values = np.round(values.astype(np.float64) * _GRID)
    pair = _pair_ids(ratings.clip, ratings.annotator)
    clip_sum, own_sum = (
        np.zeros((ids.max(initial=-1) + 1, values.shape[1]))
        for ids in (ratings.clip, pair)
    )
    np.add.at(clip_sum, ratings.clip, values)
    np.add.at(own_sum, pair, values)
    return (clip_sum[ratings.clip] - own_sum[pair]) / _GRID


def _moments_of_others(
    ratings: Ratings, values: np.ndarray, there: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [ratings, k] over all other listeners' ratings."""
    listeners, own = np.unique(ratings.annotator, return_inverse=True)
    values = values.astype(np.float64)
    parts = np.stack([there, values, values**2], axis=1)  # [ratings, 3, k]
    sums = np.zeros((listeners.size + 2, *parts.shape[1:]))
    np.add.at(sums, own + 1, parts)
    # Sums of those before plus those after: the own part never enters, so that no
    # rounding of it remains.
    before = np.cumsum(sums, axis=0)[:-2]
    after = np.cumsum(sums[::-1], axis=0)[::-1][2:]
    count, total, squares = np.moveaxis((before + after)[own], 1, 0)
    mean = total / np.maximum(count, 1)
    variance = squares / np.maximum(count, 1) - mean**2
    return mean, np.sqrt(np.where(variance > 1e-12, variance, 1.0))


def _pair_ids(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Numbers the distinct pairs of two id columns, from 0."""
    names, column = np.unique(second, return_inverse=True)
    row = np.unique(first, return_inverse=True)[1]
    return np.unique(row * max(names.size, 1) + column, return_inverse=True)[1]


def annotator_summary(corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Describes the habits of each listener.

    Returns:
      For each listener: `clips` rated, `label_rates` (share of the answers that give
      the class, None where it was never asked), `neutral_rate` (None without a class
      of that name) and `labels_per_clip`.
    """
    ratings = corpus.ratings
    size = (len(corpus.annotators), len(corpus.classes))
    given, asked = np.zeros(size), np.zeros(size)
    np.add.at(given, ratings.annotator, np.where(ratings.mask, ratings.targets, 0))
    np.add.at(asked, ratings.annotator, ratings.mask)
    rows = np.bincount(ratings.annotator, minlength=size[0])
    neutral = [c for c, name in enumerate(corpus.classes) if name.lower() in NEUTRAL]
    summary = {}
    for index, name in enumerate(corpus.annotators):
        pairs = zip(given[index], asked[index], strict=True)
        rates = [float(g / a) if a else None for g, a in pairs]
        summary[name] = {
            "clips": int(rows[index]),
            "label_rates": dict(zip(corpus.classes, rates, strict=True)),
            "neutral_rate": rates[neutral[0]] if neutral else None,
            "labels_per_clip": float(given[index].sum() / max(rows[index], 1)),
        }
    return summary


def label_ids(
    targets: Float[np.ndarray, "ratings classes"],
) -> Int[np.ndarray, " ratings"]:
    """Numbers the distinct label sets: equal rows get equal ids."""
    return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)


def majority_labels(ratings: Ratings) -> Int[np.ndarray, " ratings"]:
    """Returns the class most voted for on each rating's clip (ties: the first)."""
    shape = (int(ratings.clip.max(initial=-1)) + 1, ratings.targets.shape[1])
    votes = np.zeros(shape)
    np.add.at(votes, ratings.clip, np.where(ratings.mask, ratings.targets, 0))
    return votes.argmax(axis=1)[ratings.clip]


def mutual_information(
    labels: Int[np.ndarray, " ratings"] | Float[np.ndarray, "ratings classes"],
    annotators: Int[np.ndarray, " ratings"],
    given: Int[np.ndarray, " ratings"] | None = None,
) -> Information:
    """Estimates I(label; listener), or I(label; listener | given), in bits.

    Plug-in estimates of the entropies, each with the Miller-Madow correction
    (m - 1) / 2N nats for m non-empty cells and N ratings (Miller, 1955).

    Args:
      labels: [ratings] ids, or [ratings, classes] targets, whose distinct rows count
        as labels.
      annotators: [ratings] listener ids.
      given: [ratings] ids to condition on, for example `majority_labels`.

    Returns:
      The plug-in and the corrected estimate; 0 without ratings.
    """
    if labels.ndim == 2:
        labels = label_ids(labels)
    if labels.size == 0:
        return Information(0.0, 0.0)
    constant = np.zeros_like(annotators) if given is None else given
    signed = (  # I(X; Y | Z) = H(X, Z) + H(Y, Z) - H(X, Y, Z) - H(Z)
        (1, _pair_ids(labels, constant)),
        (1, _pair_ids(annotators, constant)),
        (-1, _pair_ids(_pair_ids(labels, annotators), constant)),
        (-1, constant),
    )
    plug_in = sum(sign * _entropy(ids) for sign, ids in signed)
    cells = sum(sign * (np.unique(ids).size - 1) for sign, ids in signed)
    corrected = plug_in + cells / (2 * labels.size * math.log(2))
    return Information(float(plug_in), float(corrected))


def _entropy(ids: np.ndarray) -> float:
    """Plug-in entropy of id counts, in bits."""
    share = np.unique(ids, return_counts=True)[1] / ids.size
    return float(-(share * np.log2(share)).sum())


def listener_information(ratings: Ratings) -> dict[str, Any]:
    """Measures how much the listener tells about the label, in bits.

    With one label a rating the label itself is taken. With label sets, most sets occur
    once and their information could not be estimated: there each class is taken as a
    yes-or-no label and the mean over the classes is given.

    Returns:
      `of` ('label' or 'class, mean'), `plug_in` and `corrected` of I(label; listener),
      and `given_majority` for I(label; listener | the clip's majority label),
      corrected.
    """
    targets = np.where(ratings.mask, ratings.targets, 0)
    majority = majority_labels(ratings)
    if bool(ratings.mask.all()) and bool(((targets > 0).sum(axis=1) == 1).all()):
        tables = [(targets.argmax(axis=1), np.ones(len(targets), bool))]
        kind = "label"
    else:
        tables = [
            ((given_to > 0).astype(int), asked)
            for given_to, asked in zip(targets.T, ratings.mask.T, strict=True)
        ]
        kind = "class, mean"
    plain, given = [], []
    for ids, rows in tables:
        listener = ratings.annotator[rows]
        plain.append(mutual_information(ids[rows], listener))
        given.append(mutual_information(ids[rows], listener, majority[rows]))
    return {
        "of": kind,
        "plug_in": float(np.mean([x.plug_in for x in plain])),
        "corrected": float(np.mean([x.corrected for x in plain])),
        "given_majority": float(np.mean([x.corrected for x in given])),
    }
