"""What an endpoint does wrong ends in a documented outcome, within time and budget."""

import concurrent.futures
import email.utils
import json
import threading
import time

import pytest

from benchmark.client import (
    MAX_FAILURES_IN_A_ROW,
    Budget,
    Client,
    Endpoint,
    key_variable,
)
from benchmark.errors import InputError, MachineError
from tests.benchmark.stub import Act, error, free_port, in_turn, said, serve

KEY = "sk-test-0123456789abcdef"
MESSAGES = [{"role": "user", "content": "What is heard?"}]
FINE = said("a dog")


def make_client(url, budget=None, **fields):
    fields = {
        "read_seconds": 10.0,
        "total_seconds": 20.0,
        "backoff_seconds": 0.001,
        "max_attempts": 3,
        **fields,
    }
    return Client(Endpoint(url, "some-model", **fields), Budget(budget))


def ask(behave, **fields):
    with serve(behave) as stub:
        return make_client(stub.url, **fields).chat(MESSAGES), stub


def fault(behave, **fields):
    with serve(behave) as stub:
        with pytest.raises((InputError, MachineError)) as caught:
            make_client(stub.url, **fields).chat(MESSAGES)
        return caught.value, stub


class TestAnswers:
    def test_come_with_the_reason_why_they_ended(self):
        reply, stub = ask(in_turn(said("a dog", finish="length")))
        assert (reply.outcome, reply.text, reply.finish) == (
            *("answered", "a dog"),
            "length",
        )
        assert reply.num_calls == len(stub.bodies) == 1

    def test_are_asked_with_model_messages_and_options(self):
        with serve(in_turn(FINE)) as stub:
            make_client(stub.url + "/").chat(MESSAGES, temperature=0, max_tokens=9)
        expected = {"model": "some-model", "messages": MESSAGES}
        assert stub.bodies == [{**expected, "temperature": 0, "max_tokens": 9}]
        assert stub.paths == ["/v1/chat/completions"]

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ("a \u00e4 \U0001f600", "a \u00e4 \U0001f600"),
            (
                [{"type": "text", "text": "a "}, {"type": "text", "text": "dog"}],
                "a dog",
            ),
            ([{"type": "image"}, "stray"], ""),
            (None, ""),
            (7, ""),
        ],
    )
    def test_are_one_string_whatever_form_the_content_has(self, content, text):
        reply, _ = ask(in_turn(said(content)))
        assert (reply.outcome, reply.text) == ("answered", text)

    @pytest.mark.parametrize(
        ("act", "reason"),
        [
            (said(None, refusal="I will not."), "refusal"),
            (said("", finish="content_filter"), "content filter"),
        ],
    )
    def test_that_refuse_are_an_outcome_of_their_own(self, act, reason):
        reply, stub = ask(in_turn(act))
        assert (reply.outcome, reply.reason) == ("refused", reason)
        assert len(stub.bodies) == 1

    def test_may_begin_with_a_byte_order_mark(self):
        act = FINE._replace(body=b"\xef\xbb\xbf" + FINE.body)
        assert ask(in_turn(act))[0].text == "a dog"


RETRIED = {
    "408": (error(408), "HTTP 408: no"),
    "409": (error(409), "HTTP 409: no"),
    "429": (error(429), "HTTP 429: no"),
    "500": (error(500), "HTTP 500: no"),
    "503 without a body": (Act(503), "HTTP 503"),
    "reset": (Act(kind="reset"), "reset: "),
    "cut": (FINE._replace(kind="cut"), "reset: "),
    "silence": (Act(kind="silence"), "time-out: 0.3 s of silence"),
    "drip": (Act(kind="drip"), "time-out after 0.8 s"),
    "dripping header": (Act(kind="drip_head"), "time-out after 0.8 s"),
    "HTML": (Act(body=b"<!doctype html><p>log in"), "HTML body"),
    "empty": (Act(), "empty body"),
    "blank": (Act(body=b" \r\n"), "empty body"),
    "truncated JSON": (Act(body=FINE.body[:-9]), "truncated or malformed JSON"),
    "JSON in prose": (Act(body=b"Sure: " + FINE.body), "truncated or malformed JSON"),
    "deep JSON": (Act(body=b"[" * 100_000), "truncated or malformed JSON"),
    "a list": (Act(body=b"[1]"), "a body that is no JSON object"),
    "no choices": (Act(body=b'{"choices": []}'), "a body without choices"),
    "odd choices": (Act(body=b'{"choices": [3]}'), "a body without choices"),
    "an error as 200": (Act(body=b'{"error": "busy"}'), "a body without choices: busy"),
    "not UTF-8": (Act(body=b"\xff\xfe\x00"), "truncated or malformed JSON"),
}


class TestPassingFaults:
    @pytest.mark.parametrize(("act", "reason"), RETRIED.values(), ids=RETRIED)
    def test_are_asked_again_then_given_up(self, act, reason):
        slow = act.kind in ("silence", "drip", "drip_head")
        limits = {"read_seconds": 0.3, "total_seconds": 0.8} if slow else {}
        reply, stub = ask(in_turn(act), max_attempts=2, **limits)
        assert reply.outcome == "failed"
        assert reply.reason.startswith(reason)
        assert reply.num_calls == len(stub.bodies) == 2

    @pytest.mark.parametrize(
        "name", ["429", "reset", "HTML", "empty", "truncated JSON"]
    )
    def test_do_no_harm_once_they_have_passed(self, name):
        reply, _ = ask(in_turn(RETRIED[name][0], FINE))
        assert (reply.outcome, reply.text, reply.num_calls) == ("answered", "a dog", 2)

    def test_are_waited_out_longer_each_time(self):
        _, stub = ask(in_turn(error(500)), max_attempts=4, backoff_seconds=0.08)
        first, second, third = (
            b - a for a, b in zip(stub.times, stub.times[1:], strict=False)
        )
        # Without growth none would be over 0.08 s; only the lower bounds are certain.
        assert first >= 0.04
        assert second >= 0.08
        assert third >= 0.16

    @pytest.mark.parametrize("kind", ["seconds", "date"])
    def test_are_waited_out_as_long_as_the_endpoint_says(self, kind):
        wait = 0.3 if kind == "seconds" else 2
        date = email.utils.formatdate(time.time() + wait, usegmt=True)
        header = [("Retry-After", "0.3" if kind == "seconds" else date)]
        _, stub = ask(in_turn(error(429, headers=header), FINE))
        assert stub.times[1] - stub.times[0] >= (0.3 if kind == "seconds" else 0.9)

    @pytest.mark.parametrize("value", ["-5", "soon", "", "1e9", "\u0663"])
    def test_are_asked_again_after_a_malformed_retry_after(self, value):
        header = [("Retry-After", value.encode().decode("latin-1"))]
        reply, _ = ask(in_turn(error(429, headers=header), FINE))
        assert reply.outcome == "answered"

    def test_that_want_a_long_wait_stop_the_run(self):
        act = error(429, headers=[("Retry-After", "3600")])
        raised, stub = fault(in_turn(act))
        assert isinstance(raised, MachineError)
        assert "asks to wait 3600 s" in str(raised)
        assert len(stub.bodies) == 1

    def test_in_a_row_stop_the_run(self):
        with serve(in_turn(error(500))) as stub:
            client = make_client(stub.url, max_attempts=1)
            for _ in range(MAX_FAILURES_IN_A_ROW - 1):
                assert client.chat(MESSAGES).outcome == "failed"
            with pytest.raises(MachineError, match="20 questions in a row failed"):
                client.chat(MESSAGES)
            assert client.chat(MESSAGES).outcome == "not_asked"

    def test_between_answers_do_not_stop_it(self):
        acts = [FINE if i % 10 == 0 else error(500) for i in range(50)]
        with serve(in_turn(*acts)) as stub:
            client = make_client(stub.url, max_attempts=1)
            outcomes = [client.chat(MESSAGES).outcome for _ in acts]
        assert outcomes.count("failed") == 45


class TestLastingFaults:
    @pytest.mark.parametrize("status", [400, 413, 422, 501, 204])
    def test_of_one_question_are_not_asked_again(self, status):
        reply, stub = ask(in_turn(error(status, "too \x1b[31mlong")))
        assert (reply.outcome, len(stub.bodies)) == ("failed", 1)
        assert reply.status == status
        assert reply.reason.startswith(f"HTTP {status}")
        assert "\x1b" not in reply.reason

    def test_an_endless_answer_is_read_up_to_a_limit_and_once(self):
        reply, stub = ask(in_turn(Act(kind="endless")), max_bytes=200_000)
        assert reply.reason == "endless: more than 200000 bytes"
        assert len(stub.bodies) == 1

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refused_key_stops_at_once_and_names_its_variable(
        self, status, monkeypatch
    ):
        monkeypatch.setenv("SOME_KEY", KEY)
        raised, stub = fault(in_turn(error(status, KEY)), key_variable="SOME_KEY")
        assert isinstance(raised, InputError)
        assert "SOME_KEY" in str(raised)
        assert str(status) in str(raised)
        assert KEY not in str(raised)
        assert len(stub.bodies) == 1

    def test_a_key_that_is_not_set_is_named(self, monkeypatch):
        monkeypatch.delenv("SOME_KEY", raising=False)
        raised, _ = fault(in_turn(error(401)), key_variable="SOME_KEY")
        assert "SOME_KEY (which is not set)" in str(raised)

    def test_a_wrong_key_is_shown_once_however_many_threads_ask(self):
        with serve(in_turn(error(401)._replace(delay=0.05))) as stub:
            client = make_client(stub.url)
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(client.chat, MESSAGES) for _ in range(32)]
            faults = [f.exception() for f in asked if f.exception()]
        assert len(stub.bodies) == len(faults) == 1
        assert {f.result().outcome for f in asked if not f.exception()} == {"not_asked"}

    @pytest.mark.parametrize(
        "act", [error(402), error(429, code="insufficient_quota")], ids=["402", "429"]
    )
    def test_a_spent_quota_stops_at_once(self, act):
        raised, stub = fault(in_turn(act))
        assert isinstance(raised, MachineError)
        assert "quota" in str(raised)
        assert len(stub.bodies) == 1

    @pytest.mark.parametrize("status", [404, 405, 410])
    def test_a_wrong_address_or_model_stops_at_once(self, status):
        raised, stub = fault(in_turn(error(status, "no such model")))
        assert isinstance(raised, InputError)
        assert "no such model" in str(raised)
        assert "'some-model'" in str(raised)
        assert len(stub.bodies) == 1

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_not_followed(self, status, monkeypatch):
        monkeypatch.setenv("SOME_KEY", KEY)
        with serve(in_turn(FINE)) as other:
            act = Act(status, headers=(("Location", other.url),))
            raised, _ = fault(in_turn(act), key_variable="SOME_KEY")
        assert "redirects are not followed" in str(raised)
        assert other.bodies == []

    def test_an_address_where_nobody_listens_stops_the_run(self):
        client = make_client(f"http://127.0.0.1:{free_port()}/v1")
        with pytest.raises(MachineError, match="is the server up"):
            client.chat(MESSAGES)

    @pytest.mark.parametrize(
        "url",
        [
            *("localhost:8000/v1", "ftp://host/v1", "http:///v1", "http://h:0/v1", ""),
            *("http://h:99999/v1", "http://[::1/v1", f"http://me:{KEY}@h/v1"),
            *(f"http://h/v1?api_key={KEY}", f"http://h/v1#{KEY}", "http://h/a b"),
            "http://h/\u00e4",
        ],
    )
    def test_an_address_that_is_none_is_refused_without_being_shown(self, url):
        with pytest.raises(InputError, match="expected http://HOST/v1") as caught:
            make_client(url)
        assert KEY not in str(caught.value)


class TestBudget:
    def test_counts_attempts_not_questions(self):
        reply, stub = ask(in_turn(error(500)), budget=2, max_attempts=5)
        assert reply.outcome == "not_asked"
        assert reply.reason == "the budget of 2 calls is spent"
        assert len(stub.bodies) == 2

    def test_is_never_exceeded_by_threads_that_retry(self):
        behave = lambda body, number: FINE if number % 3 else error(503)  # noqa: E731
        with serve(behave) as stub:
            client = make_client(stub.url, budget=37)
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                replies = list(pool.map(lambda _: client.chat(MESSAGES), range(60)))
        assert len(stub.bodies) == client.budget.used == 37
        assert sum(reply.num_calls for reply in replies) == 37

    def test_of_nothing_asks_nothing(self):
        reply, stub = ask(in_turn(FINE), budget=0)
        assert (reply.outcome, stub.bodies) == ("not_asked", [])

    def test_is_a_number_of_calls(self):
        with pytest.raises(InputError, match="budget -1"):
            Budget(-1)


class TestStop:
    def test_ends_a_wait_at_once(self):
        with serve(in_turn(error(500))) as stub:
            client = make_client(stub.url, backoff_seconds=30)
            threading.Timer(0.1, client.stop).start()
            start = time.monotonic()
            reply = client.chat(MESSAGES)
        assert (reply.outcome, reply.reason) == ("not_asked", "the run was stopped")
        assert time.monotonic() - start < 5


class TestKeys:
    def test_are_read_from_the_environment_and_sent(self, monkeypatch):
        monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
        _, stub = ask(in_turn(FINE), key_variable="SOME_KEY")
        assert stub.headers[0]["Authorization"] == f"Bearer {KEY}"

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("https://api.openai.com/v1", "OPENAI_API_KEY"),
            ("https://api.openai.com.example.org/v1", ""),
            ("http://localhost:8000/v1", ""),
        ],
    )
    def test_of_one_host_are_not_sent_to_another(self, url, name):
        assert key_variable(Endpoint(url, "m")) == name
        assert key_variable(Endpoint(url, "m", "OTHER")) == "OTHER"

    def test_are_not_sent_where_none_is_named(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        _, stub = ask(in_turn(FINE))
        assert "Authorization" not in stub.headers[0]

    @pytest.mark.parametrize(
        "act", [said(f"your key is {KEY}"), error(400, f"bad key {KEY}")]
    )
    def test_that_an_endpoint_quotes_do_not_come_back(self, act, monkeypatch):
        monkeypatch.setenv("SOME_KEY", KEY)
        reply, _ = ask(in_turn(act), key_variable="SOME_KEY")
        assert KEY not in json.dumps(reply)
        assert "[key]" in json.dumps(reply)

    @pytest.mark.parametrize("status", [200, 400])
    @pytest.mark.parametrize(
        ("plain", "escaped"),
        [("/", r"\/"), ("/", r"\u002f"), ("k", r"\u006B"), ("\\", r"\\"), ('"', r"\"")],
    )
    def test_do_not_come_back_in_the_escapes_of_json(
        self, plain, escaped, status, monkeypatch
    ):
        key = f"s{plain}-test{plain}0123456789"
        monkeypatch.setenv("SOME_KEY", key)
        act = said("QUOTED") if status == 200 else error(status, "QUOTED")
        quoted = key.replace(plain, escaped).encode()
        act = act._replace(body=act.body.replace(b"QUOTED", quoted))
        reply, _ = ask(in_turn(act), key_variable="SOME_KEY")
        assert (reply.text or reply.reason.removeprefix("HTTP 400: ")) == "[key]"

    @pytest.mark.parametrize("key", ["EMPTY", "none", "1"])
    def test_that_are_no_secrets_change_no_answer(self, key, monkeypatch):
        monkeypatch.setenv("SOME_KEY", key)
        reply, _ = ask(in_turn(said(f"It is {key}.")), key_variable="SOME_KEY")
        assert reply.text == f"It is {key}."

    @pytest.mark.parametrize("value", ["abc\ndef", "a b", "schl\u00fcssel"])
    def test_that_cannot_be_keys_are_refused_unseen(self, value, monkeypatch):
        monkeypatch.setenv("SOME_KEY", value)
        raised, stub = fault(in_turn(FINE), key_variable="SOME_KEY")
        assert "SOME_KEY" in str(raised)
        assert value not in str(raised)
        assert stub.bodies == []
