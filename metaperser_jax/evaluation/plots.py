"""Pictures of one evaluation run: plain data in, a matplotlib Figure out.

Import this module late: matplotlib is slow to load.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metaperser_jax.evaluation import drawing, tables, titles
from metaperser_jax.evaluation.drawing import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    Style,
    printable,
    to_data_uri,
    to_png,
    to_svg,
)

__all__ = [
    "Gains",
    "cooccurrence_maps",
    "dumbbell",
    "k_curves",
    "learning_rate_map",
    "listener_gains",
    "reliability_diagram",
    "to_data_uri",
    "to_png",
    "to_svg",
    "training_curves",
]

MAX_METHODS = 6  # lines a reader can tell apart in one panel
MAX_LISTENERS = 40  # rows of the dumbbell before a selection is shown
MAX_TENSORS = 40  # rows of the heat map before a selection is shown

BEFORE, AFTER = "no_adaptation", "full"
CURVE_METHODS = (
    "full",
    "no_adaptation",
    "prior_calibration",
    "fine_tune",
    "maml",
    "oracle",
)
ABLATION_METHODS = ("full", "minus_csmt", "minus_da", "minus_lslr", "maml", "fomaml")
STAGE_TITLES = {
    "tune": "Encoder tuning",
    "pretrain": "Pre-training (SSL-E)",
    "meta": "Meta-training",
}


def pick_methods(present: Sequence[str], preferred: Sequence[str]) -> list[str]:
    """Returns up to `MAX_METHODS` of the present methods, the preferred ones first."""
    first = [method for method in preferred if method in present]
    return (first + [m for m in present if m not in first])[:MAX_METHODS]


def spread(total: int, limit: int) -> list[int]:
    """Returns at most `limit` evenly spaced indices of `range(total)`, both ends in."""
    if total <= limit:
        return list(range(total))
    return [round(i * (total - 1) / (limit - 1)) for i in range(limit)]


@drawing.styled
def k_curves(
    records: Sequence[dict],
    metric: str,
    methods: Sequence[str] | None = None,
    level: float = 0.95,
) -> Figure:
    """Draws a metric against K with its intervals, one panel for each scenario.

    Args:
      records: means with intervals, see `tables`.
      metric: which metric.
      methods: which methods, at most six stay readable; None = the first six of
        `CURVE_METHODS` and of the table's order that are present.
      level: coverage of the intervals, for the title.
    """
    rows = tables.select(records, metric=metric)
    rows = [row for row in rows if titles.is_number(row["mean"])]
    present = titles.sort_methods(row["method"] for row in rows)
    if methods is None:
        methods = pick_methods(present, CURVE_METHODS)
    methods = [method for method in methods if method in present]
    scenarios = titles.sort_scenarios(row["scenario"] for row in rows)
    fig = drawing.new_figure(3.7)
    panels = fig.subplots(1, max(1, len(scenarios)), sharey=True, squeeze=False)[0]
    for ax, scenario in zip(panels, scenarios, strict=False):
        _k_panel(ax, tables.select(rows, scenario=scenario), methods)
        ax.set_title(printable(titles.scenario_title(scenario)))
    panels[0].set_ylabel(_value_label(metric))
    title = titles.metric_info(metric).title
    fig.suptitle(printable(f"{title} against K: mean and {level:.0%} interval"))
    drawing.legend_below(fig, [drawing.method_handle(m) for m in methods], 3)
    return fig


def _k_panel(ax: Any, rows: list[dict], methods: Sequence[str]) -> None:
    ks = sorted({row["num_support"] for row in rows})
    places = {k: math.log2(k) if k >= 1 else -1.0 for k in ks}  # K = 0: one step left
    left, right = min(places.values(), default=0.0), max(places.values(), default=0.0)
    dodge = 0.01 * (right - left) if right > left else 0.05
    for i, method in enumerate(methods):
        curve = tables.select(rows, method=method)
        curve = sorted(curve, key=lambda row: row["num_support"])
        shift = dodge * (i - (len(methods) - 1) / 2)
        x = np.array([places[row["num_support"]] + shift for row in curve])
        _curve(ax, x, curve, drawing.style_of(method), band=method == AFTER)
    ax.set_xticks(list(places.values()), [str(k) for k in ks])
    margin = 5 * dodge
    ax.set_xlim(left - margin, right + margin)
    ax.set_xlabel("K, labelled utterances of the listener")
    ax.grid(axis="y")


def _curve(ax: Any, x: np.ndarray, rows: list[dict], style: Style, band: bool) -> None:
    mean, low, high = (
        np.array([float(row[key]) for row in rows]) for key in ("mean", "low", "high")
    )
    if band:
        ax.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0)
    # The mean may leave its interval by rounding, and lengths must not be negative.
    lengths = np.maximum(np.stack([mean - low, high - mean]), 0)
    order = 3 if band else 2
    ax.errorbar(
        x, mean, yerr=lengths, elinewidth=1, capsize=2, zorder=order, **style.options()
    )


class Gains(NamedTuple):
    """Before and after of each listener, sorted by gain, the smallest first."""

    annotators: list[str]  # [listeners]
    before: np.ndarray  # [listeners]
    after: np.ndarray  # [listeners]
    gain: np.ndarray  # [listeners] positive = better, whatever the metric's direction
    num_missing: int  # listeners that lack one of the two values


def listener_gains(
    per_listener: Sequence[dict],
    metric: str,
    scenario: str,
    num_support: int,
    before: str = BEFORE,
    after: str = AFTER,
) -> Gains:
    """Pairs the values of two methods, listener by listener.

    Raises:
      InputError: two values for one listener and method.
    """
    rows = tables.select(
        per_listener, metric=metric, scenario=scenario, num_support=num_support
    )
    values = {
        key: float(row["value"])
        for key, row in tables.index_rows(rows, "method", "annotator").items()
        if titles.is_number(row["value"])
    }
    names = {row["annotator"] for row in rows if row["method"] in (before, after)}
    paired = sorted(n for n in names if (before, n) in values and (after, n) in values)
    start = np.array([values[before, name] for name in paired], dtype=float)
    end = np.array([values[after, name] for name in paired], dtype=float)
    gain = start - end if titles.metric_info(metric).lower_is_better else end - start
    order = np.argsort(gain, kind="stable")
    ordered = [paired[i] for i in order]
    missing = len(names) - len(paired)
    return Gains(ordered, start[order], end[order], gain[order], missing)


def gain_counts(gains: Gains) -> str:
    """Says how many listeners gained and lost, for example '9 of 12 better, ...'."""
    better, worse = int((gains.gain > 0).sum()), int((gains.gain < 0).sum())
    total = len(gains.annotators)
    text = f"{better:,} of {total:,} listeners better, {worse:,} worse"
    if same := total - better - worse:
        text += f", {same:,} the same"
    return text + (f", {gains.num_missing:,} without a value" * bool(gains.num_missing))


@drawing.styled
def dumbbell(
    gains: Gains,
    metric: str,
    title: str = "",
    before: str = BEFORE,
    after: str = AFTER,
) -> Figure:
    """Draws each listener's value before and after, the largest gain on top.

    Beyond `MAX_LISTENERS` a selection at evenly spaced ranks of gain is drawn (both
    extremes included) and the title says so.

    Args:
      gains: from `listener_gains`, of the same two methods.
      metric: which metric, for the axis.
      title: where, for example the scenario and K.
      before: the method drawn hollow.
      after: the method drawn filled: circle = better, triangle = worse, square = same.
    """
    total = len(gains.annotators)
    shown = spread(total, MAX_LISTENERS)
    lines = [title, gain_counts(gains)]
    if len(shown) < total:
        lines.append(f"shown: {len(shown)} of {total:,}, evenly spaced ranks of gain")
    fig = drawing.new_figure(1.6 + 0.19 * max(3, len(shown)) + 0.16 * len(lines))
    ax = fig.subplots()
    for row, i in enumerate(shown):
        _dumbbell_row(ax, row, gains.before[i], gains.after[i], gains.gain[i])
    names = [printable(gains.annotators[i], 28) for i in shown]
    ax.set_yticks(range(len(shown)), names)
    ax.set_ylim(-0.8, max(3, len(shown)) - 0.2)
    ax.set_ylabel("listener")
    ax.set_xlabel(_value_label(metric))
    ax.grid(axis="x")
    fig.suptitle(_printable_lines(lines))
    handles = _dumbbell_handles(gains.gain[shown], before, after)
    drawing.legend_below(fig, handles, 2)
    return fig


def _printable_lines(lines: Sequence[str]) -> str:
    return "\n".join(printable(line) for line in lines if line)


def _change_style(gain: float) -> Style:
    if gain == 0:
        return Style(GREY, "s", "-", width=1.6, size=6.5)
    if gain > 0:
        return Style(BLUE, "o", "-", width=1.6, size=6.5)
    return Style(VERMILLION, "v", (0, (2, 1)), width=1.6, size=6.5)


def _dumbbell_row(ax: Any, row: int, before: float, after: float, gain: float) -> None:
    style = _change_style(gain)
    ax.plot([before, after], [row, row], **style.options() | {"marker": ""})
    ax.plot(
        before, row, "o", color=style.colour, markerfacecolor="white", markersize=5.5
    )
    ax.plot(after, row, style.marker, color=style.colour, markersize=style.size)


def _dumbbell_handles(gain: np.ndarray, before: str, after: str) -> list[Line2D]:
    start = printable(f"before: {titles.method_title(before)}")
    handles = [Line2D([], [], ls="", marker="o", color=GREY, mfc="white", label=start)]
    for sign, word in ((1.0, "better"), (-1.0, "worse"), (0.0, "the same")):
        if (np.sign(gain) == sign).any():
            label = printable(f"after: {titles.method_title(after)}, {word}")
            handles.append(Line2D([], [], **_change_style(sign).options(), label=label))
    return handles


@drawing.styled
def learning_rate_map(learning_rates: Mapping[str, Any]) -> Figure:
    """Draws the learned rate of every adapted tensor at every inner step.

    Numbers stand in the cells where there is room. A diverging map centred at zero is
    used when a rate is negative (ascent), a sequential one otherwise.

    Args:
      learning_rates: path of a tensor -> [steps]; beyond `MAX_TENSORS` a selection is
        drawn and the title says so.
    """
    paths = list(learning_rates)
    shown = [paths[i] for i in spread(len(paths), MAX_TENSORS)]
    steps = max((len(learning_rates[path]) for path in shown), default=0)
    rates = np.full((len(shown), steps), np.nan)  # [tensors, steps]
    for row, path in enumerate(shown):
        rates[row, : len(learning_rates[path])] = learning_rates[path]
    height = 1.0 + 0.27 * max(3, len(shown))
    fig = drawing.new_figure(height)
    ax = fig.subplots()
    limit = float(np.max(np.abs(rates[np.isfinite(rates)]), initial=0.0)) or 1.0
    image = drawing.draw_matrix(ax, rates, limit, _rate_text)
    labelled = range(0, steps, 1 + steps // 25)
    ax.set_xticks(labelled, [str(step + 1) for step in labelled])
    ax.set_yticks(range(len(shown)), tensor_names(shown))
    ax.set_xlabel("inner step")
    fig.colorbar(image, ax=ax, label="learning rate", pad=0.02, aspect=8 * height)
    lines = ["Learned rates of the inner loop"]
    if len(shown) < len(paths):
        lines.append(f"shown: {len(shown)} of {len(paths):,} tensors, evenly spaced")
    fig.suptitle(_printable_lines(lines))
    drawing.drop_crowded_numbers(fig, ax, steps)
    return fig


def tensor_names(paths: Sequence[str]) -> list[str]:
    """Makes parameter paths readable: the folders that all share are left out."""
    parts = [path.split("/") for path in paths]
    shared = 0
    while parts and all(
        len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts
    ):
        shared += 1
    # A lone tensor keeps the name of its layer.
    shared = min(shared, max(0, min(map(len, parts), default=0) - 2))
    names = [" / ".join(p[shared:]).replace("_", " ") for p in parts]
    return [printable(name, 44) for name in names]


def _rate_text(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 10 else f"{value:.1e}"


@drawing.styled
def reliability_diagram(
    reliability: Mapping[str, dict], methods: Sequence[str] | None = None
) -> Figure:
    """Draws observed frequency against confidence, with the counts of the bins below.

    Args:
      reliability: method -> confidence, frequency and count, each [bins].
      methods: up to three, one column each; None = no adaptation, full, one more.
    """
    if methods is None:
        present = titles.sort_methods(reliability)
        methods = pick_methods(present, (BEFORE, AFTER, "prior_calibration"))[:3]
    fig = drawing.new_figure(4.5)
    grid = fig.subplots(
        2, len(methods), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1]
    )
    for column, method in enumerate(methods):
        bins = filled_bins(reliability[method])
        _reliability_panel(grid[0, column], bins, drawing.style_of(method))
        _count_panel(grid[1, column], bins, drawing.style_of(method))
        ece = titles.format_number(bins_ece(bins))
        lines = [titles.method_title(method), f"ECE of these bins: {ece}"]
        grid[0, column].set_title(_printable_lines(lines))
    grid[0, 0].set_ylabel("observed frequency")
    grid[1, 0].set_ylabel("predictions")
    fig.supxlabel("confidence (predicted probability)", fontsize=9)
    fig.suptitle("Reliability: calibrated predictions lie on the dashed diagonal")
    return fig


def filled_bins(bins: dict) -> np.ndarray:
    """Returns [3, bins]: confidence, frequency, count of the bins that hold any."""
    rows = [bins["confidence"], bins["frequency"], bins["count"]]
    table = np.array(rows, dtype=float)
    return table[:, np.isfinite(table).all(axis=0) & (table[2] > 0)]


def bins_ece(bins: np.ndarray) -> float:
    """Returns the expected calibration error of [3, bins], NaN without any bin."""
    confidence, frequency, count = bins
    if not count.sum():
        return math.nan
    return float((count * np.abs(confidence - frequency)).sum() / count.sum())


def _reliability_panel(ax: Any, bins: np.ndarray, style: Style) -> None:
    confidence, frequency, _ = bins
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    ax.vlines(confidence, confidence, frequency, color=style.colour, alpha=0.5, lw=2)
    ax.plot(confidence, frequency, color=style.colour, marker=style.marker, ms=5)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.grid()


def _count_panel(ax: Any, bins: np.ndarray, style: Style) -> None:
    confidence, _, count = bins
    width = 0.8 / max(10, confidence.size)
    ax.bar(confidence, count, width, color=style.colour, alpha=0.6, edgecolor=BLACK)
    ax.yaxis.set_major_locator(ticker.MaxNLocator(3, integer=True))
    ax.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))


@drawing.styled
def cooccurrence_maps(
    cooccurrence: Mapping[str, Any],
    classes: Sequence[str],
    methods: Sequence[str] | None = None,
) -> Figure:
    """Draws which labels are predicted where a listener gave which, side by side.

    Args:
      cooccurrence: method -> [classes, classes], row = true label, column = predicted;
        rows are shown as shares of their sum, so that rare labels can be read.
      classes: label names, in the order of the rows.
      methods: up to two; None = no adaptation (before) and full (after) if present.
    """
    if methods is None:
        present = titles.sort_methods(cooccurrence)
        methods = pick_methods(present, (BEFORE, AFTER))[:2]
    names = [printable(name, 16) for name in classes]
    fig = drawing.new_figure(1.9 + 0.26 * max(4, len(names)))
    panels = fig.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for ax, method in zip(panels, methods, strict=True):
        shares = 100 * row_shares(np.asarray(cooccurrence[method], dtype=float))
        image = drawing.draw_matrix(ax, shares, 100.0, "{:.0f}".format)
        ax.set_xticks(range(len(names)), names, rotation=90)
        ax.set_title(printable(titles.method_title(method)))
        ax.set_xlabel("predicted label")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylabel("label given by the listener")
    fig.colorbar(image, ax=panels, label="% of the row", pad=0.02, aspect=25)
    fig.suptitle("Which label is predicted where a listener gave which")
    for ax in panels:
        drawing.drop_crowded_numbers(fig, ax, len(names))
    return fig


def row_shares(matrix: np.ndarray) -> np.ndarray:
    """Divides each row of [classes, classes] by its sum; empty rows become NaN."""
    total = matrix.sum(axis=1, keepdims=True)
    shares = np.full(matrix.shape, np.nan)
    return np.divide(matrix, total, out=shares, where=total > 0)


@drawing.styled
def training_curves(curves: Sequence[dict]) -> Figure:
    """Draws losses against the step, a panel for each stage.

    Thick dashed lines are the development listeners; thin lines, drawn for the full
    method or where a stage has a single method, are the training listeners.

    Args:
      curves: dicts with method, stage ('tune', 'pretrain' or 'meta'), step, name
        ('train_loss' or 'dev_loss') and value; of more than `MAX_METHODS` methods the
        first.
    """
    stages = [s for s in STAGE_TITLES if any(row["stage"] == s for row in curves)]
    fig = drawing.new_figure(3.7)
    panels = fig.subplots(1, max(1, len(stages)), squeeze=False)[0]
    drawn: list[str] = []
    for ax, stage in zip(panels, stages, strict=False):
        rows = tables.select(curves, stage=stage)
        present = titles.sort_methods(row["method"] for row in rows)
        methods = pick_methods(present, ABLATION_METHODS)
        _training_panel(ax, rows, methods)
        ax.set_title(STAGE_TITLES[stage])
        drawn += methods
    panels[0].set_ylabel("loss")
    fig.suptitle("Training curves")
    handles = [
        drawing.method_handle(method, linestyle="", linewidth=0)
        for method in titles.sort_methods(drawn)
    ]
    for name, (line, width) in _LOSS_LINES.items():
        label = _LOSS_TITLES[name]
        handles.append(Line2D([], [], color=GREY, ls=line, lw=width, label=label))
    drawing.legend_below(fig, handles, 3)
    return fig


_LOSS_LINES = {"train_loss": ("-", 0.8), "dev_loss": ((0, (4, 1.5)), 1.8)}
_LOSS_TITLES = {"train_loss": "training listeners", "dev_loss": "development listeners"}


def _training_panel(ax: Any, rows: list[dict], methods: Sequence[str]) -> None:
    for method in methods:
        style = drawing.style_of(method)
        for name, (line, width) in _LOSS_LINES.items():
            if name == "train_loss" and method != AFTER and len(methods) > 1:
                continue
            curve = tables.select(rows, method=method, name=name)
            curve = sorted(curve, key=lambda row: row["step"])
            x = [row["step"] for row in curve]
            y = [float(row["value"]) for row in curve]
            every = max(1, len(curve) // 6)
            options = style.options() | {"linestyle": line, "linewidth": width}
            ax.plot(x, y, markevery=every, **options | {"markersize": 4.5})
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    ax.grid(axis="y")


def _value_label(metric: str) -> str:
    info = titles.metric_info(metric)
    direction = "lower is better" if info.lower_is_better else "higher is better"
    return printable(f"{titles.metric_label(metric)}, {direction}")
