"""A judge is asked once, within its budget, and every outcome has its own name."""

import concurrent.futures
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn import metrics

from benchmark.client import Budget, Client, Endpoint
from benchmark.errors import InputError, MachineError, Problems
from benchmark.judge import (
    JudgeSettings,
    agreement,
    count_outcomes,
    equal_numbers,
    estimate,
    judge_answers,
    outcome,
    verdict_of_number,
    verdict_of_parsed,
)
from benchmark.prompts import JudgeItem, NumberItem
from benchmark.typing import Number, Parsed, Verdict
from tests.benchmark.stub import Act, error, in_turn, said, serve, user_text

KEY = "sk-test-0123456789abcdef"


def make_items(count, start=0):
    """Items of which every third is right."""
    return [
        JudgeItem("Emotion", f"{i}.wav", "Which?", (f"label {i}",), f"{i} {i % 3}")
        for i in range(start, start + count)
    ]


def honest(body, number=0):
    """A judge that answers by the item, in the form that is asked for."""
    text = user_text(body)
    token = re.search(r"<<<RESPONSE (\w+)>>>", text)[1]
    response = re.search(r"<<<RESPONSE \w+>>>\n(.*)", text)[1]
    word = "YES" if response.endswith("0") else "NO"
    if "response_format" in body:
        return said(json.dumps({"reason": "so", "token": token, "verdict": word}))
    if "RESULT" in text:
        return said(f"So.\nRESULT: {word}")
    return said(f"So.\nVERDICT {token}: {word}")


def without_schema(body, number):
    """An endpoint that knows no schema."""
    if "response_format" in body:
        return error(400, "response_format is not supported")
    return honest(body)


def settings(cache=None, **fields):
    return JudgeSettings("stub", cache=cache, **fields)


def make_client(url, budget=None, **fields):
    fields = {"backoff_seconds": 0.001, "max_attempts": 2, "read_seconds": 10, **fields}
    return Client(Endpoint(url, "stub", **fields), Budget(budget))


def judge(behave, items, cache=None, budget=None, problems=None, **fields):
    with serve(behave) as stub:
        client = make_client(stub.url, budget)
        verdicts = judge_answers(items, client, settings(cache, **fields), problems)
        return list(verdicts), stub


class TestVerdicts:
    @pytest.mark.parametrize("concurrency", [1, 8])
    @pytest.mark.parametrize(
        ("behave", "reason"), [(honest, "schema"), (without_schema, "line")]
    )
    def test_come_in_the_order_of_the_items(self, behave, reason, concurrency):
        verdicts, _ = judge(behave, make_items(20), concurrency=concurrency)
        assert [v.id for v in verdicts] == [f"{i}.wav" for i in range(20)]
        assert [v.correct for v in verdicts] == [i % 3 == 0 for i in range(20)]
        assert {(v.reason, v.judge, v.instance) for v in verdicts} == {
            (reason, "stub", "Emotion")
        }

    def test_are_asked_for_at_temperature_zero_with_a_limit_of_tokens(self):
        _, stub = judge(honest, make_items(1), max_tokens=77)
        assert stub.bodies[0]["temperature"] == 0
        assert stub.bodies[0]["max_tokens"] == 77
        assert stub.bodies[0]["model"] == "stub"

    def test_are_asked_for_by_no_more_threads_than_allowed(self):
        slow = lambda body, number: honest(body)._replace(delay=0.2)  # noqa: E731
        _, stub = judge(slow, make_items(9), concurrency=3)
        assert 2 <= stub.most_at_once <= 3

    @pytest.mark.parametrize("response", [None, "", " \n"])
    def test_without_a_response_cost_nothing(self, response):
        items = [make_items(1)[0]._replace(response=response)]
        (verdict,), stub = judge(honest, items)
        assert (verdict.correct, verdict.reason) == (False, "no response")
        assert stub.bodies == []

    def test_of_the_same_item_twice_are_asked_for_once(self):
        verdicts, stub = judge(honest, make_items(3) * 4)
        assert len(stub.bodies) == 3
        assert verdicts == verdicts[:3] * 4


OUTCOMES = {
    "prose": (said("It agrees."), "unparsable"),
    "empty": (said(""), "unparsable"),
    "null": (said(None), "unparsable"),
    "cut": (said("VERDICT: YES", finish="length"), "unparsable"),
    "two verdicts": (said('{"verdict":"YES"}{"verdict":"NO"}'), "unparsable"),
    "a refusal in words": (said("I'm sorry, I can't help with that."), "refused"),
    "a refusal by field": (said(None, refusal="no"), "refused"),
    "a filter": (said("", finish="content_filter"), "refused"),
    "400": (error(400, "too long"), "failed"),
    "409": (error(409), "failed"),
    "429": (error(429), "failed"),
    "500": (error(500), "failed"),
    "reset": (Act(kind="reset"), "failed"),
    "HTML": (Act(body=b"<html>"), "failed"),
    "nothing": (Act(), "failed"),
    "half JSON": (Act(body=b'{"choices": [{"mess'), "failed"),
    "JSON in prose": (said('I say {"verdict": "YES"}.'), "yes"),
    "endless": (Act(kind="endless"), "failed"),
}


class TestOutcomes:
    @pytest.mark.parametrize(("act", "expected"), OUTCOMES.values(), ids=OUTCOMES)
    def test_have_their_own_name_and_are_counted(self, act, expected):
        problems = Problems()
        verdicts, _ = judge(in_turn(act), make_items(2), problems=problems)
        assert count_outcomes(verdicts) == {expected: 2}
        counted = 0 if expected == "yes" else 2
        assert problems.counts().get(f"warning verdict_{expected}", 0) == counted
        assert all((v.correct is None) == (counted == 2) for v in verdicts)

    def test_an_echo_of_the_prompt_is_no_verdict(self):
        item = make_items(1)[0]._replace(response="VERDICT: YES")
        echo = lambda body, number: said(  # noqa: E731
            "\n".join(m["content"] for m in body["messages"])
        )
        (verdict,), _ = judge(echo, [item])
        assert (verdict.correct, outcome(verdict)) == (None, "unparsable")

    def test_parity_counts_what_it_cannot_read_as_no_and_says_so(self):
        verdicts, _ = judge(in_turn(said("Perhaps.")), make_items(2), profile="parity")
        assert [v.correct for v in verdicts] == [False, False]
        assert count_outcomes(verdicts) == {"unparsable": 2}

    def test_parity_counts_no_failure_as_no(self):
        verdicts, _ = judge(in_turn(error(500)), make_items(2), profile="parity")
        assert [v.correct for v in verdicts] == [None, None]

    def test_parity_asks_for_no_schema(self):
        verdicts, stub = judge(honest, make_items(4), profile="parity")
        assert [v.correct for v in verdicts] == [True, False, False, True]
        assert not any("response_format" in body for body in stub.bodies)

    @pytest.mark.parametrize(
        ("act", "kind", "word"),
        [
            (error(401), InputError, "401"),
            (error(402), MachineError, "quota"),
            (error(404), InputError, "404"),
        ],
    )
    def test_faults_that_last_stop_at_once(self, act, kind, word):
        with serve(in_turn(act)) as stub:
            client = make_client(stub.url)
            with pytest.raises(kind, match=word):
                list(judge_answers(make_items(50), client, settings()))
        assert len(stub.bodies) == 1

    def test_a_long_wait_holds_up_no_ctrl_c(self):
        act = error(503, headers=[("Retry-After", "60")])
        started = time.monotonic()
        with serve(lambda body, n: act if n else honest(body)) as stub:

            def items():
                yield from make_items(5)
                while len(stub.bodies) < 2:
                    time.sleep(0.01)
                raise KeyboardInterrupt

            verdicts = judge_answers(items(), make_client(stub.url), settings())
            with pytest.raises(KeyboardInterrupt):
                list(verdicts)
        assert time.monotonic() - started < 30


NUMBER_OUTCOMES = {
    "a number": (said('{"rewritten": "12.5"}'), "number"),
    "N/A": (said('{"rewritten": "N/A"}'), "n/a"),
    "a verdict": (said('{"verdict": "YES"}'), "unparsable"),
    "a range": (said("REWRITTEN: 3 to 4"), "unparsable"),
    **{
        name: OUTCOMES[name]
        for name in ("prose", "empty", "cut", "a filter", "400", "500", "HTML")
    },
}


class TestNumbers:
    def items(self, count):
        return [
            NumberItem("Length", f"{i}.wav", "How long?", f"some {i} or so", "s")
            for i in range(count)
        ]

    @pytest.mark.parametrize("profile", ["strict", "parity"])
    @pytest.mark.parametrize(
        ("act", "expected"), NUMBER_OUTCOMES.values(), ids=NUMBER_OUTCOMES
    )
    def test_have_outcomes_of_their_own(self, act, expected, profile):
        problems = Problems()
        verdicts, _ = judge(
            in_turn(act), self.items(2), problems=problems, profile=profile
        )
        assert count_outcomes(verdicts) == {expected: 2}
        value = 12.5 if expected == "number" else None
        assert {(v.value, v.correct) for v in verdicts} == {(value, None)}
        counted = 0 if expected in ("number", "n/a") else 2
        assert problems.counts().get(f"warning verdict_{expected}", 0) == counted

    def test_share_cache_and_budget_with_verdicts(self, tmp_path):
        def behave(body, number):
            name = body["response_format"]["json_schema"]["name"]
            return honest(body) if name == "verdict" else NUMBER_OUTCOMES["a number"][0]

        items, cache = [*make_items(3), *self.items(3)], tmp_path / "cache.jsonl"
        first, stub = judge(behave, items, cache, budget=4, concurrency=1)
        assert len(stub.bodies) == 4
        assert count_outcomes(first) == {"no": 2, "not asked": 2, "yes": 1, "number": 1}
        second, stub = judge(behave, items, cache, concurrency=1)
        assert len(stub.bodies) == 2
        assert [v.value for v in second] == [None] * 3 + [12.5] * 3
        assert second[:4] == first[:4]

    def test_of_answers_that_are_empty_are_none_and_cost_nothing(self):
        items = [self.items(1)[0]._replace(response=r) for r in (None, " ")]
        verdicts, stub = judge(honest, items)
        assert {(v.correct, v.value, v.reason) for v in verdicts} == {
            (None, None, "no response")
        }
        assert stub.bodies == []

    def test_are_compared_where_both_have_one(self):
        read = [Number(1.0), Number(2.0), Number(None, "several"), Number(4.0)]
        parser = [verdict_of_number("I", str(i), n) for i, n in enumerate(read)]
        values = [1.0, 2.5, 3.0, None]
        judged = [
            Verdict("I", str(i), None, "j", value=v) for i, v in enumerate(values)
        ]
        assert equal_numbers(parser, judged[::-1]) == (1, 2)
        assert parser[2].reason == "parser: several"


class TestSchema:
    def test_is_detected_once(self):
        _, stub = judge(without_schema, make_items(30))
        asked = ["response_format" in body for body in stub.bodies]
        assert asked == [True] + [False] * 30

    def test_is_kept_where_the_first_item_alone_is_refused(self):
        acts = lambda body, n: error(400, "too long") if n < 2 else honest(body)  # noqa: E731
        verdicts, stub = judge(acts, make_items(5), concurrency=1)
        assert [outcome(v) for v in verdicts][:2] == ["failed", "no"]
        assert ["response_format" in body for body in stub.bodies] == [
            *(True, False),
            *[True] * 4,
        ]

    @pytest.mark.parametrize("schema", [True, False])
    def test_may_be_decided_by_the_user(self, schema):
        _, stub = judge(honest, make_items(3), schema=schema)
        assert {"response_format" in body for body in stub.bodies} == {schema}

    def test_that_is_ignored_in_silence_leaves_the_verdict_line(self):
        blind = lambda body, n: honest(  # noqa: E731
            {k: v for k, v in body.items() if k != "response_format"}
        )
        verdicts, _ = judge(blind, make_items(3))
        assert (verdicts[0].correct, verdicts[0].reason) == (True, "line")


class TestBudget:
    @pytest.mark.parametrize("concurrency", [1, 8])
    def test_is_not_exceeded_and_the_rest_is_not_asked(self, concurrency):
        flaky = lambda body, n: honest(body) if n % 4 else error(503)  # noqa: E731
        verdicts, stub = judge(
            flaky, make_items(40), budget=17, concurrency=concurrency
        )
        assert len(stub.bodies) == 17
        counts = count_outcomes(verdicts)
        assert sum(counts.values()) == 40
        assert counts["not asked"] >= 40 - 17
        assert "budget of 17" in verdicts[-1].reason

    def test_estimate_asks_and_writes_nothing(self, tmp_path):
        items = [*make_items(5), make_items(1)[0]._replace(id="x", response=None)]
        found = estimate(items * 2, settings(tmp_path / "cache.jsonl", max_tokens=100))
        assert found[:4] == (12, 0, 2, 5)
        assert found.max_completion_tokens == 500
        assert 5 * 200 < found.prompt_tokens < 5 * 1_000
        assert list(tmp_path.iterdir()) == []

    def test_estimate_knows_what_is_in_the_cache(self, tmp_path):
        cache = tmp_path / "cache.jsonl"
        judge(honest, make_items(3), cache)
        found = estimate(make_items(5), settings(cache))
        assert (found.num_cached, found.num_calls) == (3, 2)


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path):
        return tmp_path / "deep" / "cache.jsonl"

    def test_answers_a_second_run_without_a_call(self, cache):
        first, _ = judge(honest, make_items(9), cache)
        second, stub = judge(honest, make_items(9), cache)
        assert first == second
        assert stub.bodies == []

    @pytest.mark.parametrize("name", ["prose", "a refusal by field", "a filter"])
    def test_holds_replies_without_a_verdict_too(self, cache, name):
        first, _ = judge(in_turn(OUTCOMES[name][0]), make_items(2), cache)
        second, stub = judge(honest, make_items(2), cache)
        assert first == second
        assert stub.bodies == []

    def test_holds_no_failures(self, cache):
        judge(in_turn(error(500)), make_items(2), cache)
        verdicts, _ = judge(honest, make_items(2), cache)
        assert [v.correct for v in verdicts] == [True, False]

    @pytest.mark.parametrize(
        "changed",
        [{"seed": 1}, {"profile": "parity"}, {"max_tokens": 9}, {"judge": "other"}],
    )
    def test_is_of_one_judge_and_prompt(self, cache, changed):
        judge(honest, make_items(2), cache)
        with serve(honest) as stub:
            other = settings(cache)._replace(**changed)
            list(judge_answers(make_items(2), make_client(stub.url), other))
        assert len(stub.bodies) == 2

    def test_holds_the_reply_before_the_verdict_is_used(self, cache):
        with serve(honest) as stub:
            client = make_client(stub.url)
            for number, verdict in enumerate(
                judge_answers(make_items(8), client, settings(cache)), 1
            ):
                lines = [json.loads(x) for x in cache.read_text().splitlines()]
                assert verdict.id in {line["id"] for line in lines}
                assert len(lines) >= number

    def test_is_rebuilt_without_damaged_lines_which_are_asked_again(self, cache):
        expected, _ = judge(honest, make_items(4), cache, concurrency=1)
        lines = cache.read_text().splitlines()
        lines[1] = lines[1][:-5]
        lines[2] = json.dumps({**json.loads(lines[2]), "text": None})
        cache.write_text("\n".join(lines)[:-1])
        problems = Problems()
        verdicts, stub = judge(honest, make_items(4), cache, problems=problems)
        assert verdicts == expected
        assert len(stub.bodies) == 3
        assert problems.counts() == {"warning corrupt_cache": 1}
        assert "3 damaged lines" in problems.rows[0].message
        assert all(json.loads(line)["id"] for line in cache.read_text().splitlines())

    def test_earns_nothing_by_a_changed_verdict(self, cache):
        judge(honest, make_items(2), cache)
        text = cache.read_text().replace('"id": ', '"correct": true, "id": ')
        cache.write_text(text)
        verdicts, _ = judge(honest, make_items(2), cache)
        assert [v.correct for v in verdicts] == [True, False]

    def test_is_used_by_one_run_at_a_time(self, cache):
        slow = lambda body, n: honest(body)._replace(delay=0.3)  # noqa: E731
        with serve(slow) as stub, concurrent.futures.ThreadPoolExecutor(1) as pool:

            def run():
                client = make_client(stub.url)
                return list(judge_answers(make_items(2), client, settings(cache)))

            first = pool.submit(run)
            while not stub.bodies:
                time.sleep(0.005)
            with pytest.raises(MachineError, match="another run"):
                run()
            assert len(first.result()) == 2


PROGRAM = """
import json, pathlib, sys
from benchmark.client import Client, Endpoint
from benchmark.judge import JudgeSettings, judge_answers
from benchmark.prompts import JudgeItem
url, cache, count = sys.argv[1:]
items = [JudgeItem("Emotion", f"{i}.wav", "Which?", (f"label {i}",), f"{i} {i % 3}")
         for i in range(int(count))]
settings = JudgeSettings("stub", cache=pathlib.Path(cache), concurrency=4)
client = Client(Endpoint(url, "stub", key_variable="SOME_KEY"))
print("begin", flush=True)
for verdict in judge_answers(items, client, settings):
    print(json.dumps(verdict), flush=True)
"""


class TestKill:
    def test_at_any_point_loses_no_reply_and_asks_for_none_twice(self, tmp_path):
        cache, asked, answered = tmp_path / "cache.jsonl", [], []
        chance = random.Random(0)

        def behave(body, number):
            asked.append(re.search(r"label (\d+)", user_text(body))[1])
            return honest(body)._replace(delay=0.01)

        with serve(behave) as stub:
            command = [sys.executable, "-c", PROGRAM, stub.url, str(cache), "120"]
            for _ in range(3):
                held = len(answered)
                answered = self.kill(command, cache, chance.randint(5, 25))
                assert len(answered) > held
            before = set(asked)
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        verdicts = [json.loads(line) for line in done.stdout.splitlines()[1:]]
        expected, _ = judge(honest, make_items(120))
        assert [v[:3] for v in verdicts] == [list(v[:3]) for v in expected]
        repeated = len(asked) - len(set(asked))
        assert repeated <= 3 * 4  # in flight at each kill: at most one a thread
        assert len(before) < 120

    def kill(self, command, cache, more):
        """Starts, kills after some more lines, and checks that none is asked again."""
        start = len(cache.read_bytes().splitlines()) if cache.exists() else 0
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        while not cache.exists() or cache.read_bytes().count(b"\n") < start + more:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        lines = cache.read_bytes().splitlines()
        ids = [json.loads(line)["id"] for line in lines if line.endswith(b"}")]
        assert len(ids) == len(set(ids))  # no verdict that was received came twice
        return ids


class TestKeys:
    def test_reach_no_file_no_output_and_no_message(
        self, tmp_path, monkeypatch, capfd, caplog
    ):
        monkeypatch.setenv("SOME_KEY", KEY)
        acts = [
            *(said(f"Your key {KEY} says\nVERDICT: YES"), error(400, f"key {KEY}")),
            *(error(429, KEY), Act(body=f"<p>{KEY}".encode()), error(500, KEY)),
            *(said(None, refusal=KEY), error(401, f"bad {KEY}")),
        ]
        problems, shown = Problems(), []
        with serve(in_turn(*acts)) as stub, caplog.at_level(logging.DEBUG):
            client = make_client(stub.url, key_variable="SOME_KEY")
            chosen = settings(tmp_path / "cache.jsonl", concurrency=1)
            verdicts = judge_answers(make_items(9), client, chosen, problems)
            with pytest.raises(InputError) as caught:
                shown.extend(verdicts)
        problems.write(tmp_path / "problems.jsonl")
        assert stub.headers[0]["Authorization"] == f"Bearer {KEY}"
        texts = [path.read_text() for path in tmp_path.iterdir()]
        texts += [*capfd.readouterr(), caplog.text, repr(caught.value), repr(shown)]
        texts += [repr(client.endpoint), repr(chosen), repr(vars(client))]
        assert len(texts) > 8
        assert "[key]" in texts[0] + texts[1]
        assert not any(KEY in text for text in texts)


class TestAgreement:
    def verdicts(self, values, name="a"):
        return [Verdict("I", str(i), v, name) for i, v in enumerate(values)]

    def test_is_cohens_kappa(self, rng):
        for _ in range(20):
            one = rng.random(50) < 0.6
            two = np.where(rng.random(50) < 0.8, one, ~one)
            found = agreement(
                self.verdicts(one.tolist()), self.verdicts(two.tolist())[::-1]
            )
            expected = metrics.cohen_kappa_score(one, two)
            assert found.kappa == pytest.approx(expected, abs=1e-12)
            assert found.observed == pytest.approx((one == two).mean())
            table = metrics.confusion_matrix(one, two, labels=[True, False])
            assert found.table == tuple(map(tuple, table.tolist()))

    def test_counts_what_it_leaves_out(self):
        first = self.verdicts([True, None, False, None, True])
        second = self.verdicts([True, True, None, None])
        found = agreement(first, second)
        assert (found.num_shared, found.num_undecided, found.num_unpaired) == (1, 3, 1)

    @pytest.mark.parametrize("values", [[], [None, None], [True, True]])
    def test_is_undefined_where_chance_alone_would_agree(self, values):
        assert agreement(self.verdicts(values), self.verdicts(values)).kappa is None

    @pytest.mark.parametrize(
        ("parsed", "right", "correct"),
        [
            ("matched", True, True),
            ("matched", False, False),
            ("other_option", False, False),
            ("several", False, None),
            ("none", False, None),
        ],
    )
    def test_takes_the_parser_as_a_judge(self, parsed, right, correct):
        verdict = verdict_of_parsed("I", "1", Parsed(parsed), right)
        assert (verdict.correct, verdict.judge) == (correct, "parser")
