"""Predictions of any provenance reach their examples, or it is said why not."""

import json

import pytest

from benchmark import scoring
from benchmark.errors import InputError, Problems
from benchmark.measures import Settings
from tests.benchmark.answered import CLOSED

FOLDS = CLOSED._replace(name="Folds", instances=("Folds-1", "Folds-2"))
ALIAS = CLOSED._replace(name="Alias", instances=("Alias_Data",))
KNOWN = {task.name: task for task in (CLOSED, FOLDS, ALIAS)}
RIGHT = {"0": "anger", "1": "joy", "2": "fear"}


@pytest.fixture
def place(tmp_path):
    for task in KNOWN.values():
        for instance in task.instances:
            write_data(tmp_path / instance, RIGHT)
    return tmp_path


def write_data(folder, labels):
    folder.mkdir(exist_ok=True)
    rows = {
        f"{i}.wav": {"instruction": "Which?", "label": label, "example_id": i}
        for i, label in labels.items()
    }
    (folder / "metadata.json").write_text(json.dumps(rows))


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(**fields):
    return [{"id": i, "response": said, **fields} for i, said in RIGHT.items()]


def score(place, rows, *names, **fields):
    path = write_lines(place / "said.jsonl", rows)
    job = scoring.Job(
        path, place, place / "out", task_names=names, settings=Settings(num_resamples=9)
    )
    problems = Problems()
    found = scoring.score_predictions(job._replace(**fields), KNOWN, problems)
    values = {one.task: one.value for one in found.task_scores}
    return values, problems.counts()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"instance": "Emotions"}, ()),
        ({}, ("Emotions",)),  # a table of id and response
        ({"instance": "Alias"}, ()),  # the task's name, it has one instance
        ({"instance": "Alias"}, ("Alias_Data",)),
        ({"instance": "Folds-2"}, ("Folds-2",)),
        ({}, ("Folds-2",)),
    ],
)
def test_predictions_reach_their_examples(place, fields, names):
    values, counts = score(place, rows_of(**fields), *names)
    assert set(values.values()) == {1.0}
    assert counts.keys() <= {"warning no_recordings"}


def test_rows_without_an_instance_are_counted_where_several_are_scored(place):
    rows = [*rows_of(), *rows_of(instance="Emotions")]
    values, counts = score(place, rows, "Emotions", "Alias")
    assert values == {"Emotions": 1.0, "Alias": 0.0}
    assert counts["error no_instance"] == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions in it"),
        ([{"id": "0"}], "no predictions in it; .*line 1: no answer"),
        (rows_of(), "no instance named"),
        (rows_of(instance="Folds"), "instances: Folds"),
        (rows_of(model="m") + rows_of(), "several models .m, no name."),
    ],
)
def test_what_reaches_no_example_is_refused_with_the_reason(place, rows, message):
    with pytest.raises(InputError, match=message):
        score(place, rows)


def test_the_instance_is_named_where_predictions_disagree(place):
    rows = rows_of(instance="Emotions")
    with pytest.raises(InputError, match="Emotions: 1 predictions differ"):
        score(place, [*rows, {**rows[0], "response": "fear"}])


def test_an_example_that_stands_twice_is_scored_once_and_counted(place):
    labels = {"0": "anger", "1": "joy"}
    write_data(place / "Emotions", labels)
    path = place / "Emotions" / "metadata.json"
    again = {"again.wav": {"instruction": "?", "label": "joy", "example_id": "0"}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **again}))
    rows = [{"instance": "Emotions", "id": i, "response": s} for i, s in labels.items()]
    values, counts = score(place, rows)
    assert values == {"Emotions": 1.0}
    assert counts["error duplicate_id"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"instance": "a", "id": "b", "corr', "v.jsonl:1: no verdict"),
        (b'{"instance": "\xff", "id": "b", "correct": true}', "v.jsonl:1: no verdict"),
        (b'{"instance": ["a"], "id": "b", "correct": true}', "'instance' is no text"),
        (b'{"instance": "a", "id": "b", "correct": 1}', "'correct' is 1"),
        (b"7", "v.jsonl:1: no verdict"),
        (b"[" * 100_000, "v.jsonl:1: no verdict"),
        (None, "--verdicts names the file"),
    ],
)
def test_what_is_no_verdict_is_named(place, line, message):
    if line is not None:
        (place / "v.jsonl").write_bytes(line + b"\n")
    with pytest.raises(InputError, match=message):
        score(place, rows_of(instance="Emotions"), verdicts=place / "v.jsonl")


def test_the_last_verdict_of_an_example_counts(tmp_path):
    rows = [{"instance": "a", "id": "b", "correct": c} for c in (True, None, False)]
    found = scoring.read_verdicts(write_lines(tmp_path / "v.jsonl", rows))
    assert found["a"]["b"].correct is False


def test_what_lies_beside_predictions_is_not_read_as_predictions(place):
    (place / "said").mkdir()
    write_lines(place / "said" / "a.jsonl", rows_of(instance="Emotions"))
    for name in ("a.problems.jsonl", "a.cache.jsonl", "._a.jsonl"):
        write_lines(place / "said" / name, [{"kind": "x"}])
    values, counts = score(place, [], predictions=place / "said")
    assert values == {"Emotions": 1.0}
    assert "error missing_id" not in counts
