"""How answers are scored: settings, and what turns sums of statistics into a score."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from benchmark import intervals
from benchmark.metrics import text
from benchmark.metrics.counts import NUMBER_BUILDERS
from benchmark.metrics.events import EVENT_BUILDERS
from benchmark.typing import Direction, Task

Profile = Literal["strict", "parity"]
JudgeMode = Literal["undecided", "always"]


class Settings(NamedTuple):
    """How answers are scored."""

    profile: Profile = "strict"  # 'parity': as the released scripts do, judge included
    judge_mode: JudgeMode = "undecided"  # 'always': a verdict outdoes the parser
    num_resamples: int = intervals.NUM_RESAMPLES
    seed: int = 0


STRICT = Settings()


class Measure(NamedTuple):
    """A score of a sum of statistics."""

    name: str
    compute: intervals.Compute  # NaN = undefined
    direction: Direction
    version: str = "1"
    reconstructed: bool = False
    binary: bool = False  # statistics are (right, 1)


def accuracy(sums: Float[np.ndarray, "*sets 2"]) -> Float[np.ndarray, "*sets"]:
    """Returns right / all of summed (right, 1)."""
    return np.asarray(sums[..., 0] / sums[..., 1])


ACCURACY = Measure("accuracy", accuracy, "higher", binary=True)


def measure_of(task: Task, profile: Profile = "strict") -> Measure:
    """Returns what turns summed statistics of a task's examples into its score.

    Raises:
      InputError: the metric is not known.
    """
    if task.type == "classification":
        return ACCURACY
    return text_measure(metrics_of(task, profile)[0])


def metrics_of(task: Task, profile: Profile = "strict") -> tuple[text.TextMetric, ...]:
    """Returns the metric of a task, then those reported beside it.

    Raises:
      InputError: the metric is not known.
    """
    builders = {**NUMBER_BUILDERS, **EVENT_BUILDERS}
    if task.metric not in builders:
        return text.metrics_for(task, profile)
    start = f"{task.metric}:"
    names = [task.metric, *(name for name in builders if name.startswith(start))]
    return tuple(builders[n](task._replace(metric=n), profile) for n in names)


def text_measure(metric: text.TextMetric) -> Measure:
    """Returns a metric of texts as what is computed from its summed statistics."""
    return Measure(
        metric.name,
        metric.compute,
        metric.direction,
        metric.version,
        metric.reconstructed,
    )
