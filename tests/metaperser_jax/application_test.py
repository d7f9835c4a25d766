"""Exit codes, the workdir's lock and config, and requests to stop."""

import errno
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import pytest

from metaperser_jax import application
from metaperser_jax.errors import InputError, MachineError
from metaperser_jax.settings import from_config


class TestCompilationFolder:
    def test_it_is_in_the_cache_folder_of_the_user(self, tmp_path):
        found = application.compilation_folder(
            {"XDG_CACHE_HOME": str(tmp_path)}, tmp_path / "run"
        )
        assert found == tmp_path / "metaperser_jax" / "compiled"
        assert found.is_dir()

    @pytest.mark.parametrize(
        ("platform", "wanted"), [("linux", ".cache"), ("darwin", "Library/Caches")]
    )
    @pytest.mark.parametrize("said", [{}, {"XDG_CACHE_HOME": "not/absolute"}])
    def test_unless_named_it_is_the_usual_one(
        self, monkeypatch, tmp_path, platform, wanted, said
    ):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(application.sys, "platform", platform)
        found = application.compilation_folder(said, tmp_path / "run")
        assert found == tmp_path / wanted / "metaperser_jax" / "compiled"

    def test_what_the_user_says_to_jax_is_left_alone(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("XDG_CACHE_HOME", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
            monkeypatch.delenv(name, raising=False)
        told = {}
        monkeypatch.setattr(jax.config, "update", told.__setitem__)
        folder, settings = tmp_path / "run", from_config(CONFIG)
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
        application._keep_compilations(settings, folder)
        assert told == {"jax_persistent_cache_min_compile_time_secs": 0.2}
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        application._keep_compilations(settings, folder)
        place = application.compilation_folder({}, folder)
        assert told["jax_compilation_cache_dir"] == str(place)

    def test_where_that_cannot_be_written_it_is_the_runs(self, tmp_path):
        (tmp_path / "file").touch()
        environ = {"XDG_CACHE_HOME": str(tmp_path / "file")}
        found = application.compilation_folder(environ, tmp_path / "run")
        assert found == tmp_path / "run" / "compiled"


CONFIG = {"corpus": "synthetic", "meta": {"num_steps": 2}, "evaluation": {}}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs with a job in place of the real one; returns the exit code."""

    def run(job, config=CONFIG, **options):
        monkeypatch.setattr(application, "_dispatch", lambda *_: job())
        return application.run(config, mode="all", workdir=str(tmp_path), **options)

    return run


def raising(error):
    def job():
        raise error

    return job


class TestExitCodes:
    def test_a_run_without_fault(self, run):
        assert run(lambda: 0) == 0

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (InputError("row 3 is no number"), 2, "row 3 is no number"),
            (MachineError("the disk is full"), 3, "the disk is full"),
            (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left"),
            (PermissionError(errno.EACCES, "denied", "x"), 3, "denied: 'x'"),
            (MemoryError(), 3, "out of memory"),
        ],
    )
    def test_a_fault_is_one_message_without_traceback(
        self, run, capsys, error, code, message
    ):
        assert run(raising(error)) == code
        errors = capsys.readouterr().err
        assert errors.startswith("error: ")
        assert message in errors
        assert "Traceback" not in errors

    def test_out_of_memory_names_the_three_knobs(self, run, capsys):
        error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore")
        assert run(raising(error)) == 3
        errors = capsys.readouterr().err
        for knob in ("second_order_from=1.0", "task_chunk=1", "remat=True"):
            assert f"meta.{knob}" in errors
        assert "(RESOURCE_EXHAUSTED: Out of memory)" in errors

    def test_a_bug_shows_its_traceback(self, run, capsys):
        assert run(raising(ValueError("odd"))) == 1
        errors = capsys.readouterr().err
        assert "Traceback" in errors
        assert "ValueError: odd" in errors
        assert errors.rstrip().endswith("a bug of ours; please report the lines above")

    @pytest.mark.parametrize("config", [None, {}, {"corpus": "synthetic", "sed": 1}])
    def test_a_bad_config_touches_nothing(self, run, tmp_path, config):
        assert run(raising(AssertionError), config) == 2
        assert list(tmp_path.iterdir()) == []

    def test_what_is_no_flag(self, run, capsys):
        assert run(raising(AssertionError), unknown=["evaluate"]) == 2
        assert "not a flag: 'evaluate'" in capsys.readouterr().err


class TestStopping:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        monkeypatch.setattr(application, "REPEAT_SECONDS", 0.05)

    def stopped_by(self, number, then=lambda: time.sleep(10)):
        def job():
            os.kill(os.getpid(), number)
            then()

        return job

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_stops_the_run_and_tells_how_to_go_on(
        self, run, capsys, tmp_path, number
    ):
        assert run(self.stopped_by(number)) == 128 + number
        said = capsys.readouterr().err
        assert said == f"stopped; the same command goes on where it was ({tmp_path})\n"

    def test_a_request_that_is_swallowed_is_repeated(self, run):
        lost = []

        def job():
            for _ in range(3):
                try:
                    if not lost:
                        os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(10)
                except KeyboardInterrupt:  # as a callback of the collector does
                    lost.append(True)
            return time.sleep(10)

        assert run(job) == 128 + signal.SIGTERM
        assert len(lost) == 3

    def test_handlers_are_as_before_when_the_run_is_over(self, run):
        names = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        before = [signal.getsignal(name) for name in names]
        run(self.stopped_by(signal.SIGINT))
        assert [signal.getsignal(name) for name in names] == before
        time.sleep(0.12)  # no alarm is left to ring

    @pytest.mark.parametrize(
        "error", [ImportError("initialization failed"), MachineError("not saved")]
    )
    def test_an_error_that_a_library_made_of_the_interrupt(self, run, capsys, error):
        def job():
            try:
                self.stopped_by(signal.SIGTERM)()
            except KeyboardInterrupt as stop:
                raise error from stop

        assert run(job) == 128 + signal.SIGTERM
        assert capsys.readouterr().err.startswith("stopped; the same command")

    def test_what_is_cut_short_does_not_complain(self, run, capsys):
        class Loud:
            def __del__(self):
                raise ValueError("noise")

        def job():
            try:
                self.stopped_by(signal.SIGTERM)()
            finally:
                Loud()  # gone at once
                logging.getLogger("library").error("noise")
                thread = threading.Thread(target=raising(ValueError("noise")))
                thread.start()
                thread.join()

        assert run(job) == 128 + signal.SIGTERM
        assert "noise" not in capsys.readouterr().err
        assert logging.getLogger("library").isEnabledFor(logging.ERROR)

    def test_the_second_signal_ends_at_once(self):
        process = subprocess.run([sys.executable, "-c", STUBBORN], timeout=60)
        assert process.returncode == 130


STUBBORN = """
import os, signal, time
from metaperser_jax import application
with application._stoppable([]):
    for _ in range(2):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            pass
"""


class TestShard:
    @pytest.mark.parametrize(
        ("text", "mode", "part"),
        [
            ("", "all", None),
            ("1/1", "features", (1, 1)),
            ("3/4", "features", (3, 4)),
        ],
    )
    def test_i_of_n(self, text, mode, part):
        assert application.parse_shard(text, mode) == part

    @pytest.mark.parametrize(
        "text", ["0/4", "5/4", "1/0", "1", "1/", "/2", "a/b", "-1/2", "1/2/3", "1 / 2"]
    )
    def test_what_is_none(self, run, capsys, tmp_path, text):
        assert run(raising(AssertionError), shard=text) == 2
        assert f"--shard={text}: expected i/n with 1 <= i" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_only_features_and_sweeps_have_parts(self, run, capsys):
        assert run(raising(AssertionError), shard="1/2") == 2
        expected = "--shard=1/2: only with --mode=features or sweep."
        assert expected in capsys.readouterr().err

    def test_parts_of_a_sweep_share_the_workdir(self, monkeypatch, tmp_path):
        seen = []

        def run_sweep(settings, workdir, problems, shard):
            seen.append((settings.features.cache_dir, workdir, shard))
            if shard and shard[0] == 1:
                assert run("2/2") == 0  # beside the other
                assert run("1/2") == 3  # the same part twice
                assert run("") == 3  # all of it
            return 0

        def run(shard):
            return application.run(
                CONFIG, mode="sweep", workdir=str(tmp_path / "run"), shard=shard
            )

        monkeypatch.setattr(application.sweep, "run_sweep", run_sweep)
        assert run("1/2") == 0
        place, cache = tmp_path / "run", str(tmp_path / "cache")
        assert seen == [(cache, place, (1, 2)), (cache, place, (2, 2))]

    def test_a_dry_run_does_nothing(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(application.forecast, "forecast", lambda *_: "found")
        monkeypatch.setattr(application.forecast, "describe", lambda found: found)
        workdir = str(tmp_path / "run")
        assert application.run(CONFIG, mode="sweep", workdir=workdir, dry_run=True) == 0
        assert capsys.readouterr().out == "found\n"
        assert not (tmp_path / "run" / "config.json").exists()

    def test_parts_run_side_by_side_and_share_the_cache(self, monkeypatch, tmp_path):
        seen = []

        def extract_shard(settings, workdir, problems, shard):
            seen.append((application.cache_dir(settings, workdir), workdir, shard))
            problems.warning("a", "b", "c")
            if shard[0] == 1:  # beside the other
                assert run("2/2") == 0

        def run(shard):
            return application.run(
                CONFIG, mode="features", workdir=str(tmp_path / "run"), shard=shard
            )

        monkeypatch.setattr(application, "extract_shard", extract_shard)
        assert run("1/2") == 0
        places = [tmp_path / "run" / f"shard_{i}_of_2" for i in (1, 2)]
        assert seen == [(tmp_path / "cache", places[i - 1], (i, 2)) for i in (1, 2)]
        for place in places:
            assert (place / "problems.jsonl").read_text().count("\n") == 1


class TestLock:
    def test_the_workdir_is_made_and_holds_the_process(self, tmp_path):
        folder = tmp_path / "a" / "b"
        with application._working_in(folder):
            assert (folder / ".lock").read_text() == str(os.getpid())

    def test_a_second_process_is_refused_and_the_first_named(self, tmp_path):
        with (
            application._working_in(tmp_path),
            pytest.raises(MachineError, match=rf"process {os.getpid()} holds .*\.lock"),
            application._working_in(tmp_path),
        ):
            pass

    def test_it_is_free_again_afterwards(self, tmp_path):
        for _ in range(2):
            with application._working_in(tmp_path):
                pass

    def test_a_lock_left_by_a_killed_process_does_not_matter(self, tmp_path):
        (tmp_path / ".lock").write_text("999999")
        with application._working_in(tmp_path):
            assert (tmp_path / ".lock").read_text() == str(os.getpid())

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(MachineError, match="cannot work there"),
            application._working_in(tmp_path / "file" / "workdir"),
        ):
            pass

    def test_refusing_does_not_wipe_the_owner(self, tmp_path):
        with (tmp_path / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("4321")
            file.flush()
            for _ in range(2):
                with (
                    pytest.raises(MachineError, match="process 4321"),
                    application._working_in(tmp_path),
                ):
                    pass


class TestConfigOfAWorkdir:
    def check(self, folder, force=False, **changes):
        config = {**CONFIG, **changes}
        plain = application.flatten(config)
        application.refuse_other_config(from_config(config), plain, folder, force)

    def test_the_first_run_writes_it_and_the_same_goes_on(self, tmp_path):
        self.check(tmp_path)
        before = (tmp_path / "config.json").read_bytes()
        self.check(tmp_path)
        assert (tmp_path / "config.json").read_bytes() == before

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"meta": {"num_steps": 3}}, "meta.num_steps: 2 there, 3 here"),
            ({"meta": {}}, "meta.num_steps: 2 there, 'nothing' here"),
            ({"seed": 4}, "seed: 'nothing' there, 4 here"),
        ],
    )
    def test_another_training_is_refused_with_what_differs(
        self, tmp_path, changes, line
    ):
        self.check(tmp_path)
        before = (tmp_path / "config.json").read_bytes()
        with pytest.raises(InputError, match="begun with other settings") as caught:
            self.check(tmp_path, **changes)
        assert f"  {line}\n" in str(caught.value)
        assert (tmp_path / "config.json").read_bytes() == before

    def test_force_goes_on_and_remembers(self, tmp_path):
        self.check(tmp_path)
        self.check(tmp_path, force=True, seed=4)
        assert json.loads((tmp_path / "config.json").read_text())["config"]["seed"] == 4
        self.check(tmp_path, seed=4)

    def test_another_evaluation_of_the_same_training_is_fine(self, tmp_path):
        self.check(tmp_path)
        self.check(tmp_path, evaluation={"num_draws": 3}, strict=True)

    def test_many_differences_are_cut_short(self, tmp_path):
        self.check(tmp_path)
        meta = {f"num_{n}": 1 for n in ("tasks", "query")} | {
            "num_steps": 3, "remat": True, "cosine": True, "proximal": 0.1,
            "clip_norm": 2.0, "mode": "same", "task_chunk": 2, "evaluations": 3,
            "max_skipped": 3, "weight_decay": 0.1,
        }  # fmt: skip
        with pytest.raises(InputError, match="and 2 more"):
            self.check(tmp_path, meta=meta)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "{}", '{"config": {}}', '{"training_hash": 1, "config": 3}'],
    )
    def test_a_damaged_one_is_refused_and_can_be_forced(self, tmp_path, text):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match="not the config of a run"):
            self.check(tmp_path)
        self.check(tmp_path, force=True)
        self.check(tmp_path)


def test_flatten_joins_the_keys_and_makes_lists_of_tuples():
    nested = {"a": 1, "b": {"c": (1, 2), "d": {"e": None}}, "f": {}}
    assert application.flatten(nested) == {"a": 1, "b.c": [1, 2], "b.d.e": None}


class TestDevice:
    def test_the_line_names_it(self):
        assert application._device_line(False).endswith("on 1 x cpu (cpu)")

    def test_an_accelerator_is_required(self):
        with pytest.raises(MachineError, match="JAX sees only the CPU: install"):
            application._device_line(True)

    def test_a_platform_that_is_not_there(self, monkeypatch):
        def no_devices():
            raise RuntimeError("Unable to initialize backend 'cuda': no GPU.")

        monkeypatch.setattr(jax, "devices", no_devices)
        with pytest.raises(MachineError, match=r"no GPU\. Unset JAX_PLATFORMS"):
            application._device_line(False)


def test_the_console_compares_what_the_claims_are_about():
    pairs = [
        ("full", "no_adaptation"),
        ("full", "minus_da"),
        ("maml", "no_adaptation"),
        ("wrong_listener", "no_adaptation"),
    ]
    rows = [{"method": a, "reference": b} for a, b in pairs]
    assert application.headline_comparisons(rows) == [rows[0], rows[3]]


class TestJoin:
    """Several processes of one run."""

    @pytest.fixture(autouse=True)
    def told_of_three(self, monkeypatch):
        monkeypatch.setenv("JAX_NUM_PROCESSES", "3")

    def test_each_process_has_its_part(self, monkeypatch):
        monkeypatch.setattr(application.processes, "start", lambda *_: 3)
        monkeypatch.setattr(application.processes, "joined", lambda: True)
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        monkeypatch.setattr(jax, "process_count", lambda: 3)
        assert application.join("auto", 9) == (2, 3)

    @pytest.mark.parametrize(
        ("choice", "part"), [("off", None), ("off", (1, 2)), ("auto", (1, 2))]
    )
    def test_off_or_with_a_part_nobody_is_joined(self, choice, part):
        assert application.join(choice, 9, part) is None

    def test_where_nobody_else_is_told_of_nobody_is_joined(self, monkeypatch):
        monkeypatch.setenv("JAX_NUM_PROCESSES", "1")
        assert application.join("auto", 9) is None

    @pytest.mark.parametrize(
        ("choice", "mode", "part", "named"),
        [
            ("auto", "tables", None, "cannot join for --mode=tables"),
            ("on", "sweep", None, "cannot join for --mode=sweep"),
            ("on", "features", (1, 2), "cannot join for --shard=1/2"),
        ],
    )
    def test_what_is_not_for_several_is_refused(self, choice, mode, part, named):
        with pytest.raises(InputError) as caught:
            application.refuse_together(choice, mode, part, from_config(CONFIG), False)
        assert f"--multihost={choice} (3 processes, says by hand)" in str(caught.value)
        assert named in str(caught.value)

    def test_tuning_an_encoder_is_not_for_several(self):
        chosen = from_config(CONFIG)
        tuned = chosen._replace(encoder=chosen.encoder._replace(tuning="lora"))
        with pytest.raises(InputError, match="tuning=lora"):
            application.refuse_together("on", "all", None, tuned, False)
        application.refuse_together("on", "features", None, tuned, False)
        application.refuse_together("off", "all", None, tuned, False)

    def test_a_run_that_is_refused_leaves_nothing(self, run, capsys, tmp_path):
        assert run(raising(AssertionError), multihost="on", dry_run=True) == 2
        assert "--multihost=on" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
