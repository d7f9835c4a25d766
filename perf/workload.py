"""What is measured: listeners to adapt to, the same arrays for every competitor."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

WIDTH, HIDDEN, CLASSES = 768, 256, 10
SUPPORT, QUERY, STEPS = 16, 16, 5
LEARNING_RATE = 0.01
SMOOTHING = 0.05


class Listeners(NamedTuple):
    """Support and query sets of several listeners."""

    support: np.ndarray  # [listeners, samples, 1, width] one layer of features
    targets: np.ndarray  # [listeners, samples, classes] multi-hot
    query: np.ndarray  # [listeners, samples, 1, width]
    query_targets: np.ndarray  # [listeners, samples, classes] multi-hot


def make_listeners(count: int, seed: int = 0) -> Listeners:
    rng = np.random.default_rng(seed)

    def features(samples: int) -> np.ndarray:
        shape = (count, samples, 1, WIDTH)
        return rng.standard_normal(shape, dtype=np.float32)

    support, query = features(SUPPORT), features(QUERY)
    targets = make_targets(rng, (count, SUPPORT, CLASSES))
    return Listeners(
        support, targets, query, make_targets(rng, (count, QUERY, CLASSES))
    )


def make_targets(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Returns multi-hot label sets [..., classes]; each clip has a label."""
    targets = rng.random(shape, dtype=np.float32) < min(0.2, 2 / shape[-1])
    targets[..., 0] |= ~targets.any(-1)
    return targets.astype(np.float32)


def alternate(
    calls: Sequence[Callable[[], Any]], repeats: int, in_a_row: int = 1
) -> list[list[float]]:
    """Returns the seconds of each call, taken in turns so that all share the noise.

    Args:
      calls: what takes turns.
      repeats: calls of each, in all.
      in_a_row: calls of a turn; short ones find the processor's caches as they left
        them, which is what warm means.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(math.ceil(repeats / in_a_row)):
        for call, times in zip(calls, seconds, strict=True):
            times.extend(timed(call) for _ in range(in_a_row))
    return seconds


def timed(call: Callable[[], Any]) -> float:
    """Returns the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def visits(seconds: float, budget: float, fewest: int = 3, most: int = 50) -> int:
    """Returns how often calls of so many seconds a round fit into the budget."""
    return min(max(math.floor(budget / max(seconds, 1e-9)), fewest), most)


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the largest difference, in units of the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
