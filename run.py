"""The door: flags, process information, dispatch on --mode.

python run.py                                  the embedded corpus, from audio to report
python run.py --config=configs/manifest.py --config.data.root=FOLDER
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")

from absl import app, flags
from ml_collections import config_flags

MODES = ("all", "train", "evaluate", "features", "check")

config_flags.DEFINE_config_file("config", "configs/synthetic.py", "What to run.")
flags.DEFINE_enum("mode", "all", MODES, "What to do.")
flags.DEFINE_string(
    "workdir", "", "Where results go; default runs/<name of the config>."
)
flags.DEFINE_bool("force", False, "Go on in a workdir that holds another config.")
flags.DEFINE_bool("require_accelerator", False, "Fail when there is no GPU or TPU.")


def main(argv: list[str]) -> int:
    """Runs one mode; returns the exit code."""
    from metaperser_jax import application

    values = flags.FLAGS
    return application.run(
        values.config,
        mode=values.mode,
        workdir=values.workdir or f"runs/{config_name(sys.argv)}",
        force=values.force,
        require_accelerator=values.require_accelerator,
        unknown=argv[1:],
        command=" ".join(["python", *sys.argv]),
    )


def config_name(arguments: list[str]) -> str:
    """Returns the name of the config file among the arguments."""
    for number, argument in enumerate(arguments):
        name, _, value = argument.lstrip("-").partition("=")
        if name == "config":
            path = value or (arguments[number + 1 : number + 2] or [""])[0]
            return os.path.basename(path).split(":")[0].removesuffix(".py")
    return "synthetic"


def parse_flags(arguments: list[str]) -> list[str]:
    """Returns what is no flag; a fault in a flag or config ends with exit code 2."""
    try:
        return flags.FLAGS(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
