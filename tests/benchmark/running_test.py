"""What a model answered is kept: a killed run asks for it no more."""

import collections
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from benchmark.client import Budget
from benchmark.errors import InputError, MachineError, Problems
from benchmark.models import Model, ModelSettings, NoAnswerError, make_model
from benchmark.predictions import read_predictions
from benchmark.running import Counts, run_model
from benchmark.typing import Example, Prediction
from tests.benchmark.stub import error, said, serve, user_text

PROGRAM = """
import sys
from benchmark.errors import Problems
from benchmark.models import ModelSettings, make_model
from benchmark.running import run_model
from benchmark.typing import Example
spec, path, count = sys.argv[1:]
examples = [Example(f"{i}.wav", "I", f"question {i}", ("x",))
            for i in range(int(count))]
model = make_model(spec, ModelSettings(concurrency=4))
print(run_model(model, examples, path, Problems()))
"""


def make_examples(count, instance="I"):
    return [
        Example(f"{i}.wav", instance, f"question {i}", ("x",)) for i in range(count)
    ]


def number(body):
    return int(user_text(body).split()[1])


def echo(body, _):
    return said(f"answer {number(body)}")


def parrot(max_concurrency=1):
    def answer(example):
        return Prediction(example.instance, example.id, example.instruction, "parrot")

    return Model("parrot", answer, max_concurrency)


def rows(path):
    return sorted(read_predictions(path, Problems()))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "predictions.jsonl"


class TestRun:
    @pytest.mark.parametrize("threads", [1, 6])
    def test_writes_an_answer_an_example(self, path, threads):
        counts = run_model(parrot(threads), make_examples(20), path, Problems())
        assert counts == Counts(answered=20)
        assert {(r.id, r.response) for r in rows(path)} == {
            (f"{i}.wav", f"question {i}") for i in range(20)
        }

    def test_goes_on_where_it_stopped(self, path):
        asked = []
        model = parrot()._replace(
            answer=lambda e: asked.append(e) or parrot().answer(e)
        )
        first = run_model(model, make_examples(20), path, Problems(), limit=7)
        second = run_model(model, make_examples(20), path, Problems())
        assert (first.answered, second.answered, second.already) == (7, 13, 7)
        assert len(asked) == len({e.id for e in asked}) == 20

    def test_of_one_model_leaves_another_to_be_asked(self, path):
        run_model(parrot(), make_examples(3), path, Problems())
        other = make_model("scripted:chatty", ModelSettings())
        assert run_model(other, make_examples(3), path, Problems()).answered == 3
        assert collections.Counter(r.model for r in rows(path)) == {
            "parrot": 3,
            "chatty": 3,
        }

    def test_keeps_instances_apart(self, path):
        examples = make_examples(2) + make_examples(2, "J")
        assert run_model(parrot(), examples, path, Problems()).answered == 4

    def test_asks_an_id_once_and_says_so(self, path):
        problems = Problems()
        counts = run_model(parrot(), make_examples(2) * 2, path, problems)
        assert counts.answered == 2
        assert problems.counts() == {"error duplicate_id": 2}

    def test_asks_again_what_a_kill_left_half(self, path):
        run_model(parrot(), make_examples(3), path, Problems())
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        assert run_model(parrot(), make_examples(3), path, Problems()).answered == 1
        found = [
            json.loads(x) for x in path.read_bytes().splitlines() if x[-1:] == b"}"
        ]
        assert sorted(r["id"] for r in found) == ["0.wav", "1.wav", "2.wav"]

    def test_skips_and_counts_what_the_model_does_not_answer(self, path):
        def answer(example):
            if example.id == "0.wav":
                return None
            if example.id == "1.wav":
                raise NoAnswerError("skipped", "no option map")
            if example.id == "2.wav":
                raise NoAnswerError("failed", "HTTP 500")
            return parrot().answer(example)

        problems = Problems()
        model = parrot()._replace(answer=answer)
        counts = run_model(model, make_examples(5), path, problems)
        assert counts == Counts(answered=2, skipped=2, failed=1)
        assert problems.counts() == {
            "error example_skipped": 2,
            "error example_failed": 1,
        }
        assert problems.rows[1] == (
            *("error", "example_skipped", "I 1.wav", "no option map"),
        )

    def test_reads_examples_as_it_needs_them(self, path):
        read = []
        examples = (read.append(1) or e for e in make_examples(500))
        run_model(parrot(2), examples, path, Problems(), limit=3)
        assert len(read) <= 4

    def test_asks_nothing_where_the_answers_cannot_be_written(self, path):
        asked = []
        model = parrot()._replace(answer=asked.append)
        path.mkdir(parents=True)
        with pytest.raises(InputError, match="is a folder"):
            run_model(model, make_examples(1), path, Problems())
        assert asked == []

    def test_is_the_only_one_that_writes_a_file(self, path):
        begun, go = threading.Event(), threading.Event()

        def answer(example):
            begun.set()
            go.wait(5)

        model = parrot()._replace(answer=answer)
        thread = threading.Thread(
            target=run_model, args=(model, make_examples(1), path, Problems())
        )
        thread.start()
        assert begun.wait(5)
        with pytest.raises(MachineError, match="another run"):
            run_model(parrot(), make_examples(1), path, Problems())
        go.set()
        thread.join()


class TestEndpoint:
    def run(self, behave, path, count=20, budget=None, problems=None, **fields):
        with serve(behave) as stub:
            chosen = ModelSettings(budget=Budget(budget), **fields)
            model = make_model(f"openai:{stub.url}#m", chosen)
            counts = run_model(
                model, make_examples(count), path, problems or Problems()
            )
            return counts, stub

    def test_is_asked_by_several_threads(self, path):
        slow = lambda body, _: echo(body, 0)._replace(delay=0.02)  # noqa: E731
        counts, stub = self.run(slow, path, concurrency=5)
        assert counts.answered == 20
        assert 2 <= stub.most_at_once <= 5
        assert {(r.id, r.response) for r in rows(path)} == {
            (f"{i}.wav", f"answer {i}") for i in range(20)
        }

    def test_is_asked_no_more_than_the_budget_allows(self, path):
        counts, stub = self.run(echo, path, budget=6)
        assert len(stub.bodies) == counts.answered == len(rows(path)) == 6
        assert counts.not_asked == 14
        counts, stub = self.run(echo, path, budget=100)
        assert (counts.answered, counts.already, len(stub.bodies)) == (14, 6, 14)

    def test_that_gives_up_on_one_goes_on_with_the_next(self, path):
        flaky = lambda body, _: (  # noqa: E731
            error(400, "too long") if number(body) % 5 == 0 else echo(body, 0)
        )
        problems = Problems()
        counts, _ = self.run(flaky, path, problems=problems)
        assert counts == Counts(answered=16, failed=4)
        assert "HTTP 400: too long" in problems.rows[0].message

    def test_that_asks_to_wait_holds_up_no_ctrl_c(self, path):
        act = error(503, headers=[("Retry-After", "60")])
        started = time.monotonic()
        with serve(lambda body, n: act if n else echo(body, n)) as stub:

            def examples():
                yield from make_examples(5)
                while len(stub.bodies) < 3:
                    time.sleep(0.01)
                raise KeyboardInterrupt

            model = make_model(f"openai:{stub.url}#m", ModelSettings())
            with pytest.raises(KeyboardInterrupt):
                run_model(model, examples(), path, Problems())
        assert time.monotonic() - started < 30
        assert len(rows(path)) == 1

    def test_that_refuses_the_key_stops_the_run(self, path):
        behave = lambda body, n: echo(body, n) if n < 5 else error(401)  # noqa: E731
        with pytest.raises(InputError, match="401"):
            self.run(behave, path, concurrency=1)
        assert len(rows(path)) == 5


def test_a_run_that_is_killed_at_any_point_asks_for_no_answer_twice(path):
    asked, chance = collections.Counter(), random.Random(1)

    def behave(body, _):
        asked[number(body)] += 1
        return echo(body, 0)._replace(delay=0.01)

    lines = lambda: path.read_bytes().count(b"\n") if path.exists() else 0  # noqa: E731
    with serve(behave) as stub:
        spec = f"openai:{stub.url}#m"
        command = [sys.executable, "-c", PROGRAM, spec, str(path), "120"]
        for _ in range(3):
            target = lines() + chance.randint(3, 25)
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while lines() < target:
                time.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            held = {row.id for row in rows(path)}
            calls = {f"{i}.wav": asked[i] for i in asked if f"{i}.wav" in held}
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "failed=0" in done.stdout
    found = rows(path)
    assert [(r.id, r.response) for r in found] == sorted(
        (f"{i}.wav", f"answer {i}") for i in range(120)
    )
    assert all(asked[int(name[:-4])] == count for name, count in calls.items())
    assert sum(asked.values()) - 120 <= 3 * 4  # in flight at the kills, one a thread
