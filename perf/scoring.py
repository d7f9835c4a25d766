"""Scoring beside scikit-learn and numpy loops, and the `score` command at full size.

`python -m perf.scoring` writes docs/benchmark_speed_scoring.md. One core; the
competitors take turns, medians are compared, results must agree.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmark import confusions

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmark_speed_scoring.md"
EXAMPLES, LABELS, RESAMPLES = 1_000_000, 10, 1_000
REPEATS = 5
LOOPS = 5  # resamples that the loops are timed on, then scaled to RESAMPLES
PREDICTIONS = 100_000
LIMIT_SECONDS, LIMIT_BYTES, TARGET = 10.0, 1 << 30, 5.0


class Row(NamedTuple):
    """Seconds of one task, ours and the peer's."""

    task: str
    peer: str
    ours: float
    theirs: float


def main() -> int:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    truth, said = draw()
    rows = [*point_rows(truth, said), *bootstrap_rows(truth, said)]
    runs = [measure_command(kind) for kind in ("classification", "words")]
    PAGE.write_text(page(rows, runs), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    slow = [row for row in rows if row.theirs < TARGET * row.ours]
    heavy = [r for r in runs if r[1] > LIMIT_SECONDS or r[2] > LIMIT_BYTES]
    return 1 if slow or heavy else 0


def draw() -> tuple[np.ndarray, np.ndarray]:
    """Returns true and predicted labels of uneven frequency, 70 % of them equal."""
    rng = np.random.default_rng(0)
    shares = np.arange(1, LABELS + 1) / np.arange(1, LABELS + 1).sum()
    truth = rng.choice(LABELS, EXAMPLES, p=shares)
    other = rng.choice(LABELS, EXAMPLES)
    return truth, np.where(rng.random(EXAMPLES) < 0.7, truth, other)


def point_rows(truth: np.ndarray, said: np.ndarray) -> list[Row]:
    from sklearn import metrics

    def ours() -> float:
        return float(confusions.f1_of(confusion(truth, said)[None])[0])

    wanted = metrics.f1_score(truth, said, average="macro")
    np.testing.assert_allclose(ours(), wanted, rtol=1e-12)
    np.testing.assert_array_equal(
        confusion(truth, said)[:, :LABELS], metrics.confusion_matrix(truth, said)
    )
    sklearn = "scikit-learn"
    return [
        Row(
            "confusion matrix",
            sklearn,
            *in_turns(
                lambda: confusion(truth, said),
                lambda: metrics.confusion_matrix(truth, said),
            ),
        ),
        Row(
            "macro-F1",
            sklearn,
            *in_turns(ours, lambda: metrics.f1_score(truth, said, average="macro")),
        ),
    ]


def bootstrap_rows(truth: np.ndarray, said: np.ndarray) -> list[Row]:
    """Times the interval of macro-F1; the loops on a few resamples, then scaled."""
    from sklearn import metrics

    def ours() -> np.ndarray:
        cells = truth * (LABELS + 1) + said
        return confusions.macro_f1(cells, LABELS, (), RESAMPLES, 0)[1]

    def loop(one: Callable[[np.ndarray, np.ndarray], Any]) -> list[float]:
        rng = np.random.default_rng(0)
        found = []
        for _ in range(LOOPS):
            drawn = rng.integers(0, EXAMPLES, EXAMPLES)
            found.append(one(truth[drawn], said[drawn]))
        return found

    def by_sklearn(a: np.ndarray, b: np.ndarray) -> float:
        return metrics.f1_score(a, b, average="macro")

    def by_numpy(a: np.ndarray, b: np.ndarray) -> float:
        return float(confusions.f1_of(confusion(a, b)[None])[0])

    check_spread(ours(), truth, said)
    task = f"{RESAMPLES:,}-resample bootstrap of macro-F1"
    rows = []
    for name, one in (
        ("scikit-learn in a loop", by_sklearn),
        ("our macro-F1 in a numpy loop", by_numpy),
    ):
        seconds, theirs = in_turns(ours, lambda one=one: loop(one), repeats=3)
        rows.append(Row(task, name, seconds, theirs * RESAMPLES / LOOPS))
    return rows


def check_spread(drawn: np.ndarray, truth: np.ndarray, said: np.ndarray) -> None:
    """Compares our replicates with 40 of a loop: mean and spread must agree."""
    rng = np.random.default_rng(1)
    some = []
    for _ in range(40):
        rows = rng.integers(0, EXAMPLES, EXAMPLES)
        some.append(confusions.f1_of(confusion(truth[rows], said[rows])[None])[0])
    assert abs(np.mean(some) - drawn.mean()) < 4 * drawn.std() / 40**0.5
    assert 0.6 < np.std(some) / drawn.std() < 1.5


def confusion(truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    cells = np.bincount(truth * (LABELS + 1) + said, minlength=LABELS * (LABELS + 1))
    return cells.reshape(LABELS, LABELS + 1)


def in_turns(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int = REPEATS
) -> tuple[float, float]:
    """Returns the median seconds of both, run in turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for times, run in zip(seconds, (ours, theirs), strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def measure_command(kind: str) -> tuple[str, float, int]:
    """Runs `python -m benchmark score` on 100,000 predictions.

    Returns:
      What was scored, seconds and bytes at the highest; start of Python included.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch)
        write_inputs(place, kind)
        command = [
            *(sys.executable, "-m", "benchmark", "score", str(place / "said.jsonl")),
            *("--data", str(place / "data"), "--task_dir", str(place / "tasks")),
            *("--out", str(place / "out")),
        ]
        start = time.perf_counter()
        done = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(done.pid, 0)
        seconds = time.perf_counter() - start
        assert status == 0, f"score ended with {status}"
    return kind, seconds, usage.ru_maxrss * 1024


def write_inputs(place: pathlib.Path, kind: str) -> None:
    """Writes a task with 100,000 examples and talkative predictions."""
    rng = np.random.default_rng(0)
    labels = ["anger", "happiness", "neutral", "sadness", "fear"]
    closed = kind == "classification"
    name = f"Speed{kind.title()}_Made"
    record = {
        "name": name,
        "description": "made",
        "keywords": [],
        "metrics": ["llm_classification" if closed else "word_error_rate"],
        "path": "",
        "version": "",
        "labels": labels if closed else [],
    }
    (place / "tasks" / name).mkdir(parents=True)
    (place / "tasks" / name / "instance.json").write_text(json.dumps(record))
    (place / "data" / name).mkdir(parents=True)
    metadata, lines = {}, []
    words = [f"word{i}" for i in range(2_000)]
    says = ["The emotion is {}.", "{}", "I think the speaker shows {}.", "**{}**"]
    for row in range(PREDICTIONS):
        key = f"{row:06d}.wav"
        if closed:
            truth, said = (labels[i] for i in rng.integers(0, 5, 2))
            answer = says[row % 4].format(truth if row % 3 else said)
            answer += f" This is what I heard in clip {row}." * (row % 2)
        else:
            picked = [words[i] for i in rng.integers(0, 2_000, 12)]
            truth = " ".join(picked)
            answer = " ".join(picked[: 9 + row % 4])
        metadata[key] = {
            "instruction": f"Which emotion is it? Choose from {', '.join(labels)}.",
            "label": truth,
            "file": key,
        }
        lines.append(json.dumps({"instance": name, "id": key, "response": answer}))
    (place / "data" / name / "metadata.json").write_text(json.dumps(metadata))
    (place / "said.jsonl").write_text("\n".join(lines) + "\n")


def page(rows: list[Row], runs: list[tuple[str, float, int]]) -> str:
    lines = [
        "# Scoring, side by side",
        "",
        "Written by `python -m perf.scoring` on one core: medians of runs taken in "
        f"turns, {EXAMPLES:,} examples, {LABELS} labels. The loops are timed on "
        f"{LOOPS} resamples and scaled to {RESAMPLES:,}. Confusion matrices and "
        "macro-F1 are equal, the bootstraps agree in mean and spread.",
        "",
        "| Task | Ours | Peer | Peer's time | Faster by |",
        "|---|---|---|---|---|",
        *(
            f"| {row.task} | {shown(row.ours)} | {row.peer} | {shown(row.theirs)} "
            f"| {row.theirs / row.ours:,.0f} times |"
            for row in rows
        ),
        "",
        "A resample is a confusion matrix drawn from a multinomial distribution, which "
        "is the same in distribution and does not grow with the number of examples.",
        "",
        f"`python -m benchmark score` on {PREDICTIONS:,} predictions, start of Python "
        "included; half of the closed answers are sentences that no other has:",
        "",
        *(
            f"- {kind}: {seconds:.1f} s, {peak / 2**20:.0f} MiB at the highest"
            for kind, seconds, peak in runs
        ),
    ]
    return "\n".join(lines) + "\n"


def shown(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
