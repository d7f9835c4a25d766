import csv
import io
import json
import math

import pytest

from benchmark import results
from benchmark.errors import InputError, MachineError
from benchmark.typing import Score
from tests.benchmark.scored import TASKS, write_model


def test_what_is_written_is_read(tmp_path):
    written = write_model(tmp_path / "a", "m", 0.8)
    found = results.read_results(tmp_path / "a")
    assert found.model == "m"
    assert found.tasks == written.tasks == {task.name: task for task in TASKS}
    for ours, theirs in zip(found.scores, written.scores, strict=True):
        assert ours._replace(provenance={}) == theirs._replace(provenance={})
        assert ours.provenance["profile"] == "strict"
    assert [one.task for one in found.task_scores] == [task.name for task in TASKS]
    rows = list(results.read_rows(tmp_path / "a"))
    assert len(rows) == 40 * 5
    assert rows[0].references == ("anger",)
    assert rows[0].statistics[1] == 1


def test_a_range_without_limit_is_read_back(tmp_path):
    task = TASKS[0]._replace(value_range=(0.0, math.inf))
    write_model(tmp_path, "m", 0.7, (task,))
    assert results.read_results(tmp_path).tasks == {task.name: task}


def test_the_sum_of_statistics_gives_the_score(tmp_path):
    found = write_model(tmp_path, "m", 0.7)
    rows = [r for r in results.read_rows(tmp_path) if r.task == "Emotions"]
    right, number = map(sum, zip(*(row.statistics for row in rows), strict=True))
    assert found.task_scores[0].value == pytest.approx(right / number)


def test_a_folder_belongs_to_one_model(tmp_path):
    write_model(tmp_path, "m", 0.7)
    results.check_folder(tmp_path, "m")
    results.check_folder(tmp_path / "new", "other")
    with pytest.raises(InputError, match="holds scores of 'm', not of 'other'"):
        results.check_folder(tmp_path, "other")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; name a folder that `score --out` wrote"),
        ("{", "damaged"),
        ('{"format": 7}', "format 7, this version reads 1"),
        ('{"format": 1, "model": "m"}', "damaged"),
        ("[]", "damaged"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / results.SCORES).write_text(text)
    with pytest.raises(InputError, match=message):
        results.read_results(tmp_path)


def test_a_damaged_line_is_named(tmp_path):
    write_model(tmp_path, "m", 0.7)
    with (tmp_path / results.EXAMPLES).open("a") as file:
        file.write('{"task": "x"')
    with pytest.raises(InputError, match=r"examples.jsonl:201: damaged"):
        list(results.read_rows(tmp_path))
    (tmp_path / results.EXAMPLES).unlink()
    with pytest.raises(InputError, match="no such file"):
        list(results.read_rows(tmp_path))


def test_a_spreadsheet_finds_no_formula():
    score = Score("=cmd()", "", "+evil", "@m", 0.5, notes=("-1", "a"))
    (head, cells) = csv.reader(io.StringIO(results.scores_csv([score])))
    row = dict(zip(head, cells, strict=True))
    assert row["task"] == "'=cmd()"
    assert row["model"] == "'+evil"
    assert row["notes"] == "'-1; a"
    assert row["value"] == "0.5"
    assert row["low"] == ""


def test_what_is_not_finite_is_null_in_json():
    score = Score("t", "", "m", "x", math.nan, provenance={"a": [math.inf, 1]})
    fields = results.plain(score)
    assert fields["value"] is None
    assert json.loads(json.dumps(fields, allow_nan=False))["provenance"]["a"][1] == 1


def test_a_full_disk_is_the_machines_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        results.write_text(tmp_path / "file" / "x.json", "")
