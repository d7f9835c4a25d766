"""Metrics of answers that give a number; all as functions of sums.

An answer without a number is not scored, as in the release; how often that happens is
the N/A rate beside the score (`na_rate`), and `domain_adjusted` puts it into the score
the way domain scores are published. Values are clipped to the task's range.
"""

import functools
import math
import re
from collections.abc import Callable

import numpy as np

from benchmark.metrics.records import Row, Sums, Values, record
from benchmark.metrics.sequence import ratio
from benchmark.metrics.text import Profile, TextMetric
from benchmark.numbers import parse_number
from benchmark.typing import Direction, Task

NUMBER_STATS = (
    *("expected", "valid", "x", "y", "xx", "yy", "xy", "absolute", "squared", "equal"),
)  # x answered, y expected
POSITION_STATS = ("expected", "valid", "error")
FLAT = 1e-12  # variances below this share of the mean square count as 0
MAX_EXACT = 1e12  # larger values have squares without meaning
_COORDINATE = re.compile(
    r"(?<![\w.])[-+]?\d{1,9}(?:\.\d{1,40})?(?:e[-+]?\d{1,2})?(?![\w])"
)
_DEGREES = re.compile(r"deg(?:ree)?s?\b|°|\brad", re.I)


def number_row(
    reference: str,
    answer: str,
    unit: str = "",
    value_range: tuple[float, float] | None = None,
) -> Row:
    """Returns the sums of one number against another; zeros where either is missing."""
    y = parse_number(reference, unit or None, value_range).value
    x = parse_number(answer, unit or None, value_range).value
    if y is None or abs(y) > MAX_EXACT:
        return Row((0.0,) * len(NUMBER_STATS), empty=True)
    if x is None or abs(x) > MAX_EXACT:
        return Row((1.0, *(0.0,) * (len(NUMBER_STATS) - 1)), unreadable=True)
    if value_range:
        x = min(max(x, value_range[0]), value_range[1])
    gap = abs(x - y)
    equal = gap <= 1e-9 * max(1.0, abs(y))
    return Row((1.0, 1.0, x, y, x * x, y * y, x * y, gap, gap * gap, equal))


def pearson(sums: Sums) -> Values:
    """Pearson correlation; NaN where either side does not vary."""
    n, x, y, xx, yy, xy = np.moveaxis(sums[..., 1:7], -1, 0)
    var_x, var_y = n * xx - x * x, n * yy - y * y
    varies = (var_x > FLAT * n * xx) & (var_y > FLAT * n * yy)
    x_spread, y_spread = (np.sqrt(np.where(varies, v, 0.0)) for v in (var_x, var_y))
    shared = np.where(varies, n * xy - x * y, 0.0)
    return np.clip(ratio(shared, x_spread * y_spread), -1.0, 1.0)


def mean_absolute_error(sums: Sums) -> Values:
    """Mean of |x - y| over the answers that give a number."""
    return ratio(sums[..., 7], sums[..., 1])


def mean_squared_error(sums: Sums) -> Values:
    """Mean of (x - y)^2 over the answers that give a number."""
    return ratio(sums[..., 8], sums[..., 1])


def accuracy(sums: Sums) -> Values:
    """Share of equal numbers among the answers that give one."""
    return ratio(sums[..., 9], sums[..., 1])


def mean_error(sums: Sums) -> Values:
    """Mean error of the positions that were answered."""
    return ratio(sums[..., 2], sums[..., 1])


def na_rate(sums: Sums) -> Values:
    """Share of examples whose answer gives no number; NaN without examples.

    Takes the sums of any metric of this module.
    """
    return ratio(sums[..., 0] - sums[..., 1], sums[..., 0])


def domain_adjusted(value: float, rate: float, direction: Direction) -> float:
    """Returns a score as it enters a published domain score.

    A higher-is-better value is multiplied by the share of valid answers, a
    lower-is-better one divided by it: infinite where no answer was valid.

    Args:
      value: of the metric; NaN stays NaN, but for no valid answer at all.
      rate: of answers without a number (`na_rate`), 0 ... 1.
      direction: which values are better.
    """
    if rate >= 1:
        return 0.0 if direction == "higher" else math.inf
    return value * (1 - rate) if direction == "higher" else value / (1 - rate)


def position_row(reference: str, answer: str) -> Row:
    """Returns the error of a direction in degrees, or of a place in its coordinates.

    One number is an azimuth, compared around the circle; two or more are coordinates,
    compared by their Euclidean distance.
    """
    truth = _coordinates(reference)
    if not truth:
        return Row((0.0, 0.0, 0.0), empty=True)
    if len(truth) == 1:
        said = parse_number(answer, "deg").value
        found = [said] if said is not None and abs(said) <= MAX_EXACT else []
    else:
        found = _coordinates(answer, len(truth))
    if len(found) != len(truth):
        return Row((1.0, 0.0, 0.0), unreadable=True)
    return Row((1.0, 1.0, _distance(truth, found)))


def _coordinates(text: str, number: int | None = None) -> list[float]:
    """Returns the numbers of the last group in brackets, else of the text."""
    groups = re.findall(r"[\[({]([^\[\](){}]{1,200})[\])}]", text[-4000:])
    for piece in [*reversed(groups), text[-4000:]]:
        found = [float(match) for match in _COORDINATE.findall(piece)]
        if found and number in (None, len(found)):
            return found
    return []


def _distance(truth: list[float], found: list[float]) -> float:
    if len(truth) == 1:
        turn = abs(truth[0] - found[0]) % 360
        return min(turn, 360 - turn)
    return min(math.dist(truth, found), MAX_EXACT)


_LOWER = {"direction": "lower"}
_GUESSED = {"reconstructed": True}
# name -> compute, doc, unit of the numbers, other fields
_RECORDS = {
    "pearson_correlation_coefficient": (pearson, "Pearson correlation.", "", {}),
    "phone_segment_counting": (
        mean_squared_error, "Mean squared error of the count.", "", _LOWER | _GUESSED),
    "speaker_count": (accuracy, "Share of exact counts.", "", _GUESSED),
    "code_switching_count": (
        mean_absolute_error, "Mean absolute error of the count.", "",
        _LOWER | _GUESSED),
    "singing_mos": (pearson, "Pearson correlation of clips.", "", _GUESSED),
    "audio_duration_prediction": (
        mean_absolute_error, "Mean absolute error.", "s", _LOWER | _GUESSED),
    "audio_spatial_distance": (
        mean_squared_error, "Mean squared error.", "m", _LOWER),
}  # fmt: skip


def is_number(task: Task) -> bool:
    """Tells whether an answer to a task is one number, not a place."""
    return task.type == "regression" and task.metric in _RECORDS


def unit_of(task: Task) -> str:
    """Returns the unit in which the numbers of a task are compared, '' = none."""
    return task.unit or _RECORDS[task.metric][2]


def _number_metric(name: str, task: Task, profile: Profile) -> TextMetric:
    compute, doc, _, fields = _RECORDS[name]
    unit = unit_of(task._replace(metric=name))
    measure = functools.partial(number_row, unit=unit, value_range=task.value_range)
    shown = "" if compute in (pearson, accuracy) else unit
    squared = f"{unit}^2" if unit and compute is mean_squared_error else shown
    return record(
        task.metric, doc, NUMBER_STATS, measure, compute,
        profile=profile, unit=squared, **fields,
    )  # fmt: skip


def _sound_position(task: Task, profile: Profile) -> TextMetric:
    doc = "Mean angular error in degrees, or mean distance of coordinates."
    return record(
        task.metric, doc, POSITION_STATS, position_row, mean_error,
        profile=profile, **_LOWER, **_GUESSED,
    )  # fmt: skip


NUMBER_BUILDERS: dict[str, Callable[[Task, Profile], TextMetric]] = {
    **{name: functools.partial(_number_metric, name) for name in _RECORDS},
    "sound_position": _sound_position,
}
NUMBER_METRICS: dict[str, TextMetric] = {
    name: build(Task(name, "regression", name), "strict")
    for name, build in NUMBER_BUILDERS.items()
}
