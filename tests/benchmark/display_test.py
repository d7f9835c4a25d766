import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import display


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, Grüße, 你好", "plain, Grüße, 你好"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("over\rwritten\n", "over\\x0dwritten\\x0a"),
        ("turned \u202e round", "turned \\u202e round"),
        ("half \ud800", "half \\ud800"),
        ("\x9b2J", "\\x9b2J"),
    ],
)
def test_control_characters_are_written_out(text, expected):
    assert display.printable(text) == expected


def test_lines_may_be_kept_and_the_rest_is_counted():
    assert display.printable("a\n\tb\x00", keep_lines=True) == "a\n\tb\\x00"
    assert display.printable("x" * 1500, 3) == "xxx ... (1,497 more characters)"


@given(st.text())
def test_what_is_shown_has_no_control_character(text):
    assert not set(display.printable(text)) & set("\x1b\r\n\x07\x08\x9b\u202e")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        (" \t=1", "' \t=1"),
        ("|calc", "'|calc"),
        ("a=1", "a=1"),
        (-0.5, -0.5),
        (None, None),
    ],
)
def test_no_cell_is_a_formula(cell, expected):
    assert display.csv_safe(cell) == expected


def test_a_table_fits_and_keeps_both_ends_of_a_name():
    rows = [["A" * 80 + "end", "B" * 60, "1"], ["short", "x\x1b[0m", "2"]]
    text = display.table(["task", "notes", "n"], rows)
    assert max(map(len, text.splitlines())) <= 100
    assert "~" in text
    assert "end" in text
    assert "\x1b" not in text


def test_columns_are_aligned():
    lines = display.table(["task", "n"], [["a", "1"], ["bb", "22"]]).splitlines()
    assert lines == ["task   n", "--------", "a      1", "bb    22"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.12345, "0.123"), (-1.0, "-1.000")]
)
def test_numbers(value, text):
    assert display.number(value) == text


def test_intervals():
    assert display.between(0.1, 0.25, 2) == "0.10..0.25"
    assert display.between(None, 1.0) == ""
