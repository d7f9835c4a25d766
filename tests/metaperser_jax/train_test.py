"""Training: what a recipe says is done; every rating in every epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import methods, train
from metaperser_jax.data.splits import Fold
from metaperser_jax.errors import MachineError, Problems
from metaperser_jax.experiment import Experiment, FoldData
from metaperser_jax.settings import from_config
from metaperser_jax.stages import blocks
from metaperser_jax.typing import Corpus, Pool

NOTHING = np.zeros(0)
META = {
    "num_steps": 2, "num_tasks": 2, "duration": "10 steps", "num_support": (2, 3),
    "num_query": 3, "evaluations": 2, "max_skipped": 3,
}  # fmt: skip


def make_experiment(folder, **meta):
    settings = from_config(
        {
            "corpus": "synthetic",
            "tensorboard": False,
            "meta": {**META, **meta},
            "head": {"hidden": 4},
            "evaluation": {
                "num_support": (3,), "headline_support": 3, "min_query": 2,
            },
        }
    )  # fmt: skip
    names = tuple(f"listener {i}" for i in range(5))
    corpus = Corpus(
        "toy", (), names, (), (), NOTHING, NOTHING, None, (), None, None, None, {}
    )
    return Experiment(settings, folder, corpus, {}, None, NOTHING, [], {}, Problems())


def make_data(num_listeners=5, clips=8):
    rng = np.random.default_rng(0)
    size = num_listeners * clips
    pool = Pool(
        rng.normal(size=(size, 1, 3)).astype(np.float32),
        np.arange(size, dtype=np.int32),
        np.arange(size, dtype=np.int32),
        np.repeat(np.arange(num_listeners), clips).astype(np.int32),
        np.eye(2, dtype=np.float32)[rng.integers(0, 2, size)],
        np.ones((size, 2), bool),
    )
    listeners = np.arange(num_listeners)
    fold = Fold(0, listeners, listeners, listeners, NOTHING, NOTHING, NOTHING)
    spec = methods.ModelSpec(1, 3, 2, 4, "none", "softmax", 0.0, False)
    return FoldData(fold, pool, pool, pool, {}, None, spec, ())


class TestRecipes:
    """What a method's recipe says is what its training does."""

    def watch(self, monkeypatch, folder, method, **meta):
        """Runs a method's steps and returns what they were given."""
        seen = {"order": [], "mode": [], "frozen": None, "tasks": set()}
        sample = train.EpisodeSampler.sample

        def spy(sampler, step, num_tasks, num_support, num_query, mode):
            seen["mode"].append(mode)
            seen["tasks"].add(num_tasks)
            return sample(sampler, step, num_tasks, num_support, num_query, mode)

        def make_steps(learner, tx, mesh):
            def take(current, rows, is_real, pool, *, order):
                seen["order"] += [order] * int(is_real.sum())
                rate = current.opt_state.hyperparams["rate_learning_rate"]
                seen["frozen"] = float(rate) == 0.0
                return current, {"query_loss": jnp.zeros(len(is_real))}

            return take

        def run_stage(experiment, stage, start):
            for block in blocks(0, stage.total, stage.every, stage.block):
                start, scalars = stage.advance(start, block)
                assert scalars["train_loss"].shape == (len(block),)
            return start.meta_params

        monkeypatch.setattr(train.EpisodeSampler, "sample", spy)
        monkeypatch.setattr(train, "_meta_train_steps", make_steps)
        monkeypatch.setattr(train, "run_stage", run_stage)
        experiment, data = make_experiment(folder, **meta), make_data()
        shared = train.initial_params(experiment, data, "pretrain")
        train.meta_train(experiment, data, shared, method)
        return seen

    @pytest.mark.parametrize(
        ("method", "mode", "first_order_steps", "frozen"),
        [
            ("full", "independent", 5, False),
            ("minus_csmt", "disjoint", 5, False),
            ("minus_da", "independent", 0, False),
            ("minus_lslr", "independent", 5, True),
            ("maml", "disjoint", 0, True),
            ("fomaml", "disjoint", 10, True),
            ("anil", "independent", 5, False),
            ("reptile", "independent", 10, True),
            ("prototypes", "independent", 10, False),
            ("listener_embedding", "independent", 5, False),
        ],
    )
    def test_mode_order_and_rates(
        self, monkeypatch, tmp_path, method, mode, first_order_steps, frozen
    ):
        seen = self.watch(monkeypatch, tmp_path, method)
        assert set(seen["mode"]) == {mode}
        assert seen["order"] == ["first"] * first_order_steps + ["second"] * (
            10 - first_order_steps
        )
        assert seen["frozen"] is frozen
        assert seen["tasks"] == {2}

    @pytest.mark.parametrize(
        ("method", "meta", "mode", "first"),
        [
            ("full", {"mode": "same", "second_order_from": 1.0}, "same", 10),
            ("full", {"second_order_from": 0.2}, "independent", 2),
            ("minus_da", {"second_order_from": 0.2}, "independent", 0),
            ("minus_csmt", {"mode": "same"}, "disjoint", 5),
        ],
    )
    def test_the_full_method_and_its_ablations_follow_the_settings(
        self, monkeypatch, tmp_path, method, meta, mode, first
    ):
        seen = self.watch(monkeypatch, tmp_path, method, **meta)
        assert set(seen["mode"]) == {mode}
        assert seen["order"].count("first") == first

    def test_an_epoch_is_every_listener_once(self, monkeypatch, tmp_path):
        seen = self.watch(monkeypatch, tmp_path, "full", duration="4 epochs")
        assert len(seen["order"]) == 4 * 3  # five listeners, two at a time

    def test_no_more_tasks_than_listeners(self, monkeypatch, tmp_path):
        seen = self.watch(monkeypatch, tmp_path, "full", num_tasks=50)
        assert seen["tasks"] == {5}


class TestBlocks:
    """Steps are taken several at once, and nothing else is new."""

    def run(self, monkeypatch, folder, most):
        """Trains with looks every 4 of 9 steps and another order from the fifth on.

        Returns what the stage leaves, and the blocks that were made.
        """
        made = []

        def make_steps(*arguments):
            made.append(train.steps.make_meta_train_steps(*arguments))
            return made[-1]

        monkeypatch.setattr(train, "_meta_train_steps", make_steps)
        monkeypatch.setattr(train, "BLOCK", most)
        experiment, data = make_experiment(folder, duration="9 steps"), make_data()
        shared = train.initial_params(experiment, data, "pretrain")
        train.meta_train(experiment, data, shared, "full")
        place = folder / "fold_00" / "full"
        names = ("curves.jsonl", "meta_params.safetensors")
        return [(place / name).read_bytes() for name in names], made

    def test_blocks_leave_the_same_files_and_two_compilations(
        self, monkeypatch, tmp_path
    ):
        one_by_one, _ = self.run(monkeypatch, tmp_path / "one by one", 1)
        at_once, (steps_fn,) = self.run(monkeypatch, tmp_path / "at once", 3)
        assert at_once == one_by_one
        assert steps_fn._cache_size() == 2


class TestPretraining:
    @pytest.mark.parametrize(
        ("count", "batch_size", "shape"),
        [(12, 4, (3, 4)), (13, 4, (4, 4)), (3, 8, (1, 3)), (100, 5, (32, 5))],
    )
    def test_an_epoch_holds_every_row_in_a_new_order(self, count, batch_size, shape):
        rows = np.arange(100, 100 + count)
        first, again, other = (
            np.asarray(train.epoch_index(rows, batch_size, (1, 2, epoch)))
            for epoch in (0, 0, 1)
        )
        assert first.shape == shape
        assert set(first.ravel()) == set(rows)
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_all_methods_of_a_fold_start_alike(self, tmp_path):
        experiment, data = make_experiment(tmp_path), make_data()
        first, again = (
            train.initial_params(experiment, data, method)
            for method in ("pretrain", "full")
        )
        jax.tree.map(np.testing.assert_array_equal, first, again)
        other = train.initial_params(
            experiment, data._replace(fold=data.fold._replace(index=1)), "pretrain"
        )
        assert not np.array_equal(
            first["projector"]["kernel"], other["projector"]["kernel"]
        )


@pytest.mark.parametrize(
    ("alone", "expected"), [(0, {}), (2, {"warning listener_left_out": 1})]
)
def test_training_listeners_without_an_episode_are_counted(tmp_path, alone, expected):
    experiment, data = make_experiment(tmp_path), make_data()
    annotator = data.train.annotator.copy()
    for listener in range(alone):
        annotator[np.flatnonzero(annotator == listener)[1:]] = -1
    data = data._replace(train=data.train._replace(annotator=annotator))
    train.note_left_out(experiment, data)
    assert experiment.problems.counts() == expected


class TestMemory:
    """A step that does not fit adapts fewer listeners at once, or is refused."""

    def fit(self, monkeypatch, folder, gigabytes, chunk=0, strict=False):
        experiment = make_experiment(folder, task_chunk=chunk, num_tasks=12)
        experiment.problems.strict = strict
        available = None if gigabytes is None else gigabytes * 1e9
        monkeypatch.setattr(train.memory, "available_bytes", lambda: available)
        meta = train.fit_memory(
            experiment, "fold 0, full", experiment.settings.meta, 12,
            lambda meta: 1e9 * (1 + (meta.task_chunk or 12)),
        )  # fmt: skip
        return meta.task_chunk, experiment.problems.counts()

    @pytest.mark.parametrize(
        ("gigabytes", "chunk", "fitted"),
        [(None, 0, 0), (13, 0, 0), (12, 0, 6), (4.5, 0, 3), (2, 0, 1), (5, 8, 4)],
    )
    def test_the_largest_chunk_that_fits_is_taken(
        self, monkeypatch, tmp_path, gigabytes, chunk, fitted
    ):
        found, problems = self.fit(monkeypatch, tmp_path, gigabytes, chunk)
        assert found == fitted
        assert problems == ({} if found == chunk else {"warning memory_short": 1})

    def test_what_fits_in_no_way_is_refused(self, monkeypatch, tmp_path):
        with pytest.raises(MachineError) as told:
            self.fit(monkeypatch, tmp_path, 1.5)
        said = str(told.value)
        assert "fold 0, full: a meta-step takes about 13.00 GB, there are 1.50" in said
        for knob in ("num_tasks (here 12)", "inner", "second_order_from=1.0"):
            assert f"meta.{knob}" in said

    def test_training_goes_by_it(self, monkeypatch, tmp_path):
        monkeypatch.setattr(train.memory, "available_bytes", lambda: 1)
        experiment, data = make_experiment(tmp_path), make_data()
        shared = train.initial_params(experiment, data, "pretrain")
        with pytest.raises(MachineError, match="fold 0, maml"):
            train.meta_train(experiment, data, shared, "maml")
