"""A posterior over a classifier's labels becomes one over a task's options."""

import json
import sys
import types

import numpy as np
import pytest
import soundfile

from benchmark.errors import InputError
from benchmark.models import ModelSettings, NoAnswerError, make_model
from benchmark.models.classifier import (
    OptionMap,
    fold,
    map_of,
    option_scores,
    read_option_maps,
)
from benchmark.tasks import load_tasks, task_of
from benchmark.typing import Audio, Example

MAPS = read_option_maps()
RATE = 16_000


@pytest.fixture
def classify(monkeypatch):
    """Puts a classifier on the path: loud is 'ang', soft is 'Sad', silent is 'oth'."""
    module = types.ModuleType("my_classifier")
    module.calls = []

    def classify(waveform, rate):
        module.calls.append((waveform.shape, waveform.dtype, rate))
        level = float(np.abs(waveform).max())
        if level == 0:
            return {"oth": 1.0}
        return {"ang": 0.9 * level, "Sad": 0.9 * (1 - level), "oth": 0.1}

    module.classify = classify
    monkeypatch.setitem(sys.modules, "my_classifier", module)
    return module


@pytest.fixture
def example(tmp_path):
    def make(instance, *levels):
        audios = []
        for i, level in enumerate(levels):
            path = tmp_path / f"{i}.wav"
            parts = [np.full(RATE // 2, part) for part in np.atleast_1d(level)]
            soundfile.write(path, np.concatenate(parts), RATE, "FLOAT")
            audios.append(Audio(path=str(path)))
        return Example("1", instance, "Which?", ("x",), tuple(audios))

    return make


def make(options=None, **fields):
    settings = ModelSettings(lambda e: options, **fields)
    return make_model("classifier:my_classifier:classify", settings)


class TestAnswers:
    @pytest.mark.parametrize(
        ("instance", "options", "expected"),
        [
            ("SuperbER_RAVDESS", None, "angry"),
            ("HEAREmotionRecognition_CREMAD-Fold4", ("Sad", "ANGRY"), "ANGRY"),
            ("DialogueEmotionClassification_DailyTalk", None, "anger"),
            ("EmotionRecognition_MultimodalEmotionlinesDataset", None, "anger"),
            ("SpeechSentimentAnalysis_MELD", None, "negative"),
            ("EmotionClassificaitonInSongs_EMOTIFY", ("tension", "power"), "tension"),
            ("EmojiGroundedSpeechEmotionRecognition_RAVDESS", ("🤬", "😭"), "🤬"),
            ("EmotionRecognition_Demo", ("anger", "sadness"), "anger"),
        ],
    )
    def test_name_the_option_of_most_mass(
        self, classify, example, instance, options, expected
    ):
        found = make(options).answer(example(instance, 0.75))
        assert found.response == expected
        scores = dict(found.scores)
        assert sum(scores.values()) == pytest.approx(1)
        assert found.model == "classify"

    def test_give_no_mass_to_what_has_no_option(self, classify, example):
        found = make(("sad", "calm", "angry")).answer(example("SuperbER_RAVDESS", 0.75))
        expected = {"sad": 0.25, "calm": 0.0, "angry": 0.75}
        assert dict(found.scores) == pytest.approx(expected)

    def test_give_the_classifier_mono_float32_and_the_rate(self, classify, example):
        make().answer(example("SuperbER_RAVDESS", 0.75))
        assert classify.calls == [((RATE // 2,), np.float32, RATE)]

    @pytest.mark.parametrize(
        ("levels", "expected"),
        [((0.9, 0.9), 0.27), ((0.9, 0.1), 0.91 - 0.182), (((0.9, 0.1),), 0.91 - 0.182)],
    )
    def test_to_a_question_of_change_compare_two_parts(
        self, classify, example, levels, expected
    ):
        # p(same) = .81 * p.81 + .09 * .09 + .1 * .1 for two loud parts.
        same = {0.27: 0.81**2 + 0.09**2 + 0.01}.get(expected, 2 * 0.81 * 0.09 + 0.01)
        found = make(("Yes", "No")).answer(
            example("EmotionChangeDetection_Ravdess", *levels)
        )
        assert dict(found.scores)["Yes"] == pytest.approx(1 - same, abs=1e-4)
        assert found.response == ("Yes" if same < 0.5 else "No")


class TestSkips:
    @pytest.mark.parametrize(
        ("instance", "levels", "message"),
        [
            ("SpeakerCounting_X", (0.5,), "no option map for SpeakerCounting_X"),
            ("SuperbER_RAVDESS", (), "no recording"),
            ("SuperbER_RAVDESS", (0.0,), "no option any mass"),
        ],
    )
    def test_say_why(self, classify, example, instance, levels, message):
        with pytest.raises(NoAnswerError, match=message) as caught:
            make().answer(example(instance, *levels))
        assert caught.value.kind == "skipped"


@pytest.mark.parametrize("value", [float("nan"), -0.1, float("inf")])
def test_a_posterior_that_is_none_is_the_classifiers_fault(
    classify, example, monkeypatch, value
):
    monkeypatch.setattr(classify, "classify", lambda wave, rate: {"ang": value})
    with pytest.raises(InputError, match="posterior"):
        make().answer(example("SuperbER_RAVDESS", 0.5))


class TestOptionScores:
    def test_add_up_emotions_of_one_option(self):
        posterior = {"anger": 0.2, "fear": 0.3, "happiness": 0.1}
        option_map = OptionMap(dict.fromkeys(("anger", "fear"), ("tension",)))
        assert option_scores(posterior, option_map, None) == {"tension": 1.0}

    def test_take_the_first_spelling_that_is_offered(self):
        option_map = OptionMap({"neutral": ("no_emotion", "neutral")})
        assert option_scores(
            {"neutral": 1.0}, option_map, ("Neutral", "No Emotion")
        ) == {
            "Neutral": 0.0,
            "No Emotion": 1.0,
        }


class TestOptionMaps:
    def test_of_the_package_are_of_tasks_that_there_are(self):
        tasks = load_tasks()
        released = [name for name in MAPS.tasks if not name.endswith("_Demo")]
        assert len(released) == 8
        assert all(task_of(tasks, name) for name in released)

    def test_of_the_package_name_labels_of_the_tasks(self):
        tasks = load_tasks()
        for name, option_map in MAPS.tasks.items():
            labels = {fold(x) for x in tasks[name].labels} if name in tasks else None
            for spellings in option_map.options.values() if labels else ():
                assert fold(spellings[0]) in labels, (name, spellings)

    def test_know_the_folds_of_a_task(self):
        task = load_tasks()["HEAREmotionRecognition_CREMAD"]
        assert len(task.instances) == 5
        assert all(map_of(MAPS, name) for name in task.instances)
        assert map_of(MAPS, "Emotion") is None

    def test_name_emotions_that_labels_lead_to(self):
        emotions = set(MAPS.aliases.values())
        for option_map in MAPS.tasks.values():
            assert set(option_map.options) <= emotions

    def test_may_be_added_and_replaced(self, tmp_path, classify, example):
        path = tmp_path / "maps.json"
        tasks = {"Mine": {"options": {"rage": ["furious"]}}}
        record = {"aliases": {"rage": ["ang"]}, "tasks": tasks}
        path.write_text(json.dumps(record))
        found = make(option_maps=path).answer(example("Mine", 0.75))
        assert found.response == "furious"
        assert "SuperbER_RAVDESS" in read_option_maps(path).tasks

    @pytest.mark.parametrize(
        "text",
        ["", "[]", '{"tasks": []}', '{"tasks": {"A": {"options": {"x": "y"}}}}'],
    )
    def test_of_another_form_are_refused(self, tmp_path, text):
        path = tmp_path / "maps.json"
        path.write_text(text)
        with pytest.raises(InputError, match="no option map"):
            read_option_maps(path)
