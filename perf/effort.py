"""Time and memory of a command, as a user would start it.

`python -m perf.effort COMMAND ...` runs it and prints its effort as JSON. That process
stands between because a child is charged with the memory of the process that starts
it: this one imports next to nothing.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Effort(NamedTuple):
    """What a command took, its start included."""

    seconds: float  # wall-clock time
    cpu: float  # seconds of all its threads, and of processes that it waited for
    peak_bytes: int  # resident memory at the highest, of its largest process


def effort_of(
    command: Sequence[str], variables: Mapping[str, str] | None = None
) -> Effort:
    """Runs a command in the repository's root, in a process of its own.

    Args:
      command: words; 'python' is the running one.
      variables: of the environment, beside what is set already.

    Raises:
      RuntimeError: the command failed; with the end of what it printed.
    """
    words = [sys.executable if word == "python" else word for word in command]
    done = subprocess.run(
        [sys.executable, "-m", "perf.effort", *words],
        env={**os.environ, **(variables or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return Effort(**json.loads(done.stdout))


def main(command: list[str]) -> int:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    cpu = usage.ru_utime + usage.ru_stime
    print(json.dumps(Effort(seconds, cpu, usage.ru_maxrss * 1024)._asdict()))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
