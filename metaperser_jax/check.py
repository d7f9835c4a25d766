"""One page: machine, versions, config, corpus; each line ok, warning or error."""

import pathlib
import shutil
from typing import NamedTuple

import jax

from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.experiment import open_experiment, trained_methods
from metaperser_jax.results import versions
from metaperser_jax.settings import Settings

LEAST_FREE_GB = 1.0


class Page(NamedTuple):
    """What was found."""

    text: str
    exit_code: int  # 0, or that of the error on it


def page(settings: Settings, workdir: pathlib.Path, problems: Problems) -> Page:
    """Returns the page; it loads the corpus and its features, and trains nothing."""
    lines = [f"ok       {name} {version}" for name, version in versions().items()]
    kind = jax.devices()[0].platform
    if kind == "cpu":
        lines.append("warning  no GPU or TPU: fine for cached features, slow for audio")
    free = shutil.disk_usage(workdir).free / 1e9
    grade = "ok     " if free > LEAST_FREE_GB else "warning"
    lines.append(f"{grade}  {free:.1f} GB free at {workdir}")
    lines.append("ok       config")
    try:
        experiment = open_experiment(settings, workdir, problems)
    except (InputError, MachineError) as error:
        lines += _listed(problems)
        return Page("\n".join([*lines, f"error    {error}"]), error.exit_code)
    corpus = experiment.corpus
    lines.append(
        f"ok       corpus {corpus.name}: {len(corpus.clips)} clips, "
        f"{len(corpus.annotators)} listeners, {len(corpus.ratings.clip)} ratings"
    )
    lines.append(
        f"ok       {len(experiment.folds)} fold(s), methods to train: "
        f"{', '.join(trained_methods(settings)) or 'none'}"
    )
    return Page("\n".join([*lines, *_listed(problems)]), 0)


def _listed(problems: Problems, most: int = 20) -> list[str]:
    lines = [f"{p.severity:8s} {p.where}: {p.message}" for p in problems.rows[:most]]
    if len(problems.rows) > most:
        lines.append(f"warning  and {len(problems.rows) - most} more problems")
    return lines
