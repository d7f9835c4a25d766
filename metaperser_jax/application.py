"""A run from the command line: workdir, lock, modes, problems and exit codes."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import pathlib
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax

from metaperser_jax import check, settings
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.evaluate import evaluate
from metaperser_jax.evaluation import report, tables
from metaperser_jax.experiment import (
    Experiment,
    Shard,
    cache_dir,
    extract_shard,
    open_experiment,
    settings_hash,
)
from metaperser_jax.results import write_json, write_results
from metaperser_jax.settings import Settings
from metaperser_jax.train import train

log = logging.getLogger("metaperser_jax")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
REPEAT_SECONDS = 1.0
HEADLINE_METRICS = ("nll", "micro_f1", "macro_f1")
HEADLINE_REFERENCES = (
    "no_adaptation",
    "base_rate",
    "prior_calibration",
    "fine_tune",
    "wrong_listener",
    "oracle",
)


def run(
    config: Any,
    *,
    mode: str,
    workdir: str,
    force: bool = False,
    require_accelerator: bool = False,
    shard: str = "",
    unknown: list[str] | None = None,
    command: str = "",
) -> int:
    """Runs one mode and returns the exit code.

    Args:
      config: a ConfigDict.
      mode: 'all', 'train', 'evaluate', 'features' or 'check'.
      workdir: where results go; a run that was stopped resumes there.
      force: go on although the workdir was begun with another config.
      require_accelerator: fail where there is no GPU or TPU.
      shard: 'i/n': compute the features of the i-th of n parts of the clips only.
      unknown: arguments that are no flags.
      command: what was typed, for the record.

    Returns:
      0, 2 for faults of the input, 3 for faults of the machine, 1 for our own, and
      128 + the signal's number (130, 143) for a run that was stopped.
    """
    _log_plainly()
    folder = pathlib.Path(workdir)
    stops: list[int] = []
    try:
        if unknown:
            raise InputError(f"not a flag: {unknown[0]!r}. Flags begin with --.")
        part = parse_shard(shard, mode)
        chosen = settings.from_config(config)
        if part:  # each part has a workdir of its own, the cache in common
            chosen = with_cache_dir(chosen, folder)
            folder = folder / "shard_{}_of_{}".format(*part)
        with _stoppable(stops), _working_in(folder):
            return _dispatch(
                chosen, config, mode, folder, force, require_accelerator, command, part
            )
    except (Exception, KeyboardInterrupt) as error:
        if stops or isinstance(error, KeyboardInterrupt):
            # a library may have made another error of the interrupt
            print(
                f"stopped; the same command goes on where it was ({folder})",
                file=sys.stderr,
            )
            return 128 + (stops or [signal.SIGINT])[0]
        return _tell(error)


def _tell(error: Exception) -> int:
    """Prints what went wrong and returns the exit code."""
    if isinstance(error, InputError | MachineError):
        return _fail(str(error), error.exit_code)
    if fault := machine_fault(error):
        return _fail(fault, MachineError.exit_code)
    traceback.print_exception(error)
    return _fail("this is a bug of ours; please report the lines above", 1)


def _fail(message: str, exit_code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return exit_code


def machine_fault(error: Exception) -> str | None:
    """Returns what to tell when memory or disk has run out, None for other errors."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"out of memory ({str(error).partition(chr(10))[0]}). Three settings need "
            "less: meta.task_chunk=1 adapts one listener at a time, meta.remat=True "
            "recomputes inner steps, meta.second_order_from=1.0 keeps to the first "
            "order. While features are computed: a smaller features.memory_gb. While "
            "an encoder is tuned: encoder.remat=True, or a smaller encoder.batch_size "
            "with as much more of encoder.accumulate."
        )
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"{error}. Nothing is half-written: mend that and start again."
    return None


def _log_plainly() -> None:
    """Our own lines without prefixes; of the libraries only errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    for name in ("absl", "jax", "orbax"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _dispatch(
    chosen: Settings,
    config: Any,
    mode: str,
    folder: pathlib.Path,
    force: bool,
    require_accelerator: bool,
    command: str,
    part: Shard | None,
) -> int:
    log.info(_device_line(require_accelerator))
    _keep_compilations(chosen, folder)
    plain = flatten(config.to_dict() if hasattr(config, "to_dict") else config)
    problems = Problems(strict=chosen.strict)
    if mode == "check":
        page = check.page(chosen, folder, problems)
        print(page.text)
        return page.exit_code
    refuse_other_config(chosen, plain, folder, force)
    begun = time.monotonic()
    try:
        if part:
            extract_shard(chosen, folder, problems, part)
        else:
            _run_experiment(chosen, plain, mode, folder, command, problems)
    finally:
        problems.write(folder / "problems.jsonl")
        if problems.rows:
            log.info("skipped or doubtful (%s):", folder / "problems.jsonl")
            log.info(problems.summary())
    log.info("done in %.0f s", time.monotonic() - begun)
    return 0


def _run_experiment(
    chosen: Settings,
    plain: dict[str, Any],
    mode: str,
    folder: pathlib.Path,
    command: str,
    problems: Problems,
) -> None:
    experiment = open_experiment(chosen, folder, problems)
    _say_corpus(experiment)
    if mode in ("all", "train"):
        train(experiment)
    if mode in ("all", "evaluate"):
        _evaluate_and_report(experiment, plain, command)


def parse_shard(text: str, mode: str) -> Shard | None:
    """Returns (i, n) of 'i/n', None of ''.

    Raises:
      InputError: it is not 'i/n' with 1 <= i <= n, or the mode is not 'features'.
    """
    if not text:
        return None
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise InputError(
            f"--shard={text}: expected i/n with 1 <= i <= n, for example --shard=1/4 "
            "for the first of four processes."
        )
    if mode != "features":
        raise InputError(f"--shard={text}: only with --mode=features.")
    return number, count


def with_cache_dir(chosen: Settings, folder: pathlib.Path) -> Settings:
    """Returns settings that name the cache which a workdir implies."""
    place = str(cache_dir(chosen, folder))
    return chosen._replace(features=chosen.features._replace(cache_dir=place))


def _keep_compilations(chosen: Settings, folder: pathlib.Path) -> None:
    """Keeps compiled functions on disk, where the user has not said it otherwise."""
    place = cache_dir(chosen, folder) / "compiled"
    wanted = {
        "jax_compilation_cache_dir": str(place.absolute()),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
    }
    for name, value in wanted.items():
        if not os.environ.get(name.upper()):
            jax.config.update(name, value)


def _evaluate_and_report(
    experiment: Experiment, config: dict[str, Any], command: str
) -> None:
    chosen = experiment.settings.evaluation
    predictions = evaluate(experiment)
    data = write_results(experiment, predictions, config, command)
    for scenario in predictions:
        print(
            tables.console_table(
                data.records,
                scenario,
                chosen.headline_support,
                chosen.headline_metrics,
            )
        )
        print()
    for scenario in predictions:
        print(
            tables.comparison_table(
                headline_comparisons(data.comparisons),
                scenario,
                chosen.headline_support,
                HEADLINE_METRICS,
            )
        )
        print()
    path = report.write_report(data, experiment.workdir / "report")
    for scratch in experiment.workdir.glob("fold_*/predictions_*.npz"):
        scratch.unlink()
    print(f"\nreport: {path}\nresults: {experiment.workdir / 'results.json'}")


def headline_comparisons(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the comparisons for the console: the claims, and the control."""
    control = ("wrong_listener", "no_adaptation")
    return [
        row
        for row in rows
        if (row["method"] == "full" and row["reference"] in HEADLINE_REFERENCES)
        or (row["method"], row["reference"]) == control
    ]


def _say_corpus(experiment: Experiment) -> None:
    summary = experiment.summary
    shown = [k for k in ("clips", "listeners", "ratings", "hours") if k in summary]
    found = ", ".join(f"{round(summary[k], 2)} {k}" for k in shown)
    log.info("corpus %s: %s", experiment.corpus.name, found)


def _device_line(require_accelerator: bool) -> str:
    """Returns what the run computes on.

    Raises:
      MachineError: an accelerator is required, or named to JAX, and there is none.
    """
    try:
        devices = jax.devices()
    except RuntimeError as error:
        raise MachineError(
            f"JAX finds no device: {error} Unset JAX_PLATFORMS to take what there is."
        ) from error
    kind = devices[0].platform
    if require_accelerator and kind == "cpu":
        raise MachineError(
            "--require_accelerator, but JAX sees only the CPU: install jax[cuda] or "
            "jax[tpu], or leave the flag out."
        )
    return (
        f"jax {jax.__version__} on {len(devices)} x {devices[0].device_kind} ({kind})"
    )


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {'meta.num_steps': 5, ...}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def refuse_other_config(
    chosen: Settings, plain: dict[str, Any], folder: pathlib.Path, force: bool
) -> None:
    """Writes config.json, or compares with the one there.

    Raises:
      InputError: training in this workdir was begun with other settings.
    """
    path = folder / "config.json"
    new = {"training_hash": settings_hash(chosen), "config": plain}
    if path.exists() and not force:
        old = _read_config(path)
        if old["training_hash"] != new["training_hash"]:
            raise InputError(
                f"{folder} was begun with other settings:\n"
                + "".join(f"  {line}\n" for line in _changes(old["config"], plain))
                + "Choose another --workdir, or --force to go on in this one."
            )
    write_json(path, new)


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        return {"training_hash": old["training_hash"], "config": dict(old["config"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not the config of a run ({type(error).__name__}: {error}). "
            "Choose another --workdir, or --force to go on in this one."
        ) from error


def _changes(old: dict[str, Any], new: dict[str, Any], most: int = 10) -> list[str]:
    """Returns a line for each key that differs, the evaluation's last."""
    keys = sorted({*old, *new}, key=lambda key: (key.startswith("evaluation."), key))
    lines = [
        f"{key}: {old.get(key, 'nothing')!r} there, {new.get(key, 'nothing')!r} here"
        for key in keys
        if old.get(key) != new.get(key)
    ]
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return [*lines[:most], *more] or ["the defaults of another version"]


@contextlib.contextmanager
def _working_in(folder: pathlib.Path) -> Iterator[None]:
    """Makes the workdir and locks it.

    Raises:
      MachineError: it cannot be made, or another process works there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+")
    except OSError as error:
        raise MachineError(f"{folder}: cannot work there ({error}).") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MachineError(
                f"{folder}: another process works there (process {_owner(file)} holds "
                f"{file.name}): wait for it, stop it, or choose another --workdir."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _owner(file: Any) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"


@contextlib.contextmanager
def _stoppable(stops: list[int]) -> Iterator[None]:
    """Makes SIGINT and SIGTERM stop the run once, and at once the second time.

    What is raised while the garbage collector calls back is lost, so the first signal
    is repeated until the run has come to its end.

    Args:
      stops: the signal is added here when it comes.
    """

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    def stop(number: int, frame: Any) -> None:
        stops.append(number)
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda again, _: os._exit(128 + again))
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS, REPEAT_SECONDS)
        logging.disable()  # what threads and callbacks say of being cut short
        sys.unraisablehook = threading.excepthook = lambda _: None
        interrupt()

    before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    before[signal.SIGALRM] = signal.getsignal(signal.SIGALRM)
    hooks = sys.unraisablehook, threading.excepthook
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        logging.disable(logging.NOTSET)
        sys.unraisablehook, threading.excepthook = hooks
        for name, handler in before.items():
            signal.signal(name, handler)
