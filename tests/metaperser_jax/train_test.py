"""Stages: resumed to the same numbers, best on development listeners, not diverged."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import methods, train
from metaperser_jax.data.splits import Fold
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.experiment import Experiment, FoldData
from metaperser_jax.settings import from_config
from metaperser_jax.training import optimizers, state
from metaperser_jax.training.writers import read_curves
from metaperser_jax.typing import Corpus, MetaParams, Pool

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
    spec = methods.ModelSpec(1, 3, 2, 4, "none", "softmax", 0.0, None)
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

        def make_step(learner, tx):
            def step(current, episodes, *, order):
                seen["order"].append(order)
                rate = current.opt_state.hyperparams["rate_learning_rate"]
                seen["frozen"] = float(rate) == 0.0
                return current, {"query_loss": 0.0}

            return step

        def run_stage(experiment, stage, start):
            for step in range(stage.total):
                start, _ = stage.advance(start, step)
            return start.meta_params

        monkeypatch.setattr(train.EpisodeSampler, "sample", spy)
        monkeypatch.setattr(train, "_meta_train_step", make_step)
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


class TestStage:
    """A toy stage: theta is the number of steps, the development loss (theta - 6)^2."""

    def begin(self):
        params = {"theta": jnp.zeros(1)}
        return state.init_state(
            MetaParams(params, {}), optimizers.outer_optimizer(0.1, 0.1)
        )

    def advance(self, stop_at=None, poison=()):
        def advance(current, step):
            if step == stop_at:
                raise KeyboardInterrupt
            theta = current.meta_params.params["theta"] + 1
            bad = int(step in poison)
            current = current._replace(
                meta_params=MetaParams({"theta": theta}, {}),
                step=current.step + 1,
                num_skipped=current.num_skipped + bad,
                skipped_in_a_row=(current.skipped_in_a_row + bad) * bad,
            )
            return current, {"train_loss": float(theta[0])}

        return advance

    def run(self, folder, experiment=None, dev_loss=None, listeners_at=None, **advance):
        stage = train.Stage(
            "toy",
            folder / "fold_00" / "toy",
            10,
            2,
            self.advance(**advance),
            dev_loss or (lambda m: float((m.params["theta"][0] - 6) ** 2)),
            listeners_at,
        )
        return train.run_stage(
            experiment or make_experiment(folder), stage, self.begin()
        )

    def files(self, folder):
        names = ("curves.jsonl", "curves.csv", "meta_params.safetensors")
        return [(folder / "fold_00" / "toy" / name).read_bytes() for name in names]

    def test_the_step_best_on_development_listeners_is_returned(self, tmp_path):
        assert float(self.run(tmp_path).params["theta"][0]) == 6

    def test_the_curve_has_the_start_and_every_second_step(self, tmp_path):
        self.run(tmp_path)
        rows = read_curves(tmp_path / "fold_00" / "toy" / "curves.jsonl")
        assert [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10]
        assert [row["dev_loss"] for row in rows] == [36, 16, 4, 0, 4, 16]
        assert rows[0].keys() == {"step", "dev_loss"}

    @pytest.mark.parametrize("stop_at", [0, 1, 5, 6, 9])
    def test_a_stopped_stage_goes_on_to_the_same_files(self, tmp_path, stop_at):
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path / "stopped", stop_at=stop_at)
        found = self.run(tmp_path / "stopped")
        assert float(found.params["theta"][0]) == 6
        self.run(tmp_path / "whole")
        assert self.files(tmp_path / "stopped") == self.files(tmp_path / "whole")

    def test_a_complete_stage_is_not_run_again(self, tmp_path):
        self.run(tmp_path)
        before = self.files(tmp_path)
        found = self.run(tmp_path, stop_at=0)
        assert float(found.params["theta"][0]) == 6
        assert self.files(tmp_path) == before

    def test_a_loss_that_is_not_finite_is_never_the_best(self, tmp_path):
        def dev_loss(meta_params):
            theta = float(meta_params.params["theta"][0])
            return {0: 5.0, 4: 4.0}.get(theta, math.nan)

        assert float(self.run(tmp_path, dev_loss=dev_loss).params["theta"][0]) == 4

    def test_skipped_steps_are_counted_among_the_problems(self, tmp_path):
        experiment = make_experiment(tmp_path)
        self.run(tmp_path, experiment, poison={1, 4})
        assert experiment.problems.counts() == {"warning skipped_steps": 1}
        (row,) = experiment.problems.rows
        assert row.where == "fold 00 toy"
        assert row.message.startswith("2 steps were not finite")

    def test_too_many_in_a_row_stop_the_run_and_name_the_batches(self, tmp_path):
        with pytest.raises(InputError, match=r"3 steps in a row \(at step 6\)"):
            self.run(
                tmp_path, poison={3, 4, 5}, listeners_at=lambda step: [f"who {step}"]
            )
        dump = tmp_path / "fold_00" / "toy" / "diverged.json"
        assert json.loads(dump.read_text()) == {
            "3": ["who 3"], "4": ["who 4"], "5": ["who 5"],
        }  # fmt: skip

    def test_a_few_in_a_row_do_not(self, tmp_path):
        self.run(tmp_path, poison={4, 5, 8, 9})


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
