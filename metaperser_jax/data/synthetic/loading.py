"""Builds the synthetic corpus once and reads it from disk ever after."""

import contextlib
import io
import logging
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from metaperser_jax.data.synthetic import listeners, simulation
from metaperser_jax.errors import InputError, MachineError
from metaperser_jax.typing import Corpus, Ratings


def load_synthetic(
    spec: simulation.SyntheticSpec, data_dir: str | pathlib.Path
) -> Corpus:
    """Builds the synthetic corpus, or reuses it from disk.

    A build is written beside its place and renamed when complete: a killed build
    leaves nothing that could be taken for a corpus. The audio is kept in memory,
    about 45 kB a clip.

    Args:
      spec: what fixes the corpus; the same spec gives the same bytes.
      data_dir: where corpora are kept; created if absent.

    Returns:
      The corpus. `read_audio(clip)` gives float32 [samples] in [-1, 1), 16 kHz;
      `ground_truth` is P(class in the label set | clip, listener), [ratings, classes].

    Raises:
      InputError: the spec cannot be met, or the files on disk are damaged.
      MachineError: the folder cannot be written.
    """
    simulation.check_spec(spec)
    builder = _prepare(spec, pathlib.Path(data_dir))
    examples = _read_examples(builder)
    audio = [example["audio"] for example in examples]

    def read_audio(clip: int) -> np.ndarray:
        return audio[clip].astype(np.float32) / 32768.0

    config, metadata = builder.builder_config, builder.info.metadata
    assert config is not None
    assert metadata is not None
    ratings, ground_truth = _collect_ratings(examples)
    return Corpus(
        name=f"synthetic_{config.name}",
        clips=_texts(examples, "clip"),
        annotators=tuple(f"listener{i:03d}" for i in range(spec.num_listeners)),
        classes=listeners.CLASSES,
        dimensions=listeners.DIMENSIONS,
        speakers=np.array(_texts(examples, "speaker")),
        sessions=np.array(_texts(examples, "session")),
        ratings=ratings,
        content_hashes=_texts(examples, "sha256"),
        read_audio=read_audio,
        features=None,
        ground_truth=ground_truth,
        summary=dict(metadata["summary"]),
    )


def _prepare(spec: simulation.SyntheticSpec, data_dir: pathlib.Path):
    """Returns the prepared builder."""
    from metaperser_jax.data.synthetic import builder as tfds_package  # slow import

    def make_builder():
        return tfds_package.SyntheticListeners(
            data_dir=str(data_dir),
            config=tfds_package.SyntheticConfig(
                name=f"seed{spec.seed}_{simulation.spec_hash(spec)}", spec=spec
            ),
            file_format="array_record",
        )

    with _quiet():
        try:
            builder = make_builder()
            builder.download_and_prepare()
        except OSError as error:
            # another process may have finished the same corpus first
            builder = make_builder()
            if not builder.is_prepared():
                raise MachineError(
                    f"{data_dir}: the synthetic corpus could not be written ({error}). "
                    "Free some space or choose another data_dir."
                ) from error
    return builder


@contextlib.contextmanager
def _quiet():
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


def _read_examples(builder) -> Sequence[dict[str, Any]]:
    """Reads and checks all clips; example i is clip i."""
    from metaperser_jax.data.synthetic.builder import content_hash

    advice = "Delete this folder and run again: the corpus is then built anew."
    try:
        source = builder.as_data_source(split="clips")
        examples = [source[index] for index in range(len(source))]
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"{builder.data_path}: the corpus is damaged ({error}). {advice}"
        ) from error
    for example in examples:
        if content_hash(example["audio"]) != example["sha256"].decode():
            raise InputError(
                f"{builder.data_path}: the audio of {example['clip'].decode()} is not "
                f"what was written. {advice}"
            )
    return examples


def _texts(examples: Sequence[dict[str, Any]], name: str) -> tuple[str, ...]:
    return tuple(example[name].decode() for example in examples)


def _collect_ratings(
    examples: Sequence[dict[str, Any]],
) -> tuple[Ratings, np.ndarray]:
    """Returns the ratings, sorted by listener then clip, and their ground truth."""
    counts = [len(example["annotator"]) for example in examples]
    clip = np.repeat(np.arange(len(examples), dtype=np.int32), counts)
    columns = {
        name: np.concatenate([example[name] for example in examples])
        for name in ("annotator", "targets", "dimensions", "ground_truth")
    }
    order = np.lexsort((clip, columns["annotator"]))
    targets = columns["targets"][order].astype(np.float32)
    ratings = Ratings(
        clip=clip[order],
        annotator=columns["annotator"][order],
        targets=targets,
        mask=np.ones(targets.shape, bool),
        dimensions=columns["dimensions"][order].astype(np.float32),
    )
    return ratings, columns["ground_truth"][order]
