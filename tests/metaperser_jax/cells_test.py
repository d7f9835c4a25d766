"""A finished cell is on disk, whole, or it is computed again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaperser_jax import cells
from metaperser_jax.cells import Cell, Variant
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.settings import SweepSettings, from_config


def make_row(cell, **changes):
    return {**cell._asdict(), "hash": "h", "predictions": "p.npz", "seconds": 1.0} | (
        changes
    )


def sweep_settings(**chosen):
    return from_config({"corpus": "synthetic", "sweep": chosen})


class TestVariants:
    def test_without_a_choice_there_is_the_run_itself(self):
        assert cells.variants(sweep_settings()) == [Variant("logmel", 0)]

    def test_every_encoder_with_every_seed(self):
        found = cells.variants(sweep_settings(encoders=("a/b", "c"), seeds=(3, 1)))
        expected = [("a/b", 3), ("a/b", 1), ("c", 3), ("c", 1)]
        assert [tuple(variant) for variant in found] == expected

    def test_settings_of_a_variant_differ_in_encoder_and_seed_alone(self):
        settings = sweep_settings(seeds=(1, 2))
        changed = cells.variant_settings(settings, Variant("a/b", 2))
        assert (changed.encoder.name, changed.seed) == ("a/b", 2)
        back = changed._replace(seed=0, encoder=changed.encoder._replace(name="logmel"))
        assert back == settings

    @pytest.mark.parametrize("encoder", ["a/b", "../x", "..", "/root/é ü", "logmel"])
    def test_folders_stay_inside_the_workdir(self, tmp_path, encoder):
        folder = cells.variant_folder(tmp_path, Variant(encoder, 7))
        assert folder.resolve().is_relative_to(tmp_path / "sweep")
        assert folder.parent.parent == tmp_path / "sweep"

    @pytest.mark.parametrize(
        "chosen", [{"encoders": ("a/b", "a_b")}, {"seeds": (1, 2, 1)}]
    )
    def test_two_variants_in_one_folder_are_refused(self, tmp_path, chosen):
        with pytest.raises(
            InputError, match=r"would share the folder .*name each once"
        ):
            cells.refuse_same_folders(tmp_path, sweep_settings(**chosen))

    def test_the_defaults_are_those_of_the_section(self):
        assert sweep_settings().sweep == SweepSettings()


class TestCells:
    CELLS = (Cell("a", 0, 0, "full"), Cell("a", 0, 1, "full"), Cell("b", 1, 0, "anil"))

    def write(self, folder, shard=None):
        (folder / "p.npz").write_bytes(b"")
        for cell in self.CELLS:
            cells.append_cell(cells.cells_path(folder, shard), make_row(cell))

    def test_what_is_appended_is_read(self, tmp_path):
        self.write(tmp_path)
        found = cells.read_cells(tmp_path, Problems())
        assert found == {(cell, "h"): make_row(cell) for cell in self.CELLS}

    def test_the_processes_of_a_sweep_have_files_of_their_own(self, tmp_path):
        (tmp_path / "p.npz").write_bytes(b"")
        for number, cell in enumerate(self.CELLS, 1):
            path = cells.cells_path(tmp_path, (number, 3))
            cells.append_cell(path, make_row(cell))
        assert sorted(p.name for p in tmp_path.glob("cells*")) == [
            f"cells_{i}_of_3.jsonl" for i in (1, 2, 3)
        ]
        assert [cell for cell, _ in cells.read_cells(tmp_path, Problems())] == list(
            self.CELLS
        )

    def test_lines_of_other_settings_stand_beside_one_another(self, tmp_path):
        self.write(tmp_path)
        other = make_row(self.CELLS[0], hash="new")
        cells.append_cell(cells.cells_path(tmp_path, (1, 2)), other)
        found = cells.read_cells(tmp_path, Problems())
        assert found[self.CELLS[0], "new"] == other
        assert found[self.CELLS[0], "h"] == make_row(self.CELLS[0])

    def test_lost_predictions_open_the_cell_again(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "p.npz").unlink()
        problems = Problems()
        assert cells.read_cells(tmp_path, problems) == {}
        assert problems.counts() == {"warning lost_predictions": 3}

    def test_a_kill_at_any_byte_costs_that_cell_alone(self, tmp_path):
        self.write(tmp_path)
        path = cells.cells_path(tmp_path, None)
        whole = path.read_bytes()
        ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
        for length in range(ends[1], len(whole)):
            path.write_bytes(whole[:length])
            cells.append_cell(path, make_row(Cell("z", 9, 9, "maml")))
            found = cells.read_cells(tmp_path, Problems())
            # without its line end the last line is whole all the same
            expected = self.CELLS[: 3 if length == len(whole) - 1 else 2]
            assert [cell for cell, _ in found] == [*expected, Cell("z", 9, 9, "maml")]

    @given(st.binary(max_size=200))
    def test_any_bytes_are_counted_and_never_raised(self, tmp_path_factory, junk):
        folder = tmp_path_factory.mktemp("cells")
        self.write(folder)
        path = cells.cells_path(folder, None)
        path.write_bytes(path.read_bytes() + junk.replace(b"\n", b" ") + b"\n")
        problems = Problems()
        found = cells.read_cells(folder, problems)
        assert [cell for cell, _ in found] == list(self.CELLS)
        assert len(problems.rows) == bool(junk.strip())

    @pytest.mark.parametrize("line", ["[]", "3", "null", json.dumps({"encoder": "a"})])
    def test_what_is_no_cell_is_counted(self, tmp_path, line):
        (tmp_path / "cells.jsonl").write_text(line + "\n")
        problems = Problems()
        assert cells.read_cells(tmp_path, problems) == {}
        assert problems.counts() == {"warning damaged_cell": 1}
        assert "line 1" in problems.rows[0].where
