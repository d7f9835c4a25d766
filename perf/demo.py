"""The end-to-end demonstrations, started as a user starts them."""

import pathlib
import statistics
import tempfile
from typing import Any, NamedTuple

from perf import tables
from perf.effort import Effort, effort_of

REPEATS = 2
COMPILED = "JAX_COMPILATION_CACHE_DIR"
FIRST, AGAIN = "nothing compiled before", "compilations kept"
BENCHMARK = "python -m benchmark demo --out={place}"
RUN = "python run.py --config=configs/synthetic.py --mode=all --workdir={place}"
QUICK_BENCHMARK = "python -m benchmark list --domain=Speech"
QUICK_RUN = "python run.py --config=configs/smoke.py --mode=features --workdir={place}"
TARGET_BENCHMARK = 60.0  # seconds, as the README says
TARGET_RUN = 240.0  # seconds, as configs/synthetic.py says of a first run


class Row(NamedTuple):
    """What a demonstration took, repeat by repeat."""

    command: str
    state: str
    efforts: list[dict[str, Any]]  # `Effort`


def measure(quick: bool) -> dict[str, Any]:
    """Runs the demonstrations; quickly, commands that take seconds."""
    benchmark, run = (QUICK_BENCHMARK, QUICK_RUN) if quick else (BENCHMARK, RUN)
    asked, first, again = [], [], []
    for _ in range(1 if quick else REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder)
            compiled = {COMPILED: str(place / "compiled")}
            asked.append(effort_of(words(benchmark, place / "benchmark")))
            # apart, for a workdir keeps corpus and features beside itself
            first.append(effort_of(words(run, place / "first" / "demo"), compiled))
            again.append(effort_of(words(run, place / "again" / "demo"), compiled))
    rows = [
        Row(shown(benchmark), "", as_json(asked)),
        Row(shown(run), FIRST, as_json(first)),
        Row(shown(run), AGAIN, as_json(again)),
    ]
    return {"rows": [row._asdict() for row in rows], "whole": not quick}


def words(command: str, place: pathlib.Path) -> list[str]:
    return [word.format(place=place) for word in command.split()]


def shown(command: str) -> str:
    """Returns the command without its folder."""
    return " ".join(word for word in command.split() if "{place}" not in word)


def as_json(efforts: list[Effort]) -> list[dict[str, Any]]:
    return [effort._asdict() for effort in efforts]


def section(found: dict[str, Any]) -> list[str]:
    """Returns the page's section."""
    rows = [Row(**row) for row in found["rows"]]
    lines = [
        "## The demonstrations, end to end",
        "",
        "Each in a process of its own, from the start of Python to the written report, "
        "in an empty folder; `make demo` starts `run.py` so. With compilations kept "
        "corpus, features and training are still done anew. CPU is that of all "
        "threads, memory that of the largest process. Medians, memory at the highest.",
        "",
        *tables.table(
            ["command", "", "wall time", "CPU time", "peak memory", "repeats"],
            [table_row(row) for row in rows],
        ),
    ]
    if found["whole"]:
        benchmark, run = (seconds(row) for row in rows[:2])
        lines += [
            "",
            target("the benchmark's", benchmark, TARGET_BENCHMARK),
            target("the first `make demo`", run, TARGET_RUN),
        ]
    return lines


def table_row(row: Row) -> list[str]:
    efforts = [Effort(**effort) for effort in row.efforts]
    return [
        f"`{row.command}`",
        row.state,
        f"{seconds(row):.1f} s",
        f"{statistics.median(effort.cpu for effort in efforts):.1f} s",
        f"{max(effort.peak_bytes for effort in efforts) / 1e9:.2f} GB",
        str(len(efforts)),
    ]


def seconds(row: Row) -> float:
    return statistics.median(effort["seconds"] for effort in row.efforts)


def target(what: str, took: float, most: float) -> str:
    wanted = f"{what} within {most:.0f} s on two cores"
    return tables.verdict(wanted, f"{took:.1f} s", took <= most)
