"""Answers that decline, and those that commit themselves after all."""

import pytest

from benchmark import refusals


@pytest.mark.parametrize(
    "text",
    [
        "I cannot listen to audio.",
        "As an AI language model, I guess it is happy",
        "Please provide the clip.",
        "Sorry, but no",
        "I can't hear any sound",
    ],
)
def test_who_cannot_hear_is_unable(text):
    assert refusals.is_unable(text)


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, the speaker is sad.", "I cannot hear any noise.", "It can't be happy"],
)
def test_who_hears_is_not_unable(text):
    assert not refusals.is_unable(text)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("It is happy.", "", "It is happy."),
        (
            "The audio is not clear, it is noisy",
            "",
            "The audio is not clear, it is noisy",
        ),
        ("I'm not sure, maybe happy.", "I'm not sure, maybe happy.", ""),
        ("I don't know.", "I don't know.", ""),
        ("It is hard to tell but happy", "It is ", " happy"),
        ("Sad? I can't say. However, I hear joy.", "Sad? I ", " I hear joy."),
        (
            "No idea but sad, though I am unsure",
            "No idea but sad, though I am unsure",
            "",
        ),
    ],
)
def test_what_follows_a_but_commits(text, before, after):
    assert refusals.committed_part(text) == (before, after)
