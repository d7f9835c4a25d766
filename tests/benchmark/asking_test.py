"""A command is about the instances that are named, or that are there."""

import pathlib

import pytest

from benchmark.asking import choose_instances, choose_model, make_options_of
from benchmark.errors import InputError
from benchmark.tasks import load_tasks
from benchmark.typing import Example, Prediction

KNOWN = load_tasks()
FOLDS = KNOWN["HEAREmotionRecognition_CREMAD"].instances


class TestInstances:
    def choose(self, data, *names):
        return [instance for _, instance in choose_instances(KNOWN, names, data)]

    def test_are_those_with_a_folder(self, tmp_path):
        for name in (FOLDS[3], "SuperbER_RAVDESS", "something else"):
            (tmp_path / name).mkdir()
        assert sorted(self.choose(tmp_path)) == [FOLDS[3], "SuperbER_RAVDESS"]

    def test_are_all_folds_of_a_task_that_is_named(self, tmp_path):
        for name in FOLDS:
            (tmp_path / name).mkdir()
        assert self.choose(tmp_path, "HEAREmotionRecognition_CREMAD") == list(FOLDS)
        assert self.choose(tmp_path, FOLDS[2]) == [FOLDS[2]]

    def test_may_be_the_data_themselves(self, tmp_path):
        assert self.choose(tmp_path, "SuperbER_RAVDESS") == ["SuperbER_RAVDESS"]

    def test_without_a_folder_among_others_are_refused(self, tmp_path):
        (tmp_path / FOLDS[0]).mkdir()
        with pytest.raises(InputError, match=f"no folder {FOLDS[1]}"):
            self.choose(tmp_path, "HEAREmotionRecognition_CREMAD")
        with pytest.raises(InputError, match="no folder SuperbER_RAVDESS"):
            self.choose(tmp_path, "SuperbER_RAVDESS")


@pytest.mark.parametrize(
    ("instance", "extra", "expected"),
    [
        ("SpeechSentimentAnalysis_MELD", {}, ("positive", "negative", "neutral")),
        ("SpeechSentimentAnalysis_MELD", {"options": ["a", "b"]}, ("a", "b")),
        ("Unknown", {}, ("happy", "sad")),
        ("L2EnglishAccuracy_speechocean762-Scoring", {}, None),
    ],
)
def test_options_are_the_examples_the_tasks_or_the_instructions(
    instance, extra, expected
):
    instruction = "Which emotion is it? The answer could be happy or sad."
    example = Example("1", instance, instruction, ("x",), extra=extra)
    assert make_options_of(KNOWN)(example) == expected


@pytest.mark.parametrize(
    ("models", "wanted", "expected"),
    [((), "", 0), (("a",), "", 1), (("a",), "mine", 1), (("a", "b"), "b", 1)],
)
def test_the_only_model_needs_no_name(models, wanted, expected):
    rows = [Prediction("I", "1", "x", model) for model in models]
    found = choose_model(rows, wanted, pathlib.Path("f"))
    assert sum(map(len, found.values())) == expected
