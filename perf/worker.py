"""Measures one part in a process of its own: `python -m perf.worker PART OUT`.

The process is held to its cores before anything starts its threads.
"""

import argparse
import importlib
import json
import os
import pathlib
import sys
import time
from typing import NamedTuple


class Part(NamedTuple):
    """One topic of the page."""

    module: str
    function: str  # of the module: quick -> JSON
    section: str  # of the module: JSON -> lines
    cores: int
    wrong: str | None = None  # of the module: JSON -> lines on results that differ


PARTS = {
    "meta_step": Part("meta_step", "measure", "section", 1, "wrong"),
    "adaptation": Part("adaptation", "measure", "section", 1, "wrong"),
    "many": Part("adaptation", "measure_many", "section_many", 2),
    "growth": Part("growth", "measure", "section", 1),
    "meta_training": Part("meta_training", "measure", "section", 2, "wrong"),
    "roofline": Part("roofline", "measure", "section", 1),
    "judge": Part("judge", "measure", "section", 2, "wrong"),
    "demo": Part("demo", "measure", "section", 2),
}
OTHERS = 0.25  # cores in use before a part begins: more than that disturbs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    part = PARTS[options.part]
    hold_to(part.cores)
    from perf.measure import machine

    module = importlib.import_module(f"perf.{part.module}")
    others = cores_in_use()
    found = getattr(module, part.function)(options.quick)
    found["machine"] = machine() | load_of(others)
    options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def cores_in_use(seconds: float = 1.0) -> float:
    """Returns how many cores all processes use while this one waits."""
    before = cpu_times()
    time.sleep(seconds)
    passed = [b - a for a, b in zip(before, cpu_times(), strict=True)]
    idle = passed[3] + passed[4]  # idle, and waiting for disks
    return (os.cpu_count() or 1) * (1 - idle / max(sum(passed), 1))


def cpu_times() -> list[int]:
    """Returns the ticks of all cores in each state, see proc(5)."""
    first = pathlib.Path("/proc/stat").read_text().splitlines()[0]
    return [int(word) for word in first.split()[1:9]]


def load_of(others: float) -> dict[str, str]:
    found = {"load": f"{others:.1f} of {os.cpu_count()} cores in use by others"}
    return found | {"busy": "yes" if others > OTHERS else ""}


def hold_to(cores: int) -> None:
    """Holds the process to its last cores; one core is one thread."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(allowed[-cores:]))
    os.environ["JAX_PLATFORMS"] = "cpu"
    if cores == 1:
        os.environ["OMP_NUM_THREADS"] = "1"
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


if __name__ == "__main__":
    sys.exit(main())
