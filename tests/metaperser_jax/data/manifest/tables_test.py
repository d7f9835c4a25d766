"""Tables in CSV, JSONL and Parquet."""

import csv
import datetime
import decimal
import io
import json
import math

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet
import pytest

from metaperser_jax.data.manifest.tables import (
    Table,
    numeric_column,
    parse_number,
    read_table,
    require_columns,
)
from metaperser_jax.errors import InputError, Problems

SIMPLE = {"clip": ["a", "b"], "label": ["happy", "sad"]}


def read(tmp_path, name, content, problems=None, **kwargs):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, problems or Problems(strict=True), **kwargs)


def kinds(problems):
    return [(problem.severity, problem.kind) for problem in problems.rows]


class TestCsv:
    @pytest.mark.parametrize(
        "content",
        [
            "clip,label\na,happy\nb,sad\n",
            "clip,label\na,happy\nb,sad",
            "clip,label\r\na,happy\r\nb,sad\r\n",
            "clip,label\ra,happy\rb,sad\r",
            "\ufeffclip,label\na,happy\nb,sad\n",
            " clip , label \na,happy\nb,sad\n",
            '"clip","label"\n"a","happy"\n"b","sad"\n',
            "\n\nclip,label\n\na,happy\n , \n,\nb,sad\n\n",
            "clip;label\na;happy\nb;sad\n",
            "clip\tlabel\na\thappy\nb\tsad\n",
            "clip,label\na,happy\nb,sad\n".encode("utf-16"),
            b"\xff\xfe" + "clip,label\na,happy\nb,sad\n".encode("utf-16-le"),
            b"\xfe\xff" + "clip,label\na,happy\nb,sad\n".encode("utf-16-be"),
        ],
    )
    def test_the_same_table_in_many_hands(self, tmp_path, content):
        assert read(tmp_path, "t.csv", content).columns == SIMPLE

    def test_quoted_cells_hold_anything(self, tmp_path):
        table = read(tmp_path, "t.csv", 'clip,label\n"a,1","say ""x""\nand y"\nb,z\n')
        assert table.columns == {"clip": ["a,1", "b"], "label": ['say "x"\nand y', "z"]}
        assert [table.place(row)[-2:] for row in range(2)] == [":2", ":4"]

    def test_places_count_blank_lines(self, tmp_path):
        table = read(tmp_path, "t.csv", "\nclip,label\n\na,happy\n\n\nb,sad\n")
        assert table.lines == [4, 7]
        assert table.place(1) == f"{tmp_path / 't.csv'}:7"

    def test_a_delimiter_may_be_declared(self, tmp_path):
        table = read(tmp_path, "t.csv", "clip|label\na|x,y;z\n", delimiter="|")
        assert table.columns == {"clip": ["a"], "label": ["x,y;z"]}

    def test_latin_1_is_read_with_a_warning(self, tmp_path):
        problems = Problems()
        content = "clip,label\na,fröhlich\n".encode("latin-1")
        table = read(tmp_path, "t.csv", content, problems)
        assert table.columns["label"] == ["fröhlich"]
        assert kinds(problems) == [("warning", "latin1_text")]
        assert "byte 0xf6 at 15" in problems.rows[0].message

    @pytest.mark.parametrize("row", ["a", "a,b,c", "a,b,"])
    def test_rows_of_other_length_are_error_rows(self, tmp_path, row):
        problems = Problems()
        content = f"clip,label\n{row}\nb,sad\n"
        table = read(tmp_path, "t.csv", content, problems)
        assert table.columns == {"clip": ["b"], "label": ["sad"]}
        assert kinds(problems) == [("error", "ragged_row")]
        assert problems.rows[0].where.endswith("t.csv:2")
        assert "under 2 columns" in problems.rows[0].message

    @pytest.mark.parametrize(
        ("content", "word"),
        [
            ("", "an empty file"),
            (" \n\n", "an empty file"),
            ("\ufeff", "a header and no rows"),
            ("clip,label\n", "a header and no rows"),
            ("clip,label", "a header and no rows"),
            ("clip,clip\na,b\n", "columns twice: 'clip'"),
            ('clip,label\na,"happy\nb,sad\n', r"t\.csv:2: not CSV.*unclosed quote"),
            (b"PK\x03\x04 an xlsx", "an Excel or zip file"),
            (b"PAR1", "a Parquet file"),
            (b"clip,label\na,\0\n", "binary data"),
            (b"\xff\xfec", "broken UTF-16"),
            ("clip,label\na," + "x" * 200_000, "field larger than field limit"),
        ],
    )
    def test_files_that_are_no_table_are_named(self, tmp_path, content, word):
        with pytest.raises(InputError, match=word) as caught:
            read(tmp_path, "t.csv", content, Problems())
        assert str(tmp_path / "t.csv") in str(caught.value)

    def test_only_bad_rows_leave_no_table(self, tmp_path):
        with pytest.raises(InputError, match="no rows"):
            read(tmp_path, "t.csv", "clip,label\na\nb\n", Problems())


class TestJsonl:
    def test_objects_become_columns(self, tmp_path):
        content = (
            '{"clip": "a", "label": ["happy", "sad"]}\n\n{"clip": 2, "grade": NaN}\r\n'
        )
        table = read(tmp_path, "t.jsonl", content)
        assert table.columns["clip"] == ["a", 2]
        assert table.columns["label"] == [["happy", "sad"], None]
        assert table.columns["grade"][0] is None
        assert math.isnan(table.columns["grade"][1])
        assert table.lines == [1, 3]
        assert table.texts("clip") == ["a", "2"]

    def test_line_separators_within_a_text_do_not_end_a_line(self, tmp_path):
        line = json.dumps({"clip": "a\u2028b"}, ensure_ascii=False)
        assert read(tmp_path, "t.jsonl", line).columns == {"clip": ["a\u2028b"]}

    @pytest.mark.parametrize(
        "line",
        [
            "{",
            "[1, 2]",
            "3",
            "null",
            '{"clip": "a"} {"clip": "b"}',
            '{"clip": "\\ud800"}',
            "[" * 100_000,
            '{"clip": ' + "1" * 5_000 + "}",
        ],
    )
    def test_bad_lines_are_error_rows(self, tmp_path, line):
        problems = Problems()
        table = read(tmp_path, "t.jsonl", '{"clip": "a"}\n' + line, problems)
        assert table.columns == {"clip": ["a"]}
        assert kinds(problems) == [("error", "bad_json")]
        assert problems.rows[0].where.endswith("t.jsonl:2")
        assert "one object a line" in problems.rows[0].message

    def test_a_file_without_objects_is_an_error(self, tmp_path):
        with pytest.raises(
            InputError, match=r"no line holds a JSON object.*:1: a list"
        ):
            read(tmp_path, "t.jsonl", "[1]\n", Problems())


class TestParquet:
    def write(self, tmp_path, columns):
        pyarrow.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
        return read_table(tmp_path / "t.parquet", Problems(strict=True))

    def test_columns_become_python_values(self, tmp_path):
        table = self.write(
            tmp_path,
            {
                "clip": ["a", None],
                "labels": [["x", "y"], []],
                "grade": [1.5, None],
                "kind": pa.array(["u", "v"]).dictionary_encode(),
                "when": [datetime.date(2020, 1, 2), None],
                "money": [decimal.Decimal("1.50"), None],
            },
        )
        assert table.texts("clip") == ["a", ""]
        assert table.columns["labels"] == [["x", "y"], []]
        assert table.texts("kind") == ["u", "v"]
        assert table.texts("when") == ["2020-01-02", ""]
        assert numeric_column(table, "money")[0][0] == 1.5
        assert table.place(1) == f"{tmp_path / 't.parquet'}:2"

    def test_folders_named_like_keys_add_no_columns(self, tmp_path):
        folder = tmp_path / "clip=7"
        folder.mkdir()
        assert list(self.write(folder, {"label": ["a"]}).columns) == ["label"]

    def test_no_rows_is_an_error(self, tmp_path):
        with pytest.raises(InputError, match="a header and no rows"):
            self.write(tmp_path, {"clip": pa.array([], pa.string())})


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.csv.gz"])
def test_other_kinds_of_tables_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"unknown kind of table.*\.csv.*\.parquet"):
        read(tmp_path, name, "clip\na\n")


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "folder.csv", "nul\0.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            read_table(tmp_path / name, Problems())


def test_a_missing_column_is_named_with_those_found():
    table = Table("t.csv", {"clip": [], "annotater": []}, [])
    require_columns(table, ["clip"])
    with pytest.raises(InputError) as caught:
        require_columns(table, ["clip", "annotator"])
    assert str(caught.value) == (
        "t.csv: no column 'annotator'; found 'clip', 'annotater'. "
        "Did you mean 'annotater'?"
    )


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *((text, 3.5) for text in ("3.5", " +3.5 ", "35e-1", "3.50")),
        *((text, 2.0) for text in ("2", "2.", "+2", 2, 2.0)),
        (".5", 0.5),
        ("-1", -1.0),
        (True, 1.0),
        *((text, math.nan) for text in ("", " ", "NaN", "NA", "null", None, math.nan)),
        *((text, None) for text in ("3,5", "abc", "inf", "-Infinity", "1e309", "1_0")),
        *((value, None) for value in ("٣", "0x10", "3 4", [1], {}, math.inf, 10**400)),
    ],
)
def test_numbers_are_plain_and_finite(cell, number):
    assert parse_number(cell) == pytest.approx(number, nan_ok=True)


def test_a_numeric_column_tells_missing_from_wrong():
    table = Table("t.csv", {"x": ["1", "", "high"]}, [2, 3, 4])
    values, bad = numeric_column(table, "x")
    assert values[0] == 1
    assert math.isnan(values[1])
    assert math.isnan(values[2])
    assert bad.tolist() == [False, False, True]


NAMES = ["t.csv", "t.tsv", "t.jsonl", "t.parquet"]


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(name=st.sampled_from(NAMES), content=st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_input_error(tmp_path_factory, name, content):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        table = read_table(path, Problems())
    except InputError:
        return
    assert all(len(column) == len(table.lines) > 0 for column in table.columns.values())


def parquet_bytes():
    buffer = io.BytesIO()
    columns = {"clip": ["a", "b"] * 20, "x": [1.5, None] * 20, "l": [["u"], []] * 20}
    pyarrow.parquet.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


JSONL_BYTES = b'{"clip": "a", "label": ["x", "\\u00e9"], "grade": 1.5e3}\n' * 4
CSV_BYTES = 'clip;label\n"a";"é, ""x"""\r\nb;c\n'.encode() * 2
VALID = [("t.csv", CSV_BYTES), ("t.jsonl", JSONL_BYTES), ("t.parquet", parquet_bytes())]


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    case=st.sampled_from(VALID),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    cut=st.floats(0, 2),
)
def test_damaged_tables_raise_nothing_but_input_error(
    tmp_path_factory, case, edits, cut
):
    name, content = case
    damaged = bytearray(content)
    for place, value in edits:
        damaged[min(int(place * len(damaged)), len(damaged) - 1)] = value
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(damaged[: int(cut * len(damaged))])
    try:
        table = read_table(path, Problems())
    except InputError:
        return
    for column in table.columns:  # whatever was read can be used
        table.texts(column)
        numeric_column(table, column)


@hypothesis.settings(deadline=None)
@hypothesis.given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\0", codec="utf-8")),
            st.text(st.characters(exclude_characters="\0", codec="utf-8")),
        ),
        min_size=1,
        max_size=8,
    ),
    delimiter=st.sampled_from(",;\t"),
)
def test_csv_gives_back_what_was_written(tmp_path_factory, rows, delimiter):
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    hypothesis.assume(rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("clip", "label"), *rows])
    path = tmp_path_factory.getbasetemp() / "t.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    table = read_table(path, Problems(strict=True))
    assert list(zip(*table.columns.values(), strict=True)) == rows
