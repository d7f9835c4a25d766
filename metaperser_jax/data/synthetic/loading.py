"""Builds the synthetic corpus once and reads it from disk ever after."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from metaperser_jax.data import builds
from metaperser_jax.data.synthetic import listeners, simulation
from metaperser_jax.typing import Corpus, Ratings


def load_synthetic(
    spec: simulation.SyntheticSpec, data_dir: str | pathlib.Path
) -> Corpus:
    """Builds the synthetic corpus, or reuses it from disk.

    Builds are whole or absent, see `builds.prepare`. The audio is kept in memory,
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
    source = builds.Source(_prepare(spec, pathlib.Path(data_dir)))
    examples = [source.read_checked(index) for index in range(len(source))]
    audio = [example["audio"] for example in examples]

    def read_audio(clip: int) -> np.ndarray:
        return builds.to_float(audio[clip])

    ratings, ground_truth = _collect_ratings(examples)
    return Corpus(
        name=f"synthetic_seed{spec.seed}_{simulation.spec_hash(spec)}",
        clips=builds.texts(examples, "clip"),
        annotators=tuple(f"listener{i:03d}" for i in range(spec.num_listeners)),
        classes=listeners.CLASSES,
        dimensions=listeners.DIMENSIONS,
        speakers=np.array(builds.texts(examples, "speaker")),
        sessions=np.array(builds.texts(examples, "session")),
        ratings=ratings,
        content_hashes=builds.texts(examples, "sha256"),
        read_audio=read_audio,
        features=None,
        ground_truth=ground_truth,
        summary=dict(source.fact("summary")),
    )


def _prepare(spec: simulation.SyntheticSpec, data_dir: pathlib.Path):
    """Returns the prepared builder."""
    from metaperser_jax.data.synthetic import builder as tfds_package  # slow import

    config = tfds_package.SyntheticConfig(
        name=tfds_package.config_name(spec), spec=spec
    )
    return builds.prepare(
        tfds_package.SyntheticListeners, config, data_dir, "the synthetic corpus"
    )


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
