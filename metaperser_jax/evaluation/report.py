"""The report of one evaluation run: one HTML file that needs nothing beside it."""

import numbers
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from metaperser_jax.evaluation import findings, pages, tables, titles

FILE_NAME = "report.html"
MAX_ROWS = 60  # of a table of facts; a longer one says how many were left out
MAX_ITEMS = 20  # of a list within a fact


class ReportData(NamedTuple):
    """All that the report shows, as plain data."""

    title: str
    command: str  # what to type to repeat it
    config: dict  # flattened: 'a.b' -> value
    versions: dict[str, str]
    hashes: dict[str, str]
    seeds: dict[str, int]
    corpus: dict  # summary: scalars, lists and nested dicts; 'classes' {label: count}
    records: list[dict]  # means with intervals, see `tables`
    comparisons: list[dict]  # paired differences, see `tables`
    per_listener: list[
        dict
    ]  # {scenario, num_support, method, metric, annotator, value}
    learning_rates: dict[str, list[float]]  # path of an adapted tensor -> [steps]
    reliability: dict[str, dict]  # method -> confidence, frequency, count, each [bins]
    cooccurrence: dict[
        str, list[list[float]]
    ]  # method -> [classes][classes], row = true
    curves: list[dict]  # {method, stage, step, name, value}
    notes: list[str]  # warnings, what was skipped and counted, limits
    interval_level: float = 0.95  # coverage of all intervals


class Cell(NamedTuple):
    """One number of a results table."""

    mean: str
    interval: str = ""
    best: bool = False


class Grid(NamedTuple):
    """A results table: groups of methods by columns."""

    columns: list[str]
    groups: list[tuple[str, list[tuple[str, list[Cell]]]]]  # title, (method, cells)
    counts: str  # over how much was averaged
    has_gaps: bool


class Scenario(NamedTuple):
    """What the report says of one scenario at the headline K."""

    title: str
    findings: list[findings.Finding]
    results: Grid
    comparisons: list[tuple[str, list[dict[str, str]]]]  # metric, rows
    by_support: Grid | None  # the headline metric at every K, where there are several


def write_report(data: ReportData, folder: str | pathlib.Path) -> pathlib.Path:
    """Writes the report and, next to it, each picture as a PNG file.

    The page is self-contained: pictures are inside, nothing is fetched, and its content
    security policy forbids scripts. Pieces that a run lacks are named as missing. The
    same data give the same bytes.

    Args:
      data: what to show.
      folder: where to write; made if it does not exist.

    Returns:
      The path of the HTML file.

    Raises:
      InputError: two records for the same scenario, K, method and metric.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    metric = findings.headline_metric(data.records)
    num_support = findings.headline_support(data.records)
    shown = _pictures(data, metric, num_support)
    for picture in [p for section in shown.values() for p in section]:
        (folder / f"{picture.name}.png").write_bytes(picture.png)
    page = _render(data, metric, num_support, shown)
    path = folder / FILE_NAME
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def _pictures(
    data: ReportData, metric: str | None, num_support: int | None
) -> dict[str, list[Any]]:
    """Returns section -> its pictures; an empty section had nothing to show."""
    from metaperser_jax.evaluation import pictures  # late: loads matplotlib

    metrics = [m for m in (metric, "nll") if m is not None]
    present = {row["metric"] for row in data.records}
    metrics = [m for m in dict.fromkeys(metrics) if m in present]
    listeners = []
    if metric is not None and num_support is not None:
        listeners = pictures.listener_pictures(data.per_listener, metric, num_support)
    return {
        "curves": pictures.curve_pictures(data.records, metrics, data.interval_level),
        "listeners": listeners,
        "rates": pictures.rate_pictures(data.learning_rates),
        "reliability": pictures.reliability_pictures(data.reliability),
        "cooccurrence": pictures.cooccurrence_pictures(
            data.cooccurrence, list(data.corpus.get("classes", {}))
        ),
        "training": pictures.training_pictures(data.curves),
    }


def _render(
    data: ReportData,
    metric: str | None,
    num_support: int | None,
    shown: dict[str, list[Any]],
) -> str:
    return pages.render(
        "report.html",
        data=data,
        level=f"{data.interval_level:.0%}",
        significance=tables.SIGNIFICANCE,
        metric=titles.metric_label(metric) if metric else "",
        num_support=num_support,
        scenarios=_scenarios(data, metric, num_support),
        pictures=shown,
        corpus=corpus_tables(data.corpus),
        repeat=[
            (title, facts(values))
            for title, values in (
                ("Seeds", data.seeds),
                ("Hashes", data.hashes),
                ("Versions", data.versions),
                ("Config", data.config),
            )
            if values
        ],
    )


def _scenarios(
    data: ReportData, metric: str | None, num_support: int | None
) -> list[Scenario]:
    if metric is None or num_support is None:
        return []
    return [
        _scenario(data, scenario, metric, num_support)
        for scenario in titles.sort_scenarios(row["scenario"] for row in data.records)
    ]


def _scenario(
    data: ReportData, scenario: str, metric: str, num_support: int
) -> Scenario:
    everywhere = tables.select(data.records, scenario=scenario)
    here = tables.select(everywhere, num_support=num_support)
    metrics = titles.sort_metrics(row["metric"] for row in here)
    supports = sorted({row["num_support"] for row in everywhere})
    by_support = None
    if len(supports) > 1:
        rows = tables.select(everywhere, metric=metric)
        by_support = results_grid(rows, "num_support", supports, "K = {}".format)
    return Scenario(
        titles.scenario_title(scenario),
        findings.scenario_findings(
            here, data.comparisons, scenario, num_support, metric
        ),
        results_grid(here, "metric", metrics, _column_title),
        _comparison_rows(
            tables.select(data.comparisons, scenario=scenario, num_support=num_support)
        ),
        by_support,
    )


def _column_title(metric: str) -> str:
    info = titles.metric_info(metric)
    arrow = tables.UNICODE.lower if info.lower_is_better else tables.UNICODE.higher
    return f"{titles.metric_label(metric)}\N{NO-BREAK SPACE}{arrow}"


def results_grid(
    records: Sequence[dict],
    key: str,
    values: Sequence[Any],
    title: Callable[[Any], str],
) -> Grid:
    """Lays records out as methods by the values of one key.

    Args:
      records: of one scenario, and of one K or one metric.
      key: what the columns differ in, 'metric' or 'num_support'.
      values: of the columns, in order.
      title: writes the heading of a column.

    Raises:
      InputError: two records for one cell.
    """
    index = tables.index_rows(records, "method", key)
    best = {
        value: tables.best_methods(rows, rows[0]["metric"])
        for value in values
        if (rows := tables.select(records, **{key: value}))
    }

    def line(method: str) -> list[Cell]:
        return [
            _cell(index.get((method, value)), method in best.get(value, ()))
            for value in values
        ]

    groups = [
        (group, [(titles.method_title(method), line(method)) for method in methods])
        for group, methods in titles.group_methods(row["method"] for row in records)
    ]
    has_gaps = any(
        cell.mean == titles.NONE
        for _, lines in groups
        for _, cells in lines
        for cell in cells
    )
    counts = tables.count_text(records)
    return Grid([title(value) for value in values], groups, counts, has_gaps)


def _cell(record: dict | None, best: bool) -> Cell:
    if record is None or not titles.is_number(record["mean"]):
        return Cell(titles.NONE)
    mean = titles.format_number(record["mean"])
    return Cell(mean, findings.interval(record), best)


def _comparison_rows(
    comparisons: Sequence[dict],
) -> list[tuple[str, list[dict[str, str]]]]:
    """Returns heading -> rows, one heading for each method and metric."""
    blocks = []
    for method in titles.sort_methods(row["method"] for row in comparisons):
        for metric in titles.sort_metrics(row["metric"] for row in comparisons):
            rows = tables.select(comparisons, method=method, metric=metric)
            index = tables.index_rows(rows, "reference")
            order = titles.sort_methods(reference for (reference,) in index)
            heading = f"{titles.method_title(method)}, {_column_title(metric)}"
            lines = [_comparison_row(index[(reference,)]) for reference in order]
            blocks += [(heading, lines)] if lines else []
    return blocks


def _comparison_row(row: dict) -> dict[str, str]:
    return {
        "reference": titles.method_title(row["reference"]),
        "difference": titles.format_signed(row["difference"]),
        "interval": findings.interval(row, signed=True),
        "p_holm": titles.format_p(row["p_holm"]),
        "share_worse": titles.format_share(row["share_worse"]),
        "listeners": f"{row['num_listeners']:,}",
        "verdict": tables.verdict(row),
    }


def corpus_tables(corpus: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """Lays a corpus summary out as tables of facts.

    Returns:
      (title, rows of (name, value)): the summary, the labels with counts and shares,
      and what the listener and the clip tell about the label (keys with 'information').
    """
    classes = corpus.get("classes", {})
    known = {key: value for key, value in corpus.items() if key != "classes"}
    bits = {key: value for key, value in known.items() if "information" in key}
    rest = {key: value for key, value in known.items() if key not in bits}
    total = sum(classes.values()) or 1
    labels = [
        (str(label), f"{format_fact(count)} ({100 * count / total:.1f} %)")
        for label, count in classes.items()
    ]
    sections = (
        ("Summary", facts(rest)),
        ("Labels given: count and share", labels),
        ("Mutual information, in bits", facts(bits)),
    )
    return [(title, rows) for title, rows in sections if rows]


def facts(values: dict) -> list[tuple[str, str]]:
    """Flattens nested facts to (name, value) rows, at most `MAX_ROWS`."""
    rows = list(_flat(values, ""))
    if len(rows) <= MAX_ROWS:
        return rows
    return [*rows[:MAX_ROWS], (f"and {len(rows) - MAX_ROWS:,} more rows", "")]


def _flat(values: dict, prefix: str) -> Any:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name} / ")
        else:
            yield name, format_fact(value)


def format_fact(value: Any) -> str:
    """Formats one fact: counts with separators, floats short, lists joined."""
    if value is None or isinstance(value, bool | str):
        return str(value)
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    if isinstance(value, numbers.Real):
        return _format_float(float(value))
    if isinstance(value, list | tuple):
        items = [format_fact(item) for item in value[:MAX_ITEMS]]
        more = len(value) - len(items)
        return ", ".join(items) + (f" ... and {more:,} more" if more else "")
    return str(value)


def _format_float(value: float) -> str:
    if not titles.is_number(value):
        return titles.NONE
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
