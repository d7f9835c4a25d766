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
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from metaperser_jax import check, forecast, processes, settings, sweep, tabulate
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.evaluate import evaluate
from metaperser_jax.evaluation import protocol, report, tables
from metaperser_jax.experiment import (
    Experiment,
    Shard,
    cache_dir,
    extract_shard,
    open_experiment,
    outputs_of,
    settings_hash,
)
from metaperser_jax.results import write_json, write_results
from metaperser_jax.settings import Settings
from metaperser_jax.train import train

log = logging.getLogger("metaperser_jax")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
REPEAT_SECONDS = 1.0
SWEEPING = ("sweep", "tables")
SHARDED = ("features", "sweep")
TOGETHER = ("features", "train", "evaluate", "all")  # what several processes may do
HEADLINE_METRICS = ("nll", "micro_f1", "macro_f1", "ccc", "rmse")
HEADLINE_REFERENCES = (
    "no_adaptation",
    "base_rate",
    "prior_calibration",
    "fine_tune",
    "wrong_listener",
    "oracle",
)


class Job(NamedTuple):
    """What one process was asked to do."""

    settings: Settings
    config: Any  # the ConfigDict the settings come from
    mode: str
    folder: pathlib.Path
    command: str
    shard: Shard | None
    dry_run: bool

    @property
    def plain(self) -> dict[str, Any]:
        """The config as {'meta.num_steps': 5, ...}."""
        config = self.config
        return flatten(config.to_dict() if hasattr(config, "to_dict") else config)


def run(
    config: Any,
    *,
    mode: str,
    workdir: str,
    force: bool = False,
    require_accelerator: bool = False,
    shard: str = "",
    dry_run: bool = False,
    multihost: processes.Choice = "off",
    multihost_timeout: int = 300,
    unknown: list[str] | None = None,
    command: str = "",
) -> int:
    """Runs one mode and returns the exit code.

    Args:
      config: a ConfigDict.
      mode: 'all', 'train', 'evaluate', 'features', 'sweep', 'tables' or 'check'.
      workdir: where results go; a run that was stopped resumes there.
      force: go on although the workdir was begun with another config.
      require_accelerator: fail where there is no GPU or TPU.
      shard: 'i/n': with mode 'features' the i-th of n parts of the clips, with mode
        'sweep' every n-th fold from the i-th.
      dry_run: say what a run or a sweep would take, and do nothing.
      multihost: whether this process joins others, see `join`.
      multihost_timeout: seconds to wait for them.
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
        refuse_together(multihost, mode, part, chosen, dry_run)
        together = join(multihost, multihost_timeout, part)
        part = part or (together if mode == "features" else None)
        if mode in SWEEPING:  # its variants have workdirs of their own
            chosen = with_cache_dir(chosen, folder)
        elif part:  # each part has a workdir of its own, the cache in common
            chosen = with_cache_dir(chosen, folder)
            folder = folder / "shard_{}_of_{}".format(*part)
        shared = part if mode == "sweep" else together if not part else None
        with processes.lost_told(), _stoppable(stops), _working_in(folder, shared):
            job = Job(chosen, config, mode, folder, command, part, dry_run)
            exit_code = _dispatch(job, force, require_accelerator)
            processes.meet("end of the run")
            return exit_code
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


def _dispatch(job: Job, force: bool, require_accelerator: bool) -> int:
    chosen, folder = job.settings, job.folder
    if not processes.leads():
        log.setLevel(logging.WARNING)  # the first one tells
    log.info(_device_line(require_accelerator))
    _keep_compilations(chosen, folder)
    problems = Problems(strict=chosen.strict)
    if job.mode == "check":
        page = check.page(chosen, folder, problems)
        print(page.text)
        if written := check.write_page(page, folder):
            print(f"\npage: {written}")
        return page.exit_code
    if job.dry_run:
        print(forecast.describe(forecast.forecast(chosen, folder, job.mode, problems)))
        return 0
    processes.by_leader(
        "the config is known",
        lambda: refuse_other_config(chosen, job.plain, folder, force),
    )
    begun = time.monotonic()
    try:
        _work(job, problems)
    finally:
        if job.shard or processes.leads():
            _tell_problems(job, problems)
    log.info("done in %.0f s", time.monotonic() - begun)
    return 0


def _tell_problems(job: Job, problems: Problems) -> None:
    """Writes what was skipped or doubtful, and sums it up on the console."""
    part = "" if job.shard is None else "_{}_of_{}".format(*job.shard)
    path = job.folder / f"problems{part if job.mode == 'sweep' else ''}.jsonl"
    problems.write(path)
    if problems.rows:
        log.info("skipped or doubtful (%s):", path)
        log.info(problems.summary())


def _work(job: Job, problems: Problems) -> None:
    if job.mode == "sweep":
        count = sweep.run_sweep(job.settings, job.folder, problems, job.shard)
        log.info("%d cells computed; --mode=tables makes the tables", count)
    elif job.mode == "tables":
        made = tabulate.tabulate(
            job.settings, job.folder, problems, job.plain, job.command
        )
        print(made.text)
        print("\ntables: " + ", ".join(str(path) for path in made.paths))
    elif job.shard:
        extract_shard(job.settings, job.folder, problems, job.shard)
    else:
        _run_experiment(job, problems)


def _run_experiment(job: Job, problems: Problems) -> None:
    experiment = open_experiment(job.settings, job.folder, problems)
    _say_corpus(experiment)
    if job.mode in ("all", "train"):
        train(experiment)
    if job.mode in ("all", "evaluate"):
        predictions = evaluate(experiment)
        if processes.leads():
            _report_all(experiment, predictions, job.plain, job.command)


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
    if mode not in SHARDED:
        raise InputError(f"--shard={text}: only with --mode={' or '.join(SHARDED)}.")
    return number, count


def refuse_together(
    choice: processes.Choice,
    mode: str,
    part: Shard | None,
    chosen: Settings,
    dry_run: bool,
) -> None:
    """Refuses what several processes cannot do together, before they wait.

    Raises:
      InputError: the mode, a part that was named, or an encoder that is to be tuned.
    """
    if not _joins(choice, part):
        return
    number, starter = processes.expected(os.environ)
    if part:
        what = "--shard={}/{}".format(*part)
    elif mode not in TOGETHER or dry_run:
        what = "--dry_run" if dry_run else f"--mode={mode}"
    elif chosen.encoder.tuning != "frozen" and mode != "features":
        what = f"--config.encoder.tuning={chosen.encoder.tuning}"
    else:
        return
    told = f" ({number} processes, says {starter})" if number > 1 else ""
    raise InputError(
        f"--multihost={choice}{told}: several processes cannot join for {what}. Start "
        "one process, which takes all devices of its machine, or --multihost=off; "
        "folds of a sweep are divided by --shard."
    )


def _joins(choice: processes.Choice, part: Shard | None) -> bool:
    """Whether other processes are waited for; 'auto' does not where a part is named."""
    number, _ = processes.expected(os.environ)
    return choice == "on" or (choice == "auto" and number > 1 and not part)


def join(
    choice: processes.Choice, timeout: int, part: Shard | None = None
) -> Shard | None:
    """Joins the other processes of the run, if there are any.

    Args:
      choice: see `processes.start`; whoever names a part is not 'auto' joined.
      timeout: seconds to wait.
      part: the shard that was named.

    Returns:
      (number, count) of this process among them; None alone.

    Raises:
      MachineError: they did not come.
    """
    if _joins(choice, part):
        processes.start(choice, timeout)
    return processes.part()


def with_cache_dir(chosen: Settings, folder: pathlib.Path) -> Settings:
    """Returns settings that name the cache which a workdir implies."""
    place = str(cache_dir(chosen, folder))
    return chosen._replace(features=chosen.features._replace(cache_dir=place))


def _keep_compilations(chosen: Settings, folder: pathlib.Path) -> None:
    """Keeps compiled functions on disk, where the user has not said it otherwise."""
    place = compilation_folder(os.environ, cache_dir(chosen, folder))
    wanted = {
        "jax_compilation_cache_dir": str(place.absolute()),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
    }
    for name, value in wanted.items():
        if not os.environ.get(name.upper()):
            jax.config.update(name, value)


def compilation_folder(environ: Mapping[str, str], cache: pathlib.Path) -> pathlib.Path:
    """Returns where compiled functions are kept, for all runs of the user.

    That is the user's cache folder; where it cannot be written, the run's own.
    $XDG_CACHE_HOME counts only where it is absolute, as its specification has it.
    """
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    named = environ.get("XDG_CACHE_HOME", "")
    place = pathlib.Path(named if os.path.isabs(named) else usual)
    try:
        place = place.expanduser() / "metaperser_jax" / "compiled"
        place.mkdir(parents=True, exist_ok=True)
        usable = os.access(place, os.W_OK)
    except (OSError, RuntimeError):  # a file in the way; no home
        usable = False
    return place if usable else cache / "compiled"


def _report_all(
    experiment: Experiment,
    predictions: dict[str, protocol.Predictions],
    config: dict[str, Any],
    command: str,
) -> None:
    """Reports; listeners of several kinds apart, each in a folder."""
    groups = experiment.corpus.groups
    kinds = sorted(
        {groups[a] for p in predictions.values() for a in p.annotators if groups}
    )
    for kind in kinds if len(kinds) > 1 else [""]:
        folder = experiment.workdir / kind
        folder.mkdir(exist_ok=True)
        chosen = predictions
        if kind:
            print(f"listeners of kind {kind}\n")
            chosen = {
                scenario: protocol.select_listeners(
                    found, np.array([groups[a] == kind for a in found.annotators])
                )
                for scenario, found in predictions.items()
                if any(groups[a] == kind for a in found.annotators)
            }
        _report(experiment, chosen, config, command, folder)
    for scratch in experiment.workdir.glob("fold_*/predictions_*.npz"):
        scratch.unlink()


def _report(
    experiment: Experiment,
    predictions: dict[str, protocol.Predictions],
    config: dict[str, Any],
    command: str,
    folder: pathlib.Path,
) -> None:
    chosen = experiment.settings.evaluation
    metrics = protocol.headline_metrics(chosen.headline_metrics, outputs_of(experiment))
    data = write_results(experiment, predictions, config, command, folder)
    for scenario in predictions:
        print(
            tables.console_table(
                data.records,
                scenario,
                chosen.headline_support,
                metrics,
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
    path = report.write_report(data, folder / "report")
    print(f"\nreport: {path}\nresults: {folder / 'results.json'}")


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
    for line in summary.get("published_counts", ()):
        log.info("  against the published counts: %s", line)


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
def _working_in(folder: pathlib.Path, shared: Any = None) -> Iterator[None]:
    """Makes the workdir and locks it.

    Args:
      folder: the workdir.
      shared: None, or the shard (i, n) that works there beside the others: two
        processes with the same one still exclude each other.

    Raises:
      MachineError: it cannot be made, or another process works there.
    """
    names = [".lock"] if not shared else [".lock", ".lock_{}_of_{}".format(*shared)]
    kinds = [fcntl.LOCK_SH if shared else fcntl.LOCK_EX, fcntl.LOCK_EX]
    with contextlib.ExitStack() as stack:
        for name, kind in zip(names, kinds, strict=False):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((folder / name).open("a+"))
            except OSError as error:
                raise MachineError(f"{folder}: cannot work there ({error}).") from error
            _lock(file, folder, kind)
        yield


def _lock(file: Any, folder: pathlib.Path, kind: int) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        raise MachineError(
            f"{folder}: another process works there (process {_owner(file)} holds "
            f"{file.name}): wait for it, stop it, or choose another --workdir."
        ) from error
    if kind == fcntl.LOCK_EX:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()


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
