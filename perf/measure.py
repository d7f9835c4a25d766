"""Measures the parts in turn, each in its own process, and writes the page."""

import argparse
import importlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import jax

from metaperser_jax.evaluation import drawing
from perf import growth, tables
from perf.worker import PARTS

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
KEPT = ROOT / "runs" / "perf"  # what was measured, part by part
Found = dict[str, dict[str, Any]]  # part -> what its `measure` gave


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", help=f"of {', '.join(PARTS)}; the others stay as kept"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small grid, on a page that is shown"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {[*PARTS]}")
    parts = options.parts or list(PARTS)
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            return run(parts, pathlib.Path(folder), quick=True)
    return run(parts, KEPT, quick=False)


def run(parts: list[str], folder: pathlib.Path, quick: bool) -> int:
    """Measures, shows the page and (but quickly) writes it; 1 if results differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        print(f"measuring {part} ...", file=sys.stderr, flush=True)
        measure_part(part, folder / f"{part}.json", quick)
    found = read(folder)
    text = page(found)
    if not quick:
        PAGE.write_text(text, encoding="utf-8")
        if "growth" in found:
            draw(found["growth"], ROOT / growth.PICTURE)
    print(text)
    return tell_differences(found)


def measure_part(part: str, out: pathlib.Path, quick: bool) -> None:
    command = [sys.executable, "-m", "perf.worker", part, str(out)]
    subprocess.run([*command, *["--quick"] * quick], check=True, cwd=ROOT)


def read(folder: pathlib.Path) -> Found:
    """Returns what is kept, in the order of the page."""
    paths = {part: folder / f"{part}.json" for part in PARTS}
    return {
        part: json.loads(path.read_text(encoding="utf-8"))
        for part, path in paths.items()
        if path.exists()
    }


def draw(found: dict[str, Any], path: pathlib.Path) -> None:
    png = drawing.to_png(growth.draw(growth.curves_of(found)))
    path.write_bytes(png)


def tell_differences(found: Found) -> int:
    """Returns 1, and says which, if results differ."""
    said = [
        line
        for part, measured in found.items()
        if (name := PARTS[part].wrong)
        for line in function(part, name)(measured)
    ]
    for line in said:
        print(f"results differ: {line}", file=sys.stderr)
    return 1 if said else 0


def function(part: str, name: str) -> Callable[[dict[str, Any]], list[str]]:
    return getattr(importlib.import_module(f"perf.{PARTS[part].module}"), name)


INTRO = """# Performance

Written by `make perf`; the times are those of the machine that ran it last. Each part
runs in a process of its own, alone. Competitors get the same arrays, take turns, and
their results are compared before their times; times are medians of wall-clock time.
A ratio above 1 means that the other takes longer. What memory the steps need:
[memory.md](memory.md). How the inner loop is computed:
[inner_loop.md](inner_loop.md).
"""
ELSEWHERE = {  # topic -> its page, and the command that writes it
    "encoders": ("encoders_speed.md", "python -m perf.encoders"),
    "extraction": ("extraction_speed.md", "python -m perf.extraction FOLDER"),
    "error rates": ("benchmark_speed.md", "python -m perf.error_rates"),
    "scoring": ("benchmark_speed_scoring.md", "python -m perf.scoring"),
}


def page(found: Found) -> str:
    """Returns docs/performance.md."""
    lines = [INTRO]
    for part, measured in found.items():
        lines += function(part, PARTS[part].section)(measured)
        lines += ["", measured_on(measured["machine"], PARTS[part].cores), ""]
    if absent := [part for part in PARTS if part not in found]:
        lines += [f"Not measured: {', '.join(absent)}.", ""]
    return "\n".join([*lines, *elsewhere()]) + "\n"


def elsewhere() -> list[str]:
    """Returns the section on topics that have pages of their own."""
    return [
        "## On pages of their own",
        "",
        "`make perf` writes these too; FOLDER holds recordings.",
        "",
        *tables.table(
            ["topic", "page", "written by"],
            [
                [topic, f"[{page}]({page})", f"`{command}`"]
                for topic, (page, command) in ELSEWHERE.items()
            ],
        ),
    ]


def measured_on(found: dict[str, str], cores: int) -> str:
    """Returns the sentence on machine, load and versions."""
    names = [name for name in found if name not in ("processor", "load", "busy")]
    threads = "one thread" if cores == 1 else f"{cores} cores"
    text = (
        f"{found['processor']}, {threads}; before, {found['load']}; "
        f"{', '.join(f'{name} {found[name]}' for name in names)}."
    )
    if found.get("busy"):
        text += " Other programs ran beside: times are upper bounds."
    return text


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
