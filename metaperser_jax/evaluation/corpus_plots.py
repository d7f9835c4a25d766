"""Pictures of a corpus before training: who labels how. Import it late: matplotlib.

Plain arrays in, a figure out, in the style of `drawing`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metaperser_jax.evaluation import drawing
from metaperser_jax.evaluation.drawing import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    VERMILLION,
    printable,
)

MAX_ROWS = 40  # listeners of a map; of more, evenly spaced ranks are drawn
MAX_NAMED = 30  # listeners on both sides of the kappa map; more are named every n-th


def _names(names: Sequence[str], limit: int = 20) -> list[str]:
    return [printable(name, limit) for name in names]


@drawing.styled
def kappa_map(kappa: np.ndarray, names: Sequence[str]) -> Figure:
    """Draws Cohen's kappa of each pair of listeners; pairs without one stay grey.

    Args:
      kappa: [listeners, listeners], NaN where there is none.
      names: [listeners]
    """
    count = len(names)
    fig = drawing.new_figure(min(6.4, 2.4 + 0.24 * max(count, 6)))
    ax = fig.subplots()
    ax.set_facecolor(drawing.PALE)
    known = kappa[np.isfinite(kappa)]
    limit = max(float(np.abs(known).max(initial=0.0)), 0.2)
    image = drawing.draw_matrix(ax, kappa, limit, "{:.2f}".format)
    step = 1 + (count - 1) // MAX_NAMED
    places = list(range(0, count, step))
    shown = _names([names[i] for i in places], 14)
    ax.set_xticks(places, shown, rotation=90)
    ax.set_yticks(places, shown)
    fig.colorbar(image, ax=ax, label="Cohen's kappa", pad=0.02, aspect=25)
    lines = ["Agreement of each pair of listeners on their common clips"]
    if step > 1:
        lines.append(f"every {_ordinal(step)} listener is named")
    fig.suptitle("\n".join(lines))
    drawing.drop_crowded_numbers(fig, ax, count)
    return fig


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _shown(total: int) -> list[int]:
    if total <= MAX_ROWS:
        return list(range(total))
    return [round(i * (total - 1) / (MAX_ROWS - 1)) for i in range(MAX_ROWS)]


@drawing.styled
def rate_map(
    rates: np.ndarray, names: Sequence[str], classes: Sequence[str], headline: int
) -> Figure:
    """Draws how often each listener gave each label, sorted by one class.

    Args:
      rates: [listeners, classes] shares of the clips, NaN = never asked.
      names: [listeners]
      classes: label names.
      headline: index of the class to sort by.
    """
    order = np.argsort(-np.nan_to_num(rates[:, headline]), kind="stable")
    shown = [int(order[i]) for i in _shown(len(order))]
    label_space = 0.07 * max((len(name) for name in _names(classes, 18)), default=0)
    fig = drawing.new_figure(1.2 + label_space + 0.2 * max(4, len(shown)))
    ax = fig.subplots()
    values = 100 * rates[shown]
    image = drawing.draw_matrix(ax, values, 100.0, "{:.0f}".format)
    ax.set_xticks(range(len(classes)), _names(classes, 18), rotation=90)
    ax.set_yticks(range(len(shown)), _names([names[i] for i in shown]))
    fig.colorbar(image, ax=ax, label="% of the listener's clips", pad=0.02, aspect=30)
    title = f"How often each listener gave each label, sorted by {classes[headline]}"
    lines = [printable(title)]
    if len(shown) < len(order):
        lines.append(f"shown: {len(shown)} of {len(order):,}, evenly spaced ranks")
    fig.suptitle("\n".join(lines))
    drawing.drop_crowded_numbers(fig, ax, len(classes))
    return fig


@drawing.styled
def label_count_map(shares: np.ndarray, names: Sequence[str]) -> Figure:
    """Draws how many labels each listener gives a clip, as stacked bars.

    Args:
      shares: [listeners, numbers] share of the clips with 0, 1, 2 ... labels.
      names: [listeners]
    """
    mean = shares @ np.arange(shares.shape[1])
    order = np.argsort(mean, kind="stable")
    shown = [int(order[i]) for i in _shown(len(order))]
    fig = drawing.new_figure(1.5 + 0.19 * max(4, len(shown)))
    ax = fig.subplots()
    left = np.zeros(len(shown))
    groups = count_groups(shares.mean(axis=0))
    for (low, high), (colour, hatch) in zip(groups, _FILLS, strict=False):
        part = shares[shown, low : high + 1].sum(axis=1)
        words = f"{low}" if low == high else f"{low} to {high}"
        ax.barh(
            range(len(shown)), part, left=left, color=colour, hatch=hatch, label=words,
            edgecolor="white", linewidth=0.4, height=0.8,
        )  # fmt: skip
        left += part
    ax.set_yticks(range(len(shown)), _names([names[i] for i in shown]))
    ax.set_ylim(-0.6, len(shown) - 0.4)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    ax.set_xlabel("share of the listener's clips")
    fig.legend(loc="outside lower center", ncols=len(groups), title="labels")
    lines = ["Number of labels a clip, most on top"]
    if len(shown) < len(order):
        lines.append(f"shown: {len(shown)} of {len(order):,}, evenly spaced ranks")
    fig.suptitle("\n".join(lines))
    return fig


_FILLS = (
    (drawing.SKY, ""),
    (BLUE, ""),
    (ORANGE, "//"),
    (VERMILLION, "xx"),
    (GREY, "..."),
)


def count_groups(share: np.ndarray) -> list[tuple[int, int]]:
    """Divides numbers of labels into at most five groups.

    Each of the four smallest numbers is a group where they cover three quarters;
    otherwise the groups have about equal shares.

    Args:
      share: [numbers] how often 0, 1, 2 ... labels are given.

    Returns:
      The (fewest, most) labels of each group, ascending, without gaps.
    """
    used = np.flatnonzero(share > 0)
    first, last = int(used.min()), int(used.max())
    if last - first < len(_FILLS):
        return [(number, number) for number in range(first, last + 1)]
    if share[: first + 4].sum() >= 0.75 * share.sum():
        return [*((n, n) for n in range(first, first + 4)), (first + 4, last)]
    below = np.cumsum(share) - share / 2  # at the middle of each number
    group = np.minimum(below / share.sum() * len(_FILLS), len(_FILLS) - 1).astype(int)
    numbers = [np.flatnonzero(group == g) for g in range(len(_FILLS))]
    ends = [
        int(found.max()) for found in numbers if found.size and found.max() >= first
    ]
    ends[-1] = last
    starts = [first, *(end + 1 for end in ends[:-1])]
    return list(zip(starts, ends, strict=True))


@drawing.styled
def length_histogram(seconds: np.ndarray) -> Figure:
    """Draws how long clips last; `seconds` [clips] are finite."""
    fig = drawing.new_figure(2.6)
    ax = fig.subplots()
    ax.hist(seconds, bins=min(40, max(5, len(seconds) // 5)), color=BLUE)
    ax.axvline(float(np.median(seconds)), color=BLACK, linestyle="--", linewidth=1)
    ax.set_xlabel("seconds (dashed: median)")
    ax.set_ylabel("clips")
    _count_axis(ax.yaxis)
    ax.grid(axis="y")
    fig.suptitle("Lengths of the clips")
    return fig


def _count_axis(axis: Any) -> None:
    axis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))


@drawing.styled
def class_bars(ratings: Sequence[int], classes: Sequence[str]) -> Figure:
    """Draws how often each class was given, most often on top."""
    order = [int(i) for i in np.argsort(np.array(ratings), kind="stable")]
    fig = drawing.new_figure(0.9 + 0.22 * max(4, len(order)))
    ax = fig.subplots()
    values = np.array(ratings)[order]
    bars = ax.barh(range(len(order)), values, color=BLUE, height=0.75)
    ax.bar_label(bars, [f"{value:,}" for value in values], padding=3)
    ax.set_yticks(range(len(order)), _names([classes[i] for i in order], 28))
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.margins(x=0.12)
    ax.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    ax.set_xlabel("ratings that give the class")
    fig.suptitle("Labels given")
    return fig


@drawing.styled
def null_panels(nulls: Sequence[tuple[str, float, np.ndarray]]) -> Figure:
    """Draws observed values against their nulls, one row each.

    Args:
      nulls: title, observed value, [permutations] values of the null.
    """
    fig = drawing.new_figure(0.8 + 1.15 * len(nulls))
    panels = fig.subplots(len(nulls), 1, squeeze=False)[:, 0]
    for ax, (title, observed, null) in zip(panels, nulls, strict=True):
        ax.hist(null, bins=25, color=GREY)
        ax.axvline(observed, color=VERMILLION, linewidth=2)
        ax.set_title(printable(title), loc="left")
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        low, high = min(observed, null.min()), max(observed, null.max())
        pad = 0.04 * (high - low) or 0.01
        ax.set_xlim(low - pad, high + pad)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(7))
    panels[-1].set_xlabel("bits")
    handles = [
        Line2D([], [], color=VERMILLION, linewidth=2, label="observed"),
        Line2D([], [], color=GREY, linewidth=6, label="permuted labels"),
    ]
    drawing.legend_below(fig, handles, 2)
    fig.suptitle("Observed, and with permuted labels")
    return fig
