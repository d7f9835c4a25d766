"""The page of a corpus before training, for a browser: verdict, tables, pictures."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.agreement import MIN_COMMON, Differences, Kappas
from metaperser_jax.data.ratings import Information
from metaperser_jax.data.survey import Spread, Survey, nulls
from metaperser_jax.evaluation import pages, titles

FILE_NAME = "check.html"
MAX_LISTENERS = 60  # rows of the table of listeners, the most prolific ones

MEASURES = (
    "Same clips: labels are permuted among the ratings of each clip, so that what a "
    "clip says stays. Any clip: among all ratings, which also counts that listeners "
    "heard different clips. Others: what most others said of the clip. Saved: what "
    "knowing how often this listener gives each label saves over the rates of the "
    "others, each rating predicted by the rest."
)


class Picture(NamedTuple):
    """A picture as the page shows it."""

    uri: str  # the picture itself as a data address
    alt: str  # what it shows, for those who do not see it
    caption: str


def kappa_sentence(kappas: Kappas) -> str:
    """Says how pairs of listeners agree."""
    upper = kappas.kappa[np.triu_indices(len(kappas.kappa), 1)]
    known = upper[~np.isnan(upper)]
    shown = f"{known.size:,} pairs of {len(kappas.listeners)} listeners"
    if not known.size:
        return (
            f"Cohen's kappa: no pair of the {len(kappas.listeners)} listeners with the "
            f"most ratings has {MIN_COMMON} common clips and varied labels"
        )
    low, middle, high = np.quantile(known, [0, 0.5, 1])
    return (
        f"Cohen's kappa: median {middle:.2f}, from {low:.2f} to {high:.2f}, over "
        f"{shown} with {MIN_COMMON} or more common clips"
    )


def spread_sentence(spread: Spread) -> str:
    """Says how the rate of the headline class varies."""
    low, middle, high = map(
        titles.format_share, (spread.low, spread.median, spread.high)
    )
    points = titles.format_number(100 * spread.deviation, 1)
    return (
        f"{low} to {high}, median {middle}; standard deviation between listeners "
        f"{points} points, sampling taken off"
    )


def information_sentence(differences: Differences) -> str:
    """Says how much the listener tells about the label, whatever the clip."""
    kind = "label" if differences.single else "class, mean"
    parts = [_bits(kind, differences.information)]
    for title, found in (
        ("number of labels", differences.label_count),
        ("label set", differences.label_set),
    ):
        if found is not None:
            parts.append(_bits(title, found))
    return f"{'; '.join(parts)}. Entropy of the {kind}: {differences.entropy:.2f} bits."


def rounded(value: float, digits: int = 3) -> float:
    """Rounds, and makes minus zero zero."""
    return round(float(value), digits) + 0.0


def _bits(title: str, found: Information) -> str:
    return (
        f"I({title}; listener) = {found.plug_in:.2f} bits plug-in, "
        f"{rounded(found.corrected, 2):.2f} corrected"
    )


def write_corpus_page(survey: Survey, folder: str | pathlib.Path) -> pathlib.Path:
    """Writes the page; pictures are inside, nothing is fetched, no script runs.

    The same survey gives the same bytes.

    Args:
      survey: what was found.
      folder: where to write; made if it does not exist.

    Returns:
      The path of the HTML file.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    page = pages.render(
        "corpus.html",
        ["report.css"],
        survey=survey,
        summary=_summary(survey),
        agreement=_agreement(survey),
        kappa=kappa_sentence(survey.kappas),
        information=information_sentence(survey.differences),
        measures=MEASURES,
        nulls=null_rows(survey),
        listeners=_listener_rows(survey),
        classes=_class_rows(survey),
        pictures=_pictures(survey),
    )
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def _summary(survey: Survey) -> str:
    corpus = survey.corpus
    return (
        f"{len(corpus.clips):,} clips, {len(corpus.annotators):,} listeners, "
        f"{len(corpus.ratings.clip):,} ratings, {len(corpus.classes)} classes"
    )


def _agreement(survey: Survey) -> list[tuple[str, str]]:
    """Returns (name, alpha) rows, and the spread of the headline class."""
    found, spread = survey.differences, survey.spread
    rows = [
        (
            "Labels, nominal" if found.single else "Classes, nominal, mean",
            titles.format_number(found.alpha),
        )
    ]
    if not found.single:
        masi = titles.format_number(found.masi_alpha)
        rows.append(("Label sets, MASI distance", masi))
    rows += [
        (f"{name}, interval", titles.format_number(alpha))
        for name, alpha in zip(
            survey.corpus.dimensions, found.dimension_alphas, strict=True
        )
    ]
    low, middle, high = map(
        titles.format_share, (spread.low, spread.median, spread.high)
    )
    text = f"{low} to {high}, median {middle}; standard deviation between listeners "
    text += f"{100 * spread.deviation:.1f} points, sampling taken off"
    return [*rows, (f"Rate of {spread.name} by listener", text)]


def null_rows(survey: Survey) -> list[tuple[str, ...]]:
    """Returns the cells of the table of nulls, without its heading."""
    return [
        (
            title,
            titles.format_number(null.observed),
            titles.format_number(rounded(null.mean)),
            titles.format_number(rounded(null.high)),
            titles.format_p(null.p_value),
            titles.format_signed(rounded(null.excess)),
        )
        for title, null in nulls(survey.differences)
    ]


def _listener_rows(survey: Survey) -> list[tuple[str, ...]]:
    habits, corpus = survey.habits, survey.corpus
    headline = corpus.classes.index(survey.spread.name)
    gain = survey.differences.gain.per_listener.tolist()
    order = np.argsort(-habits.ratings, kind="stable")[:MAX_LISTENERS]
    kinds = corpus.groups or ("",) * len(corpus.annotators)
    return [
        (
            corpus.annotators[i] + (f" ({kinds[i]})" if kinds[i] else ""),
            f"{habits.ratings[i]:,}",
            titles.format_share(habits.rates[i, headline]),
            titles.format_number(habits.labels_per_clip[i], 2),
            f"{habits.classes_used[i]}",
            titles.format_number(habits.kappa[i], 2),
            titles.format_signed(rounded(gain[i], 2), 2),
        )
        for i in order.tolist()
    ]


def _class_rows(survey: Survey) -> list[tuple[str, ...]]:
    return [
        (
            row["name"],
            f"{row['ratings']:,}",
            f"{row['share']:.1%}",
            f"{row['clips']:,}",
            titles.format_number(row["alpha"]),
            f"{row['unused_by']:,} of {row['listeners']:,}",
        )
        for row in survey.classes
    ]


def _pictures(survey: Survey) -> dict[str, Picture]:
    """Returns name -> picture; what cannot be drawn is left out."""
    from metaperser_jax.evaluation import corpus_plots as plots  # late: matplotlib

    corpus, kappas = survey.corpus, survey.kappas
    found: dict[str, Picture] = {}
    if np.isfinite(kappas.kappa).any():
        names = [corpus.annotators[i] for i in kappas.listeners]
        text = kappa_sentence(kappas)
        if len(names) < len(corpus.annotators):
            text += f"; shown are the {len(names)} listeners with the most ratings"
        found["kappa"] = _picture(
            plots.kappa_map(kappas.kappa, names), f"Heat map. {text}.",
            f"{text}. Pairs with fewer common clips are grey.",
        )  # fmt: skip
    found |= _habit_pictures(survey, plots)
    found["nulls"] = _null_picture(survey.differences, plots)
    found["classes"] = _picture(
        plots.class_bars([row["ratings"] for row in survey.classes], corpus.classes),
        "Bars: " + ", ".join(f"{r['name']} {r['ratings']:,}" for r in survey.classes),
        "How many ratings give each class.",
    )
    seconds = corpus.seconds
    if seconds is not None and np.isfinite(seconds).any():
        known = seconds[np.isfinite(seconds)]
        text = (
            f"{known.min():.2f} to {known.max():.2f} s, median {np.median(known):.2f}"
        )
        found["lengths"] = _picture(
            plots.length_histogram(known), f"Histogram: {text} s.",
            f"Clips last {text} s.",
        )  # fmt: skip
    return found


def _null_picture(differences: Differences, plots: Any) -> Picture:
    rows = nulls(differences)
    words = [f"{t} {n.observed:.3f} against {n.mean:.3f}" for t, n in rows]
    return _picture(
        plots.null_panels([(t, n.observed, n.null) for t, n in rows]),
        f"Histograms of the nulls with the observed values: {'; '.join(words)}.",
        f"{len(rows[0][1].null)} permutations; each row has its own axis.",
    )


def _habit_pictures(survey: Survey, plots: Any) -> dict[str, Picture]:
    corpus, habits, spread = survey.corpus, survey.habits, survey.spread
    headline = corpus.classes.index(spread.name)
    text = (
        f"{spread.name} is given in {titles.format_share(spread.low)} to "
        f"{titles.format_share(spread.high)} of a listener's clips"
    )
    found = {
        "rates": _picture(
            plots.rate_map(habits.rates, corpus.annotators, corpus.classes, headline),
            f"Map of {len(corpus.annotators)} listeners by {len(corpus.classes)} "
            f"classes: {text}.",
            f"Each row is one listener: {text}. Rows differ by what listeners heard as "
            "well as by how they label.",
        )
    }
    if not survey.differences.single:
        low, high = habits.labels_per_clip.min(), habits.labels_per_clip.max()
        words = f"Labels a clip, by listener: {low:.2f} to {high:.2f} on average."
        fig = plots.label_count_map(habits.label_counts, corpus.annotators)
        found["counts"] = _picture(fig, f"Stacked bars. {words}", words)
    return found


def _picture(fig: Any, alt: str, caption: str) -> Picture:
    from metaperser_jax.evaluation.drawing import to_data_uri

    return Picture(to_data_uri(fig), alt, caption)
