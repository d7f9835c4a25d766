"""Answers in a file are found by instance and id."""

import json

import pytest

from benchmark.errors import InputError
from benchmark.models import ModelSettings, make_model
from benchmark.typing import Example

EXAMPLE = Example("1.wav", "Emotion", "Which?", ("sad",))


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file:{path}"


def row(response, id="1.wav", **fields):
    return {"instance": "Emotion", "id": id, "response": response, **fields}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.jsonl"


def test_an_answer_is_given_as_it_stands(path):
    spec = write(path, row("happy", "2.wav"), row("sad!", model="m"), row(None, "3"))
    with pytest.raises(InputError, match="choose one by its name"):
        make_model(spec)
    model = make_model(spec, ModelSettings(name="m"))
    assert model.answer(EXAMPLE) == ("Emotion", "1.wav", "sad!", "m", ())


@pytest.mark.parametrize("name", ["", "mine"])
def test_the_only_model_may_be_renamed(path, name):
    model = make_model(write(path, row("sad")), ModelSettings(name=name))
    assert model.answer(EXAMPLE).model == model.name == (name or "answers")


@pytest.mark.parametrize("found", [{"id": "2.wav"}, {"instance": "Other"}])
def test_what_is_not_in_the_file_has_no_answer(path, found):
    model = make_model(write(path, {**row("sad"), **found}))
    assert model.answer(EXAMPLE) is None


def test_null_is_no_answer(path):
    assert make_model(write(path, row(None))).answer(EXAMPLE) is None


def test_two_answers_that_differ_are_refused(path):
    make_model(write(path, row("sad"), row("sad")))
    with pytest.raises(InputError, match=r"Emotion 1\.wav: two answers that differ"):
        make_model(write(path, row("sad"), row("happy")))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl"):
        make_model(f"file:{tmp_path}/none.jsonl")
