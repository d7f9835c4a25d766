"""Which clips are encoded together: few shapes, little padding, bounded memory.

Clips come in the order of the corpus and wait for others of the same padded length.
Who shares a batch, and in which row, follows from the lengths alone, so that it is the
same in every run, also where most clips are in the cache already.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.audio import SAMPLE_RATE
from metaperser_jax import memory
from metaperser_jax.encoders.encoder import Encoder, encode_pooled
from metaperser_jax.typing import Params

SHORTEST = 8_000  # samples, the first length of the grid
GRAIN = 400  # samples, all lengths of the grid are multiples of it
# Of neighbours on the grid. On EmoDB 1.25 gives 9 lengths and 11.7 % of padding, 1.125
# gives 18 and 6.6 %; a length costs 2 s to compile: much for a small corpus.
RATIO, RATIO_FINE = 1.25, 1.125
MAX_CLIPS = 32  # of a batch on one device, more gain nothing
MAX_SAMPLES = MAX_CLIPS * 20 * SAMPLE_RATE  # of a batch on one device
MAX_CPU_SAMPLES = 24 * SAMPLE_RATE  # of a batch on a CPU, more are slower there
MAX_WAITING = 35 * 60 * SAMPLE_RATE  # samples of the clips that wait for others


class Item(NamedTuple):
    """A clip that waits to be encoded."""

    clip: int
    length: int  # samples
    waveform: np.ndarray | None  # [samples]; None: its features are there already


class Batch(NamedTuple):
    """Clips that are encoded together."""

    items: list[Item]  # at most `size` of them
    length: int  # samples, padded
    size: int  # rows that are encoded


class Batcher:
    """Collects clips of like length until a batch of them is full.

    It holds the clips of less than one batch for each padded length, and no more than
    `MAX_WAITING` samples in all.
    """

    def __init__(self, size_fn: Callable[[int], int], ratio: float = RATIO):
        """`size_fn` gives the rows of a batch of a padded length."""
        self.size_fn = size_fn
        self.ratio = ratio
        self.waiting: dict[int, list[Item]] = {}

    def add(self, item: Item) -> Iterator[Batch]:
        """Takes one clip in, yields the batches that it completes."""
        length = padded_length(item.length, self.ratio)
        same = self.waiting.setdefault(length, [])
        same.append(item)
        if len(same) >= self.size_fn(length):
            del self.waiting[length]
            yield Batch(same, length, self.size_fn(length))
        elif sum(map(_total_length, self.waiting.values())) > MAX_WAITING:
            yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        """Yields what waits, the longest first; shorter clips fill the rows left."""
        items = [item for same in self.waiting.values() for item in same]
        items.sort(key=lambda item: (-item.length, item.clip))
        self.waiting.clear()
        while items:
            length = padded_length(items[0].length, self.ratio)
            size = self.size_fn(length)
            yield Batch(items[:size], length, size)
            items = items[size:]


def _total_length(items: list[Item]) -> int:
    return sum(item.length for item in items)


def make_batches(
    items: Iterable[Item], size_fn: Callable[[int], int], ratio: float = RATIO
) -> Iterator[Batch]:
    """Groups clips, leaving out those whose features are there already.

    Clips with and without features are planned together: after a stop, whole batches
    are either there or not, and the rest are encoded in the rows that they would have
    had. Where new clips have come among old ones, they are grouped among themselves.

    Args:
      items: the clips, in the order of the corpus.
      size_fn: rows of a batch of a padded length.
      ratio: of neighbouring padded lengths.

    Yields:
      Batches of clips with waveforms.
    """
    everything, new = Batcher(size_fn, ratio), Batcher(size_fn, ratio)
    for batch in _planned(items, everything):
        missing = [item for item in batch.items if item.waveform is not None]
        if len(missing) == len(batch.items):
            yield batch
        else:
            for item in missing:
                yield from new.add(item)
    yield from new.rest()


def _planned(items: Iterable[Item], batcher: Batcher) -> Iterator[Batch]:
    for item in items:
        yield from batcher.add(item)
    yield from batcher.rest()


def padded_length(length: int, ratio: float = RATIO) -> int:
    """Returns the least 8000 * ratio^k samples (rounded up to 400) that hold a clip.

    A fixed grid, so that all corpora share their compilations; at most a share of
    1 - 1 / ratio of a clip is padding.
    """
    steps = max(math.ceil(math.log(max(length, 1) / SHORTEST, ratio) - 1e-9), 0)
    return max(math.ceil(SHORTEST * ratio**steps / GRAIN) * GRAIN, length)


def batch_size(length: int, max_samples: int, num_devices: int = 1) -> int:
    """Returns how many clips of a padded length are encoded at once.

    Args:
      length: padded samples of a clip.
      max_samples: of a batch on one device, see `samples_budget`.
      num_devices: over which a batch is spread.

    Returns:
      Clips, the same number on each device, at least one.
    """
    return num_devices * max(1, min(MAX_CLIPS, max_samples // length))


def samples_budget(encoder: Encoder, params: Params, limit: float) -> int:
    """Returns how many samples a batch may have on one device.

    Memory that grows with a clip's length, faster at most where frames attend to each
    other, is largest where a batch is one long clip or many of the shortest: if both
    fit, so does what lies between.

    Args:
      encoder: the encoder.
      params: of the encoder, arrays or their shapes.
      limit: bytes that encoding may take beside the params.
    """

    def fits(samples: int) -> bool:
        rows = min(MAX_CLIPS, samples // SHORTEST)
        shapes = ((1, samples), (rows, SHORTEST))
        return all(peak_bytes(encoder, params, *shape) <= limit for shape in shapes)

    on_cpu = jax.default_backend() == "cpu"
    high = MAX_CPU_SAMPLES if on_cpu else MAX_SAMPLES
    if fits(high):
        return high
    low = high // 2
    while low > SHORTEST and not fits(low):
        low, high = low // 2, low
    middle = (low + high) // 2
    return max(SHORTEST, middle if fits(middle) else low)


def peak_bytes(encoder: Encoder, params: Params, rows: int, length: int) -> int:
    """Estimates what encoding a batch takes at most, beside the params.

    For the wav2vec 2.0 family XLA takes 0.5 to 1.1 times this, in bfloat16 on a CPU
    0.1 GB more.

    Args:
      encoder: the encoder.
      params: of the encoder, arrays or their shapes.
      rows: clips of the batch.
      length: padded samples of each.
    """
    return 4 * rows * length + memory.peak_bytes(
        functools.partial(encode_pooled, encoder),
        params,
        jax.ShapeDtypeStruct((rows, length), jnp.float32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )
