r"""A table of a paper as LaTeX: pure ASCII, for `\input` in a document with booktabs.

Names come from outside, so all that is not a plain letter or digit is written as a
command that any engine and any font encoding knows.
"""

import re
import unicodedata
from collections.abc import Sequence

from metaperser_jax.evaluation import sheet, titles
from metaperser_jax.evaluation.sheet import Block, Cell, Column, Row, Section, Table

MAX_LABEL = 34  # characters of a row's label
MAX_HEAD = 16  # of a column's heading
MAX_FLOATS = 16  # in a row: LaTeX holds back 18 and stops at one more

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # not the optional argument of what stands before
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{NO-BREAK SPACE}": "~",
    "\N{REPLACEMENT CHARACTER}": "?",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
_MARKS = {sheet.BETTER: "$^{+}$", sheet.WORSE: "$^{-}$", sheet.UNTESTED: "$^{?}$"}


def as_latex(table: Table) -> str:
    r"""Writes a table for `\input{<name>.tex}`; it needs `\usepackage{booktabs}`.

    A float for each block, and where its columns do not fit a page for each part of
    them, labelled tab:<name>-1, -2, ... The first caption says all, the others refer to
    it. The best of the methods that could be deployed is bold, marks are superscripts,
    what is not defined is --. The sentences stand at the end as comments.
    """
    parts = [f"% {escape(table.title)}. Needs \\usepackage{{booktabs}}."]
    floats = [(block, run) for block in table.blocks for run in sheet.page_runs(block)]
    for number, (block, run) in enumerate(floats, 1):
        parts.append(_float(table, block, run, number))
        if number % MAX_FLOATS == 0 and number < len(floats):
            parts.append(r"\clearpage")
    if not floats:
        parts.append("% No results.")
    if table.sentences:
        parts.append("\n".join(f"% {escape(text)}" for text in table.sentences))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Writes text so that LaTeX typesets it as it stands and runs nothing of it.

    A character that not every font encoding has becomes its code point, 'U+8074'.
    """
    return "".join(map(_escape_one, titles.clean_text(text)))


def number(text: str) -> str:
    """Escapes a number or an interval; its signs are those of mathematics."""
    text = re.sub(r"(?<![\w.])([+-])(?=\d)", "\x00\\1\x00", text)
    pieces = text.split("\x00")
    return "".join(
        f"${piece}$" if i % 2 else escape(piece) for i, piece in enumerate(pieces)
    )


def _escape_one(char: str) -> str:
    if char in _SPECIAL:
        return _SPECIAL[char]
    if char.isascii():
        return char
    base = unicodedata.normalize("NFD", char)
    if len(base) == 2 and base[0].isascii() and base[1] in _ACCENTS:
        return f"\\{_ACCENTS[base[1]]}{{{base[0]}}}"
    return f"\\texttt{{U+{ord(char):04X}}}"


def _float(table: Table, block: Block, run: Sequence[int], number: int) -> str:
    columns = [block.columns[i] for i in run]
    lines = [
        r"\begin{table*}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_caption(table, block, number)}}}",
        rf"\label{{tab:{table.name}-{number}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        *_head(block.corner, columns),
    ]
    for section in block.sections:
        lines += [r"\midrule", *_section(section, run)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}"])


def _caption(table: Table, block: Block, number: int) -> str:
    where = f" {escape(block.title)}." if block.title else ""
    if number == 1:
        return f"{escape(table.title)}.{where} {escape(table.caption)}"
    first = f"\\ref{{tab:{table.name}-1}}"
    return f"{escape(table.title)}, continued.{where} As Table~{first}."


def _head(corner: str, columns: Sequence[Column]) -> list[str]:
    lines = []
    uppers = sheet.spans(columns)
    if any(text for text, _ in uppers):
        cells, rules, start = [], [], 2
        for text, count in uppers:
            cells.append(rf"\multicolumn{{{count}}}{{c}}{{{escape(text)}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + count - 1}}}")
            start += count
        lines += [" & ".join(["", *cells]).lstrip() + r" \\", "".join(rules)]
    heads = [escape(sheet.shorten(column.head, MAX_HEAD)) for column in columns]
    return [*lines, " & ".join([escape(corner), *heads]) + r" \\"]


def _section(section: Section, run: Sequence[int]) -> list[str]:
    lines = []
    if section.title:
        span = rf"\multicolumn{{{len(run) + 1}}}{{l}}"
        lines.append(rf"{span}{{\textit{{{escape(section.title)}}}}} \\")
    for row in section.rows:
        lines += _row(row, run)
    return lines


def _row(row: Row, run: Sequence[int]) -> list[str]:
    """Returns a row's lines: the means, and under them what goes with them."""
    cells = [row.cells[i] for i in run]
    label = escape(sheet.shorten(row.label, MAX_LABEL))
    lines = [" & ".join([f"{{{label}}}", *map(_mean, cells)]) + r" \\"]
    for small in ([number(c.interval) for c in cells], [_p_value(c) for c in cells]):
        if any(small):
            texts = [rf"{{\scriptsize {text}}}" if text else "" for text in small]
            lines.append(" & ".join(["{}", *texts]) + r" \\")
    return lines


def _mean(cell: Cell) -> str:
    if cell.mean == sheet.MISSING_TEXT:
        return rf"\textit{{{escape(cell.mean)}}}"
    mean = number(cell.mean)
    text = rf"\textbf{{{mean}}}" if cell.best else mean
    if cell.sd:
        text += rf" {{\scriptsize $\pm$ {number(cell.sd)}}}"
    return text + _MARKS.get(cell.mark, "")


def _p_value(cell: Cell) -> str:
    if not cell.p_value:
        return ""
    if cell.p_value.startswith("<"):
        return f"$p<{cell.p_value[1:]}$"
    return f"$p={cell.p_value}$"
