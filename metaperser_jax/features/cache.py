"""A folder of shards: content hash of a clip -> its pooled hidden states.

A shard is named by the hash of its bytes and appears whole or not at all; a damaged one
is told and removed. Each batch is written as soon as it is computed, and small shards
are merged: the merged one first, then the small ones go, so that a kill in between
leaves the same clip twice, which harms nobody. Several processes may fill a folder.

Values are float16, half the space of float32 at a relative rounding of 5e-4; a clip
with a finite value beyond float16 is kept in float32.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from metaperser_jax.encoders.encoder import Encoder
from metaperser_jax.errors import MachineError, Problems

FORMAT = 2  # raise when a shard holds something else
SHARD_BYTES = 16 * 2**20  # smaller shards are merged
MAX_SMALL = 32  # so many small shards are written before they are merged
MAX_READS = 3  # attempts, while other processes merge shards
NOTE = "metaperser_jax"  # key of a shard's metadata


class Contents(NamedTuple):
    """What a cache is for: the encoder and how recordings become waveforms."""

    encoder: str
    fingerprint: str
    revision: str
    reading: str

    def key(self) -> str:
        """Returns the name of the cache's folder."""
        text = f"{FORMAT} {self.fingerprint} {self.reading}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def contents_of(encoder: Encoder, reading: str) -> Contents:
    """Describes what an encoder's cache holds."""
    return Contents(encoder.name, encoder.fingerprint, encoder.revision, reading)


class DamagedShardError(ValueError):
    """The bytes of a shard are not those that were written."""


class Shard(NamedTuple):
    """What one file holds."""

    values: dict[str, np.ndarray]  # content hash -> [layers, width] float16 | float32
    samples: dict[str, int]  # content hash -> length of the clip


class FeatureCache:
    """The shards of one encoder; only an index is kept in memory."""

    def __init__(self, parent: pathlib.Path, contents: Contents, problems: Problems):
        """Opens (and creates) the folder and checks every shard.

        Raises:
          MachineError: the folder cannot be made.
        """
        self.folder = pathlib.Path(parent) / contents.key()
        self.contents = contents
        self.num_small = 0  # small shards written since the last merge
        self.samples: dict[str, int] = {}  # content hash -> length of the clip
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"{self.folder}: the feature cache cannot be made ({error}): choose "
                "another place with --config.features.cache_dir."
            ) from error
        known: set[pathlib.Path] = set()
        for _ in range(MAX_READS):
            new = [path for path in self._paths() if path not in known]
            known.update(new)
            gone = [path for path in new if not self._index(path, problems)]
            if not gone:  # else merged by another process, while we looked
                break

    def _index(self, path: pathlib.Path, problems: Problems) -> bool:
        """Notes what a shard holds, or its fault; False if it has gone."""
        try:
            self.samples |= read_shard(path, self.contents).samples
        except FileNotFoundError:
            return False
        except DamagedShardError as error:
            message = f"{error}: removed and recomputed"
            problems.warning("damaged_cache", str(path), message)
            path.unlink(missing_ok=True)
        except ValueError as error:
            problems.warning("foreign_cache", str(path), f"{error}: ignored")
        return True

    def _paths(self) -> list[pathlib.Path]:
        return sorted(self.folder.glob("*.safetensors"))

    def _shards(self) -> Iterator[tuple[pathlib.Path, Shard]]:
        """Yields the shards that can be read, one at a time."""
        for path in self._paths():
            try:
                yield path, read_shard(path, self.contents)
            except (FileNotFoundError, ValueError):
                continue

    def add(self, values: Mapping[str, np.ndarray], samples: Mapping[str, int]) -> None:
        """Writes one batch.

        Args:
          values: content hash -> [layers, width] float32.
          samples: content hash -> length of the clip.

        Raises:
          MachineError: the disk is full or not writable.
        """
        shard = Shard({h: _halved(v) for h, v in values.items()}, dict(samples))
        try:
            self._write(shard)
        except OSError as error:
            raise MachineError(
                f"{self.folder}: features could not be written ({error}); what was "
                "written before is kept. Free some space and start again."
            ) from error
        self.samples |= shard.samples
        self.num_small += 1
        if self.num_small >= MAX_SMALL:
            self.merge()

    def _write(self, shard: Shard) -> pathlib.Path:
        data = shard_bytes(shard, self.contents)
        path = self.folder / f"{_checksum(data)}.safetensors"
        scratch = self.folder / f".{path.stem}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        try:
            scratch.write_bytes(data)
            scratch.replace(path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        return path

    def merge(self) -> None:
        """Merges small shards; where that fails they stay as they are."""
        self.num_small = 0
        group, size = [], 0
        small = [path for path in self._paths() if 0 < _size(path) < SHARD_BYTES]
        for path in small:
            group.append(path)
            size += _size(path)
            if size >= SHARD_BYTES:
                self._merge(group)
                group, size = [], 0
        self._merge(group)

    def _merge(self, paths: list[pathlib.Path]) -> None:
        merged, read = Shard({}, {}), set()
        for path in paths:
            try:
                shard = read_shard(path, self.contents)
            except (FileNotFoundError, ValueError):
                continue  # merged by another process, or damaged: told when opened
            merged.values.update(shard.values)
            merged.samples.update(shard.samples)
            read.add(path)
        if len(read) < 2:
            return
        try:
            read.discard(self._write(merged))  # one of them may have held them all
            for path in read:
                path.unlink(missing_ok=True)
        except OSError:
            return

    def load(
        self, hashes: Sequence[str], num_layers: int, width: int
    ) -> tuple[Float[np.ndarray, "clips layers width"], Bool[np.ndarray, " clips"]]:
        """Reads the hidden states of clips; no more than one shard is held beside.

        Args:
          hashes: [clips] content hashes.
          num_layers: of the encoder.
          width: of the encoder.

        Returns:
          values float32, zeros where there is nothing; and which clips are there.

        Raises:
          MachineError: shards have vanished since the cache was opened.
        """
        values = np.zeros((len(hashes), num_layers, width), np.float32)
        rows: dict[str, list[int]] = {}
        for row, content in enumerate(hashes):
            rows.setdefault(content, []).append(row)
        expected = rows.keys() & self.samples.keys()
        found: set[str] = set()
        for _ in range(MAX_READS):
            for _, shard in self._shards():
                for content in shard.values.keys() & rows.keys():
                    values[rows[content]] = shard.values[content]
                    found.add(content)
            if expected <= found:
                return values, np.array([h in found for h in hashes], bool)
        raise MachineError(
            f"{self.folder}: {len(expected - found)} clips have vanished from the "
            "cache while it was read: start again."
        )


def read_shard(path: pathlib.Path, contents: Contents) -> Shard:
    """Reads and checks a shard.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is damaged (`DamagedShardError`), or from another cache.
    """
    data = path.read_bytes()
    if _checksum(data) != path.stem:
        raise DamagedShardError("checksum differs")
    note, wanted = _note(data), _description(contents)
    for key in ("format", "fingerprint", "reading"):
        if note.get(key) != wanted[key]:
            raise ValueError(f"{key} is {note.get(key)!r}, not {wanted[key]!r}")
    return Shard(load_tensors(data), note["samples"])


def shard_bytes(shard: Shard, contents: Contents) -> bytes:
    """Returns a shard as a safetensors file; what it holds is in its metadata."""
    note = {**_description(contents), "samples": shard.samples}
    return save_tensors(shard.values, {NOTE: json.dumps(note, sort_keys=True)})


def _description(contents: Contents) -> dict[str, Any]:
    version = importlib.metadata.version("metaperser-jax")
    return {"format": FORMAT, "version": version, **contents._asdict()}


def _note(data: bytes) -> dict[str, Any]:
    """Returns the metadata of a safetensors file: 8 bytes of length, then JSON."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    return json.loads(header.get("__metadata__", {}).get(NOTE, "{}"))


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _halved(values: np.ndarray) -> np.ndarray:
    """Returns float16, or float32 where a finite value would become infinite."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    overflown = np.isfinite(values) & ~np.isfinite(half)
    return values.astype(np.float32) if overflown.any() else half
