"""`python -m benchmark COMMAND`: evaluation of universal speech models.

Exit codes: 0 done, 2 the input is at fault, 3 the machine is at fault; 1 is a fault of
this program, and shows where.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from benchmark import cli_run, cli_score, cli_tasks, display
from benchmark.errors import InputError, MachineError

INTERRUPTED = 130


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark",
        description="Evaluates universal speech models on the Dynamic-SUPERB Phase-2 "
        "tasks and on tasks of your own; `demo` shows all of it.",
        epilog="Each command has its own --help.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (cli_tasks, cli_run, cli_score):
        module.add_parsers(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors are one line."""
    options = make_parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
    except (InputError, MachineError) as error:
        message = display.printable(str(error).replace("\n", "; "))
        print(f"error: {message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; start again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
