"""One page: machine, versions, config, corpus; each line ok, warning or error."""

import pathlib
import shutil

import jax

from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.experiment import open_experiment, trained_methods
from metaperser_jax.results import versions
from metaperser_jax.settings import Settings

LEAST_FREE_GB = 1.0


def page(settings: Settings, workdir: pathlib.Path, problems: Problems) -> str:
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
        return "\n".join([*lines, f"error    {error}"])
    corpus = experiment.corpus
    lines.append(
        f"ok       corpus {corpus.name}: {len(corpus.clips)} clips, "
        f"{len(corpus.annotators)} listeners, {len(corpus.ratings.clip)} ratings"
    )
    lines.append(
        f"ok       {len(experiment.folds)} fold(s), methods to train: "
        f"{', '.join(trained_methods(settings)) or 'none'}"
    )
    lines += [f"{p.severity:8s} {p.where}: {p.message}" for p in problems.rows[:20]]
    if len(problems.rows) > 20:
        lines.append(f"warning  and {len(problems.rows) - 20} more problems")
    return "\n".join(lines)
