"""Tables as data and as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaperser_jax.evaluation import sheet
from metaperser_jax.evaluation.sheet import Block, Cell, Column, Row, Section, Table

FULL_CELL = Cell("0.512", "0.031", "[0.482, 0.542]", "", "+", True)


def table(columns, cell=FULL_CELL, sentences=(), label="Meta-PerSER (full)"):
    row = Row(label, [cell] * len(columns))
    block = Block("Observers", "Method", columns, [Section("The method", [row])])
    return Table("main", "Main results", "A caption.", [block], [], list(sentences))


def columns(upper=("Seen", "Unseen"), heads=("macro-F1 ↑", "NLL ↓")):
    return [Column(u, head) for u in upper for head in heads]


def test_a_cell_shows_mean_deviation_interval_best_and_mark():
    text = sheet.as_text(table(columns()[:1]))
    assert "0.512 ±0.031 [0.482, 0.542]*+" in text


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (Cell("0.512", "", "[0.482, 0.542]"), "0.512 [0.482, 0.542]"),
        (Cell("-0.045", "", "[-0.06, -0.03]", "<0.001", "+"), "p <0.001+"),
        (Cell("-0.045", "", "", "0.012", "-"), "-0.045 p  0.012-"),
        (sheet.MISSING, "missing"),
        (Cell("\N{EN DASH}"), "\N{EN DASH}"),
    ],
)
def test_parts_that_a_cell_lacks_leave_no_trace(cell, shown):
    line = sheet.as_text(table(columns()[:1], cell)).splitlines()[-1]
    assert line.split("  ", 2)[-1].strip().endswith(shown)
    assert "±" not in line


@pytest.mark.parametrize("width", [72, 80, 100, 160])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp437"])
def test_no_line_is_wider_than_the_console(width, encoding):
    wide = columns(heads=("macro-F1 ↑", "UAR ↑", "NLL ↓", "E" * 60))
    made = table(wide, sentences=["word " * 80], label="m" * 200)
    text = sheet.as_text(made, width, encoding)
    assert max(map(len, text.splitlines())) <= width
    text.encode(encoding)


def test_upper_headings_are_repeated_over_each_part():
    lines = sheet.as_text(table(columns())).splitlines()
    assert sum(" Seen " in line for line in lines) == 1
    assert sum(" Unseen " in line for line in lines) == 1
    assert sum("macro-F1" in line for line in lines) == 2


def test_title_of_a_section_is_not_cut():
    block = table(columns()[:1]).blocks[0]
    long = "What a part contributes (full minus full without it)"
    block = block._replace(sections=[Section(long, [Row("DA", [FULL_CELL])])])
    text = sheet.as_text(table([])._replace(blocks=[block]))
    assert long in text


def test_an_ascii_console_gets_ascii_signs():
    text = sheet.as_text(table(columns()), encoding="ascii")
    assert "0.512 +-0.031" in text
    assert "macro-F1 ^" in text
    assert "NLL v" in text


def test_a_table_without_blocks_says_so():
    assert "No results." in sheet.as_text(table([])._replace(blocks=[]))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=30),
    st.integers(1, 20),
)
def test_split_columns_keeps_each_column_once_in_order_and_within_the_limit(cols, n):
    heads = [Column(upper, "") for upper, _ in cols]
    sizes = [size for _, size in cols]
    runs = sheet.split_columns(heads, sizes, n)
    assert [i for run in runs for i in run] == list(range(len(cols)))
    assert all(len(run) == 1 or sum(sizes[i] for i in run) <= n for run in runs)


def test_split_columns_cuts_between_upper_headings_or_evenly():
    assert sheet.split_columns(columns(), [1] * 4, 3) == [[0, 1], [2, 3]]
    eight = [Column("Seen", str(i)) for i in range(8)]
    assert [len(run) for run in sheet.split_columns(eight, [1] * 8, 6)] == [4, 4]


@pytest.mark.parametrize(
    ("cell", "limit"),
    [
        (FULL_CELL, 6),
        (Cell("1", "", "[0, 2]"), 8),
        (Cell("1"), 12),
        (sheet.MISSING, 12),
    ],
)
def test_page_runs_count_columns_by_what_cells_hold(cell, limit):
    many = [Column("", str(i)) for i in range(24)]
    runs = sheet.page_runs(table(many, cell).blocks[0])
    assert {len(run) for run in runs} == {limit}


def test_take_columns_takes_heads_and_cells():
    block = table(columns()).blocks[0]
    cut = sheet.take_columns(block, [3])
    assert cut.columns == [Column("Unseen", "NLL ↓")]
    assert cut.sections[0].rows[0].cells == [FULL_CELL]


def test_spans_join_neighbours_only():
    heads = [Column(upper, "") for upper in "aaba"]
    assert sheet.spans(heads) == [("a", 2), ("b", 1), ("a", 1)]


@given(st.text(max_size=60), st.integers(6, 40))
def test_shorten_keeps_both_ends(text, length):
    short = sheet.shorten(text, length)
    assert len(short) <= length
    if len(text) > length:
        assert short[0] == text[0]
        assert short[-1] == text[-1]
    else:
        assert short == text
