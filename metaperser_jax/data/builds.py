"""Corpora on disk: built once, whole or not at all, and read back checked.

What the packages of TensorFlow Datasets have in common. Its import is slow, and so it
is imported where it is needed.
"""

import bisect
import contextlib
import hashlib
import io
import itertools
import json
import logging
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int16

from benchmark.audio import SAMPLE_RATE
from metaperser_jax.errors import InputError, MachineError

ADVICE = "Delete this folder and run again: the corpus is then built anew."


def config_name(prefix: str, schema: int, *parts: Any) -> str:
    """Names a build after all that its files depend on.

    Args:
      prefix: what the name begins with.
      schema: version of the examples' form; a build of another one is not looked at.
      *parts: what else tells builds apart, as plain values.
    """
    text = json.dumps([schema, *parts])
    return f"{prefix}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def dataset_info(builder: Any, features: dict[str, Any]) -> Any:
    """Describes a builder, by its docstring, whose examples keep their order.

    Args:
      builder: a `tfds.core.GeneratorBasedBuilder`.
      features: name -> feature of an example.

    Returns:
      A `tfds.core.DatasetInfo` whose metadata the builder may fill.
    """
    import tensorflow_datasets as tfds

    return tfds.core.DatasetInfo(
        builder=builder,
        description=type(builder).__doc__,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
        metadata=tfds.core.MetadataDict(),
    )


def filled_splits(
    splits: Iterable[tuple[str, Iterator]], metadata: dict[str, Any]
) -> dict[str, Iterator]:
    """Returns the splits that have an example; others cannot be written.

    The first example of each is generated at once, the others when they are wanted.

    Args:
      splits: name and examples of each.
      metadata: of the builder; 'splits' becomes the names, in order, for `Source`.
    """
    filled = {}
    for name, examples in splits:
        first = next(examples, None)
        if first is not None:
            filled[name] = itertools.chain([first], examples)
    metadata["splits"] = list(filled)
    return filled


def prepare(
    builder_class: Any, config: Any, place: pathlib.Path, what: str, room: str = ""
) -> Any:
    """Builds a corpus unless it is there.

    A build is written beside its place and renamed when complete: a killed one leaves
    nothing that could be taken for a corpus.

    Args:
      builder_class: a `tfds.core.GeneratorBasedBuilder`.
      config: its configuration, named by `config_name`.
      place: folder of all builds.
      what: name of the corpus for messages.
      room: the space that it takes, for messages.

    Returns:
      The prepared builder.

    Raises:
      InputError: there is a build that is damaged.
      MachineError: the folder cannot be written.
    """
    folder = place / builder_class.name / config.name / str(builder_class.VERSION)

    def make_builder() -> Any:
        with named_damage(folder):
            return builder_class(
                data_dir=str(place), config=config, file_format="array_record"
            )

    with quiet(), writing(place, what, room):
        try:
            builder = make_builder()
            builder.download_and_prepare()
        except OSError:
            # another process may have finished the same build first
            builder = make_builder()
            if not builder.is_prepared():
                raise
    return builder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences progress bars and notices unless someone watches a terminal."""
    import tensorflow_datasets as tfds

    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    tfds.display_progress_bar(sys.stderr.isatty())
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(True)
        logger.setLevel(level)


@contextlib.contextmanager
def writing(place: pathlib.Path, what: str, room: str = "") -> Iterator[None]:
    """Turns a failure to write `what` below `place` into a `MachineError`."""
    try:
        yield
    except OSError as error:
        space = f"some space ({room})" if room else "some space"
        raise MachineError(
            f"{place}: {what} could not be written ({error}). Free {space} or choose "
            "another data_dir."
        ) from error


@contextlib.contextmanager
def named_damage(folder: str | pathlib.Path) -> Iterator[None]:
    """Turns a failure to read the build in `folder` into an `InputError`."""
    from google.protobuf import json_format

    faults = (RuntimeError, ValueError, KeyError, AssertionError, json_format.Error)
    try:
        yield
    except faults as error:
        raise InputError(
            f"{folder}: the corpus is damaged ({error}). {ADVICE}"
        ) from error


def to_int16(wave: Float[np.ndarray, " samples"]) -> Int16[np.ndarray, " samples"]:
    """Rounds to 16 bits: exact for what was 16-bit, mono and 16 kHz."""
    return np.clip(np.round(wave * 32768.0), -32768, 32767).astype(np.int16)


def to_float(audio: Int16[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """Returns float32 [samples] in [-1, 1)."""
    return audio.astype(np.float32) / 32768.0


def samples_hash(audio: Int16[np.ndarray, " samples"]) -> str:
    """Sha256 of the samples as little-endian 16-bit integers."""
    return hashlib.sha256(audio.astype("<i2").tobytes()).hexdigest()


def texts(examples: Sequence[dict[str, Any]], name: str) -> tuple[str, ...]:
    """Returns one text feature of all examples."""
    return tuple(example[name].decode() for example in examples)


class Source:
    """The examples of a prepared build, numbered across its splits.

    Each holds int16 'audio', its 'sha256' and a name, in the feature `clip`. Many
    threads may read at once. What cannot be read is an `InputError` that names the
    folder.
    """

    def __init__(self, builder: Any, clip: str = "clip"):
        self.folder = str(builder.data_path)
        self._clip = clip
        with named_damage(self.folder):
            self._metadata: dict[str, Any] = dict(builder.info.metadata or {})
            names = self.fact("splits")
            self._parts = [builder.as_data_source(split=name) for name in names]
        self._ends = list(itertools.accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        part = bisect.bisect_right(self._ends, index)
        start = self._ends[part] - len(self._parts[part])
        with named_damage(self.folder):
            example = self._parts[part][index - start]
            missing = [name for name, value in example.items() if value is None]
            if missing:  # what is read of a file that was cut off
                raise ValueError(f"example {index} lacks {', '.join(missing)}")
        return example

    def fact(self, name: str) -> Any:
        """Returns what the builder noted of the whole corpus under a name."""
        with named_damage(self.folder):
            return self._metadata[name]

    def read_checked(self, index: int) -> dict[str, Any]:
        """Returns an example whose audio is what was written."""
        example = self[index]
        if samples_hash(example["audio"]) != example["sha256"].decode():
            name = example[self._clip].decode()
            raise InputError(
                f"{self.folder}: the audio of {name} is not what was written. {ADVICE}"
            )
        return example

    def read_audio(self, index: int) -> Float[np.ndarray, " samples"]:
        """Returns float32 [samples] of one example, checked against its digest."""
        return to_float(self.read_checked(index)["audio"])

    def read_all(self) -> Iterator[dict[str, Any]]:
        """Yields all examples with 'seconds' in place of the audio."""
        for index in range(len(self)):
            example = self[index]
            example["seconds"] = len(example.pop("audio")) / SAMPLE_RATE
            yield example
