"""The generator of the registry: what it adds, what it mends, what it leaves out."""

import json

import pytest

from benchmark import make_tasks
from benchmark.typing import Task

ROW = {
    "name": "A_B",
    "phase": "1",
    "domain": "Speech",
    "subdomain": "Paralinguistics",
    "type": "classification",
    "metric": "llm_classification",
    "metric_note": None,
    "folds": 1,
    "hf_dataset": "X/A_B",
    "hf_revision": "a" * 40,
    "hf_revision_year": 2024,
    "labels": None,
    "n_instances": None,
    "replaces": None,
    "inferred": [],
}


def record(**changes):
    return make_tasks.records([{**ROW, **changes}])[0]


def test_defaults_are_left_out():
    made = record()
    assert made == {
        "name": "A_B",
        "type": "classification",
        "metric": "llm_classification",
        "domain": "Speech",
        "subdomain": "Paralinguistics",
        "phase": "1",
        "instances": ("A_B",),
        "hf_datasets": ("X/A_B",),
        "revisions": ("a" * 40,),
        "version": "1",
    }
    assert Task(**made).chance is None


def test_labels_give_a_chance_level_and_spellings():
    made = record(labels=["happy", "joy", "sad"])
    assert made["chance"] == pytest.approx(1 / 3)
    spellings = dict(made["synonyms"])
    assert spellings == {"sad": ("sadness", "sorrow")}, "happy and joy claim the same"
    assert made["reconstructed"] == ("chance", "synonyms")


def test_folds_and_revisions_that_are_none():
    made = record(
        hf_dataset=["X/A-1", "X/A-2", "X/A-3", "X/A-4"],
        hf_revision={"A-1": "b" * 40, "A-2": "b" * 40, "A-3": "abc", "A-4": None},
        hf_revision_year=2023,
    )
    assert made["instances"] == ("A-1", "A-2", "A-3", "A-4")
    assert made["revisions"] == ("b" * 40, "b" * 40, "", "")
    first, second, third = made["notes"]
    assert first == "revision of A-3 is no commit: abc"
    assert second.startswith("2 instances share the revision bbb")
    assert third.startswith("revision recorded in 2023")


def test_the_file_is_written_one_record_a_line(tmp_path):
    inventory, out = tmp_path / "inventory.json", tmp_path / "tasks.json"
    inventory.write_text(json.dumps([ROW, {**ROW, "name": "C"}]))
    make_tasks.main([str(inventory), "--out", str(out)])
    text = out.read_text()
    assert len(text.splitlines()) == 4
    assert [row["name"] for row in json.loads(text)["tasks"]] == ["A_B", "C"]
