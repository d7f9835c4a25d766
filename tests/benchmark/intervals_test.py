import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from benchmark import intervals


def mean_of(sums):
    return sums[..., 0] / sums[..., 1]


def as_statistics(values):
    return np.stack([np.asarray(values, float), np.ones(len(values))], axis=1)


def test_units_are_speakers_and_those_without_a_speaker_stand_alone():
    statistics = as_statistics([1, 2, 3, 4, 5])
    units = intervals.unit_sums(statistics, ["a", "", "a", "b", ""])
    found = sorted(map(tuple, units))
    assert found == [(2, 1), (4, 1), (4, 2), (5, 1)]
    assert intervals.unit_sums(statistics, ["", ""]) is statistics


@pytest.mark.parametrize("distinct", [2, 5000])
def test_replicates_have_the_spread_of_resampled_examples(distinct, rng):
    values = rng.integers(0, distinct, 6000) / distinct
    drawn = intervals.replicates(mean_of, as_statistics(values), 1000, 1)
    assert np.mean(drawn) == pytest.approx(values.mean(), abs=1e-3)
    assert np.std(drawn) == pytest.approx(values.std() / 6000**0.5, rel=0.08)


def never_count(monkeypatch):
    monkeypatch.setattr(intervals, "DISTINCT_LIMIT", 0)
    monkeypatch.setattr(intervals, "EQUAL_ROWS", 10**9)


@pytest.mark.parametrize(
    "values",
    [[0.1, 0.2, 0.1], [3.0] * 5, [1e15, 1e15 + 1, 1e15], [1e308, 1.0, 1e308]],
)
def test_equal_rows_are_found_and_no_other(values):
    statistics = as_statistics(values)
    rows, counts = intervals._distinct(statistics)
    expected = np.unique(statistics, axis=0, return_counts=True)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(counts, expected[1])


def test_counts_are_drawn_of_many_rows_if_most_are_equal(rng):
    few = as_statistics(rng.integers(0, 3000, 60_000))
    assert len(intervals._distinct(few)[0]) == 3000
    assert intervals._distinct(as_statistics(rng.integers(0, 6000, 60_000))) is None
    assert intervals._distinct(as_statistics([1.0, math.nan])) is None


def test_both_ways_of_drawing_give_the_same_distribution(rng, monkeypatch):
    units = as_statistics(rng.integers(0, 4, 300) / 3)
    fast = intervals.replicates(mean_of, units, 4000, 1)
    never_count(monkeypatch)
    slow = intervals.replicates(mean_of, units, 4000, 1)
    assert scipy.stats.ks_2samp(fast, slow).pvalue > 1e-3


def test_a_block_at_a_time_draws_as_many_samples_as_asked(rng, monkeypatch):
    never_count(monkeypatch)
    monkeypatch.setattr(intervals, "_BLOCK_CELLS", 70)
    sums = intervals.resampled_sums(as_statistics(rng.normal(size=10)), 33, 0)
    assert sums.shape == (33, 2)
    assert np.all(sums[:, 1] == 10)


def test_blocks_of_counts_change_nothing(rng, monkeypatch):
    units = as_statistics(rng.integers(0, 5, 100))
    whole = intervals.resampled_sums(units, 33, 0)
    monkeypatch.setattr(intervals, "_BLOCK_CELLS", 50)
    np.testing.assert_array_equal(intervals.resampled_sums(units, 33, 0), whole)


def test_the_same_seed_gives_the_same_replicates(rng):
    units = as_statistics(rng.normal(size=50))
    first, second, other = (
        intervals.replicates(mean_of, units, 20, seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_clustered_intervals_are_wider_where_answers_go_together(rng):
    speakers = np.repeat([f"s{i}" for i in range(20)], 30)
    right = np.repeat(rng.random(20) < 0.6, 30)
    statistics = as_statistics(right)
    widths = []
    for clusters in ((), list(speakers)):
        units = intervals.unit_sums(statistics, clusters)
        low, high = intervals.interval(intervals.replicates(mean_of, units, 1000, 0))
        widths.append(high - low)
    assert widths[1] > 4 * widths[0]


def test_an_interval_covers_the_truth_about_as_often_as_it_says(rng):
    hits = 0
    for seed in range(200):
        right = rng.random(200) < 0.7
        drawn = intervals.replicates(mean_of, as_statistics(right), 400, seed)
        low, high = intervals.interval(drawn)
        hits += low <= 0.7 <= high
    assert 180 <= hits <= 199  # 190 expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([math.nan] * 4, (None, None)),
        ([], (None, None)),
        ([1.0] * 95 + [math.nan] * 5, (1.0, 1.0)),
        ([1.0] * 85 + [math.nan] * 15, (None, None)),
    ],
)
def test_undefined_replicates(values, expected):
    assert intervals.interval(np.array(values)) == expected


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_at_its_bound_is_not_certain(share):
    low, high = intervals.proportion_interval(np.full(100, share), share, 20)
    oracle = scipy.stats.binomtest(int(20 * share), 20).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_binomial_test_of_what_differs(pairs):
    a, b = np.array(pairs).T
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    wanted = 1.0
    if only_a + only_b:
        wanted = scipy.stats.binomtest(only_a, only_a + only_b).pvalue
    assert intervals.mcnemar(a, b) == pytest.approx(wanted, rel=1e-9)


def test_a_swap_test_of_few_units_tries_all_patterns(rng):
    a, b = (as_statistics(rng.normal(size=6)) for _ in range(2))
    observed = abs(mean_of(a.sum(0)) - mean_of(b.sum(0)))
    hits = 0
    for flips in itertools.product([False, True], repeat=6):
        flips = np.array(flips)[:, None]
        new_a, new_b = np.where(flips, b, a), np.where(flips, a, b)
        found = abs(mean_of(new_a.sum(0)) - mean_of(new_b.sum(0)))
        hits += found >= observed - 1e-9
    assert intervals.swap_test(mean_of, a, b) == pytest.approx(hits / 64)


def test_a_swap_test_of_many_units_agrees_with_the_t_test(rng):
    a = as_statistics(rng.normal(0.15, 1, 200))
    b = as_statistics(rng.normal(0.0, 1, 200))
    wanted = scipy.stats.ttest_rel(a[:, 0], b[:, 0]).pvalue
    found = intervals.swap_test(mean_of, a, b, 4000)
    assert found == pytest.approx(wanted, abs=0.03)


def test_equal_models_do_not_differ(rng):
    statistics = as_statistics(rng.random(40) < 0.5)
    found = intervals.compare_paired(mean_of, statistics, statistics, binary=True)
    assert found.difference == 0
    assert -0.1 < found.low < 0 < found.high < 0.1
    assert (found.p_value, found.test) == (1.0, "mcnemar")


def test_a_difference_that_is_there_is_found_and_its_sign_is_a_minus_b(rng):
    a, b = (as_statistics(rng.random(400) < p) for p in (0.8, 0.6))
    plain = intervals.compare_paired(mean_of, a, b, binary=True)
    assert 0.05 < plain.low < plain.difference < plain.high < 0.35
    assert plain.p_value < 1e-4
    clusters = [f"s{i // 10}" for i in range(400)]
    clustered = intervals.compare_paired(mean_of, a, b, clusters, binary=True)
    assert clustered.test == "swap"
    assert clustered.num_units == 40
    assert clustered.difference == pytest.approx(plain.difference)
    assert clustered.p_value < 0.02


def test_a_paired_interval_is_sharper_than_two_of_their_own(rng):
    common = rng.normal(size=300)
    a, b = (as_statistics(common + rng.normal(0, 0.1, 300)) for _ in range(2))
    paired = intervals.compare_paired(mean_of, a, b)
    alone = intervals.interval(intervals.replicates(mean_of, a))
    assert paired.high - paired.low < 0.3 * (alone[1] - alone[0])


def test_the_interval_of_a_mean_is_that_of_independent_parts(rng):
    parts = [(0.5, 0.4, 0.6)] * 4
    low, high = intervals.mean_interval(parts)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - low == pytest.approx(0.2 / 2)
    drawn = rng.normal(0.5, 0.1 / 1.959964, (4, 100_000)).mean(axis=0)
    assert np.quantile(drawn, 0.975) == pytest.approx(high, abs=2e-3)
    assert intervals.mean_interval([(1.0, 0.9, 1.0)] * 4) == pytest.approx((0.95, 1.0))
    assert intervals.mean_interval([]) == (None, None)
    assert intervals.mean_interval([*parts, (0.5, None, None)]) == (None, None)


def test_pairs_that_never_differ_claim_no_certainty():
    ones, zeros = (np.stack([np.full(5, v), np.ones(5)], axis=1) for v in (1.0, 0.0))
    for a, b, difference in ((ones, zeros, 1), (ones, ones, 0), (zeros, ones, -1)):
        found = intervals.compare_paired(
            lambda s: s[..., 0] / s[..., 1], a, b, num_resamples=50, binary=True
        )
        assert found.difference == difference
        other = 1 - intervals.wilson(1.0, 5)[0]  # share of pairs of another kind
        assert found.low == pytest.approx(max(-1, difference - other))
        assert found.high == pytest.approx(min(1, difference + other))


def test_swaps_follow_the_seed(rng):
    a, b = (np.stack([rng.random(30), np.ones(30)], axis=1) for _ in range(2))
    values = [
        intervals.compare_paired(
            lambda s: s[..., 0] / s[..., 1], a, b, num_resamples=20, seed=seed
        ).p_value
        for seed in (0, 0, 1, 2)
    ]
    assert values[0] == values[1]
    assert len(set(values)) > 1
