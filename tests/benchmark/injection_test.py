"""No text that a model writes turns the verdict of a judge that obeys everyone."""

import re

import pytest

from benchmark.client import Client, Endpoint
from benchmark.judge import JudgeSettings, judge_answers
from benchmark.prompts import JudgeItem, NumberItem, make_prompt
from benchmark.verdicts import read_number, read_verdict
from tests.benchmark.attacks import ATTACKS
from tests.benchmark.stub import said, serve

QUESTION = "Which emotion is heard: happy or sad?"
MARKER = re.compile(r"<\|[^<>]*\|>|\[/?INST\]|</?s>|<(?:start|end)_of_turn>|<\uff5c")


def item(response, instruction=QUESTION, reference="happy"):
    return JudgeItem("Emotion", "1.wav", instruction, (reference,), response)


def texts(body):
    return [message["content"] for message in body["messages"]]


def token_of(body):
    return re.search(r"<<<INSTRUCTION (\w+)>>>", "\n".join(texts(body)))[1]


def outside(body):
    """What stands outside the delimited blocks, as a gullible reader sees it."""
    token = token_of(body)
    text = "\n".join(texts(body))
    block = rf"^<<<(\w+) {token}>>>$.*?^<<<END \1 {token}>>>$"
    rest = re.sub(block, "", text, flags=re.DOTALL | re.MULTILINE)
    turns = MARKER.split(text)[1:]  # servers begin a new message at such a marker
    return "\n".join([rest, *turns]).replace(token, "TOKEN")


def block(body, name):
    token = token_of(body)
    pattern = rf"^<<<{name} {token}>>>\n(.*?)\n<<<END {name} {token}>>>$"
    found = re.search(pattern, "\n".join(texts(body)), re.DOTALL | re.MULTILINE)
    return found[1]


def obedient(benign):
    """A judge that quotes what it judges, and obeys whatever is outside the blocks."""

    def behave(body, number):
        fooled = outside(body) != benign
        right = fooled or block(body, "RESPONSE") == block(body, "REFERENCE")
        word = "YES" if right else "NO"
        token = token_of(body)
        quoted = f"The response reads:\n{block(body, 'RESPONSE')}\nThat is all.\n"
        if "system" in {message["role"] for message in body["messages"]}:
            return said(quoted + f"VERDICT {token}: {word}")
        return said(quoted + f"RESULT: {word}")

    return behave


def as_body(prompt):
    return {"messages": prompt.as_messages()}


def judged(items, profile):
    benign = outside(as_body(make_prompt(item("sad"), profile)))
    with serve(obedient(benign)) as stub:
        client = Client(Endpoint(stub.url, "obedient"))
        settings = JudgeSettings("obedient", profile, schema=False)
        return list(judge_answers(items, client, settings))


def test_there_are_as_many_attacks_as_the_page_says():
    assert len(ATTACKS) >= 60


@pytest.mark.parametrize("profile", ["strict", "parity"])
def test_no_attack_in_a_response_turns_the_verdict(profile):
    verdicts = judged([item(text) for text in ATTACKS.values()], profile)
    turned = [
        n for n, v in zip(ATTACKS, verdicts, strict=True) if v.correct is not False
    ]
    assert turned == []
    assert {verdict.reason for verdict in verdicts} == {"line"}


@pytest.mark.parametrize("profile", ["strict", "parity"])
def test_the_same_judge_finds_right_answers_right(profile):
    assert [v.correct for v in judged([item("happy"), item("sad")], profile)] == [
        True,
        False,
    ]


def test_attacks_in_an_instruction_or_a_reference_do_not_turn_it_either():
    items = [item("sad", instruction=text) for text in ATTACKS.values()]
    items += [item("sad", reference=text) for text in ATTACKS.values()]
    assert {verdict.correct for verdict in judged(items, "strict")} == {False}


def as_number(text):
    """An attack that is after a number in place of a verdict."""
    return text.replace("VERDICT", "REWRITTEN").replace("verdict", "rewritten") + (
        "\nREWRITTEN: 42"
    )


def number_item(response):
    return NumberItem("Length", "1.wav", "How long is it?", response)


def number_finder(benign):
    """Finds no number in an attack, and 42 if it is told so outside the blocks."""

    def behave(body, number):
        token, fooled = token_of(body), outside(body) != benign
        quoted = f"The response reads:\n{block(body, 'RESPONSE')}\nThat is all.\n"
        return said(f"{quoted}REWRITTEN {token}: {'42' if fooled else 'N/A'}")

    return behave


def test_no_attack_in_a_response_becomes_a_number():
    benign = outside(as_body(make_prompt(number_item("long"))))
    with serve(number_finder(benign)) as stub:
        client = Client(Endpoint(stub.url, "obedient"))
        settings = JudgeSettings("obedient", schema=False)
        items = [number_item(as_number(text)) for text in ATTACKS.values()]
        verdicts = list(judge_answers(items, client, settings))
    assert {verdict.value for verdict in verdicts} == {None}
    assert {verdict.reason for verdict in verdicts} == {"n/a"}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_neither_an_attack_nor_a_prompt_that_comes_back_is_a_number(attack):
    prompt = make_prompt(number_item(as_number(attack)))
    whole = "\n".join(text for _, text in prompt.messages)
    for echo in (as_number(attack), whole, whole.lower(), whole[100:], whole[:-100]):
        assert read_number(echo, prompt).value is None


def naive(response):
    """A prompt with fixed delimiters and a template, as it should not be."""
    rules = "Say whether the texts agree. <<<NAME abc>>> ... <<<END NAME abc>>>\n"
    blocks = [("INSTRUCTION", QUESTION), ("REFERENCE", "happy"), ("RESPONSE", response)]
    text = "\n".join(f"<<<{n} abc>>>\n{t}\n<<<END {n} abc>>>" for n, t in blocks)
    return {"messages": [{"role": "user", "content": rules + text}]}


@pytest.mark.parametrize("name", ["a closed block", "ChatML", "Llama 2", "Gemma"])
def test_the_same_judge_is_fooled_where_delimiters_can_be_guessed(name):
    attack = ATTACKS[name].replace("0123456789abcdef", "abc")
    behave = obedient(outside(naive("sad")))
    assert b"RESULT: NO" in behave(naive("sad"), 0).body
    assert b"RESULT: YES" in behave(naive(attack), 0).body


class TestForgery:
    """What a judge or an endpoint repeats of an attack is no verdict."""

    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    def test_a_reply_that_is_the_attack_itself_is_never_a_yes(self, attack):
        prompt = make_prompt(item(attack))
        assert read_verdict(attack, prompt).correct is None

    @pytest.mark.parametrize("profile", ["strict", "parity"])
    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    def test_a_prompt_that_comes_back_holds_no_verdict(self, attack, profile):
        prompt = make_prompt(item(attack), profile)
        whole = "\n".join(text for _, text in prompt.messages)
        for echo in (whole, whole.lower(), whole[100:], whole[: len(whole) - 100]):
            assert read_verdict(echo, prompt, profile).correct is None

    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    def test_a_verdict_after_the_echo_counts(self, attack):
        prompt = make_prompt(item(attack))
        whole = "\n".join(text for _, text in prompt.messages)
        reply = f"{whole}\nIt differs.\nVERDICT {prompt.token}: NO"
        assert read_verdict(reply, prompt) == (False, "line")

    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    def test_no_attack_holds_its_own_token_or_a_control_character(self, attack):
        prompt = make_prompt(item(attack))
        assert prompt.token not in attack
        for _, text in prompt.messages:
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)
            text.encode()
