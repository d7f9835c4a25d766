"""Builds CREMA-D once from a copy of it and reads it from disk ever after."""

import bisect
import contextlib
import io
import itertools
import logging
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmark.audio import SAMPLE_RATE
from metaperser_jax.data.corpora import (
    drop_small_annotators,
    summarise,
    validate_corpus,
)
from metaperser_jax.data.crema_d import fake
from metaperser_jax.data.crema_d.published import check_counts
from metaperser_jax.data.crema_d.sources import Sources, find_sources
from metaperser_jax.data.crema_d.spec import (
    CLASSES,
    MODALITIES,
    CremaDSpec,
    check_spec,
)
from metaperser_jax.errors import InputError, MachineError, Problem, Problems
from metaperser_jax.typing import Corpus, Ratings

_ADVICE = "Delete this folder and run again: the corpus is then built anew."


def load_crema_d(
    spec: CremaDSpec, data_dir: str | pathlib.Path, problems: Problems
) -> Corpus:
    """Loads CREMA-D, or a generated corpus of the same form.

    The copy is searched, and the responses are hashed, each time; answers and audio
    are read only if no build of just these files is in `data_dir`. A build is written
    beside its place and renamed when complete: a killed one leaves nothing that could
    be taken for a corpus. Audio stays on disk: `read_audio` reads one clip at a time
    and checks its digest. One build serves all modalities.

    Args:
      spec: where the corpus is and which answers count.
      data_dir: where builds are kept; created if absent.
      problems: collects what was skipped or is doubtful, at the build and at each
        later load alike.

    Returns:
      The corpus: clips by name, listeners sorted, ratings by listener, then clip; one
      label a rating; dimension 'level', 0-100, NaN = not given; the actors as
      `speakers`, the speaker groups 'set1' ... 'set5' as `sessions`.

    Raises:
      InputError: a fault of the specification or the copy, or damaged files on disk.
      MachineError: the folder cannot be written.
    """
    check_spec(spec)
    data_dir = pathlib.Path(data_dir).expanduser()
    spec = _with_root(spec, data_dir)
    sources = find_sources(spec)
    builder = _prepare(spec, sources, data_dir)
    metadata = dict(builder.info.metadata or {})
    for row in metadata["problems"]:
        problems.add(*Problem(*row))
    if not spec.fake:
        check_counts(metadata["facts"], str(sources.responses), problems)
    source = _Source(builder)
    corpus = validate_corpus(_assemble(spec, source, metadata["raters"]), problems)
    kept = drop_small_annotators(corpus, spec.min_ratings)
    if not kept.clips:
        raise InputError(
            f"{sources.root}: no listener has {spec.min_ratings} ratings "
            "(min_ratings): lower it"
        )
    facts = {
        "source": str(sources.root),
        "modality": spec.modality,
        "hours": float(np.sum(kept.seconds if kept.seconds is not None else 0)) / 3600,
        **metadata["facts"],
        "clips_usable": len(source),
        "listeners_below_min_ratings": len(corpus.annotators) - len(kept.annotators),
        "ratings_of_those": len(corpus.ratings.clip) - len(kept.ratings.clip),
    }
    return kept._replace(summary=summarise(kept._replace(summary=facts)))


def _with_root(spec: CremaDSpec, data_dir: pathlib.Path) -> CremaDSpec:
    """Returns the spec with the folder to read; a generated copy is made if absent."""
    if not spec.fake:
        return spec._replace(root=str(pathlib.Path(spec.root).expanduser()))
    size = fake.FakeSize(spec.fake_clips, spec.fake_raters, spec.fake_seed)
    name = "_".join(map(str, size))
    folder = data_dir / "crema_d_fake" / f"v{fake.GENERATOR_VERSION}_{name}"
    try:
        root = fake.make_once(folder, size)
    except OSError as error:
        raise MachineError(
            f"{folder}: the generated corpus could not be written ({error}). Free some "
            "space or choose another data_dir."
        ) from error
    return spec._replace(root=str(root), responses="auto", audio="auto")


def _prepare(spec: CremaDSpec, sources: Sources, data_dir: pathlib.Path):
    """Returns the prepared builder."""
    import tensorflow_datasets as tfds  # slow import

    from metaperser_jax.data.crema_d import builder as tfds_package

    name = tfds_package.config_name(sources, spec.max_seconds)

    def make_builder():
        config = tfds_package.CremaDConfig(name=name, spec=spec)
        return tfds_package.CremaDClips(
            data_dir=str(data_dir), config=config, file_format="array_record"
        )

    manual = tfds.download.DownloadConfig(manual_dir=spec.root)
    with _quiet():
        try:
            builder = make_builder()
            builder.download_and_prepare(download_config=manual)
        except OSError as error:
            # another process may have finished the same build first
            builder = make_builder()
            if not builder.is_prepared():
                raise MachineError(
                    f"{data_dir}: CREMA-D could not be written ({error}). Free some "
                    "space (0.7 GB for the whole corpus) or choose another data_dir."
                ) from error
    return builder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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


class _Source:
    """The examples on disk, numbered across the speaker groups."""

    def __init__(self, builder):
        self.folder = builder.data_path
        with self._named_damage():
            self.parts = [
                builder.as_data_source(split=group)
                for group in builder.info.metadata["groups"]
            ]
        self.ends = list(itertools.accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        part = bisect.bisect_right(self.ends, index)
        start = self.ends[part] - len(self.parts[part])
        with self._named_damage():
            return self.parts[part][index - start]

    def read_all(self) -> Iterator[dict[str, Any]]:
        """Yields all examples without their audio, with its length."""
        for index in range(len(self)):
            example = self[index]
            example["seconds"] = len(example.pop("audio")) / SAMPLE_RATE
            yield example

    def read_audio(self, index: int) -> np.ndarray:
        """Returns float32 [samples] of one clip, checked against its digest."""
        from metaperser_jax.data.crema_d.builder import content_hash

        example = self[index]
        if content_hash(example["audio"]) != example["sha256"].decode():
            raise InputError(
                f"{self.folder}: the audio of {example['clip'].decode()} is not what "
                f"was written. {_ADVICE}"
            )
        return example["audio"].astype(np.float32) / 32768.0

    @contextlib.contextmanager
    def _named_damage(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.folder}: the corpus is damaged ({error}). {_ADVICE}"
            ) from error


def _assemble(spec: CremaDSpec, source: _Source, raters: Sequence[str]) -> Corpus:
    """Returns the corpus of the answers in the wanted modality."""
    examples = list(source.read_all())
    ratings, annotators = _ratings(examples, raters, MODALITIES.index(spec.modality))
    if not ratings.clip.size:
        raise InputError(
            f"{source.folder}: none of the {len(examples)} usable clips has an answer "
            f"in the modality {spec.modality!r}"
        )
    return Corpus(
        name="crema_d_fake" if spec.fake else "crema_d",
        clips=_texts(examples, "clip"),
        annotators=annotators,
        classes=CLASSES,
        dimensions=("level",),
        speakers=np.array(_texts(examples, "speaker")),
        sessions=np.array(_texts(examples, "group")),
        ratings=ratings,
        content_hashes=_texts(examples, "sha256"),
        read_audio=source.read_audio,
        features=None,
        ground_truth=None,
        summary={},
        seconds=np.array([example["seconds"] for example in examples]),
    )


def _texts(examples: Sequence[dict[str, Any]], name: str) -> tuple[str, ...]:
    return tuple(example[name].decode() for example in examples)


def _ratings(
    examples: Sequence[dict[str, Any]], raters: Sequence[str], modality: int
) -> tuple[Ratings, tuple[str, ...]]:
    """Gathers the answers in one modality, and the raters who gave any, sorted."""
    parts = {name: [np.zeros(0)] for name in ("clip", "rater", "label", "level")}
    for index, example in enumerate(examples):
        wanted = example["modality"] == modality
        parts["clip"].append(np.full(int(wanted.sum()), index))
        for name in ("rater", "label", "level"):
            parts[name].append(example[name][wanted])
    columns = {name: np.concatenate(part) for name, part in parts.items()}
    found, rater = np.unique(columns["rater"].astype(np.int32), return_inverse=True)
    names = np.array([raters[index] for index in found], object)
    order = np.argsort(names, kind="stable")
    annotator = np.argsort(order)[rater].astype(np.int32)
    by_listener = np.lexsort((columns["clip"], annotator))
    label = columns["label"].astype(np.int32)[by_listener]
    targets = np.eye(len(CLASSES), dtype=np.float32)[label]
    ratings = Ratings(
        clip=columns["clip"].astype(np.int32)[by_listener],
        annotator=annotator[by_listener],
        targets=targets,
        mask=np.ones(targets.shape, bool),
        dimensions=columns["level"].astype(np.float32)[by_listener, None],
    )
    return ratings, tuple(str(name) for name in names[order])
