"""Scoring beside scikit-learn and numpy loops, and the `score` command at full size.

`python -m perf.scoring` writes docs/benchmark_speed_scoring.md. One core; the
competitors take turns, medians are compared, results must agree.
"""

import functools
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

import jax
import numpy as np

from benchmark import confusions, intervals, metrics

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmark_speed_scoring.md"
EXAMPLES, LABELS, RESAMPLES = 1_000_000, 10, 1_000
REPEATS = 5
KINDS = "classification", "words"
MULTI_LABEL = metrics.macro_f1(metrics.DecisionRule("sigmoid"), absent="fixed")
LOOPS = 5  # resamples that the loops are timed on, then scaled to RESAMPLES
SLOW_LOOPS = 1  # the same where one takes seconds
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
    # first, for a child is charged with the memory of the process that starts it
    runs = [measure_command(kind) for _ in range(REPEATS) for kind in KINDS]
    truth, said = draw()
    rows = [*point_rows(truth, said), *bootstrap_rows(truth, said)]
    rows += multi_label_rows(*draw_sets())
    PAGE.write_text(page(rows, runs), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    slow = [row for row in rows if row.theirs < TARGET * row.ours]
    heavy = [kind for kind in KINDS if is_heavy(of_kind(runs, kind))]
    return 1 if slow or heavy else 0


def of_kind(runs: list[tuple[str, float, int]], kind: str) -> tuple[float, float, int]:
    """Returns the median and the least seconds, and the most bytes."""
    seconds = [run[1] for run in runs if run[0] == kind]
    peak = max(run[2] for run in runs if run[0] == kind)
    return statistics.median(seconds), min(seconds), peak


def is_heavy(summary: tuple[float, float, int]) -> bool:
    return summary[0] > LIMIT_SECONDS or summary[2] > LIMIT_BYTES


def draw() -> tuple[np.ndarray, np.ndarray]:
    """Returns true and predicted labels of uneven frequency, 70 % of them equal."""
    rng = np.random.default_rng(0)
    shares = np.arange(1, LABELS + 1) / np.arange(1, LABELS + 1).sum()
    truth = rng.choice(LABELS, EXAMPLES, p=shares)
    other = rng.choice(LABELS, EXAMPLES)
    return truth, np.where(rng.random(EXAMPLES) < 0.7, truth, other)


def draw_sets() -> tuple[np.ndarray, np.ndarray]:
    """Returns true and predicted sets of labels, of which a tenth of cells differ."""
    rng = np.random.default_rng(0)
    truth = rng.random((EXAMPLES, LABELS)) < np.linspace(0.05, 0.4, LABELS)
    return truth, truth ^ (rng.random((EXAMPLES, LABELS)) < 0.1)


def point_rows(truth: np.ndarray, said: np.ndarray) -> list[Row]:
    from sklearn import metrics as peer

    def ours() -> float:
        return float(confusions.f1_of(confusion(truth, said)[None])[0])

    wanted = peer.f1_score(truth, said, average="macro")
    np.testing.assert_allclose(ours(), wanted, rtol=1e-12)
    np.testing.assert_array_equal(
        confusion(truth, said)[:, :LABELS], peer.confusion_matrix(truth, said)
    )
    sklearn = "scikit-learn"
    return [
        Row(
            "confusion matrix",
            sklearn,
            *in_turns(
                lambda: confusion(truth, said),
                lambda: peer.confusion_matrix(truth, said),
            ),
        ),
        Row(
            "macro-F1",
            sklearn,
            *in_turns(ours, lambda: peer.f1_score(truth, said, average="macro")),
        ),
    ]


def bootstrap_rows(truth: np.ndarray, said: np.ndarray) -> list[Row]:
    """Times the interval of macro-F1; the loops on a few resamples, then scaled."""
    from sklearn import metrics as peer

    def ours() -> np.ndarray:
        cells = truth * (LABELS + 1) + said
        return confusions.macro_f1(cells, LABELS, (), RESAMPLES, 0)[1]

    def by_sklearn(a: np.ndarray, b: np.ndarray) -> float:
        return peer.f1_score(a, b, average="macro")

    def by_numpy(a: np.ndarray, b: np.ndarray) -> float:
        return float(confusions.f1_of(confusion(a, b)[None])[0])

    check_spread(ours(), truth, said, by_numpy)
    task = f"{RESAMPLES:,}-resample bootstrap of macro-F1"
    rows = []
    for name, one in (
        ("scikit-learn in a loop", by_sklearn),
        ("our macro-F1 in a numpy loop", by_numpy),
    ):
        peers = functools.partial(loop, one, truth, said, LOOPS)
        seconds, theirs = in_turns(ours, peers, repeats=3)
        rows.append(Row(task, name, seconds, theirs * RESAMPLES / LOOPS))
    return rows


def multi_label_rows(truth: np.ndarray, said: np.ndarray) -> list[Row]:
    """Times macro-F1 of sets of labels and its interval, from the same statistics."""
    from sklearn import metrics as peer

    arrays = [jax.device_put(x.astype(np.float32)) for x in (said, truth)]
    arrays.append(jax.device_put(np.ones_like(truth)))

    def ours() -> float:
        return float(metrics.evaluate(MULTI_LABEL, *arrays))

    def drawn() -> np.ndarray:
        state = jax.jit(MULTI_LABEL.update)(*arrays)
        units = np.concatenate([np.asarray(x) for x in state[:3]], axis=1)
        return f1_of_sets(intervals.resampled_sums(units.astype(float), RESAMPLES))

    def by_sklearn(a: np.ndarray, b: np.ndarray) -> float:
        return float(peer.f1_score(a, b, average="macro"))

    np.testing.assert_allclose(ours(), by_sklearn(truth, said), rtol=1e-5)
    np.testing.assert_allclose(by_numpy_sets(truth, said), by_sklearn(truth, said))
    check_spread(drawn(), truth, said, by_numpy_sets)
    rows = [
        Row(
            "macro-F1, several labels each",
            "scikit-learn",
            *in_turns(ours, lambda: by_sklearn(truth, said)),
        )
    ]
    task = f"{RESAMPLES:,}-resample bootstrap of it"
    for name, one, number in (
        ("scikit-learn in a loop", by_sklearn, SLOW_LOOPS),
        ("numpy in a loop", by_numpy_sets, LOOPS),
    ):
        peers = functools.partial(loop, one, truth, said, number)
        seconds, theirs = in_turns(drawn, peers, repeats=3)
        rows.append(Row(task, name, seconds, theirs * RESAMPLES / number))
    return rows


def by_numpy_sets(truth: np.ndarray, said: np.ndarray) -> float:
    hits = (truth & said).sum(axis=0)
    sums = np.concatenate([hits, said.sum(axis=0) - hits, truth.sum(axis=0) - hits])
    return float(f1_of_sets(sums))


def f1_of_sets(sums: np.ndarray) -> np.ndarray:
    """Returns macro-F1 of summed hits, false and missed labels, [..., 3 * labels]."""
    hits, false, missed = np.split(sums, 3, axis=-1)
    return np.mean(2 * hits / (2 * hits + false + missed), axis=-1)


def loop(
    one: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    said: np.ndarray,
    number: int,
) -> list[float]:
    """Returns the values of as many bootstrap samples, drawn and scored one by one."""
    rng = np.random.default_rng(0)
    samples = (rng.integers(0, EXAMPLES, EXAMPLES) for _ in range(number))
    return [one(truth[rows], said[rows]) for rows in samples]


def check_spread(
    drawn: np.ndarray,
    truth: np.ndarray,
    said: np.ndarray,
    one: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    """Compares our replicates with 40 of a loop: mean and spread must agree."""
    some = loop(one, truth, said, 40)
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
        f"{LOOPS} resamples, scikit-learn's over several labels on {SLOW_LOOPS}, and "
        f"scaled to {RESAMPLES:,}. Confusion matrices and macro-F1 are equal, the "
        "bootstraps agree in mean and spread.",
        "",
        "| Task | Ours | Peer | Peer's time | Faster by |",
        "|---|---|---|---|---|",
        *(
            f"| {row.task} | {shown(row.ours)} | {row.peer} | {shown(row.theirs)} "
            f"| {row.theirs / row.ours:,.0f} times |"
            for row in rows
        ),
        "",
        machine(),
        "",
        "A resample is a confusion matrix drawn from a multinomial distribution, which "
        "is the same in distribution and does not grow with the number of examples. "
        "With several labels to an example the kinds of examples, by hits, false and "
        "missed labels, are drawn in the same way: many, yet fewer than examples.",
        "",
        f"`python -m benchmark score` on {PREDICTIONS:,} predictions, start of Python "
        "included; half of the closed answers are sentences that no other has:",
        "",
        *(command_line(kind, *of_kind(runs, kind)) for kind in KINDS),
    ]
    return "\n".join(lines) + "\n"


def command_line(kind: str, median: float, least: float, peak: int) -> str:
    return (
        f"- {kind}: {median:.1f} s (median of {REPEATS}; the fastest {least:.1f} s), "
        f"{peak / 2**20:.0f} MiB at the highest"
    )


def machine() -> str:
    load = os.getloadavg()[0]
    busy = " Others ran beside: times are upper bounds." if load > 1.5 else ""
    return f"Load average {load:.1f} on {os.cpu_count()} cores.{busy}"


def shown(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
