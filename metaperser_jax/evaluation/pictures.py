"""Which pictures a report holds, each with its caption and a text that describes it.

Import this module late: it loads matplotlib.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from metaperser_jax.evaluation import plots, tables, titles
from metaperser_jax.evaluation.findings import sentence_list


class Picture(NamedTuple):
    """A picture as the report shows it."""

    name: str  # of its PNG file, without the ending
    uri: str  # the picture itself as a data address
    png: bytes
    alt: str  # what it shows, for those who do not see it
    caption: str


def make_picture(name: str, fig: Figure, alt: str, caption: str) -> Picture:
    """Renders a figure for the page (SVG) and for its file (PNG)."""
    alt, caption = titles.clean_text(alt), titles.clean_text(caption)
    return Picture(name, plots.to_data_uri(fig), plots.to_png(fig), alt, caption)


def curve_pictures(
    records: Sequence[dict], metrics: Sequence[str], level: float
) -> list[Picture]:
    """Draws K-curves: of each metric the main methods, of the first the ablations."""
    if len({row["num_support"] for row in records}) < 2:
        return []
    pictures = []
    for metric in metrics:
        rows = tables.select(records, metric=metric)
        rows = [row for row in rows if titles.is_number(row["mean"])]
        present = titles.sort_methods(row["method"] for row in rows)
        main = plots.pick_methods(present, plots.CURVE_METHODS)
        ablations = [m for m in plots.ABLATION_METHODS if m in present]
        if main:
            pictures.append(_curve_picture(rows, metric, main, level))
        if metric == metrics[0] and any(m.startswith("minus_") for m in ablations):
            pictures.append(
                _curve_picture(rows, metric, ablations, level, "_ablations")
            )
    return pictures


def _curve_picture(
    rows: Sequence[dict],
    metric: str,
    methods: Sequence[str],
    level: float,
    suffix: str = "",
) -> Picture:
    title = titles.metric_info(metric).title
    parts = [
        f"{titles.scenario_title(scenario)}: "
        + "; ".join(
            _curve_words(tables.select(rows, scenario=scenario, method=method), method)
            for method in methods
            if tables.select(rows, scenario=scenario, method=method)
        )
        for scenario in titles.sort_scenarios(row["scenario"] for row in rows)
    ]
    caption = (
        f"{title} against the number of labelled utterances K, with {level:.0%} "
        "intervals; points of one K stand side by side so that they can be told apart."
    )
    alt = f"Line chart of {title} against K. " + ". ".join(parts) + "."
    fig = plots.k_curves(rows, metric, methods, level)
    return make_picture(f"k_curves_{metric}{suffix}", fig, alt, caption)


def _curve_words(rows: Sequence[dict], method: str) -> str:
    rows = sorted(rows, key=lambda row: row["num_support"])
    ends = [
        f"{titles.format_number(row['mean'])} at K = {row['num_support']}"
        for row in (rows[0], rows[-1])
    ]
    return f"{titles.method_title(method)} {' to '.join(dict.fromkeys(ends))}"


def listener_pictures(
    per_listener: Sequence[dict], metric: str, num_support: int
) -> list[Picture]:
    """Draws each listener before and after, a picture for each scenario."""
    pictures = []
    for scenario in titles.sort_scenarios(row["scenario"] for row in per_listener):
        gains = plots.listener_gains(per_listener, metric, scenario, num_support)
        if gains.annotators:
            pictures.append(_listener_picture(gains, metric, scenario, num_support))
    return pictures


def _listener_picture(
    gains: plots.Gains, metric: str, scenario: str, num_support: int
) -> Picture:
    where = f"{titles.scenario_title(scenario)}, K = {num_support}"
    counts = plots.gain_counts(gains)
    median, low, high = (
        titles.format_signed(float(f(gains.gain))) for f in (np.median, np.min, np.max)
    )
    alt = (
        f"Dumbbell chart of {titles.metric_info(metric).title} of each listener before "
        f"and after adaptation. {where}: {counts}; gains from {low} to {high}, median "
        f"{median}."
    )
    caption = (
        f"{where}: hollow = before, filled = after adaptation, a triangle on a dashed "
        f"line = made worse. Median gain {median} (positive = better)."
    )
    fig = plots.dumbbell(gains, metric, where)
    return make_picture(f"listeners_{_file_name(scenario)}", fig, alt, caption)


def _file_name(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text)


def rate_pictures(learning_rates: Mapping[str, Any]) -> list[Picture]:
    """Draws the learned rates; none where nothing was learned."""
    rates = {path: list(steps) for path, steps in learning_rates.items() if len(steps)}
    if not rates:
        return []
    cells = [(v, path, s + 1) for path, row in rates.items() for s, v in enumerate(row)]
    finite = [cell for cell in cells if titles.is_number(cell[0])]
    ends = [
        f"{word} {value:.2g} ({path}, step {step})"
        for word, pick in (("smallest", min), ("largest", max))
        for value, path, step in ([pick(finite)] if finite else [])
    ]
    negative = sum(value < 0 for value, _, _ in finite)
    alt = (
        f"Heat map of the learned rates of {len(rates)} tensors over "
        f"{max(map(len, rates.values()))} inner steps: {sentence_list(ends)}."
    )
    caption = "Learned rate of each tensor at each inner step of the full method."
    if negative:
        caption += f" {negative} of {len(finite)} are negative: these steps go uphill."
    fig = plots.learning_rate_map(rates)
    return [make_picture("learning_rates", fig, alt, caption)]


def reliability_pictures(reliability: Mapping[str, dict]) -> list[Picture]:
    """Draws the reliability diagram; none without bins."""
    filled = {
        method: bins
        for method, bins in reliability.items()
        if plots.filled_bins(bins).size
    }
    if not filled:
        return []
    words = [
        f"{titles.method_title(method)} {plots.bins_ece(plots.filled_bins(bins)):.3f}"
        for method, bins in filled.items()
    ]
    alt = (
        "Reliability diagram: observed frequency against confidence, with the number "
        "of predictions in each bin. Expected calibration error: "
        f"{sentence_list(words)}."
    )
    caption = (
        "Below the diagonal a method is overconfident. The ECE in the picture pools "
        "all predictions; the one in the tables is a mean over listeners."
    )
    fig = plots.reliability_diagram(filled)
    return [make_picture("reliability", fig, alt, caption)]


def cooccurrence_pictures(
    cooccurrence: Mapping[str, Any], classes: Sequence[str]
) -> list[Picture]:
    """Draws true against predicted labels; none without fitting matrices."""
    fitting = {
        method: matrix
        for method, matrix in cooccurrence.items()
        if len(matrix) == len(classes) > 0
    }
    if not fitting:
        return []
    words = []
    for method in titles.sort_methods(fitting):
        shares = plots.row_shares(np.asarray(fitting[method], dtype=float)).diagonal()
        known = shares[np.isfinite(shares)]
        mean = titles.format_share(float(known.mean()) if known.size else None)
        words.append(f"{titles.method_title(method)} {mean}")
    alt = (
        f"Two matrices of {len(classes)} given by {len(classes)} predicted labels. "
        f"Mean share on the diagonal: {sentence_list(words)}."
    )
    caption = (
        "Each row: the labels predicted where the listener gave that label, in percent "
        "of the row. Several labels may be given and predicted for one utterance."
    )
    fig = plots.cooccurrence_maps(fitting, classes)
    return [make_picture("cooccurrence", fig, alt, caption)]


def training_pictures(curves: Sequence[dict]) -> list[Picture]:
    """Draws the training curves; none without any."""
    known = [row for row in curves if row["stage"] in plots.STAGE_TITLES]
    if not known:
        return []
    last = {
        (row["stage"], row["method"]): row
        for row in sorted(known, key=lambda row: row["step"])
        if row["name"] == "dev_loss" and titles.is_number(row["value"])
    }
    words = [
        f"{titles.method_title(method)} {row['value']:.3f} "
        f"({plots.STAGE_TITLES[stage]}, step {row['step']})"
        for (stage, method), row in sorted(last.items())
    ]
    alt = "Line chart of the losses against the step. Last loss on the development "
    alt += f"listeners: {sentence_list(words) or 'none recorded'}."
    caption = (
        "Thick dashed = development listeners. Thin = training listeners, drawn for "
        "the full method and where a stage has one method."
    )
    return [make_picture("training_curves", plots.training_curves(known), alt, caption)]
