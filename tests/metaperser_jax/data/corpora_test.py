"""Checks, selections, summaries and hashes of any corpus."""

import functools
import json
import pickle

import numpy as np
import pytest

from metaperser_jax.data.corpora import (
    corpus_hash,
    describe,
    drop_small_annotators,
    drop_unrated,
    select_annotators,
    select_clips,
    select_ratings,
    summarise,
    validate_corpus,
)
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.typing import Corpus, Ratings


def read_constant(index):
    return np.full(400, index, np.float32)


def make_corpus(**changes):
    """Clips a, b, c; listeners x, y; five ratings; clip i sounds like the number i."""
    targets = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    ratings = Ratings(
        clip=np.array([0, 0, 1, 2, 2], np.int32),
        annotator=np.array([0, 1, 0, 0, 1], np.int32),
        targets=targets,
        mask=np.ones_like(targets, bool),
        dimensions=np.array([[1], [2], [3], [4], [np.nan]], np.float32),
    )
    corpus = Corpus(
        name="tiny",
        clips=("a", "b", "c"),
        annotators=("x", "y"),
        classes=("happy", "sad"),
        dimensions=("valence",),
        speakers=np.array(["s1", "s1", ""]),
        sessions=np.array(["1", "2", "2"]),
        ratings=ratings,
        content_hashes=("aa", "bb", "cc"),
        read_audio=read_constant,
        features=np.arange(6, dtype=np.float32).reshape(3, 1, 2),
        ground_truth=np.linspace(0, 1, 10, dtype=np.float32).reshape(5, 2),
        summary={},
    )
    rating_fields = {
        key: changes.pop(key) for key in ("mask", "targets") if key in changes
    }
    ratings = ratings._replace(**rating_fields)
    return corpus._replace(**{"ratings": ratings, **changes})


def pairs(corpus):
    """The ratings by name: what must survive any reindexing."""
    return [
        (corpus.clips[clip], corpus.annotators[annotator], tuple(row))
        for clip, annotator, row in zip(
            corpus.ratings.clip,
            corpus.ratings.annotator,
            corpus.ratings.targets.tolist(),
            strict=True,
        )
    ]


def kinds(problems):
    return [(problem.severity, problem.kind) for problem in problems.rows]


class TestSelect:
    def test_clips_keep_all_that_belongs_to_them(self):
        corpus = select_clips(make_corpus(), [2, 0])
        assert corpus.clips == ("c", "a")
        assert corpus.content_hashes == ("cc", "aa")
        assert corpus.speakers.tolist() == ["", "s1"]
        assert corpus.sessions.tolist() == ["2", "1"]
        np.testing.assert_array_equal(corpus.features[:, 0], [[4, 5], [0, 1]])
        assert [corpus.read_audio(i)[0] for i in range(2)] == [2, 0]
        assert pairs(corpus) == [p for p in pairs(make_corpus()) if p[0] != "b"]
        assert corpus.ground_truth.shape == (4, 2)
        assert corpus.ratings.clip.dtype == np.int32

    def test_selections_can_be_repeated_and_pickled(self):
        corpus = select_clips(select_clips(make_corpus(), [2, 1]), [1])
        assert corpus.clips == ("b",)
        assert pickle.loads(pickle.dumps(corpus)).read_audio(0)[0] == 1

    def test_all_clips_cost_no_copy(self):
        corpus = make_corpus()
        assert select_clips(corpus, range(3)).features is corpus.features

    def test_annotators_are_reindexed(self):
        corpus = select_annotators(make_corpus(), [1])
        assert corpus.annotators == ("y",)
        assert pairs(corpus) == [p for p in pairs(make_corpus()) if p[1] == "y"]
        assert corpus.clips == ("a", "b", "c")

    def test_ratings_by_mask_or_index(self):
        by_mask = select_ratings(make_corpus(), np.array([0, 0, 1, 0, 1], bool))
        by_index = select_ratings(make_corpus(), np.array([2, 4]))
        assert pairs(by_mask) == pairs(by_index)
        np.testing.assert_array_equal(by_mask.ground_truth, by_index.ground_truth)

    def test_a_corpus_without_inputs_or_truth(self):
        bare = make_corpus(read_audio=None, features=None, ground_truth=None)
        corpus = select_clips(bare, [1])
        assert (corpus.read_audio, corpus.features, corpus.ground_truth) == (None,) * 3

    def test_what_nobody_rated_is_left_out(self):
        corpus = drop_unrated(select_ratings(make_corpus(), np.array([2])))
        assert (corpus.clips, corpus.annotators) == (("b",), ("x",))

    def test_listeners_with_few_ratings_are_left_out(self):
        assert drop_small_annotators(make_corpus(), 2).annotators == ("x", "y")
        assert drop_small_annotators(make_corpus(), 3).annotators == ("x",)
        assert drop_small_annotators(make_corpus(), 4).clips == ()


class TestValidate:
    def test_a_good_corpus_is_unchanged(self):
        problems = Problems()
        corpus = validate_corpus(make_corpus(), problems)
        assert not problems.rows
        assert corpus_hash(corpus) == corpus_hash(make_corpus())
        assert corpus_hash(validate_corpus(corpus, problems)) == corpus_hash(corpus)

    def test_the_same_content_under_two_names_becomes_one_clip(self):
        problems = Problems()
        # 'c' is 'b' again. y rated it as 'c' only, x rated both.
        corpus = validate_corpus(
            make_corpus(content_hashes=("aa", "bb", "bb")), problems
        )
        assert corpus.clips == ("a", "b")
        assert pairs(corpus)[2:] == [("b", "x", (1, 1)), ("b", "y", (0, 0))]
        warning, row = problems.rows
        assert warning[:3] == ("warning", "duplicate_clip", "clip 'c'")
        assert "same content as clip 'b'" in warning.message
        assert "2 ratings count for 'b'" in warning.message
        assert "speaker 's1' is kept, '' dropped" in warning.message
        assert row[:2] == ("error", "duplicate_rating")
        assert "another answer" in row.message

    def test_unknown_content_is_never_the_same(self):
        problems = Problems()
        corpus = validate_corpus(make_corpus(content_hashes=("", "", "")), problems)
        assert len(corpus.clips) == 3
        assert not problems.rows

    def test_a_second_rating_of_a_clip_by_a_listener_is_an_error_row(self):
        corpus = make_corpus()
        twice = corpus.ratings._replace(annotator=np.array([0, 0, 0, 0, 1], np.int32))
        problems = Problems()
        result = validate_corpus(
            corpus._replace(ratings=twice), problems, "row {}".format
        )
        assert pairs(result)[0] == ("a", "x", (1, 0))
        assert len(result.ratings.clip) == len(result.ground_truth) == 4
        assert kinds(problems) == [("error", "duplicate_rating")]
        assert problems.rows[0].where == "row 1"
        assert "row 0" in problems.rows[0].message
        assert "'x' rated clip 'a' before" in problems.rows[0].message

    def test_nan_labels_and_rows_without_answer_are_error_rows(self):
        targets = make_corpus().ratings.targets.copy()
        mask = np.ones_like(targets, bool)
        targets[0, 1], targets[1, 0], targets[3, 0] = np.nan, np.inf, np.nan
        mask[2], mask[3, 0] = False, False
        problems = Problems()
        result = validate_corpus(make_corpus(targets=targets, mask=mask), problems)
        assert [pair[:2] for pair in pairs(result)] == [("c", "x"), ("c", "y")]
        assert np.isfinite(result.ratings.targets).all()  # masked NaN is 0 now
        expected = ["nan_label", "nan_label", "no_label"]
        assert [kind for _, kind in kinds(problems)] == expected
        assert problems.rows[0].where == "clip 'a', listener 'x'"

    def test_a_bad_row_does_not_shadow_a_good_one(self):
        corpus = make_corpus()
        targets = corpus.ratings.targets.copy()
        targets[0] = np.nan
        twice = corpus.ratings._replace(
            annotator=np.array([0, 0, 0, 0, 1], np.int32), targets=targets
        )
        problems = Problems()
        result = validate_corpus(corpus._replace(ratings=twice), problems)
        assert pairs(result)[0] == ("a", "x", (0, 1))
        assert kinds(problems) == [("error", "nan_label")]

    def test_strict_problems_stop_at_the_first(self):
        with pytest.raises(InputError, match="duplicate_clip"):
            validate_corpus(
                make_corpus(content_hashes=("a", "a", "a")), Problems(strict=True)
            )

    def test_nothing_left_is_an_error(self):
        mask = np.zeros((5, 2), bool)
        with pytest.raises(InputError, match=r"tiny: no rating can be used(.|\n)*5 x"):
            validate_corpus(make_corpus(mask=mask), Problems())

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ({"speakers": np.array(["s"])}, r"speakers has shape \(1,\)"),
            ({"content_hashes": ("a",)}, "content_hashes"),
            ({"mask": np.ones((5, 3), bool)}, "ratings.mask"),
            ({"features": np.zeros((2, 1, 1))}, "features"),
            ({"ground_truth": np.zeros((5, 3))}, "ground_truth"),
            ({"dimensions": ()}, "ratings.dimensions"),
            ({"clips": ("a", "b", "a")}, "clips holds names twice: a"),
            ({"classes": ("sad", "sad")}, "classes holds names twice: sad"),
            ({"annotators": ("x",)}, "annotator holds 0 to 1, expected 0 to 0"),
        ],
    )
    def test_arrays_that_do_not_fit_are_named(self, changes, word):
        with pytest.raises(InputError, match=word):
            validate_corpus(make_corpus(**changes), Problems())

    def test_all_faults_are_named_at_once(self):
        corpus = make_corpus(speakers=np.array(["s"]), classes=("sad", "sad"))
        with pytest.raises(InputError, match=r"speakers.*classes"):
            validate_corpus(corpus, Problems())


class TestSummary:
    def test_counts_what_is_there(self):
        mask = np.ones((5, 2), bool)
        mask[1, 1] = False
        summary = summarise(make_corpus(mask=mask, summary={"hours": 1.5, "clips": 99}))
        assert summary["clips"] == 3
        assert summary["listeners"] == 2
        assert summary["ratings"] == 5
        assert summary["ratings_per_listener"] == {"min": 2, "median": 2.5, "max": 3}
        assert summary["ratings_per_clip"] == pytest.approx(5 / 3)
        assert summary["labels_per_rating"] == pytest.approx(4 / 5)
        assert summary["ratings_without_label"] == 2
        assert summary["classes"] == {"happy": 3, "sad": 1}
        assert (summary["speakers"], summary["sessions"]) == (1, 2)
        assert summary["hours"] == 1.5
        assert summary["listener_information_bits"]["of"] == "class, mean"

    @pytest.mark.parametrize(
        ("changes", "kind"),
        [
            ({}, "features, 1 layers of width 2"),
            ({"features": None}, "audio"),
            ({"features": None, "read_audio": None}, "other raters' votes"),
        ],
    )
    def test_says_what_the_inputs_are(self, changes, kind):
        assert summarise(make_corpus(**changes))["inputs"] == kind

    def test_can_be_written_as_json_and_read_by_people(self):
        summary = summarise(make_corpus())
        assert json.loads(json.dumps(summary)) == summary
        text = describe(summary)
        assert "  clips: 3\n" in text
        assert "  classes: happy 3, sad 2\n" in text
        assert "  ratings per clip: 1.667\n" in text

    def test_an_empty_corpus_has_a_summary(self):
        corpus = select_annotators(select_clips(make_corpus(), []), [])
        assert summarise(corpus)["labels_per_rating"] == 0


def with_first(array, value):
    array = array.copy()
    array.flat[0] = value
    return array


class TestHash:
    def test_is_the_same_for_the_same_data_in_other_places(self):
        reader = functools.partial(read_constant)
        other = make_corpus(name="moved", read_audio=reader, summary={"hours": 1})
        assert corpus_hash(make_corpus()) == corpus_hash(other)
        assert len(corpus_hash(other)) == 64

    @pytest.mark.parametrize(
        "changes",
        [
            {"content_hashes": ("aa", "bb", "cd")},
            {"annotators": ("x", "z")},
            {"classes": ("happy", "angry")},
            {"speakers": np.array(["s1", "s2", ""])},
            {"targets": with_first(make_corpus().ratings.targets, 0)},
            {"mask": with_first(np.ones((5, 2), bool), False)},
        ],
    )
    def test_changes_with_the_data(self, changes):
        assert corpus_hash(make_corpus(**changes)) != corpus_hash(make_corpus())

    def test_changes_with_the_order_of_ratings(self):
        turned = select_ratings(make_corpus(), np.arange(5)[::-1])
        assert corpus_hash(turned) != corpus_hash(make_corpus())
