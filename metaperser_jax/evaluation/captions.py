"""Captions: what is averaged over what, what the signs mean, what is missing."""

from collections.abc import Iterable, Iterator, Sequence

from metaperser_jax.evaluation import findings, sheet, tables, titles
from metaperser_jax.evaluation.paper_data import Data, PaperSpec, place_title
from metaperser_jax.evaluation.sheet import Block, Cell

_COUNTS = (
    ("num_listeners", "listener"),
    ("num_draws", "draw"),
    ("num_seeds", "seed"),
    ("num_folds", "fold"),
)
MAX_NAMED = 4  # conditions without results that a caption names


def plural(count: int, noun: str) -> str:
    """Returns '1 seed', '2 seeds'."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def count_text(rows: Iterable[dict]) -> str:
    """Says over how much was averaged: '6 to 12 listeners, 20 draws, 1 seed'."""
    rows = list(rows)
    found = []
    for key, noun in _COUNTS:
        counts = [int(row[key]) for row in rows if row.get(key)]
        if counts:
            low, high = min(counts), max(counts)
            start = "" if low == high else f"{low:,} to "
            found.append(start + plural(high, noun))
    return ", ".join(found)


def averages(rows: Sequence[dict], level: float, with_sd: bool = True) -> str:
    """Says what a cell holds, and over how much the means of `rows` are."""
    counts = count_text(rows)
    deviation = " ± standard deviation over listeners" if with_sd else ""
    return (
        "Cells hold the mean over the draws, folds and seeds of each listener, then "
        f"over listeners{f' ({counts})' if counts else ''}{deviation}, with "
        f"[{percent(level)} bootstrap interval] over listeners and clips."
    )


def signs(rows: Sequence[dict], blocks: Sequence[Block]) -> str:
    """Says what bold and the marks mean."""
    text = (
        "Bold or *: best of the methods that could be deployed, ties as displayed "
        f"included. + better, - worse than no adaptation with p < "
        f"{tables.SIGNIFICANCE} (sign flips paired by listener, Holm's correction over "
        "the methods compared in a column); no mark: no such difference"
    )
    if any(cell.mark == sheet.UNTESTED for cell in _cells(blocks)):
        text += "; ?: not tested"
    return f"{text}. {few_listeners(rows)}".rstrip()


def few_listeners(rows: Sequence[dict]) -> str:
    """Warns of tests that cannot come out significant."""
    counts = [row["num_listeners"] for row in rows if row["compared"]]
    counts = [count for count in counts if count]
    few = sum(count < findings.FEW_LISTENERS for count in counts)
    if not few:
        return ""
    which = "All tests" if few == len(counts) else f"{few:,} of {len(counts):,} tests"
    return (
        f"{which} rest on fewer than {findings.FEW_LISTENERS} listeners: there no "
        "difference can be significant."
    )


def completeness(
    rows: Sequence[dict], spec: PaperSpec, voids: Sequence[tuple] = ()
) -> str:
    """Counts the methods with results, the missing and the undefined numbers."""
    methods = dict.fromkeys(row["method"] for row in rows)
    present = {row["method"] for row in rows if row["status"] != "missing"}
    missing = sum(row["status"] == "missing" for row in rows)
    undefined = sum(row["status"] == "undefined" for row in rows)
    text = f"{len(present)} of {plural(len(methods), 'method')}"
    if missing:
        text += f"; {missing:,} of {plural(len(rows), 'number')} missing"
    if undefined:
        text += f"; {undefined:,} not defined ({titles.NONE})"
    return " ".join(filter(None, [f"{text}{_sweep(spec)}.", _void_text(voids)]))


def subject(data: Data) -> str:
    """Names the corpus."""
    return f" on {', '.join(map(titles.clean_text, data.corpora))}" * bool(data.corpora)


def percent(share: float) -> str:
    """Returns '95 %', which no line break cuts."""
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


def _cells(blocks: Sequence[Block]) -> Iterator[Cell]:
    for block in blocks:
        for section in block.sections:
            for row in section.rows:
                yield from row.cells


def _sweep(spec: PaperSpec) -> str:
    if not spec.cells:
        return ""
    done = sum(done for done, _ in spec.cells.values())
    planned = sum(planned for _, planned in spec.cells.values())
    if not planned or done >= planned:
        return "; sweep complete"
    return f"; sweep {100 * done // planned} % complete ({done:,} of {planned:,} cells)"


def _void_text(voids: Sequence[tuple]) -> str:
    if not voids:
        return ""
    names = [
        place_title(encoder=encoder, group=group, scenario=scenario)
        for encoder, group, scenario in voids[:MAX_NAMED]
    ]
    if len(voids) > MAX_NAMED:
        names.append(f"{len(voids) - MAX_NAMED:,} more conditions")
    return f"No results at all: {'; '.join(names)}."
