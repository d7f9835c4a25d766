"""Recordings to features: reading, encoding and writing at the same time.

Threads read ahead, one thread keeps the device busy, one writes; what is read and not
yet written is bounded, whatever the number of clips. Who is encoded with whom follows
from the corpus alone (`batching`), so that a run that was stopped and resumed gives the
same bits as one that was not, where the device computes reproducibly.
"""

import collections
import contextlib
import functools
import hashlib
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from benchmark import audio
from metaperser_jax.encoders.encoder import Encoder, encode_pooled, prepare
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.features import batching
from metaperser_jax.features.batching import Batch, Item
from metaperser_jax.features.cache import FeatureCache, contents_of
from metaperser_jax.typing import Corpus, Params

NUM_READERS = 4  # threads
READ_AHEAD = 16  # clips that are read before they are wanted
MANY_CLIPS = 4096  # about three hours: an encoder's padding outweighs compilations
IN_FLIGHT = 2  # batches: one on the device, one that waits for it


class Effort(NamedTuple):
    """What extraction did, and what it took."""

    num_clips: int = 0  # encoded; the same content once
    num_batches: int = 0
    num_compilations: int = 0
    samples: int = 0  # of the clips
    padded_samples: int = 0  # encoded: the clips', their padding, empty rows
    wall_seconds: float = 0.0
    encoder_seconds: float = 0.0  # of a device that was encoding
    compile_seconds: float = 0.0  # that the device waited for a compilation


class Features(NamedTuple):
    """Pooled hidden states of a corpus."""

    values: np.ndarray  # [clips, layers, width] float32
    valid: np.ndarray  # [clips] bool, False = not read, or its features not finite
    num_cached: int  # how many came from disk
    effort: Effort


def extract(
    corpus: Corpus,
    encoder: Encoder,
    params: Params,
    cache_dir: pathlib.Path,
    problems: Problems,
    *,
    batch_size: int = 0,
    memory_gb: float = 2.0,
    reading: str = "",
) -> Features:
    """Returns the pooled hidden states of all clips, encoding those not yet cached.

    Args:
      corpus: a corpus with audio.
      encoder: the encoder, its fingerprint names the cache's folder.
      params: of the encoder.
      cache_dir: parent of the cache's folder.
      problems: unreadable clips, and clips whose features are not finite, become
        error rows here.
      batch_size: see `fill`.
      memory_gb: see `fill`.
      reading: see `open_cache`.

    Raises:
      InputError: the corpus has no audio, or no clip can be read.
      MachineError: the cache cannot be written; what was written is kept.
    """
    cache = open_cache(encoder, cache_dir, problems, reading)
    num_cached = sum(content in cache.samples for content in corpus.content_hashes)
    effort = fill(
        cache, corpus, encoder, params, problems,
        batch_size=batch_size, memory_gb=memory_gb,
    )  # fmt: skip
    values, valid = collect(cache, corpus, encoder, problems)
    return Features(values, valid, num_cached, effort)


def open_cache(
    encoder: Encoder, cache_dir: pathlib.Path, problems: Problems, reading: str = ""
) -> FeatureCache:
    """Opens the cache of an encoder; several processes may have it open.

    Args:
      encoder: the encoder.
      cache_dir: parent of the cache's folder.
      problems: damaged shards become warnings here, and are removed.
      reading: how recordings become waveforms (rate, longest), where that can differ
        for the same content.

    Raises:
      MachineError: the folder cannot be made.
    """
    return FeatureCache(cache_dir, contents_of(encoder, reading), problems)


def fill(
    cache: FeatureCache,
    corpus: Corpus,
    encoder: Encoder,
    params: Params,
    problems: Problems,
    *,
    batch_size: int = 0,
    memory_gb: float = 2.0,
    shard: tuple[int, int] = (1, 1),
) -> Effort:
    """Encodes the clips that are not in the cache into it.

    Args:
      cache: of this encoder.
      corpus: a corpus with audio.
      encoder: the encoder.
      params: of the encoder.
      problems: unreadable clips become error rows here.
      batch_size: clips encoded at once, rounded up to the number of devices; 0 = as
        many as fit and gain something.
      memory_gb: 10^9 bytes that encoding may take on a device beside the params.
      shard: (number, count), 1 <= number <= count: encode this part of the clips
        only. A clip's content decides which part it is in.

    Raises:
      InputError: the corpus has no audio.
      MachineError: the cache cannot be written; what was written is kept.
    """
    _check_corpus(corpus, encoder)
    clips = _by_content(corpus.content_hashes, shard)
    num_missing = sum(content not in cache.samples for content in clips)
    if not num_missing:
        return Effort()
    begun, first = time.monotonic(), len(problems.rows)
    params = prepare(encoder, params)
    device = Device(encoder, params)
    size_fn = _size_fn(encoder, params, batch_size, memory_gb)
    try:
        with _stages() as stages:
            items = _items(cache, corpus, clips, problems, stages.reading)
            batches = batching.make_batches(items, size_fn, _ratio(params, len(clips)))
            effort = _encode_all(batches, cache, corpus, device, stages, num_missing)
    finally:
        # readers run side by side: their warnings come in any order
        problems.rows[first:] = sorted(problems.rows[first:])
    cache.merge()
    return effort._replace(
        wall_seconds=time.monotonic() - begun,
        num_compilations=len(device.compiled),
        encoder_seconds=device.encoder_seconds,
        compile_seconds=device.compile_seconds,
    )


def collect(
    cache: FeatureCache, corpus: Corpus, encoder: Encoder, problems: Problems
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features of all clips from the cache, and which are valid.

    Args:
      cache: of this encoder.
      corpus: the clips.
      encoder: the encoder.
      problems: clips whose features are not finite become error rows here.

    Returns:
      values [clips, layers, width] float32, zeros where not valid; valid [clips].

    Raises:
      InputError: no clip is there.
      MachineError: shards have vanished since the cache was opened.
    """
    values, read = cache.load(corpus.content_hashes, encoder.num_layers, encoder.width)
    if not read.any():
        raise InputError(f"{corpus.name}: none of its {len(read)} clips can be read.")
    finite = np.array([np.isfinite(value).all() for value in values])
    for clip in np.flatnonzero(~finite).tolist():
        problems.error(
            "not_finite_features",
            corpus.clips[clip],
            f"encoder {encoder.name!r} gives NaN or infinity for this clip: left out",
        )
    values[~finite] = 0
    return values, read & finite


def part_of(content: str, count: int) -> int:
    """Returns the part, 1 to `count`, that a content hash belongs to."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    return int(digest[:16], 16) % count + 1


def describe(effort: Effort) -> str:
    """Returns an effort in one line."""
    seconds = effort.samples / audio.SAMPLE_RATE
    wall = max(effort.wall_seconds, 1e-9)
    running = max(effort.wall_seconds - effort.compile_seconds, 1e-9)
    padding = 1 - effort.samples / max(effort.padded_samples, 1)
    return (
        f"{effort.num_clips} encoded, {seconds:.0f} s of audio in {wall:.1f} s "
        f"({seconds / wall:.1f} times real time), {effort.num_compilations} "
        f"compilations, {effort.compile_seconds:.1f} s waited for them, the encoder "
        f"{effort.encoder_seconds / running:.0%} of the rest, {padding:.0%} padding"
    )


class Device:
    """The encoder, compiled for each shape and spread over the local devices.

    Each device encodes its share of a batch as if it were alone.
    """

    def __init__(self, encoder: Encoder, params: Params):
        """Puts the params on all local devices."""
        mesh = Mesh(np.array(jax.local_devices()), ("batch",))
        everywhere, split = PartitionSpec(), PartitionSpec("batch")
        self.split = NamedSharding(mesh, split)
        self.params = jax.device_put(params, NamedSharding(mesh, everywhere))
        self.encode_fn = jax.jit(
            jax.shard_map(
                functools.partial(encode_pooled, encoder),
                mesh=mesh,
                in_specs=(everywhere, split, split),
                out_specs=split,
                check_vma=False,  # nothing is exchanged between devices
            )
        )
        self.compiled: dict[tuple[int, ...], Future[Callable[..., jax.Array]]] = {}
        self.encoder_seconds = self.compile_seconds = 0.0

    def expect(self, shape: tuple[int, int], pool: ThreadPoolExecutor) -> None:
        """Begins to compile for a shape, while other batches are encoded."""
        if shape not in self.compiled:
            self.compiled[shape] = pool.submit(self._compile, shape)

    def encode(self, waveforms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[batch, samples], [batch] -> [batch, layers, width]; waits for the result."""
        begun = time.monotonic()
        if waveforms.shape not in self.compiled:
            self.compiled[waveforms.shape] = Future()
            self.compiled[waveforms.shape].set_result(self._compile(waveforms.shape))
        encode_fn = self.compiled[waveforms.shape].result()
        ready = time.monotonic()
        inputs = jax.device_put((waveforms, lengths), self.split)
        pooled = np.asarray(encode_fn(self.params, *inputs))
        self.compile_seconds += ready - begun
        self.encoder_seconds += time.monotonic() - ready
        return pooled

    def _compile(self, shape: tuple[int, ...]) -> Callable[..., jax.Array]:
        waveforms = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=self.split)
        lengths = jax.ShapeDtypeStruct(shape[:1], jnp.int32, sharding=self.split)
        return self.encode_fn.lower(self.params, waveforms, lengths).compile()


class Stages(NamedTuple):
    """Threads for what goes on at the same time."""

    reading: ThreadPoolExecutor
    compiling: ThreadPoolExecutor
    encoding: ThreadPoolExecutor
    writing: ThreadPoolExecutor


@contextlib.contextmanager
def _stages() -> Iterator[Stages]:
    """Starts the threads; in the end what was begun is finished and written.

    Who interrupts does not wait: a batch on the device can take long.
    """
    sizes = {"reading": NUM_READERS, "compiling": 1, "encoding": 1, "writing": 1}
    stages = Stages(**{k: ThreadPoolExecutor(n, k) for k, n in sizes.items()})
    wait = True
    try:
        yield stages
    except KeyboardInterrupt:
        wait = False
        raise
    finally:
        stages.reading.shutdown(wait, cancel_futures=True)
        stages.encoding.shutdown(wait, cancel_futures=True)
        stages.compiling.shutdown(wait, cancel_futures=True)
        stages.writing.shutdown(wait, cancel_futures=not wait)


def _encode_all(
    batches: Iterator[Batch],
    cache: FeatureCache,
    corpus: Corpus,
    device: Device,
    stages: Stages,
    num_missing: int,
) -> Effort:
    """Sends batches through encoding and writing, few at a time."""
    effort = Effort()
    pending: collections.deque[Future[int]] = collections.deque()
    with tqdm(total=num_missing, desc="features", unit="clip", disable=None) as bar:
        for batch in batches:
            samples = {corpus.content_hashes[i.clip]: i.length for i in batch.items}
            device.expect((batch.size, batch.length), stages.compiling)
            encoded = stages.encoding.submit(device.encode, *_padded(batch))
            pending.append(stages.writing.submit(_write, cache, samples, encoded))
            effort = effort._replace(
                num_clips=effort.num_clips + len(samples),
                num_batches=effort.num_batches + 1,
                samples=effort.samples + sum(samples.values()),
                padded_samples=effort.padded_samples + batch.size * batch.length,
            )
            while len(pending) >= IN_FLIGHT:
                bar.update(pending.popleft().result())
        while pending:
            bar.update(pending.popleft().result())
    return effort


def _padded(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Returns [size, samples] and [size]; the first clip fills the empty rows."""
    waveforms = [item.waveform for item in batch.items if item.waveform is not None]
    waveforms += waveforms[:1] * (batch.size - len(waveforms))
    return audio.pad_batch(waveforms, batch.length)


def _write(
    cache: FeatureCache, samples: dict[str, int], encoded: Future[np.ndarray]
) -> int:
    pooled = encoded.result()  # [size, layers, width]
    cache.add(dict(zip(samples, pooled, strict=False)), samples)
    return len(samples)


def _items(
    cache: FeatureCache,
    corpus: Corpus,
    clips: dict[str, list[int]],
    problems: Problems,
    pool: ThreadPoolExecutor,
) -> Iterator[Item]:
    """Yields a clip of each content, in order; those in the cache are not read."""
    for content, future in _read_ahead(cache, corpus, clips, pool):
        if future is None:
            yield Item(clips[content][0], cache.samples[content], None)
            continue
        try:
            waveform = future.result()
        except InputError as error:
            for clip in clips[content]:
                problems.error("unreadable_clip", corpus.clips[clip], str(error))
            continue
        yield Item(clips[content][0], len(waveform), waveform)


def _read_ahead(
    cache: FeatureCache,
    corpus: Corpus,
    clips: dict[str, list[int]],
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[str, Future[np.ndarray] | None]]:
    """Yields contents in order with what will be read, None for those in the cache."""
    assert corpus.read_audio is not None
    waiting: collections.deque[tuple[str, Future[np.ndarray] | None]]
    waiting = collections.deque()
    for content, same in clips.items():
        cached = content in cache.samples
        future = None if cached else pool.submit(corpus.read_audio, same[0])
        waiting.append((content, future))
        if len(waiting) > READ_AHEAD:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _check_corpus(corpus: Corpus, encoder: Encoder) -> None:
    if corpus.read_audio is None:
        raise InputError(
            f"{corpus.name}: encoder {encoder.name!r} needs audio and the corpus has "
            "none: give audio files, or precomputed features."
        )
    if "" in corpus.content_hashes:
        raise InputError(
            f"{corpus.name}: clip {corpus.clips[corpus.content_hashes.index('')]!r} "
            "has no content hash: features are kept by content, give every clip one."
        )


def _by_content(
    hashes: tuple[str, ...], shard: tuple[int, int]
) -> dict[str, list[int]]:
    """Returns the clips of each content, in order, of one part."""
    number, count = shard
    clips: dict[str, list[int]] = {}
    for clip, content in enumerate(hashes):
        if count == 1 or part_of(content, count) == number:
            clips.setdefault(content, []).append(clip)
    return clips


def _ratio(params: Params, num_clips: int) -> float:
    """Returns how fine padded lengths are.

    Where there are weights and many clips, padding costs more than compilations.
    """
    fine = bool(jax.tree.leaves(params)) and num_clips >= MANY_CLIPS
    return batching.RATIO_FINE if fine else batching.RATIO


def _size_fn(
    encoder: Encoder, params: Params, batch_size: int, memory_gb: float
) -> Callable[[int], int]:
    """Returns the function from a padded length to the rows of a batch."""
    num_devices = len(jax.local_devices())
    if batch_size:
        rows = math.ceil(batch_size / num_devices) * num_devices
        return lambda length: rows
    max_samples = batching.samples_budget(encoder, params, memory_gb * 1e9)
    return lambda length: batching.batch_size(length, max_samples, num_devices)
