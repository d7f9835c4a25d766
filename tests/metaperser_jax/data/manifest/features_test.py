"""Precomputed features as tables and as NumPy archives."""

import io
import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from metaperser_jax.data.manifest.features import read_features
from metaperser_jax.errors import InputError, Problems

EXPECTED = np.array([[[1.0, 2.5]], [[3.0, 4.0]]], np.float32)  # [rows, layers, width]


def read(path, problems=None, column="auto"):
    return read_features(path, column, problems or Problems(strict=True))


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def jsonl(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def parquet(**columns):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


NPZ_NAMES = np.array(["a.wav", "b.wav"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.csv", b"sample,f0,f1\na.wav,1,2.5\nb.wav,3,4\n"),
        (
            "f.jsonl",
            jsonl(
                {"sample": "a.wav", "f0": 1, "f1": 2.5},
                {"sample": "b.wav", "f0": 3, "f1": 4},
            ),
        ),
        (
            "f.jsonl",
            jsonl(
                {"sample": "a.wav", "features": [1, 2.5]},
                {"sample": "b.wav", "features": [[3, 4]]},
            ),
        ),
        ("f.parquet", parquet(sample=["a.wav", "b.wav"], x=[[1, 2.5], [3, 4.0]])),
        ("f.parquet", parquet(sample=["a.wav", "b.wav"], x=[1, 3], y=[2.5, 4])),
        ("f.npz", npz_bytes(clips=NPZ_NAMES, features=EXPECTED[:, 0])),
        ("f.npz", npz_bytes(clips=NPZ_NAMES, features=EXPECTED.astype(np.float64))),
        ("F.NPZ", npz_bytes(**{"a.wav": EXPECTED[0, 0], "b.wav": EXPECTED[1]})),
    ],
)
def test_the_same_features_in_many_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    features = read(tmp_path / name)
    assert features.row == {"a.wav": 0, "b.wav": 1}
    assert features.values.dtype == np.float32
    np.testing.assert_array_equal(features.values, EXPECTED)


def test_layers_are_kept(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    (tmp_path / "f.npz").write_bytes(npz_bytes(clips=NPZ_NAMES, features=values))
    np.testing.assert_array_equal(read(tmp_path / "f.npz").values, values)


def test_the_clip_column_may_be_named(tmp_path):
    (tmp_path / "f.csv").write_text("f0,clip\n1,a\n")
    assert read(tmp_path / "f.csv", column="clip").row == {"a": 0}
    with pytest.raises(InputError, match="Did you mean 'clip'"):
        read(tmp_path / "f.csv", column="clips")


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("b.wav,high,4", "column 'f0' holds 'high', no number"),
        ("b.wav,,4", "missing, NaN"),
        ("b.wav,1,1e39", "beyond float32"),
        ("a.wav,3,4", "'a.wav' is named twice"),
        (",3,4", "no clip is named"),
    ],
)
def test_bad_rows_are_error_rows(tmp_path, row, word):
    problems = Problems()
    (tmp_path / "f.csv").write_text(f"sample,f0,f1\na.wav,1,2.5\n{row}\n")
    features = read(tmp_path / "f.csv", problems)
    assert list(features.row) == ["a.wav"]
    assert [(p.severity, p.kind) for p in problems.rows] == [("error", "bad_features")]
    assert problems.rows[0].where == f"{tmp_path / 'f.csv'}:3"
    assert word in problems.rows[0].message


@pytest.mark.parametrize(
    "bad", [[1, 2, 3], [[1, 2], [3, 4]], ["x"], None, {"x": 1}, []]
)
def test_lists_of_another_kind_are_error_rows(tmp_path, bad):
    problems = Problems()
    content = jsonl({"c": "a", "x": [1, 2]}, {"c": "b", "x": bad})
    (tmp_path / "f.jsonl").write_bytes(content)
    assert list(read(tmp_path / "f.jsonl", problems).row) == ["a"]
    assert problems.counts() == {"error bad_features": 1}


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("f.csv", b"sample\na\n", "no column beside 'sample'"),
        (
            "f.csv",
            b"sample,f0,sex\na,1,male\n",
            "column 'sex' holds no numbers.*'male'",
        ),
        ("f.csv", b"sample,f0\na,\n", "no usable row"),
        ("f.npz", b"", "not an npz file"),
        ("f.npz", b"PK\x03\x04 and more", "not an npz file"),
        ("f.npz", npz_bytes(clips=NPZ_NAMES, features=np.zeros(2)), r"clips \(2,\)"),
        ("f.npz", npz_bytes(clips=NPZ_NAMES, features=np.zeros((3, 1))), r"\(3, 1\)"),
        ("f.npz", npz_bytes(a=np.array([None, 1])), "not an npz file"),  # a pickle
        ("f.npz", npz_bytes(a=np.array("text")), "no usable row"),
        ("f.txt.gz", b"", "unknown kind of table"),
    ],
)
def test_files_without_features_are_named(tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        read(tmp_path / name, Problems())
    assert str(tmp_path / name) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    for name in ("f.csv", "f.npz"):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)


NPZ = npz_bytes(clips=NPZ_NAMES, features=EXPECTED)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    cut=st.floats(0, 2),
)
def test_damaged_archives_raise_nothing_but_input_error(tmp_path_factory, edits, cut):
    damaged = bytearray(NPZ)
    for place, value in edits:
        damaged[min(int(place * len(damaged)), len(damaged) - 1)] = value
    path = tmp_path_factory.getbasetemp() / "f.npz"
    path.write_bytes(damaged[: int(cut * len(damaged))])
    try:
        features = read(path, Problems())
    except InputError:
        return
    assert np.isfinite(features.values).all()
