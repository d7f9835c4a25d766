"""From scores of tasks to scores of domains: as published, and ours.

As published: the mean relative gain over a baseline system, without tasks where the
baseline is zero (or negative) and without those where the model never gave an answer
that could be read. It is unbounded, and a task with a weak baseline rules it; beside it
stand the mean chance-corrected score, the mean rank, and the share of the tasks that
were scored.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmark import intervals
from benchmark.typing import Score, Task


class Group(NamedTuple):
    """What a model reaches in a domain, a subdomain or over all tasks."""

    model: str
    domain: str  # '' = all
    subdomain: str  # '' = the whole domain
    num_tasks: int  # tasks of the group, scored or not
    num_scored: int
    corrected: float | None  # mean chance-corrected score
    low: float | None  # 95 %
    high: float | None
    num_corrected: int  # tasks in that mean: those with a chance level
    mean_rank: float | None  # 1 = best, over tasks that all models were scored on;
    # a model without a value is last
    num_ranked: int
    relative_gain: float | None  # as published
    num_gains: int
    left_out: tuple[str, ...]  # tasks without a relative gain, and why


class Corrected(NamedTuple):
    """A chance-corrected score: 0 = chance, 1 = perfect; it may be below 0."""

    value: float
    low: float | None
    high: float | None


def chance_corrected(score: Score) -> Corrected | None:
    """Returns (value - chance) / (1 - chance) with its interval.

    None where there is no value or no chance level, and where lower is better: an
    error rate has no level of chance that would bound it.
    """
    value, chance = score.value, score.chance
    if score.direction != "higher" or value is None or chance is None or chance >= 1:
        return None
    low, high = (
        None if bound is None else (bound - chance) / (1 - chance)
        for bound in (score.low, score.high)
    )
    return Corrected((value - chance) / (1 - chance), low, high)


def unreadable_rate(score: Score) -> float:
    """Returns the share of the examples without an answer that could be read."""
    unread = score.num_examples - score.num_answered + score.num_unreadable
    return min(1.0, unread / score.num_examples) if score.num_examples else 0.0


def adjusted_value(score: Score, task: Task) -> float | None:
    """Returns the value that enters the published domain score.

    A regression's value stands for the readable answers alone; it is multiplied by
    their share where higher is better and divided by it where lower is better.
    """
    readable = 1 - unreadable_rate(score)
    if score.value is None or readable == 0:
        return None
    if task.type != "regression":
        return score.value
    higher = score.direction == "higher"
    return score.value * readable if higher else score.value / readable


def relative_gain(
    value: float, baseline: float, direction: str = "higher"
) -> float | None:
    """Returns (m - b) / b, or (b - m) / b where lower is better; None for b = 0."""
    if baseline == 0:
        return None
    gain = value - baseline if direction == "higher" else baseline - value
    return gain / baseline


def ranks(values: Sequence[float], direction: str = "higher") -> list[float]:
    """Returns ranks, 1 = best; equal values share the mean of their ranks."""
    signed = np.asarray(values) * (-1 if direction == "higher" else 1)
    better = np.sum(signed[None, :] < signed[:, None], axis=1)
    equal = np.sum(signed[None, :] == signed[:, None], axis=1)
    return [float(rank) for rank in better + (equal + 1) / 2]


def aggregate(
    scores: Sequence[Score],
    tasks: Mapping[str, Task],
    baseline: Sequence[Score] = (),
) -> list[Group]:
    """Returns what each model reaches over all, in each domain and subdomain.

    Args:
      scores: the headline score of each task and model, folds averaged.
      tasks: of which the coverage is told, by name.
      baseline: headline scores of the system that the relative gain refers to.

    Returns:
      Groups, those over all tasks first; subdomains without a scored task are left out.
    """
    models = list(dict.fromkeys(score.model for score in scores))
    base = {score.task: score for score in baseline}
    found = {(score.model, score.task): score for score in scores}
    return [
        _group(model, domain, subdomain, members, models, found, base)
        for domain, subdomain, members in _places(tasks)
        if any((model, task.name) in found for model in models for task in members)
        for model in models
    ]


def _places(tasks: Mapping[str, Task]) -> list[tuple[str, str, list[Task]]]:
    """Returns (domain, subdomain, tasks) from the whole to the parts."""
    domains: dict[str, dict[str, list[Task]]] = {}
    for task in tasks.values():
        domains.setdefault(task.domain, {}).setdefault(task.subdomain, []).append(task)
    places = [("", "", list(tasks.values()))]
    for domain, parts in domains.items():
        if len(domains) > 1:  # else it is the whole
            members = [task for part in parts.values() for task in part]
            places.append((domain, "", members))
        places += [(domain, subdomain, part) for subdomain, part in parts.items()]
    return [place for place in places if place[:2] == ("", "") or place[0]]


def _group(
    model: str,
    domain: str,
    subdomain: str,
    members: Sequence[Task],
    models: Sequence[str],
    found: Mapping[tuple[str, str], Score],
    base: Mapping[str, Score],
) -> Group:
    own = [task for task in members if (model, task.name) in found]
    corrected = [chance_corrected(found[model, task.name]) for task in own]
    known = [one for one in corrected if one is not None]
    placed = _ranks_of(model, own, models, found)
    gains, left_out = _gains(model, own, found, base)
    low, high = intervals.mean_interval(known)
    return Group(
        model=model,
        domain=domain,
        subdomain=subdomain,
        num_tasks=len(members),
        num_scored=len(own),
        corrected=_mean([one.value for one in known]),
        low=low,
        high=high,
        num_corrected=len(known),
        mean_rank=_mean(placed),
        num_ranked=len(placed),
        relative_gain=_mean(gains),
        num_gains=len(gains),
        left_out=tuple(left_out),
    )


def _ranks_of(model, tasks, models, found) -> list[float]:
    placed = []
    for task in tasks:
        rivals = [found.get((other, task.name)) for other in models]
        if any(rival is None for rival in rivals):
            continue
        direction = rivals[0].direction
        worst = -math.inf if direction == "higher" else math.inf
        values = [worst if rival.value is None else rival.value for rival in rivals]
        order = ranks(values, direction)
        placed.append(order[models.index(model)])
    return placed


def _gains(model, tasks, found, base) -> tuple[list[float], list[str]]:
    """Returns the relative gains, and the tasks that have none."""
    gains, left_out = [], []
    for task in tasks if base else ():
        value = adjusted_value(found[model, task.name], task)
        reference = base.get(task.name)
        against = None if reference is None else adjusted_value(reference, task)
        if value is None:
            left_out.append(f"{task.name}: no answer could be read")
        elif against is None:
            left_out.append(f"{task.name}: the baseline has no value")
        elif against <= 0:
            kind = (
                "zero" if against == 0 else "negative: the gain would change its sign"
            )
            left_out.append(f"{task.name}: the baseline is {kind}")
        else:
            direction = found[model, task.name].direction
            gain = relative_gain(value, against, direction)
            gains += [] if gain is None else [gain]
    return gains, left_out


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
