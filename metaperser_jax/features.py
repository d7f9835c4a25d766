"""Pooled hidden states of every clip, computed once and kept on disk.

The cache is keyed by the content of a clip and by the encoder, so renamed or repeated
clips are found and another encoder never mixes in. It is written in small shards as
extraction proceeds: a killed run goes on where it was. A damaged shard is rebuilt.
"""

import hashlib
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from tqdm import tqdm

from metaperser_jax.data import audio
from metaperser_jax.encoders.encoder import Encoder, encode, pool
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.typing import Corpus, Params

SCALER_FILE = "scaler.safetensors"
CHUNK_CLIPS = 128  # clips loaded, sorted by length and encoded together; one shard


class Features(NamedTuple):
    """Pooled hidden states of a corpus."""

    values: np.ndarray  # [clips, layers, width] float32
    valid: np.ndarray  # [clips] bool, False = not read, or its features not finite
    num_cached: int  # how many came from disk


class FeatureCache:
    """A folder of shards: content hash -> pooled hidden states [layers, width]."""

    def __init__(self, folder: pathlib.Path, problems: Problems):
        """Opens (and creates) the folder and reads what is there."""
        self.folder = pathlib.Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"{self.folder}: the feature cache cannot be made ({error}): choose "
                "another place with --config.features.cache_dir."
            ) from error
        self.entries: dict[str, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self._read(path, problems)

    def _read(self, path: pathlib.Path, problems: Problems) -> None:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:32] != path.stem:
            problems.warning(
                "damaged_cache", str(path), "checksum differs: removed and recomputed"
            )
            path.unlink()
            return
        self.entries.update(load_tensors(data))

    def add(self, entries: dict[str, np.ndarray]) -> None:
        """Writes a shard, complete or not at all.

        Raises:
          MachineError: the disk is full or not writable.
        """
        data = save_tensors(entries)
        name = hashlib.sha256(data).hexdigest()[:32]
        scratch = self.folder / f".{name}.{os.getpid()}"
        try:
            scratch.write_bytes(data)
            scratch.replace(self.folder / f"{name}.safetensors")
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise MachineError(
                f"{self.folder}: features could not be written ({error}); what was "
                "written before is kept. Free some space and start again."
            ) from error
        self.entries.update(entries)


def extract(
    corpus: Corpus,
    encoder: Encoder,
    params: Params,
    cache_dir: pathlib.Path,
    problems: Problems,
    *,
    batch_size: int = 16,
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
      batch_size: clips encoded at once.
      reading: how recordings become waveforms (rate, longest), where that can differ
        for the same content.

    Raises:
      InputError: the corpus has no audio, or no clip can be read.
    """
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
    key = hashlib.sha256(f"{encoder.fingerprint} {reading}".encode()).hexdigest()
    cache = FeatureCache(cache_dir / key[:32], problems)
    missing = [i for i, h in enumerate(corpus.content_hashes) if h not in cache.entries]
    encode_fn = jax.jit(lambda p, w, n: pool(encode(encoder, p, w, n)))
    progress = tqdm(total=len(missing), desc="features", unit="clip", disable=None)
    for start in range(0, len(missing), CHUNK_CLIPS):
        chunk = missing[start : start + CHUNK_CLIPS]
        entries = _encode_chunk(corpus, chunk, encode_fn, params, batch_size, problems)
        if entries:
            cache.add(entries)
        progress.update(len(chunk))
    progress.close()
    return _collect(corpus, encoder, cache, len(corpus.clips) - len(missing), problems)


def _encode_chunk(
    corpus: Corpus,
    chunk: list[int],
    encode_fn: Callable,
    params: Params,
    batch_size: int,
    problems: Problems,
) -> dict[str, np.ndarray]:
    """Encodes some clips in batches of like length: {content hash: [layers, width]}."""
    waveforms = dict(_readable(corpus, chunk, problems))
    entries = {}
    for batch, length in _batches(waveforms, batch_size):
        filled = [waveforms[clip] for clip in batch]
        filled += [filled[0]] * (batch_size - len(batch))  # one shape, one compilation
        pooled = np.asarray(encode_fn(params, *audio.pad_batch(filled, length)))
        for place, clip in enumerate(batch):
            entries[corpus.content_hashes[clip]] = pooled[place]
    return entries


def _readable(
    corpus: Corpus, chunk: list[int], problems: Problems
) -> Iterator[tuple[int, np.ndarray]]:
    assert corpus.read_audio is not None
    for clip in chunk:
        try:
            yield clip, corpus.read_audio(clip)
        except InputError as error:
            problems.error("unreadable_clip", corpus.clips[clip], str(error))


def _batches(
    waveforms: dict[int, np.ndarray], batch_size: int
) -> Iterator[tuple[list[int], int]]:
    """Groups clips by padded length, of which there are few: each compiles once."""
    buckets: dict[int, list[int]] = {}
    for clip, waveform in waveforms.items():
        buckets.setdefault(padded_length(len(waveform)), []).append(clip)
    for length, clips in sorted(buckets.items()):
        for start in range(0, len(clips), batch_size):
            yield clips[start : start + batch_size], length


def padded_length(length: int) -> int:
    """Returns the least 8000 * 1.25^k samples (rounded up to 400) that hold a clip.

    A fixed grid, so that all chunks of a corpus share their compilations; at most a
    fifth of a batch is padding.
    """
    steps = max(math.ceil(math.log(max(length, 1) / 8000, 1.25) - 1e-9), 0)
    return max(math.ceil(8000 * 1.25**steps / 400) * 400, length)


def _collect(
    corpus: Corpus,
    encoder: Encoder,
    cache: FeatureCache,
    num_cached: int,
    problems: Problems,
) -> Features:
    shape = (encoder.num_layers, encoder.width)
    read = np.array([h in cache.entries for h in corpus.content_hashes])
    if not read.any():
        raise InputError(f"{corpus.name}: none of its {len(read)} clips can be read.")
    values = np.stack(
        [
            cache.entries.get(h, np.zeros(shape, np.float32))
            for h in corpus.content_hashes
        ]
    )
    finite = np.isfinite(values).all((1, 2))
    for clip in np.flatnonzero(~finite).tolist():
        problems.error(
            "not_finite_features",
            corpus.clips[clip],
            f"encoder {encoder.name!r} gives NaN or infinity for this clip: left out",
        )
    values[~finite] = 0
    return Features(values, read & finite, num_cached)


class Scaler(NamedTuple):
    """Mean and standard deviation of each feature on the training clips."""

    mean: np.ndarray  # [layers, width]
    scale: np.ndarray  # [layers, width]


def fit_scaler(values: np.ndarray) -> Scaler:
    """Returns the scaler of [samples, layers, width]; a constant keeps scale 1."""
    mean, scale = values.mean(0), values.std(0)
    constant = scale < 1e-6 * np.maximum(np.abs(mean), 1.0)
    return Scaler(mean, np.where(constant, 1.0, scale).astype(np.float32))


def standardise(scaler: Scaler, values: np.ndarray) -> np.ndarray:
    """Returns (values - mean) / scale, clipped to +-10 so that no outlier rules."""
    scaled = (values - scaler.mean[None]) / scaler.scale[None]
    return np.clip(scaled, -10.0, 10.0).astype(np.float32)


def save_scaler(folder: pathlib.Path, scaler: Scaler) -> None:
    """Writes the scaler, complete or not at all: trained models expect its inputs."""
    scratch = folder / f".{SCALER_FILE}"
    scratch.write_bytes(save_tensors(scaler._asdict()))
    scratch.replace(folder / SCALER_FILE)


def load_scaler(folder: pathlib.Path) -> Scaler:
    """Reads what `save_scaler` wrote.

    Raises:
      InputError: it is not there or cannot be read.
    """
    path = folder / SCALER_FILE
    try:
        return Scaler(**load_tensors(path.read_bytes()))
    except (OSError, SafetensorError, TypeError) as error:
        raise InputError(
            f"{path}: no scaler there ({error}). Train first (--mode=train) with the "
            "same --workdir."
        ) from error
