"""Tables and verdicts of the page."""

import statistics
from collections.abc import Sequence

NOTHING = "–"  # noqa: RUF001


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a Markdown table, line by line."""
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def number(value: float | None, form: str) -> str:
    return NOTHING if value is None else form.format(value)


def milliseconds(seconds: Sequence[float] | None) -> str:
    """Returns the median as text."""
    return NOTHING if not seconds else in_ms(statistics.median(seconds))


def in_ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f} ms"


def verdict(wanted: str, found: str, met: bool) -> str:
    """Returns a list item that says of a target whether it is met."""
    return f"- Target {'met' if met else '**missed**'}: {wanted}; found {found}."
