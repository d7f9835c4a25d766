"""Console tables and CSV files."""

import csv
import io
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaperser_jax.errors import InputError
from metaperser_jax.evaluation import tables, titles
from tests.metaperser_jax.evaluation.result_rows import comparison, record

METRICS = list(titles.METRICS)


def all_records():
    return [
        record(method, metric, 0.4 + 0.01 * i)
        for i, method in enumerate(titles.METHOD_TITLES)
        for metric in METRICS
    ]


def console(records, metrics, width=100, encoding="utf-8", **options):
    return tables.console_table(
        records, "seen", 16, metrics, width, encoding=encoding, **options
    )


def line_of(table, title):
    (line,) = (line for line in table.splitlines() if line.strip().startswith(title))
    return line


def test_few_metrics_show_mean_and_whole_interval():
    table = console([record(mean=0.5123)], ["macro_f1"])
    assert "0.512 [0.492, 0.532]*" in line_of(table, "Meta-PerSER")
    assert "12 listeners, 20 draws" in table
    assert "95% interval" in table


def test_many_metrics_show_half_widths_and_go_on_below():
    table = console(all_records(), METRICS)
    assert "0.400 ±0.020" in table
    assert table.count("The method") == 3
    for metric in METRICS:
        assert titles.metric_info(metric).title in table


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp437"])
@pytest.mark.parametrize("metrics", [METRICS[:1], METRICS[:3], METRICS])
def test_no_line_is_wider_than_the_console(metrics, encoding):
    table = console(all_records(), metrics, encoding=encoding)
    assert max(map(len, table.splitlines())) <= 100
    assert "0.400" in table


@given(
    st.integers(60, 140),
    st.lists(st.sampled_from(METRICS), min_size=1, unique=True),
    st.sampled_from([1.0, 100.0]),
)
def test_any_width_from_sixty_on_holds(width, metrics, scale):
    rows = [record(m, metric, scale) for m in ("full", "x" * 50) for metric in metrics]
    table = console(rows, metrics, width)
    assert max(map(len, table.splitlines())) <= width


def test_rows_are_grouped_and_in_order():
    table = console(all_records(), ["macro_f1"])
    places = [table.index(f"\n{group}") for group in titles.METHOD_GROUPS]
    assert places == sorted(places)
    for title in titles.METHOD_TITLES.values():
        line_of(table, title)


def test_the_best_of_the_deployable_methods_is_marked():
    rows = [
        record("full", mean=0.5),
        record("maml", mean=0.4),
        record("oracle", mean=0.6),
        record("ground_truth", mean=0.7),
        record("wrong_listener", mean=0.8),
    ]
    table = console(rows, ["macro_f1"])
    assert [
        line.strip().split("  ")[0] for line in table.splitlines()[2:] if "*" in line
    ] == ["Meta-PerSER (full)"]


def test_the_lowest_is_best_for_a_loss():
    rows = [record("full", "nll", 1.2), record("maml", "nll", 1.1)]
    assert tables.best_methods(rows, "nll") == {"maml"}


def test_ties_as_displayed_are_all_best():
    rows = [record("full", mean=0.50001), record("maml", mean=0.50002)]
    assert tables.best_methods(rows, "macro_f1") == {"full", "maml"}


def test_a_missing_value_is_a_dash_and_never_the_best():
    rows = [record("full", mean=math.nan), record("maml", mean=0.1)]
    table = console(rows, ["macro_f1", "uar"])
    assert line_of(table, "Meta-PerSER").split()[-2:] == ["–", "–"]  # noqa: RUF001
    assert tables.best_methods(rows, "macro_f1") == {"maml"}
    assert tables.best_methods([record(mean=math.nan)], "macro_f1") == set()


def test_ascii_is_used_where_the_console_cannot_encode():
    table = console(
        [record(), record(metric="nll")], ["macro_f1", "nll"], encoding="ascii"
    )
    assert table.isascii()
    assert "macro-F1 ^" in table
    assert "NLL v" in table
    unicode = console([record(), record(metric="nll")], ["macro_f1", "nll"])
    assert "macro-F1 ↑" in unicode
    assert "NLL ↓" in unicode


def test_the_encoding_is_that_of_stdout_if_not_given(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert tables.console_table([record()], "seen", 16, ["macro_f1"]).isascii()


def test_a_name_cannot_move_the_cursor():
    assert "\x1b" not in console([record("\x1b[2Jevil")], ["macro_f1"])


def test_no_results_are_said():
    assert console([], ["macro_f1"]) == "Seen utterances, K = 16: no results."


def test_other_scenarios_and_ks_are_left_out():
    rows = [record(), record("maml", scenario="unseen"), record("anil", num_support=4)]
    table = console(rows, ["macro_f1"])
    assert "MAML" not in table
    assert "ANIL" not in table


def test_two_values_for_one_cell_are_refused():
    with pytest.raises(InputError, match="two rows for full, macro_f1"):
        console([record(), record()], ["macro_f1"])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([record()], "12 listeners, 20 draws"),
        ([record(), record(num_listeners=3)], "3 to 12 listeners, 20 draws"),
        ([record(num_listeners=2443)], "2,443 listeners, 20 draws"),
        ([], ""),
    ],
)
def test_counts_are_said(rows, expected):
    assert tables.count_text(rows) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "better"),
        ({"difference": -0.08}, "worse"),
        ({"metric": "nll"}, "worse"),
        ({"metric": "nll", "difference": -0.08}, "better"),
        ({"p_holm": 0.05}, "not significant"),
        ({"p_holm": 0.049}, "better"),
        ({"p_holm": 0.2, "p_value": 0.01}, "not significant"),
        ({"difference": 0.0}, "not significant"),
        ({"p_holm": math.nan}, "not tested"),
        ({"p_holm": None}, "not tested"),
        ({"difference": math.nan}, "not tested"),
    ],
)
def test_verdicts(changes, expected):
    assert tables.verdict(comparison(**changes)) == expected


def test_comparisons_show_difference_p_and_share_made_worse():
    table = tables.comparison_table([comparison()], "seen", 16, encoding="utf-8")
    line = line_of(table, "No adaptation")
    for part in ("+0.080 [+0.060, +0.100]", "0.004", "25 %", "better"):
        assert part in line
    assert "Meta-PerSER (full), macro-F1 (higher is better)" in table


def test_comparisons_fit_the_console_and_can_be_narrowed_to_metrics():
    rows = [
        comparison(reference, metric, method="full")
        for reference in titles.METHOD_TITLES
        for metric in ("macro_f1", "nll")
    ]
    table = tables.comparison_table(rows, "seen", 16, encoding="utf-8")
    assert max(map(len, table.splitlines())) <= 100
    assert "NLL" in table
    narrowed = tables.comparison_table(rows, "seen", 16, ["macro_f1"], encoding="utf-8")
    assert "NLL" not in narrowed
    nothing = tables.comparison_table([], "seen", 16, encoding="utf-8")
    assert nothing == "Seen utterances, K = 16: no comparisons."


def test_two_comparisons_of_the_same_pair_are_refused():
    with pytest.raises(InputError, match="two rows for full, maml, macro_f1"):
        tables.comparison_table([comparison("maml"), comparison("maml")], "seen", 16)


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_holds_all_keys_and_numbers_survive(tmp_path):
    path = tmp_path / "results.csv"
    tables.write_csv([record(mean=0.1 + 0.2), {"method": "maml", "extra": -1}], path)
    header, first, second = read(path)
    assert header == [*record(), "extra"]
    assert float(first[header.index("mean")]) == 0.1 + 0.2
    assert second[header.index("extra")] == "-1"
    assert second[header.index("mean")] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_csv_text_cannot_become_a_formula(tmp_path, start):
    path = tmp_path / "results.csv"
    tables.write_csv([{"annotator": f"{start}HYPERLINK(1)", "value": math.nan}], path)
    assert read(path)[1] == [f"'{start}HYPERLINK(1)", ""]


@pytest.mark.parametrize("start", ["\t", "\r", "\n", "\x00", "\ud800"])
def test_csv_text_cannot_break_its_row(tmp_path, start):
    path = tmp_path / "results.csv"
    tables.write_csv([{"annotator": f"{start}=1"}], path)
    assert read(path)[1] == ["\N{REPLACEMENT CHARACTER}=1"]


@given(st.lists(st.text(), min_size=1))
def test_csv_cells_read_back(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("csv") / "names.csv"
    tables.write_csv([{"name": name, "row": i} for i, name in enumerate(names)], path)
    cells = [row[0].removeprefix("'") for row in read(path)[1:]]
    assert cells == [titles.clean_text(name).removeprefix("'") for name in names]
