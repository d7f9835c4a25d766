"""Labels as arrays, and what the other raters said."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from metaperser_jax.data import ratings as ratings_lib
from metaperser_jax.data.ratings import (
    annotator_summary,
    cell_text,
    count_classes,
    encode_labels,
    label_ids,
    listener_information,
    majority_labels,
    mutual_information,
    normalise_soft_labels,
    other_raters_inputs,
    parse_labels,
    threshold_grades,
)
from metaperser_jax.errors import InputError
from metaperser_jax.typing import Corpus, Ratings


def make_ratings(rows, num_classes, num_dimensions=0):
    """Ratings of (clip, annotator, labels, dimensions) rows."""
    targets = np.zeros((len(rows), num_classes), np.float32)
    for row, (_, _, labels, *_) in enumerate(rows):
        targets[row, list(labels)] = 1
    dimensions = [list(row[3]) if len(row) > 3 else [] for row in rows]
    return Ratings(
        clip=np.array([row[0] for row in rows], np.int32),
        annotator=np.array([row[1] for row in rows], np.int32),
        targets=targets,
        mask=np.ones_like(targets, bool),
        dimensions=np.array(dimensions, np.float32).reshape(len(rows), num_dimensions),
    )


def random_ratings(rng, num=200, clips=80, listeners=8, classes=4, dimensions=2):
    """Ratings with holes everywhere; some clips have one rater, some pairs repeat."""
    shape = (num, classes)
    scores = rng.normal(3, 2, (num, dimensions)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = np.nan
    mask = rng.random(shape) < 0.8
    return Ratings(
        clip=rng.integers(0, clips, num).astype(np.int32),
        annotator=rng.integers(0, listeners, num).astype(np.int32),
        targets=((rng.random(shape) < 0.4) & mask).astype(np.float32),
        mask=mask,
        dimensions=scores,
    )


@pytest.mark.parametrize(
    ("cell", "separator", "labels"),
    [
        ("happy", "|", ["happy"]),
        ("happy|sad", "|", ["happy", "sad"]),
        (" happy | sad |", "|", ["happy", "sad"]),
        ("sad|happy|sad", "|", ["sad", "happy"]),
        ("happy;sad", ";", ["happy", "sad"]),
        ("happy;sad", "|", ["happy;sad"]),
        ("happy|sad", None, ["happy|sad"]),
        (["happy", " sad", None], "|", ["happy", "sad"]),
        (("happy",), None, ["happy"]),
        (1, "|", ["1"]),
        (1.0, "|", ["1"]),
        ([1, "1", 1.0], "|", ["1"]),
        (np.float32(2), "|", ["2"]),
        (2.5, "|", ["2.5"]),
        ("", "|", []),
        (None, "|", []),
        (math.nan, "|", []),
        ("nan", "|", []),
        ("NA|null|N/A", "|", []),
        ("none", "|", ["none"]),  # may be a label: no emotion
        ([], "|", []),
    ],
)
def test_a_cell_holds_labels(cell, separator, labels):
    assert parse_labels(cell, separator) == labels


@hypothesis.given(st.one_of(st.integers(), st.floats(), st.text(), st.none()))
def test_any_cell_becomes_text(cell):
    text = cell_text(cell)
    assert text == text.strip()
    assert cell_text(text) == text


@hypothesis.given(
    st.lists(
        st.text(st.characters(categories=["L"]), min_size=1).filter(
            lambda label: label.lower() not in ratings_lib.MISSING
        ),
        unique=True,
    )
)
def test_joined_labels_are_found_again(labels):
    assert parse_labels("|".join(labels), "|") == labels


def test_labels_become_multi_hot_rows():
    targets = encode_labels([["b"], ["c", "a"], []], ("a", "b", "c"))
    np.testing.assert_array_equal(targets, [[0, 1, 0], [1, 0, 1], [0, 0, 0]])
    assert targets.dtype == np.float32


def test_an_unknown_label_is_an_error_with_a_hint():
    with pytest.raises(InputError, match=r"row 1.*'hapy'.*Did you mean 'happy'\?"):
        encode_labels([["sad"], ["hapy"]], ("happy", "sad"))


def test_grades_above_the_threshold_are_labels_and_holes_are_masked():
    grades = np.array([[0.0, 50.0, 50.1], [np.nan, 100.0, np.nan]])
    targets, mask = threshold_grades(grades, 50.0)
    np.testing.assert_array_equal(targets, [[0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [0, 1, 0]])


def test_soft_labels_are_rescaled():
    grades = np.array(
        [[0.25, 0.75], [2.0, 6.0], [0.5, np.nan], [-1.0, 2.0], [0, 0], [np.inf, 1]]
    )
    targets, mask, sums = normalise_soft_labels(grades)
    zero = [0, 0]
    expected = [[0.25, 0.75], [0.25, 0.75], [1, 0], zero, zero, zero]
    np.testing.assert_allclose(targets, expected)
    np.testing.assert_array_equal(mask[2], [True, False])
    np.testing.assert_array_equal(sums, [1, 8, 0.5, np.nan, 0, np.nan])


def test_classes_are_counted_over_answers_of_some_listeners():
    ratings = make_ratings([(0, 0, [0]), (0, 1, [0, 1]), (1, 1, [2])], 3)
    ratings.mask[1, 0] = False
    np.testing.assert_array_equal(count_classes(ratings), [1, 1, 1])
    np.testing.assert_array_equal(count_classes(ratings, [1]), [0, 1, 1])
    np.testing.assert_array_equal(count_classes(ratings, []), [0, 0, 0])


def brute_force_inputs(ratings, exclude):
    """The definition of `other_raters_inputs`, one rating at a time."""
    num, classes = ratings.targets.shape
    rows, valid = [], []
    for i in range(num):
        foreign = [
            j
            for j in range(num)
            if ratings.annotator[j] != ratings.annotator[i]
            and ratings.annotator[j] not in exclude
        ]
        others = [j for j in foreign if ratings.clip[j] == ratings.clip[i]]
        features = []
        for c in range(classes):
            votes = [ratings.targets[j, c] for j in others if ratings.mask[j, c]]
            features.append(np.mean(votes) if votes else 0.0)
        for d in range(ratings.dimensions.shape[1]):
            column = ratings.dimensions[:, d].astype(np.float64)
            all_scores = [column[j] for j in foreign if not np.isnan(column[j])]
            scores = [column[j] for j in others if not np.isnan(column[j])]
            if scores:
                scale = np.std(all_scores) or 1.0
                features.append((np.mean(scores) - np.mean(all_scores)) / scale)
            else:
                features.append(0.0)
        rows.append([*features, np.log1p(len(others))])
        valid.append(bool(others))
    return np.array(rows)[:, None], np.array(valid)


class TestOtherRatersInputs:
    @pytest.mark.parametrize("exclude", [(), (3,), (0, 5, 7)])
    def test_equals_the_definition(self, rng, exclude):
        ratings = random_ratings(rng)
        inputs, valid = other_raters_inputs(ratings, exclude)
        expected, expected_valid = brute_force_inputs(ratings, exclude)
        assert inputs.dtype == np.float32
        np.testing.assert_array_equal(valid, expected_valid)
        assert 0 < valid.sum() < valid.size
        np.testing.assert_allclose(inputs[valid], expected[valid], atol=2e-5)

    def test_a_clip_without_other_raters_is_all_zeros(self):
        rows = [(0, 0, [1], [3.0]), (1, 0, [0], [1.0]), (1, 1, [1], [2.0])]
        inputs, valid = other_raters_inputs(make_ratings(rows, 2, 1))
        np.testing.assert_array_equal(valid, [False, True, True])
        assert not inputs[0].any()

    def test_a_small_case_by_hand(self):
        rows = [
            (0, 0, [0], [1.0]),
            (0, 1, [0, 1], [2.0]),
            (0, 2, [1], [4.0]),
            (1, 1, [0], [6.0]),
        ]
        inputs, _ = other_raters_inputs(make_ratings(rows, 2, 1))
        # Others of listener 0: votes (1, 1) and (0, 1); ratings 2, 4 of 2, 4, 6.
        deviation = np.std([2, 4, 6])
        expected = [0.5, 1.0, (3 - 4) / deviation, np.log(3)]
        np.testing.assert_allclose(inputs[0, 0], expected, rtol=1e-6)

    def test_nothing_the_listener_says_anywhere_enters(self, rng):
        ratings = random_ratings(rng)
        own = ratings.annotator == 2
        before, _ = other_raters_inputs(ratings)
        noise = rng.uniform(-50, 50, ratings.dimensions.shape).astype(np.float32)
        changed = ratings._replace(
            targets=np.where(own[:, None], 1 - ratings.targets, ratings.targets),
            dimensions=np.where(own[:, None], noise, ratings.dimensions),
        )
        after, _ = other_raters_inputs(changed)
        np.testing.assert_array_equal(after[own], before[own])  # to the last bit
        assert not np.array_equal(after[~own], before[~own])

    def test_nothing_an_excluded_listener_says_enters(self, rng):
        ratings = random_ratings(rng)
        hidden = np.isin(ratings.annotator, [1, 4])
        before, valid = other_raters_inputs(ratings, [1, 4])
        changed = ratings._replace(
            targets=np.where(hidden[:, None], 1 - ratings.targets, ratings.targets),
            mask=np.where(hidden[:, None], ~ratings.mask, ratings.mask),
            dimensions=np.where(hidden[:, None], np.float32(9), ratings.dimensions),
        )
        after, after_valid = other_raters_inputs(changed, [1, 4])
        np.testing.assert_array_equal(after, before)
        np.testing.assert_array_equal(after_valid, valid)
        assert valid[hidden].any()  # their own rows still have inputs

    def test_all_others_excluded_leaves_nothing(self, rng):
        ratings = random_ratings(rng)
        inputs, valid = other_raters_inputs(ratings, range(8))
        assert not valid.any()
        assert not inputs.any()

    def test_no_dimensions_and_no_ratings(self, rng):
        ratings = random_ratings(rng, dimensions=0)
        assert other_raters_inputs(ratings)[0].shape == (200, 1, 5)
        empty = Ratings(*(field[:0] for field in ratings))
        assert other_raters_inputs(empty)[0].shape == (0, 1, 5)

    def test_equal_scores_of_all_are_not_divided_by_zero(self):
        rows = [(0, i, [0], [3.0]) for i in range(3)]
        inputs, _ = other_raters_inputs(make_ratings(rows, 1, 1))
        np.testing.assert_allclose(inputs[:, 0, 1], 0)


def test_listeners_are_described_by_their_habits():
    rows = [(0, 0, [0]), (1, 0, [0, 1]), (2, 0, [1, 2]), (0, 1, [2])]
    ratings = make_ratings(rows, 3)
    ratings.mask[3, 1] = False
    corpus = Corpus(
        name="x",
        clips=("a", "b", "c"),
        annotators=("ann", "bob", "eve"),
        classes=("Neutral", "sad", "happy"),
        dimensions=(),
        speakers=np.array([""] * 3),
        sessions=np.array([""] * 3),
        ratings=ratings,
        content_hashes=("", "", ""),
        read_audio=None,
        features=None,
        ground_truth=None,
        summary={},
    )
    summary = annotator_summary(corpus)
    assert summary["ann"] == {
        "clips": 3,
        "label_rates": pytest.approx({"Neutral": 2 / 3, "sad": 2 / 3, "happy": 1 / 3}),
        "neutral_rate": pytest.approx(2 / 3),
        "labels_per_clip": pytest.approx(5 / 3),
    }
    assert summary["bob"]["label_rates"] == {"Neutral": 0, "sad": None, "happy": 1}
    assert summary["eve"]["clips"] == 0
    unnamed = corpus._replace(classes=("angry", "sad", "happy"))
    assert annotator_summary(unnamed)["ann"]["neutral_rate"] is None


class TestMutualInformation:
    def test_a_full_independent_table_has_none(self):
        labels, listeners = (grid.ravel() for grid in np.indices((4, 8)))
        plug_in, corrected = mutual_information(labels, listeners)
        assert plug_in == pytest.approx(0, abs=1e-12)
        # Miller-Madow takes (4 - 1)(8 - 1) / 2N nats off a full table.
        assert corrected == pytest.approx(-21 / (2 * 32 * math.log(2)))

    @pytest.mark.parametrize("num", [2, 5, 8])
    def test_a_label_that_names_the_listener_gives_log2_n(self, num):
        ids = np.tile(np.arange(num), 50)
        plug_in, corrected = mutual_information(ids, ids * 10)
        assert plug_in == pytest.approx(math.log2(num))
        bias = (num - 1) / (2 * ids.size * math.log(2))
        assert corrected == pytest.approx(math.log2(num) + bias)

    def test_a_two_by_two_table_by_hand(self):
        labels = np.array([0] * 40 + [1] * 10 + [0] * 20 + [1] * 30)
        listeners = np.array([0] * 50 + [1] * 50)

        def entropy(*shares):
            return -sum(p * math.log2(p) for p in shares)

        expected = entropy(0.6, 0.4) + 1 - entropy(0.4, 0.1, 0.2, 0.3)
        plug_in, corrected = mutual_information(labels, listeners)
        assert plug_in == pytest.approx(expected)
        assert corrected == pytest.approx(expected - 1 / (200 * math.log(2)))

    def test_the_correction_takes_off_most_of_the_bias(self, rng):
        labels = rng.integers(0, 5, 1_500)
        listeners = rng.integers(0, 30, 1_500)
        plug_in, corrected = mutual_information(labels, listeners)
        assert plug_in > 0.03
        assert abs(corrected) < 0.015

    def test_given_a_third_variable_that_explains_all(self, rng):
        clip_label = rng.integers(0, 3, 20_000)
        listeners = clip_label * 2 + rng.integers(0, 2, 20_000)
        plain, given = (
            mutual_information(clip_label, listeners, third)
            for third in (None, clip_label)
        )
        assert plain.plug_in == pytest.approx(math.log2(3), abs=1e-3)
        assert given.plug_in == pytest.approx(0, abs=1e-12)

    def test_given_a_third_variable_that_reveals(self):
        listeners, clip_label = (grid.ravel() for grid in np.indices((2, 2)))
        labels = listeners ^ clip_label  # says nothing until the clip is known
        listeners, clip_label, labels = (
            np.tile(ids, 100) for ids in (listeners, clip_label, labels)
        )
        assert mutual_information(labels, listeners).plug_in == pytest.approx(0)
        plug_in, corrected = mutual_information(labels, listeners, clip_label)
        assert plug_in == pytest.approx(1)
        # cells: (y, z) 4 + (x, z) 4 - (x, y, z) 4 - (z) 2 = 2 above the constants
        assert corrected == pytest.approx(1 + 2 / (2 * 400 * math.log(2)))

    def test_targets_count_as_label_sets(self):
        targets = np.array([[0, 1], [1, 1], [0, 1], [1, 0]], np.float32)
        ids = label_ids(targets)
        assert ids[0] == ids[2]
        assert len(set(ids.tolist())) == 3
        listeners = np.array([0, 1, 0, 2])
        by_targets = mutual_information(targets, listeners)
        assert by_targets == mutual_information(ids, listeners)
        assert by_targets.plug_in == pytest.approx(1.5)

    def test_no_ratings_have_none(self):
        empty = np.zeros(0, np.int64)
        assert mutual_information(empty, empty) == (0, 0)

    def test_is_symmetric_and_not_negative(self, rng):
        for _ in range(20):
            x, y, z = rng.integers(0, rng.integers(1, 6), (3, 40))
            assert mutual_information(x, y, z) == pytest.approx(
                mutual_information(y, x, z)
            )
            assert mutual_information(x, y, z).plug_in >= -1e-12


def test_majority_labels_count_answers_and_ties_go_to_the_first():
    rows = [(0, 0, [1]), (0, 1, [1, 2]), (1, 0, [2]), (1, 1, [0])]
    ratings = make_ratings(rows, 3)
    np.testing.assert_array_equal(majority_labels(ratings), [1, 1, 0, 0])
    ratings.mask[3, 0] = False
    np.testing.assert_array_equal(majority_labels(ratings), [1, 1, 2, 2])


class TestListenerInformation:
    def test_single_labels_are_measured_as_labels(self):
        rows = [(clip, i, [i]) for clip in range(50) for i in range(2)]
        result = listener_information(make_ratings(rows, 2))
        assert result["of"] == "label"
        assert result["plug_in"] == pytest.approx(1)
        assert result["given_majority"] == pytest.approx(1, abs=0.02)

    def test_label_sets_are_measured_class_by_class(self):
        # Listener 1 always adds class 2; class 0 and 1 alternate for both.
        rows = [
            (clip, i, [clip % 2, 2] if i else [clip % 2])
            for clip in range(50)
            for i in range(2)
        ]
        result = listener_information(make_ratings(rows, 3))
        assert result["of"] == "class, mean"
        assert result["plug_in"] == pytest.approx(1 / 3)

    def test_missing_answers_are_left_out(self):
        rows = [(clip, i, [0] if i else []) for clip in range(50) for i in range(2)]
        ratings = make_ratings(rows, 1)
        assert listener_information(ratings)["plug_in"] == pytest.approx(1)
        ratings.mask[ratings.annotator == 0] = False
        assert listener_information(ratings)["plug_in"] == pytest.approx(0)
