"""A table of a paper as data, and as plain text.

A cell carries both what is shown and the row it comes from; text, LaTeX and HTML are
written from the same cells. The CSV is the table's long form, a row for each number.
"""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from metaperser_jax.evaluation import tables, titles

BETTER, WORSE, UNTESTED = "+", "-", "?"  # marks of a cell
MISSING_TEXT = "missing"
MIN_WIDTH = 72  # columns of a console
FULL, INTERVALS, BARE = 6, 8, 12  # columns across a page, by what cells hold


class Cell(NamedTuple):
    """One number: its texts, '' where a part is not shown, and its raw row."""

    mean: str  # 'missing' without a row, a dash where the value is not defined
    sd: str = ""
    interval: str = ""  # '[low, high]'
    p_value: str = ""  # '0.012' or '<0.001'
    mark: str = ""  # BETTER, WORSE, UNTESTED or ''
    best: bool = False
    row: dict[str, Any] | None = None  # raw numbers


MISSING = Cell(MISSING_TEXT)


class Column(NamedTuple):
    """A heading of two levels; `upper` spans neighbours that share it, '' = none."""

    upper: str
    head: str


class Row(NamedTuple):
    """A line of a table."""

    label: str
    cells: list[Cell]  # [columns]


class Section(NamedTuple):
    """A group of lines under a title."""

    title: str
    rows: list[Row]


class Block(NamedTuple):
    """A part of a table that could stand alone."""

    title: str
    corner: str  # heading of the labels
    columns: list[Column]
    sections: list[Section]


class Table(NamedTuple):
    """A table of the paper."""

    name: str  # of its files
    title: str
    caption: str
    blocks: list[Block]
    rows: list[dict[str, Any]]  # long form, raw, those of missing cells included
    sentences: list[str]  # what the numbers say


def as_csv_rows(table: Table) -> list[dict[str, Any]]:
    """Returns the long form for `tables.write_csv`: a row for each number.

    Numbers are raw. The column 'status' is 'measured', 'undefined' (NaN or None) or
    'missing' (planned and not there).
    """
    return table.rows


def as_text(table: Table, width: int = 100, encoding: str = "utf-8") -> str:
    """Writes a table for a console.

    Cells read 'mean ±SD [low, high]', then * for the best and the mark. Columns that do
    not fit go below.

    Args:
      table: what to show.
      width: columns of the console, at least `MIN_WIDTH`.
      encoding: of the console; where it lacks a sign an ASCII one stands for it.
    """
    width = max(width, MIN_WIDTH)
    parts = [textwrap.fill(f"{table.title}. {table.caption}", width)]
    for block in table.blocks:
        parts += [_heading(block.title, width), *_block_texts(block, width, encoding)]
    if not table.blocks and not table.sentences:
        parts.append("No results.")
    parts += [
        textwrap.fill(f"* {text}", width, subsequent_indent="  ")
        for text in table.sentences
    ]
    return _encodable("\n\n".join(parts), encoding) + "\n"


def spans(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Returns (upper heading, number of columns) from left to right."""
    found: list[tuple[str, int]] = []
    for column in columns:
        if found and found[-1][0] == column.upper:
            found[-1] = (column.upper, found[-1][1] + 1)
        else:
            found.append((column.upper, 1))
    return found


def split_columns(
    columns: Sequence[Column], sizes: Sequence[int], limit: int
) -> list[list[int]]:
    """Splits columns into runs of at most `limit` in size, each column once, in order.

    Columns under one upper heading stay together where they fit, and are cut into even
    parts where not; a column that is too large alone stands alone.
    """
    runs: list[list[int]] = []
    start = 0
    for _, count in spans(columns):
        for piece in _even_pieces(range(start, start + count), sizes, limit):
            together = [*runs[-1], *piece] if runs else list(piece)
            if runs and sum(sizes[i] for i in together) <= limit:
                runs[-1] = together
            else:
                runs.append(list(piece))
        start += count
    return runs


def page_runs(block: Block) -> list[list[int]]:
    """Splits the columns of a block into runs that fit across a page."""
    cells = [c for s in block.sections for row in s.rows for c in row.cells]
    limit = INTERVALS if any(cell.interval for cell in cells) else BARE
    if any(cell.sd or cell.p_value for cell in cells):
        limit = FULL
    return split_columns(block.columns, [1] * len(block.columns), limit)


def take_columns(block: Block, run: Sequence[int]) -> Block:
    """Returns the block with some of its columns."""
    sections = [
        Section(s.title, [Row(r.label, [r.cells[i] for i in run]) for r in s.rows])
        for s in block.sections
    ]
    columns = [block.columns[i] for i in run]
    return block._replace(columns=columns, sections=sections)


def shorten(text: str, length: int) -> str:
    """Cuts the middle out of a long text: names often differ at the end."""
    if len(text) <= length:
        return text
    tail = (length - 2) // 2
    return f"{text[: length - 2 - tail]}..{text[len(text) - tail :]}"


def _even_pieces(
    places: range, sizes: Sequence[int], limit: int
) -> Sequence[Sequence[int]]:
    total = len(places)
    for count in range(1, total):
        pieces = [
            places[i * total // count : (i + 1) * total // count] for i in range(count)
        ]
        if all(sum(sizes[i] for i in piece) <= limit for piece in pieces):
            return pieces
    return [places[i : i + 1] for i in range(total)]


def _heading(title: str, width: int) -> str:
    return f"== {shorten(title, width - 6)} ==" if title else ""


def _block_texts(block: Block, width: int, encoding: str) -> list[str]:
    """Returns the block as text, a piece for each run of columns that fits."""
    labels, lines = _lines(block)
    rows = [label for label, line in zip(labels, lines, strict=True) if line]
    label_width = min(max(map(len, [*rows, block.corner])), width // 3)
    columns = [
        _texts(column, [line[i] if line else None for line in lines], encoding)
        for i, column in enumerate(block.columns)
    ]
    sizes = [2 + max(map(len, column)) for column in columns]
    labels = [
        shorten(label, label_width if line else width).ljust(label_width)
        for label, line in zip(labels, lines, strict=True)
    ]
    labels = [" " * label_width, block.corner.ljust(label_width), *labels]
    return [
        _piece(labels, block, columns, run)
        for run in split_columns(block.columns, sizes, width - label_width)
    ]


def _lines(block: Block) -> tuple[list[str], list[list[Cell] | None]]:
    """Returns the labels and the cells of each line, None for that of a section."""
    labels: list[str] = []
    lines: list[list[Cell] | None] = []
    for section in block.sections:
        if section.title:
            labels.append(section.title)
            lines.append(None)
        for row in section.rows:
            labels.append(f"  {row.label}" if section.title else row.label)
            lines.append(row.cells)
    return labels, lines


def _texts(column: Column, cells: list[Cell | None], encoding: str) -> list[str]:
    """Returns head and cells of a column; the parts of all its cells line up."""
    known = [cell for cell in cells if cell is not None]
    marked = any(cell.mark for cell in known)
    starred = any(cell.best for cell in known)
    texts = [
        ""
        if cell is None
        else _cell_text(cell)
        + ("*" if cell.best else " ") * starred
        + (cell.mark or " ") * marked
        for cell in cells
    ]
    head = shorten(column.head, 26) + " " * (starred + marked)
    return [_plain(text, encoding) for text in (head, *texts)]


def _cell_text(cell: Cell) -> str:
    parts = [
        cell.mean,
        f"±{cell.sd}" if cell.sd else "",
        cell.interval,
        f"p {cell.p_value.rjust(6)}" if cell.p_value else "",
    ]
    return " ".join(part for part in parts if part)


def _piece(
    labels: list[str], block: Block, columns: list[list[str]], run: Sequence[int]
) -> str:
    chosen = [columns[i] for i in run]
    widths = [max(map(len, column)) for column in chosen]
    uppers = spans([block.columns[i] for i in run])
    lines = [_upper_line(uppers, widths)] if any(text for text, _ in uppers) else []
    lines += [
        "".join("  " + cell.rjust(w) for cell, w in zip(line, widths, strict=True))
        for line in zip(*chosen, strict=True)
    ]
    labels = labels[len(labels) - len(lines) :]
    return "\n".join(
        (label + line).rstrip() for label, line in zip(labels, lines, strict=True)
    )


def _upper_line(uppers: list[tuple[str, int]], widths: list[int]) -> str:
    line, start = "", 0
    for text, count in uppers:
        room = sum(widths[start : start + count]) + 2 * (count - 1)
        text = shorten(text, room)
        line += "  " + (f" {text} " if len(text) < room - 1 else text).center(room, "-")
        start += count
    return line


_ASCII = str.maketrans(
    {
        "±": tables.ASCII.plus_minus,
        "↑": tables.ASCII.higher,
        "↓": tables.ASCII.lower,
        titles.NONE: tables.ASCII.none,
        "\N{NO-BREAK SPACE}": " ",
    }
)


def _plain(text: str, encoding: str) -> str:
    try:
        "".join(tables.UNICODE).encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII)
    return text


def _encodable(text: str, encoding: str) -> str:
    return _plain(text, encoding).encode(encoding, "replace").decode(encoding)
