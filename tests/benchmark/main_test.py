import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmark import __main__ as command
from benchmark.errors import InputError, MachineError

ROOT = pathlib.Path(__file__).parents[2]
LABELS = ["anger", "joy"]


@pytest.fixture
def place(tmp_path):
    """A task of one's own, its data, and predictions of one model."""
    record = {
        "name": "Moods", "description": "d", "keywords": [], "path": "", "version": "",
        "metrics": ["llm_classification"], "labels": LABELS,
    }  # fmt: skip
    (tmp_path / "tasks" / "Moods").mkdir(parents=True)
    (tmp_path / "tasks" / "Moods" / "instance.json").write_text(json.dumps(record))
    rows = {
        f"{i}.wav": {
            "file": f"{i}.wav", "label": LABELS[i % 2],
            "instruction": "Anger or joy?", "text": "t",
        }
        for i in range(8)
    }  # fmt: skip
    (tmp_path / "data" / "Moods").mkdir(parents=True)
    (tmp_path / "data" / "Moods" / "metadata.json").write_text(json.dumps(rows))
    write_predictions(tmp_path / "said.jsonl", "m", 8)
    return tmp_path


def write_predictions(path, model, right, number=8, **changes):
    lines = [
        {
            "instance": "Moods", "id": f"{i}.wav", "model": model,
            "response": LABELS[(i + (i >= right)) % 2], **changes,
        }
        for i in range(number)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(place, *arguments):
    known = {"TASKS": place / "tasks", "DATA": place / "data", "HERE": place}
    words = [str(known.get(word, word)) for word in arguments]
    return command.main([word.replace("HERE/", f"{place}/") for word in words])


def score(place, said="HERE/said.jsonl", out="HERE/out", *more):
    fixed = ("--data", "DATA", "--task_dir", "TASKS", "--num_resamples", "50")
    return run(place, "score", said, *fixed, "--out", out, *more)


def test_score_prints_a_table_and_writes_three_files(place, capsys):
    assert score(place) == 0
    printed = capsys.readouterr().out
    assert "Moods" in printed
    assert "1.000" in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 100
    found = {path.name for path in (place / "out").iterdir()}
    assert {"scores.json", "scores.csv", "examples.jsonl"} <= found


def test_coverage_and_unknown_ids_are_printed(place, capsys):
    write_predictions(place / "said.jsonl", "m", 8, number=5)
    with (place / "said.jsonl").open("a") as file:
        row = {"instance": "Moods", "id": "ghost", "model": "m", "response": "joy"}
        file.write(json.dumps(row) + "\n")
    assert score(place) == 0
    printed = capsys.readouterr()
    assert "3/8" in printed.out
    assert "0.625" in printed.out  # what is missing is wrong
    assert "ghost" in printed.err
    record = json.loads((place / "out" / "scores.json").read_text())
    assert record["task_scores"][0]["num_answered"] == 5


def test_duplicates_that_disagree_are_an_error(place, capsys):
    with (place / "said.jsonl").open("a") as file:
        row = {"instance": "Moods", "id": "0.wav", "model": "m", "response": "joy"}
        file.write(json.dumps(row) + "\n")
    assert score(place) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "0.wav" in error


def test_a_model_is_chosen_among_several(place, capsys):
    write_predictions(place / "more.jsonl", "other", 0)
    text = (place / "said.jsonl").read_text() + (place / "more.jsonl").read_text()
    (place / "said.jsonl").write_text(text)
    assert score(place) == 2
    assert "choose one with --model" in capsys.readouterr().err
    assert score(place, "HERE/said.jsonl", "HERE/out", "--model", "other") == 0
    record = json.loads((place / "out" / "scores.json").read_text())
    assert (record["model"], record["task_scores"][0]["value"]) == ("other", 0.0)


def test_a_task_without_predictions_is_scored_when_named(place):
    (place / "said.jsonl").write_text("")
    assert score(place) == 2
    more = ("--tasks", "Moods", "--model", "silent")
    assert score(place, "HERE/said.jsonl", "HERE/out", *more) == 0
    record = json.loads((place / "out" / "scores.json").read_text())
    assert record["task_scores"][0]["value"] == 0
    assert record["task_scores"][0]["num_answered"] == 0


def test_verdicts_decide_what_the_parser_cannot(place):
    write_predictions(place / "said.jsonl", "m", 8, response="hard to say")
    lines = [
        {"instance": "Moods", "id": f"{i}.wav", "correct": i < 2, "judge": "gpt-4o"}
        for i in range(8)
    ]
    path = place / "verdicts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    more = ("--verdicts", "HERE/verdicts.jsonl")
    assert score(place, "HERE/said.jsonl", "HERE/out", *more) == 0
    record = json.loads((place / "out" / "scores.json").read_text())
    assert record["task_scores"][0]["value"] == 0.25
    path.write_text('{"instance": "Moods"}\n')
    assert score(place, "HERE/said.jsonl", "HERE/out", *more) == 2


def test_result_files_of_the_released_form_are_scored(place):
    rows = json.loads((place / "data" / "Moods" / "metadata.json").read_text())
    for name, row in rows.items():
        answer = row["label"] if name != "0.wav" else "joy"
        row |= {"sllm_name": "salmonn", "sllm_response": f"It is {answer}."}
    (place / "salmonn").mkdir()
    (place / "salmonn" / "Moods.json").write_text(json.dumps(rows))
    assert score(place, "HERE/salmonn") == 0
    record = json.loads((place / "out" / "scores.json").read_text())
    assert record["model"] == "salmonn"
    assert record["task_scores"][0]["value"] == 7 / 8


def test_the_revision_of_prepared_data_is_kept(place):
    note = place / "data" / "Moods" / "instance.json"
    note.write_text(json.dumps({"version": "c" * 40}))
    assert score(place) == 0
    record = json.loads((place / "out" / "scores.json").read_text())
    assert record["scores"][0]["provenance"]["data_revision"] == "c" * 40


def test_report_and_compare_follow(place, capsys):
    write_predictions(place / "poor.jsonl", "poor", 0)
    score(place)
    score(place, "HERE/poor.jsonl", "HERE/poor")
    assert run(place, "report", "HERE/out", "HERE/poor", "--out", "HERE/r.html") == 0
    assert f"report: {place / 'r.html'}" in capsys.readouterr().out
    assert run(place, "compare", "HERE/out", "HERE/poor", "--out", "HERE/c.svg") == 0
    assert "+1.000" in capsys.readouterr().out
    assert (place / "c.csv").is_file()
    assert json.loads((place / "c.json").read_text())["differences"][0]["better"] == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "HERE/nothing", "--out", "HERE/r.html"), "no such file"),
        (("report", "HERE", "--out", "HERE/r.pdf"), "ends in .html"),
        (("compare", "HERE/nothing", "HERE/nothing"), "no such file"),
    ],
)
def test_errors_are_one_line_and_exit_2(place, capsys, arguments, message):
    assert run(place, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (InputError("bad\x1b[2J\nline"), 2),
        (MachineError("disk"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_fault_has_its_exit_code(monkeypatch, capsys, fault, code):
    def fail(options):
        raise fault

    monkeypatch.setattr("benchmark.cli_score.run_compare", fail)
    assert command.main(["compare", "a", "b"]) == code
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert error.count("\n") == 1


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def fail(options):
        raise ZeroDivisionError

    monkeypatch.setattr("benchmark.cli_score.run_compare", fail)
    with pytest.raises(ZeroDivisionError):
        command.main(["compare", "a", "b"])


def test_all_commands_are_there(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    text = capsys.readouterr().out
    for name in ("list", "show", "validate", "prepare", "run", "judge", "score",
                 "report", "compare", "demo"):  # fmt: skip
        assert f"    {name} " in text


def test_through_the_real_door(place):
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "score", place / "nothing.jsonl",
         "--data", place / "data", "--out", place / "out"],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_the_commands_do_not_wait_for_jax():
    code = (
        "import sys, benchmark.__main__, benchmark.scoring\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
