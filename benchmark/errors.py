"""One clear error for each fault, and the exit code that goes with it.

Each message says what was wrong, where (file, row or key), what was expected and
what to do. Rows that are skipped are kept in `Problems`, counted and written out.
"""

import collections
import json
import pathlib
from typing import Any, NamedTuple


class InputError(Exception):
    """The user's files, labels, configs or checkpoints are at fault: exit code 2."""

    exit_code = 2


class MachineError(Exception):
    """The machine is at fault (disk, device, network, lock): exit code 3."""

    exit_code = 3


class Problem(NamedTuple):
    """One thing that was skipped or is doubtful."""

    severity: str  # 'error': the row was skipped; 'warning': it was used all the same
    kind: str  # a short stable name, for example 'truncated_audio'
    where: str  # file, row or key
    message: str  # what was found, what was expected, what to do


class Problems:
    """Collects what was skipped or doubtful, to be counted, shown and written.

    With `strict` the first warning or error row raises `InputError` instead.
    """

    def __init__(self, strict: bool = False):
        self.strict = strict
        self.rows: list[Problem] = []

    def add(self, severity: str, kind: str, where: str, message: str) -> None:
        """Records one problem; raises `InputError` in strict mode."""
        problem = Problem(severity, kind, where, message)
        self.rows.append(problem)
        if self.strict:
            raise InputError(f"{where}: {message} (strict mode: {severity} {kind})")

    def error(self, kind: str, where: str, message: str) -> None:
        """Records a row that is skipped."""
        self.add("error", kind, where, message)

    def warning(self, kind: str, where: str, message: str) -> None:
        """Records a row that is doubtful and used all the same."""
        self.add("warning", kind, where, message)

    def counts(self) -> dict[str, int]:
        """Returns how often each 'severity kind' occurred, most frequent first."""
        counter = collections.Counter(f"{p.severity} {p.kind}" for p in self.rows)
        return dict(counter.most_common())

    def summary(self) -> str:
        """Returns one line a kind with its count and its first place; '' if none."""
        first: dict[str, Problem] = {}
        for problem in self.rows:
            first.setdefault(f"{problem.severity} {problem.kind}", problem)
        return "\n".join(
            f"  {count:5d} x {key}: {first[key].where}: {first[key].message}"
            for key, count in self.counts().items()
        )

    def write(self, path: pathlib.Path) -> None:
        """Writes all rows as JSON lines, a machine-readable copy."""
        lines = [
            json.dumps(problem._asdict(), ensure_ascii=False) for problem in self.rows
        ]
        # A file name that is no UTF-8 holds surrogates, which JSON writes as escapes.
        path.write_text(
            "".join(line + "\n" for line in lines),
            encoding="utf-8",
            errors="backslashreplace",
        )


def did_you_mean(word: str, known: Any) -> str:
    """Returns ' Did you mean X?' for the nearest known word, or ''."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
