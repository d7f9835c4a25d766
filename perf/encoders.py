"""Encoders beside PyTorch's: speed, memory and compile time, written as a page.

`python -m perf.encoders [--models ...] [--threads 1 2] [--visits 5] [--page FILE]`.
All competitors of a group live at the same time, each in a process of its own with the
same processors, the same random weights and the same audio, and are visited in turns.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.encoders.config import estimate_operations
from metaperser_jax.encoders.pretrained import save_encoder
from metaperser_jax.encoders.published import PUBLISHED
from metaperser_jax.encoders.transformer import init_params
from perf.encoder_worker import Job
from perf.measure import machine

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "encoders_speed.md"
MODELS = (
    "facebook/wav2vec2-base",
    "microsoft/wavlm-base-plus",
    "facebook/wav2vec2-large-lv60",
)
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "critical",
}
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}  # of pooled states, relative


class Competitor(NamedTuple):
    """A row of a group."""

    name: str
    library: str
    dtype: str
    attention: str = "eager"
    keep_memory: bool = False


COMPETITORS = (
    Competitor("PyTorch eager", "torch", "float32"),
    Competitor("PyTorch sdpa", "torch", "float32", "sdpa"),
    Competitor("PyTorch sdpa, memory kept", "torch", "float32", "sdpa", True),
    Competitor("this library", "jax", "float32"),
    Competitor("this library, memory kept", "jax", "float32", keep_memory=True),
    Competitor("PyTorch eager", "torch", "bfloat16"),
    Competitor("PyTorch sdpa", "torch", "bfloat16", "sdpa"),
    Competitor("PyTorch sdpa, memory kept", "torch", "bfloat16", "sdpa", True),
    Competitor("this library", "jax", "bfloat16"),
    Competitor("this library, memory kept", "jax", "bfloat16", keep_memory=True),
)


class Row(NamedTuple):
    """What was measured of one competitor."""

    competitor: Competitor
    seconds: list[float]
    load_seconds: float
    compile_seconds: float
    cached_seconds: float
    memory_gb: float
    error: float  # of its pooled states against PyTorch's in float32


class Worker:
    """A competitor's process."""

    def __init__(self, job: Job):
        command = [sys.executable, "-m", "perf.encoder_worker"]
        self.process = subprocess.Popen(
            [*command, json.dumps(job._asdict())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )
        self.ready = self._answer()

    def ask(self, question: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            with contextlib.suppress(ValueError):
                return json.loads(line)
        raise RuntimeError(f"{self.process.args} ended before it answered")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def measure_group(
    folder: str, options: argparse.Namespace, threads: int, cache: str
) -> list[Row]:
    """Visits all competitors in turns."""
    workers: list[Worker] = []
    try:
        for competitor in COMPETITORS:
            _, library, dtype, attention, keep = competitor
            if "wavlm" in folder and attention == "sdpa":
                attention = "eager"  # transformers has no other for WavLM
            workers.append(
                Worker(
                    Job(
                        library,
                        folder,
                        dtype,
                        attention,
                        threads,
                        keep,
                        options.batch,
                        options.seconds,
                        tempfile.mkdtemp(dir=cache),
                    )
                )
            )
        times: list[list[float]] = [[] for _ in workers]
        for _ in range(options.visits):
            for worker, seconds in zip(workers, times, strict=True):
                seconds.append(worker.ask("call"))
        results = [np.asarray(worker.ask("result")) for worker in workers]
        wanted = results[0]
        errors = [
            float(np.abs(r - wanted).max() / np.abs(wanted).max()) for r in results
        ]
        memory = [worker.ask("memory") for worker in workers]
    finally:
        for worker in workers:
            worker.close()
    return [
        Row(competitor, seconds, **worker.ready, memory_gb=gigabytes, error=error)
        for competitor, worker, seconds, gigabytes, error in zip(
            COMPETITORS, workers, times, memory, errors, strict=True
        )
    ]


def table(rows: list[Row], audio_seconds: float, operations: float) -> Iterator[str]:
    """Yields the lines of one group's table; ratios are against PyTorch sdpa."""
    yield (
        "| dtype | competitor | seconds | x real time | GFLOP/s | ratio | "
        "compile, cached (s) | peak memory | difference |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        name, library, dtype, *_ = row.competitor
        median = statistics.median(row.seconds)
        rival = next(
            r for r in rows if r.competitor[:3] == ("PyTorch sdpa", "torch", dtype)
        )
        ratio = statistics.median(rival.seconds) / median
        compiled = f"{row.compile_seconds:.1f}, {row.cached_seconds:.1f}"
        cells = [
            dtype,
            name,
            f"{median:.3f}",
            f"{audio_seconds / median:.1f}",
            f"{operations / median / 1e9:.0f}",
            f"**{ratio:.2f}**" if library == "jax" else f"{ratio:.2f}",
            compiled if library == "jax" else "–",  # noqa: RUF001
            f"{row.memory_gb:.2f} GB",
            f"{row.error:.0e}",
        ]
        yield f"| {' | '.join(cells)} |"


INTRO = """# Encoders beside PyTorch

Written by `python -m perf.encoders`; the times are those of the machine that ran it
last. {batch} clips of {seconds:g} s, pooled hidden states of all layers, random
weights, medians of {visits} visits in turns. "Memory kept": the C library keeps freed
blocks (`metaperser_jax/allocator.py`), as `run.py` asks it to. Ratio: how many times as
fast as PyTorch sdpa of the same dtype (for WavLM transformers has eager attention
only). GFLOP/s counts the operations of the network; PyTorch's fastest float32 matrix
product in the same run reached {peak} with {threads} threads: nothing that computes in
float32 gets beyond it. Difference: the largest one of the pooled states against PyTorch
eager in float32, relative to the largest value.
"""


def float32_peak(threads: int) -> float:
    """GFLOP/s of PyTorch's float32 matrix product, the best of several."""
    program = (
        "import os, sys, time\n"
        f"os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{threads}])\n"
        "import torch\n"
        f"torch.set_num_threads({threads})\n"
        "a, b = torch.randn(2048, 1024), torch.randn(1024, 4096)\n"
        "best = 9e9\n"
        "for _ in range(20):\n"
        "    start = time.perf_counter(); a @ b\n"
        "    best = min(best, time.perf_counter() - start)\n"
        "print(2 * 2048 * 1024 * 4096 / best / 1e9)\n"
    )
    command = [sys.executable, "-c", program]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def page(
    groups: dict[tuple[str, int], list[Row]],
    options: argparse.Namespace,
    peaks: dict[int, float],
) -> str:
    """Returns the page."""
    lines = [
        INTRO.format(
            batch=options.batch,
            seconds=options.seconds,
            visits=options.visits,
            peak=" and ".join(f"{peak:.0f}" for peak in peaks.values()),
            threads=" and ".join(map(str, peaks)),
        )
    ]
    for (model, threads), rows in groups.items():
        samples = int(16_000 * options.seconds)
        operations = options.batch * estimate_operations(PUBLISHED[model], samples)
        lines += [f"## {model}, {threads} thread{'s' * (threads > 1)}", ""]
        lines += [*table(rows, options.batch * options.seconds, operations), ""]
    found = machine()
    names = [name for name in found if name not in ("processor", "busy")]
    about = ", ".join(f"{name} {found[name]}" for name in names)
    return "\n".join([*lines, f"{found['processor']}; {about}.", ""])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=list(PUBLISHED))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--page", type=pathlib.Path, default=PAGE)
    options = parser.parse_args(arguments)
    groups: dict[tuple[str, int], list[Row]] = {}
    peaks = {threads: float32_peak(threads) for threads in options.threads}
    with tempfile.TemporaryDirectory() as scratch:
        for model in options.models:
            folder = f"{scratch}/{model.replace('/', '-')}"
            config = PUBLISHED[model]
            save_encoder(folder, config, init_params(config, 0), random_weights=True)
            for threads in options.threads:
                rows = measure_group(folder, options, threads, scratch)
                groups[model, threads] = rows
                options.page.write_text(page(groups, options, peaks), encoding="utf-8")
                print(f"{model}, {threads} threads: done", flush=True)
    print(options.page.read_text(encoding="utf-8"))
    return tell_differences(groups)


def tell_differences(groups: dict[tuple[str, int], list[Row]]) -> int:
    """Returns 1, and says which, if results differ; NaN differs from everything."""
    wrong = [
        (group, row)
        for group, rows in groups.items()
        for row in rows
        if not row.error <= TOLERANCE[row.competitor.dtype]
    ]
    for group, row in wrong:
        print(f"{group}: {row.competitor}: {row.error:.1e}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
