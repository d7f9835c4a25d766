"""The commands on tasks and their data, through their parsers."""

import argparse
import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from benchmark import cli_tasks
from benchmark.errors import InputError, MachineError, Problems
from benchmark.instances import read_instance
from benchmark.tasks import load_tasks

NAME = "SpoofDetection_ASVspoof2015"
COMMIT = load_tasks()[NAME].revisions[0]


@pytest.fixture
def run(capsys):
    def call(*words):
        parser = argparse.ArgumentParser()
        cli_tasks.add_parsers(parser.add_subparsers(required=True))
        args = parser.parse_args([str(word) for word in words])
        code = args.run(args)
        return code, capsys.readouterr().out

    return call


def encoded():
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(1_600) / 8) / 4, 16_000, format="FLAC")
    return file.getvalue()


def dataset(folder, count=12, label="spoofed"):
    rows = [
        {
            "file": f"clips/{n}",
            "instruction": f"Is it real? ({n})",
            "label": label,
            "audio": {"bytes": encoded(), "path": None},
        }
        for n in range(count)
    ]
    path = folder / "data" / "test-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return folder


def test_all_tasks_are_listed_in_a_hundred_columns(run):
    code, out = run("list")
    assert code == 0
    assert out.endswith("181 of 181 tasks, 231 instances\n")
    assert max(map(len, out.splitlines())) <= 100
    words = out.split()
    assert all(name in words for name in load_tasks())


@pytest.mark.parametrize(
    ("flags", "tail"),
    [
        (["--type", "regression"], "11 of 181 tasks, 15 instances"),
        (["--domain", "safety"], "10 of 181 tasks, 10 instances"),
        (["--metric", "sacre_bleu"], "2 of 181 tasks, 2 instances"),
        (["--domain", "safety", "--type", "regr"], "0 of 181 tasks, 0 instances"),
    ],
)
def test_tasks_are_chosen(run, flags, tail):
    assert run("list", *flags)[1].strip().endswith(tail)


@pytest.mark.parametrize("name", [*load_tasks()][::9])
def test_a_task_is_shown_in_a_hundred_columns(run, name):
    code, out = run("show", name)
    assert code == 0
    task = load_tasks()[name]
    assert all(
        text in out for text in (name, task.metric, *task.instances, *task.hf_datasets)
    )
    assert max(map(len, out.splitlines())) <= 100 + len("HEARSpeakerCount")


def test_what_is_shown_of_a_regression(run):
    _, out = run("show", "SingingAutomaticMOSPrediction_SingMOS")
    assert "range         1 to 5" in out
    assert "our reading   metric, unit, value_range" in out
    _, out = run("show", "HEARSpeakerCountIdentification_LibriCount-Fold3")
    assert "notes         2 instances share the revision" in out


def test_a_task_of_ones_own(run, tmp_path):
    about = {"name": "Own_Task", "metrics": ["llm_classification"], "version": COMMIT}
    about |= {
        "labels": ["a", "b"],
        "description": "x",
        "keywords": [],
        "path": "me/own",
    }
    (tmp_path / "instance.json").write_text(json.dumps(about))
    assert "182 of 182" in run("list", "--task_dir", tmp_path)[1]
    assert "your own" in run("list", "--task-dir", tmp_path)[1]
    _, out = run("show", "Own_Task", "--task_dir", tmp_path)
    assert "labels        a, b" in out
    with pytest.raises(InputError, match="not among the 181"):
        run("show", "Own_Task")


def test_data_are_prepared_and_pass_the_validator(run, tmp_path):
    source = dataset(tmp_path / "source")
    out = tmp_path / "out" / NAME
    code, text = run("prepare", source, "--out", out, "--task", NAME)
    assert code == 0
    assert f"{NAME}: 12 examples written" in text
    about = json.loads((out / "instance.json").read_text())
    assert about["name"] == NAME
    assert about["version"] == "", "a folder does not tell its commit"
    assert (out / "clips_0.wav").is_file()
    task = load_tasks([out])[NAME]
    examples = list(read_instance(out, task, NAME, Problems()))
    assert [e.id for e in examples] == [f"clips/{n}" for n in range(12)]

    code, text = run("validate", out)
    assert code == 0
    assert "12 examples, 12 recordings, 0.0 minutes, 12 different" in text
    assert "other_revision" in text
    assert run("validate", out, "--strict")[0] == 2
    about["version"] = COMMIT
    (out / "instance.json").write_text(json.dumps(about))
    assert run("validate", out, "--strict")[0] == 0
    assert run("validate", out.parent, "--task", NAME, "--quick")[0] == 0


def test_faults_are_shown_counted_and_written(run, tmp_path):
    source = dataset(tmp_path / NAME, label="\x1b[31mred" + "x" * 300)
    code, out = run("validate", source, "--problems", tmp_path / "p.jsonl")
    assert code == 0, "the labels of this task are inferred"
    assert "12  warning   other_label" in out
    assert "\x1b" not in out
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 12
    pq.write_table(pa.table({"file": ["a"]}), source / "data" / "test-1.parquet")
    code, out = run("validate", source)
    assert code == 2
    assert "1  error     missing_instruction" in out
    with pytest.raises(MachineError, match="cannot be written"):
        run("validate", source, "--problems", source / "data" / "test-1.parquet" / "x")


def test_nothing_to_prepare_is_a_fault(run, tmp_path):
    source = dataset(tmp_path / NAME, count=1)
    pq.write_table(
        pa.table({"file": ["a"]}), source / "data/test-00000-of-00001.parquet"
    )
    code, out = run("prepare", source, "--out", tmp_path / "out")
    assert code == 2
    assert "missing_instruction" in out


def test_which_task_a_folder_holds(run, tmp_path):
    source = dataset(tmp_path / "unnamed")
    with pytest.raises(InputError, match="which task is it"):
        run("validate", source)
    with pytest.raises(InputError, match="has 5 instances: choose one"):
        run("validate", source, "--task", "HEAREmotionRecognition_CREMAD")
    with pytest.raises(InputError, match=r"--instance 'x': .* has"):
        run("validate", source, "--task", NAME, "--instance", "x")
    fold = "HEAREmotionRecognition_CREMAD-Fold2"
    assert fold in run("validate", source, "--instance", fold)[1]
    with pytest.raises(InputError, match="no such folder"):
        run("validate", f"DynamicSuperb/{NAME}")
    for more in ((), ("--task", NAME)):
        with pytest.raises(InputError, match="absent: no such folder"):
            run("validate", tmp_path / "absent", *more)
    out = ("--out", tmp_path / "out")
    with pytest.raises(InputError, match="no dataset such as"):
        run("prepare", tmp_path / "absent", "--task", NAME, *out)


def test_the_folder_of_a_task_of_ones_own_needs_no_flags(run, tmp_path):
    about = {"name": "Own_Task", "metrics": ["accuracy"], "labels": ["spoofed", "x"]}
    source = dataset(tmp_path / "folder")
    (source / "instance.json").write_text(json.dumps(about))
    code, out = run("validate", source)
    assert code == 0
    assert "Own_Task" in out


# The hub, without a network


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Records what is asked of the hub, and answers with a folder or a fault."""
    import huggingface_hub

    asked = []

    def answer_with(answer):
        def snapshot_download(name, **options):
            asked.append((name, options["revision"]))
            assert options["repo_type"] == "dataset"
            if isinstance(answer, Exception):
                raise answer
            return os.fspath(answer)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return asked

    return answer_with


@pytest.mark.parametrize(
    ("words", "name", "revision"),
    [
        ([NAME], f"DynamicSuperb/{NAME}", COMMIT),
        ([f"DynamicSuperb/{NAME}"], f"DynamicSuperb/{NAME}", COMMIT),
        ([NAME, "--revision", "main"], f"DynamicSuperb/{NAME}", "main"),
        (["me/copy", "--task", NAME], "me/copy", None),
    ],
)
def test_a_dataset_is_fetched_at_its_commit(run, hub, tmp_path, words, name, revision):
    asked = hub(dataset(tmp_path / "cache"))
    code, _ = run("prepare", *words, "--out", tmp_path / "out")
    assert code == 0
    assert asked == [(name, revision)]
    about = json.loads((tmp_path / "out" / "instance.json").read_text())
    assert about["version"] == (revision or "")


def test_faults_of_the_hub(run, hub, tmp_path):
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    class HTTPError(Exception):
        """What the hub's HTTP client raises."""

    words = "prepare", NAME, "--out", tmp_path / "out"
    for fault in (LocalEntryNotFoundError("x"), HTTPError("x"), OSError("x")):
        hub(fault)
        with pytest.raises(
            MachineError, match=r"cannot be fetched .*parquet files here"
        ):
            run(*words)
    hub(KeyError("a fault of the program"))
    with pytest.raises(KeyError):
        run(*words)
    hub(HFValidationError("x"))
    with pytest.raises(InputError, match="not there, or not open to you"):
        run(*words)
    hub(tmp_path)
    with pytest.raises(InputError, match="holds no parquet files"):
        run(*words)


def test_offline_is_one_clear_error(run, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", os.fspath(tmp_path))
    with pytest.raises(MachineError, match="cannot be fetched"):
        run("prepare", NAME, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
