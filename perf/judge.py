"""How many verdicts and answers a second come from an endpoint of fixed latency."""

import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmark.client import Client, Endpoint
from benchmark.errors import Problems
from benchmark.judge import JudgeSettings, judge_answers
from benchmark.models import ModelSettings, make_model
from benchmark.models.base import encode_wav
from benchmark.prompts import JudgeItem
from benchmark.running import run_model
from benchmark.typing import Audio, Example
from perf import stub, tables

LATENCY = 0.05  # seconds, of the stub
CONCURRENCIES = 1, 4, 16, 64
SECONDS, REPEATS = 4.0, 3  # of each row, were the endpoint the only limit
QUICK_SECONDS = 0.5
RATE, LENGTH = 16_000, 5  # Hz and seconds of the recording that is sent
Ask = Callable[[int, int, pathlib.Path], int]  # how many, at once, place -> went wrong


class Row(NamedTuple):
    """What it took to ask so many questions, so many of them at once."""

    command: str
    concurrency: int
    count: int
    seconds: list[float]  # wall-clock time, a repeat each
    cpu: list[float]  # CPU seconds of our process, all threads, a repeat each
    wrong: int  # verdicts that are not the stub's, or answers that are missing


def measure(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, stub.serve(LATENCY) as endpoint:
        place = pathlib.Path(folder)
        recording = place / "recording.wav"
        recording.write_bytes(make_recording())
        asks = {
            "judge": functools.partial(judge, endpoint.url),
            "run": functools.partial(run, endpoint.url, recording),
        }
        rows = [
            measure_row(command, ask, concurrency, place, quick)._asdict()
            for command, ask in asks.items()
            for concurrency in CONCURRENCIES
        ]
    return {"rows": rows, "stub": endpoint.effort}


def measure_row(
    command: str, ask: Ask, concurrency: int, place: pathlib.Path, quick: bool
) -> Row:
    """Asks all questions anew in each repeat, after a few that do not count."""
    seconds, repeats = (QUICK_SECONDS, 1) if quick else (SECONDS, REPEATS)
    count = round(seconds * concurrency / LATENCY)
    files = [place / f"{command}-{concurrency}-{i}.jsonl" for i in range(repeats + 1)]
    ask(concurrency, concurrency, files.pop())
    taken = [timed(ask, count, concurrency, file) for file in files]
    wall, cpu, wrong = map(list, zip(*taken, strict=True))
    return Row(command, concurrency, count, wall, cpu, sum(wrong))


def timed(
    ask: Ask, count: int, concurrency: int, place: pathlib.Path
) -> tuple[float, float, int]:
    """Returns wall-clock and CPU seconds, and how many answers went wrong."""
    wall, cpu = time.perf_counter(), time.process_time()
    wrong = ask(count, concurrency, place)
    return time.perf_counter() - wall, time.process_time() - cpu, wrong


def judge(url: str, count: int, concurrency: int, cache: pathlib.Path) -> int:
    """Judges answers as `python -m benchmark judge` does, replies kept on the disk."""
    client = Client(Endpoint(url, "stub"))
    settings = JudgeSettings("stub", cache=cache, concurrency=concurrency)
    items = map(make_item, range(count))
    said = [verdict.correct for verdict in judge_answers(items, client, settings)]
    wanted = [number % 2 == 0 for number in range(count)]
    return sum(a is not b for a, b in zip(said, wanted, strict=True))


def make_item(number: int) -> JudgeItem:
    """Returns an answer that is right where the number is even."""
    word = stub.WRONG if number % 2 else stub.RIGHT
    question = "Which emotion is it? Choose from anger, happiness, neutral, sadness."
    response = f"{word}, for the speaker of clip {number} is loud and quick"
    return JudgeItem("Made", f"{number}.wav", question, ("anger",), response)


def run(
    url: str,
    recording: pathlib.Path,
    count: int,
    concurrency: int,
    predictions: pathlib.Path,
) -> int:
    """Asks a model as `python -m benchmark run` does, answers kept on the disk."""
    settings = ModelSettings(concurrency=concurrency)
    model = make_model(f"openai:{url}#stub", settings)
    audio = (Audio(str(recording)),)
    question = "Which emotion is it?"
    examples = (
        Example(f"{number}.wav", "Made", question, ("anger",), audio)
        for number in range(count)
    )
    counts = run_model(model, examples, predictions, Problems())
    return count - counts.answered


def make_recording() -> bytes:
    """Returns a WAV file of noise."""
    noise = np.random.default_rng(0).standard_normal(RATE * LENGTH) / 10
    return encode_wav(noise.astype(np.float32), RATE)


def wrong(found: dict[str, Any]) -> list[str]:
    """What was lost or misread is no throughput."""
    rows = [Row(**row) for row in found["rows"]]
    return [
        f"{row.command}, {row.concurrency} at once: {row.wrong:,} answers went wrong"
        for row in rows
        if row.wrong
    ]


def section(found: dict[str, Any]) -> list[str]:
    """Returns the page's section."""
    rows = [Row(**row) for row in found["rows"]]
    each = found["stub"]["cpu"] / found["stub"]["answers"]
    return [
        "## Judging and asking, beside an endpoint's latency",
        "",
        "A chat endpoint on the same machine, in a process of its own, answers each "
        f"question after {1e3 * LATENCY:.0f} ms. `judge`: verdicts by "
        "`benchmark.judge.judge_answers`, which is under `python -m benchmark judge`; "
        f"`run`: answers of an `openai:` model to a recording of {LENGTH} s, decoded "
        "and sent with each question. Each reply is on the disk before it counts, and "
        "the first question of each run goes alone. Ideal: questions at once, divided "
        "by the latency. CPU is that of our process, all threads. Threads of Python "
        "take turns, so that one process gives hardly more answers a second than 1 / "
        f"CPU. The endpoint, beside, took {tables.in_ms(each)} of CPU an answer. "
        "Medians.",
        "",
        *tables.table(
            ["command", "at once", "questions", "answers a second", "ideal",
             "of the ideal", "CPU an answer", "repeats"],
            [table_row(row) for row in rows],
        ),
    ]  # fmt: skip


def table_row(row: Row) -> list[str]:
    rate = row.count / statistics.median(row.seconds)
    ideal = row.concurrency / LATENCY
    return [
        f"`{row.command}`",
        str(row.concurrency),
        f"{row.count:,}",
        f"{rate:,.1f}",
        f"{ideal:,.0f}",
        f"{rate / ideal:.0%}",
        tables.in_ms(statistics.median(row.cpu) / row.count),
        str(len(row.seconds)),
    ]
