"""Stages: resumed to the same numbers, best on development listeners, not diverged."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import stages
from metaperser_jax.checkpoints import load_origin
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.experiment import Experiment
from metaperser_jax.settings import from_config
from metaperser_jax.training import optimizers, state
from metaperser_jax.training.writers import read_curves
from metaperser_jax.typing import Corpus, MetaParams

NOTHING = np.zeros(0)


def make_experiment(folder):
    config = {"corpus": "synthetic", "tensorboard": False, "meta": {"max_skipped": 3}}
    corpus = Corpus(
        "toy", (), (), (), (), NOTHING, NOTHING, None, (), None, None, None, {}
    )
    return Experiment(
        from_config(config), folder, corpus, {}, None, NOTHING, [], {}, Problems()
    )


@pytest.mark.parametrize(
    ("first", "total", "every", "most", "wanted"),
    [
        (0, 6, 3, 1, [[0], [1], [2], [3], [4], [5]]),
        (0, 6, 3, 9, [[0, 1, 2], [3, 4, 5]]),
        (0, 8, 5, 3, [[0, 1, 2], [3, 4], [5, 6, 7]]),
        (4, 7, 3, 2, [[4, 5], [6]]),
        (7, 7, 3, 2, []),
    ],
)
def test_blocks_end_at_each_look(first, total, every, most, wanted):
    assert list(map(list, stages.blocks(first, total, every, most))) == wanted


class TestStage:
    """A toy stage: theta is the number of steps, the development loss (theta - 6)^2."""

    def begin(self):
        params = {"theta": jnp.zeros(1)}
        return state.init_state(
            MetaParams(params, {}), optimizers.outer_optimizer(0.1, 0.1)
        )

    def advance(self, stop_at=None, poison=()):
        def advance(current, steps):
            losses = []
            for step in steps:
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
                losses.append(theta[0])
            return current, {"train_loss": jnp.stack(losses)}

        return advance

    def run(self, folder, experiment=None, dev_loss=None, more=None, **advance):
        stage = stages.Stage(
            "toy",
            folder / "fold_00" / "toy",
            10,
            advance=self.advance(**advance),
            dev_loss=dev_loss or (lambda m: float((m.params["theta"][0] - 6) ** 2)),
            **{"every": 2, **(more or {})},
        )
        return stages.run_stage(
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

    def test_training_losses_are_means_since_the_last_look(self, tmp_path):
        self.run(tmp_path)
        rows = read_curves(tmp_path / "fold_00" / "toy" / "curves.jsonl")
        assert [row["train_loss"] for row in rows[1:]] == [1.5, 3.5, 5.5, 7.5, 9.5]

    @pytest.mark.parametrize("every", [1, 3, 4, 20])
    @pytest.mark.parametrize("block", [2, 16])
    def test_steps_taken_at_once_leave_the_same_files(self, tmp_path, every, block):
        more = {"every": every}
        self.run(tmp_path / "one by one", more=more, poison={3})
        self.run(tmp_path / "at once", more={**more, "block": block}, poison={3})
        assert self.files(tmp_path / "at once") == self.files(tmp_path / "one by one")

    def test_the_call_before_the_last_is_waited_for_and_no_other(
        self, tmp_path, monkeypatch
    ):
        seen = []

        def wait(results):
            seen.append([int(r["train_loss"][0]) for r in results])

        monkeypatch.setattr(stages.jax, "block_until_ready", wait)
        self.run(tmp_path, more={"every": 5})
        assert seen == [[], [1], [2], [3], [4], [], [6], [7], [8], [9]]

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
                tmp_path,
                poison={3, 4, 5},
                more={"listeners_at": lambda step: [f"who {step}"]},
            )
        dump = tmp_path / "fold_00" / "toy" / "diverged.json"
        assert json.loads(dump.read_text()) == {
            "3": ["who 3"], "4": ["who 4"], "5": ["who 5"],
        }  # fmt: skip

    def test_a_few_in_a_row_do_not(self, tmp_path):
        self.run(tmp_path, poison={4, 5, 8, 9})

    @pytest.mark.parametrize(
        ("more", "message"),
        [({}, "Lower meta.init_learning_rate"), ({"remedy": "Do less."}, "Do less.")],
    )
    def test_what_to_do_is_told(self, tmp_path, more, message):
        with pytest.raises(InputError, match=message):
            self.run(tmp_path, poison={3, 4, 5}, more=more)

    def test_what_a_stage_builds_on_is_kept_and_another_one_refused(self, tmp_path):
        more = {"origin": {"base": "abc", "tuning": {"rank": 8}}}
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, more=more, stop_at=5)
        with pytest.raises(InputError, match="base: abc there, abd here"):
            self.run(tmp_path, more={"origin": {**more["origin"], "base": "abd"}})
        with pytest.raises(InputError, match="base: abc there, nothing here"):
            self.run(tmp_path)
        self.run(tmp_path, more=more)
        assert load_origin(tmp_path / "fold_00" / "toy") == more["origin"]
