"""A sweep loses at most one cell, and shares its folds among processes."""

import json

import numpy as np
import pytest

from metaperser_jax import cells, sweep
from metaperser_jax.cells import Variant
from metaperser_jax.data.splits import Fold
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluation.predictions import load_predictions
from tests.metaperser_jax.sweeps import METHODS, SEEDS, make_settings


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def predictions(workdir):
    """{cell: {scenario: {key: probabilities}}} of all that is on disk."""
    found = cells.read_cells(workdir, Problems())
    return {
        cell: load_predictions(workdir / row["predictions"])
        for (cell, _), row in found.items()
    }


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """The workdir of a sweep that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    assert sweep.run_sweep(make_settings(cache), workdir, Problems()) == 12
    return workdir


class TestSweep:
    def test_every_cell_has_a_line_and_predictions(self, whole):
        found = cells.read_cells(whole, Problems())
        expected = {(s, f, m) for s in SEEDS for f in (0, 1) for m in METHODS}
        assert {(c.seed, c.fold, c.method) for c, _ in found} == expected
        for (cell, _), row in found.items():
            assert row["seconds"] >= 0
            assert len(row["listeners"]) == len(row["annotators"]) == 2
            part = load_predictions(whole / row["predictions"])["seen"]
            assert set(part.probs) == {(cell.method, 2), (cell.method, 4)}
            assert set(row["scores"]["seen"]) == {"2", "4"}
            assert set(part.annotators) <= set(row["annotators"])

    def test_a_second_start_has_nothing_to_do(self, whole, cache):
        assert sweep.run_sweep(make_settings(cache), whole, Problems()) == 0

    def test_what_a_variant_comes_from_is_beside_it(self, whole):
        folder = cells.variant_folder(whole, Variant("logmel", 1))
        note = json.loads((folder / "variant.json").read_text())
        assert note["seed"] == 1
        assert note["methods"] == list(METHODS)
        assert {"versions", "hashes", "corpus"} <= set(note)

    @pytest.mark.parametrize("stop_at", [0, 4, 7])
    @pytest.mark.parametrize("where", ["before", "after"])
    def test_stopped_anywhere_it_goes_on_to_the_same_numbers(
        self, whole, cache, tmp_path, monkeypatch, stop_at, where
    ):
        """Stopped in a cell: before its line is written, or before it is begun."""
        calls = []
        append, evaluate = cells.append_cell, sweep.evaluate_method

        def stopping(function):
            def called(*arguments):
                calls.append(arguments)
                if len(calls) == stop_at + 1:
                    raise KeyboardInterrupt
                return function(*arguments)

            return called

        target = (cells, "append_cell", append)
        if where == "before":
            target = (sweep, "evaluate_method", evaluate)
        monkeypatch.setattr(*target[:2], stopping(target[2]))
        settings = make_settings(cache)
        with pytest.raises(KeyboardInterrupt):
            sweep.run_sweep(settings, tmp_path, Problems())
        monkeypatch.setattr(*target)
        assert len(cells.read_cells(tmp_path, Problems())) == stop_at
        assert sweep.run_sweep(settings, tmp_path, Problems()) == 12 - stop_at
        expected, found = predictions(whole), predictions(tmp_path)
        assert list(found) == list(expected)
        for cell, parts in expected.items():
            for scenario, part in parts.items():
                for key, probs in part.probs.items():
                    again = found[cell][scenario].probs[key]
                    np.testing.assert_array_equal(again, probs)

    def test_processes_share_the_folds_and_get_the_same_numbers(
        self, whole, cache, tmp_path
    ):
        counts = [
            sweep.run_sweep(make_settings(cache), tmp_path, Problems(), (i, 3))
            for i in (1, 2, 3)
        ]
        assert sorted(counts) == [3, 3, 6]
        expected, found = predictions(whole), predictions(tmp_path)
        assert set(found) == set(expected)
        for cell, parts in expected.items():
            for key, probs in parts["seen"].probs.items():
                np.testing.assert_array_equal(found[cell]["seen"].probs[key], probs)

    def test_another_method_later_leaves_the_others_as_they_are(
        self, whole, cache, tmp_path
    ):
        settings = make_settings(cache)
        fewer = settings.evaluation._replace(methods=METHODS[:1])
        first = settings._replace(evaluation=fewer)
        assert sweep.run_sweep(first, tmp_path, Problems()) == 4
        assert sweep.run_sweep(settings, tmp_path, Problems()) == 8

    def test_other_settings_compute_the_cells_again(self, whole, cache, tmp_path):
        settings = make_settings(cache, sweep={})
        assert sweep.run_sweep(settings, tmp_path, Problems()) == 6
        more = settings._replace(evaluation=settings.evaluation._replace(num_draws=3))
        assert sweep.run_sweep(more, tmp_path, Problems()) == 6
        assert sweep.run_sweep(settings, tmp_path, Problems()) == 0  # still there

    def test_two_variants_in_one_folder_are_refused_before_any_work(self, tmp_path):
        settings = make_settings(tmp_path, sweep={"seeds": (1, 1)})
        with pytest.raises(InputError, match="name each once"):
            sweep.run_sweep(settings, tmp_path, Problems())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
    def test_shards_are_a_partition_of_the_folds_of_all_variants(self, count):
        nobody = np.zeros(0)
        folds = [Fold(i, *[nobody] * 6) for i in range(4)]
        seen = [
            (variant, fold.index)
            for number in range(1, count + 1)
            for variant in range(3)
            for fold in sweep.my_folds(folds, 4 * variant, (number, count))
        ]
        assert sorted(seen) == [(v, f) for v in range(3) for f in range(4)]
