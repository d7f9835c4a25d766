"""The demonstration on real recordings, through the real door."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from benchmark.results import read_results

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "demo", "--data", data / "emodb",
         "--out", out],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def scores_of(out, model):
    found = read_results(out / "results" / model).task_scores
    return {score.task.removesuffix("_Demo"): score for score in found}


def test_the_report_is_written_and_its_place_told(finished):
    out, printed = finished
    (page,) = re.findall(r"^report: (.+)$", printed, re.MULTILINE)
    assert pathlib.Path(page) == (out / "report.html").resolve()
    text = pathlib.Path(page).read_text(encoding="utf-8")
    assert text.count("data:audio/wav;base64,") > 20


def test_the_classifier_hears_what_chance_does_not(finished):
    out, _ = finished
    own, chance = scores_of(out, "classifier"), scores_of(out, "chance")
    for task in ("EmotionRecognition", "GenderRecognition", "NoiseDetection",
                 "NoiseSNRLevelPrediction", "ReverberationDetection"):  # fmt: skip
        assert own[task].low > chance[task].high, task
    assert own["EmotionRecognition"].value > 0.4  # seven emotions, unheard speakers


def test_what_is_measured_is_right(finished):
    own = scores_of(finished[0], "classifier")
    assert own["DialledNumberRecognition"].value < 0.15
    assert own["RepeatedSegmentCounting"].value > 0.95
    assert own["AudioDurationPrediction"].value < 0.1


def test_most_of_the_chatty_answers_are_read(finished):
    chatty = scores_of(finished[0], "chatty")
    closed = [s for s in chatty.values() if s.metric == "accuracy"]
    read = sum(s.num_examples - s.num_unreadable for s in closed)
    assert read > 0.7 * sum(s.num_examples for s in closed)
