"""The rows of a sweep, indexed and laid out as the cells of the paper's tables.

Rows are dicts. A record: corpus, encoder, group, scenario, num_support, method, metric,
mean, sd, low, high, num_listeners, num_draws, num_seeds, num_folds. A comparison
(method minus reference): encoder, group, scenario, num_support, method, reference,
metric, difference, low, high, p_value, p_holm, share_worse, num_listeners. A row of
`per_listener`: encoder, group, scenario, num_support, method, metric, annotator, value.
`group` is the kind of the listeners, '' where a corpus knows none; kinds are never
averaged here.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from metaperser_jax.evaluation import findings, sheet, tables, titles
from metaperser_jax.evaluation.sheet import Block, Cell, Column, Row, Section

METHOD, REFERENCE = findings.METHOD, findings.REFERENCE
RECORD_NUMBERS = ("mean", "sd", "low", "high")
RECORD_COUNTS = ("num_listeners", "num_draws", "num_seeds", "num_folds")


class PaperSpec(NamedTuple):
    """What the tables hold and in which order; () = all that the rows hold.

    What is named here and is not in the rows was planned: it counts as missing.
    """

    headline_support: int  # K of all tables but the K-curve
    metrics: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    supports: tuple[int, ...] = ()  # K of the K-curve
    methods: tuple[str, ...] = ()
    # Of the tables with a block for each metric; () = the first of `metrics`, and NLL.
    lead_metrics: tuple[str, ...] = ()
    level: float = 0.95  # coverage of all intervals
    title: str = "Results"
    provenance: dict[str, Any] | None = None  # 'command', and facts to print
    cells: dict[str, tuple[int, int]] | None = None  # encoder -> done, planned


class Place(NamedTuple):
    """A condition of the sweep; nothing is averaged over places."""

    encoder: str
    group: str
    scenario: str


class Address(NamedTuple):
    """Where all methods stand beside one another."""

    encoder: str
    group: str
    scenario: str
    num_support: int
    metric: str


class Data(NamedTuple):
    """The rows of a sweep, indexed."""

    spec: PaperSpec
    records: dict[Address, dict[str, dict]]  # -> method -> record
    pairs: dict[Address, dict[tuple[str, str], dict]]  # -> (method, reference) -> row
    best: dict[Address, set[str]]  # the best deployable methods
    places: list[Place]  # that have results, in order
    voids: list[Place]  # that were planned, or are thinkable, and have none
    supports: list[int]
    methods: list[str]
    metrics: list[str]
    leads: list[str]
    corpora: list[str]

    def where(self, **wanted: Any) -> list[Place]:
        """Returns the places whose fields have the wanted values."""
        return [
            place
            for place in self.places
            if all(getattr(place, key) == value for key, value in wanted.items())
        ]

    def values(self, field: str, **wanted: Any) -> list[Any]:
        """Returns the values that a field has in the wanted places, in order."""
        return list(dict.fromkeys(getattr(p, field) for p in self.where(**wanted)))


def index_data(
    records: Sequence[dict], comparisons: Sequence[dict], spec: PaperSpec
) -> Data:
    """Indexes the rows of a sweep.

    Raises:
      InputError: two records, or two comparisons, for one cell.
    """
    tables.index_rows(records, *Address._fields, "method")
    tables.index_rows(comparisons, *Address._fields, "method", "reference")
    by_address: dict[Address, dict[str, dict]] = {}
    for row in records:
        by_address.setdefault(_address(row), {})[row["method"]] = row
    pairs: dict[Address, dict[tuple[str, str], dict]] = {}
    for row in comparisons:
        key = (row["method"], row["reference"])
        pairs.setdefault(_address(row), {})[key] = row
    metrics = ordered(spec.metrics, titles.sort_metrics(r["metric"] for r in records))
    chosen = list(spec.metrics) or metrics
    places, voids = _places(records, spec)
    return Data(
        spec=spec,
        records=by_address,
        pairs=pairs,
        best={
            address: tables.best_methods(rows.values(), address.metric)
            for address, rows in by_address.items()
        },
        places=places,
        voids=voids,
        supports=sorted({*spec.supports, *(row["num_support"] for row in records)}),
        methods=titles.sort_methods({*spec.methods, *(r["method"] for r in records)}),
        metrics=chosen,
        leads=list(spec.lead_metrics) or lead_metrics(chosen),
        corpora=list(dict.fromkeys(row["corpus"] for row in records)),
    )


def ordered(first: Sequence[str], others: Iterable[str]) -> list[str]:
    """Returns `first`, then what `others` add, each once."""
    return list(dict.fromkeys([*first, *others]))


def lead_metrics(metrics: Sequence[str]) -> list[str]:
    """Returns the first metric, and the NLL where it is one of them."""
    return list(dict.fromkeys([*metrics[:1], *(m for m in metrics if m == "nll")]))


def axes(rows: Sequence[dict], spec: PaperSpec) -> tuple[list[str], ...]:
    """Returns encoders, groups and scenarios, planned or present, in order."""
    present = {key: {row[key] for row in rows} for key in Place._fields}
    return (
        ordered(spec.encoders, titles.sort_encoders(present["encoder"])),
        ordered(spec.groups, titles.sort_groups(present["group"])),
        ordered(spec.scenarios, titles.sort_scenarios(present["scenario"])),
    )


def _places(
    records: Sequence[dict], spec: PaperSpec
) -> tuple[list[Place], list[Place]]:
    thinkable = [Place(*values) for values in itertools.product(*axes(records, spec))]
    known = {
        Place(row["encoder"], row["group"], row["scenario"])
        for row in records
        if not spec.metrics or row["metric"] in spec.metrics
    }
    return (
        [place for place in thinkable if place in known],
        [place for place in thinkable if place not in known],
    )


def _address(row: dict) -> Address:
    return Address(*(row[key] for key in Address._fields))


def make_block(
    data: Data,
    title: str,
    columns: Sequence[tuple[Column, Address]],
    methods: Sequence[str],
    with_sd: bool = True,
) -> Block:
    """Lays methods out by addresses, grouped as in all tables."""
    sections = [
        Section(
            group,
            [
                Row(
                    titles.method_title(method),
                    [make_cell(data, a, method, with_sd) for _, a in columns],
                )
                for method in members
            ],
        )
        for group, members in titles.group_methods(methods)
    ]
    return Block(title, "Method", [column for column, _ in columns], sections)


def make_cell(data: Data, address: Address, method: str, with_sd: bool) -> Cell:
    """Returns one method's cell, marked by its difference from no adaptation."""
    record = data.records.get(address, {}).get(method)
    if record is None:
        return sheet.MISSING
    if not titles.is_number(record["mean"]):
        return Cell(titles.NONE, row=record)
    sd = record.get("sd")
    return Cell(
        titles.format_number(record["mean"]),
        titles.format_number(sd) if with_sd and titles.is_number(sd) else "",
        findings.interval(record),
        mark=mark_of(data, address, method),
        best=method in data.best[address],
        row=record,
    )


def mark_of(data: Data, address: Address, method: str) -> str:
    """Returns the mark of a method against no adaptation; '' is no difference."""
    if method == REFERENCE:
        return ""
    pair = data.pairs.get(address, {}).get((method, REFERENCE))
    return verdict_mark(pair)


def verdict_mark(pair: dict | None) -> str:
    """Returns the mark of a comparison, `sheet.UNTESTED` without one."""
    marks = {"better": sheet.BETTER, "worse": sheet.WORSE, "not significant": ""}
    return sheet.UNTESTED if pair is None else marks.get(tables.verdict(pair), "?")


def metric_column(upper: str, metric: str) -> Column:
    """Returns a heading with the metric's name and direction."""
    return Column(upper, metric_head(metric))


def metric_head(metric: str) -> str:
    """Returns the metric's name with an arrow that says which way is better."""
    lower = titles.metric_info(metric).lower_is_better
    arrow = tables.UNICODE.lower if lower else tables.UNICODE.higher
    return f"{titles.metric_info(metric).title} {arrow}"


def place_title(**fields: Any) -> str:
    """Names a condition by those of its fields that are given."""
    names = []
    if fields.get("encoder"):
        names.append(titles.encoder_title(fields["encoder"]))
    if fields.get("group"):
        names.append(titles.group_title(fields["group"]))
    if "scenario" in fields:
        names.append(titles.scenario_title(fields["scenario"]))
    if "metric" in fields:
        names.append(metric_head(fields["metric"]))
    return ", ".join(names)


def long_rows(
    data: Data,
    addresses: Iterable[Address],
    methods: Sequence[str],
    against: str = REFERENCE,
) -> list[dict[str, Any]]:
    """Returns a row for each method at each address, missing ones included.

    Args:
      data: the sweep.
      addresses: of the table.
      methods: of the table.
      against: the other side of the comparison beside each record: `REFERENCE` gives
        the method minus no adaptation, `METHOD` the full method minus the method.
    """
    found = []
    for address in addresses:
        for method in methods:
            record = data.records.get(address, {}).get(method)
            pair = (method, against) if against == REFERENCE else (against, method)
            found.append(
                {
                    "corpus": record["corpus"] if record else "",
                    **address._asdict(),
                    "method": method,
                    "status": status_of(record, "mean"),
                    **{
                        key: record.get(key) if record else None
                        for key in (*RECORD_NUMBERS, *RECORD_COUNTS)
                    },
                    **_comparison_fields(data.pairs.get(address, {}).get(pair)),
                }
            )
    return found


def status_of(row: dict | None, key: str) -> str:
    """Returns 'measured', 'undefined' or 'missing'."""
    if row is None:
        return "missing"
    return "measured" if titles.is_number(row[key]) else "undefined"


def _comparison_fields(pair: dict | None) -> dict[str, Any]:
    names = {
        "compared": "method",
        "reference": "reference",
        "difference": "difference",
        "difference_low": "low",
        "difference_high": "high",
        "p_value": "p_value",
        "p_holm": "p_holm",
        "share_worse": "share_worse",
    }
    fields = {name: pair.get(key) if pair else None for name, key in names.items()}
    return fields | {"verdict": tables.verdict(pair) if pair else None}
