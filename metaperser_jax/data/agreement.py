"""Do listeners differ in how they label the same clips, and is it worth learning?

Agreement (Krippendorff's alpha, Cohen's kappa), permutation nulls for how much the
listener tells about the label, and what a listener's own label rates would gain on
ratings that they were not counted on. All of it needs labels alone.
"""

import itertools
import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metaperser_jax.data.ratings import (
    Information,
    label_ids,
    listener_information,
    mutual_information,
)
from metaperser_jax.typing import Ratings

Level = Literal["nominal", "ordinal", "interval"]
Keep = Literal["clips", "nothing"]
MAX_KAPPA = 60  # listeners of the matrix of kappas
MIN_COMMON = 10  # clips that two listeners must share for a kappa
MAX_SETS = 10_000  # distinct label sets; the MASI alpha of more would take minutes
STRENGTHS = (*(2.0**power for power in range(-1, 11)), math.inf)


class Kappas(NamedTuple):
    """Cohen's kappa of pairs of listeners."""

    listeners: np.ndarray  # [shown] indices, the most prolific ones, ascending
    kappa: np.ndarray  # [shown, shown] NaN = too few common clips, or undefined
    common: np.ndarray  # [shown, shown] number of clips that both rated


class Null(NamedTuple):
    """An observed value against what permuted labels give."""

    observed: float
    null: np.ndarray  # [permutations]
    mean: float  # of the null
    high: float  # its 95th percentile
    p_value: float  # (1 + null values at least as large) / (1 + permutations)

    @property
    def excess(self) -> float:
        """What the observed value has above the mean of the null."""
        return self.observed - self.mean


class PriorGain(NamedTuple):
    """What a listener's own label rates gain over everybody else's."""

    per_listener: np.ndarray  # [listeners] bits a rating, NaN without two ratings
    mean: float  # bits a rating, over all ratings
    pooled: float  # cost of a label under the rates of the others, bits a rating


class Differences(NamedTuple):
    """How much listeners differ, in bits where not said otherwise."""

    single: bool  # one label a rating; else each class is a yes or no
    information: Information  # I(label; listener), the mean over classes if not single
    entropy: float  # of the label, the mean over classes if not single
    same_clips: Null  # I(label; listener), labels permuted among ratings of a clip
    anywhere: Null  # the same, labels permuted among all ratings
    given_others: Null  # I(label; listener | majority of the others), as `same_clips`
    label_set: Information | None  # I(label set; listener), where not single
    label_count: Information | None  # I(number of labels; listener), where not single
    gain: PriorGain
    gain_null: Null  # its mean, labels permuted among the ratings of a clip
    alpha: float  # Krippendorff's, nominal; the mean over classes if not single
    class_alphas: np.ndarray  # [classes] of each class as a yes or no
    masi_alpha: float  # on label sets, where not single
    dimension_alphas: np.ndarray  # [dimensions] interval


def is_single_label(ratings: Ratings) -> bool:
    """Returns whether every rating answers all classes and gives exactly one."""
    given = np.where(ratings.mask, ratings.targets, 0) > 0
    return bool(ratings.mask.all() and (given.sum(axis=1) == 1).all())


# Agreement


def krippendorff_alpha(
    values: Float[np.ndarray, " ratings"] | Int[np.ndarray, " ratings"],
    units: Int[np.ndarray, " ratings"],
    level: Level = "nominal",
) -> float:
    """Measures agreement, 1 = perfect and 0 = chance, whoever rated what.

    1 - observed / expected disagreement (Krippendorff, 2011, Computing Krippendorff's
    Alpha-Reliability). Values are given cell by cell: what a rater did not rate is left
    out or NaN, and units with one value do not count. The squared ordinal difference
    is that of mean ranks. Time grows as sorting the ratings.

    Args:
      values: [ratings] numbers; at level 'nominal' the names of categories.
      units: [ratings] which clip was rated.
      level: how values differ: same or not, by rank, or by squared difference.

    Returns:
      Alpha; NaN where nothing was rated twice or all values are the same.
    """
    known = ~np.isnan(values)
    _, unit, sizes = np.unique(units[known], return_inverse=True, return_counts=True)
    paired = sizes[unit] > 1
    value, unit = values[known][paired], unit[paired]
    if value.size == 0 or np.all(value == value[0]):
        return math.nan
    if level == "nominal":
        observed, expected = _nominal_disagreement(value, unit)
    else:
        numbers = _mean_ranks(value) if level == "ordinal" else value
        observed, expected = _squared_disagreement(numbers, unit)
    return float(1 - observed / expected)


def _nominal_disagreement(value: np.ndarray, unit: np.ndarray) -> tuple[float, float]:
    codes, totals = np.unique(value, return_inverse=True, return_counts=True)[1:]
    cells, counts = np.unique(unit * totals.size + codes, return_counts=True)
    sizes = np.bincount(unit).astype(float)
    squares = np.bincount(
        cells // totals.size, counts.astype(float) ** 2, minlength=sizes.size
    )
    pairs = np.maximum(sizes - 1, 1)  # units of other values: size 0, squares 0
    observed = ((sizes**2 - squares) / pairs).sum() / value.size
    total = float(value.size)
    expected = (total**2 - (totals.astype(float) ** 2).sum()) / (total * (total - 1))
    return float(observed), float(expected)


def _squared_disagreement(value: np.ndarray, unit: np.ndarray) -> tuple[float, float]:
    """Mean squared differences of pairs in a unit, and of all pairs."""
    centred = value.astype(float) - value.mean(dtype=float)
    sizes = np.bincount(unit).astype(float)
    mean = np.bincount(unit, centred) / np.maximum(sizes, 1)
    scatter = np.bincount(unit, (centred - mean[unit]) ** 2)
    observed = (2 * sizes * scatter / np.maximum(sizes - 1, 1)).sum() / value.size
    expected = 2 * (centred**2).sum() / (value.size - 1)
    return float(observed), float(expected)


def _mean_ranks(value: np.ndarray) -> np.ndarray:
    codes, counts = np.unique(value, return_inverse=True, return_counts=True)[1:]
    return (np.cumsum(counts) - counts / 2)[codes]


def class_alphas(ratings: Ratings) -> Float[np.ndarray, " classes"]:
    """Returns Krippendorff's alpha of each class as a yes or no, NaN undefined."""
    given = ratings.targets > 0
    return np.array(
        [
            krippendorff_alpha(given[rows, c].astype(int), ratings.clip[rows])
            for c, rows in enumerate(ratings.mask.T)
        ]
    )


def dimension_alphas(ratings: Ratings) -> Float[np.ndarray, " dimensions"]:
    """Returns Krippendorff's interval alpha of each dimension, NaN undefined."""
    columns = ratings.dimensions.T.astype(float)
    return np.array(
        [krippendorff_alpha(column, ratings.clip, "interval") for column in columns]
    )


def masi_distance(
    first: Bool[np.ndarray, "rows classes"], second: Bool[np.ndarray, "columns classes"]
) -> Float[np.ndarray, "rows columns"]:
    """Measures how far label sets are from one another, 0 = equal, 1 = disjoint.

    1 - J M with the Jaccard index J and M = 1 for equal sets, 2/3 for a set within the
    other, 1/3 for other overlaps, 0 without one (Passonneau, 2006, LREC, section 3).
    Two empty sets are equal; an empty set and another are disjoint.
    """
    a, b = first.astype(float), second.astype(float)
    shared = a @ b.T  # [rows, columns]
    size_a, size_b = a.sum(axis=1)[:, None], b.sum(axis=1)[None]
    union = size_a + size_b - shared
    jaccard = np.where(union > 0, shared / np.maximum(union, 1), 1)
    inside = (shared == size_a) | (shared == size_b)
    weight = np.where(inside, 2 / 3, 1 / 3)
    return 1 - jaccard * np.where(shared == union, 1, weight)


def masi_alpha(ratings: Ratings) -> float:
    """Returns Krippendorff's alpha of label sets with the MASI distance.

    As Passonneau (2006) weighs disagreements. Only ratings that answer every class
    count.

    Returns:
      Alpha; NaN where nothing was rated twice, all sets are the same, or there are
      more than `MAX_SETS` different ones.
    """
    whole = ratings.mask.all(axis=1)
    clip, given = ratings.clip[whole], ratings.targets[whole] > 0
    sizes = np.bincount(clip, minlength=1)
    paired = sizes[clip] > 1
    clip, given = clip[paired], given[paired]
    if not clip.size:
        return math.nan
    sets, codes = np.unique(given, axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    if not 1 < len(sets) <= MAX_SETS:
        return math.nan
    totals = np.bincount(codes).astype(float)
    expected = sum(
        totals[i : i + 512] @ masi_distance(sets[i : i + 512], sets) @ totals
        for i in range(0, len(sets), 512)
    ) / (len(codes) * (len(codes) - 1))
    cells, counts = np.unique(clip * len(sets) + codes, return_counts=True)
    observed = _within_units(cells // len(sets), sets[cells % len(sets)], counts, sizes)
    return float(1 - observed / len(codes) / expected)


def _within_units(
    unit: np.ndarray, sets: np.ndarray, counts: np.ndarray, sizes: np.ndarray
) -> float:
    """Sum of MASI distances of the pairs in each unit over its size - 1.

    Args:
      unit: [cells] ascending.
      sets: [cells, classes] a set that was given there.
      counts: [cells] how often.
      sizes: [units] ratings of each unit.
    """
    total = 0.0
    bounds = np.flatnonzero(np.diff(unit, prepend=-1, append=-1))
    for low, high in itertools.pairwise(bounds.tolist()):
        if high - low > 1:
            distance = masi_distance(sets[low:high], sets[low:high])
            weight = counts[low:high].astype(float)
            total += float(weight @ distance @ weight) / float(sizes[unit[low]] - 1)
    return total


def pairwise_kappa(
    ratings: Ratings,
    num_listeners: int,
    min_common: int = MIN_COMMON,
    most: int = MAX_KAPPA,
) -> Kappas:
    """Computes Cohen's kappa (1960) of each pair of listeners on their common clips.

    Where a rating holds several labels, the mean of the kappas of the classes as yes
    or no, over the classes of which it is defined.

    Args:
      ratings: the corpus' ratings, one for a clip and listener.
      num_listeners: of the corpus.
      min_common: fewer common clips give NaN.
      most: only so many listeners, those with the most ratings.
    """
    rated = np.bincount(ratings.annotator, minlength=num_listeners)
    shown = np.sort(np.argsort(-rated, kind="stable")[:most])
    rows = np.isin(ratings.annotator, shown)
    place = (
        np.searchsorted(shown, ratings.annotator[rows]),
        np.unique(ratings.clip[rows], return_inverse=True)[1],
    )
    grid = (len(shown), int(place[1].max(initial=-1)) + 1)
    given = (ratings.targets[rows] > 0) & ratings.mask[rows]

    def spread(column: np.ndarray) -> np.ndarray:
        table = np.zeros(grid, np.float32)  # [shown, clips]
        table[place] = column
        return table

    there = spread(np.ones(rows.sum()))
    common = there @ there.T
    if is_single_label(ratings):
        kappa = _kappa([spread(column) for column in given.T], there, min_common)
    else:
        kappa = _mean_defined(
            [
                _kappa([yes := spread(column), asked - yes], asked, min_common)
                for column, mask in zip(given.T, ratings.mask[rows].T, strict=True)
                if (asked := spread(mask)) is not None
            ]
        )
    np.fill_diagonal(kappa, np.nan)
    return Kappas(shown, kappa, common.astype(int))


def _kappa(answers: list[np.ndarray], there: np.ndarray, min_common: int) -> np.ndarray:
    """Returns kappa [shown, shown] of categories as indicators [shown, clips]."""
    common = (there @ there.T).astype(float)
    agreed, chance = np.zeros_like(common), np.zeros_like(common)
    for answer in answers:
        agreed += answer @ answer.T
        share = (answer @ there.T).astype(float)  # how often the row's listener did so
        chance += share * share.T
    with np.errstate(invalid="ignore", divide="ignore"):
        chance /= common**2
        kappa = (agreed / common - chance) / (1 - chance)
    defined = (common >= max(min_common, 1)) & (chance < 1)
    return np.where(defined, kappa, np.nan)


def _mean_defined(tables: list[np.ndarray]) -> np.ndarray:
    """Mean over tables of the cells that are not NaN."""
    stacked = np.stack(tables)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


# What the listener tells about the label


class Coded(NamedTuple):
    """Labels as questions with answers: one question, or one for each class."""

    values: np.ndarray  # [questions, ratings] answer, 0 ... num_values - 1
    asked: np.ndarray  # [questions, ratings] bool, False = not answered
    num_values: int


def code_labels(ratings: Ratings) -> Coded:
    """Makes one question of single labels, and a yes or no of each class else."""
    given = (ratings.targets > 0) & ratings.mask
    if is_single_label(ratings):
        values = given.argmax(axis=1)[None]
        return Coded(values, np.ones(values.shape, bool), given.shape[1])
    return Coded(given.T.astype(int), np.ascontiguousarray(ratings.mask.T), 2)


def count_answers(
    coded: Coded, annotator: np.ndarray, num_listeners: int
) -> Float[np.ndarray, "questions listeners values"]:
    """Counts the answers of each listener to each question."""
    size = num_listeners * coded.num_values
    cells = annotator * coded.num_values + coded.values  # [questions, ratings]
    counts = [
        np.bincount(row[asked], minlength=size)
        for row, asked in zip(cells, coded.asked, strict=True)
    ]
    return np.stack(counts).reshape(-1, num_listeners, coded.num_values).astype(float)


def table_information(
    counts: Float[np.ndarray, "tables rows columns"],
) -> Float[np.ndarray, " tables"]:
    """Returns the plug-in mutual information of rows and columns, in bits."""

    def spread(cells: np.ndarray) -> np.ndarray:  # sum of n log2 n
        logs = np.log2(cells, out=np.zeros_like(cells), where=cells > 0)
        return (cells * logs).reshape(len(cells), -1).sum(axis=1)

    total = np.maximum(counts.sum(axis=(1, 2)), 1)
    joint, rows, columns = (
        spread(counts), spread(counts.sum(axis=2)), spread(counts.sum(axis=1))
    )  # fmt: skip
    return (joint - rows - columns) / total + np.log2(total)


def _information(coded: Coded, ratings: Ratings, size: int) -> float:
    return float(
        table_information(count_answers(coded, ratings.annotator, size)).mean()
    )


def _information_given_others(coded: Coded, ratings: Ratings, size: int) -> float:
    """I(answer; listener | what most others answered on the clip), mean of questions.

    The rating itself is left out of the majority; ratings without another do not count.
    """
    found = []
    for value, asked in zip(coded.values, coded.asked, strict=True):
        value, clip = value[asked], ratings.clip[asked]
        cells = clip * coded.num_values + value
        votes = np.bincount(
            cells, minlength=(clip.max(initial=-1) + 1) * coded.num_values
        )
        votes = votes.reshape(-1, coded.num_values)[clip]  # [ratings, values]
        votes[np.arange(len(clip)), value] -= 1
        kept = votes.sum(axis=1) > 0
        majority = votes.argmax(axis=1)[kept]
        listener = ratings.annotator[asked][kept]
        cells = (majority * size + listener) * coded.num_values + value[kept]
        counts = np.bincount(cells, minlength=coded.num_values**2 * size)
        tables = counts.reshape(coded.num_values, size, coded.num_values).astype(float)
        share = tables.sum(axis=(1, 2)) / max(kept.sum(), 1)
        found.append(float((share * table_information(tables)).sum()))
    return float(np.mean(found))


def permute_labels(
    coded: Coded, clip: np.ndarray, rng: np.random.Generator, keep: Keep = "clips"
) -> Coded:
    """Deals the labels out anew, a rating's answers staying together.

    Args:
      coded: the labels.
      clip: [ratings] which clip was rated.
      rng: the source of randomness.
      keep: what is preserved. 'clips': the labels that each clip received (and so all
        label counts) and who rated which clip; a clip with one rating keeps its label.
        What is lost is who of a clip's raters gave which of its labels. 'nothing':
        the counts of all labels and who rated which clip; what is lost is also which
        clip received which label.
    """
    if keep == "nothing":
        source = rng.permutation(len(clip))
        return coded._replace(
            values=coded.values[:, source], asked=coded.asked[:, source]
        )
    target = np.argsort(clip, kind="stable")
    source = np.argsort(clip + rng.random(len(clip)))
    values, asked = np.empty_like(coded.values), np.empty_like(coded.asked)
    values[:, target], asked[:, target] = (
        coded.values[:, source],
        coded.asked[:, source],
    )
    return Coded(values, asked, coded.num_values)


def make_null(observed: float, null: list[float]) -> Null:
    """Compares a value with those of permuted labels (Phipson & Smyth, 2010)."""
    values = np.array(null)
    larger = int((values >= observed - 1e-12).sum())
    p_value = (1 + larger) / (1 + len(values))
    return Null(
        observed,
        values,
        float(values.mean()),
        float(np.quantile(values, 0.95)),
        p_value,
    )


def permutation_null(
    ratings: Ratings,
    num_listeners: int,
    keep: Keep = "clips",
    num_permutations: int = 199,
    seed: int = 0,
) -> Null:
    """Tests the plug-in I(label; listener) against permuted labels.

    `keep='clips'` answers whether listeners differ in how they label the *same* clips:
    labels are exchanged among the ratings of one clip, so that what a clip says, and
    which clips a listener happened to get, is the same in the null. It is the one to
    go by: raters are often confounded with sessions or scripts, and then the plain
    shuffle (`keep='nothing'`) finds listeners to differ whose clips differ. As each
    rating may keep its own label, the excess over this null is a cautious estimate:
    where clips have two raters, about half of it is lost, and with one all of it.

    Args:
      ratings: the corpus' ratings.
      num_listeners: of the corpus.
      keep: see `permute_labels`.
      num_permutations: size of the null.
      seed: of the permutations.

    Returns:
      Observed and null in bits, the mean over classes where ratings hold several
      labels; both with the bias of plug-in estimates, which the difference lacks.
    """
    rng, coded = np.random.default_rng(seed), code_labels(ratings)
    null = [
        _information(
            permute_labels(coded, ratings.clip, rng, keep), ratings, num_listeners
        )
        for _ in range(num_permutations)
    ]
    return make_null(_information(coded, ratings, num_listeners), null)


# What the listener's own label rates are worth


def own_prior_gain(
    counts: Float[np.ndarray, "questions listeners values"],
) -> PriorGain:
    """Measures what knowing a listener's own label rates saves, in bits a rating.

    Each rating is predicted by (n + s p) / (N + s): n and N are the listener's *other*
    ratings of that answer and in all, p the rates of the other listeners (add 1/2). It
    is compared with p alone. The strength s, where infinity means p alone, is the one
    that serves the other listeners best, so that nothing is judged by what it was
    fitted on: equal listeners give about 0, not the positive bias of plug-in rates.

    Args:
      counts: from `count_answers`; the costs of the questions are summed.
    """
    ratings = counts.sum(axis=2).max(axis=0)  # [listeners]
    others = counts.sum(axis=1, keepdims=True) - counts + 0.5
    rates = others / others.sum(axis=2, keepdims=True)
    pooled = -(counts * np.log2(rates)).sum(axis=(0, 2))  # [listeners] bits
    costs = np.stack([_own_cost(counts, rates, s) for s in STRENGTHS])
    of_others = costs.sum(axis=1, keepdims=True) - costs  # [strengths, listeners]
    best = of_others.argmin(axis=0)
    saved = pooled - costs[best, np.arange(len(pooled))]
    total = max(ratings.sum(), 1)
    per_listener = np.where(ratings > 1, saved / np.maximum(ratings, 1), np.nan)
    return PriorGain(
        per_listener, float(saved.sum() / total), float(pooled.sum() / total)
    )


def _own_cost(counts: np.ndarray, rates: np.ndarray, strength: float) -> np.ndarray:
    """Returns [listeners] bits for all ratings, each predicted by the rest and `p`."""
    if math.isinf(strength):
        chances = rates
    else:
        rest = np.maximum(counts - 1, 0) + strength * rates
        total = np.maximum(counts.sum(axis=2, keepdims=True) - 1, 0) + strength
        chances = rest / total
    return -(counts * np.log2(chances)).sum(axis=(0, 2))


# All of it


def measure_differences(
    ratings: Ratings, num_listeners: int, num_permutations: int = 199, seed: int = 0
) -> Differences:
    """Measures how much listeners agree and differ; the same seed, the same numbers.

    The permutations of labels within clips serve three measures at once.
    """
    coded, rng = code_labels(ratings), np.random.default_rng(seed)
    size, single = num_listeners, is_single_label(ratings)

    def measures(labels: Coded) -> tuple[float, float, float]:
        counts = count_answers(labels, ratings.annotator, size)
        return (
            float(table_information(counts).mean()),
            _information_given_others(labels, ratings, size),
            own_prior_gain(counts).mean,
        )

    observed = measures(coded)
    permuted = [
        measures(permute_labels(coded, ratings.clip, rng))
        for _ in range(num_permutations)
    ]
    nulls = zip(observed, zip(*permuted, strict=True), strict=True)
    same_clips, given_others, gain_null = (make_null(o, list(n)) for o, n in nulls)
    counts = count_answers(coded, ratings.annotator, size)
    alphas = class_alphas(ratings)
    found = listener_information(ratings)
    return Differences(
        single=single,
        information=Information(found["plug_in"], found["corrected"]),
        entropy=float(_entropies(counts).mean()),
        same_clips=same_clips,
        anywhere=permutation_null(ratings, size, "nothing", num_permutations, seed),
        given_others=given_others,
        label_set=None if single else _label_set_information(ratings),
        label_count=None if single else _label_count_information(ratings),
        gain=own_prior_gain(counts),
        gain_null=gain_null,
        alpha=_alpha(coded, ratings, alphas),
        class_alphas=alphas,
        masi_alpha=math.nan if single else masi_alpha(ratings),
        dimension_alphas=dimension_alphas(ratings),
    )


def _entropies(counts: np.ndarray) -> np.ndarray:
    """Returns [questions] plug-in entropy of the answers, bits."""
    totals = counts.sum(axis=1)
    share = totals / np.maximum(totals.sum(axis=1, keepdims=True), 1)
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum(axis=1)


def _alpha(coded: Coded, ratings: Ratings, alphas: np.ndarray) -> float:
    if len(coded.values) == 1 and is_single_label(ratings):
        return krippendorff_alpha(coded.values[0], ratings.clip)
    known = alphas[~np.isnan(alphas)]
    return float(known.mean()) if known.size else math.nan


def _label_set_information(ratings: Ratings) -> Information:
    whole = ratings.mask.all(axis=1)
    given = (ratings.targets[whole] > 0).astype(np.float32)
    return mutual_information(label_ids(given), ratings.annotator[whole])


def _label_count_information(ratings: Ratings) -> Information:
    given = (ratings.targets > 0) & ratings.mask
    return mutual_information(given.sum(axis=1), ratings.annotator)
