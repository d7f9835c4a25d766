"""Two independent axes: who is held out, and what is held out. Nothing leaks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.data import splits
from metaperser_jax.data.splits import Fold, SplitSpec
from metaperser_jax.errors import InputError
from metaperser_jax.typing import Corpus, Ratings


def make_corpus(
    num_clips=12, num_listeners=6, speakers=(), sessions=(), hashes=(), share=1.0
):
    """Each listener rates a share of the clips; clip i is 'clip i'."""
    rng = np.random.default_rng(num_clips * 100 + num_listeners)
    pairs = [(c, a) for c in range(num_clips) for a in range(num_listeners)]
    rated = [pair for pair in pairs if rng.random() < share] or pairs[:1]
    clip, annotator = np.array(rated, np.int32).T
    return Corpus(
        name="toy",
        clips=tuple(f"clip {i}" for i in range(num_clips)),
        annotators=tuple(f"listener {i}" for i in range(num_listeners)),
        classes=("a", "b"),
        dimensions=(),
        speakers=np.array(speakers or [""] * num_clips),
        sessions=np.array(sessions or [""] * num_clips),
        ratings=Ratings(
            clip,
            annotator,
            np.eye(2, dtype=np.float32)[clip % 2],
            np.ones((len(clip), 2), bool),
            np.zeros((len(clip), 0), np.float32),
        ),
        content_hashes=tuple(hashes) or tuple(f"hash {i}" for i in range(num_clips)),
        read_audio=None,
        features=None,
        ground_truth=None,
        summary={},
    )


def names(prefix, of_clip):
    return [f"{prefix}{i}" for i in of_clip]


@st.composite
def cases(draw):
    """A corpus with speakers inside sessions, and a split it can give."""
    num_clips = draw(st.integers(6, 40))
    num_listeners = draw(st.integers(2, 12))
    num_sessions = draw(st.integers(3, 6))
    session = np.arange(num_clips) % num_sessions
    speaker = session * 2 + (np.arange(num_clips) // num_sessions) % 2
    num_test = draw(st.integers(1, max(num_listeners - 1, 1)))
    spec = SplitSpec(
        num_test_listeners=num_test,
        num_dev_listeners=draw(st.integers(0, num_listeners - 1 - num_test)),
        group_by=draw(st.sampled_from(["clip", "speaker", "session"])),
        unseen_fraction=draw(st.sampled_from([0.0, 0.25, 0.4])),
        dev_fraction=draw(st.sampled_from([0.15, 0.3])),
        seed=draw(st.integers(0, 5)),
    )
    corpus = make_corpus(
        num_clips,
        num_listeners,
        names("speaker", speaker),
        names("session", session),
        share=draw(st.sampled_from([0.5, 1.0])),
    )
    return corpus, spec


class TestFolds:
    @given(cases())
    @settings(max_examples=150, deadline=None)
    def test_every_listener_is_tested_exactly_once(self, case):
        corpus, spec = case
        tested = np.concatenate(
            [fold.test_listeners for fold in splits.make_folds(corpus, spec)]
        )
        assert sorted(tested) == list(range(len(corpus.annotators)))

    @given(cases())
    @settings(max_examples=150, deadline=None)
    def test_listeners_of_a_fold_are_disjoint_and_complete(self, case):
        corpus, spec = case
        for fold in splits.make_folds(corpus, spec):
            train, dev, test = map(
                set, (fold.train_listeners, fold.dev_listeners, fold.test_listeners)
            )
            assert train
            assert not test & (train | dev)
            assert len(train | dev | test) == len(corpus.annotators)
            if spec.num_dev_listeners:
                assert len(dev) == spec.num_dev_listeners
                assert not dev & train
            else:
                assert dev == train

    @given(cases())
    @settings(max_examples=150, deadline=None)
    def test_unseen_clips_are_whole_groups_that_training_never_hears(self, case):
        corpus, spec = case
        groups = splits.clip_groups(corpus, spec.group_by)
        for fold in splits.make_folds(corpus, spec):
            assert fold.train_clips.any()
            assert not (fold.unseen_clips & (fold.train_clips | fold.dev_clips)).any()
            assert fold.unseen_clips.any() == (spec.unseen_fraction > 0)
            for group in np.unique(groups):
                assert len(set(fold.unseen_clips[groups == group])) == 1
                assert len(set(fold.train_clips[groups == group])) == 1
            if spec.group_by != "clip":
                inside = set(corpus.speakers[fold.train_clips])
                assert not inside & set(corpus.speakers[fold.unseen_clips])
            if spec.group_by == "session":
                inside = set(corpus.sessions[fold.train_clips])
                assert not inside & set(corpus.sessions[fold.unseen_clips])

    @given(cases())
    @settings(max_examples=100, deadline=None)
    def test_development_clips(self, case):
        corpus, spec = case
        for fold in splits.make_folds(corpus, spec):
            if spec.num_dev_listeners:
                np.testing.assert_array_equal(fold.dev_clips, fold.train_clips)
            else:
                assert fold.dev_clips.any()
                assert not (fold.dev_clips & fold.train_clips).any()

    def test_the_same_seed_gives_the_same_folds(self):
        corpus = make_corpus()
        first, again, other = (
            splits.make_folds(corpus, SplitSpec(seed=seed)) for seed in (1, 1, 2)
        )
        for a, b in zip(first, again, strict=True):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
        tests = [[list(fold.test_listeners) for fold in f] for f in (first, other)]
        assert tests[0] != tests[1]

    @pytest.mark.parametrize(
        ("num_test", "num_folds", "expected"),
        [
            (1, 0, [1] * 6),
            (2, 0, [2] * 3),
            (4, 0, [4, 2]),
            (2, 2, [2, 2]),
            (2, 9, [2] * 3),
        ],
    )
    def test_number_and_size_of_folds(self, num_test, num_folds, expected):
        spec = SplitSpec(num_test_listeners=num_test, num_folds=num_folds)
        folds = splits.make_folds(make_corpus(), spec)
        assert [len(fold.test_listeners) for fold in folds] == expected
        assert [fold.index for fold in folds] == list(range(len(expected)))

    def test_folds_take_turns_in_what_is_unseen(self):
        folds = splits.make_folds(make_corpus(), SplitSpec(unseen_fraction=0.25))
        held_out = np.stack([fold.unseen_clips for fold in folds]).sum(0)
        assert held_out.min() >= 1  # six folds of three clips cover twelve

    def test_2443_listeners(self):
        corpus = make_corpus(num_clips=4, num_listeners=2443)
        spec = SplitSpec(num_test_listeners=500, num_dev_listeners=100)
        folds = splits.make_folds(corpus, spec)
        assert [len(fold.test_listeners) for fold in folds] == [500] * 4 + [443]


SESSIONS = names("s", np.arange(20) // 4)  # s0 to s4, four clips each
SPEAKERS = names("v", np.arange(20) // 2)
ROTATION = (
    (("s0", "s1", "s2"), ("s4",), ("s3",)),
    (("s0", "s1", "s3"), ("s4",), ("s2",)),
    (("s2", "s3", "s4"), ("s1",), ("s0",)),
)


class TestPartitions:
    """The published folds of a corpus, crossed with the listeners."""

    CORPUS = make_corpus(20, 6, SPEAKERS, SESSIONS)

    def folds(self, corpus=CORPUS, **changes):
        spec = SplitSpec(group_by="session", partitions=ROTATION)._replace(**changes)
        return splits.make_folds(corpus, spec)

    def test_every_listener_is_tested_once_in_each(self):
        folds = self.folds()
        found = [(fold.partition, int(fold.test_listeners[0])) for fold in folds]
        assert sorted(found) == [(p, a) for p in range(3) for a in range(6)]
        assert [fold.index for fold in folds] == list(range(18))

    def test_not_crossed_every_listener_is_tested_in_one_in_turn(self):
        folds = self.folds(crossed=False)
        found = sorted((int(f.test_listeners[0]), f.partition) for f in folds)
        assert [listener for listener, _ in found] == list(range(6))
        partitions = [partition for _, partition in found]
        assert np.bincount(partitions).tolist() == [2, 2, 2]

    def test_clips_are_those_of_the_named_sessions(self):
        sessions = self.CORPUS.sessions
        for fold in self.folds():
            train, dev, test = ROTATION[fold.partition]
            assert set(sessions[fold.train_clips]) == set(train)
            assert set(sessions[fold.unseen_clips]) == set(test)
            assert set(sessions[fold.dev_clips]) == {*train, *dev}
            assert fold.train_clips.sum() == 4 * len(train)

    def test_without_development_listeners_the_development_sessions_choose(self):
        for fold in self.folds(num_dev_listeners=0):
            dev = set(self.CORPUS.sessions[fold.dev_clips])
            assert dev == set(ROTATION[fold.partition][1])
            np.testing.assert_array_equal(fold.dev_listeners, fold.train_listeners)

    def test_listeners_of_a_kind_are_tested_and_chosen_on_together(self):
        corpus = self.CORPUS._replace(groups=("self", "observer") * 3)
        for fold in self.folds(corpus, num_test_listeners=2):
            kinds = {corpus.groups[a] for a in fold.test_listeners}
            assert len(kinds) == 1
            assert {corpus.groups[a] for a in fold.dev_listeners} == kinds
        observers = self.folds(corpus, test_kinds=("observer",))
        assert {int(f.test_listeners[0]) for f in observers} == {1, 3, 5}
        assert all(len(f.train_listeners) == 4 for f in observers)  # of both kinds

    def test_a_development_listener_has_clips_to_be_asked_on(self):
        """Listener 1 rated session s3 alone: of no use where s3 is held out."""
        ratings = self.CORPUS.ratings
        there = (ratings.annotator != 1) | (self.CORPUS.sessions[ratings.clip] == "s3")
        corpus = self.CORPUS._replace(ratings=Ratings(*(f[there] for f in ratings)))
        chosen = {
            partition: {
                int(f.dev_listeners[0])
                for f in self.folds(corpus)
                if f.partition == partition
            }
            for partition in range(3)
        }
        assert 1 not in chosen[0]
        assert 1 in chosen[1] | chosen[2]

    def test_listeners_with_few_ratings_train_and_are_never_tested(self):
        ratings = self.CORPUS.ratings
        there = (ratings.annotator != 2) | (ratings.clip < 5)
        corpus = self.CORPUS._replace(ratings=Ratings(*(f[there] for f in ratings)))
        folds = self.folds(corpus, min_test_ratings=6)
        assert 2 not in {int(f.test_listeners[0]) for f in folds}
        assert any(2 in f.train_listeners for f in folds)
        assert splits.untested(corpus, SplitSpec(min_test_ratings=6)) == 1

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"partitions": ((("s0", "s1"), ("s2",), ("s1",)),)},
                "session s1 stands on",
            ),
            ({"partitions": ((("s0",), ("s2",), ("S1",)),)}, "S1 .test.; there are s0"),
            ({"partitions": ((("s0",), ("sx",), ("s1",)),)}, r"sx \(dev\)"),
            ({"group_by": "clip"}, "set group_by"),
            ({"test_kinds": ("expert",)}, "test_kinds names 'expert'"),
            ({"min_test_ratings": 99}, "no listener has 99 ratings"),
        ],
    )
    def test_what_cannot_be_is_refused(self, changes, message):
        with pytest.raises(InputError, match=message):
            self.folds(**changes)

    @pytest.mark.parametrize("plant", ["content", "speaker"])
    def test_what_is_planted_on_both_sides_is_refused(self, plant):
        planted = {
            "content": {"content_hashes": ("same",) * 20},
            "speaker": {"speakers": np.array(["same"] * 20)},
        }
        corpus = self.CORPUS._replace(**planted[plant])
        with pytest.raises(InputError, match=f"leakage: 1 {plant}"):
            self.folds(corpus)


class TestErrors:
    @pytest.mark.parametrize(
        ("num_listeners", "num_test", "num_dev"), [(1, 1, 0), (2, 1, 1), (6, 5, 1)]
    )
    def test_too_few_listeners(self, num_listeners, num_test, num_dev):
        corpus = make_corpus(num_listeners=num_listeners)
        spec = SplitSpec(num_test_listeners=num_test, num_dev_listeners=num_dev)
        with pytest.raises(InputError, match=r"still train on one: lower split\.num"):
            splits.make_folds(corpus, spec)

    def test_two_listeners_suffice_without_development_listeners(self):
        spec = SplitSpec(num_dev_listeners=0)
        folds = splits.make_folds(make_corpus(num_listeners=2), spec)
        assert [list(f.train_listeners) + list(f.test_listeners) for f in folds] in (
            [[0, 1], [1, 0]],
            [[1, 0], [0, 1]],
        )

    def test_too_few_groups_to_train_on_one(self):
        corpus = make_corpus(speakers=names("s", np.arange(12) % 2))
        spec = SplitSpec(group_by="speaker", num_dev_listeners=0, unseen_fraction=0.5)
        with pytest.raises(InputError, match=r"2 speaker\(s\) cannot give 2 to the"):
            splits.make_folds(corpus, spec)

    def test_nothing_to_choose_checkpoints_on(self):
        spec = SplitSpec(num_dev_listeners=0, dev_fraction=0.0)
        with pytest.raises(InputError, match="neither a development listener nor"):
            splits.make_folds(make_corpus(), spec)

    @pytest.mark.parametrize("group_by", ["speaker", "session"])
    def test_a_corpus_without_names_cannot_be_held_out_by_them(self, group_by):
        with pytest.raises(
            InputError, match=f"names no {group_by}: give the {group_by}"
        ):
            splits.make_folds(make_corpus(), SplitSpec(group_by=group_by))

    @pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0])
    def test_a_fraction_that_cannot_be(self, fraction):
        with pytest.raises(InputError, match="0 <= fraction < 1"):
            splits.make_folds(make_corpus(), SplitSpec(unseen_fraction=fraction))

    def test_a_clip_of_unknown_speaker_is_a_group_of_its_own(self):
        corpus = make_corpus(4, speakers=["x", "", "x", ""])
        groups = splits.clip_groups(corpus, "speaker")
        assert len(set(groups)) == 3
        assert groups[0] == groups[2]


class TestLeakage:
    CORPUS = make_corpus(
        speakers=names("speaker", np.arange(12) // 2),
        sessions=names("session", np.arange(12) // 4),
    )

    def fold(self, **changes):
        """Clips 0-7 (sessions 0 and 1) in training, 8-11 (session 2) held out."""
        clip = np.arange(12)
        fold = Fold(
            0, np.array([0, 1, 2]), np.array([3]), np.array([4, 5]),
            clip < 8, clip < 8, clip >= 8,
        )  # fmt: skip
        return fold._replace(**changes)

    @pytest.mark.parametrize("group_by", ["clip", "speaker", "session"])
    def test_a_clean_fold_passes(self, group_by):
        splits.check_leakage(self.fold(), self.CORPUS, group_by)

    @pytest.mark.parametrize("side", ["train_listeners", "dev_listeners"])
    def test_a_listener_on_both_sides(self, side):
        with pytest.raises(InputError, match=r"1 listener\(s\).*example listener 5"):
            splits.check_leakage(
                self.fold(**{side: np.array([2, 5])}), self.CORPUS, "clip"
            )

    @pytest.mark.parametrize("side", ["train_clips", "dev_clips"])
    def test_a_clip_on_both_sides(self, side):
        leaking = self.fold(**{side: np.arange(12) < 9})
        with pytest.raises(InputError, match=r"1 clip\(s\).*example clip 8"):
            splits.check_leakage(leaking, self.CORPUS, "clip")

    def test_the_same_content_under_two_names(self):
        hashes = [f"hash {i % 9}" for i in range(12)]  # 9, 10, 11 repeat 0, 1, 2
        corpus = make_corpus(hashes=hashes)
        with pytest.raises(InputError, match=r"3 content\(s\).*hash 0, hash 1, hash 2"):
            splits.check_leakage(self.fold(), corpus, "clip")

    def test_unknown_content_is_never_equal(self):
        splits.check_leakage(self.fold(), make_corpus(hashes=[""] * 12), "clip")

    def test_a_speaker_on_both_sides(self):
        speakers = names("speaker", np.arange(12) % 5)
        corpus = self.CORPUS._replace(speakers=np.array(speakers))
        splits.check_leakage(self.fold(), corpus, "clip")  # not asked for
        for group_by in ("speaker", "session"):
            with pytest.raises(InputError, match=r"4 speaker\(s\).*example speaker0"):
                splits.check_leakage(self.fold(), corpus, group_by)

    def test_a_session_on_both_sides(self):
        sessions = np.array(names("session", np.arange(12) // 6))
        corpus = self.CORPUS._replace(sessions=sessions)
        with pytest.raises(InputError, match=r"1 session\(s\).*example session1"):
            splits.check_leakage(self.fold(), corpus, "session")

    def test_no_more_than_three_examples(self):
        corpus = make_corpus(hashes=["same"] * 4 + [f"h{i % 4}" for i in range(8)])
        with pytest.raises(InputError, match=r"4 content\(s\).*h0, h1, h2: training"):
            splits.check_leakage(self.fold(), corpus, "clip")

    def test_make_folds_refuses_a_corpus_that_leaks(self):
        corpus = make_corpus(hashes=["same"] * 12)
        with pytest.raises(InputError, match="leakage: 1 content"):
            splits.make_folds(corpus, SplitSpec())

    def test_speakers_that_cross_sessions_are_refused(self):
        corpus = make_corpus(
            speakers=["one"] * 12, sessions=names("session", np.arange(12) // 4)
        )
        with pytest.raises(InputError, match="leakage: 1 speaker"):
            splits.make_folds(corpus, SplitSpec(group_by="session"))


class TestPools:
    def test_a_pool_keeps_all_shapes_and_names_only_the_kept_listeners(self):
        corpus = make_corpus(share=0.6)
        inputs = np.arange(12, dtype=np.float32).reshape(12, 1, 1)
        row = corpus.ratings.clip.astype(np.int64)
        keep = splits.rated_by(corpus, np.array([1, 3]), np.arange(12) < 5)
        pool = splits.make_pool(corpus.ratings, inputs, row, keep)
        assert pool.inputs is inputs
        assert pool.row.dtype == np.int32
        np.testing.assert_array_equal(pool.annotator >= 0, keep)
        assert set(pool.annotator[keep]) == {1, 3}
        assert pool.clip[pool.annotator >= 0].max() < 5
        np.testing.assert_array_equal(inputs[pool.row, 0, 0], pool.clip)
        np.testing.assert_array_equal(pool.targets.argmax(1), pool.clip % 2)

    def test_rated_by_equals_a_loop(self):
        corpus = make_corpus(share=0.5)
        clips = np.arange(12) % 3 == 0
        expected = [
            a in (0, 2) and bool(clips[c])
            for c, a in zip(corpus.ratings.clip, corpus.ratings.annotator, strict=True)
        ]
        found = splits.rated_by(corpus, np.array([0, 2]), clips)
        np.testing.assert_array_equal(found, expected)

    def test_seen_clips_are_those_that_a_training_listener_labelled_in_training(self):
        corpus = make_corpus(share=0.3)
        fold = splits.make_folds(corpus, SplitSpec(num_test_listeners=3))[0]
        seen = splits.seen_clips(fold, corpus)
        for clip in range(12):
            raters = corpus.ratings.annotator[corpus.ratings.clip == clip]
            labelled = bool(set(raters) & set(fold.train_listeners))
            assert seen[clip] == (labelled and fold.train_clips[clip])
        assert 0 < seen.sum() < fold.train_clips.sum()
