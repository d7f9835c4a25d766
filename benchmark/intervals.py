"""How far a score would move with other examples: intervals and paired tests.

A score is a function of the sum of statistics over examples, so that a bootstrap
replicate is the same function of a weighted sum (Efron, 1979). Where the speaker of
each example is known, speakers are resampled and not examples, because the answers to
one speaker's clips are not independent.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Compute = Callable[[np.ndarray], np.ndarray]  # [*sets, stats] sums -> [*sets] values

LEVEL = 0.95
NUM_RESAMPLES = 1000
MIN_CLUSTERS = 10  # fewer speakers say nothing of speakers in general
NUM_PERMUTATIONS = 2000
DISTINCT_LIMIT = 2_000  # rows up to which counts of equal rows are drawn, or
EQUAL_ROWS = 16  # that many equal rows on average: then counts are the faster draw
_BLOCK_CELLS = 4_000_000  # weights held at a time


class Paired(NamedTuple):
    """Model a minus model b on the same examples."""

    difference: float
    low: float | None  # interval of the paired bootstrap
    high: float | None
    p_value: float  # see `test`
    test: str  # 'mcnemar', or 'swap': the answers of a unit change hands
    num_units: int  # speakers, or examples


def usable_clusters(clusters: Sequence[str]) -> Sequence[str]:
    """Returns the speakers, or () where there are too few to be resampled.

    A bootstrap or a test over a handful of speakers is rough or without power; then
    examples are the units, and the result stands for these speakers alone.
    """
    number = len({name for name in clusters if name})
    return clusters if number >= MIN_CLUSTERS else ()


def unit_sums(
    statistics: Float[np.ndarray, "examples stats"], clusters: Sequence[str] = ()
) -> Float[np.ndarray, "units stats"]:
    """Sums the statistics of what is resampled together.

    Args:
      statistics: [examples, stats].
      clusters: [examples] speaker of each example; '' stands for itself alone. Empty:
        each example is a unit.
    """
    if not clusters or not any(clusters):
        return statistics
    names = [name or f"\0{row}" for row, name in enumerate(clusters)]
    _, unit = np.unique(names, return_inverse=True)
    sums = np.zeros((unit.max() + 1, statistics.shape[1]))
    np.add.at(sums, unit, statistics)
    return sums


def resampled_sums(
    units: Float[np.ndarray, "units stats"],
    num_resamples: int = NUM_RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> Float[np.ndarray, "resamples stats"]:
    """Draws bootstrap samples of the units and sums the statistics of each.

    Equal rows are exchangeable, so where few rows differ, the numbers of times that
    each kind is drawn come from one multinomial: the same distribution at a cost that
    does not grow with the number of units.

    Args:
      units: [units, stats].
      num_resamples: number of bootstrap samples.
      seed: same seed and same units, same samples.
    """
    rng = np.random.default_rng(seed)
    rows, counts = units, None
    if distinct := _distinct(units):
        rows, counts = distinct

    def drawn(number: int) -> np.ndarray:
        if counts is None:
            return _draw(len(rows), number, rng) @ rows
        return resampled_counts(counts, number, rng).astype(float) @ rows

    block = max(1, _BLOCK_CELLS // max(len(rows), 1))
    starts = range(0, num_resamples, block)
    return np.concatenate([drawn(min(block, num_resamples - s)) for s in starts])


def resampled_counts(
    counts: Int[np.ndarray, "*cells"],
    num_resamples: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "resamples *cells"]:
    """Draws a table of counts anew from its own shares, for example a confusion matrix.

    Args:
      counts: [*cells] how often each kind was seen.
      num_resamples: number of tables.
      rng: source of the randomness.
    """
    flat = np.ravel(counts)
    total = int(flat.sum())
    drawn = rng.multinomial(total, flat / max(total, 1), size=num_resamples)
    return drawn.reshape(num_resamples, *np.shape(counts))


def replicates(
    compute: Compute,
    units: Float[np.ndarray, "units stats"],
    num_resamples: int = NUM_RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> Float[np.ndarray, " resamples"]:
    """Returns the score of each bootstrap sample; see `resampled_sums`."""
    return compute(resampled_sums(units, num_resamples, seed))


def interval(
    values: Float[np.ndarray, " resamples"], level: float = LEVEL
) -> tuple[float | None, float | None]:
    """Returns the percentile interval of the replicates that are defined.

    (None, None) when fewer than nine in ten are.
    """
    defined = values[np.isfinite(values)]
    if len(defined) == 0 or len(defined) < 0.9 * len(values):
        return None, None
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def proportion_interval(
    values: Float[np.ndarray, " resamples"], share: float, num_examples: int
) -> tuple[float | None, float | None]:
    """Returns the interval of a share of examples.

    When all or none are correct the bootstrap has nothing to vary, and would claim
    certainty after three examples; Wilson's interval (1927) stands in, which takes
    the examples for independent.
    """
    low, high = interval(values)
    if low is None or num_examples == 0 or low != high:
        return low, high
    return wilson(share, num_examples)


def wilson(share: float, num_examples: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval (1927) of a share of independent examples."""
    z = 1.959964
    centre = (share + z * z / (2 * num_examples)) / (1 + z * z / num_examples)
    spread = share * (1 - share) / num_examples + (z / (2 * num_examples)) ** 2
    half = z * math.sqrt(spread) / (1 + z * z / num_examples)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(
    parts: Iterable[tuple[float, float | None, float | None]],
) -> tuple[float | None, float | None]:
    """Returns the interval of the mean of independent parts, from their intervals.

    The distances of the parts' bounds from their values add up in squares, each side
    by itself (MOVER; Zou and Donner, 2008), so it stays within the parts' range.

    Args:
      parts: value, lower and upper bound of each.
    """
    below, above, centre, number = 0.0, 0.0, 0.0, 0
    for value, low, high in parts:
        if low is None or high is None:
            return None, None
        below += (value - low) ** 2
        above += (high - value) ** 2
        centre, number = centre + value, number + 1
    if number == 0:
        return None, None
    centre /= number
    return centre - math.sqrt(below) / number, centre + math.sqrt(above) / number


def compare_paired(
    compute: Compute,
    statistics_a: Float[np.ndarray, "examples stats"],
    statistics_b: Float[np.ndarray, "examples stats"],
    clusters: Sequence[str] = (),
    num_resamples: int = NUM_RESAMPLES,
    seed: int | Sequence[int] = 0,
    binary: bool = False,
) -> Paired:
    """Compares two models on the same examples.

    The interval comes from bootstrap samples that both share. The p-value answers
    whether the models are exchangeable on these examples: McNemar's exact test for
    right / wrong answers of independent examples; otherwise the two models' answers to
    a unit change hands at random (approximate randomisation; Noreen, 1989).

    Args:
      compute: [*sets, stats] -> [*sets].
      statistics_a: [examples, stats] of model a.
      statistics_b: [examples, stats] of model b, same order.
      clusters: [examples] speakers, see `unit_sums`.
      num_resamples: number of bootstrap samples.
      seed: of the samples and of the swaps.
      binary: the first statistic is 1 for a right answer and 0 for a wrong one.
    """
    width = statistics_a.shape[1]
    both = unit_sums(np.concatenate([statistics_a, statistics_b], axis=1), clusters)
    sums = resampled_sums(both, num_resamples, seed)
    low, high = interval(compute(sums[:, :width]) - compute(sums[:, width:]))
    total = both.sum(axis=0)
    difference = float(compute(total[:width]) - compute(total[width:]))
    right_a, right_b = statistics_a[:, 0] > 0.5, statistics_b[:, 0] > 0.5
    if binary and low is not None and low == high:
        # Nothing varies; Wilson bounds how many pairs of another kind there may be.
        other = 1 - wilson(1.0, len(right_a))[0]
        low, high = max(-1.0, low - other), min(1.0, low + other)
    if binary and len(both) == len(statistics_a):
        test, p_value = "mcnemar", mcnemar(right_a, right_b)
    else:
        units = both[:, :width], both[:, width:]
        test, p_value = "swap", swap_test(compute, *units, seed=seed)
    return Paired(difference, low, high, p_value, test, len(both))


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Returns the two-sided exact p-value of McNemar's test.

    Args:
      right_a: [examples] bool, model a is right.
      right_b: [examples] bool, model b is right.
    """
    only_a = int(np.sum(right_a & ~right_b))
    only_b = int(np.sum(right_b & ~right_a))
    number = only_a + only_b
    k = np.arange(min(only_a, only_b) + 1)
    lgamma = np.vectorize(math.lgamma, otypes=[float])
    log_choose = math.lgamma(number + 1) - lgamma(k + 1) - lgamma(number - k + 1)
    tail = np.exp(log_choose - number * math.log(2)).sum()
    return float(min(1.0, 2 * tail))


def swap_test(
    compute: Compute,
    units_a: Float[np.ndarray, "units stats"],
    units_b: Float[np.ndarray, "units stats"],
    num_permutations: int = NUM_PERMUTATIONS,
    seed: int | Sequence[int] = 0,
) -> float:
    """Returns the two-sided p-value when a and b swap units at random.

    (1 + hits) / (1 + permutations), which keeps the level (Phipson and Smyth, 2010);
    all patterns are tried when there are no more of them than permutations.
    """
    number = len(units_a)
    exact = 2**number <= num_permutations
    if exact:
        patterns = np.arange(2**number)[:, None] >> np.arange(number) & 1
        swapped = _swapped_sums(patterns, units_a - units_b)
    else:
        rng = np.random.default_rng(seed)
        block = max(1, _BLOCK_CELLS // number)
        sizes = [
            min(block, num_permutations - start)
            for start in range(0, num_permutations, block)
        ]
        swapped = np.concatenate(
            [
                _swapped_sums(rng.integers(0, 2, (size, number)), units_a - units_b)
                for size in sizes
            ]
        )
    total_a, total_b = units_a.sum(axis=0), units_b.sum(axis=0)
    observed = abs(compute(total_a) - compute(total_b))
    found = np.abs(compute(total_a - swapped) - compute(total_b + swapped))
    hits = int(np.sum(~(found < observed - 1e-9 * (1 + observed))))
    return hits / len(found) if exact else (1 + hits) / (1 + len(found))


def _distinct(units: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the rows that differ and how often each occurs; None if most do.

    Equal rows are found by a random projection, which sorts one number a row and not
    the row, and are compared in full.
    """
    direction = np.random.default_rng(0).standard_normal(units.shape[1])
    _, first, row, counts = np.unique(
        units @ direction, return_index=True, return_inverse=True, return_counts=True
    )
    found = units[first]
    limit = max(DISTINCT_LIMIT, len(units) // EQUAL_ROWS)
    if len(found) > limit or not np.array_equal(found[row], units):
        return None
    rows, same = np.unique(found, axis=0, return_inverse=True)  # rounding parts some
    return rows, np.bincount(same.ravel(), counts).astype(int)


def _draw(number: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns how often each of `number` units is drawn, [resamples, units]."""
    drawn = rng.integers(0, number, (num_resamples, number))
    drawn += np.arange(num_resamples)[:, None] * number
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * number)
    return counts.reshape(num_resamples, number).astype(float)


def _swapped_sums(patterns: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Returns what moves from a to b in each pattern, [patterns, stats]."""
    return patterns.astype(float) @ moves
