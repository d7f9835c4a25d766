"""Through the real door: `python run.py`, its files, its faults, and being stopped.

The protocol at toy size is run once and shared; what is compiled is kept on disk, so
that later runs take a few seconds.
"""

import csv
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.metaperser_jax import meshed

ROOT = pathlib.Path(__file__).parents[1]
SMOKE = "--config=configs/smoke.py"
RECORD_KEYS = {
    "corpus", "scenario", "num_support", "method", "metric",
    "mean", "sd", "low", "high", "num_listeners", "num_draws",
}  # fmt: skip
METHODS = {
    "full", "minus_lslr", "no_adaptation", "base_rate",
    "fine_tune", "oracle", "wrong_listener", "ground_truth",
}  # fmt: skip
PATIENCE = 300  # seconds, for a machine that has other things to do

# Runs the door with the arguments it gets and tells which foreign frameworks it loaded.
WITH_MODULES = """
import runpy, sys
try:
    runpy.run_path("run.py", run_name="__main__")
finally:
    roots = {name.partition(".")[0] for name in sys.modules}
    print("loaded:", *sorted(roots & {"tensorflow", "torch", "torchaudio", "keras"}))
"""

# Runs the door once for each list of arguments on stdin, in a fork each, so that the
# imports are paid once; tells code, output, and whether JAX had to look for a device.
MANY_FAULTS = """
import json, os, runpy, sys, tempfile
import metaperser_jax.application
from jax._src import xla_bridge

def visit(arguments, out, err):
    os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
    sys.argv, code = ["run.py", *arguments], 0
    try:
        runpy.run_path("run.py", run_name="__main__")
    except SystemExit as stop:
        code = stop.code
    print("devices:", len(xla_bridge._backends))
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)

for arguments in json.load(sys.stdin):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork() or visit(arguments, out, err)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [(f.seek(0), f.read().decode())[1] for f in (out, err)]
        print(json.dumps([code, *texts]), flush=True)
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder for the whole session, shared by parallel workers of the tests."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "door"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def environment(place):
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture(scope="session")
def door(environment):
    """Runs `python run.py` with the smoke config and returns the finished process."""

    def run(*arguments, config=SMOKE, program=("run.py",)):
        return subprocess.run(
            [sys.executable, *program, config, *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


@pytest.fixture(scope="session")
def finished(place, door):
    """The workdir of a finished run, with its console."""
    workdir = place / "runs" / "finished"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "stderr").exists():
            process = door(f"--workdir={workdir}")
            assert process.returncode == 0, process.stderr
            (workdir / "stdout").write_text(process.stdout)
            (workdir / "stderr").write_text(process.stderr)
    return workdir


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


class TestConsole:
    def test_the_tables_fit_into_100_columns(self, finished):
        lines = (finished / "stdout").read_text().splitlines()
        assert max(map(len, lines)) <= 100
        text = "\n".join(lines)
        assert "Meta-PerSER (full)" in text
        assert "Seen utterances, K = 8" in text
        assert "Unseen utterances, K = 8" in text

    def test_the_last_lines_name_report_and_results(self, finished):
        *_, report, results = (finished / "stdout").read_text().splitlines()
        assert report == f"report: {finished / 'report' / 'report.html'}"
        assert results == f"results: {finished / 'results.json'}"

    def test_the_first_line_names_the_device(self, finished):
        first = (finished / "stderr").read_text().splitlines()[0]
        assert first.startswith("jax ")
        assert first.endswith(" on 1 x cpu (cpu)")

    def test_a_pipe_sees_neither_progress_bars_nor_the_libraries_notices(
        self, finished
    ):
        text = (finished / "stderr").read_text()
        assert "\r" not in text
        assert "%|" not in text
        assert "Warning" not in text
        starts = ("jax ", "features:", "corpus ", "fold 00 ", "done in ")
        assert [line for line in text.splitlines() if not line.startswith(starts)] == []
        assert len(text.splitlines()) < 12


class TestFiles:
    def test_a_record_for_each_method_metric_size_and_scenario(self, finished):
        records = load(finished / "results.json")
        assert all(set(record) == RECORD_KEYS for record in records)
        places = {
            (r["scenario"], r["num_support"], r["method"], r["metric"]) for r in records
        }
        assert len(places) == len(records) == 2 * 2 * len(METHODS) * 8
        assert {record["method"] for record in records} == METHODS
        for record in records:
            assert record["low"] <= record["mean"] <= record["high"]
            assert (record["num_listeners"], record["num_draws"]) == (2, 2)

    def test_the_numbers_make_sense(self, finished):
        mean = {
            (r["scenario"], r["num_support"], r["method"], r["metric"]): r["mean"]
            for r in load(finished / "results.json")
        }
        for scenario in ("seen", "unseen"):
            for size in (4, 8):
                nll = {m: mean[scenario, size, m, "nll"] for m in METHODS}
                assert min(nll, key=nll.__getitem__) == "ground_truth"
            for metric in ("nll", "macro_f1"):
                four, eight = (
                    mean[scenario, k, "no_adaptation", metric] for k in (4, 8)
                )
                assert four == eight  # the same query sets for every K

    def test_the_table_shows_the_records(self, finished):
        text = (finished / "stdout").read_text()
        (record,) = (
            r
            for r in load(finished / "results.json")
            if (r["scenario"], r["num_support"]) == ("unseen", 8)
            and (r["method"], r["metric"]) == ("ground_truth", "nll")
        )
        unseen = text.split("Unseen utterances")[1]
        row = next(line for line in unseen.splitlines() if "Simulator" in line)
        assert f"{record['mean']:.3f}" in row

    def test_the_csv_holds_the_same(self, finished):
        with (finished / "results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        records = load(finished / "results.json")
        assert len(rows) == len(records)
        assert set(rows[0]) >= RECORD_KEYS - {"corpus"}

    def test_run_json_says_how_to_repeat_it(self, finished):
        run = load(finished / "run.json")
        assert run["config"]["meta.num_steps"] == 2
        assert run["config"]["evaluation.num_support"] == [4, 8]
        assert run["seeds"] == {"seed": 0}
        assert {"jax", "numpy", "python", "device"} <= set(run["versions"])
        assert set(run["hashes"]) == {"corpus", "inputs"}
        assert all(len(digest) == 64 for digest in run["hashes"].values())
        assert run["command"].startswith("python run.py --config=configs/smoke.py")

    def test_the_report_is_there_with_its_pictures(self, finished):
        page = (finished / "report" / "report.html").read_text(encoding="utf-8")
        assert "Meta-PerSER" in page
        assert list((finished / "report").glob("*.png"))

    def test_curves_problems_and_models_are_there(self, finished):
        for stage in ("pretrain", "full", "minus_lslr"):
            folder = finished / "fold_00" / stage
            assert (folder / "meta_params.safetensors").exists()
            assert (folder / "curves.csv").read_text().startswith("step,")
        assert (finished / "problems.jsonl").read_text() == ""

    def test_nothing_temporary_is_left(self, finished):
        names = [path.name for path in finished.rglob("*") if path.is_file()]
        assert not [name for name in names if name.startswith("predictions_")]
        assert not [name for name in names if name.endswith((".tmp", ".unreadable"))]


@pytest.fixture(scope="module")
def split(place, door, finished):
    """Features, training and evaluation in three processes."""
    workdir = place / "runs" / f"split_{os.getpid()}"
    watched = ("-c", WITH_MODULES)
    return workdir, {
        mode: door(f"--mode={mode}", f"--workdir={workdir}", program=watched)
        for mode in ("features", "train", "evaluate")
    }


class TestModes:
    def test_train_then_evaluate_equals_all(self, split, finished):
        workdir, processes = split
        assert [process.returncode for process in processes.values()] == [0, 0, 0]
        whole, parts = (folder / "results.json" for folder in (finished, workdir))
        assert whole.read_bytes() == parts.read_bytes()

    def test_features_are_computed_once(self, split, finished):
        _, processes = split
        first = (finished / "stderr").read_text()
        assert "features: 48 clips, 0 from the cache" in first
        assert "features: 48 clips, 48 from the cache" in processes["train"].stderr

    def test_features_alone_trains_nothing(self, split):
        _, processes = split
        assert "corpus synthetic" in processes["features"].stderr
        assert "pretrain" not in processes["features"].stderr

    def test_each_prints_what_is_its_own(self, split):
        _, processes = split
        assert "utterances" not in processes["train"].stdout
        assert "fold 00 full: 9 steps" in processes["train"].stderr
        assert "Seen utterances" in processes["evaluate"].stdout
        assert "fold 00" not in processes["evaluate"].stderr

    def test_neither_tensorflow_nor_pytorch_is_loaded(self, split):
        _, processes = split
        for process in processes.values():
            assert process.stdout.rstrip().splitlines()[-1] == "loaded:"

    def test_check_prints_one_page(self, place, door, finished):
        process = door("--mode=check", f"--workdir={place / 'runs' / 'checked'}")
        assert process.returncode == 0
        head, _, listeners = process.stdout.partition("\n\nlisteners\n")
        lines = head.partition("\n\nwhat was read\n")[0].splitlines()
        assert {line.split()[0] for line in lines} <= {"ok", "warning"}
        assert len(lines) <= 25
        assert "\nverdict: listeners differ" in listeners
        (page,) = re.findall("^page: (.+)$", listeners, re.MULTILINE)
        assert page == str(place / "runs" / "checked" / "check" / "check.html")
        assert "Verdict: listeners differ" in pathlib.Path(page).read_text()
        assert any("48 clips, 10 listeners, 400 ratings" in line for line in lines)
        assert any("methods to train: full, minus_lslr" in line for line in lines)

    def test_evaluating_what_is_not_trained(self, place, door, finished):
        workdir = place / "runs" / "untrained"
        process = door("--mode=evaluate", f"--workdir={workdir}")
        assert process.returncode == 2
        error = process.stderr.strip().splitlines()[-1]
        assert error.startswith("error: ")
        assert "Train first (--mode=train)" in error


def stop_when(pattern, place, environment, workdir, number, *arguments):
    """Starts the run and sends a signal once a file is there; returns its code."""
    command = [sys.executable, "run.py", SMOKE, f"--workdir={workdir}", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not list(place.glob(pattern)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


class TestBeingStopped:
    def test_stopped_at_every_stage_and_resumed_it_gives_the_same(
        self, place, environment, door, finished
    ):
        here = place / f"stopped_{os.getpid()}"
        workdir = here / "run"
        fold = "run/fold_00"
        for pattern, number, code in [
            ("cache/features/*", signal.SIGKILL, -signal.SIGKILL),
            (f"{fold}/pretrain/curves.jsonl", signal.SIGTERM, 128 + signal.SIGTERM),
            (f"{fold}/full/checkpoints/3", signal.SIGKILL, -signal.SIGKILL),
            (f"{fold}/tuned.json", signal.SIGINT, 128 + signal.SIGINT),
        ]:
            found, errors = stop_when(pattern, here, environment, workdir, number)
            assert found == code, (pattern, errors)
            assert not (workdir / "results.json").exists()
            if code > 0:
                said = errors.splitlines()[-1]
                assert (
                    said
                    == f"stopped; the same command goes on where it was ({workdir})"
                )
                assert "Traceback" not in errors
        process = door(f"--workdir={workdir}")
        assert process.returncode == 0, process.stderr
        assert "fold 00 full: 0 steps" in process.stderr  # it was complete
        results = [folder / "results.json" for folder in (finished, workdir)]
        assert results[0].read_bytes() == results[1].read_bytes()


SWEEP = (
    "--mode=sweep",
    "--config.sweep.seeds=(0, 1)",
    "--config.evaluation.methods=('full', 'no_adaptation', 'base_rate')",
)


@pytest.fixture(scope="module")
def swept(place, door):
    """The workdir of an undisturbed sweep, with its tables."""
    workdir = place / f"swept_{os.getpid()}" / "run"
    assert door(*SWEEP, f"--workdir={workdir}").returncode == 0
    process = door("--mode=tables", *SWEEP[1:], f"--workdir={workdir}")
    assert process.returncode == 0, process.stderr
    (workdir / "console.txt").write_text(process.stdout)
    return workdir


class TestTwoProcesses:
    """Joined over loopback, two devices each; one is killed, other numbers go on."""

    METHODS = frozenset({"full", "no_adaptation", "wrong_listener"})
    LEARNED = pathlib.PurePath("fold_00", "full", "meta_params.safetensors")
    ONLY = f"--config.evaluation.methods={tuple(sorted(METHODS))}"

    @pytest.fixture
    def begin(self, environment):
        running = []

        def start(*arguments):
            """Starts both and returns them."""
            port = free_port()
            # compiled like what it is compared with
            flags = " ".join([os.environ.get("XLA_FLAGS", ""), *meshed.devices(2)])
            for number in range(2):
                joined = {
                    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                    "JAX_NUM_PROCESSES": "2",
                    "JAX_PROCESS_ID": str(number),
                }
                running.append(
                    subprocess.Popen(
                        [sys.executable, "run.py", SMOKE, self.ONLY, *arguments],
                        cwd=ROOT,
                        env={**environment, "XLA_FLAGS": flags, **joined},
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
            return running[-2:]

        yield start
        for process in running:
            process.kill()
            process.communicate()

    def test_together_they_give_what_one_gives(self, begin, finished, tmp_path):
        workdir = tmp_path / "runs" / "two"
        both = begin(f"--workdir={workdir}")
        outputs = [process.communicate(timeout=PATIENCE) for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
        assert "report: " in outputs[0][0]
        assert "report: " not in outputs[1][0]
        self.compare(workdir, finished)
        made = files_of(finished / "fold_00") - files_of(workdir / "fold_00")
        assert {name.partition("/")[0] for name in made} == {"minus_lslr"}

    def test_one_is_killed_and_one_alone_goes_on(self, begin, door, finished, tmp_path):
        workdir = tmp_path / "runs" / "two"
        first, second = begin(f"--workdir={workdir}", "--multihost_timeout=30")
        begun = workdir / "fold_00" / "full" / "checkpoints" / "0" / "digests.json"
        wait_for(begun, first)
        second.kill()
        told = first.communicate(timeout=PATIENCE)[1]
        assert first.returncode == 3, told
        assert "process of this run has ended" in told
        assert not (workdir / self.LEARNED).exists()
        process = door(self.ONLY, f"--workdir={workdir}", "--mode=train")  # one device
        assert process.returncode == 0, process.stderr
        found, wanted = (load_file(f / self.LEARNED) for f in (workdir, finished))
        assert found.keys() == wanted.keys()
        for name, leaf in wanted.items():
            np.testing.assert_allclose(found[name], leaf, 1e-4, 1e-6, err_msg=name)

    def compare(self, workdir, finished):
        """The records are the same, numbers to 1e-5."""
        found, wanted = (load(f / "results.json") for f in (workdir, finished))
        wanted = [row for row in wanted if row["method"] in self.METHODS]
        assert {row["method"] for row in found} == self.METHODS
        for one, other in zip(found, wanted, strict=True):
            for key, value in other.items():
                if isinstance(value, float):
                    value = pytest.approx(value, rel=1e-5, abs=1e-6)
                assert one[key] == value


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_for(path, process):
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def files_of(folder):
    """Names of the files, but for those that libraries choose."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix() for path in paths}
    return {n for n in named if "tensorboard" not in n and "checkpoints" not in n}


class TestSweep:
    """Two seeds, one fold, three methods: six cells."""

    def test_the_tables_are_there_in_every_form(self, swept):
        names = {path.name for path in (swept / "tables").iterdir()}
        for table in ("main", "ablation", "k_curve", "per_listener", "per_encoder"):
            assert {f"{table}.{kind}" for kind in ("txt", "csv", "tex")} <= names
        assert "tables.html" in names
        console = (swept / "console.txt").read_text()
        assert "2 listeners, 2 draws, 2 seeds, 1 fold" in " ".join(console.split())
        assert max(map(len, console.splitlines()[:-3])) <= 100

    def test_killed_at_any_stage_it_loses_one_cell_at_most(
        self, place, environment, door, swept
    ):
        here = place / f"killed_{os.getpid()}"
        workdir = here / "run"
        fold = "run/sweep/logmel/seed_{}/fold_00"
        done = 0
        for pattern, number in [
            (f"{fold.format(0)}/full/checkpoints/3", signal.SIGKILL),
            ("run/cells.jsonl", signal.SIGTERM),
            (f"{fold.format(1)}/pretrain/curves.jsonl", signal.SIGKILL),
            (f"{fold.format(1)}/predictions_full_*", signal.SIGKILL),
        ]:
            stop_when(pattern, here, environment, workdir, number, *SWEEP)
            path = workdir / "cells.jsonl"
            lines = path.read_text().splitlines() if path.exists() else []
            assert len(lines) >= done
            done = len(lines)
        begun = door(*SWEEP, f"--workdir={workdir}")
        assert begun.returncode == 0, begun.stderr
        assert f"{6 - done} cells computed" in begun.stderr
        assert len((workdir / "cells.jsonl").read_text().splitlines()) == 6
        made = door("--mode=tables", *SWEEP[1:], f"--workdir={workdir}")
        assert made.returncode == 0, made.stderr
        for table in ("main", "ablation", "k_curve", "per_listener"):
            found, expected = (
                (folder / "tables" / f"{table}.csv").read_bytes()
                for folder in (workdir, swept)
            )
            assert found == expected

    def test_tables_without_a_sweep(self, door, tmp_path):
        process = door("--mode=tables", *SWEEP[1:], f"--workdir={tmp_path}")
        assert process.returncode == 2
        assert "run --mode=sweep with these first" in process.stderr

    def test_a_dry_run_says_what_is_left(self, door, swept):
        process = door(*SWEEP, f"--workdir={swept}", "--dry_run")
        assert process.returncode == 0, process.stderr
        assert "cells       6, 6 done" in process.stdout


class TestWorkdir:
    def test_a_second_process_is_told_who_works_there(self, door, tmp_path):
        with (tmp_path / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("12345")
            file.flush()
            process = door(f"--workdir={tmp_path}")
        assert process.returncode == 3
        (error,) = process.stderr.splitlines()
        assert error.startswith(f"error: {tmp_path}: another process works there")
        assert f"process 12345 holds {tmp_path / '.lock'}" in error

    def test_another_config_is_refused_unless_forced(self, door, finished, tmp_path):
        (tmp_path / "config.json").write_text((finished / "config.json").read_text())
        changed = ("--config.meta.num_steps=3", "--config.evaluation.num_draws=4")
        arguments = ("--mode=features", f"--workdir={tmp_path}", *changed)
        config = f"--config.features.cache_dir={finished.parent / 'cache'}"
        process = door(*arguments, config)
        assert process.returncode == 2
        assert "was begun with other settings:" in process.stderr
        assert "  meta.num_steps: 2 there, 3 here" in process.stderr
        assert "--force to go on" in process.stderr
        forced = door(*arguments, config, "--force")
        assert forced.returncode == 0, forced.stderr
        assert load(tmp_path / "config.json")["config"]["meta.num_steps"] == 3

    def test_an_accelerator_that_is_not_there(self, door, tmp_path):
        process = door(f"--workdir={tmp_path}", "--require_accelerator")
        assert process.returncode == 3
        (error,) = process.stderr.splitlines()
        assert error.startswith(
            "error: --require_accelerator, but JAX sees only the CPU"
        )


CONFIG_HEAD = """\
from configs.smoke import get_config as smoke

def get_config():
    config = smoke()
"""
FILES = {
    "typo.py": CONFIG_HEAD + "    config.meta.num_stepz = 3\n    return config\n",
    "section.py": CONFIG_HEAD + "    config.metta.num_steps = 3\n    return config\n",
    "type.py": CONFIG_HEAD + "    config.meta.num_steps = 'five'\n    return config\n",
    "several.py": CONFIG_HEAD
    + "    config.meta.num_steps = -1\n    config.meta.num_support = (8, 4)\n"
    + "    config.sed = 3\n    return config\n",
    "syntax.py": "def get_config():\n    return (\n",
    "name.py": "def get_config():\n    return undefined\n",
    "import.py": "import no_such_module\n",
    "nothing.py": "def get_config():\n    pass\n",
    "empty.py": "",
}
NO_CONFIG = "expected a function get_config() that returns a ConfigDict"
NO_FILE = "config '': no such file. There are: configs/common.py,"
FAULTS = {
    # what is typed after `python run.py`: what the message must say
    "SMOKE --config.meta.num_stepz=3": "key 'num_stepz'. Did you mean 'num_steps'?",
    "SMOKE --config.metta.num_steps=3": "unknown key 'metta'. Did you mean 'meta'?",
    "SMOKE --config.strictt": "Did you mean 'strict'?",
    "SMOKE --noconfig.strictt": "Did you mean 'strict'?",
    "SMOKE --config.metta.x=3 --config.sed=1": "key 'sed'. Did you mean 'seed'?",
    "--config.meta.num_stepz=3": "Did you mean 'num_steps'?",
    "SMOKE --config.meta.num_steps=five": "--config.meta.num_steps=five",
    "SMOKE --config.meta.num_steps=2.5": "--config.meta.num_steps=2.5",
    "SMOKE --config.meta.num_steps=-1": "meta.num_steps=-1: expected at least 0.",
    "SMOKE --config.meta.num_support=(9,4)": "(9, 4): expected (fewest, most)",
    "SMOKE --config.meta.num_support=('a',4)": "('a', 4): expected tuple[int, int]",
    "SMOKE --config.meta.duration=soon": "duration='soon': expected '300 steps' or",
    "SMOKE --config.evaluation.methods=('magic',)": "expected each one of full,",
    "SMOKE --config.evaluation.headline_metrics=('f1',)": "each one of macro_f1",
    "SMOKE --config.meta=3": "--config.meta=3",
    "SMOKE --config.strict=maybe": "--config.strict=maybe",
    "SMOKE --config.meta": "Missing value for flag --config.meta",
    "SMOKE --confg.seed=3": "Unknown command line flag 'confg.seed'",
    "SMOKE --wrokdir=x": "Did you mean: workdir ?",
    "SMOKE --mode=evaluat": "all|train|evaluate|features|sweep|tables|check",
    "SMOKE --mode=features --shard=0/2": "--shard=0/2: expected i/n with 1 <= i <= n",
    "SMOKE --mode=features --shard=two": "--shard=two: expected i/n",
    "SMOKE --shard=1/2": "--shard=1/2: only with --mode=features",
    "SMOKE --config.encoder.dtype=float16": "expected one of float32, bfloat16",
    "SMOKE --config.features.encoder=logmel": "unknown key 'encoder'.",
    "SMOKE evaluate": "not a flag: 'evaluate'. Flags begin with --.",
    "--config=configs/smok.py": "no such file. Did you mean 'configs/smoke.py'?",
    "--config=": NO_FILE,
    "--config": NO_FILE,
    "--config=configs/common.py": NO_CONFIG,
    "--config=configs/smoke.py:tiny": "get_config() takes 0 positional arguments",
    "--config=FOLDER/typo.py": "num_stepz: unknown key. Did you mean 'num_steps'?",
    "--config=FOLDER/section.py": "section.py, line 5: AttributeError:",
    "--config=FOLDER/type.py": "type.py, line 5: TypeError: Could not override",
    "--config=FOLDER/several.py": "the config has 3 fault(s):",
    "--config=FOLDER/syntax.py": "syntax.py, line 2: '(' was never closed.",
    "--config=FOLDER/name.py": "name.py, line 2: NameError: name 'undefined' is not",
    "--config=FOLDER/import.py": "import.py, line 1: ModuleNotFoundError: No module",
    "--config=FOLDER/nothing.py": NO_CONFIG,
    "--config=FOLDER/empty.py": NO_CONFIG,
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory, environment):
    """What the door says to each fault, from one process."""
    folder = tmp_path_factory.mktemp("configs")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    workdir = f"--workdir={folder / 'workdir'}"
    names = {"SMOKE": SMOKE, "FOLDER": str(folder)}
    typed = []
    for line in FAULTS:
        for name, meaning in names.items():
            line = line.replace(name, meaning)
        typed.append([workdir, *line.split()])
    process = subprocess.run(
        [sys.executable, "-c", MANY_FAULTS], cwd=ROOT, env=environment,
        input=json.dumps(typed), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert not (folder / "workdir").exists()  # nothing was begun
    return dict(zip(FAULTS, map(json.loads, lines), strict=True))


class TestFaults:
    @pytest.mark.parametrize("typed", FAULTS)
    def test_one_clear_message_and_no_work(self, answers, typed):
        code, output, errors = answers[typed]
        assert code == 2
        assert FAULTS[typed] in errors
        assert errors.startswith("error: ")
        assert errors.count("error: ") == 1
        assert "Traceback" not in errors
        assert output == "devices: 0\n"

    def test_the_real_door_says_the_same(self, answers, door):
        process = door("--config.meta.num_stepz=3")
        assert [process.returncode, process.stdout] == [2, ""]
        assert process.stderr == answers["SMOKE --config.meta.num_stepz=3"][2]

    def test_it_can_be_opened_from_anywhere(self, tmp_path, environment):
        process = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "--config.seed=-1"],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=PATIENCE,
        )  # fmt: skip
        assert process.returncode == 2
        assert "seed=-1: expected at least 0" in process.stderr
        assert list(tmp_path.iterdir()) == []
