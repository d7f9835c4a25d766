"""Answers are read from any form, each row accounted for, and joined by id alone."""

import collections
import csv
import gzip
import io
import json
import random
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import pytest

from benchmark import streams
from benchmark.errors import InputError, Problems
from benchmark.predictions import (
    answered,
    append_prediction,
    group,
    join,
    read_predictions,
)
from benchmark.typing import Prediction

ROWS = [("a.wav", "happy"), ("b.wav", 'sad, or\n"low"'), ("ć.wav", "zły 😀")]


def as_lines(rows, **extra):
    rows = [{"id": i, "response": r, **extra} for i, r in rows]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_array(rows):
    return json.dumps([{"id": i, "response": r} for i, r in rows], indent=1).encode()


def as_keyed(rows, indent=4):
    record = {"instruction": "How?", "label": "x", "sllm_name": "parrot"}
    table = {i: {**record, "sllm_response": r} for i, r in rows}
    return json.dumps(table, ensure_ascii=False, indent=indent).encode()


def as_csv(rows, delimiter=","):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([("id", "response"), *rows])
    return text.getvalue().encode()


FORMS = {
    "p.jsonl": as_lines(ROWS),
    "p.json": as_array(ROWS),
    "task.json": as_keyed(ROWS),
    "one_line.json": as_keyed(ROWS, indent=None),
    "p.csv": as_csv(ROWS),
    "p.tsv": as_csv(ROWS, "\t"),
    "lines.json": as_lines(ROWS),
    "p.txt": as_lines(ROWS),
}


def read(tmp_path, data, name="p.jsonl", **names):
    path = tmp_path / name
    path.write_bytes(data)
    problems = Problems()
    return list(read_predictions(path, problems, **names)), problems.counts()


def pairs(rows):
    return [(row.id, row.response) for row in rows]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    "dress",
    [
        lambda data: data,
        gzip.compress,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n") if b'""low' not in data else data,
    ],
    ids=["plain", "gz", "bom", "crlf"],
)
def test_every_form_says_the_same(tmp_path, name, dress):
    data = dress(FORMS[name])
    suffix = ".gz" if data.startswith(b"\x1f\x8b") else ""
    rows, counts = read(tmp_path, data, name + suffix)
    assert pairs(rows) == ROWS
    assert counts == {}


def test_the_released_form_names_the_model_and_the_task(tmp_path):
    rows, _ = read(tmp_path, as_keyed(ROWS), "SuperbER_RAVDESS.json")
    assert {row.instance for row in rows} == {"SuperbER_RAVDESS"}
    assert {row.model for row in rows} == {"parrot"}
    record = {"a.wav": {"sllm_response": "x", "example_id": "clips/a"}}
    (tmp_path / "Qwen").mkdir()
    rows, _ = read(tmp_path / "Qwen", json.dumps(record).encode(), "T.json.gz")
    assert rows == [Prediction("T", "clips/a", "x", "Qwen")]


def test_a_folder_of_a_model_is_read_file_by_file(tmp_path):
    for name in ("B.json", "A.json"):
        (tmp_path / name).write_bytes(as_keyed(ROWS))
    rows = list(read_predictions(tmp_path, Problems()))
    assert [row.instance for row in rows] == ["A"] * 3 + ["B"] * 3
    grouped = group(rows)
    assert [*grouped] == [("parrot", "A"), ("parrot", "B")]
    assert pairs(grouped["parrot", "B"]) == ROWS


def test_rows_that_name_nothing_take_what_is_given(tmp_path):
    rows, _ = read(tmp_path, as_lines(ROWS), instance="T", model="m")
    assert {(row.instance, row.model) for row in rows} == {("T", "m")}
    rows, _ = read(tmp_path, as_lines(ROWS, instance="I", model="n"), instance="T")
    assert {(row.instance, row.model) for row in rows} == {("I", "n")}


@pytest.mark.parametrize(
    ("line", "response", "count"),
    [
        ('{"id": "a", "response": null}', None, "warning null_response"),
        ('{"id": "a", "response": 3.5}', "3.5", "warning non_text_response"),
        ('{"id": "a", "response": true}', "true", "warning non_text_response"),
        ('{"id": "a", "response": ["x"]}', '["x"]', "warning non_text_response"),
        ('{"id": "a", "response": NaN}', "NaN", "warning non_text_response"),
        ('{"id": "a", "response": "\\ud800!"}', "\ufffd!", "warning invalid_unicode"),
        ('{"id": "a", "response": "\xff"}', "\ufffd", "warning invalid_utf8"),
        ('{"id": "a", "response": ""}', "", None),
        ('{"id": 7, "response": "x"}', "x", None),
        ('{"file": "a", "prediction": "x"}', "x", None),
        ('{"id": "a", "response": "x", "scores": [1]}', "x", "warning bad_scores"),
        (
            '{"id": "a", "response": "x", "scores": {"b": 1e999}}',
            "x",
            "warning bad_scores",
        ),
    ],
)
def test_answers_that_are_no_plain_text(tmp_path, line, response, count):
    rows, counts = read(tmp_path, line.encode("latin-1") + b"\n")
    assert [row.response for row in rows] == [response]
    assert counts == ({count: 1} if count else {})


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('{"response": "x"}', "missing_id"),
        ('{"id": "", "response": "x"}', "missing_id"),
        ('{"id": true, "response": "x"}', "missing_id"),
        ('{"id": ["a"], "response": "x"}', "missing_id"),
        ('{"id": "a"}', "missing_response"),
        ('{"id": "a", "resp', "damaged_line"),
        ('["a", "x"]x', "damaged_line"),
        ("[" * 100_000, "damaged_line"),
    ],
)
def test_rows_that_are_skipped_are_counted(tmp_path, line, kind):
    data = b'{"id": "b", "response": "y"}\n' + line.encode() + b"\n\n"
    rows, counts = read(tmp_path, data)
    assert pairs(rows) == [("b", "y")]
    assert counts == {f"error {kind}": 1}


def test_half_a_last_line_is_told_from_damage(tmp_path):
    rows, counts = read(tmp_path, as_lines(ROWS)[:-3])
    assert pairs(rows) == ROWS[:2]
    assert counts == {"error half_line": 1}
    rows, counts = read(tmp_path, as_lines(ROWS)[:-1])
    assert pairs(rows) == ROWS, "only the line feed is missing"


def test_an_answer_of_50_megabytes_is_cut(tmp_path):
    data = as_lines([("a", "x" * 50_000_000), ("b", "y")])
    for name in ("p.jsonl", "p.json", "p.csv"):
        if name == "p.csv":
            data = as_csv([("a", "x" * 50_000_000), ("b", "y")])
        rows, counts = read(tmp_path, data, name)
        assert [len(row.response) for row in rows] == [100_000, 1]
        assert counts == {"warning long_response": 1}


def test_a_line_beyond_the_bound_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MAX_RECORD_CHARS", 40)
    rows, counts = read(tmp_path, as_lines([("a", "x" * 50), ("b", "y")]))
    assert pairs(rows) == [("b", "y")]
    assert counts == {"error long_line": 1}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "p.csv",
            b"name,answer\na,b\n",
            "header .'name', 'answer'.*a column id or file",
        ),
        ("p.json", b'[{"id": "a", "response": "x"}, ', "cut off"),
        ("p.json", b'{"a": {"sllm_response": "x"}', "cut off"),
        ("p.json", b'{"a.wav": {"sllm_response": "x"}} {', "nothing after the end"),
    ],
)
def test_files_that_are_beyond_reading(tmp_path, name, data, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, data, name)
    assert name in str(caught.value)


def test_no_such_file_and_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        list(read_predictions(tmp_path / "absent.jsonl", Problems()))
    with pytest.raises(InputError, match="no predictions in this folder"):
        list(read_predictions(tmp_path, Problems()))
    assert read(tmp_path, b"") == ([], {})


def test_csv_rows_that_do_not_fit_the_header(tmp_path):
    data = b'id,response\na,x\nb\nc,y,z\n"d"e,x\n,\ne,"open\n'
    rows, counts = read(tmp_path, data, "p.csv")
    assert pairs(rows) == [("a", "x")]
    assert counts == {"error damaged_row": 4}


def test_scores_are_kept(tmp_path):
    row = {"id": "a", "response": "x", "scores": {"x": 1, "y": 0.25}}
    rows, _ = read(tmp_path, json.dumps(row).encode())
    assert rows[0].scores == (("x", 1.0), ("y", 0.25))
    rows, _ = read(tmp_path, b'id,response,scores\na,x,"{""x"": 0.5}"\n', "p.csv")
    assert rows[0].scores == (("x", 0.5),)


# Joining


def answers(*rows, model="m"):
    return [Prediction("T", i, r, model) for i, r in rows]


def test_the_join_is_on_ids_and_never_on_order():
    ids = [f"clip {n}" for n in range(50)]
    rows = answers(*((i, f"answer to {i}") for i in ids))
    random.Random(0).shuffle(rows)
    joined = join(ids, rows, instance="T")
    assert [row.id for row in joined.predictions] == ids
    assert joined.coverage == 1.0
    assert joined == join(ids, rows[::-1], instance="T")


def test_what_is_missing_unknown_or_repeated_is_counted():
    problems = Problems()
    rows = answers(
        ("a", "x"), ("z", "?"), ("a", "x"), ("b", None), ("c", None), ("c", "y")
    )
    joined = join(["a", "b", "c", "d"], rows, problems, instance="T")
    assert [row and row.response for row in joined.predictions] == [
        "x",
        None,
        "y",
        None,
    ]
    assert joined.missing == ("d",)
    assert joined.unknown == ("z",)
    assert joined.num_repeated == 2
    assert joined.coverage == 0.5
    assert problems.counts() == {
        "warning missing_predictions": 1,
        "warning unknown_ids": 1,
        "warning repeated_predictions": 1,
    }


def test_a_null_after_an_answer_changes_nothing():
    joined = join(["a"], answers(("a", "x"), ("a", None)))
    assert joined.predictions[0].response == "x"


def test_answers_that_differ_are_an_error():
    with pytest.raises(InputError, match=r"1 predictions differ.*'a'.*'x' and 'y'"):
        join(["a"], answers(("a", "x"), ("a", "y")), instance="T")
    two = answers(("a", "x"), model="m") + answers(("a", "y"), model="n")
    with pytest.raises(InputError, match="of two models, 'm' and 'n'"):
        join(["a"], two)


def test_examples_with_one_id_are_an_error():
    with pytest.raises(InputError, match="examples with one id: 'a'"):
        join(["a", "b", "a"], [], instance="T")


def test_predictions_of_other_instances_are_passed_over():
    rows = [
        Prediction("T", "a", "x"),
        Prediction("U", "a", "y"),
        Prediction("", "b", "z"),
    ]
    joined = join(["a", "b"], rows, instance="T")
    assert [row.response for row in joined.predictions] == ["x", "z"]
    assert joined.unknown == ()


def test_no_examples():
    joined = join([], [])
    assert joined.predictions == ()
    assert joined.coverage != joined.coverage


IDS = st.text(st.sampled_from("abc"), min_size=1, max_size=2)


@hypothesis.given(
    st.lists(IDS, unique=True), st.lists(st.tuples(IDS, st.sampled_from([None, "x"])))
)
def test_every_prediction_of_a_join_is_accounted_for(ids, rows):
    joined = join(ids, answers(*rows))
    used = [row for row in joined.predictions if row is not None]
    assert len(used) + len(joined.unknown) + joined.num_repeated == len(rows)
    assert len(used) + len(joined.missing) == len(ids)
    told = {i for i, r in rows if r}
    assert {row.id for row in used if row.response} == told & {*ids}


# Writing and resuming


@hypothesis.given(
    st.lists(
        st.builds(
            Prediction,
            instance=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
                str.strip
            ),
            response=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            model=st.text(st.characters(exclude_categories=["Cs"])),
            scores=st.just(()) | st.just((("a", 0.25), ("b", 0.75))),
        ),
        max_size=4,
    )
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_what_is_appended_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("run") / "predictions.jsonl"
    path.touch()
    for row in rows:
        append_prediction(path, row)
    assert list(read_predictions(path, Problems())) == rows


def test_a_killed_run_is_taken_up_at_any_byte(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = answers(*ROWS)
    assert answered(path) == set()
    for row in rows:
        append_prediction(path, row)
    data = path.read_bytes()
    assert set(json.loads(data.splitlines()[0])) == {
        "instance",
        "id",
        "response",
        "model",
    }
    for size in range(len(data)):
        path.write_bytes(data[:size])
        done = answered(path)
        assert done == {row.id for row in rows[: len(done)]}, "a prefix of the run"
        assert len(done) >= data[:size].count(b"\n")
        for row in rows[len(done) :]:
            append_prediction(path, row)
        assert list(read_predictions(path, Problems())) == rows


def test_answered_looks_at_instance_and_model(tmp_path):
    path = tmp_path / "p.jsonl"
    append_prediction(path, Prediction("T", "a", "x", "m"))
    append_prediction(path, Prediction("U", "b", "x", "n"))
    append_prediction(path, Prediction("U", "c", None, "n"))
    assert answered(path) == {"a", "b"}
    assert answered(path, instance="U") == {"b"}
    assert answered(path, model="m") == {"a"}


# Fuzz


def mutate(data, edits):
    data = bytearray(data)
    for place, byte, action in edits:
        place %= len(data) + 1
        if action == "insert":
            data[place:place] = bytes([byte])
        elif action == "cut":
            del data[place : place + byte]
        elif place < len(data):
            data[place] = byte
    return bytes(data)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.integers(0, 255) | st.sampled_from(b'"{}[],:\n\\'),
        st.sampled_from(["set", "insert", "cut"]),
    ),
    min_size=1,
    max_size=6,
)


@hypothesis.given(st.sampled_from([*FORMS, "p.jsonl.gz", "task.json.gz"]), EDITS)
@hypothesis.settings(max_examples=400, deadline=None)
def test_damaged_files_raise_nothing_but_input_errors(tmp_path_factory, name, edits):
    data = FORMS[name.removesuffix(".gz")]
    data = gzip.compress(data) if name.endswith(".gz") else data
    path = tmp_path_factory.getbasetemp() / f"fuzz_{name}"
    path.write_bytes(mutate(data, edits))
    problems = Problems()
    try:
        rows = list(read_predictions(path, problems))
    except InputError:
        return
    assert all(isinstance(row, Prediction) for row in rows)
    for row in rows:
        f"{row.id}{row.response}{row.model}".encode()


@hypothesis.given(EDITS)
@hypothesis.settings(max_examples=200, deadline=None)
def test_every_line_is_used_or_counted(tmp_path_factory, edits):
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    data = mutate(as_lines(ROWS * 3), edits)
    hypothesis.assume(not data[:3].lstrip(b"\xef\xbb\xbf").startswith(b"["))
    hypothesis.assume(data[:2] not in (b"\xff\xfe", b"\xfe\xff"))
    path.write_bytes(data)
    problems = Problems()
    try:
        rows = list(read_predictions(path, problems))
    except InputError:  # spaces before a bracket: one array
        assert data.decode("utf-8-sig", "replace").lstrip().startswith("[")
        return
    text = data.decode("utf-8-sig", "replace")
    skipped = collections.Counter(problem.severity for problem in problems.rows)
    assert len(rows) + skipped["error"] == sum(
        bool(x.strip()) for x in text.split("\n")
    )


SPEED = """
import psutil, sys, time
from benchmark.errors import Problems
from benchmark.predictions import join, read_predictions
memory = psutil.Process().memory_info
before, start = memory().rss, time.process_time()
rows = list(read_predictions(sys.argv[1], Problems()))
joined = join([f"clip {n}" for n in range(100_000)], rows)
assert joined.coverage == 1.0
print(time.process_time() - start, (memory().rss - before) / 1e6, memory().rss / 1e6)
"""


def test_a_hundred_thousand_take_seconds_and_little_memory(tmp_path):
    rows = [(f"clip {n}", "a reply of some length " * 4) for n in range(100_000)]
    path = tmp_path / "p.jsonl"
    path.write_bytes(as_lines(rows[::-1]))
    command = [sys.executable, "-c", SPEED, path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes, whole = map(float, result.stdout.split())
    assert seconds < 5
    assert megabytes < 150
    assert whole < 300, "with JAX and NumPy"


def test_reading_long_fields_leaves_the_limit_of_the_process_as_it_was(tmp_path):
    before = csv.field_size_limit()
    path = tmp_path / "a.csv"
    path.write_text("id,response\na,{}\nb,yes\n".format("x" * 200_000))
    found = []
    for prediction in read_predictions(path, Problems()):
        assert csv.field_size_limit() == before  # between two rows as well
        found.append(len(prediction.response))
    assert found == [100_000, 3]  # what is longer is cut
