"""Result files as the released scripts leave them score directly, to the same numbers.

The files in tests/golden/released are invented, in the released form: one record for a
recording, with `sllm_name` and `sllm_response` added. What the released scoring gives
on them is computed here in a few plain lines.
"""

import json
import pathlib

import jiwer
import pytest

from benchmark import __main__ as command

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "released" / "invented_model"


def records(task):
    return json.loads((GOLDEN / f"{task}.json").read_text(encoding="utf-8")).values()


def pairs(task):
    return [(r["label"], r["sllm_response"]) for r in records(task)]


def exact_match(task):
    return sum(label == said for label, said in pairs(task)) / len(pairs(task))


def word_errors(task):
    labels, said = zip(*pairs(task), strict=True)
    return jiwer.wer(list(labels), list(said))


def character_errors(task):
    labels, said = zip(*pairs(task), strict=True)
    return jiwer.cer(list(labels), list(said))


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Scores of the golden files in the parity profile, by task."""
    place = tmp_path_factory.mktemp("released")
    for path in GOLDEN.glob("*.json"):
        rows = json.loads(path.read_text(encoding="utf-8"))
        bare = {
            name: {k: v for k, v in row.items() if not k.startswith("sllm_")}
            for name, row in rows.items()
        }
        folder = place / "data" / path.stem
        folder.mkdir(parents=True)
        (folder / "metadata.json").write_text(json.dumps(bare), encoding="utf-8")
    words = ["score", GOLDEN, "--data", place / "data", "--out", place / "out"]
    assert command.main([*map(str, words), "--profile", "parity"]) == 0
    found = json.loads((place / "out" / "scores.json").read_text(encoding="utf-8"))
    assert found["model"] == "invented_model"
    return {score["task"]: score for score in found["task_scores"]}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("DialogueEmotionClassification_DailyTalk", exact_match),
        ("SuperbASR_LibriSpeech-TestClean", word_errors),
        ("SuperbOODAsrZh_CommonVoice7-Test", character_errors),
    ],
)
def test_the_released_numbers_are_reproduced(scored, task, expected):
    assert scored[task]["value"] == pytest.approx(expected(task), abs=1e-9)
    assert scored[task]["num_examples"] == len(pairs(task))
