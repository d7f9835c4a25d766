"""A corpus before training: the verdict, what is odd, what each listener does."""

import math

import numpy as np
import pytest

from metaperser_jax.data import survey
from metaperser_jax.errors import Problems
from metaperser_jax.typing import Corpus, Ratings


def make_corpus(labels, classes=("angry", "happy", "neutral"), **changes):
    """[listeners, clips] index of the label, -1 = not rated -> Corpus."""
    annotator, clip = np.nonzero(labels >= 0)
    targets = np.eye(len(classes), dtype=np.float32)[labels[annotator, clip]]
    number = labels.shape[1]
    ratings = Ratings(
        clip.astype(np.int32), annotator.astype(np.int32), targets,
        np.ones(targets.shape, bool), np.zeros((len(clip), 0), np.float32),
    )  # fmt: skip
    corpus = Corpus(
        name="toy",
        clips=tuple(f"c{i}" for i in range(number)),
        annotators=tuple(f"l{i}" for i in range(len(labels))),
        classes=classes,
        dimensions=(),
        speakers=np.array([f"s{i % 4}" for i in range(number)]),
        sessions=np.array([""] * number),
        ratings=ratings,
        content_hashes=tuple(map(str, range(number))),
        read_audio=None,
        features=None,
        ground_truth=None,
        summary={},
    )
    return corpus._replace(**changes)


def biased_labels(bias, listeners=4, clips=80, seed=0):
    """Listener i hears what is there, but says class i % 3 in `bias` of the clips."""
    rng = np.random.default_rng(seed)
    heard = np.tile(rng.integers(0, 3, clips), (listeners, 1))
    noise = rng.random(heard.shape) < 0.3
    heard = np.where(noise, rng.integers(0, 3, heard.shape), heard)
    own = np.arange(listeners)[:, None] % 3
    return np.where(rng.random(heard.shape) < bias, own, heard)


def look(corpus, problems=None, **options):
    options = {"num_permutations": 199, "group_by": "speaker", **options}
    return survey.survey_corpus(corpus, problems or Problems(), **options)


def texts(found, doubtful=None):
    return [
        finding.text
        for finding in found.findings
        if doubtful is None or finding.doubtful is doubtful
    ]


class TestVerdict:
    @pytest.mark.parametrize(
        ("bias", "grade"), [(0.0, "barely"), (0.2, "somewhat"), (0.7, "a lot")]
    )
    def test_the_more_listeners_follow_their_own_bias_the_more_they_differ(
        self, bias, grade
    ):
        verdict = look(make_corpus(biased_labels(bias, clips=200))).verdict
        assert verdict.grade == grade
        assert f"differ {grade}" in verdict.title or f"{grade} differ" in verdict.title

    def test_listeners_who_hear_the_same_class_otherwise_differ_too(self):
        # No label rate tells them apart: two listeners swap the classes.
        rng = np.random.default_rng(0)
        truth = np.tile([0, 1], 100)
        noise = rng.random((4, 200)) < 0.1
        labels = np.where(noise, 1 - truth, truth)
        labels[3] = 1 - labels[3]
        found = look(make_corpus(labels, ("a", "b")))
        assert found.verdict.grade == "a lot"
        assert found.differences.same_clips.p_value > 0.05
        assert abs(found.differences.gain.mean) < 0.02

    def test_other_clips_do_not_make_other_listeners(self):
        labels = np.full((4, 200), -1)
        labels[:2, :100] = np.random.default_rng(0).random(100) < 0.9
        labels[2:, 100:] = np.random.default_rng(1).random(100) < 0.1
        found = look(make_corpus(labels, ("a", "b")))
        assert found.differences.information.corrected > 0.3
        assert found.verdict.grade == "barely"

    def test_without_common_clips_it_cannot_be_told(self):
        labels = np.full((3, 60), -1)
        for listener in range(3):
            labels[listener, listener::3] = listener
        found = look(make_corpus(labels))
        assert found.verdict.grade == "unknown"
        assert found.verdict.text.startswith("0 listener(s) have 10 ratings")

    def test_it_shows_its_numbers_and_thresholds(self):
        found = look(make_corpus(biased_labels(0.7)))
        d = found.differences
        share = d.gain_null.excess / d.gain.pooled
        other = d.given_others.excess / d.entropy
        assert found.verdict.strength == max(share, other)
        for shown in (
            f"{d.same_clips.observed:.3f} bits",
            f"p = {d.same_clips.p_value:.3f}",
            f"save {d.gain.mean:.2f} of {d.gain.pooled:.2f} bits",
            f"{found.verdict.strength:.1%} (barely: below 1%, a lot: from 10%)",
        ):
            assert shown in found.verdict.text


class TestHabits:
    LABELS = np.array([[0] * 20, [0] * 10 + [2] * 10, [2] * 10 + [-1] * 10])

    def test_rates_and_counts(self):
        habits = look(make_corpus(self.LABELS), num_permutations=9).habits
        assert habits.ratings.tolist() == [20, 20, 10]
        assert habits.rates.tolist() == [[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]
        assert habits.classes_used.tolist() == [1, 2, 1]
        assert habits.labels_per_clip.tolist() == [1, 1, 1]
        assert habits.label_counts.tolist() == [[0, 1]] * 3

    def test_the_neutral_class_is_the_headline_else_the_most_common(self):
        corpus = make_corpus(self.LABELS)
        assert look(corpus, num_permutations=1).spread.name == "neutral"
        renamed = corpus._replace(classes=("x", "y", "z"))
        assert look(renamed, num_permutations=1).spread.name == "x"

    def test_the_spread_of_equal_listeners_is_that_of_sampling(self):
        rng = np.random.default_rng(0)
        labels = 2 * (rng.random((60, 50)) < 0.5)
        found = look(make_corpus(labels), num_permutations=1).spread
        assert found.deviation < 0.03  # 0.07 with sampling
        labels = 2 * (rng.random((60, 50)) < np.linspace(0.1, 0.9, 60)[:, None])
        found = look(make_corpus(labels), num_permutations=1).spread
        assert found.deviation == pytest.approx(0.8 / math.sqrt(12), abs=0.02)

    def test_of_too_few_ratings_no_spread_is_told(self):
        found = look(make_corpus(self.LABELS[:, :5]), num_permutations=1)
        assert math.isnan(found.spread.deviation)


class TestFindings:
    LABELS = biased_labels(0.2)

    def find(self, corpus, word, **options):
        options = {"num_permutations": 1, **options}
        found = look(corpus, **options)
        (finding,) = [x for x in found.findings if word in x.text]
        return finding

    def test_nothing_is_odd_in_a_corpus_in_order(self):
        corpus = make_corpus(self.LABELS, seconds=np.full(80, 3.0))
        found = look(corpus, num_permutations=1, min_clips=24)
        assert texts(found, doubtful=True) == []
        assert all(finding.fix == "" for finding in found.findings)

    def test_copies_are_counted_as_they_were_found(self):
        problems = Problems()
        problems.warning("duplicate_clip", "clip 'c1'", "the same")
        corpus = make_corpus(self.LABELS)
        finding = self.find(corpus, "content of another", problems=problems)
        assert finding.doubtful
        assert finding.text.startswith("1 clip(s)")

    def test_contents_that_are_not_known_are_not_called_different(self):
        corpus = make_corpus(self.LABELS, content_hashes=("",) * 79 + ("x",))
        assert "among the 1 clips" in self.find(corpus, "equal clips").text

    @pytest.mark.parametrize(
        ("changes", "wanted", "doubtful"),
        [
            ({}, "lengths of the clips: unknown", False),
            ({"summary": {"hours": 0.1}}, "0.10 hours in all, 4.5 s on average", False),
            ({"seconds": np.full(80, 2.0)}, "2.00 to 2.00 s", False),
            (
                {"seconds": np.array([0.1, 40.0] + [2.0] * 78)},
                "1 below 0.5 s, 1 above 30 s",
                True,
            ),
            ({"seconds": np.full(80, np.nan)}, "unknown", False),
        ],
    )
    def test_lengths(self, changes, wanted, doubtful):
        word = "unknown" if "unknown" in wanted else "clips last"
        finding = self.find(make_corpus(self.LABELS, **changes), word)
        assert wanted in finding.text
        assert finding.doubtful is doubtful

    @pytest.mark.parametrize("group_by", ["clip", "speaker", "session"])
    def test_speakers_on_both_sides(self, group_by):
        corpus = make_corpus(self.LABELS)
        finding = self.find(corpus, "speakers,", group_by=group_by)
        assert finding.doubtful is (group_by == "clip")

    def test_unknown_speakers(self):
        corpus = make_corpus(self.LABELS, speakers=np.array([""] * 80))
        assert "speaker column" in self.find(corpus, "0 speakers").fix

    def test_speakers_who_return_and_listeners_of_one_session(self):
        labels = self.LABELS.copy()
        labels[0, 40:] = labels[1, 40:] = labels[2, :40] = -1
        sessions = np.repeat(["one", "two"], 40)
        corpus = make_corpus(labels, sessions=sessions)
        one = self.find(corpus, "one session only")
        assert one.text.startswith("3 of 4 listeners")
        assert one.doubtful
        assert "confounded" in one.fix
        several = self.find(corpus, "several sessions", group_by="session")
        assert several.text.startswith("4 speaker(s)")
        assert several.doubtful
        assert not self.find(corpus, "several sessions", group_by="speaker").doubtful

    def test_listeners_with_few_clips(self):
        labels = self.LABELS.copy()
        labels[1, 5:] = -1
        finding = self.find(make_corpus(labels), "fewer than 24 clips", min_clips=24)
        assert finding.text.startswith("1 of 4 listeners")
        assert finding.text.endswith(": l1")
        assert finding.doubtful

    def test_a_listener_who_always_says_the_same(self):
        labels = self.LABELS.copy()
        labels[2] = 1
        finding = self.find(make_corpus(labels), "always gave the same label")
        assert finding.text.endswith(": l2")

    def test_rare_classes_and_classes_that_some_never_give(self):
        labels = np.where(self.LABELS == 2, 0, self.LABELS)
        labels[0, :2] = 2
        corpus = make_corpus(labels)
        assert "neutral (2)" in self.find(corpus, "fewer than 10 clips").text
        unused = self.find(corpus, "never given by some")
        assert "neutral (3)" in unused.text
        assert not unused.doubtful

    def test_clips_with_one_rater(self):
        labels = self.LABELS.copy()
        labels[1:, 30:] = -1
        finding = self.find(make_corpus(labels), "raters of a clip")
        assert "1 to 4" in finding.text
        assert "50 of 80 clips have one" in finding.text
        assert "add raters" in finding.fix
