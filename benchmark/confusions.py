"""Confusion matrices of closed answers, and macro-F1 with its bootstrap."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from benchmark import intervals

_CONFUSION_CELLS = 20_000_000  # more are not resampled
_SHOWN_LABELS = 64  # a confusion matrix of more labels serves nobody


def confusion_cells(task, truths, readings):
    """Returns the labels, and each example's cell of [truth, answer or none].

    Only for single closed labels: () and None otherwise.
    """
    labels = task.labels or tuple(sorted({t[0] for t in truths if len(t) == 1}))
    index = {label: i for i, label in enumerate(labels)}
    single = all(len(t) == 1 and t[0] in index for t in truths)
    if task.multi_label or not single or not 2 <= len(labels) <= _SHOWN_LABELS:
        return (), None
    width = len(labels) + 1  # the last column: nothing that counts was said
    cells = np.empty(len(truths), int)
    for row, (truth, reading) in enumerate(zip(truths, readings, strict=True)):
        said = truth[0] if reading.correct else reading.read_as
        unsaid = reading.correct is False and reading.decided_by != "parser"
        column = width - 1 if unsaid else index.get(said, width - 1)
        cells[row] = index[truth[0]] * width + column
    return labels, cells


def macro_f1(
    cells: Int[np.ndarray, " examples"],
    num_labels: int,
    clusters: Sequence[str] = (),
    num_resamples: int = intervals.NUM_RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> tuple[float, Float[np.ndarray, " resamples"]]:
    """Returns macro-F1 over single labels with bootstrap replicates.

    The mean of F1 over the labels that occur in truth or answers. An answer that names
    no label is a miss of the true one.

    Args:
      cells: [examples] truth * (num_labels + 1) + answer; answer = num_labels: none.
      num_labels: number of labels.
      clusters: [examples] speakers, see `intervals.unit_sums`.
      num_resamples: number of bootstrap samples.
      seed: of the samples.
    """
    shape = (num_labels, num_labels + 1)
    counts = np.bincount(cells, minlength=math.prod(shape)).reshape(shape)
    if clusters and any(clusters):
        drawn = _clustered_confusions(cells, clusters, shape, num_resamples, seed)
    else:
        rng = np.random.default_rng(seed)
        drawn = intervals.resampled_counts(counts, num_resamples, rng)
    return float(f1_of(counts[None])[0]), f1_of(drawn)


def f1_of(confusions: np.ndarray) -> Float[np.ndarray, " tables"]:
    """Returns macro-F1 of each table, [tables, labels, labels + 1], rows are true."""
    confusions = np.asarray(confusions, float)
    num_labels = confusions.shape[1]
    hits = np.einsum("tll->tl", confusions[:, :, :num_labels])
    true = confusions.sum(axis=2)
    said = confusions[:, :, :num_labels].sum(axis=1)
    f1 = 2 * hits / np.maximum(true + said, 1e-300)
    occurs = true + said > 0
    return f1.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)


def _clustered_confusions(cells, clusters, shape, num_resamples, seed) -> np.ndarray:
    """Returns confusion matrices of bootstrap samples of speakers."""
    names = [name or f"\0{row}" for row, name in enumerate(clusters)]
    _, unit = np.unique(names, return_inverse=True)
    number, width = unit.max() + 1, math.prod(shape)
    if number * width > _CONFUSION_CELLS:
        return np.full((1, *shape), np.nan)
    flat = np.bincount(unit * width + cells, minlength=number * width)
    units = flat.reshape(number, width).astype(float)
    return intervals.resampled_sums(units, num_resamples, seed).reshape(-1, *shape)
