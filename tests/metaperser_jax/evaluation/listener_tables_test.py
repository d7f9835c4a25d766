"""The per-listener table."""

import pytest

from metaperser_jax.errors import InputError
from metaperser_jax.evaluation import listener_tables
from metaperser_jax.evaluation.listener_tables import listener_table
from metaperser_jax.evaluation.paper_data import PaperSpec

SPEC = PaperSpec(16)


def row_of(block, label):
    (row,) = (r for s in block.sections for r in s.rows if r.label == label)
    return row


def test_listeners_are_columns_in_natural_order(sweep):
    made = listener_table(sweep()[2], SPEC)
    assert [column.head for column in made.blocks[0].columns] == ["E1", "E2", "E10"]


def test_observers_and_self_raters_have_blocks_of_their_own(sweep):
    named = [block.title for block in listener_table(sweep()[2], SPEC).blocks]
    assert len(named) == 8  # 2 kinds, 2 scenarios, 2 metrics
    assert "Log-mel (no weights), Observers, Seen utterances, macro-F1 ↑" in named
    assert "Log-mel (no weights), Self-raters, Unseen utterances, NLL ↓" in named


def test_change_is_marked_by_the_direction_of_the_metric(value):
    rows = [
        value("E1", method, number, metric=metric)
        for metric in ("macro_f1", "nll")
        for method, number in (("no_adaptation", 0.4), ("full", 0.5))
    ]
    gains = [
        row_of(block, listener_tables.GAIN).cells[0]
        for block in listener_table(rows, SPEC).blocks
    ]
    assert [cell.mean for cell in gains] == ["+0.100", "+0.100"]
    assert [cell.mark for cell in gains] == ["+", "-"]


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_undefined_and_missing_values_are_told_apart(value, nothing):
    rows = [value("E1", value=nothing), value("E1", "maml"), value("E2", "maml")]
    made = listener_table(rows, SPEC)
    full = row_of(made.blocks[0], "Meta-PerSER (full)")
    assert [cell.mean for cell in full.cells] == ["\N{EN DASH}", "missing"]
    assert "1 of 4 numbers missing; 1 not defined" in made.caption


def test_two_values_for_one_cell_are_refused(value):
    with pytest.raises(InputError, match="E1"):
        listener_table([value(), value(value=0.4)], SPEC)


def test_other_supports_are_left_out(value):
    assert listener_table([value(num_support=8)], SPEC).rows == []


def test_of_many_listeners_evenly_spaced_gains_are_shown_and_all_kept(value):
    rows = [
        value(f"E{i}", method, gain)
        for i in range(100)
        for method, gain in (("no_adaptation", 0.0), ("full", (i * 37 % 100) / 100))
    ]
    made = listener_table(rows, SPEC)
    shown = [column.head for column in made.blocks[0].columns]
    assert len(shown) == listener_tables.MAX_LISTENERS
    assert {"E0", "E27"} <= set(shown)  # the smallest and the largest gain, 0 and 99
    assert "Of up to 100 listeners 24 are shown" in made.caption
    assert len(made.rows) == 200


def test_ties_are_both_best_and_the_oracle_never(value):
    rows = [value("E1", m, v) for m, v in (("full", 0.5), ("maml", 0.5))]
    made = listener_table([*rows, value("E1", "oracle", 0.9)], SPEC)
    best = {
        row.label: row.cells[0].best for s in made.blocks[0].sections for row in s.rows
    }
    assert best == {
        "Meta-PerSER (full)": True,
        "MAML (one fixed rate)": True,
        "Oracle (all own labels)": False,
    }


def test_natural_order_survives_odd_names():
    names = ["E10", "E2", "", "7", "x²", "²"]
    assert sorted(names, key=listener_tables.natural)[:2] == ["", "7"]
