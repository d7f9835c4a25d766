"""Every released form gives the same examples."""

import json
import os
import warnings

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark import instances
from benchmark.errors import InputError, Problems
from benchmark.headers import AudioError
from benchmark.instances import load_audio, read_instance, safe_path
from benchmark.typing import Audio, Task
from tests.benchmark.recordings import encoded

TASK = Task("T_D", "classification", "llm_classification", instances=("T_D",))
TAGS = TASK._replace(multi_label=True)


def sound(hertz=440.0, kind="WAV"):
    return {"bytes": encoded(hertz, kind), "path": "x.wav"}


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_local(folder, records, audios=()):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.json").write_text(json.dumps(records))
    for name in audios:
        (folder / name).write_bytes(encoded())
    return folder


def read(source, task=TASK, instance="T_D"):
    problems = Problems()
    return list(read_instance(source, task, instance, problems)), problems.counts()


def row(**columns):
    return {"file": "a.wav", "instruction": "How?", "label": "glad", **columns}


# Columns


@pytest.mark.parametrize(
    ("columns", "field", "expected"),
    [
        ({}, "references", ("glad",)),
        (
            {"label2": "sad", "label10": "z", "label3": "y"},
            "references",
            ("glad", "sad", "y", "z"),
        ),
        ({"label": 3}, "references", ("3",)),
        ({"label": 2.5}, "references", ("2.5",)),
        ({"label": True}, "references", ("True",)),
        ({"label": ["a", "b"]}, "references", ("a", "b")),
        ({"label": None}, "references", ()),
        ({"label": "a, b"}, "references", ("a, b",)),
        ({"label": "['a', 'b']"}, "references", ("['a', 'b']",)),
        ({"text": "one", "text2": "two"}, "texts", ("one", "two")),
        ({"text": None, "text2": "two"}, "texts", ("two",)),
        ({"query": "a word", "doc": "a page"}, "texts", ("a word", "a page")),
        ({"speaker": "ann"}, "speaker", "ann"),
        ({"speaker_id": 7}, "speaker", "7"),
        ({"start": 1.5}, "extra", {"file": "a.wav", "start": 1.5}),
        ({"sllm_response": "x", "sllm_name": "m"}, "extra", {"file": "a.wav"}),
    ],
)
def test_columns_of_both_forms(tmp_path, columns, field, expected):
    write_parquet(tmp_path / "a.parquet", [row(**columns)])
    folder = write_local(tmp_path / "local", {"a.wav": row(**columns)}, ["a.wav"])
    for source in (tmp_path / "a.parquet", folder):
        (example,), _ = read(source)
        assert example.id == "a.wav"
        assert example.instance == "T_D"
        assert getattr(example, field) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("a, b", ("a", "b")),
        ("a,b,a,", ("a", "b")),
        ("['a', 'b', 'a']", ("a", "b")),
        ('["a", "it\'s"]', ("a", "it's")),
        ("[a, b", ("[a", "b")),
        ("[a, b]", ("[a", "b]")),
        ("a", ("a",)),
        ("", ()),
        (["a", "b", "a"], ("a", "b")),
        ("['\\d']", ("['\\d']",)),
        ("[" * 10_000 + "]" * 10_000, None),
    ],
)
def test_labels_of_a_multi_label_task_are_split_and_stand_once(
    tmp_path, label, expected
):
    folder = write_local(tmp_path, {"a.wav": row(label=label)}, ["a.wav"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (example,), _ = read(folder, TAGS)
    assert example.references == (expected if expected is not None else (label,))
    folder = write_local(
        tmp_path, {"a.wav": row(label="a, b", label2="b, c")}, ["a.wav"]
    )
    assert read(folder, TAGS)[0][0].references == ("a", "b", "c")


@pytest.mark.parametrize(
    ("columns", "hertz"),
    [
        ({"audio": 1}, [1]),
        ({"audio": 1, "audio2": 2, "audio3": 3}, [1, 2, 3]),
        ({"audio2": 2, "audio1": 1}, [1, 2]),
        ({"testing": 2, "enrollment": 1}, [1, 2]),
        ({"doc": 2, "query": 1}, [1, 2]),
        ({}, []),
    ],
)
def test_recordings_of_a_row_stand_in_the_order_of_their_columns(
    tmp_path, columns, hertz
):
    columns = {name: sound(440.0 * n) for name, n in columns.items()}
    write_parquet(tmp_path / "a.parquet", [row(**columns)])
    (example,), counts = read(tmp_path)
    assert counts == {}
    assert [audio.data for audio in example.audios] == [
        encoded(440.0 * n) for n in hertz
    ]
    assert not {*columns} & {*example.extra}


def test_recordings_may_be_bytes_alone_or_files_beside(tmp_path):
    (tmp_path / "b.wav").write_bytes(encoded(880))
    rows = [
        row(audio={"bytes": None, "path": "b.wav"}),
        row(audio={"bytes": encoded(), "path": None}),
        row(audio={"bytes": None, "path": None}),
    ]
    write_parquet(tmp_path / "a.parquet", rows)
    (first, second, third), counts = read(tmp_path / "a.parquet")
    assert first.audios == (Audio(path=str(tmp_path / "b.wav")),)
    assert second.audios == (Audio(data=encoded()),)
    assert third.audios == ()
    assert counts == {"warning null_audio": 1}
    write_parquet(tmp_path / "a.parquet", [row(audio=encoded())])
    assert read(tmp_path / "a.parquet")[0][0].audios == (Audio(data=encoded()),)


@pytest.mark.parametrize(
    ("columns", "identity"),
    [
        ({"file": "x"}, "x"),
        ({"file1": "x", "file2": "y", "file": None}, "x"),
        ({"file": 12}, "12"),
    ],
)
def test_ids_of_parquet_rows(tmp_path, columns, identity):
    write_parquet(tmp_path / "a.parquet", [row(**columns)])
    assert read(tmp_path)[0][0].id == identity


def test_rows_that_ask_nothing_are_skipped_and_counted(tmp_path):
    rows = [row(), row(file=None), row(instruction=" "), row(instruction=None)]
    write_parquet(tmp_path / "a.parquet", rows)
    examples, counts = read(tmp_path)
    assert len(examples) == 1
    assert counts == {"error missing_instruction": 2, "error missing_id": 1}


def test_doubtful_labels_are_counted(tmp_path):
    records = {"a.wav": row(label=3), "b.wav": row(label=None)}
    _, counts = read(write_local(tmp_path, records, ["a.wav", "b.wav"]))
    assert counts == {"warning non_text_label": 1, "warning missing_label": 1}


# Forms


def test_the_test_split_of_a_dataset_is_chosen(tmp_path):
    for name in (
        "data/train-00000-of-00001",
        "data/test-00001-of-2",
        "data/test-00000-of-2",
    ):
        write_parquet(tmp_path / f"{name}.parquet", [row(file=name)])
    examples, _ = read(tmp_path)
    assert [e.id for e in examples] == ["data/test-00000-of-2", "data/test-00001-of-2"]


def test_a_folder_of_instances_and_a_results_file(tmp_path):
    write_local(tmp_path / "T_D", {"a.wav": row()}, ["a.wav"])
    (example,), _ = read(tmp_path)
    assert example.audios == (Audio(path=str(tmp_path / "T_D" / "a.wav")),)
    results = tmp_path / "Qwen" / "T_D.json"
    results.parent.mkdir()
    results.write_text(json.dumps({"a.wav": row(sllm_response="glad")}))
    (example,), counts = read(results)
    assert example.references == ("glad",)
    assert example.audios == ()
    assert counts == {"warning no_recordings": 1}


def test_further_recordings_stand_beside_the_first(tmp_path):
    names = ["a.wav", "a_pair2.wav", "a_pair3.wav", "a_pair5.wav", "b.wav"]
    folder = write_local(
        tmp_path, {"a.wav": row(), "b.wav": row(), "c.wav": row()}, names
    )
    (a, b, c), counts = read(folder)
    assert [os.path.basename(x.path) for x in a.audios] == names[:3]
    assert len(b.audios) == 1
    assert counts == {}, "predictions can be scored without recordings"
    with pytest.raises(AudioError, match=r"c\.wav: no such file"):
        load_audio(c.audios[0])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.parquet", b"PAR1 nothing PAR1", "cannot be read"),
        ("a.parquet", b"", "cannot be read"),
        ("metadata.json", b"[]", "keyed by the recordings"),
        ("metadata.json", b"", "keyed by the recordings"),
        ("metadata.json", b'{"a.wav": {', "damaged at character"),
        ("other.txt", b"", "holds no data"),
    ],
)
def test_data_that_cannot_be_read(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "absent")


def test_text_that_no_file_can_hold_is_replaced(tmp_path):
    records = {"a.wav": row(instruction="\ud800?", label="\udfff", text="\ud801")}
    (example,), _ = read(write_local(tmp_path, records, ["a.wav"]))
    assert example.instruction == "\ufffd?"
    assert example.references == example.texts == ("\ufffd",)


def test_a_name_that_is_too_long_is_a_missing_recording(tmp_path):
    folder = write_local(tmp_path, {"x" * 5_000: row()}, ["a.wav"])
    (example,), _ = read(folder)
    with pytest.raises(AudioError, match="cannot be read"):
        load_audio(example.audios[0])


# Names


@pytest.mark.parametrize(
    "name",
    [
        "../a.wav",
        "x/../../a.wav",
        "/etc/passwd",
        "..\\a.wav",
        "C:\\a.wav",
        "",
        "a\0b",
        "\\a",
        "\ud800.wav",
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="is no name of a file"):
        safe_path(tmp_path, name)
    examples, counts = read(
        write_local(tmp_path, {name: row(), "b.wav": row()}, ["b.wav"])
    )
    assert [example.id for example in examples] == ["b.wav"]
    assert counts == {"error unsafe_path": 1}


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encoded())
    records = {"a.wav": row(), "b.wav": row(), "sub/c.wav": row(), "d.wav": row()}
    folder = write_local(tmp_path / "in", records, ["b.wav", "d.wav"])
    (folder / "a.wav").symlink_to(secret)
    (folder / "b_pair2.wav").symlink_to(secret)
    (folder / "sub").symlink_to(tmp_path)
    examples, counts = read(folder)
    assert [example.id for example in examples] == ["d.wav"]
    assert counts == {"error unsafe_path": 3}
    (folder / "link.wav").symlink_to(folder / "b.wav")
    assert safe_path(folder, "link.wav") == str(folder / "link.wav")


# Recordings


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_a_recording_is_decoded_from_bytes_as_from_a_file(tmp_path, kind):
    data = encoded(kind=kind, rate=22_050)
    (tmp_path / "a").write_bytes(data)
    one = load_audio(Audio(path=str(tmp_path / "a")))
    two = load_audio(Audio(data=data), "T, a")
    np.testing.assert_array_equal(one, two)
    assert abs(len(one) - 1_600) < 20


def test_what_is_no_recording_names_the_example():
    with pytest.raises(AudioError, match="T, a: 0 bytes"):
        load_audio(Audio(), "T, a")


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    """A reader holds a few rows, whatever comes after them."""
    rows = [row(file=str(n), audio=sound()) for n in range(100)]
    write_parquet(tmp_path / "a.parquet", rows)
    held = []
    batches = pq.ParquetFile.iter_batches

    def counting(self, *args, **kwargs):
        for batch in batches(self, *args, **kwargs):
            held.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counting)
    examples = read_instance(tmp_path, TASK, "T_D", Problems())
    assert next(examples).id == "0"
    assert held == [8]
    assert len(list(examples)) == 99


# Fuzz


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=200, deadline=None)
def test_damaged_metadata_raises_nothing_but_input_errors(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    records = {"a.wav": row(label="['a', 'b']"), "b.wav": row(text="x", label2=3)}
    write_local(folder, records, ["a.wav", "a_pair2.wav"])
    text = bytearray((folder / "metadata.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.integers(0, 255) | st.sampled_from(b'"{}[]:,./'))
    (folder / "metadata.json").write_bytes(text)
    problems = Problems()
    try:
        found = list(read_instance(folder, TAGS, "T_D", problems))
    except InputError:
        return
    errors = sum(problem.severity == "error" for problem in problems.rows)
    assert len(found) + errors in (1, 2)
    for example in found:
        assert all(isinstance(text, str) for text in example.references)
        assert all(
            os.path.dirname(a.path).startswith(str(folder)) for a in example.audios
        )


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_damaged_parquet_raises_nothing_but_input_errors(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.parquet"
    write_parquet(path, [row(audio=sound()), row(audio=sound(), label="b")])
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.just(len(raw)) | st.integers(0, len(raw)))])
    try:
        found, _ = read(path)
    except InputError:
        return
    assert len(found) <= 2
    assert instances.MAX_SECONDS == 600


# Where an instance's rows are


@pytest.mark.parametrize("folder", ["", "data", "default/test", "T_D", "T_D/data"])
def test_parquet_files_are_found_where_a_dataset_keeps_them(tmp_path, folder):
    write_parquet(tmp_path / folder / "0000.parquet", [row()])
    examples, _ = read(tmp_path)
    assert [example.id for example in examples] == ["a.wav"]


def test_rows_of_another_instance_are_never_taken_for_this_one(tmp_path):
    write_parquet(tmp_path / "Other_D" / "test.parquet", [row()])
    with pytest.raises(InputError, match="holds no data"):
        read(tmp_path)
