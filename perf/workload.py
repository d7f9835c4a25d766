"""What is measured: listeners to adapt to, the same arrays for every competitor."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

WIDTH, HIDDEN, CLASSES = 768, 256, 10
SUPPORT, QUERY, STEPS = 16, 16, 5
LEARNING_RATE = 0.01


class Listeners(NamedTuple):
    """Support and query sets of several listeners."""

    support: np.ndarray  # [listeners, samples, 1, width] one layer of features
    targets: np.ndarray  # [listeners, samples, classes] multi-hot
    query: np.ndarray  # [listeners, samples, 1, width]


def make_listeners(count: int, seed: int = 0) -> Listeners:
    rng = np.random.default_rng(seed)

    def features(samples: int) -> np.ndarray:
        shape = (count, samples, 1, WIDTH)
        return rng.standard_normal(shape, dtype=np.float32)

    targets = rng.random((count, SUPPORT, CLASSES)) < 0.2
    targets[..., 0] |= ~targets.any(-1)  # each clip has a label
    return Listeners(features(SUPPORT), targets.astype(np.float32), features(QUERY))


def alternate(calls: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Returns the seconds of each call, taken in turns so that all share the noise."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return seconds


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the largest difference, in units of the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
