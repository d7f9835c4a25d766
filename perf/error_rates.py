"""Corpus error rates beside jiwer and rapidfuzz.

`python -m perf.error_rates` writes docs/benchmark_speed.md. One core; the competitors
take turns, medians are compared, and their results must agree.
"""

import importlib.metadata
import os
import pathlib
import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from perf.workload import alternate

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmark_speed.md"
PAIRS, REPEATS, TOLERANCE = 100_000, 3, 1e-12
WORDS, LONGEST = 18, 60  # of a sentence: median and largest number
SUBSTITUTED, DELETED, INSERTED = 0.06, 0.02, 0.02  # shares of words, as in speech


class Texts(NamedTuple):
    """Sentences with capitals and full stops, and what was heard."""

    references: list[str]
    hypotheses: list[str]


class Row(NamedTuple):
    """Seconds of one task, ours and the peer's, and how far the results differ."""

    task: str
    peer: str
    ours: list[float]
    theirs: list[float]
    difference: float


def main() -> int:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["JAX_PLATFORMS"] = "cpu"
    texts = make_texts(PAIRS)
    rows = [raw_words(texts), strict_words(texts), characters(texts), arrays(texts)]
    PAGE.write_text(page(rows), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    wrong = [row.task for row in rows if not row.difference <= TOLERANCE]
    if wrong:
        print(f"results differ: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def make_texts(number: int) -> Texts:
    """Draws sentences of frequent and rare words, and their errors."""
    rng = np.random.default_rng(0)
    letters = np.array(list("eeeettaaooiinnsshhrrdlucmfwygpbvk"))
    vocabulary = np.array(
        ["".join(rng.choice(letters, rng.integers(1, 10))) for _ in range(30_000)]
    )
    lengths = np.clip(rng.lognormal(np.log(WORDS), 0.6, number), 1, LONGEST).astype(int)
    sides: tuple[list[str], list[str]] = ([], [])
    for length in lengths:
        said = vocabulary[(rng.zipf(1.2, length) - 1) % len(vocabulary)]
        heard = misheard(said, vocabulary, rng)
        for side, words in zip(sides, (said, heard), strict=True):
            side.append(" ".join(words).capitalize() + ".")
    return Texts(*sides)


def misheard(
    said: np.ndarray, vocabulary: np.ndarray, rng: np.random.Generator
) -> list[str]:
    heard: list[str] = []
    for word, draw in zip(said, rng.random(len(said)), strict=True):
        other = vocabulary[int(rng.integers(len(vocabulary)))]
        if draw < SUBSTITUTED:
            heard.append(other)
        elif draw < SUBSTITUTED + INSERTED:
            heard += [word, other]
        elif draw < 1 - DELETED:
            heard.append(word)
    return heard


def raw_words(texts: Texts) -> Row:
    import jiwer

    from benchmark.metrics.sequence import error_rate, error_statistics, words

    def ours() -> float:
        return float(error_rate(error_statistics(*texts, tokenise=words).sum(axis=0)))

    task = "word error rate, words cut at spaces"
    return compare(task, "`jiwer.wer`", ours, lambda: jiwer.wer(*texts))


def strict_words(texts: Texts) -> Row:
    import jiwer

    from benchmark.metrics.text import METRICS, score

    steps = [
        jiwer.ToLowerCase(),
        jiwer.RemovePunctuation(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]

    def theirs() -> float:
        transform = jiwer.Compose(steps)
        return jiwer.wer(
            *texts, reference_transform=transform, hypothesis_transform=transform
        )

    def ours() -> float:
        return score(METRICS["word_error_rate"], *texts).value

    task = "`word_error_rate`, strict, with `english_v1`"
    return compare(task, "`jiwer.wer`, lower case, no punctuation", ours, theirs)


def characters(texts: Texts) -> Row:
    import jiwer

    from benchmark.metrics import sequence

    def ours() -> float:
        rows = sequence.error_statistics(*texts, tokenise=sequence.characters)
        return float(sequence.error_rate(rows.sum(axis=0)))

    task = "character error rate, every character"
    return compare(task, "`jiwer.cer`", ours, lambda: jiwer.cer(*texts))


def arrays(texts: Texts) -> Row:
    """Token ids with masks, compiled, beside a loop of rapidfuzz over lists."""
    from rapidfuzz.distance import Levenshtein

    from benchmark.metrics.edit_distance import edit_distance

    sides = [[text.split() for text in side[: PAIRS // 10]] for side in texts]
    known: dict[str, int] = {}
    inputs, masks = [], []
    for side in sides:
        ids = np.zeros((len(side), max(map(len, side))), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, words in enumerate(side):
            ids[row, : len(words)] = [known.setdefault(w, len(known)) for w in words]
            mask[row, : len(words)] = True
        inputs.append(ids)
        masks.append(mask)

    def ours() -> float:
        counts = edit_distance(*inputs, *masks)
        return float(sum(np.asarray(edits).sum() for edits in counts[:3]))

    def theirs() -> float:
        pairs = zip(*sides, strict=True)
        return float(sum(len(Levenshtein.editops(a, b)) for a, b in pairs))

    task = f"`edit_distance` of masked arrays, {len(sides[0]):,} pairs"
    return compare(task, "`rapidfuzz` editops, loop", ours, theirs)


def compare(
    task: str, peer: str, ours: Callable[[], float], theirs: Callable[[], float]
) -> Row:
    """Warms both up, compares their results and takes their times in turns."""
    found, wanted = ours(), theirs()
    mine, other = alternate([ours, theirs], REPEATS)
    return Row(task, peer, mine, other, abs(found - wanted) / wanted)


INTRO = """# Error rates beside jiwer

Written by `python -m perf.error_rates`; the times are those of the machine that ran it
last. {pairs:,} pairs of sentences, {words:.1f} words on average, with capitals and full
stops; {rate:.1%} of the words are wrong. One core, medians of {repeats} visits in
turns, both from the same lists of texts. Ratio: how many times as fast as the peer.

The text path gives rapidfuzz whole lists of tokens in blocks and gets one number a pair
back, which holds substitutions, deletions and insertions (`sequence.count_edits`);
jiwer, on rapidfuzz as well, lists every edit of every pair. The compiled version for
token arrays is there for what already lives in arrays and is evaluated within a jitted
program; for texts the text path is the faster one.
"""


def page(rows: list[Row]) -> str:
    import jiwer

    from perf.measure import machine

    texts = make_texts(PAIRS // 10)
    words = float(np.mean([len(text.split()) for text in texts.references]))
    rate = jiwer.wer(*texts)
    found = machine()
    names = ("jiwer", "rapidfuzz", "jax")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    lines = [
        INTRO.format(pairs=PAIRS, words=words, rate=rate, repeats=REPEATS),
        "| task | peer | ours | peer's | ratio | relative difference |",
        "|---|---|---|---|---|---|",
        *(line(row) for row in rows),
        "",
        f"{found['processor']}, one core; load {found['load']}; python "
        f"{found['python']}, {', '.join(versions)}.",
    ]
    if found.get("busy"):
        lines += ["", "Other programs ran beside: times are upper bounds."]
    return "\n".join(lines) + "\n"


def line(row: Row) -> str:
    ours, theirs = statistics.median(row.ours), statistics.median(row.theirs)
    return (
        f"| {row.task} | {row.peer} | {ours:.3f} s | {theirs:.3f} s | "
        f"**{theirs / ours:.2g}** | {row.difference:.0e} |"
    )


if __name__ == "__main__":
    sys.exit(main())
