"""Tables come from whole folds, kinds of listeners apart, a listener counted once."""

import csv
import json

import numpy as np
import pytest

from metaperser_jax import cells, tabulate
from metaperser_jax.cells import Cell, Variant
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluate import hash_of
from metaperser_jax.evaluation.predictions import save_predictions
from metaperser_jax.evaluation.protocol import Predictions
from metaperser_jax.settings import from_config

METHODS = ("full", "no_adaptation")
SETTINGS = from_config(
    {
        "corpus": "synthetic",
        "sweep": {"seeds": (0, 1)},
        "evaluation": {
            "num_support": (4, 8), "headline_support": 8, "num_draws": 2,
            "num_resamples": 20, "methods": METHODS, "scenarios": ("seen", "unseen"),
            "headline_metrics": ("nll", "accuracy"),
        },
    }
)  # fmt: skip
HASHES = {"corpus": "c", "inputs": "i"}
FOLDS = (("observer", 3, "E1"), ("observer", 5, "E2"), ("self", 0, "F1"))


def right(share, annotator):
    """Predictions of two classes that are right with this probability."""
    shape = (1, 2, 4)  # listeners, draws, query
    targets = np.zeros((*shape, 2), np.float32)
    targets[..., 0] = 1
    probs = np.broadcast_to(np.float32([share, 1 - share]), (*shape, 2))
    return Predictions(
        np.array([annotator]),
        np.arange(8, dtype=np.int32).reshape(shape),
        targets,
        np.ones((*shape, 2), bool),
        {},
    ), probs


def finish(workdir, seed, fold, method, share, scenarios=("seen", "unseen")):
    """Writes one finished cell."""
    key = hash_of(cells.variant_settings(SETTINGS, Variant("logmel", seed)), HASHES)
    kind, annotator, name = FOLDS[fold]
    part, probs = right(share, annotator)
    part = part._replace(probs={(method, k): probs for k in (4, 8)})
    folder = cells.variant_folder(workdir, Variant("logmel", seed)) / f"fold_{fold:02d}"
    path = folder / f"predictions_{method}.npz"
    save_predictions(path, dict.fromkeys(scenarios, part))
    row = {
        **Cell("logmel", seed, fold, method)._asdict(),
        "corpus": "toy", "dimensions": [], "num_classes": 2, "partition": fold,
        "kind": kind, "annotators": [annotator], "listeners": [name], "hash": key,
        "predictions": str(path.relative_to(workdir)), "seconds": 1.0, "scores": {},
    }  # fmt: skip
    cells.append_cell(cells.cells_path(workdir, None), row)


def plan(workdir, seeds=(0, 1), hashes=HASHES):
    """Writes what a sweep notes of its variants."""
    for seed in seeds:
        folder = cells.variant_folder(workdir, Variant("logmel", seed))
        folder.mkdir(parents=True, exist_ok=True)
        note = {
            "encoder": "logmel", "seed": seed, "versions": {}, "hashes": hashes,
            "corpus": {}, "num_folds": len(FOLDS), "methods": list(METHODS),
            "notes": ["encoder logmel: a note"],
        }  # fmt: skip
        (folder / "variant.json").write_text(json.dumps(note))


def make(workdir, settings=SETTINGS):
    return tabulate.tabulate(settings, workdir, Problems(), {}, "python run.py")


def read(workdir, name):
    return json.loads((workdir / f"{name}.json").read_text())


@pytest.fixture
def swept(tmp_path):
    """All cells of two seeds: full is right with .8 and .6, the other with .5."""
    plan(tmp_path)
    for seed, share in ((0, 0.8), (1, 0.6)):
        for fold in range(len(FOLDS)):
            finish(tmp_path, seed, fold, "full", share)
            finish(tmp_path, seed, fold, "no_adaptation", 0.5)
    return tmp_path


class TestTables:
    def test_a_listener_counts_once_with_the_draws_of_all_seeds(self, swept):
        make(swept)
        rows = [
            row
            for row in read(swept, "per_listener")
            if (row["method"], row["metric"], row["num_support"], row["scenario"])
            == ("full", "nll", 8, "seen")
        ]
        assert [row["annotator"] for row in rows] == ["E1", "E2", "F1"]
        expected = -(np.log(0.8) + np.log(0.6)) / 2
        for row in rows:
            np.testing.assert_allclose(row["value"], expected, rtol=1e-5)

    def test_kinds_of_listeners_are_apart(self, swept):
        make(swept)
        found = {(r["group"], r["num_listeners"]) for r in read(swept, "results")}
        assert found == {("observer", 2), ("self", 1)}
        for row in read(swept, "results"):
            assert row["num_seeds"] == 2
            assert row["num_folds"] == (2 if row["group"] == "observer" else 1)
            assert (row["encoder"], row["corpus"]) == ("logmel", "toy")
            assert row["sd"] is None or row["group"] == "observer"

    def test_all_files_are_there_and_hold_the_numbers(self, swept):
        made = make(swept)
        assert all(path.is_file() for path in made.paths)
        with (swept / "tables" / "main.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        chosen = [
            float(row["mean"])
            for row in rows
            if (row["method"], row["metric"], row["group"], row["scenario"])
            == ("no_adaptation", "nll", "observer", "unseen")
        ]
        np.testing.assert_allclose(chosen, [np.log(2)], rtol=1e-5)
        assert made.text.startswith("encoder logmel: a note\n")
        assert "Observers" in made.text
        assert "Self-raters" in made.text
        assert "sweep complete" in " ".join(made.text.split())

    def test_what_the_numbers_come_from_is_beside_them(self, swept):
        make(swept)
        found = read(swept, "run")
        assert [v["seed"] for v in found["variants"]] == [0, 1]
        assert found["cells"] == {"logmel": [12, 12]}
        assert found["command"] == "python run.py"


class TestIncompleteSweeps:
    def test_a_fold_counts_once_all_its_methods_are_done(self, tmp_path):
        plan(tmp_path)
        finish(tmp_path, 0, 0, "full", 0.8)
        finish(tmp_path, 0, 0, "no_adaptation", 0.5)
        finish(tmp_path, 0, 1, "full", 0.9)
        made = make(tmp_path)
        names = {row["annotator"] for row in read(tmp_path, "per_listener")}
        assert names == {"E1"}
        assert "sweep 25 % complete" in " ".join(made.text.split())

    def test_a_scenario_without_clips_is_left_out(self, tmp_path):
        plan(tmp_path, seeds=(0,))
        for method in METHODS:
            finish(tmp_path, 0, 0, method, 0.8, scenarios=("seen",))
        make(tmp_path)
        assert {row["scenario"] for row in read(tmp_path, "results")} == {"seen"}

    def test_cells_of_another_corpus_do_not_count(self, swept):
        plan(swept, hashes={**HASHES, "corpus": "changed"})
        with pytest.raises(InputError, match=r"no fold .* complete .*12 cells of any"):
            make(swept)

    @pytest.mark.parametrize("change", [{"num_draws": 7}, {"headline_support": 4}])
    def test_cells_of_other_settings_do_not_count(self, swept, change):
        """Else the captions would tell of draws that nobody made."""
        chosen = SETTINGS.evaluation._replace(**change)
        with pytest.raises(InputError, match="give the settings of the sweep"):
            make(swept, SETTINGS._replace(evaluation=chosen))

    def test_what_is_made_of_the_predictions_may_be_chosen_later(self, swept):
        chosen = SETTINGS.evaluation._replace(
            num_resamples=30, headline_metrics=("nll",)
        )
        make(swept, SETTINGS._replace(evaluation=chosen))
        assert read(swept, "run")["cells"] == {"logmel": [12, 12]}

    def test_nothing_was_swept(self, tmp_path):
        with pytest.raises(InputError, match="--mode=sweep with these first"):
            make(tmp_path)
