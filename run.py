"""The door: flags, process information, dispatch on --mode.

python run.py                                  the embedded corpus, from audio to report
python run.py --config=configs/manifest.py --config.data.root=FOLDER
"""

import os
import runpy
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")

from absl import app, flags
from ml_collections import config_flags

MODES = ("all", "train", "evaluate", "features", "sweep", "tables", "check")
CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs")
DEFAULT_CONFIG = os.path.join(CONFIGS, "synthetic.py")


def main(argv: list[str]) -> int:
    """Runs one mode; returns the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing has begun: just end
    from metaperser_jax import allocator, application, processes

    allocator.keep_freed_memory()
    values = flags.FLAGS
    name = os.path.basename(config_argument(sys.argv)[0]).removesuffix(".py")
    exit_code = application.run(
        values.config,
        mode=values.mode,
        workdir=values.workdir or f"runs/{name}",
        force=values.force,
        require_accelerator=values.require_accelerator,
        shard=values.shard,
        dry_run=values.dry_run,
        multihost=values.multihost,
        multihost_timeout=values.multihost_timeout,
        unknown=argv[1:],
        command=" ".join(["python", *sys.argv]),
    )
    # stopped amid anything, threads may never come to an end, nor may other processes
    if exit_code > 128 or (exit_code and processes.joined()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    return exit_code


def define_flags() -> None:
    """Defines all flags; a config that is not named is read here already."""
    config_flags.DEFINE_config_file("config", DEFAULT_CONFIG, "What to run.")
    flags.DEFINE_enum("mode", "all", MODES, "What to do.")
    flags.DEFINE_string(
        "workdir", "", "Where results go; default runs/<name of the config>."
    )
    flags.DEFINE_bool("force", False, "Go on in a workdir that holds another config.")
    flags.DEFINE_string(
        "shard",
        "",
        "i/n: this process does the i-th of n parts: of the clips with "
        "--mode=features, of the folds with --mode=sweep.",
    )
    flags.DEFINE_bool("dry_run", False, "Say what it would take, and do nothing.")
    flags.DEFINE_enum(
        "multihost",
        "auto",
        ("auto", "on", "off"),
        "Join other processes, with --mode=features: auto where the environment tells "
        "of several (Slurm, Open MPI, TPU, JAX_NUM_PROCESSES).",
    )
    flags.DEFINE_integer(
        "multihost_timeout",
        300,
        "Seconds to wait for the other processes, and for one that has gone silent.",
        lower_bound=1,
    )
    flags.DEFINE_bool("require_accelerator", False, "Fail when there is no GPU or TPU.")


def config_argument(arguments: list[str]) -> tuple[str, list[str]]:
    """Returns the path that --config gives, and what follows a colon there."""
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            value = value if equals else (arguments[number + 1 :] or [""])[0]
            path, *choice = value.split(":", 1)
            return path, choice
    return DEFAULT_CONFIG, []


def parse_flags(arguments: list[str]) -> list[str]:
    """Returns what is no flag; a fault in a flag or config ends with exit code 2."""
    config = load_config(*config_argument(arguments))
    if faults := list(unknown_keys(config, arguments)):
        refuse("\n  ".join(["the config has no such key:", *faults]))
    try:
        define_flags()
        return flags.FLAGS(arguments)
    except (flags.Error, ValueError, TypeError) as error:
        refuse(str(error))


def refuse(message: str) -> NoReturn:
    """Ends with the message and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def load_config(path: str, choice: list[str]) -> Any:
    """Returns the config of a file; a fault is told with its line."""
    if not os.path.isfile(path):
        refuse(f"config {path!r}: no such file.{near(path, known_configs())}")
    try:
        names = runpy.run_path(path)
        config = names["get_config"](*choice) if "get_config" in names else None
    except SyntaxError as error:
        refuse(f"{error.filename}, line {error.lineno}: {error.msg}.")
    except Exception as error:  # a config file is code: it can raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f", line {f.lineno}" for f in frames if f.filename == path]
        text = str(error.args[0] if error.args else "").replace("\\n", " ")
        text = " ".join(text.replace("\\'", "'").split())
        refuse(f"{path}{(lines or [''])[-1]}: {type(error).__name__}: {text}")
    if not hasattr(config, "keys"):
        refuse(f"{path}: expected a function get_config() that returns a ConfigDict.")
    return config


def unknown_keys(config: Any, arguments: list[str]) -> Iterator[str]:
    """Yields a line for each --config.KEY that the config does not have."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.lstrip("-").removeprefix("no").partition(".")[0] != "config":
            continue
        section = config
        for key in flag.split(".")[1:]:
            known = list(section) if hasattr(section, "keys") else []
            if key not in known:
                yield f"{flag}: unknown key {key!r}.{near(key, known)}"
                break
            section = section[key]


def known_configs() -> list[str]:
    """Returns the paths of the configs that come along."""
    names = sorted(os.listdir(CONFIGS)) if os.path.isdir(CONFIGS) else []
    return [f"configs/{name}" for name in names if name.endswith(".py")]


def near(word: str, known: list[str]) -> str:
    """Returns ' Did you mean X?', or what there is."""
    from metaperser_jax.errors import did_you_mean

    return did_you_mean(word, known) or f" There are: {', '.join(known) or 'none'}."


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
