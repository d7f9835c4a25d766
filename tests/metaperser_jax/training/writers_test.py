"""Training curves: appended, resumed without doubles, readable after a kill."""

import csv
import json

import numpy as np
import pytest

from metaperser_jax.training.writers import Writer, read_curves, write_csv


def rows_of(folder):
    return read_curves(folder / "curves.jsonl")


def write_steps(folder, steps, drop_after=None, scale=1.0):
    with Writer(folder, tensorboard=False) as writer:
        if drop_after is not None:
            writer.drop_after(drop_after)
        for step in steps:
            writer.write(step, {"loss": scale * step})


def test_what_is_written_is_read(tmp_path):
    with Writer(tmp_path / "new" / "folder", tensorboard=False) as writer:
        writer.write(0, {"dev_loss": 2.5})
        writer.write(3, {"train_loss": float(np.float32(0.25)), "dev_loss": 2.0})
    assert rows_of(tmp_path / "new" / "folder") == [
        {"step": 0, "dev_loss": 2.5},
        {"step": 3, "train_loss": 0.25, "dev_loss": 2.0},
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_becomes_null(tmp_path, value):
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.write(1, {"loss": value})
    text = (tmp_path / "curves.jsonl").read_text()
    assert text == '{"step": 1, "loss": null}\n'
    assert rows_of(tmp_path) == [{"step": 1, "loss": None}]


def test_each_row_is_on_disk_at_once(tmp_path):
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.write(1, {"loss": 1.0})
        assert rows_of(tmp_path) == [{"step": 1, "loss": 1.0}]


@pytest.mark.parametrize(
    ("step", "kept"),
    [(-1, []), (0, [0]), (4, [0, 2, 4]), (5, [0, 2, 4]), (9, [0, 2, 4, 6])],
)
def test_a_resumed_run_forgets_what_it_writes_anew(tmp_path, step, kept):
    write_steps(tmp_path, [0, 2, 4, 6])
    write_steps(tmp_path, [], drop_after=step)
    assert [row["step"] for row in rows_of(tmp_path)] == kept


def test_a_stopped_and_resumed_run_leaves_the_same_file(tmp_path):
    write_steps(tmp_path / "whole", range(0, 10, 2), drop_after=-1)
    write_steps(tmp_path / "stopped", [0, 2, 4, 6], drop_after=-1)
    write_steps(tmp_path / "stopped", [6, 8], drop_after=4)
    for name in ("curves.jsonl", "curves.csv"):
        whole, stopped = (tmp_path / part / name for part in ("whole", "stopped"))
        assert whole.read_bytes() == stopped.read_bytes()


@pytest.mark.parametrize("cut", [1, 5, 12, 19])
def test_a_half_written_last_line_is_left_out_and_written_anew(tmp_path, cut):
    write_steps(tmp_path, [0, 1, 2])
    path = tmp_path / "curves.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [row["step"] for row in read_curves(path)][:2] == [0, 1]
    write_steps(tmp_path, [2], drop_after=1)
    assert path.read_bytes() == whole


def test_a_kill_in_the_middle_of_a_letter(tmp_path):
    path = tmp_path / "curves.jsonl"
    path.write_bytes(b'{"step": 0}\n{"step": 1, "l\xc3')
    assert read_curves(path) == [{"step": 0}]


def test_no_file_has_no_rows(tmp_path):
    assert read_curves(tmp_path / "curves.jsonl") == []


def test_csv_has_a_column_for_each_scalar(tmp_path):
    write_csv([{"step": 0, "a": 1.5}, {"step": 1, "b": None}], tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"step": "0", "a": "1.5", "b": ""},
            {"step": "1", "a": "", "b": ""},
        ]


def test_csv_is_written_also_when_the_run_is_stopped(tmp_path):
    def stopped():
        with Writer(tmp_path, tensorboard=False) as writer:
            writer.write(0, {"loss": 1.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "curves.csv").read_text().splitlines() == ["step,loss", "0,1.0"]


def test_tensorboard_events_are_written_on_request(tmp_path):
    with Writer(tmp_path / "on", tensorboard=True) as writer:
        writer.write(0, {"loss": 1.0, "bad": float("nan")})
    write_steps(tmp_path / "off", [0])
    (events,) = (tmp_path / "on" / "tensorboard").glob("events*")
    assert b"loss" in events.read_bytes()
    assert not (tmp_path / "off" / "tensorboard").exists()


def test_rows_are_json_a_line(tmp_path):
    write_steps(tmp_path, [0, 1])
    lines = (tmp_path / "curves.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1]
