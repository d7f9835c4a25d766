"""The commands run and judge, from the command line to their files."""

import argparse
import json
import pathlib
import re

import numpy as np
import pytest

from benchmark import cli_run
from benchmark.errors import InputError, MachineError, Problems
from benchmark.models.base import encode_wav
from benchmark.scoring import read_verdicts
from benchmark.typing import Audio, Example
from benchmark.writing import write_instance
from tests.benchmark.stub import error, said, serve, user_text

INSTANCE = "SuperbER_RAVDESS"
LABELS = ("happy", "sad", "angry")
KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    wav = encode_wav(np.full(4_000, 0.1, np.float32))
    examples = [
        Example(
            f"{i}.wav",
            INSTANCE,
            "Which emotion is it? The answer could be happy, sad or angry.",
            (LABELS[i % 3],),
            (Audio(data=wav),),
        )
        for i in range(6)
    ]
    write_instance(folder / INSTANCE, examples, Problems())
    return folder


@pytest.fixture
def call():
    def call(*arguments):
        parser = argparse.ArgumentParser()
        cli_run.add_parsers(parser.add_subparsers(required=True))
        options = parser.parse_args([str(argument) for argument in arguments])
        return options.run(options)

    return call


@pytest.fixture
def answers(tmp_path):
    """Three answers that the parser decides (two right), two not; one is missing."""
    texts = [
        "happy",
        "I would say sad.",
        "sad",
        "happy or sad?",
        "No idea, friend.",
        None,
    ]
    path = tmp_path / "answers.jsonl"
    rows = [
        {"instance": INSTANCE, "id": f"{i}.wav", "response": text, "model": "m"}
        for i, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def yes(body, number):
    token = re.search(r"<<<RESPONSE (\w+)>>>", user_text(body))[1]
    return said(f"VERDICT {token}: YES")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestRun:
    def test_asks_what_is_there_and_goes_on(self, data, tmp_path, call, capsys):
        out = tmp_path / "new" / "chance.jsonl"
        arguments = ("run", "--model=baseline:chance", f"--data={data}", f"--out={out}")
        assert call(*arguments, "--limit=4") == 0
        assert "chance: 4 answered, 0 already" in capsys.readouterr().out
        assert call(*arguments) == 0
        assert "chance: 2 answered, 4 already" in capsys.readouterr().out
        found = lines(out)
        assert sorted(row["id"] for row in found) == [f"{i}.wav" for i in range(6)]
        labels = {"happy", "sad", "angry", "neutral", "calm"}
        labels |= {"fearful", "disgust", "surprised"}
        assert {row["response"] for row in found} <= labels

    def test_gives_majority_the_references(self, data, tmp_path, call):
        out = tmp_path / "majority.jsonl"
        call("run", "--model=baseline:majority", f"--data={data}", f"--out={out}")
        assert {row["response"] for row in lines(out)} == {"angry"}

    def test_asks_an_endpoint_within_the_budget(self, data, tmp_path, call, capsys):
        out = tmp_path / "chat.jsonl"
        with serve(lambda body, number: said("sad")) as stub:
            model = f"--model=openai:{stub.url}#ears"
            arguments = ("run", model, f"--data={data}", f"--out={out}")
            call(*arguments, "--dry_run")
            assert stub.bodies == []
            assert not out.exists()
            call(*arguments, "--budget=2", "--name=my ears")
        shown = capsys.readouterr().out
        assert "would ask ears 6 questions" in shown
        assert (
            "my ears: 2 answered, 0 already, 0 skipped, 0 failed, 4 not asked" in shown
        )
        assert len(stub.bodies) == 2

    def test_counts_what_a_model_skips_and_writes_it_down(
        self, data, tmp_path, call, capsys
    ):
        out = tmp_path / "file.jsonl"
        (tmp_path / "no.jsonl").write_text("")
        model = f"--model=file:{tmp_path}/no.jsonl"
        call("run", model, f"--data={data}", f"--out={out}")
        captured = capsys.readouterr()
        assert "6 skipped" in captured.out
        assert "6 x error example_skipped" in captured.err
        assert len(lines(tmp_path / "file.problems.jsonl")) == 6

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tasks=SuperbER_RAVDES"], "Did you mean"),
            (
                ["--tasks=SarcasmDetection_Mustard"],
                "no folder SarcasmDetection_Mustard",
            ),
            (["--data=/none"], "no folder of a known task"),
        ],
    )
    def test_says_what_is_not_there(self, data, tmp_path, call, arguments, message):
        with pytest.raises(InputError, match=message):
            call(
                *("run", "--model=baseline:chance", f"--data={data}"),
                *(f"--out={tmp_path}/x.jsonl", *arguments),
            )

    @pytest.mark.parametrize(
        "argument", ["--budget=-1", "--limit=0", "--concurrency=x", "--timeout=nan"]
    )
    def test_refuses_numbers_that_make_no_sense(self, data, call, argument, capsys):
        with pytest.raises(SystemExit) as caught:
            call("run", "--model=x", f"--data={data}", "--out=x.jsonl", argument)
        assert caught.value.code == 2
        assert argument.partition("=")[0] in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a"])
    def test_refuses_names_that_stand_for_another_form(self, data, call, name, capsys):
        with pytest.raises(SystemExit) as caught:
            call("run", "--model=x", f"--data={data}", f"--out={name}")
        assert caught.value.code == 2
        assert "ending in .jsonl" in capsys.readouterr().err


class TestJudge:
    def judge(self, call, answers, data, behave, *arguments):
        out = answers.with_name("verdicts.jsonl")
        with serve(behave) as stub:
            code = call(
                *("judge", answers, f"--url={stub.url}", "--judge_model=j"),
                *(f"--data={data}", f"--out={out}", *arguments),
            )
        assert code == 0
        return out, stub

    def test_asks_about_what_the_parser_cannot_decide(
        self, call, answers, data, capsys
    ):
        out, stub = self.judge(call, answers, data, yes)
        assert "5 answers, 2 for the judge" in capsys.readouterr().out
        found = read_verdicts(out)[INSTANCE]
        assert {name: v.correct for name, v in found.items()} == {
            "3.wav": True,
            "4.wav": True,
        }
        assert len(stub.bodies) == 2
        _, stub = self.judge(call, answers, data, yes)
        assert stub.bodies == []

    def test_may_ask_about_all_and_says_how_far_they_agree(
        self, call, answers, data, capsys
    ):
        out, _ = self.judge(call, answers, data, yes, "--judge=always")
        assert len(lines(out)) == 5
        shown = capsys.readouterr().out
        assert "5 yes" in shown
        assert "agreement with the parser: kappa 0.000, 0.667 of 3 verdicts" in shown

    def test_compares_with_a_second_judge(self, call, answers, data, capsys):
        out, _ = self.judge(call, answers, data, yes, "--judge=always")
        second = out.rename(out.with_name("second.jsonl"))
        self.judge(call, answers, data, yes, "--judge=always", f"--agree_with={second}")
        expected = "agreement with second.jsonl: kappa -, 1.000 of 5 verdicts"
        assert expected in capsys.readouterr().out

    def test_says_beforehand_what_it_would_cost(self, call, answers, data, capsys):
        out, stub = self.judge(call, answers, data, yes, "--dry_run")
        assert stub.bodies == []
        assert not out.exists()
        assert "would ask 2 questions" in capsys.readouterr().out

    def test_keeps_within_the_budget_and_says_what_is_left(
        self, call, answers, data, capsys
    ):
        _, stub = self.judge(
            call, answers, data, yes, "--budget=1", "--schema=no", "--concurrency=1"
        )
        captured = capsys.readouterr()
        assert "1 yes, 1 not asked" in captured.out
        assert "warning verdict_not_asked" in captured.err
        assert len(stub.bodies) == 1

    def test_keeps_the_key_to_itself(self, call, answers, data, monkeypatch, capsys):
        monkeypatch.setenv("SOME_KEY", KEY)
        quote = lambda body, n: (  # noqa: E731
            error(400, f"key {KEY}") if n % 2 else said(f"{KEY}\nVERDICT: YES")
        )
        self.judge(call, answers, data, quote, "--key_variable=SOME_KEY")
        shown = "".join(capsys.readouterr())
        files = [path for path in answers.parent.rglob("*") if path.is_file()]
        assert len(files) > 6
        assert not any(KEY.encode() in path.read_bytes() for path in files)
        assert KEY not in shown

    def test_stops_where_the_quota_is_spent_and_keeps_what_it_has(
        self, call, answers, data
    ):
        acts = lambda body, n: yes(body, n) if n < 1 else error(402)  # noqa: E731
        flags = ("--schema=no", "--concurrency=1", "--judge=always")
        with pytest.raises(MachineError, match="quota"):
            self.judge(call, answers, data, acts, *flags)
        out, stub = self.judge(call, answers, data, yes, *flags)
        assert len(stub.bodies) == 4
        assert len(lines(out)) == 5

    def test_wants_to_know_whose_answers(self, call, answers, data):
        other = {"instance": INSTANCE, "id": "1.wav", "response": "x", "model": "n"}
        with answers.open("a") as file:
            file.write(json.dumps(other) + "\n")
        with pytest.raises(InputError, match="'m', 'n': choose one with --model"):
            self.judge(call, answers, data, yes)
        out, _ = self.judge(call, answers, data, yes, "--model=n")
        assert len(lines(out)) == 1

    def test_needs_answers_to_a_task_that_is_known(self, call, tmp_path, data):
        answers = tmp_path / "answers.jsonl"
        answers.write_text('{"instance": "X", "id": "1", "response": "y"}\n')
        with pytest.raises(InputError, match="no predictions for a known task"):
            self.judge(call, answers, data, yes)


LENGTHS = "AudioDurationPrediction_NTUML2021"
SECRET = "1234.5678"  # the reference, which no judge may see


@pytest.fixture
def lengths(data, tmp_path):
    """Answers to a regression: two numbers, two for the judge, one missing."""
    texts = ["3 s", "1,5 seconds", "a couple of seconds", "long", None]
    examples = [
        Example(f"{i}.wav", LENGTHS, f"How long is {i}?", (SECRET,))
        for i in range(len(texts))
    ]
    write_instance(data / LENGTHS, examples, Problems())
    path = tmp_path / "lengths.jsonl"
    rows = [
        {"instance": LENGTHS, "id": f"{i}.wav", "response": text, "model": "m"}
        for i, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rewrite(body, number):
    text = user_text(body)
    token = re.search(r"<<<RESPONSE (\w+)>>>", text)[1]
    return said(f"REWRITTEN {token}: {2 if 'couple' in text else 'N/A'}")


class TestNumbers:
    judge = TestJudge.judge

    def test_are_asked_for_where_the_parser_finds_none(
        self, call, lengths, data, capsys
    ):
        out, stub = self.judge(call, lengths, data, rewrite)
        assert "4 answers, 2 for the judge" in capsys.readouterr().out
        found = read_verdicts(out)[LENGTHS]
        assert {name: (v.value, v.reason) for name, v in found.items()} == {
            "2.wav": (2, "number: line"),
            "3.wav": (None, "n/a"),
        }
        assert len(stub.bodies) == 2
        assert SECRET not in json.dumps(stub.bodies)
        _, stub = self.judge(call, lengths, data, rewrite)
        assert stub.bodies == []

    def test_of_all_answers_are_compared_with_the_parsers(
        self, call, lengths, data, capsys
    ):
        three = lambda body, n: said('{"rewritten": "3"}')  # noqa: E731
        self.judge(call, lengths, data, three, "--judge=always")
        assert "the same number as the parser: 1 of 2" in capsys.readouterr().out

    @pytest.mark.parametrize("value", ["true", '"3"', "NaN", "1e999"])
    def test_in_a_file_of_verdicts_are_numbers(self, lengths, value):
        path = lengths.with_name("verdicts.jsonl")
        path.write_text(
            f'{{"instance": "I", "id": "1", "correct": null, "value": {value}}}\n'
        )
        with pytest.raises(InputError, match="'value' is"):
            read_verdicts(path)


DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("command", ["run", "judge"])
def test_each_flag_is_on_its_page_and_no_other(command):
    page = {"run": "benchmark_models.md", "judge": "benchmark_judge.md"}[command]
    text = (DOCS / page).read_text(encoding="utf-8")
    shown = set(re.findall(r"--(\w+)", text))
    subparsers = argparse.ArgumentParser().add_subparsers()
    cli_run.add_parsers(subparsers)
    flags = {
        flag.removeprefix("--")
        for action in subparsers.choices[command]._actions
        for flag in action.option_strings
    }
    assert flags - {"h", "-h", "help"} <= shown
    assert shown <= flags | {"verdicts", "agree_with"}


@pytest.mark.parametrize("page", ["benchmark_models.md", "benchmark_judge.md"])
def test_the_examples_of_its_page_run(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(code, {"__name__": "page"})
