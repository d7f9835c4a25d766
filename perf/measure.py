"""Runs the competitors in turns, compares their results and writes the page."""

import importlib.util
import os
import pathlib
import platform
import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from metaperser_jax import trees
from perf import adaptation, workload

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "performance.md"
ONE_REPEATS, ALL_REPEATS = 100, 5
MANY = 1000
TARGET = 5e-3  # seconds for one listener, warm, on one core
TOLERANCE = 1e-5


class Row(NamedTuple):
    """One task: seconds of each competitor, None where it is not installed."""

    task: str
    ours: list[float]
    torch: list[float] | None
    error: float | None  # relative difference of the results


def main() -> int:
    rows = [measure_one(), measure_all()]
    PAGE.write_text(page(rows, machine()), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return tell_differences(rows)


def tell_differences(rows: list[Row]) -> int:
    """Returns 1, and says which, if results differ; NaN differs from everything."""
    wrong = [r for r in rows if r.error is not None and not r.error <= TOLERANCE]
    for row in wrong:
        print(f"results differ: {row.task}: {row.error:.1e}", file=sys.stderr)
    return 1 if wrong else 0


def peers() -> Any | None:
    """Returns the PyTorch side, None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    from perf import torch_adaptation

    torch.set_num_threads(1)
    return torch_adaptation


def measure_one() -> Row:
    listeners, torch_side = workload.make_listeners(1), peers()
    ours = adaptation.one_listener(listeners)
    theirs = torch_side and torch_side.one_listener(shared_params(), listeners)

    def error(found: Any, wanted: Any) -> float:
        found, paths = trees.flatten(found), sorted(wanted)
        return workload.relative_error(
            np.concatenate([np.ravel(found[path]) for path in paths]),
            np.concatenate([wanted[path].numpy().ravel() for path in paths]),
        )

    return compare("one new listener", ours, theirs, ONE_REPEATS, error)


def measure_all() -> Row:
    listeners, torch_side = workload.make_listeners(MANY), peers()
    ours = adaptation.all_listeners(listeners)
    theirs = torch_side and torch_side.all_listeners(shared_params(), listeners)
    task = f"{MANY:,} listeners, each with predictions for {workload.QUERY} clips"
    return compare(task, ours, theirs, ALL_REPEATS, workload.relative_error)


def compare(
    task: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any] | None,
    repeats: int,
    error: Callable[[Any, Any], float],
) -> Row:
    """Warms both up, compares their results and takes their times in turns."""
    found = ours()
    if theirs is None:
        (seconds,) = workload.alternate([ours], repeats)
        return Row(task, seconds, None, None)
    difference = error(found, theirs())
    mine, other = workload.alternate([ours, theirs], repeats)
    return Row(task, mine, other, difference)


def shared_params() -> dict[str, np.ndarray]:
    flat = trees.flatten(adaptation.make_meta_params().params)
    return {path: np.asarray(value) for path, value in flat.items()}


def machine() -> dict[str, str]:
    """Returns processor, load and versions."""
    found = {"processor": platform.processor() or platform.machine()}
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [
            line.split(":", 1)[1].strip() for line in lines if "model name" in line
        ]
        found["processor"] = (names or [found["processor"]])[0]
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    found["load"] = f"{load:.1f} on {cores} cores"
    if load > cores:
        found["busy"] = "yes"
    found["python"], found["jax"] = platform.python_version(), jax.__version__
    if "torch" in sys.modules:
        found["torch"] = sys.modules["torch"].__version__
    return found


INTRO = """# Performance

Written by `make perf`; the times are those of the machine that ran it last.

Adaptation on one core: `meta_adapt` with K = {support} labelled clips, {steps} steps on
all tensors of the head ({width} features, {hidden} hidden units, {classes} classes),
float32, compiled and warm. {many:,} listeners are one compiled call, `jax.lax.map` over
chunks of {chunk}; in PyTorch they are a loop over the same function, written by hand
with autograd. The two take turns, and their results are compared.
"""


def page(rows: list[Row], found: dict[str, str]) -> str:
    """Returns docs/performance.md."""
    intro = INTRO.format(
        support=workload.SUPPORT,
        steps=workload.STEPS,
        width=workload.WIDTH,
        hidden=workload.HIDDEN,
        classes=workload.CLASSES,
        many=MANY,
        chunk=adaptation.CHUNK,
    )
    names = [name for name in found if name not in ("processor", "load", "busy")]
    lines = [
        intro,
        "| task | this library | PyTorch | ratio | repeats | largest difference |",
        "|---|---|---|---|---|---|",
        *(table_row(row) for row in rows),
        "",
        verdict(rows[0]),
        "",
        f"Medians of wall-clock time; differences are relative to the largest value. "
        f"{found['processor']}, one thread; load average {found['load']}; "
        f"{', '.join(f'{name} {found[name]}' for name in names)}.",
    ]
    if found.get("busy"):
        lines += ["", "Other programs ran beside: times are upper bounds."]
    if rows[0].torch is None:
        lines += ["", "PyTorch was not installed: there is nothing to compare with."]
    return "\n".join(lines) + "\n"


def table_row(row: Row) -> str:
    ours, other = statistics.median(row.ours), "–"  # noqa: RUF001
    ratio = difference = other
    if row.torch is not None:
        theirs = statistics.median(row.torch)
        other, ratio = in_ms(theirs), f"{theirs / ours:.2f}"
        difference = f"{row.error:.0e}"
    cells = [row.task, in_ms(ours), other, ratio, str(len(row.ours)), difference]
    return f"| {' | '.join(cells)} |"


def verdict(row: Row) -> str:
    median = statistics.median(row.ours)
    result = "met" if median < TARGET else "missed"
    return (
        f"The target, one listener in less than {in_ms(TARGET)}, is {result}: the "
        f"median is {in_ms(median)}, the fastest {in_ms(min(row.ours))}. A ratio above "
        "1 means that PyTorch takes longer."
    )


def in_ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f} ms"
