import csv
import io
import json

import numpy as np
import pytest

from benchmark import compare, intervals, measures, results
from benchmark.errors import InputError
from tests.benchmark.scored import CLOSED, TASKS, WORDS, write_model


@pytest.fixture
def folders(tmp_path):
    write_model(tmp_path / "a", "good", 0.95)
    write_model(tmp_path / "b", "poor", 0.55)
    return tmp_path / "a", tmp_path / "b"


def test_the_better_model_is_named_whatever_the_direction(folders):
    found = compare.compare(*folders, num_resamples=200)
    assert (found.model_a, found.model_b) == ("good", "poor")
    assert [one.task for one in found.differences] == [task.name for task in TASKS]
    assert {one.better for one in found.differences} == {"a"}
    words = found.differences[-1]
    assert (words.metric, words.direction) == ("word_error_rate", "lower")
    assert words.difference < 0
    swapped = compare.compare(*folders[::-1], num_resamples=200)
    assert {one.better for one in swapped.differences} == {"b"}
    for one, other in zip(found.differences, swapped.differences, strict=True):
        assert one.difference == pytest.approx(-other.difference)
        assert one.p_value == pytest.approx(other.p_value, abs=0.01)


def test_values_are_those_of_the_scores_folds_included(folders):
    found = compare.compare(*folders, num_resamples=50)
    for side, folder in zip(("value_a", "value_b"), folders, strict=True):
        wanted = {s.task: s.value for s in results.read_results(folder).task_scores}
        for one in found.differences:
            assert getattr(one, side) == pytest.approx(wanted[one.task])
            assert one.low <= one.difference <= one.high


def test_one_instance_of_right_and_wrong_takes_mcnemar(folders):
    found = compare.compare(*folders, num_resamples=50)
    tests = {one.task: one.test for one in found.differences}
    assert tests == {
        "Emotions": "mcnemar", "Genders": "swap", "Noise": "mcnemar", "Words": "swap",
    }  # fmt: skip
    right = [
        np.array([r.correct for r in results.read_rows(f) if r.task == "Emotions"])
        for f in folders
    ]
    assert found.differences[0].p_value == pytest.approx(intervals.mcnemar(*right))


def test_p_values_are_adjusted_for_the_number_of_tasks(folders):
    found = compare.compare(*folders, num_resamples=50).differences
    p_values = sorted(one.p_value for one in found)
    adjusted = sorted(one.p_holm for one in found)
    running = np.maximum.accumulate(np.array(p_values) * [4, 3, 2, 1])
    np.testing.assert_allclose(adjusted, np.minimum(running, 1), rtol=1e-5)


def test_a_model_does_not_differ_from_itself(folders):
    found = compare.compare(folders[0], folders[0], num_resamples=50)
    assert {one.better for one in found.differences} == {""}
    assert {one.p_holm for one in found.differences} == {1.0}


def test_what_only_one_model_has_is_left_out_and_told(tmp_path):
    write_model(tmp_path / "a", "a", 0.9, TASKS[:2])
    write_model(tmp_path / "b", "b", 0.9, TASKS[:1], number=30)
    found = compare.compare(tmp_path / "a", tmp_path / "b", num_resamples=20)
    assert [one.num_examples for one in found.differences] == [30]
    told = [(row.where, row.message) for row in found.problems.rows]
    assert told == [
        ("Genders", "scored for a, not for b; left out"),
        ("Emotions", "10 examples that only one model was scored on; left out"),
        ("Emotions", "the two were not scored alike: other data"),
    ]


def test_other_data_are_refused(tmp_path):
    write_model(tmp_path / "a", "a", 0.9, (CLOSED,))
    write_model(tmp_path / "b", "b", 0.9, (CLOSED,), references=("joy",))
    with pytest.raises(InputError, match="different references"):
        compare.compare(tmp_path / "a", tmp_path / "b")
    write_model(tmp_path / "c", "c", 0.9, (WORDS,))
    with pytest.raises(InputError, match="no example that both"):
        compare.compare(tmp_path / "a", tmp_path / "c")


def test_another_profile_is_refused(tmp_path, monkeypatch):
    write_model(tmp_path / "a", "a", 0.9, (WORDS,))
    monkeypatch.setattr(
        "tests.benchmark.scored.SETTINGS", measures.Settings("parity", num_resamples=9)
    )
    write_model(tmp_path / "b", "b", 0.9, (WORDS,))
    with pytest.raises(InputError, match="a: strict, b: parity"):
        compare.compare(tmp_path / "a", tmp_path / "b")


def test_the_outputs_are_safe_and_fit(tmp_path):
    write_model(tmp_path / "a", "=evil()\x1b[31m$x^", 0.9, TASKS)
    write_model(tmp_path / "b", "b" * 300, 0.5, TASKS)
    found = compare.compare(tmp_path / "a", tmp_path / "b", num_resamples=20)
    text = compare.as_text(found)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines()[2:])) <= 100
    (head, first, *_) = csv.reader(io.StringIO(compare.as_csv(found)))
    assert dict(zip(head, first, strict=True))["model_a"].startswith("'=evil")
    assert len(json.loads(compare.as_json(found))["differences"]) == 4
    svg = compare.plot(found)
    assert svg.startswith(b"<?xml")


def test_errors_alone_are_plotted_too(tmp_path):
    write_model(tmp_path / "a", "a", 0.9, (WORDS,))
    write_model(tmp_path / "b", "b", 0.5, (WORDS,))
    found = compare.compare(tmp_path / "a", tmp_path / "b", num_resamples=20)
    assert b"<svg" in compare.plot(found)


def test_a_task_without_a_value_is_left_out_and_told(tmp_path):
    duration = WORDS._replace(
        name="Seconds", type="regression", metric="audio_duration_prediction",
        instances=("Seconds",), value_range=(0.0, float("inf")),
    )  # fmt: skip
    for name in "ab":
        given = (CLOSED, duration)
        write_model(tmp_path / name, name, 0.9, given, references=("2",))
    found = compare.compare(tmp_path / "a", tmp_path / "b", num_resamples=20)
    assert [one.task for one in found.differences] == ["Emotions"]
    told = [(row.kind, row.where, row.message) for row in found.problems.rows]
    message = "a and b: no answer that gives a value; left out"
    assert told == [("no_value", "Seconds", message)]
    json.loads(compare.as_json(found))
    write_model(tmp_path / "c", "c", 0.9, (duration,), references=("2",))
    with pytest.raises(InputError, match=r"with a value each .Seconds"):
        compare.compare(tmp_path / "c", tmp_path / "c")


def test_scores_of_another_judge_are_told(tmp_path):
    write_model(tmp_path / "a", "a", 0.9, (CLOSED,), talk="I judge it as {}.")
    write_model(tmp_path / "b", "b", 0.9, (CLOSED,), talk="none of them, {0:.0}")
    found = compare.compare(tmp_path / "a", tmp_path / "b", num_resamples=20)
    (row,) = found.problems.rows
    assert row.message == "the two were not scored alike: other judge"
