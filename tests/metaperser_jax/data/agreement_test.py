"""Agreement and differences of listeners, against brute force and published values."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from metaperser_jax.data import agreement
from metaperser_jax.data.ratings import mutual_information
from metaperser_jax.typing import Ratings

NAN = math.nan
# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C: four
# observers, twelve units, missing data.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


def flat(table):
    """[raters, units] -> values, units."""
    raters, units = table.shape
    return table.reshape(-1), np.tile(np.arange(units), raters)


def make_ratings(clip, annotator, given_labels, num_classes, mask=None):
    """One rating for each (clip, listener, labels)."""
    targets = np.zeros((len(clip), num_classes), np.float32)
    for row, labels in enumerate(given_labels):
        targets[row, list(labels)] = 1
    mask = np.ones(targets.shape, bool) if mask is None else mask
    return Ratings(
        np.array(clip, np.int32), np.array(annotator, np.int32),
        np.where(mask, targets, 0).astype(np.float32), mask,
        np.zeros((len(clip), 0), np.float32),
    )  # fmt: skip


def random_ratings(seed, listeners=5, clips=40, classes=4, multi=False, share=0.7):
    rng = np.random.default_rng(seed)
    clip, annotator = np.nonzero(rng.random((clips, listeners)) < share)
    truth = rng.integers(0, classes, clips)
    labels = []
    for c in clip:
        heard = truth[c] if rng.random() < 0.6 else rng.integers(0, classes)
        more = set(rng.integers(0, classes, rng.integers(0, 3))) if multi else set()
        labels.append({heard} | more)
    return make_ratings(clip, annotator, labels, classes)


def brute_alpha(values, units, distance):
    """1 - observed / expected, by loops over all pairs of cells."""
    cells = [(u, v) for u, v in zip(units, values, strict=True)]
    sizes = {u: sum(w == u for w, _ in cells) for u, _ in cells}
    cells = [(u, v) for u, v in cells if sizes[u] > 1]
    total = len(cells)
    pairs = list(itertools.permutations(cells, 2))
    observed = sum(
        distance(a, b) / (sizes[u] - 1) for (u, a), (w, b) in pairs if u == w
    )
    expected = sum(distance(a, b) for (_, a), (_, b) in pairs)
    return 1 - (observed / total) / (expected / (total * (total - 1)))


class TestKrippendorffAlpha:
    @pytest.mark.parametrize(
        ("level", "published"),
        [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)],
    )
    def test_the_published_example(self, level, published):
        alpha = agreement.krippendorff_alpha(*flat(OBSERVERS), level)
        assert alpha == pytest.approx(published, abs=5e-4)

    def test_the_published_example_of_two_observers_and_two_categories(self):
        # section A of the same text
        first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
        second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
        values, units = flat(np.array([first, second]))
        assert agreement.krippendorff_alpha(values, units) == pytest.approx(
            0.095, abs=5e-4
        )

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(
        ("level", "distance"),
        [
            ("nominal", lambda a, b: float(a != b)),
            ("interval", lambda a, b: (a - b) ** 2),
        ],
    )
    def test_loops_over_all_pairs_agree(self, seed, level, distance):
        rng = np.random.default_rng(seed)
        values, units = rng.integers(0, 4, 60), rng.integers(0, 25, 60)
        assert agreement.krippendorff_alpha(values, units, level) == pytest.approx(
            brute_alpha(values, units, distance), abs=1e-12
        )

    def test_ordinal_distances_are_those_of_the_formula(self):
        rng = np.random.default_rng(3)
        values, units = rng.integers(0, 5, 60), rng.integers(0, 15, 60)
        paired = np.bincount(units)[units] > 1
        counts = np.bincount(values[paired], minlength=5)

        def distance(a, b):  # (sum of the counts from a to b less half the ends)^2
            low, high = min(a, b), max(a, b)
            between = counts[low : high + 1].sum()
            return (between - (counts[low] + counts[high]) / 2) ** 2

        assert agreement.krippendorff_alpha(values, units, "ordinal") == pytest.approx(
            brute_alpha(values, units, distance), abs=1e-12
        )

    @given(st.integers(0, 2**32 - 1), st.integers(2, 5))
    def test_names_of_labels_units_and_raters_do_not_matter(self, seed, classes):
        rng = np.random.default_rng(seed)
        values, units = rng.integers(0, classes, 30), rng.integers(0, 10, 30)
        order = rng.permutation(30)
        renamed = rng.permutation(classes)[values] + 7
        alpha = agreement.krippendorff_alpha(values, units)
        other = agreement.krippendorff_alpha(
            renamed[order], rng.permutation(10)[units][order]
        )
        assert other == pytest.approx(alpha, abs=1e-12, nan_ok=True)

    @given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(0.1, 20))
    def test_interval_alpha_knows_neither_origin_nor_scale(self, seed, origin, scale):
        rng = np.random.default_rng(seed)
        values, units = rng.normal(size=30), rng.integers(0, 10, 30)
        alpha = agreement.krippendorff_alpha(values, units, "interval")
        moved = agreement.krippendorff_alpha(origin + scale * values, units, "interval")
        assert moved == pytest.approx(alpha, abs=1e-8)

    @given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(2, 5))
    def test_perfect_agreement_is_1_and_one_value_alone_is_undefined(self, row, raters):
        values, units = flat(np.tile(np.array(row, float), (raters, 1)))
        for level in ("nominal", "ordinal", "interval"):
            alpha = agreement.krippendorff_alpha(values, units, level)
            if len(set(row)) > 1:
                assert alpha == pytest.approx(1)
            else:
                assert math.isnan(alpha)

    @pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
    def test_chance_is_0(self, level):
        values, units = flat(np.random.default_rng(0).integers(0, 4, (4, 5000)))
        alpha = agreement.krippendorff_alpha(values, units, level)
        assert alpha == pytest.approx(0, abs=0.02)

    def test_clips_with_one_rating_and_no_ratings_count_nothing(self):
        assert math.isnan(agreement.krippendorff_alpha(np.arange(3.0), np.arange(3)))
        assert math.isnan(agreement.krippendorff_alpha(np.zeros(0), np.zeros(0, int)))


class TestOfRatings:
    def test_each_class_is_a_yes_or_no_where_it_was_asked(self):
        ratings = random_ratings(1, multi=True)
        mask = np.random.default_rng(1).random(ratings.mask.shape) < 0.8
        ratings = ratings._replace(mask=mask)
        wanted = [
            agreement.krippendorff_alpha(
                ratings.targets[mask[:, c], c], ratings.clip[mask[:, c]]
            )
            for c in range(4)
        ]
        np.testing.assert_allclose(agreement.class_alphas(ratings), wanted)

    def test_dimensions_that_were_not_rated_are_left_out(self):
        values, units = flat(OBSERVERS)
        ratings = make_ratings(units, np.arange(48), [{0}] * 48, 1)
        ratings = ratings._replace(dimensions=values[:, None].astype(np.float32))
        assert agreement.dimension_alphas(ratings) == pytest.approx([0.849], abs=5e-4)


class TestMasi:
    @pytest.mark.parametrize(
        ("first", "second", "distance"),
        [
            ({0, 1}, {0, 1}, 0),
            ({0}, {1}, 1),
            ({0}, {0, 1}, 1 - 1 / 2 * 2 / 3),
            ({0, 1}, {0}, 1 - 1 / 2 * 2 / 3),
            ({0, 1}, {1, 2}, 1 - 1 / 3 * 1 / 3),
            ({0, 1, 2}, {1, 2, 3}, 1 - 2 / 4 * 1 / 3),
            (set(), set(), 0),
            (set(), {1}, 1),
        ],
    )
    def test_the_definition(self, first, second, distance):
        a, b = ([[c in labels for c in range(4)]] for labels in (first, second))
        found = agreement.masi_distance(np.array(a), np.array(b))
        assert found == pytest.approx(np.array([[distance]]))

    @pytest.mark.parametrize("seed", range(3))
    def test_alpha_is_that_of_loops_over_all_pairs(self, seed):
        ratings = random_ratings(seed, clips=15, multi=True)
        values = [tuple(row) for row in ratings.targets > 0]

        def distance(a, b):
            return agreement.masi_distance(np.array([a]), np.array([b])).item()

        assert agreement.masi_alpha(ratings) == pytest.approx(
            brute_alpha(values, ratings.clip, distance), abs=1e-10
        )

    def test_of_single_labels_it_is_the_nominal_alpha(self):
        ratings = random_ratings(2)
        labels = ratings.targets.argmax(1)
        assert agreement.masi_alpha(ratings) == pytest.approx(
            agreement.krippendorff_alpha(labels, ratings.clip)
        )

    def test_without_pairs_or_differences_there_is_none(self):
        alone = make_ratings([0, 1], [0, 0], [{0}, {1}], 2)
        same = make_ratings([0, 0], [0, 1], [{0}, {0}], 2)
        assert math.isnan(agreement.masi_alpha(alone))
        assert math.isnan(agreement.masi_alpha(same))


class TestPairwiseKappa:
    def test_each_pair_is_what_scikit_learn_says_of_its_common_clips(self):
        ratings = random_ratings(5, listeners=4)
        found = agreement.pairwise_kappa(ratings, 4, min_common=5)
        said = {
            (c, a): t.argmax()
            for c, a, t in zip(
                ratings.clip, ratings.annotator, ratings.targets, strict=True
            )
        }
        for i, j in itertools.permutations(range(4), 2):
            common = [c for c in range(40) if (c, i) in said and (c, j) in said]
            pair = [[said[c, k] for c in common] for k in (i, j)]
            assert found.common[i, j] == len(common)
            assert found.kappa[i, j] == pytest.approx(cohen_kappa_score(*pair))
        assert np.isnan(np.diag(found.kappa)).all()

    def test_of_label_sets_it_is_the_mean_over_the_classes(self):
        ratings = random_ratings(6, listeners=2, multi=True, share=1.0)
        mask = np.ones(ratings.mask.shape, bool)
        mask[:20, 0] = False  # class 0 was not asked in the first clips
        ratings = ratings._replace(mask=mask)
        first, second = (ratings.annotator == i for i in (0, 1))
        wanted = []
        for c in range(4):
            pair = [ratings.targets[k & mask[:, c], c] for k in (first, second)]
            wanted.append(cohen_kappa_score(*pair))
        found = agreement.pairwise_kappa(ratings, 2)
        assert found.kappa[0, 1] == pytest.approx(np.mean(wanted))
        assert found.common[0, 1] == 40

    def test_too_few_common_clips_and_no_variation_are_undefined(self):
        ratings = make_ratings([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], [{0}] * 5, 2)
        few = agreement.pairwise_kappa(ratings, 3, min_common=3)
        same = agreement.pairwise_kappa(ratings, 3, min_common=0)
        assert np.isnan(few.kappa).all()
        assert np.isnan(same.kappa).all()
        assert few.common[0].tolist() == [2, 2, 0]

    def test_of_many_listeners_the_most_prolific_are_shown(self):
        ratings = make_ratings([0, 1, 2, 0, 1, 2], [3, 3, 3, 1, 1, 0], [{0}] * 6, 2)
        assert agreement.pairwise_kappa(ratings, 5, most=2).listeners.tolist() == [1, 3]


class TestPermutations:
    @pytest.mark.parametrize("multi", [False, True])
    def test_the_counts_are_those_of_mutual_information(self, multi):
        ratings = random_ratings(7, multi=multi)
        found = agreement.permutation_null(ratings, 5, num_permutations=1).observed
        columns = (ratings.targets > 0).astype(int).T if multi else [
            ratings.targets.argmax(1)
        ]  # fmt: skip
        wanted = [mutual_information(y, ratings.annotator).plug_in for y in columns]
        assert found == pytest.approx(np.mean(wanted), abs=1e-12)

    def test_given_the_others_by_loops(self):
        ratings = random_ratings(8, clips=60)
        labels, rows, majority = ratings.targets.argmax(1), [], []
        for row, clip in enumerate(ratings.clip):
            others = np.flatnonzero(ratings.clip == clip)
            others = others[others != row]
            if len(others):
                rows.append(row)
                majority.append(np.bincount(labels[others]).argmax())
        wanted = mutual_information(
            labels[rows], ratings.annotator[rows], np.array(majority)
        )
        found = agreement.measure_differences(ratings, 5, 1).given_others.observed
        assert found == pytest.approx(wanted.plug_in, abs=1e-12)

    @given(st.integers(0, 2**32 - 1))
    def test_within_clips_each_clip_keeps_its_labels(self, seed):
        ratings = random_ratings(seed % 50, clips=12, multi=True)
        coded = agreement.code_labels(ratings)
        rng = np.random.default_rng(seed)
        dealt = agreement.permute_labels(coded, ratings.clip, rng)
        for clip in np.unique(ratings.clip):
            rows = ratings.clip == clip
            before, after = (
                sorted(map(tuple, x.values[:, rows].T)) for x in (coded, dealt)
            )
            assert before == after

    def test_all_ways_to_deal_the_labels_of_a_clip_are_equally_likely(self):
        ratings = make_ratings([0, 0, 0], [0, 1, 2], [{0}, {1}, {2}], 3)
        coded, rng = agreement.code_labels(ratings), np.random.default_rng(0)
        dealt = [
            tuple(agreement.permute_labels(coded, ratings.clip, rng).values[0])
            for _ in range(3000)
        ]
        counts = [dealt.count(order) for order in itertools.permutations(range(3))]
        assert sum(counts) == 3000
        assert min(counts) > 400

    def test_answers_and_whether_they_were_asked_stay_together(self):
        ratings = random_ratings(9, multi=True)
        mask = np.random.default_rng(9).random(ratings.mask.shape) < 0.7
        mask[:, 0] = True
        ratings = ratings._replace(mask=mask, targets=ratings.targets * mask)
        coded = agreement.code_labels(ratings)
        for keep in ("clips", "nothing"):
            dealt = agreement.permute_labels(
                coded, ratings.clip, np.random.default_rng(0), keep
            )
            assert dealt.asked.sum(axis=1).tolist() == mask.sum(axis=0).tolist()
            assert not dealt.values[~dealt.asked].any()

    def test_listeners_of_different_sessions_differ_by_their_clips_alone(self):
        # Two listeners a session, who always agree; the sessions differ in mood.
        rng = np.random.default_rng(0)
        mood = np.concatenate([rng.random(100) < 0.9, rng.random(100) < 0.1])
        clip = np.repeat(np.arange(200), 2)
        annotator = np.concatenate([np.tile([0, 1], 100), np.tile([2, 3], 100)])
        ratings = make_ratings(clip, annotator, [{int(mood[c])} for c in clip], 2)
        same = agreement.permutation_null(ratings, 4, num_permutations=99)
        anywhere = agreement.permutation_null(ratings, 4, "nothing", 99)
        assert same.observed > 0.3
        assert same.p_value == 1
        assert anywhere.p_value == pytest.approx(0.01)

    def test_habits_are_found_on_the_same_clips(self):
        rng = np.random.default_rng(1)
        clip, annotator = np.repeat(np.arange(100), 4), np.tile(np.arange(4), 100)
        yes = rng.random(400) < np.array([0.1, 0.3, 0.7, 0.9])[annotator]
        ratings = make_ratings(clip, annotator, [{int(y)} for y in yes], 2)
        null = agreement.permutation_null(ratings, 4, num_permutations=99)
        assert null.p_value == pytest.approx(0.01)
        assert null.excess == pytest.approx(null.observed - null.null.mean())
        assert null.excess > 0.1

    def test_p_values_of_equal_listeners_are_uniform(self):
        p_values = [
            agreement.permutation_null(
                random_ratings(s), 5, num_permutations=19
            ).p_value
            for s in range(100)
        ]
        assert 0.4 < np.mean(p_values) < 0.6
        assert np.mean(np.array(p_values) <= 0.1) < 0.25

    def test_the_same_seed_gives_the_same_null(self):
        ratings = random_ratings(3)
        first, again, other = (
            agreement.permutation_null(ratings, 5, num_permutations=5, seed=s).null
            for s in (1, 1, 2)
        )
        assert first.tolist() == again.tolist() != other.tolist()


class TestOwnPriorGain:
    def test_each_rating_is_predicted_by_the_rest_as_loops_do(self):
        rng = np.random.default_rng(0)
        counts = rng.integers(0, 9, (2, 3, 4)).astype(float)
        counts[:, :, 0] += 9 - counts.sum(axis=2) + 30  # equal numbers of ratings
        found = agreement.own_prior_gain(counts)

        def cost(listener, strength):
            bits = 0.0
            for table in counts:
                others = np.delete(table, listener, 0).sum(0) + 0.5
                rates, own = others / others.sum(), table[listener]
                for value, count in enumerate(own):
                    if math.isinf(strength):
                        chance = rates[value]
                    else:
                        rest = own[value] - 1 + strength * rates[value]
                        chance = rest / (own.sum() - 1 + strength)
                    bits -= count * math.log2(chance) if count else 0.0
            return bits

        table = np.array([[cost(i, s) for i in range(3)] for s in agreement.STRENGTHS])
        for i in range(3):
            best = (table.sum(1) - table[:, i]).argmin()
            wanted = (table[-1, i] - table[best, i]) / 39
            assert found.per_listener[i] == pytest.approx(wanted)
        assert found.pooled == pytest.approx(table[-1].sum() / (3 * 39))
        assert found.mean == pytest.approx(found.per_listener.mean())

    @pytest.mark.parametrize("number", [5, 30, 300])
    def test_equal_listeners_gain_nothing(self, number):
        rng = np.random.default_rng(number)
        shares = [0.5, 0.3, 0.15, 0.05]
        gains = [
            agreement.own_prior_gain(
                rng.multinomial(number, shares, 20)[None].astype(float)
            ).mean
            for _ in range(20)
        ]
        assert np.mean(gains) == pytest.approx(0, abs=0.01)

    def test_the_gain_is_what_the_listeners_rates_are_worth(self):
        # Half always say yes in 9 of 10 clips, half in 1 of 10.
        counts = np.tile([[900.0, 100.0], [100.0, 900.0]], (10, 1))[None]
        others = (9 * 0.9 + 10 * 0.1) / 19  # rate of a listener's usual answer
        pooled = -(0.9 * math.log2(others) + 0.1 * math.log2(1 - others))
        entropy = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
        found = agreement.own_prior_gain(counts)
        assert found.pooled == pytest.approx(pooled, abs=1e-3)
        # The rates are estimated, which costs about 1 / 2N nats.
        assert found.mean == pytest.approx(pooled - entropy, abs=2e-3)

    def test_a_listener_with_one_rating_gains_no_number(self):
        counts = np.array([[[5.0, 5.0], [5.0, 4.0], [1.0, 0.0]]])
        assert np.isnan(agreement.own_prior_gain(counts).per_listener).tolist() == [
            False, False, True,
        ]  # fmt: skip


class TestMeasureDifferences:
    def test_one_label_a_rating(self):
        ratings = random_ratings(4)
        found = agreement.measure_differences(ratings, 5, 9)
        labels = ratings.targets.argmax(1)
        assert found.single
        assert found.label_set is None
        assert math.isnan(found.masi_alpha)
        assert found.alpha == pytest.approx(
            agreement.krippendorff_alpha(labels, ratings.clip)
        )
        shares = np.bincount(labels) / len(labels)
        assert found.entropy == pytest.approx(-(shares * np.log2(shares)).sum())

    def test_label_sets(self):
        ratings = random_ratings(4, multi=True)
        found = agreement.measure_differences(ratings, 5, 9)
        assert not found.single
        assert found.alpha == pytest.approx(agreement.class_alphas(ratings).mean())
        count = ratings.targets.sum(1).astype(int)
        assert found.label_count == mutual_information(count, ratings.annotator)
        assert found.label_set.plug_in > found.information.plug_in

    def test_its_nulls_are_those_of_the_single_functions(self):
        ratings = random_ratings(11)
        found = agreement.measure_differences(ratings, 5, 9, seed=3)
        for keep, null in (("clips", found.same_clips), ("nothing", found.anywhere)):
            wanted = agreement.permutation_null(ratings, 5, keep, 9, seed=3)
            np.testing.assert_allclose(null.null, wanted.null)
            assert null.p_value == wanted.p_value
