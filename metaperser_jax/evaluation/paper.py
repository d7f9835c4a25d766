"""The tables of a paper, from the rows of a sweep: text, CSV, LaTeX and one HTML page.

Observers and self-raters stand apart in all of them; nothing is averaged here.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from metaperser_jax.evaluation import (
    captions,
    contributions,
    latex,
    pages,
    report,
    sheet,
    tables,
    titles,
)
from metaperser_jax.evaluation.listener_tables import listener_table
from metaperser_jax.evaluation.paper_data import (
    METHOD,
    Address,
    Data,
    PaperSpec,
    index_data,
    long_rows,
    make_block,
    metric_column,
    place_title,
)
from metaperser_jax.evaluation.sheet import Block, Column, Table

__all__ = [
    "PaperSpec",
    "Written",
    "ablation_table",
    "encoder_table",
    "index_data",
    "k_curve_table",
    "listener_table",
    "main_table",
    "write_tables",
]

PAGE = "tables.html"


class Written(NamedTuple):
    """What `write_tables` made."""

    text: str  # the main table and what the ablations say, for the console
    paths: list[pathlib.Path]


def write_tables(
    folder: str | pathlib.Path,
    records: Sequence[dict],
    comparisons: Sequence[dict],
    per_listener: Sequence[dict],
    spec: PaperSpec,
    width: int = 100,
    encoding: str = "utf-8",
) -> Written:
    """Writes all tables: <name>.txt, .csv, .tex, the K-curves as PNG, and tables.html.

    Args:
      folder: where to write; made if it does not exist.
      records: means with intervals, see `paper_data`.
      comparisons: paired differences.
      per_listener: values of single listeners.
      spec: what to show.
      width: columns of the text tables.
      encoding: of the console, for the returned text; files are UTF-8.

    Raises:
      InputError: two rows for one cell.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = index_data(records, comparisons, spec)
    made = [
        main_table(data),
        ablation_table(data),
        k_curve_table(data),
        listener_table(per_listener, spec),
        encoder_table(data),
    ]
    paths = []
    for table in made:
        paths += _write_table(folder, table, width)
    pictures = curve_pictures(data, records)
    for picture in pictures:
        paths.append(folder / f"{picture.name}.png")
        paths[-1].write_bytes(picture.png)
    paths.append(folder / PAGE)
    page = as_html(made, spec, {"k_curve": pictures})
    paths[-1].write_text(page, encoding="utf-8", newline="\n")
    shown = (made[0], made[1]._replace(blocks=[]))
    text = "\n".join(sheet.as_text(table, width, encoding) for table in shown)
    return Written(text, paths)


def as_html(
    made: Sequence[Table], spec: PaperSpec, pictures: dict[str, list[Any]]
) -> str:
    """Writes tables as one page that fetches nothing and runs nothing.

    Args:
      made: the tables, in order.
      spec: of the sweep; its provenance is printed.
      pictures: name of a table -> `pictures.Picture`s that go under it.
    """
    facts = dict(spec.provenance or {})
    command = facts.pop("command", "")
    if spec.cells:
        facts["cells"] = {
            encoder: f"{done:,} of {planned:,}"
            for encoder, (done, planned) in spec.cells.items()
        }
    return pages.render(
        "tables.html",
        ("report.css", "tables.css"),
        title=spec.title,
        num_support=spec.headline_support,
        tables=[t._replace(blocks=_page_blocks(t.blocks)) for t in made],
        pictures=pictures,
        spans=sheet.spans,
        starts=_starts,
        missing=sheet.MISSING_TEXT,
        command=command,
        facts=_fact_tables(facts),
    )


def main_table(data: Data) -> Table:
    """Builds methods by metrics for each scenario, at the headline K."""
    rows = long_rows(data, _addresses(data), data.methods)
    metrics = ", ".join(titles.metric_label(metric) for metric in data.metrics)
    blocks = _metric_blocks(data, data.methods)
    caption = _caption(
        data,
        rows,
        blocks,
        f"{metrics} of all methods{captions.subject(data)} with "
        f"K = {data.spec.headline_support} labelled utterances of the listener.",
    )
    return Table("main", "Main results", caption, blocks, rows, [])


def ablation_table(data: Data) -> Table:
    """Builds full against minus CSMT, DA and LSLR, and what each of them contributes.

    The long form compares the full method with each ablation.
    """
    methods = [METHOD, *contributions.PARTS]
    addresses = _addresses(data)
    rows = long_rows(data, addresses, methods, METHOD)
    blocks = _metric_blocks(data, methods, with_parts=True)
    caption = _caption(
        data,
        rows,
        blocks,
        f"The full method and its ablations{captions.subject(data)} with "
        f"K = {data.spec.headline_support}.",
        f"{contributions.TITLE}: paired difference with [{_level(data)} interval] and "
        "Holm-corrected p; there + means that the part helps, - that it hurts. A win "
        f"or a loss needs p < {tables.SIGNIFICANCE}, else it is a tie.",
    )
    shown = [address for address in addresses if address.metric in data.leads]
    sentences = contributions.sentences(data, shown)
    return Table("ablation", "Ablations", caption, blocks, rows, sentences)


def k_curve_table(data: Data) -> Table:
    """Builds methods by K for each scenario, a block for each lead metric."""
    rows = long_rows(data, _addresses(data, data.supports), data.methods)
    blocks = [
        make_block(
            data,
            place_title(encoder=encoder, group=group, metric=metric),
            [
                (
                    Column(titles.scenario_title(place.scenario), f"K = {k}"),
                    Address(*place, k, metric),
                )
                for place in data.where(encoder=encoder, group=group)
                for k in data.supports
            ],
            data.methods,
            with_sd=False,
        )
        for encoder, group in _kinds(data)
        for metric in data.leads
    ]
    start = f"All methods{captions.subject(data)} against K, {_leads(data)}."
    caption = _caption(data, rows, blocks, start, with_sd=False)
    return Table("k_curve", "How many labels it takes", caption, blocks, rows, [])


def encoder_table(data: Data) -> Table:
    """Builds methods by encoders for each scenario, a block for each lead metric."""
    rows = long_rows(data, _addresses(data), data.methods)
    blocks = [
        make_block(
            data,
            place_title(group=group, metric=metric),
            [
                (
                    Column(
                        titles.scenario_title(scenario),
                        titles.encoder_title(place.encoder),
                    ),
                    Address(*place, data.spec.headline_support, metric),
                )
                for scenario in data.values("scenario", group=group)
                for place in data.where(group=group, scenario=scenario)
            ],
            data.methods,
        )
        for group in data.values("group")
        for metric in data.leads
    ]
    start = (
        f"All methods{captions.subject(data)} with each encoder, "
        f"K = {data.spec.headline_support}, {_leads(data)}."
    )
    caption = _caption(data, rows, blocks, start)
    return Table("per_encoder", "Encoders", caption, blocks, rows, [])


def curve_pictures(data: Data, records: Sequence[dict]) -> list[Any]:
    """Draws the K-curves of each encoder and kind of listeners; none for one K."""
    from metaperser_jax.evaluation import pictures  # late: loads matplotlib

    found = []
    for number, (encoder, group) in enumerate(_kinds(data), 1):
        rows = tables.select(records, encoder=encoder, group=group)
        where = place_title(encoder=encoder, group=group)
        drawn = pictures.curve_pictures(rows, data.leads, data.spec.level)
        for picture in drawn:
            name, caption = f"{picture.name}_{number}", f"{where}: {picture.caption}"
            alt = f"{where}. {picture.alt}"
            found.append(picture._replace(name=name, alt=alt, caption=caption))
    return found


def _kinds(data: Data) -> list[tuple[str, str]]:
    """Returns the (encoder, group) pairs that have results, in order."""
    return list(dict.fromkeys((p.encoder, p.group) for p in data.places))


def _addresses(data: Data, supports: Sequence[int] = ()) -> list[Address]:
    """Returns the addresses of all metrics at the headline K, or at `supports`."""
    return [
        Address(*place, k, metric)
        for place in data.places
        for k in supports or [data.spec.headline_support]
        for metric in data.metrics
    ]


def _metric_blocks(
    data: Data, methods: Sequence[str], with_parts: bool = False
) -> list[Block]:
    """Returns a block for each encoder and kind: methods by scenarios and metrics."""
    blocks = []
    for encoder, group in _kinds(data):
        columns = [
            (
                metric_column(titles.scenario_title(place.scenario), metric),
                Address(*place, data.spec.headline_support, metric),
            )
            for place in data.where(encoder=encoder, group=group)
            for metric in data.metrics
        ]
        block = make_block(
            data, place_title(encoder=encoder, group=group), columns, methods
        )
        if with_parts:
            parts = contributions.section(data, [address for _, address in columns])
            block = block._replace(sections=[*block.sections, parts])
        blocks.append(block)
    return blocks


def _page_blocks(blocks: Sequence[Block]) -> list[Block]:
    """Cuts blocks to the width of a page; only the first part keeps the title."""
    return [
        sheet.take_columns(block, run)._replace(title=block.title if i == 0 else "")
        for block in blocks
        for i, run in enumerate(sheet.page_runs(block))
    ]


def _starts(columns: Sequence[Column]) -> list[bool]:
    """Tells which columns are the first under their upper heading."""
    return [
        i == 0 or column.upper != columns[i - 1].upper
        for i, column in enumerate(columns)
    ]


def _caption(
    data: Data,
    rows: Sequence[dict],
    blocks: Sequence[Block],
    start: str,
    extra: str = "",
    with_sd: bool = True,
) -> str:
    parts = [
        start,
        captions.averages(rows, data.spec.level, with_sd),
        captions.signs(rows, blocks),
        extra,
        captions.completeness(rows, data.spec, data.voids),
    ]
    return " ".join(part for part in parts if part)


def _level(data: Data) -> str:
    return captions.percent(data.spec.level)


def _leads(data: Data) -> str:
    named = " and ".join(titles.metric_label(metric) for metric in data.leads)
    rest = len(data.metrics) - len(data.leads)
    return f"{named} (the CSV file holds all metrics)" if rest > 0 else named


def _write_table(folder: pathlib.Path, table: Table, width: int) -> list[pathlib.Path]:
    paths = [folder / f"{table.name}.{ending}" for ending in ("txt", "csv", "tex")]
    text, csv_file, tex = paths
    text.write_text(sheet.as_text(table, width), encoding="utf-8", newline="\n")
    tables.write_csv(sheet.as_csv_rows(table), csv_file)
    tex.write_text(latex.as_latex(table), encoding="ascii", newline="\n")
    return paths


def _fact_tables(facts: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Lays provenance out as tables of facts, one for each dict in it."""
    loose = {k: v for k, v in facts.items() if not isinstance(v, dict | list)}
    named = {
        key: value if isinstance(value, dict) else _numbered(value)
        for key, value in facts.items()
        if key not in loose
    }
    sections = ({"Sweep": loose} if loose else {}) | {
        key.replace("_", " ").capitalize(): value for key, value in named.items()
    }
    return [(title, report.facts(values)) for title, values in sections.items()]


def _numbered(values: list[Any]) -> dict[str, Any]:
    return {str(number): value for number, value in enumerate(values, 1)}
