"""One page: machine, versions, config, encoder, corpus; each line ok, warning or error.

Then the listeners: how they agree and differ, what is odd, and whether personalisation
has something to learn. Nothing is encoded or trained but the clip of the encoder's
self-test.
"""

import functools
import pathlib
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from metaperser_jax import features
from metaperser_jax.data import corpora, splits
from metaperser_jax.data.iemocap import IemocapSpec, rater_table
from metaperser_jax.data.survey import Survey, survey_corpus
from metaperser_jax.encoders import selftest
from metaperser_jax.encoders.encoder import Encoder
from metaperser_jax.encoders.pretrained import LoadReport, read_encoder, report_lines
from metaperser_jax.encoders.tuning import num_parameters, trainable
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.evaluation import corpus_page, titles
from metaperser_jax.experiment import (
    cache_dir,
    choose_tuning,
    how_read,
    load_corpus,
    trained_methods,
)
from metaperser_jax.results import versions
from metaperser_jax.settings import Settings
from metaperser_jax.typing import Corpus, Params

LEAST_FREE_GB = 1.0
MOST_LISTENERS = 15  # lines of single listeners
MOST_CLASSES = 20  # lines of single classes
WIDTH = 100  # columns of the page
MOST_OF_A_KIND = 3  # problems shown
MOST_DROPPED = 6  # names shown of the tensors of a checkpoint that are not used


class Page(NamedTuple):
    """What was found."""

    text: str
    exit_code: int  # 0, or that of the error on it
    survey: Survey | None = None  # of the corpus, where it could be read


def page(settings: Settings, workdir: pathlib.Path, problems: Problems) -> Page:
    """Returns the page; a fault of the encoder does not keep it from the corpus."""
    lines: list[str] = []
    survey, corpus, encoder = None, None, None
    lines.extend(_machine_lines(workdir))
    lines.append("ok       config")
    codes: list[int] = []
    if settings.features.inputs == "audio":
        try:
            encoder, found = _load_and_test(settings)
            lines.extend(found)
        except (InputError, MachineError) as error:
            lines.append(f"error    {error}")
            codes.append(error.exit_code)
    try:
        cache = cache_dir(settings, workdir)
        corpus = load_corpus(settings, cache, problems)
        corpus = corpora.validate_corpus(corpus, problems)
        survey = look_at(settings, corpus, problems)
        lines.extend(_corpus_lines(settings, corpus))
        if encoder is not None:
            lines.append(_cache_line(settings, encoder, corpus, cache, problems))
        lines.extend(problem_lines(problems))
    except (InputError, MachineError) as error:
        lines += [*problem_lines(problems), f"error    {error}"]
        codes.append(error.exit_code)
    if any(line.startswith("error") for line in lines):
        codes.append(InputError.exit_code)
    if survey is not None and corpus is not None:
        lines.extend(builder_lines(settings, corpus))
        lines.extend(survey_lines(survey))
    return Page("\n".join(lines), codes[0] if codes else 0, survey)


def _load_and_test(settings: Settings) -> tuple[Encoder, list[str]]:
    """Returns the encoder, and what was loaded and found in its self-test."""
    chosen = settings.encoder
    loaded = read_encoder(chosen.name, chosen.revision or None, chosen.dtype)
    tested = selftest.self_test(loaded.encoder, loaded.params)
    lines = [
        *encoder_lines(loaded.report),
        *selftest.describe(tested),
        *_tuning_lines(settings, loaded.encoder, loaded.params),
    ]
    return loaded.encoder, lines


def look_at(settings: Settings, corpus: Corpus, problems: Problems) -> Survey:
    """Surveys a corpus that was validated, with what the settings ask of it."""
    chosen = settings.evaluation
    return survey_corpus(
        corpus,
        problems,
        min_clips=min(chosen.num_support) + chosen.min_query,
        group_by=settings.split.group_by,
    )


def write_page(page: Page, workdir: pathlib.Path) -> pathlib.Path | None:
    """Writes the page of the corpus for a browser, `<workdir>/check/check.html`.

    Returns:
      Its path, or None where no corpus could be read.
    """
    if page.survey is None:
        return None
    return corpus_page.write_corpus_page(page.survey, workdir / "check")


def _machine_lines(workdir: pathlib.Path) -> Iterator[str]:
    for name, version in versions().items():
        yield f"ok       {name} {version}"
    if jax.devices()[0].platform == "cpu":
        yield "warning  no GPU or TPU: fine for cached features, slow for audio"
    free = shutil.disk_usage(workdir).free / 1e9
    grade = "ok     " if free > LEAST_FREE_GB else "warning"
    yield f"{grade}  {free:.1f} GB free at {workdir}"


def encoder_lines(report: LoadReport) -> Iterator[str]:
    """Yields what was loaded, what was dropped and what was missing.

    Args:
      report: from `read_encoder`.
    """
    first, *rest = report_lines(report)
    yield f"ok       {first}"
    for line in rest:
        doubtful = line.strip().startswith(("RANDOM", "not in the file"))
        yield f"{'warning' if doubtful else 'ok     '}  {line.strip()}"
    names = list(report.dropped)
    if names:
        more = f" and {len(names) - MOST_DROPPED} more" * (len(names) > MOST_DROPPED)
        yield f"ok       not used: {', '.join(names[:MOST_DROPPED])}{more}"


def _tuning_lines(
    settings: Settings, encoder: Encoder, params: Params
) -> Iterator[str]:
    """Yields what of the encoder each fold trains; nothing where it is frozen."""
    tuning = choose_tuning(settings, encoder, params)
    if tuning.mode != "frozen":
        trained, _ = jax.eval_shape(functools.partial(trainable, tuning=tuning), params)
        share = f"{num_parameters(trained):,} of {num_parameters(params):,}"
        yield f"ok       tuning {tuning.mode}: {share} parameters, in each fold"


def _corpus_lines(settings: Settings, corpus: Corpus) -> Iterator[str]:
    yield (
        f"ok       corpus {corpus.name}: {len(corpus.clips)} clips, "
        f"{len(corpus.annotators)} listeners, {len(corpus.ratings.clip)} ratings"
    )
    folds = splits.make_folds(corpus, settings.split)
    yield (
        f"ok       {len(folds)} fold(s), methods to train: "
        f"{', '.join(trained_methods(settings)) or 'none'}"
    )


def builder_lines(settings: Settings, corpus: Corpus) -> Iterator[str]:
    """Yields what the corpus' builder found, beside what every corpus is asked.

    Args:
      settings: of the run.
      corpus: with the builder's summary.
    """
    common = corpora.summarise(corpus._replace(summary={}))
    hidden = {*common, "raters"}  # the matrix below says it
    found = {k: v for k, v in corpus.summary.items() if k not in hidden}
    if not found:
        return
    yield ""
    yield "what was read"
    for line in corpora.describe(found).splitlines():
        yield textwrap.fill(line, WIDTH, subsequent_indent="    ")
    if isinstance(settings.data, IemocapSpec):
        yield ""
        yield rater_table(corpus)


def _cache_line(
    settings: Settings,
    encoder: Encoder,
    corpus: Corpus,
    cache: pathlib.Path,
    problems: Problems,
) -> str:
    kept = features.open_cache(
        encoder, cache / "features", problems, how_read(settings)
    )
    done = sum(content in kept.samples for content in corpus.content_hashes)
    return f"ok       features: {done} of {len(corpus.clips)} clips are cached"


def problem_lines(problems: Problems) -> list[str]:
    """Returns the first problems of each kind, so that none hides another."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for p in problems.rows:
        shown = f"{p.severity:8s} {p.where}: {p.message}"
        kinds.setdefault((p.severity, p.kind), []).append(shown)
    lines = []
    for (severity, kind), found in kinds.items():
        lines += found[:MOST_OF_A_KIND]
        if (more := len(found) - MOST_OF_A_KIND) > 0:
            lines.append(f"{severity:8s} and {more} more of this kind ({kind})")
    return lines


def survey_lines(survey: Survey) -> Iterator[str]:
    """Yields what was found of the listeners, in lines of at most `WIDTH` columns.

    Args:
      survey: from `survey_corpus`.
    """
    sections = {
        "listeners": [*_listener_table(survey), "", *_agreement_lines(survey)],
        "do they differ (bits)": _difference_lines(survey),
        "classes": _class_table(survey),
        "looked at": _finding_lines(survey),
        "what to fix": _fix_lines(survey),
        f"verdict: {survey.verdict.title}": _wrap(survey.verdict.text),
    }
    for title, lines in sections.items():
        yield from ("", title, *(f"  {line}".rstrip() for line in lines))


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH - 2, subsequent_indent=indent)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines up columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _short(name: str, limit: int = 30) -> str:
    """Returns a name as a terminal may show it."""
    name = titles.clean_text(name)
    return name if len(name) <= limit else name[: limit - 3] + "..."


_number, _share = titles.format_number, titles.format_share


def _listener_table(survey: Survey) -> list[str]:
    habits, corpus = survey.habits, survey.corpus
    headline = corpus.classes.index(survey.spread.name)
    gain = survey.differences.gain.per_listener.tolist()
    order = np.argsort(-habits.ratings, kind="stable")[:MOST_LISTENERS].tolist()
    columns = (
        (f"{habits.ratings[i]:,}" for i in order),
        (_share(habits.rates[i, headline], "-") for i in order),
        (_number(habits.labels_per_clip[i], 2) for i in order),
        (f"{habits.classes_used[i]} of {len(corpus.classes)}" for i in order),
        (_number(habits.kappa[i], 2, "-") for i in order),
        (_number(corpus_page.rounded(gain[i], 2), 2, "-") for i in order),
    )
    heading = (
        "listener", "clips", _short(survey.spread.name, 16), "labels/clip", "classes",
        "kappa", "own rates save",
    )  # fmt: skip
    names = [_short(corpus.annotators[i]) for i in order]
    rows = [heading, *zip(names, *columns, strict=True)]
    if (left := len(corpus.annotators) - len(order)) > 0:
        rows += _quantile_rows(survey, headline)
        return [*_table(rows), f"{left:,} more listeners are not shown"]
    return _table(rows)


def _quantile_rows(survey: Survey, headline: int) -> list[tuple[str, ...]]:
    """Returns the least, median and largest of each column over all listeners."""
    habits, rows = survey.habits, []
    gain, num_classes = survey.differences.gain.per_listener, habits.rates.shape[1]
    for title, q in (("least of all", 0.0), ("median", 0.5), ("largest", 1.0)):

        def at(values: np.ndarray, q: float = q) -> float:
            known = values[~np.isnan(values)]
            return float(np.quantile(known, q)) if known.size else np.nan

        rows.append(
            (
                title,
                f"{at(habits.ratings.astype(float)):,.0f}",
                _share(at(habits.rates[:, headline]), "-"),
                _number(at(habits.labels_per_clip), 2),
                f"{at(habits.classes_used.astype(float)):.0f} of {num_classes}",
                _number(at(habits.kappa), 2, "-"),
                _number(corpus_page.rounded(at(gain), 2), 2, "-"),
            )
        )
    return rows


def _agreement_lines(survey: Survey) -> list[str]:
    differences, spread = survey.differences, survey.spread
    of = "of the label" if differences.single else "mean over the classes"
    alphas = [f"{_number(differences.alpha, none='undefined')} ({of})"]
    if not differences.single:
        masi = _number(differences.masi_alpha, none="undefined")
        alphas.append(f"{masi} (label sets, MASI)")
    names = zip(survey.corpus.dimensions, differences.dimension_alphas, strict=True)
    alphas += [f"{_number(a, none='undefined')} ({_short(n)})" for n, a in names]
    lines = _wrap(f"Krippendorff's alpha: {', '.join(alphas)}", "  ")
    lines += _wrap(corpus_page.kappa_sentence(survey.kappas), "  ")
    rate = corpus_page.spread_sentence(spread)
    return lines + _wrap(f"rate of {_short(spread.name)}: {rate}", "  ")


def _difference_lines(survey: Survey) -> list[str]:
    heading = ("", "observed", "permuted: mean", "95 %", "p", "above the mean")
    rows = [heading, *corpus_page.null_rows(survey)]
    differences = survey.differences
    texts = [corpus_page.information_sentence(differences), corpus_page.MEASURES]
    return [*_table(rows), *(line for text in texts for line in _wrap(text, "  "))]


def _class_table(survey: Survey) -> list[str]:
    rows = [("class", "ratings", "share", "clips", "alpha", "never given by")]
    rows += [
        (
            _short(row["name"]),
            f"{row['ratings']:,}",
            f"{row['share']:.1%}",
            f"{row['clips']:,}",
            _number(row["alpha"], none="-"),
            f"{row['unused_by']:,} of {row['listeners']:,}",
        )
        for row in survey.classes[:MOST_CLASSES]
    ]
    more = len(survey.classes) - MOST_CLASSES
    return [*_table(rows), *([f"and {more} more classes"] if more > 0 else [])]


def _finding_lines(survey: Survey) -> Iterator[str]:
    for finding in survey.findings:
        grade = "warning" if finding.doubtful else "ok     "
        yield from _wrap(f"{grade}  {titles.clean_text(finding.text)}", " " * 9)


def _fix_lines(survey: Survey) -> Iterator[str]:
    fixes = [finding.fix for finding in survey.findings if finding.fix]
    for number, fix in enumerate(fixes, start=1):
        yield from _wrap(f"{number}. {fix}", "   ")
    if not fixes:
        yield "nothing that was looked for"
