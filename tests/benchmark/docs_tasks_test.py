"""The page on tasks and data says what the program does."""

import json
import pathlib
import re

from benchmark import predictions, tasks
from benchmark.errors import Problems

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "benchmark_tasks.md"
BLOCKS = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_task_of_the_page_is_read(tmp_path):
    (tmp_path / "instance.json").write_text(BLOCKS[0])
    problems = Problems()
    task = tasks.read_task(tmp_path, problems)
    assert (task.name, task.chance) == ("BirdMood_Garden", 0.5)
    assert problems.rows == []


def test_the_prediction_of_the_page_is_what_is_written(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(BLOCKS[1])
    (row,) = predictions.read_predictions(path, Problems())
    predictions.append_prediction(tmp_path / "again.jsonl", row)
    assert json.loads((tmp_path / "again.jsonl").read_text()) == json.loads(BLOCKS[1])


def test_the_numbers_of_the_page():
    text = PAGE.read_text(encoding="utf-8")
    known = tasks.load_tasks()
    blank = sum("" in task.revisions for task in known.values())
    assert f"none is known ({blank} tasks)" in text
    assert f"{len(known)} entries" in text
    assert f"{predictions.MAX_RESPONSE_CHARS:,} characters" in text
    assert all(f"`{key}`" in text for key in tasks.OWN_KEYS)
