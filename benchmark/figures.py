"""The figures of the report and of comparisons, as SVG.

Text is drawn as paths, so a figure needs no font and carries no text of a model as
text; names are stripped of what a figure would read as a formula.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark import display

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#777777")
_MAX_NAME = 42


class Bar(NamedTuple):
    """A value with its interval; None = not known."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Pair(NamedTuple):
    """Two models on one task."""

    name: str
    value_a: float
    value_b: float
    clear: bool  # the difference holds after correction for many tests


def radar(axes: Sequence[str], models: Mapping[str, Sequence[float | None]]) -> bytes:
    """Draws one polygon a model; needs three axes at least.

    Args:
      axes: their names.
      models: name -> [axes] values from 0 to 1; below 0 is drawn at 0, None left out.
    """
    figure = _figure(6.8, 4.4)
    plot = figure.add_axes((0.25, 0.12, 0.5, 0.72), projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(axes), endpoint=False)
    for (name, values), color in zip(models.items(), _colors(models), strict=True):
        known = [i for i, value in enumerate(values) if value is not None]
        ring = [*known, *known[:1]]
        heights = [min(1.0, max(0.0, values[i])) for i in ring]  # type: ignore
        plot.plot(angles[ring], heights, "o-", color=color, ms=4, label=_name(name))
        plot.fill(angles[ring], heights, color=color, alpha=0.06)
    plot.set_theta_offset(np.pi / 2)  # type: ignore[attr-defined]
    plot.set_theta_direction(-1)  # type: ignore[attr-defined]
    plot.set_xticks(angles, [_wrapped(axis) for axis in axes], fontsize=9)
    plot.set_ylim(0, 1)
    plot.set_yticks([0.25, 0.5, 0.75], ["", "0.5", ""], fontsize=8, color="#777")
    plot.tick_params(axis="x", pad=6)
    for label, angle in zip(plot.get_xticklabels(), angles, strict=True):
        side = round(float(np.sin(angle)), 3)  # a label must not reach into the disc
        place = "center" if side == 0 else "left" if side > 0 else "right"
        label.set_horizontalalignment(place)
    _legend(figure, len(models))
    return _svg(figure)


def bars(groups: Sequence[str], models: Mapping[str, Sequence[Bar]]) -> bytes:
    """Draws horizontal bars, groups from top to bottom, with their intervals.

    Args:
      groups: their names.
      models: name -> one bar a group.
    """
    step = 0.8 / max(len(models), 1)
    height = 1.0 + len(groups) * max(0.45, 0.19 * len(models))
    figure = _figure(6.8, height)
    plot = figure.add_axes((0.23, 0.62 / height, 0.74, 1 - 0.8 / height))
    for row, (name, values) in enumerate(models.items()):
        color = COLORS[row % len(COLORS)]
        place = np.arange(len(groups)) + (row - (len(models) - 1) / 2) * step
        lengths = [0.0 if bar.value is None else bar.value for bar in values]
        plot.barh(place, lengths, step * 0.9, color=color, label=_name(name))
        for y, bar in zip(place, values, strict=True):
            if bar.low is not None and bar.high is not None:
                plot.plot([bar.low, bar.high], [y, y], color="#222", lw=1)
    plot.axvline(0, color="#222", lw=0.8)
    plot.set_yticks(np.arange(len(groups)), [_wrapped(group) for group in groups])
    plot.set_ylim(len(groups) - 0.5, -0.5)
    plot.set_xlim(right=1.02)
    plot.set_xlabel("chance-corrected score (0 = chance, 1 = perfect), 95 % interval")
    _finish(plot)
    _legend(figure, len(models))
    return _svg(figure)


def dumbbell(pairs: Sequence[Pair], model_a: str, model_b: str, label: str) -> bytes:
    """Draws two dots and a line between them for each task.

    Args:
      pairs: tasks from top to bottom, values on one scale.
      model_a: its name.
      model_b: its name.
      label: of the scale.
    """
    height = 1.1 + 0.27 * len(pairs)
    figure = _figure(8.4, height)
    plot = figure.add_axes((0.36, 0.62 / height, 0.61, 1 - 0.8 / height))
    for y, pair in enumerate(pairs):
        color, width = ("#333", 2.2) if pair.clear else ("#bbb", 1.2)
        plot.plot([pair.value_a, pair.value_b], [y, y], color=color, lw=width, zorder=1)
    for values, name, color in (
        ([pair.value_a for pair in pairs], model_a, COLORS[0]),
        ([pair.value_b for pair in pairs], model_b, COLORS[1]),
    ):
        rows = np.arange(len(pairs))
        plot.scatter(values, rows, color=color, s=34, zorder=2, label=_name(name))
    plot.set_yticks(np.arange(len(pairs)), [_name(pair.name) for pair in pairs])
    plot.set_ylim(len(pairs) - 0.5, -0.5)
    plot.set_xlabel(f"{label}; dark line: the difference is clear")
    _finish(plot)
    _legend(figure, 2)
    return _svg(figure)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _legend(figure: "Figure", number: int) -> None:
    """Puts the names above the figure, where no name is too long for its place."""
    figure.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=min(number, 2),
        fontsize=9,
        frameon=False,
    )


def _finish(plot) -> None:
    plot.tick_params(axis="y", labelsize=9, length=0)
    plot.grid(axis="x", color="#ddd", lw=0.6)
    plot.set_axisbelow(True)
    for side in ("top", "right", "left"):
        plot.spines[side].set_visible(False)


def _svg(figure: "Figure") -> bytes:
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "report"}):
        metadata = {"Date": None, "Creator": None}
        # 'tight' makes room for whatever a label needs
        figure.savefig(file, format="svg", metadata=metadata, bbox_inches="tight")
    return file.getvalue()


def _colors(models: Mapping) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(len(models))]


def _name(text: str) -> str:
    """Returns a short name that is no formula and that the font can draw."""
    short = display.shorten(display.printable(text), _MAX_NAME)
    drawn = "".join(c if ord(c) < 0x250 else "?" for c in short)
    return drawn.replace("$", r"\$").lstrip("_") or "?"


def _wrapped(text: str) -> str:
    """Breaks a name after '&' or a comma, for a narrow margin."""
    return _name(text).replace(" & ", " &\n").replace(", ", ",\n")
