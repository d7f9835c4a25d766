"""From settings to folds: what is read, who sees what, and what a run depends on."""

import csv

import numpy as np
import pytest
import soundfile

from metaperser_jax import experiment as experiment_lib
from metaperser_jax.encoders.encoder import Encoder
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluation.protocol import Outputs
from metaperser_jax.experiment import (
    extract_shard,
    flat_pairs,
    has_answer,
    label_rates,
    open_experiment,
    outputs_of,
    plan_dev,
    prepare_fold,
    selection_loss,
    settings_hash,
    stage_folder,
    trained_methods,
)
from metaperser_jax.settings import LossSettings, from_config
from metaperser_jax.typing import Batch

CLIPS, LISTENERS, WIDTH = 24, 6, 3
CLASSES = ("angry", "happy", "sad")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A manifest: six listeners, 24 clips of 4 speakers, precomputed features."""
    root = tmp_path_factory.mktemp("manifest")
    rng = np.random.default_rng(0)
    with (root / "ratings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "annotator", "label", "speaker"])
        for clip in range(CLIPS):
            for listener in range(LISTENERS):
                chosen = rng.choice(CLASSES, rng.integers(1, 3), replace=False)
                row = [f"c{clip:02d}", f"l{listener}", "|".join(chosen), f"s{clip % 4}"]
                writer.writerow(row)
    with (root / "features.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "a", "b", "constant"])
        for clip in range(CLIPS):
            a, b = rng.normal(5, 3), 100 * rng.normal()
            writer.writerow([f"c{clip:02d}", a, b, 7.0])
    return root


def make_settings(folder, **sections):
    config = {
        "corpus": "manifest",
        "data": {"root": str(folder), "features": "features.csv"},
        "features": {"inputs": "precomputed"},
        "split": {"num_test_listeners": 2, "group_by": "speaker"},
        "head": {"hidden": 4},
        "evaluation": {"num_support": (2, 4), "headline_support": 4, "min_query": 3},
    }
    for name, values in sections.items():
        config[name] = {**config.get(name, {}), **values}
    return from_config(config)


def open_with(folder, tmp_path, **sections):
    settings = make_settings(folder, **sections)
    return open_experiment(settings, tmp_path / "run", Problems())


@pytest.fixture
def opened(folder, tmp_path):
    return open_with(folder, tmp_path)


class TestOpening:
    def test_corpus_features_and_folds_are_there(self, opened):
        assert opened.corpus.annotators == tuple(f"l{i}" for i in range(LISTENERS))
        assert opened.values.shape == (CLIPS, 1, WIDTH)
        assert opened.valid.all()
        assert [len(fold.test_listeners) for fold in opened.folds] == [2, 2, 2]
        assert opened.summary["ratings"] == CLIPS * LISTENERS
        assert opened.problems.rows == []

    def test_hashes_name_the_labels_and_the_inputs(self, folder, opened, tmp_path):
        again = open_with(folder, tmp_path)
        assert again.hashes == opened.hashes
        fewer = open_with(folder, tmp_path, data={"classes": ("angry", "sad")})
        assert fewer.hashes["corpus"] != opened.hashes["corpus"]
        assert fewer.hashes["inputs"] == opened.hashes["inputs"]

    def test_votes_alone_are_inputs_too(self, folder, tmp_path):
        found = open_with(
            folder,
            tmp_path,
            data={"features": None},
            features={"inputs": "other_raters"},
        )
        assert found.values is None
        assert found.hashes["inputs"] == "other_raters"

    @pytest.mark.parametrize(
        ("sections", "message"),
        [
            ({"data": {"features": None}}, "brings none: name the table"),
            ({"features": {"inputs": "audio"}}, "needs audio"),
            ({"split": {"num_test_listeners": 6}}, "still train on one"),
            ({"split": {"group_by": "session"}}, "names no session"),
            (
                {"split": {"unseen_fraction": 0.9, "num_dev_listeners": 0}},
                "cannot give",
            ),
        ],
    )
    def test_choices_that_do_not_fit_the_corpus(
        self, folder, tmp_path, sections, message
    ):
        with pytest.raises(InputError, match=message):
            open_with(folder, tmp_path, **sections)

    def test_a_split_is_refused_before_features_are_computed(
        self, folder, tmp_path, monkeypatch
    ):
        def compute(*_):
            raise AssertionError("features were computed")

        monkeypatch.setattr(experiment_lib, "load_features", compute)
        with pytest.raises(InputError, match="still train on one"):
            open_with(folder, tmp_path, split={"num_test_listeners": 6})

    @pytest.mark.parametrize("chosen", ["", "/somewhere/else"])
    def test_the_cache_lies_beside_the_workdir_unless_named(
        self, folder, tmp_path, chosen
    ):
        settings = make_settings(folder, features={"cache_dir": chosen})
        found = experiment_lib.cache_dir(settings, tmp_path / "run")
        assert str(found) == (chosen or str(tmp_path / "cache"))


class TestFolds:
    @pytest.fixture(params=[0, 1, 2])
    def fold(self, opened, request):
        return opened, prepare_fold(opened, opened.folds[request.param])

    def held(self, pool):
        return pool.annotator >= 0

    def test_training_hears_neither_held_out_listeners_nor_unseen_clips(self, fold):
        _, data = fold
        train = self.held(data.train)
        assert set(data.train.annotator[train]) == set(data.fold.train_listeners)
        assert data.fold.train_clips[data.train.clip[train]].all()
        assert not data.fold.unseen_clips[data.train.clip[train]].any()

    def test_development_and_test_pools(self, fold):
        _, data = fold
        dev = self.held(data.dev)
        assert set(data.dev.annotator[dev]) == set(data.fold.dev_listeners)
        assert not data.fold.unseen_clips[data.dev.clip[dev]].any()
        test = self.held(data.test)
        assert set(data.test.annotator[test]) == set(data.fold.test_listeners)
        assert len(set(data.test.clip[test])) == CLIPS

    def test_scenarios_share_no_clip_and_unseen_no_speaker_with_training(self, fold):
        opened, data = fold
        seen, unseen = data.scenario["seen"], data.scenario["unseen"]
        assert seen.any()
        assert unseen.any()
        assert not (seen & unseen).any()
        trained = set(data.train.clip[self.held(data.train)])
        assert set(data.test.clip[seen]) <= trained
        assert not set(data.test.clip[unseen]) & trained
        speakers = opened.corpus.speakers
        assert not set(speakers[list(trained)]) & set(speakers[data.test.clip[unseen]])

    def test_inputs_are_standardised_on_the_training_clips_alone(self, fold):
        opened, data = fold
        rows = np.unique(data.train.row[self.held(data.train)])
        kept = data.train.inputs[rows, 0]
        np.testing.assert_allclose(kept.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(kept.std(0), [1, 1, 0], atol=1e-5)  # one is constant
        raw = opened.values[rows].mean(0)
        np.testing.assert_allclose(data.scaler.mean, raw, rtol=1e-5)

    def test_all_pools_share_inputs_and_shapes(self, fold):
        _, data = fold
        assert data.train.inputs is data.dev.inputs is data.test.inputs
        assert len(data.train.row) == len(data.test.row) == CLIPS * LISTENERS

    def test_class_weights_are_counted_on_the_training_ratings(self, fold):
        opened, data = fold
        kept = self.held(data.train)
        counts = opened.corpus.ratings.targets[kept].sum(0)
        n = counts.sum()
        expected = (1 / n) / (1 - (1 - 1 / n) ** counts)
        expected *= len(CLASSES) / expected.sum()
        np.testing.assert_allclose(data.train.class_weights, expected, rtol=1e-4)
        assert (data.spec.layers, data.spec.width, data.spec.num_classes) == (1, 3, 3)

    def test_inputs_stay_as_they_are_on_request(self, folder, tmp_path):
        opened = open_with(folder, tmp_path, features={"standardise": False})
        data = prepare_fold(opened, opened.folds[0])
        np.testing.assert_array_equal(data.train.inputs, opened.values)

    def test_unreadable_clips_are_in_no_pool(self, opened):
        broken = opened._replace(valid=np.arange(CLIPS) >= 4)
        data = prepare_fold(broken, broken.folds[0])
        for pool in (data.train, data.dev, data.test):
            assert pool.clip[self.held(pool)].min() == 4

    def test_nothing_to_train_on(self, opened):
        broken = opened._replace(valid=np.zeros(CLIPS, bool))
        with pytest.raises(InputError, match="fold 0 has no training ratings"):
            prepare_fold(broken, broken.folds[0])

    def test_a_test_listener_alone_gets_training_listeners_as_donors(
        self, folder, tmp_path
    ):
        opened = open_with(folder, tmp_path, split={"num_test_listeners": 1})
        data = prepare_fold(opened, opened.folds[0])
        expected = {*data.fold.test_listeners, *data.fold.train_listeners}
        assert set(data.test.annotator[self.held(data.test)]) == expected

    def test_other_raters_inputs_keep_the_test_listeners_votes_out(
        self, folder, tmp_path
    ):
        opened = open_with(
            folder,
            tmp_path,
            data={"features": None},
            features={"inputs": "other_raters", "standardise": False},
        )
        fold = opened.folds[0]
        before = prepare_fold(opened, fold).train.inputs
        ratings = opened.corpus.ratings
        theirs = np.isin(ratings.annotator, fold.test_listeners)
        flipped = np.where(theirs[:, None], 1 - ratings.targets, ratings.targets)
        other = opened._replace(
            corpus=opened.corpus._replace(ratings=ratings._replace(targets=flipped))
        )
        after = prepare_fold(other, fold).train.inputs
        np.testing.assert_array_equal(before, after)


class TestDevelopment:
    def test_draws_are_on_development_listeners_with_enough_clips(self, opened):
        data = prepare_fold(opened, opened.folds[0])
        plan = plan_dev(data, opened.settings, 4, 2, seed=1)
        assert list(plan.annotators) == list(data.fold.dev_listeners)
        support, query = flat_pairs(plan, 2)
        assert support.shape == (2, 2)
        assert query.shape[0] == 2
        rows = np.concatenate([support.ravel(), query[query >= 0]])
        assert set(data.dev.annotator[rows]) == set(data.fold.dev_listeners)

    def test_without_development_listeners_training_listeners_are_asked(
        self, folder, tmp_path
    ):
        opened = open_with(
            folder, tmp_path, split={"num_dev_listeners": 0, "dev_fraction": 0.3}
        )
        data = prepare_fold(opened, opened.folds[0])
        plan = plan_dev(data, opened.settings, 2, 2, seed=1)
        assert list(plan.annotators) == list(data.fold.train_listeners)
        held = data.dev.annotator >= 0
        assert data.fold.dev_clips[data.dev.clip[held]].all()
        assert not set(data.dev.clip[held]) & set(
            data.train.clip[data.train.annotator >= 0]
        )

    def test_nobody_has_enough(self, folder, tmp_path):
        opened = open_with(folder, tmp_path, evaluation={"min_query": 50})
        data = prepare_fold(opened, opened.folds[0])
        with pytest.raises(InputError, match=r"more than 50 rated clips: lower eval"):
            plan_dev(data, opened.settings, 4, 2, seed=1)

    def test_choices_are_made_on_the_plain_likelihood(self, opened, rng):
        data = prepare_fold(opened, opened.folds[0])
        params = {
            "layers": {"weights": np.zeros(1, np.float32)},
            "projector": {
                "kernel": rng.normal(size=(WIDTH, 4)).astype(np.float32),
                "bias": np.zeros(4, np.float32),
            },
            "classifier": {
                "kernel": rng.normal(size=(4, 3)).astype(np.float32),
                "bias": np.zeros(3, np.float32),
            },
        }
        inputs = rng.normal(size=(5, 1, WIDTH)).astype(np.float32)
        targets = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
        batch = Batch(inputs, targets, np.ones((5, 3), bool))
        logits = (
            inputs[:, 0]
            @ params["projector"]["kernel"]
            @ params["classifier"]["kernel"]
        )
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        found = selection_loss(data.spec)(params, batch)
        np.testing.assert_allclose(found, -(targets * logs).sum(-1).mean(), rtol=1e-5)


@pytest.fixture
def recordings(folder, tmp_path, monkeypatch):
    """Settings of a manifest with recordings; the encoder takes their mean."""
    root = tmp_path / "corpus"
    (root / "wav").mkdir(parents=True)
    (root / "ratings.csv").write_bytes((folder / "ratings.csv").read_bytes())
    for clip in range(CLIPS):
        samples = np.full(4000, (clip + 1) / 64, np.float32)
        soundfile.write(root / "wav" / f"c{clip:02d}.wav", samples, 16000)
    asked = []

    def load_encoder(*wanted, **options):
        asked.append((*wanted, *options.values()))
        pooled_fn = lambda params, w, n: (w.sum(1) / n)[:, None, None]  # noqa: E731
        return Encoder("mean", None, pooled_fn, None, {}, "f", 1, 1), {}

    monkeypatch.setattr(experiment_lib, "load_encoder", load_encoder)
    encoder = {"name": "some/encoder", "revision": "v2", "dtype": "bfloat16"}
    settings = make_settings(
        root, data={"features": None}, features={"inputs": "audio"}, encoder=encoder
    )
    return settings, asked


class TestEncoding:
    def test_the_configured_encoder_gives_the_inputs(
        self, recordings, tmp_path, caplog
    ):
        settings, asked = recordings
        with caplog.at_level("INFO"):
            opened = open_experiment(settings, tmp_path / "run", Problems())
        assert asked == [("some/encoder", "v2", "bfloat16")]
        clips = np.arange(1, CLIPS + 1) / 64
        np.testing.assert_allclose(opened.values[:, 0, 0], clips, rtol=1e-3)
        assert caplog.messages[-1].startswith(
            f"features: {CLIPS} clips, 0 from the cache; {CLIPS} encoded, 6 s of audio"
        )

    def test_the_newest_revision_is_none(self, recordings, tmp_path):
        settings, asked = recordings
        settings = settings._replace(encoder=settings.encoder._replace(revision=""))
        open_experiment(settings, tmp_path / "run", Problems())
        assert asked[0][1] is None

    def test_parts_fill_the_cache_for_the_whole(self, recordings, tmp_path, caplog):
        settings, _ = recordings
        with caplog.at_level("INFO"):
            for part in (1, 2, 3):
                workdir = tmp_path / f"run {part}"
                extract_shard(settings, workdir, Problems(), (part, 3))
            open_experiment(settings, tmp_path / "run", Problems())
        assert caplog.messages[0].startswith("features: part 1 of 3 of 24 clips; ")
        assert caplog.messages[-1] == "features: 24 clips, 24 from the cache"

    def test_without_audio_there_are_no_parts(self, folder, tmp_path):
        with pytest.raises(InputError, match="leave --shard out"):
            extract_shard(make_settings(folder), tmp_path, Problems(), (1, 2))


class TestDimensions:
    """Valence and arousal beside the classes, or alone."""

    def opened(self, folder, tmp_path, outputs):
        opened = open_with(folder, tmp_path, loss={"outputs": "categories"})
        count = len(opened.corpus.ratings.clip)
        values = np.random.default_rng(1).normal(3, 2, (count, 2)).astype(np.float32)
        values[::5, 1] = np.nan
        ratings = opened.corpus.ratings._replace(dimensions=values)
        corpus = opened.corpus._replace(
            ratings=ratings, dimensions=("valence", "arousal")
        )
        loss = opened.settings.loss._replace(outputs=outputs)
        settings = opened.settings._replace(loss=loss)
        return opened._replace(corpus=corpus, settings=settings)

    @pytest.mark.parametrize(("outputs", "classes"), [("both", 3), ("dimensions", 0)])
    def test_columns_are_classes_then_standardised_dimensions(
        self, folder, tmp_path, outputs, classes
    ):
        opened = self.opened(folder, tmp_path, outputs)
        data = prepare_fold(opened, opened.folds[0])
        assert (data.spec.num_classes, data.spec.num_dimensions) == (classes, 2)
        assert data.train.targets.shape[1] == data.train.mask.shape[1] == classes + 2
        assert len(data.prior) == classes
        assert outputs_of(opened) == Outputs("softmax", classes, ("valence", "arousal"))
        kept = data.train.annotator >= 0
        z, rated = data.train.targets[kept, classes:], data.train.mask[kept, classes:]
        for column in range(2):
            values = z[rated[:, column], column]
            np.testing.assert_allclose(values.mean(), 0, atol=1e-5)
            np.testing.assert_allclose(values.std(), 1, rtol=1e-5)
        raw = opened.corpus.ratings.dimensions
        there = data.test.mask[:, classes:]
        np.testing.assert_array_equal(there, ~np.isnan(raw))
        back = data.test.targets[:, classes:] * data.scale.deviation + data.scale.mean
        np.testing.assert_allclose(back[there], raw[there], rtol=1e-4, atol=1e-4)

    def test_a_held_out_listeners_grades_do_not_move_the_scale(self, folder, tmp_path):
        opened = self.opened(folder, tmp_path, "both")
        fold = opened.folds[0]
        ratings = opened.corpus.ratings
        outside = ~np.isin(ratings.annotator, fold.train_listeners)
        moved = ratings.dimensions + 100 * outside[:, None]
        corpus = opened.corpus._replace(ratings=ratings._replace(dimensions=moved))
        found = prepare_fold(opened._replace(corpus=corpus), fold).scale
        expected = prepare_fold(opened, fold).scale
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.deviation, expected.deviation)

    def test_a_rating_counts_where_something_learned_is_there(self, folder, tmp_path):
        opened = self.opened(folder, tmp_path, "dimensions")
        ratings = opened.corpus.ratings
        nothing = ratings.dimensions.copy()
        nothing[:7] = np.nan
        corpus = opened.corpus._replace(ratings=ratings._replace(dimensions=nothing))
        for outputs, expected in (("dimensions", 7), ("both", 0), ("categories", 0)):
            answered = has_answer(corpus, LossSettings(outputs=outputs))
            assert (~answered).sum() == expected

    def test_a_corpus_without_dimensions_is_told(self, folder, tmp_path):
        opened = open_with(folder, tmp_path, loss={"outputs": "both"})
        with pytest.raises(InputError, match="no dimensional ratings: name their"):
            prepare_fold(opened, opened.folds[0])


class TestLabels:
    def answered(self, corpus, family):
        return has_answer(corpus, LossSettings(family=family))[:4].tolist()

    def test_who_has_answered(self, opened):
        corpus = opened.corpus
        targets = np.zeros_like(corpus.ratings.targets)
        targets[0, 0] = targets[1, 1] = 1
        mask = np.ones_like(corpus.ratings.mask)
        mask[1, 1] = False  # its only label is not answered
        mask[2] = False
        corpus = corpus._replace(
            ratings=corpus.ratings._replace(targets=targets, mask=mask)
        )
        assert self.answered(corpus, "softmax") == [True, False, False, False]
        assert self.answered(corpus, "sigmoid") == [True, True, False, True]

    def test_rates_of_the_softmax_family_are_shares_and_sum_to_one(self):
        targets = np.array([[1, 0, 0], [1, 1, 0]], np.float32)
        rates = label_rates(targets, np.ones((2, 3), bool), "softmax")
        np.testing.assert_allclose(rates, np.array([1.5, 0.5, 0]) / 3 + 1 / 9)
        np.testing.assert_allclose(sum(rates), 1)

    def test_rates_of_the_sigmoid_family_are_over_what_was_answered(self):
        targets = np.array([[1, 1], [1, 0]], np.float32)
        mask = np.array([[True, False], [True, True]])
        np.testing.assert_allclose(
            label_rates(targets, mask, "sigmoid"), [2.5 / 3, 0.5 / 2]
        )


class TestStages:
    @pytest.mark.parametrize(
        ("wanted", "trained"),
        [
            (("no_adaptation", "base_rate"), []),
            (("oracle",), ["full"]),
            (("wrong_listener", "anil"), ["full", "anil"]),
            (("maml", "full", "ground_truth"), ["full", "maml"]),
        ],
    )
    def test_what_is_trained(self, folder, wanted, trained):
        settings = make_settings(folder, evaluation={"methods": wanted})
        assert list(trained_methods(settings)) == trained

    def test_each_stage_of_each_fold_has_a_folder(self, tmp_path):
        found = stage_folder(tmp_path, 3, "full")
        assert found == tmp_path / "fold_03" / "full"


class TestHash:
    @pytest.mark.parametrize(
        "sections",
        [
            {"meta": {"num_steps": 3}},
            {"split": {"seed": 1}},
            {"loss": {"smoothing": 0.1}},
            {"data": {"min_ratings": 2}},
            {"encoder": {"revision": "main"}},
            {
                "evaluation": {"headline_support": 2}
            },  # development listeners adapt to it
            {"evaluation": {"min_query": 2}},
        ],
    )
    def test_training_depends_on(self, folder, sections):
        base = settings_hash(make_settings(folder))
        assert settings_hash(make_settings(folder, **sections)) != base

    @pytest.mark.parametrize(
        "sections",
        [
            {},
            {"evaluation": {"num_draws": 3, "methods": ("full",)}},
            {"features": {"cache_dir": "/elsewhere"}},
            {"features": {"batch_size": 4, "memory_gb": 1}},
            {"meta": {"clip_norm": 1}},  # the default, as a whole number
        ],
    )
    def test_training_does_not_depend_on(self, folder, sections):
        base = settings_hash(make_settings(folder))
        assert settings_hash(make_settings(folder, **sections)) == base
