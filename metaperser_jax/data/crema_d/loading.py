"""Builds CREMA-D once from a copy of it and reads it from disk ever after."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from metaperser_jax.data import builds
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
from metaperser_jax.errors import InputError, Problem, Problems
from metaperser_jax.typing import Corpus, Ratings


def load_crema_d(
    spec: CremaDSpec, data_dir: str | pathlib.Path, problems: Problems
) -> Corpus:
    """Loads CREMA-D, or a generated corpus of the same form.

    The copy is searched, and the responses are hashed, each time; answers and audio
    are read only if no build of just these files is in `data_dir`. Builds are whole or
    absent, see `builds.prepare`; one serves all modalities. Audio stays on disk:
    `read_audio` reads one clip at a time and checks its digest.

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
    source = builds.Source(_prepare(spec, sources, data_dir))
    for row in source.fact("problems"):
        problems.add(*Problem(*row))
    if not spec.fake:
        check_counts(source.fact("facts"), str(sources.responses), problems)
    corpus = validate_corpus(_assemble(spec, source), problems)
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
        **source.fact("facts"),
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
    with builds.writing(folder, "the generated corpus"):
        root = fake.make_once(folder, size)
    return spec._replace(root=str(root), responses="auto", audio="auto")


def _prepare(spec: CremaDSpec, sources: Sources, data_dir: pathlib.Path):
    """Returns the prepared builder."""
    from metaperser_jax.data.crema_d import builder as tfds_package  # slow import

    name = tfds_package.config_name(sources, spec.max_seconds)
    config = tfds_package.CremaDConfig(name=name, spec=spec)
    room = "0.7 GB for the whole corpus"
    return builds.prepare(tfds_package.CremaDClips, config, data_dir, "CREMA-D", room)


def _assemble(spec: CremaDSpec, source: builds.Source) -> Corpus:
    """Returns the corpus of the answers in the wanted modality."""
    examples = list(source.read_all())
    raters, modality = source.fact("raters"), MODALITIES.index(spec.modality)
    ratings, annotators = _ratings(examples, raters, modality)
    if not ratings.clip.size:
        raise InputError(
            f"{source.folder}: none of the {len(examples)} usable clips has an answer "
            f"in the modality {spec.modality!r}"
        )
    return Corpus(
        name="crema_d_fake" if spec.fake else "crema_d",
        clips=builds.texts(examples, "clip"),
        annotators=annotators,
        classes=CLASSES,
        dimensions=("level",),
        speakers=np.array(builds.texts(examples, "speaker")),
        sessions=np.array(builds.texts(examples, "group")),
        ratings=ratings,
        content_hashes=builds.texts(examples, "sha256"),
        read_audio=source.read_audio,
        features=None,
        ground_truth=None,
        summary={},
        seconds=np.array([example["seconds"] for example in examples]),
    )


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
