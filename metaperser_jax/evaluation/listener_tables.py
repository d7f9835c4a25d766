"""The per-listener table: how each method fares with each listener."""

import re
from collections.abc import Sequence
from typing import Any

from metaperser_jax.evaluation import captions, sheet, tables, titles
from metaperser_jax.evaluation.paper_data import (
    METHOD,
    REFERENCE,
    Address,
    PaperSpec,
    axes,
    lead_metrics,
    ordered,
    place_title,
    status_of,
)
from metaperser_jax.evaluation.sheet import Block, Cell, Column, Row, Section, Table

MAX_LISTENERS = 24  # of a block; of more, a selection is shown
KEYS = (*Address._fields, "method", "annotator")
GAIN = "Full minus no adaptation"

Values = dict[str, dict[str, dict]]  # listener -> method -> row


def listener_table(per_listener: Sequence[dict], spec: PaperSpec) -> Table:
    """Builds the table of all methods with each listener, at the headline K.

    The long form holds all metrics of `spec` and all listeners; the lead metrics and up
    to `MAX_LISTENERS` of a block are shown.

    Args:
      per_listener: rows, see `paper_data`.
      spec: what to show.

    Raises:
      InputError: two rows for one listener, method and metric.
    """
    chosen = tables.select(per_listener, num_support=spec.headline_support)
    metrics = list(spec.metrics) or titles.sort_metrics(r["metric"] for r in chosen)
    chosen = [row for row in chosen if row["metric"] in metrics]
    tables.index_rows(chosen, *KEYS)
    methods = titles.sort_methods({*spec.methods, *(r["method"] for r in chosen)})
    leads = spec.lead_metrics or lead_metrics(metrics)
    by_address = _by_address(chosen, metrics, spec)
    blocks = [
        _block(address, values, methods)
        for address, values in by_address.items()
        if address.metric in leads
    ]
    rows = [
        row
        for address, values in by_address.items()
        for row in _long_rows(address, values, methods)
    ]
    caption = _caption(rows, by_address, leads, spec)
    return Table("per_listener", "Single listeners", caption, blocks, rows, [])


def natural(name: str) -> list[Any]:
    """Returns a key that sorts E2 before E10."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def pick_listeners(values: Values, metric: str) -> list[str]:
    """Returns the listeners to show, in natural order.

    Of more than `MAX_LISTENERS` those at evenly spaced ranks of gain, both ends in.
    """
    names = sorted(values, key=natural)
    if len(names) <= MAX_LISTENERS:
        return names
    sign = -1 if titles.metric_info(metric).lower_is_better else 1
    gains = {name: gain for name in names if (gain := _gain(values[name])) is not None}
    ranked = sorted(gains, key=lambda name: sign * gains[name])
    ranked += [name for name in names if name not in gains]
    last = len(ranked) - 1
    places = {round(i * last / (MAX_LISTENERS - 1)) for i in range(MAX_LISTENERS)}
    return sorted((ranked[i] for i in places), key=natural)


def _by_address(
    rows: Sequence[dict], metrics: Sequence[str], spec: PaperSpec
) -> dict[Address, Values]:
    """Indexes rows in the order of the blocks."""
    found: dict[Address, Values] = {}
    for row in rows:
        address = Address(*(row[key] for key in Address._fields))
        listeners = found.setdefault(address, {})
        listeners.setdefault(row["annotator"], {})[row["method"]] = row
    encoders, groups, scenarios = axes(rows, spec)
    order = [
        Address(encoder, group, scenario, spec.headline_support, metric)
        for encoder in encoders
        for group in groups
        for scenario in scenarios
        for metric in ordered(metrics, ())
    ]
    return {address: found[address] for address in order if address in found}


def _block(address: Address, values: Values, methods: Sequence[str]) -> Block:
    shown = pick_listeners(values, address.metric)
    best = {
        name: tables.best_methods(
            [row | {"mean": row["value"]} for row in values[name].values()],
            address.metric,
        )
        for name in shown
    }
    sections = [
        Section(
            group,
            [
                Row(
                    titles.method_title(method),
                    [
                        _cell(values[name].get(method), method in best[name])
                        for name in shown
                    ],
                )
                for method in members
            ],
        )
        for group, members in titles.group_methods(methods)
    ]
    change = Row(GAIN, [_gain_cell(values[name], address.metric) for name in shown])
    if {METHOD, REFERENCE} <= set(methods):
        sections.append(Section("Change by adaptation", [change]))
    heads = [Column("", titles.clean_text(name)) for name in shown]
    return Block(place_title(**address._asdict()), "Method", heads, sections)


def _cell(row: dict | None, best: bool) -> Cell:
    if row is None:
        return sheet.MISSING
    return Cell(titles.format_number(row["value"]), best=best, row=row)


def _gain(rows: dict[str, dict]) -> float | None:
    ends = [rows[m]["value"] for m in (METHOD, REFERENCE) if m in rows]
    if len(ends) < 2 or not all(map(titles.is_number, ends)):
        return None
    return ends[0] - ends[1]


def _gain_cell(rows: dict[str, dict], metric: str) -> Cell:
    gain = _gain(rows)
    if gain is None:
        return Cell(titles.NONE)
    mark = ""
    if gain != 0:
        mark = sheet.BETTER if tables.is_better(metric, gain) else sheet.WORSE
    return Cell(titles.format_signed(gain), mark=mark)


def _long_rows(
    address: Address, values: Values, methods: Sequence[str]
) -> list[dict[str, Any]]:
    return [
        {
            **address._asdict(),
            "method": method,
            "annotator": name,
            "status": status_of(row, "value"),
            "value": row["value"] if row else None,
        }
        for name in sorted(values, key=natural)
        for method in methods
        for row in [values[name].get(method)]
    ]


def _caption(
    rows: Sequence[dict],
    by_address: dict[Address, Values],
    leads: Sequence[str],
    spec: PaperSpec,
) -> str:
    text = (
        f"Each listener with K = {spec.headline_support} of their labelled utterances: "
        "mean over the draws, folds and seeds of that listener. Bold or *: best of the "
        "methods that could be deployed, ties as displayed included. Last line: + "
        "better, - worse with adaptation; single listeners are not tested."
    )
    most = max(
        (len(values) for a, values in by_address.items() if a.metric in leads),
        default=0,
    )
    if most > MAX_LISTENERS:
        text += (
            f" Of up to {most:,} listeners {MAX_LISTENERS} are shown, at evenly spaced "
            "ranks of the change; the CSV file holds all."
        )
    return f"{text} {captions.completeness(rows, spec)}"
