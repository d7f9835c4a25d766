"""A validator finds each fault once and says where; sound data pass."""

import io
import json

import numpy as np
import pytest
import soundfile

from benchmark import validation
from benchmark.errors import InputError
from benchmark.typing import Task
from benchmark.validation import findings, validate_instance

COMMIT = "a" * 40
TASK = Task(
    *("T_D", "classification", "llm_classification"),
    instances=("T_D",),
    revisions=(COMMIT,),
    labels=("glad", "sad"),
    synonyms=(("glad", ("happy",)),),
)


def encoded(seconds=0.1):
    file = io.BytesIO()
    times = np.arange(round(16_000 * seconds)) / 16_000
    soundfile.write(file, np.sin(2_000 * times) / 4, 16_000, format="WAV")
    return file.getvalue()


def write(folder, changes=None, count=20, audio=True):
    """A sound instance of `count` rows, with changes to the row 'x0.wav'."""
    folder.mkdir(exist_ok=True)
    records = {
        f"x{n}.wav": {
            "instruction": f"How? ({n})",
            "label": "glad" if n % 2 else "Sad ",
        }
        for n in range(count)
    }
    records["x0.wav"].update(changes or {})
    (folder / "metadata.json").write_text(json.dumps(records))
    for name in records if audio else ():
        (folder / name).write_bytes(encoded())
    return folder


def check(folder, task=TASK, **options):
    result = validate_instance(folder, task, **options)
    return result, result.problems.counts()


def test_sound_data_pass(tmp_path):
    result, counts = check(write(tmp_path))
    assert counts == {}
    assert (result.num_examples, result.num_recordings) == (20, 20)
    assert result.num_instructions == 20
    assert result.seconds == pytest.approx(2.0)
    assert result.labels == (("Sad ", 10), ("glad", 10))
    assert result.num_errors == 0


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"label": "happy"}, {}),
        ({"label": "cross"}, {"error other_label": 1}),
        ({"label": 3}, {"error other_label": 1, "warning non_text_label": 1}),
        ({"label": None}, {"warning missing_label": 1}),
        ({"label2": "cross"}, {"error other_label": 1}),
        ({"instruction": ""}, {"error missing_instruction": 1}),
        ({"example_id": "x1.wav"}, {"error duplicate_id": 1}),
    ],
)
def test_rows_at_fault(tmp_path, changes, counts):
    result, found = check(write(tmp_path, changes))
    assert found == counts
    assert result.num_errors == sum(n for k, n in counts.items() if "error" in k)


def test_labels_that_were_inferred_are_only_doubted(tmp_path):
    task = TASK._replace(inferred=("labels",))
    _, counts = check(write(tmp_path, {"label": "cross"}), task)
    assert counts == {"warning other_label": 1}
    _, counts = check(
        write(tmp_path, {"label": "cross"}), TASK._replace(labels=(), synonyms=())
    )
    assert counts == {}


@pytest.mark.parametrize("decode", [True, False])
def test_recordings_at_fault(tmp_path, decode):
    write(tmp_path)
    (tmp_path / "x0.wav").unlink()
    (tmp_path / "x1.wav").write_bytes(encoded()[:500])
    (tmp_path / "x2.wav").write_bytes(b"<html>")
    (tmp_path / "x3.wav").write_bytes(encoded(0.02))
    result, counts = check(tmp_path, decode=decode)
    damaged = {
        "error truncated_audio": 1,
        "error not_audio": 1,
        "warning short_audio": 1,
    }
    assert counts == {"error missing_audio": 1, **(damaged if decode else {})}
    assert result.num_recordings == 20


def test_rules_of_the_release_are_warnings(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "MAX_TASK_SECONDS", 1.9)
    _, counts = check(write(tmp_path))
    assert counts == {"warning long_task": 1}


@pytest.mark.parametrize(
    ("count", "different", "is_few"),
    [(20, 10, False), (20, 9, True), (400, 19, True), (400, 20, False), (4, 4, False)],
)
def test_the_number_of_instructions(tmp_path, count, different, is_few):
    records = {
        f"x{n}": {"instruction": f"{n % different}", "label": "glad"}
        for n in range(count)
    }
    (tmp_path / "metadata.json").write_text(json.dumps(records))
    _, counts = check(tmp_path)
    assert counts.get("warning few_instructions", 0) == is_few


def test_the_revision_is_compared_with_the_registry(tmp_path):
    write(tmp_path)
    about = tmp_path / "instance.json"
    about.write_text(json.dumps({"version": COMMIT}))
    assert check(tmp_path)[1] == {}
    about.write_text(json.dumps({"version": "b" * 40}))
    result, counts = check(tmp_path)
    assert counts == {"warning other_revision": 1}
    assert COMMIT in result.problems.rows[0].message
    _, counts = check(tmp_path, TASK._replace(revisions=("",)))
    assert counts == {"warning no_revision": 1}


def test_no_examples(tmp_path):
    (tmp_path / "metadata.json").write_text("{}")
    result, counts = check(tmp_path)
    assert counts["error no_examples"] == 1
    assert result.num_examples == 0
    with pytest.raises(InputError, match="does not exist"):
        check(tmp_path / "absent")


def test_findings_are_sorted_and_counted(tmp_path):
    write(tmp_path, {"label": None}, audio=False)
    (tmp_path / "other.wav").write_bytes(encoded())
    result, _ = check(tmp_path)
    first, second = findings(result.problems)
    assert (first.severity, first.kind, first.count) == ("error", "missing_audio", 20)
    assert first.where.endswith("x0.wav")
    assert (second.severity, second.kind, second.count) == (
        "warning",
        "missing_label",
        1,
    )
