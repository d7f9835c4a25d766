"""One page: machine, versions, config, encoder, corpus; each line ok, warning or error.

Nothing is encoded or trained but the clip of the encoder's self-test.
"""

import functools
import pathlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import jax

from metaperser_jax import features
from metaperser_jax.data import corpora, splits
from metaperser_jax.encoders import selftest
from metaperser_jax.encoders.encoder import Encoder
from metaperser_jax.encoders.pretrained import LoadReport, read_encoder, report_lines
from metaperser_jax.encoders.tuning import num_parameters, trainable
from metaperser_jax.errors import InputError, MachineError, Problems
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
MOST_DROPPED = 6  # names shown of the tensors of a checkpoint that are not used


class Page(NamedTuple):
    """What was found."""

    text: str
    exit_code: int  # 0, or that of the error on it


def page(settings: Settings, workdir: pathlib.Path, problems: Problems) -> Page:
    """Returns the page."""
    lines: list[str] = []
    try:
        lines.extend(_machine_lines(workdir))
        lines.append("ok       config")
        encoder = None
        if settings.features.inputs == "audio":
            chosen = settings.encoder
            loaded = read_encoder(chosen.name, chosen.revision or None, chosen.dtype)
            encoder = loaded.encoder
            lines.extend(encoder_lines(loaded.report))
            lines.extend(selftest.describe(selftest.self_test(encoder, loaded.params)))
            lines.extend(_tuning_lines(settings, encoder, loaded.params))
        cache = cache_dir(settings, workdir)
        corpus = load_corpus(settings, cache, problems)
        corpus = corpora.validate_corpus(corpus, problems)
        lines.extend(_corpus_lines(settings, corpus))
        if encoder is not None:
            lines.append(_cache_line(settings, encoder, corpus, cache, problems))
    except (InputError, MachineError) as error:
        lines += [*_listed(problems), f"error    {error}"]
        return Page("\n".join(lines), error.exit_code)
    failed = any(line.startswith("error") for line in lines)
    return Page("\n".join([*lines, *_listed(problems)]), InputError.exit_code * failed)


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


def _listed(problems: Problems, most: int = 20) -> list[str]:
    lines = [f"{p.severity:8s} {p.where}: {p.message}" for p in problems.rows[:most]]
    if len(problems.rows) > most:
        lines.append(f"warning  and {len(problems.rows) - most} more problems")
    return lines
