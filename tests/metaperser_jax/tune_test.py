"""Tuning an encoder: learnt from training listeners alone, resumed to the same bits."""

import functools
import json
import pathlib
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaperser_jax import application, trees, tune
from metaperser_jax import experiment as experiment_lib
from metaperser_jax import mesh as meshes
from metaperser_jax.checkpoints import MODEL_FILE, load_meta_params, load_origin
from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.pretrained import load_encoder, save_encoder
from metaperser_jax.encoders.transformer import init_params
from metaperser_jax.encoders.tuning import merge
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.experiment import open_experiment, prepare_fold
from metaperser_jax.features.cache import Contents
from metaperser_jax.results import encoder_facts
from metaperser_jax.settings import from_config
from metaperser_jax.training.tuning import Sums
from metaperser_jax.training.writers import read_curves
from metaperser_jax.typing import Corpus, Ratings
from tests.metaperser_jax import meshed

ROOT = pathlib.Path(__file__).parents[2]
CLIPS, LISTENERS, BROKEN = 24, 6, 7
TINY = SpeechConfig(
    model_type="hubert",
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    conv_dim=(8, 8),
    conv_kernel=(40, 20),
    conv_stride=(20, 20),
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    mask_time_length=2,
    layerdrop=0.0,
)


def save_tiny(folder, config=TINY, seed=0):
    """Saves an encoder with drawn weights; compiling `init_params` takes longer."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: init_params(config, 0))

    def draw(leaf):
        noise = rng.normal(size=leaf.shape) / np.sqrt(max(leaf.shape[-2:-1] or (9,)))
        return (noise + (leaf.ndim < 2)).astype(np.float32)

    save_encoder(folder, config, jax.tree.map(draw, shapes), random_weights=True)
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("encoder") / "tiny")


def tone(clip, seed=0):
    """Half a second or less, low and steady or high and trembling."""
    rng = np.random.default_rng((seed, clip))
    time = np.arange(5000 + 100 * clip) / 16_000
    pitch = (150, 900)[clip % 2] * (1 + 0.1 * rng.random())
    wave = np.sin(2 * np.pi * pitch * time) + 0.05 * rng.normal(size=time.shape)
    return (0.3 * wave).astype(np.float32)


def toy_corpus(seen=None, targets=None, audio=tone):
    """Six listeners heard all clips of four speakers; the last hears the opposite.

    `seen` is a list to which the number of each clip that is read is added.
    """
    clip, annotator = np.divmod(np.arange(CLIPS * LISTENERS), LISTENERS)
    high = (clip % 2) ^ (annotator == LISTENERS - 1)

    def read_audio(number):
        if number == BROKEN:
            raise InputError("cannot be read")
        if seen is not None:
            seen.append(number)
        return audio(number)

    ratings = Ratings(
        clip.astype(np.int32),
        annotator.astype(np.int32),
        np.eye(2, dtype=np.float32)[high] if targets is None else targets,
        np.ones((len(clip), 2), bool),
        np.zeros((len(clip), 0), np.float32),
    )
    return Corpus(
        "toy",
        tuple(f"c{i}" for i in range(CLIPS)),
        tuple(f"l{i}" for i in range(LISTENERS)),
        ("low", "high"),
        (),
        np.array([f"s{i % 4}" for i in range(CLIPS)]),
        np.array([""] * CLIPS),
        ratings,
        tuple(f"hash {i}" for i in range(CLIPS)),
        read_audio,
        None,
        None,
        {},
    )


def make_settings(path, **sections):
    config = {
        "corpus": "synthetic",
        "tensorboard": False,
        "encoder": {
            "name": path, "tuning": "lora", "lora_rank": 2, "epochs": 2,
            "batch_size": 4, "learning_rate": 1e-3,
        },
        "features": {"batch_size": 4},
        "split": {"num_folds": 1, "group_by": "speaker"},
        "head": {"hidden": 4},
        "meta": {"max_skipped": 2},
        "evaluation": {"num_support": (2,), "headline_support": 2, "min_query": 3},
    }  # fmt: skip
    for name, values in sections.items():
        config[name] = {**config.get(name, {}), **values}
    return from_config(config)


@pytest.fixture(scope="module", autouse=True)
def shared():
    """Runs with the same settings share what is loaded and compiled."""
    made, make = {}, tune.make_functions

    def make_functions(encoder, tuning, settings, num_classes):
        key = (str(encoder.config), tuning, settings.encoder.remat, num_classes)
        if key not in made:
            made[key] = make(encoder, tuning, settings, num_classes)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "make_functions", make_functions)
        patch.setattr(experiment_lib, "load_encoder", functools.cache(load_encoder))
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Features of the encoder before tuning, shared by all tests."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def opened(tiny, cache, tmp_path, monkeypatch):
    """Opens an experiment on the toy corpus."""

    def opened(corpus=None, workdir="run", path=tiny, **sections):
        chosen = corpus or toy_corpus()
        monkeypatch.setattr(experiment_lib, "load_corpus", lambda *_: chosen)
        sections.setdefault("features", {})["cache_dir"] = cache
        settings = make_settings(path, **sections)
        return open_experiment(settings, tmp_path / workdir, Problems())

    return opened


def run(experiment, training=True):
    """Tunes the first fold; returns the experiment as that fold sees it."""
    return next(tune.each_fold(experiment, training))[0]


def train_alone(experiment):
    """Tunes the first fold and goes no further."""
    base = tune.open_base(experiment)
    tune.tune(experiment, prepare_fold(experiment, experiment.folds[0]), base)


def folder_of(experiment):
    return experiment.workdir / "fold_00" / "tune"


def files_of(experiment):
    names = ("curves.jsonl", MODEL_FILE)
    return [(folder_of(experiment) / name).read_bytes() for name in names]


MODES = {
    "lora": {"tuning": "lora"},
    "full": {"tuning": "full", "accumulate": 2},
    "top_n": {"tuning": "top_n", "num_tuned_layers": 1, "remat": True},
}


@pytest.fixture(params=MODES, scope="module")
def mode(request, tiny, cache, tmp_path_factory):
    """A run from audio on, lora's to the report: its experiment before and after."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    config = smoke_config(
        encoder={
            "name": tiny, **MODES[name], "lora_rank": 2, "epochs": 4, "batch_size": 4,
            "learning_rate": 3e-3,
        },
        features={"cache_dir": cache, "batch_size": 4},
        pretrain={"learning_rate": 0.03, "epochs": 1},
        split={"num_test_listeners": 1, "num_dev_listeners": 1, "group_by": "speaker",
               "unseen_fraction": 0.25},
        head={"hidden": 4},
        evaluation={"num_support": (2,), "headline_support": 2, "min_query": 3,
                    "methods": ("no_adaptation", "base_rate")},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "kept as it is")
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        corpus = toy_corpus()
        patch.setattr(experiment_lib, "load_corpus", lambda *_: corpus)
        until = "all" if name == "lora" else "train"
        code = application.run(config, mode=until, workdir=str(folder / "run"))
        settings = from_config(config)
        experiment = open_experiment(settings, folder / "run", Problems())
    assert code == 0
    return name, tiny, experiment, run(experiment, training=False)


def smoke_config(**sections):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        config = runpy.run_path(str(ROOT / "configs" / "smoke.py"))["get_config"]()
    for name, values in sections.items():
        config[name].update(values)
    return config


class TestModes:
    def test_the_report_names_what_was_trained(self, mode):
        name, path, experiment, _ = mode
        counts = {
            "lora": "64 of 2,468", "full": "852 of 2,468", "top_n": "600 of 2,468",
        }  # fmt: skip
        fact = f"{path}, {name}: {counts[name]} parameters trained in each fold"
        assert encoder_facts(experiment) == {"encoder": fact}
        if name != "lora":
            return
        found = json.loads((experiment.workdir / "run.json").read_text())
        assert found["versions"]["encoder"] == fact
        assert found["config"]["encoder.tuning"] == name
        page = (experiment.workdir / "report" / "report.html").read_text("utf-8")
        assert fact in page
        assert "Encoder tuning" in page

    def test_the_loss_falls(self, mode):
        _, _, experiment, _ = mode
        rows = read_curves(folder_of(experiment) / "curves.jsonl")
        assert len(rows) == 5
        assert rows[-1]["train_loss"] < 0.9 * rows[1]["train_loss"]
        assert min(row["dev_loss"] for row in rows[1:]) < rows[0]["dev_loss"]

    def test_only_what_is_trained_differs_from_the_encoder(self, mode):
        name, path, experiment, _ = mode
        _, params = load_encoder(path)
        base = tune.open_base(experiment)
        trained = tune.load_trained(folder_of(experiment), base)
        tuned = trees.flatten(merge(base.frozen, trained, base.tuning))
        differing = {
            path
            for path, leaf in trees.flatten(params).items()
            if not np.array_equal(leaf, tuned[path])
        }
        attention = "encoder/layers_0/attention"
        expected = {
            "lora": {f"{attention}/{n}_proj/kernel" for n in "qv"},
            "full": {p for p in tuned if not p.startswith("feature_extractor/")},
            "top_n": {p for p in tuned if p.startswith("encoder/layers_0/")},
        }[name]
        still = {p for p in expected if "k_proj/bias" in p}  # softmax does not see it
        assert expected - still <= differing <= expected

    def test_the_file_holds_what_was_trained_the_head_and_the_origin(self, mode):
        name, path, experiment, _ = mode
        encoder, params = load_encoder(path)
        found = load_meta_params(folder_of(experiment)).params
        origin = load_origin(folder_of(experiment))
        count = sum(leaf.size for leaf in jax.tree.leaves(found["encoder"]))
        total = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert (origin["num_trained"], origin["num_parameters"]) == (count, total)
        assert origin["base"] == encoder.fingerprint
        assert origin["tuning"]["mode"] == name
        assert count == 2 * 2 * (8 + 8) if name == "lora" else 64 < count < total
        assert set(found["head"]) == {"layers", "projector", "classifier"}

    def test_the_fold_reads_the_features_of_its_encoder(self, mode):
        _, _, experiment, tuned = mode
        base = tune.open_base(experiment)
        trained = tune.load_trained(folder_of(experiment), base)
        waveform = tone(3)
        expected = base.pooled_fn(
            base.frozen, trained, waveform[None], np.array([len(waveform)])
        )
        np.testing.assert_allclose(tuned.values[3], expected[0], rtol=2e-3, atol=2e-3)
        assert np.abs(tuned.values[3] - experiment.values[3]).max() > 0.01
        assert tuned.hashes["corpus"] == experiment.hashes["corpus"]
        assert tuned.hashes["inputs"] != experiment.hashes["inputs"]

    def test_each_encoder_has_a_cache_of_its_own(self, mode, cache):
        _, _, experiment, tuned = mode
        keys = {
            Contents("", seen.hashes["inputs"], "", "").key()
            for seen in (experiment, tuned)
        }
        assert len(keys) == 2
        assert keys <= {
            path.name for path in (pathlib.Path(cache) / "features").iterdir()
        }

    def test_a_clip_that_cannot_be_read_is_told_once(self, mode):
        _, _, experiment, tuned = mode
        counts = experiment.problems.counts()
        assert counts.pop("error unreadable_clip") == 1
        assert set(counts) <= {"warning random_weights"}
        assert np.flatnonzero(~tuned.valid).tolist() == [BROKEN]

    def test_training_again_finds_the_same(self, mode):
        _, _, experiment, tuned = mode
        again = run(experiment, training=True)
        np.testing.assert_array_equal(again.values, tuned.values)
        assert again.hashes == tuned.hashes


class TestResuming:
    @pytest.fixture
    def stop_at(self, monkeypatch):
        """Interrupts the run when a step begins."""
        make_advance = tune.make_advance

        def stop_at(wanted):
            def interrupted(*arguments):
                advance = make_advance(*arguments)

                def step_or_stop(current, steps):
                    if wanted in steps:
                        raise KeyboardInterrupt
                    return advance(current, steps)

                return step_or_stop

            monkeypatch.setattr(tune, "make_advance", interrupted)

        return stop_at

    def test_a_stopped_run_goes_on_to_the_same_bits(self, opened, stop_at):
        whole = opened(workdir="whole")
        train_alone(whole)
        stopped = opened(workdir="stopped")
        for step in (1, 6):  # an epoch has five steps
            stop_at(step)
            with pytest.raises(KeyboardInterrupt):
                train_alone(stopped)
        stop_at(None)
        train_alone(stopped)
        assert files_of(stopped) == files_of(whole)

    def test_a_complete_stage_is_not_run_again(self, opened, stop_at):
        experiment = opened()
        train_alone(experiment)
        before = files_of(experiment)
        stop_at(0)
        train_alone(experiment)
        assert files_of(experiment) == before

    def test_what_was_trained_from_another_encoder_is_refused(self, opened, tmp_path):
        train_alone(opened())
        other = save_tiny(tmp_path / "other", seed=1)
        for training in (True, False):
            with pytest.raises(InputError, match="build on something else") as error:
                run(opened(path=other), training)
            assert "\n  base: " in str(error.value)
            with pytest.raises(InputError, match=r"tuning: .*'alpha': 16.0.* there"):
                run(opened(encoder={"lora_alpha": 4.0}), training)

    def test_evaluating_what_was_not_trained(self, opened):
        with pytest.raises(InputError, match="Train first"):
            run(opened(), training=False)


class TestLeakage:
    """Neither a held-out listener nor an unseen clip leaves a trace."""

    def altered(self, experiment, part):
        """Returns the corpus with other labels, or other recordings, in one part."""
        corpus, fold = experiment.corpus, experiment.folds[0]
        ratings, rng = corpus.ratings, np.random.default_rng(0)
        rows = {
            "test listener": np.isin(ratings.annotator, fold.test_listeners),
            "unseen clips": fold.unseen_clips[ratings.clip],
            "training": np.isin(ratings.annotator, fold.train_listeners)
            & fold.train_clips[ratings.clip],
        }[part]
        targets = ratings.targets.copy()
        targets[rows] = np.eye(2, dtype=np.float32)[rng.integers(0, 2, rows.sum())]
        assert not np.array_equal(targets, ratings.targets)
        found = toy_corpus(targets=targets)
        if part == "unseen clips":
            others = toy_corpus(audio=functools.partial(tone, seed=1))
            hashes = np.array(corpus.content_hashes)
            hashes = np.where(fold.unseen_clips, np.char.add(hashes, "!"), hashes)
            return found._replace(
                content_hashes=tuple(hashes.tolist()),
                read_audio=lambda n: (
                    others if fold.unseen_clips[n] else found
                ).read_audio(n),
            )
        return found

    def test_what_is_learnt_depends_on_training_alone(self, opened):
        usual = opened(workdir="usual")
        train_alone(usual)
        for part in ("test listener", "unseen clips", "training"):
            other = opened(self.altered(usual, part), workdir=part)
            train_alone(other)
            same = files_of(other) == files_of(usual)
            assert same is (part != "training"), part

    @pytest.mark.parametrize("num_dev_listeners", [1, 0])
    def test_no_unseen_clip_is_read(self, opened, num_dev_listeners):
        read = []
        experiment = opened(
            toy_corpus(read), split={"num_dev_listeners": num_dev_listeners}
        )
        fold = experiment.folds[0]
        assert fold.unseen_clips.any()
        assert set(read) <= set(range(CLIPS)) - {BROKEN}
        read.clear()
        train_alone(experiment)
        wanted = np.flatnonzero(fold.train_clips | fold.dev_clips)
        assert set(read) == set(wanted.tolist()) - {BROKEN}


class TestDivergence:
    def poisoned(self, monkeypatch, steps):
        """Makes the gradient of some steps NaN."""
        make, count = tune.make_functions, iter(range(100))

        def make_functions(*arguments):
            gradient_fn, pooled_fn = make(*arguments)

            def poisoned(params, *rest):
                found = gradient_fn(params, *rest)
                if next(count) not in steps:
                    return found
                return jax.tree.map(lambda leaf: leaf * np.nan, found)

            return poisoned, pooled_fn

        monkeypatch.setattr(tune, "make_functions", make_functions)

    def test_a_step_that_is_not_finite_is_skipped_and_counted(
        self, opened, monkeypatch
    ):
        self.poisoned(monkeypatch, {2})
        experiment = opened()
        train_alone(experiment)
        (row,) = [r for r in experiment.problems.rows if r.kind == "skipped_steps"]
        assert row.where == "fold 00 tune"
        assert row.message.startswith("1 steps were not finite")
        found = load_meta_params(folder_of(experiment)).params
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))

    def test_too_many_in_a_row_stop_the_run(self, opened, monkeypatch):
        self.poisoned(monkeypatch, {3, 4})
        with pytest.raises(InputError, match=r"at step 5\). Lower encoder.learning"):
            train_alone(opened())


class TestBatches:
    @given(
        samples=st.lists(st.sampled_from((8000, 10_000, 12_800)), min_size=1),
        batch_size=st.integers(1, 7),
        accumulate=st.integers(1, 3),
        seed=st.integers(0, 9),
    )
    def test_an_epoch_has_each_clip_once_in_company_of_its_length(
        self, samples, batch_size, accumulate, seed
    ):
        samples = np.array(samples)
        clips = 100 + np.arange(len(samples))
        steps = tune.plan_epoch(clips, samples, batch_size, accumulate, seed)
        again = tune.plan_epoch(clips, samples, batch_size, accumulate, 99)
        assert len(steps) == len(again)
        assert all(len(step) == accumulate for step in steps[:-1])
        batches = [batch for step in steps for batch in step]
        assert sorted(c for part, _ in batches for c in part) == clips.tolist()
        sizes = sorted(len(part) for part, _ in batches)
        assert sizes[1:] == [batch_size] * (len(sizes) - 1)
        mixed = 0
        for part, length in batches:
            lengths = set(samples[part - 100])
            assert length == max(lengths)
            mixed += len(lengths) > 1
        assert mixed < len(set(samples))

    def test_the_seed_decides_order_and_company(self):
        plan = functools.partial(
            tune.plan_epoch, np.arange(50), np.full(50, 8000), 5, 1
        )
        first, again, other = (
            [part.tolist() for ((part, _),) in plan(seed)] for seed in (1, 1, 2)
        )
        assert first == again != other
        assert sorted(map(sorted, first)) != sorted(map(sorted, other))

    def test_a_batch_holds_all_training_labels_of_its_clips(self, opened):
        experiment = opened()
        fold = experiment.folds[0]
        data = prepare_fold(experiment, fold)
        rows = tune.rows_of_clips(data.train)
        assert BROKEN not in rows
        clips = np.array(list(rows)[:3])
        batch = tune.make_batch(
            experiment.corpus, data.train, rows, clips, 8000, 4, width=16
        )
        assert batch.waveforms.shape == (4, 8000)
        assert batch.lengths.tolist() == [*(len(tone(c)) for c in clips), 0]
        kept = batch.mask.any(-1)
        assert kept.sum() == 3 * len(fold.train_listeners)
        ratings = experiment.corpus.ratings
        for place, clip in enumerate(clips):
            mine = kept & (batch.clip == place)
            there = (ratings.clip == clip) & np.isin(
                ratings.annotator, fold.train_listeners
            )
            np.testing.assert_array_equal(
                np.sort(batch.targets[mine], 0), np.sort(ratings.targets[there], 0)
            )
        assert not batch.targets[~kept].any()

    def test_batches_of_a_length_have_one_shape(self, opened, monkeypatch):
        shapes = []

        def gradient_fn(params, fixed, batch, key):
            shapes.append(tuple(part.shape for part in batch))
            return Sums(*jnp.ones(2), jax.tree.map(jnp.zeros_like, params))

        def pooled_fn(frozen, trained, waveforms, lengths):
            return np.zeros((len(lengths), 2, 8), np.float32)

        monkeypatch.setattr(tune, "make_functions", lambda *_: (gradient_fn, pooled_fn))
        train_alone(opened(split={"dev_fraction": 0.25, "num_dev_listeners": 0}))
        pairs = 4 * 16  # of up to 16 labels of a clip
        one = ((4, 8000), (4,), (pairs,), (pairs, 2), (pairs, 2))
        assert shapes == [one] * 6


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"lora_pattern": "q_proj"}, "encoder.lora_pattern='q_proj' fits no kernel"),
        ({"tuning": "top_n", "num_tuned_layers": 2}, "num_tuned_layers=2: expected 1"),
        ({"tuning": "full"}, "encoder.tuning='full': encoder .* has no weights"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_features_are_computed(
    opened, monkeypatch, chosen, message
):
    def load_without_training(*arguments, **options):
        encoder, params = load_encoder(*arguments, **options)
        return encoder._replace(train_fn=None), params

    def compute(*_, **__):
        raise AssertionError("features were computed")

    monkeypatch.setattr(experiment_lib.features, "extract", compute)
    if chosen.get("tuning") == "full":
        monkeypatch.setattr(experiment_lib, "load_encoder", load_without_training)
    with pytest.raises(InputError, match=message):
        opened(encoder=chosen)


ON_TWO_DEVICES = """
import json, pathlib, sys
import jax
from metaperser_jax import mesh as meshes
from tests.metaperser_jax import tune_test

meshes.SMALL = 16  # or all of a toy encoder would be whole
trained = tune_test.train_in(pathlib.Path(sys.argv[1]), sys.argv[2])
split = [not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(trained)]
print(json.dumps([len(jax.devices()), sum(split), len(split)]))
"""


def train_in(folder, path):
    """Trains all of the encoder's tensors; returns them as they are before that."""
    corpus = toy_corpus()
    settings = make_settings(
        path,
        encoder={"tuning": "full", "accumulate": 2},
        features={"cache_dir": str(folder / "cache"), "batch_size": 4},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment_lib, "load_corpus", lambda *_: corpus)
        experiment = open_experiment(settings, folder / "run", Problems())
    train_alone(experiment)
    return meshes.shard(tune.open_base(experiment).trained, meshes.make_mesh())


def test_two_devices_that_share_the_encoder_train_what_one_trains(tiny, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path / "two"), tiny],
        env=meshed.on_devices(2),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    devices, num_split, num_leaves = json.loads(done.stdout.splitlines()[-1])
    assert devices == 2
    assert num_leaves > num_split > 5
    train_in(tmp_path / "one", tiny)
    two, one = (
        read_curves(tmp_path / name / "run" / "fold_00" / "tune" / "curves.jsonl")
        for name in ("two", "one")
    )
    assert len(one) == 3
    for row, other in zip(two, one, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
