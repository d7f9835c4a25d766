"""Baselines do what their name says, the same each time for a seed."""

import collections

import pytest

from benchmark.errors import InputError
from benchmark.models import ModelSettings, NoAnswerError, make_model
from benchmark.parsing import parse_answer
from benchmark.typing import Example

OPTIONS = ("happy", "sad", "angry")


def make_examples(references, instance="Emotion", instruction="Which emotion?"):
    return [
        Example(f"{i}.wav", instance, instruction, (reference,))
        for i, reference in enumerate(references)
    ]


def answers(spec, examples, options=OPTIONS, **fields):
    settings = ModelSettings(lambda e: options, examples, **fields)
    model = make_model(spec, settings)
    return [model.answer(example) for example in examples]


EXAMPLES = make_examples(["happy", "sad", "sad", "angry"] * 150)


class TestChance:
    def test_draws_each_option_as_often(self):
        examples = make_examples(["happy"] * 3_000)
        found = [p.response for p in answers("baseline:chance", examples)]
        counts = collections.Counter(found)
        assert set(counts) == set(OPTIONS)
        assert all(900 < count < 1_100 for count in counts.values())

    def test_depends_on_seed_and_example_alone(self):
        first = answers("baseline:chance", EXAMPLES)
        assert answers("baseline:chance", EXAMPLES[::-1])[::-1] == first
        assert answers("baseline:chance", EXAMPLES, seed=1) != first
        other = [e._replace(references=("x",)) for e in EXAMPLES]
        assert answers("baseline:chance", other) == first

    @pytest.mark.parametrize("options", [None, ()])
    def test_skips_what_is_no_closed_question(self, options):
        with pytest.raises(NoAnswerError, match="no options") as caught:
            answers("baseline:chance", EXAMPLES[:1], options)
        assert caught.value.kind == "skipped"


class TestMajority:
    def test_gives_the_most_frequent_reference_of_each_instance(self):
        examples = make_examples(["sad", "happy", "sad"]) + make_examples(
            ["yes", "no", "no"], "Change"
        )
        found = [p.response for p in answers("baseline:majority", examples)]
        assert found == ["sad"] * 3 + ["no"] * 3

    def test_breaks_ties_by_the_alphabet(self):
        examples = make_examples(["sad", "happy", "angry"])
        assert answers("baseline:majority", examples)[0].response == "angry"

    def test_joins_several_labels(self):
        examples = [Example("1", "Tags", "Which?", ("rock", "loud"))]
        assert answers("baseline:majority", examples)[0].response == "rock, loud"

    @pytest.mark.parametrize(
        ("options", "expected"), [(None, "2.5"), (("1", "2", "3", "9"), "1")]
    )
    def test_gives_the_median_of_numbers_that_are_no_options(self, options, expected):
        examples = make_examples(["1", "3", "2", "9"])
        found = answers("baseline:majority", examples, options)
        assert found[0].response == expected

    def test_says_that_it_has_seen_the_references(self):
        model = make_model("baseline:majority", ModelSettings(examples=EXAMPLES))
        assert model.info["sees_references"] is True

    def test_has_no_answer_to_an_instance_it_has_not_seen(self):
        model = make_model("baseline:majority", ModelSettings(examples=EXAMPLES))
        assert model.answer(make_examples(["x"], "Other")[0]) is None


def test_text_only_gives_the_most_frequent_reference_of_each_instruction():
    examples = make_examples(["sad", "sad", "happy"], instruction="How sad?")
    examples += make_examples(["happy", "happy", "sad"], instruction="How happy?")
    found = [p.response for p in answers("baseline:text_only", examples)]
    assert found == ["sad"] * 3 + ["happy"] * 3


class TestChatty:
    def test_means_the_right_option_as_often_as_it_is_told(self):
        found = answers("scripted:chatty:0.6", EXAMPLES)
        outcomes = collections.Counter()
        for example, prediction in zip(EXAMPLES, found, strict=True):
            parsed = parse_answer(prediction.response, OPTIONS)
            right = parsed.labels == example.references
            outcomes["right" if right else parsed.outcome] += 1
        named = outcomes["right"] + outcomes["matched"]
        assert 0.5 < outcomes["right"] / named < 0.7
        assert outcomes["several"] > 20  # and it sometimes names two,
        assert outcomes["none"] > 20  # or refuses

    def test_says_the_same_for_the_same_seed(self):
        first = answers("scripted:chatty", EXAMPLES)
        assert answers("scripted:chatty", EXAMPLES) == first
        assert answers("scripted:chatty", EXAMPLES, seed=3) != first

    def test_talks_about_open_questions_too(self):
        examples = make_examples(["12", "a b c"] * 20)
        right = answers("scripted:chatty:1", examples, None)
        assert all(
            e.references[0] in p.response for e, p in zip(examples, right, strict=True)
        )
        wrong = answers("scripted:chatty:0", examples, None)
        assert not any(
            p.response.endswith(e.references[0])
            for e, p in zip(examples, wrong, strict=True)
        )

    @pytest.mark.parametrize("share", ["2", "-1", "x", "nan"])
    def test_takes_a_share(self, share):
        with pytest.raises(InputError, match="share from 0 to 1"):
            make_model(f"scripted:chatty:{share}")


@pytest.mark.parametrize("name", ["chance", "majority", "text_only"])
def test_predictions_carry_place_and_name(name):
    (found,) = answers(f"baseline:{name}", EXAMPLES[:1])
    assert (found.instance, found.id, found.model) == ("Emotion", "0.wav", name)
    (found,) = answers(f"baseline:{name}", EXAMPLES[:1], name="mine")
    assert found.model == "mine"
