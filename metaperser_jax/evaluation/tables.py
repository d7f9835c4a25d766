"""Results as text: console tables and CSV files.

A *record* is one mean with its interval, a dict with the keys scenario, num_support,
method, metric, mean, low, high, num_listeners, num_draws. A *comparison* is a paired
difference, method minus reference, with the keys scenario, num_support, method,
reference, metric, difference, low, high, p_value, p_holm, share_worse, num_listeners.
"""

import csv
import math
import numbers
import pathlib
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from metaperser_jax.errors import InputError
from metaperser_jax.evaluation import titles

SIGNIFICANCE = 0.05  # a difference counts when its Holm-corrected p is below


class Symbols(NamedTuple):
    """The few signs beyond letters and digits that the console tables use."""

    plus_minus: str
    higher: str
    lower: str
    none: str


UNICODE = Symbols("±", "↑", "↓", titles.NONE)


ASCII = Symbols("+-", "^", "v", "-")


def select(rows: Iterable[dict], **wanted: Any) -> list[dict]:
    """Returns the rows whose keys have the wanted values."""
    return [row for row in rows if all(row[key] == wanted[key] for key in wanted)]


def index_rows(rows: Iterable[dict], *keys: str) -> dict[tuple, dict]:
    """Indexes rows by some of their keys.

    Raises:
      InputError: two rows share the same values, so one would silently win.
    """
    index: dict[tuple, dict] = {}
    for row in rows:
        place = tuple(row[key] for key in keys)
        if place in index:
            raise InputError(
                f"evaluation results: two rows for {', '.join(map(str, place))}, "
                "expected one; give the rows of one run of one corpus"
            )
        index[place] = row
    return index


def count_text(records: Iterable[dict]) -> str:
    """Says over how much was averaged, for example '10 listeners, 20 draws'."""
    records = list(records)
    return ", ".join(
        f"{low:,} {noun}" if low == high else f"{low:,} to {high:,} {noun}"
        for key, noun in (("num_listeners", "listeners"), ("num_draws", "draws"))
        if (counts := [row[key] for row in records if row.get(key)])
        for low, high in [(min(counts), max(counts))]
    )


def is_better(metric: str, difference: float) -> bool:
    """Tells whether a difference, method minus reference, favours the method."""
    return (
        difference < 0 if titles.metric_info(metric).lower_is_better else difference > 0
    )


def verdict(comparison: dict) -> str:
    """Judges a paired difference at `SIGNIFICANCE` after Holm's correction.

    Returns:
      'better', 'worse', 'not significant' or 'not tested'.
    """
    difference, p_value = comparison["difference"], comparison["p_holm"]
    if not (titles.is_number(difference) and titles.is_number(p_value)):
        return "not tested"
    if p_value >= SIGNIFICANCE or difference == 0:
        return "not significant"
    return "better" if is_better(comparison["metric"], difference) else "worse"


def best_methods(records: Iterable[dict], metric: str) -> set[str]:
    """Returns the deployable methods with the best mean, ties as displayed included.

    `records` are those of one scenario and one K.
    """
    means = {
        row["method"]: round(float(row["mean"]), 3)
        for row in records
        if row["metric"] == metric
        and row["method"] not in titles.NOT_DEPLOYABLE
        and titles.is_number(row["mean"])
    }
    pick = min if titles.metric_info(metric).lower_is_better else max
    best = pick(means.values(), default=None)
    return {method for method, mean in means.items() if mean == best}


def console_table(
    records: Sequence[dict],
    scenario: str,
    num_support: int,
    metrics: Sequence[str],
    width: int = 100,
    level: float = 0.95,
    encoding: str | None = None,
) -> str:
    """Builds the table of all methods in one scenario at one K.

    Cells hold the mean with [low, high] where all metrics fit side by side, else with
    half the width of the interval; metrics that still do not fit go below. The best
    deployable method of a column is marked *.

    Args:
      records: means with intervals, see the module's docstring.
      scenario: 'seen' or 'unseen'.
      num_support: K, labelled utterances of the listener.
      metrics: the columns, in this order.
      width: columns of the console.
      level: coverage of the intervals, for the heading.
      encoding: of the console, None = that of stdout; where it lacks a sign the
        table falls back to ASCII.

    Raises:
      InputError: two records for one method and metric.
    """
    symbols = _symbols(encoding)
    chosen = select(records, scenario=scenario, num_support=num_support)
    where = f"{titles.scenario_title(scenario)}, K = {num_support}"
    if not chosen:
        return _encodable(f"{where}: no results.", encoding)
    style, blocks = _fit(chosen, metrics, width, symbols)
    interval = f"with [{level:.0%} interval]"
    if style is _half_width_cell:
        interval = f"{symbols.plus_minus} half the {level:.0%} interval"
    legend = (
        f"{where}: mean over {count_text(chosen)}, {interval}; "
        f"{symbols.higher} higher is better, {symbols.lower} lower is better; "
        "* best of the methods that could be deployed"
    )
    parts = [textwrap.fill(legend, width), *blocks]
    return _encodable("\n\n".join(parts), encoding)


def comparison_table(
    comparisons: Sequence[dict],
    scenario: str,
    num_support: int,
    metrics: Sequence[str] | None = None,
    width: int = 100,
    level: float = 0.95,
    encoding: str | None = None,
) -> str:
    """Builds the table of paired differences in one scenario at one K.

    One block for each method and metric: difference (method minus reference) with its
    interval, Holm-corrected p value, share of the listeners made worse, verdict.

    Args:
      comparisons: paired differences, see the module's docstring.
      scenario: 'seen' or 'unseen'.
      num_support: K.
      metrics: which metrics, None = all.
      width: columns of the console.
      level: coverage of the intervals, for the heading.
      encoding: of the console, None = that of stdout.
    """
    symbols = _symbols(encoding)
    chosen = select(comparisons, scenario=scenario, num_support=num_support)
    where = f"{titles.scenario_title(scenario)}, K = {num_support}"
    wanted = (
        titles.sort_metrics(c["metric"] for c in chosen) if metrics is None else metrics
    )
    index_rows(chosen, "method", "reference", "metric")
    blocks = [
        _comparison_block(rows, method, metric, width, level, symbols)
        for method in titles.sort_methods(c["method"] for c in chosen)
        for metric in wanted
        if (rows := select(chosen, method=method, metric=metric))
    ]
    if not blocks:
        return _encodable(f"{where}: no comparisons.", encoding)
    legend = (
        f"{where}: paired differences over listeners; worse = share of the listeners "
        f"made worse; a verdict needs p (Holm) < {SIGNIFICANCE}"
    )
    return _encodable("\n\n".join([textwrap.fill(legend, width), *blocks]), encoding)


def write_csv(records: Sequence[dict], path: str | pathlib.Path) -> None:
    """Writes rows as UTF-8 CSV, one column for each key in order of appearance.

    A text cell that a spreadsheet would run as a formula gets a leading apostrophe and
    control characters are replaced (`titles.clean_text`); numbers stay as they are; NaN
    and None become empty cells.
    """
    columns = list(dict.fromkeys(key for record in records for key in record))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_csv_cell(column) for column in columns])
        for record in records:
            writer.writerow([_csv_cell(record.get(column)) for column in columns])


def _csv_cell(value: Any) -> Any:
    if value is None or (isinstance(value, numbers.Real) and math.isnan(value)):
        return ""
    if isinstance(value, numbers.Real):
        return value
    text = titles.clean_text(str(value))
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def _symbols(encoding: str | None) -> Symbols:
    return UNICODE if _encodes("".join(UNICODE), encoding) else ASCII


def _encodes(text: str, encoding: str | None) -> bool:
    try:
        text.encode(_encoding(encoding))
    except UnicodeEncodeError:
        return False
    return True


def _encoding(encoding: str | None) -> str:
    return encoding or getattr(sys.stdout, "encoding", None) or "ascii"


def _encodable(text: str, encoding: str | None) -> str:
    name = _encoding(encoding)
    return text.encode(name, errors="replace").decode(name)


def _interval_cell(record: dict, symbols: Symbols) -> str:
    mean, low, high = (
        titles.format_number(record[key], none=symbols.none)
        for key in ("mean", "low", "high")
    )
    return mean if mean == symbols.none else f"{mean} [{low}, {high}]"


def _half_width_cell(record: dict, symbols: Symbols) -> str:
    mean = titles.format_number(record["mean"], none=symbols.none)
    if mean == symbols.none:
        return mean
    half = titles.format_number((record["high"] - record["low"]) / 2, none=symbols.none)
    return f"{mean} {symbols.plus_minus}{half}"


def _fit(
    records: list[dict], metrics: Sequence[str], width: int, symbols: Symbols
) -> tuple[Any, list[str]]:
    """Returns the cell style and the blocks: intervals if one block holds them."""
    cells = index_rows(records, "method", "metric")
    for style in (_interval_cell, _half_width_cell):
        columns = [_column(cells, metric, style, symbols) for metric in metrics]
        blocks = _blocks(columns, [label for label, _ in _lines(cells)], width)
        if len(blocks) == 1:
            break
    return style, blocks


def _lines(cells: dict[tuple, dict]) -> list[tuple[str, str | None]]:
    """Returns (label, method) of each line, method None for the heading of a group."""
    lines: list[tuple[str, str | None]] = []
    for group, methods in titles.group_methods(method for method, _ in cells):
        lines.append((group, None))
        lines += [(f"  {titles.method_title(method)}", method) for method in methods]
    return lines


def _column(
    cells: dict[tuple, dict], metric: str, style: Any, symbols: Symbols
) -> list[str]:
    """Returns one column of the table, its heading first."""
    info = titles.metric_info(metric)
    arrow = symbols.lower if info.lower_is_better else symbols.higher
    best = best_methods(cells.values(), metric)
    column = [f"{info.title} {arrow}"]
    for _, method in _lines(cells):
        record = cells.get((method, metric))
        text = style(record, symbols) if record else symbols.none
        column.append("" if method is None else text + ("*" if method in best else " "))
    return column


def _blocks(columns: list[list[str]], labels: list[str], width: int) -> list[str]:
    """Puts columns side by side as far as they fit; the others go to more blocks."""
    label_width = min(max(map(len, labels)), max(12, width // 3))
    labels = ["", *(_shorten(label, label_width) for label in labels)]
    blocks, used = [[]], label_width
    for column in columns:
        needed = 2 + max(map(len, column))
        if blocks[-1] and used + needed > width:
            blocks.append([])
            used = label_width
        blocks[-1].append(column)
        used += needed
    return [_aligned(labels, block) for block in blocks]


def _aligned(labels: list[str], columns: list[list[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in columns]
    label_width = max(len(label) for label in labels)
    lines = [
        label.ljust(label_width)
        + "".join(
            "  " + column[i].rjust(w) for column, w in zip(columns, widths, strict=True)
        )
        for i, label in enumerate(labels)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 2] + ".."


def _comparison_block(
    rows: list[dict],
    method: str,
    metric: str,
    width: int,
    level: float,
    symbols: Symbols,
) -> str:
    index = {row["reference"]: row for row in rows}
    rows = [index[reference] for reference in titles.sort_methods(index)]
    info = titles.metric_info(metric)
    direction = "lower" if info.lower_is_better else "higher"
    columns = [
        [
            f"difference [{level:.0%} interval]",
            *(_difference(r, symbols) for r in rows),
        ],
        ["p (Holm)", *(titles.format_p(r["p_holm"], symbols.none) for r in rows)],
        ["worse", *(titles.format_share(r["share_worse"], symbols.none) for r in rows)],
        ["verdict", *(verdict(r) for r in rows)],
    ]
    labels = [
        f"  {titles.method_title(reference)}"
        for reference in titles.sort_methods(index)
    ]
    subject = f"{titles.method_title(method)}, {titles.metric_label(metric)}"
    title = f"{subject} ({direction} is better): difference from"
    return "\n".join([_shorten(title, width), *_blocks(columns, labels, width)])


def _difference(row: dict, symbols: Symbols) -> str:
    difference, low, high = (
        titles.format_signed(row[key], none=symbols.none)
        for key in ("difference", "low", "high")
    )
    return f"{difference} [{low}, {high}]"
