"""Text of unknown origin on a terminal, in a table or in a spreadsheet."""

import unicodedata
from collections.abc import Sequence

WIDTH = 100  # columns of a console table
_FORMULA = ("=", "+", "-", "@", "|", "%")  # what a spreadsheet may take for a formula
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def printable(text: str, limit: int | None = None, keep_lines: bool = False) -> str:
    """Returns text whose control characters are written out as escapes.

    So a response cannot colour, move or overwrite a terminal, nor turn the direction
    of the text around it.

    Args:
      text: any text.
      limit: characters of the input that are kept; the rest is counted.
      keep_lines: leave line ends and tabs as they are.
    """
    cut = text if limit is None else text[:limit]
    if not cut.isprintable():
        kept = "\n\t" if keep_lines else ""
        cut = "".join(c if c in kept else _visible(c) for c in cut)
    rest = len(text) - limit if limit is not None else 0
    return f"{cut} ... ({rest:,} more characters)" if rest > 0 else cut


def csv_safe(value: object) -> object:
    """Returns a cell that a spreadsheet takes for text; numbers stay as they are."""
    if not isinstance(value, str):
        return value
    text = printable(value, keep_lines=True)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def number(value: float | None, digits: int = 3) -> str:
    """Returns a number with `digits` decimals, '-' for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def between(low: float | None, high: float | None, digits: int = 3) -> str:
    """Returns an interval, '' where there is none."""
    return "" if low is None or high is None else f"{low:.{digits}f}..{high:.{digits}f}"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH
) -> str:
    """Returns a console table no wider than `width`.

    The first column is aligned left, the others right. What is too long for its column
    is cut in the middle; the widest columns give way first.
    """
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 4:
        widths[widths.index(max(widths))] -= 1
    lines = [
        "  ".join(
            shorten(cell, size).ljust(size)
            if i == 0
            else shorten(cell, size).rjust(size)
            for i, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def shorten(text: str, size: int) -> str:
    """Returns the text, cut in the middle to `size` characters."""
    if len(text) <= size:
        return text
    head = (size - 1) // 2
    return text[:head] + "~" + text[len(text) - (size - 1 - head) :]


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
