"""Builds IEMOCAP once from the user's copy and reads it from disk ever after."""

import contextlib
import io
import itertools
import logging
import math
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.corpora import (
    drop_small_annotators,
    summarise,
    validate_corpus,
)
from metaperser_jax.data.iemocap import fake, grammar, published, tree
from metaperser_jax.data.iemocap.spec import (
    CLASS_OF_LABEL,
    DIMENSIONS,
    OTHER_CLASS,
    IemocapSpec,
    check_spec,
    class_names,
)
from metaperser_jax.errors import InputError, MachineError, Problem, Problems
from metaperser_jax.typing import Corpus, Ratings

SAMPLE_RATE = 16_000
MAX_EXAMPLES = 5
_ADVICE = "Delete this folder and run again: the corpus is then built anew."


class Row(NamedTuple):
    """All that one rater wrote of one clip."""

    clip: int
    rater: str
    labels: tuple[str, ...] | None  # None = no line of labels, () = an empty one
    values: tuple[float, float, float]  # valence, activation, dominance; NaN = none


def load_iemocap(
    spec: IemocapSpec, data_dir: str | pathlib.Path, problems: Problems
) -> Corpus:
    """Loads IEMOCAP, or the invented tree of the same form.

    The copy is searched and its files are hashed each time; it is read and decoded
    only if no build of just these files is in `data_dir`. A build is written beside
    its place and renamed when complete: a killed one leaves nothing that could be
    taken for a corpus, and is begun anew. Audio stays on disk: `read_audio` reads one
    example at a time and checks its digest.

    Args:
      spec: where the corpus is and what is taken of it.
      data_dir: where builds are kept; created if absent.
      problems: collects what was skipped or is doubtful, at the build and at each
        later load alike.

    Returns:
      The corpus: clips by dialog and time; ratings by listener, then clip; groups
      'observer' and 'self'; `summary` with the comparison to the published counts.

    Raises:
      InputError: a fault of the specification or the copy, or damaged files on disk.
      MachineError: the folder cannot be written.
    """
    check_spec(spec)
    found = Problems()
    data_dir = pathlib.Path(data_dir).expanduser()
    root = _fake_root(spec, data_dir) if spec.fake else pathlib.Path(spec.root)
    files = tree.find_tree(root.expanduser(), found)
    source = _Source(_prepare(spec, files, data_dir))
    _replay(found.rows, source.metadata, files, problems)
    if source.metadata["published_differences"] and not spec.fake:
        message = "; ".join(source.metadata["published_differences"])
        problems.warning("published_counts", files.root, message)
    examples = list(source.read_all())
    corpus, left_out = _assemble(spec, source, examples, problems)
    valid = validate_corpus(corpus, problems)
    corpus = drop_small_annotators(valid, spec.min_ratings)
    if not corpus.clips:
        raise InputError(
            f"{files.root}: no listener has {spec.min_ratings} ratings (min_ratings): "
            "lower it"
        )
    facts = {
        **_facts(files, source.metadata, examples, corpus),
        **({"published_counts": ["an invented tree"]} if spec.fake else {}),
        **left_out,
        "listeners_below_min_ratings": len(valid.annotators) - len(corpus.annotators),
        "ratings_of_those": len(valid.ratings.clip) - len(corpus.ratings.clip),
    }
    return corpus._replace(summary=summarise(corpus._replace(summary=facts)))


def _replay(
    found: Sequence[Problem],
    metadata: dict[str, Any],
    files: tree.Tree,
    problems: Problems,
) -> None:
    """Records what was found now, and at the build, where the copy may have lain."""
    for problem in found:
        problems.add(*problem)
    for severity, kind, where, message in metadata["problems"]:
        if where.startswith(metadata["root"]):
            where = files.root + where.removeprefix(metadata["root"])
        problems.add(severity, kind, where, message)


def _fake_root(spec: IemocapSpec, data_dir: pathlib.Path) -> pathlib.Path:
    """Returns the invented tree, made if it is not there."""
    size = (spec.fake_dialogs, spec.fake_utterances, spec.fake_seed)
    name = "_".join(map(str, size))
    folder = data_dir / "iemocap_fake" / f"v{fake.GENERATOR_VERSION}_{name}"
    try:
        return fake.make_once(folder, *size)
    except OSError as error:
        raise MachineError(
            f"{folder}: the invented corpus could not be written ({error}). Free some "
            "space or choose another data_dir."
        ) from error


def _prepare(spec: IemocapSpec, files: tree.Tree, data_dir: pathlib.Path):
    """Returns the prepared builder."""
    from metaperser_jax.data.iemocap import builder as tfds_package  # slow import

    name = tfds_package.config_name(tree.fingerprint(files), float(spec.max_seconds))

    def make_builder():
        return tfds_package.IemocapUtterances(
            data_dir=str(data_dir),
            config=tfds_package.IemocapConfig(
                name=name, files=files, max_seconds=float(spec.max_seconds)
            ),
            file_format="array_record",
        )

    with _quiet():
        try:
            builder = make_builder()
            builder.download_and_prepare()
        except OSError as error:
            # another process may have finished the same build first
            builder = make_builder()
            if not builder.is_prepared():
                raise MachineError(
                    f"{data_dir}: IEMOCAP could not be written ({error}). Free some "
                    "space (1.5 GB for the whole corpus) or choose another data_dir."
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
    """The examples on disk, numbered across the sessions."""

    def __init__(self, builder):
        self.folder = builder.data_path
        self.metadata: dict[str, Any] = builder.info.metadata
        self.parts = []
        with self._named_damage():
            for session in self.metadata["sessions"]:
                self.parts.append(builder.as_data_source(split=session))
        self.ends = list(itertools.accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        part = next(i for i, end in enumerate(self.ends) if index < end)
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
        """Returns float32 [samples] of one example, checked against its digest."""
        from metaperser_jax.data.iemocap.builder import content_hash

        example = self[index]
        if content_hash(example["audio"]) != example["sha256"].decode():
            raise InputError(
                f"{self.folder}: the audio of {example['utterance'].decode()} is not "
                f"what was written. {_ADVICE}"
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


def _assemble(
    spec: IemocapSpec,
    source: _Source,
    examples: Sequence[dict[str, Any]],
    problems: Problems,
) -> tuple[Corpus, dict[str, Any]]:
    """Returns the corpus of the wanted ratings, and what was left out of it."""
    rows = [row for i, example in enumerate(examples) for row in rater_rows(i, example)]
    _report_rows(rows, examples, problems)
    kept, left_out = _wanted_rows(rows, spec)
    if not kept:
        raise InputError(
            f"{source.folder}: no rating is left of {len(examples)} utterances "
            f"(raters={spec.raters!r}): {left_out}"
        )
    names = tuple(sorted({row.rater for row in kept}, key=published.rater_order))
    kept.sort(key=lambda row: (names.index(row.rater), row.clip))
    corpus = Corpus(
        name="iemocap_fake" if spec.fake else "iemocap",
        clips=_texts(examples, "utterance"),
        annotators=names,
        classes=class_names(spec),
        dimensions=DIMENSIONS,
        speakers=np.array(_texts(examples, "speaker")),
        sessions=np.array(_texts(examples, "session")),
        ratings=_ratings(kept, names, class_names(spec)),
        content_hashes=_texts(examples, "sha256"),
        read_audio=source.read_audio,
        features=None,
        ground_truth=None,
        summary={},
        groups=tuple(
            "observer" if grammar.is_observer(name) else "self" for name in names
        ),
        seconds=np.array([example["seconds"] for example in examples]),
    )
    return corpus, left_out


def _texts(examples: Sequence[dict[str, Any]], name: str) -> tuple[str, ...]:
    return tuple(example[name].decode() for example in examples)


def rater_rows(clip: int, example: dict[str, Any]) -> list[Row]:
    """Joins the lines of labels and of dimensions of each rater of an example."""
    labels, dimensions = example["labels"], example["dimensions"]
    sets = {
        rater.decode(): tuple(filter(None, text.decode().split("|")))
        for rater, text in zip(labels["rater"], labels["labels"], strict=True)
    }
    values = {
        rater.decode(): (float(row[0]), float(row[1]), float(row[2]))
        for rater, row in zip(dimensions["rater"], dimensions["values"], strict=True)
    }
    missing = (math.nan, math.nan, math.nan)
    return [
        Row(clip, rater, sets.get(rater), values.get(rater, missing))
        for rater in dict.fromkeys([*sets, *values])
    ]


def _report_rows(
    rows: Sequence[Row], examples: Sequence[dict[str, Any]], problems: Problems
) -> None:
    """Warns, once, of actors who seem to have rated what another one said."""
    elsewhere = []
    for row in rows:
        speaker = examples[row.clip]["speaker"].decode()  # 'Ses01F'
        own = f"{speaker[-1]}{int(speaker[3:-1])}"
        if not grammar.is_observer(row.rater) and row.rater != own:
            name = examples[row.clip]["utterance"].decode()
            elsewhere.append(f"{row.rater} on {name}")
    if elsewhere:
        shown = "; ".join(elsewhere[:MAX_EXAMPLES])
        message = f"{len(elsewhere)} self-ratings of what another actor said: {shown}"
        problems.warning("self_rater_elsewhere", "raters", message)


def class_labels(labels: Sequence[str], other_class: bool) -> list[str]:
    """Returns the classes of a label set; 'Other' is dropped or a class of its own."""
    names = [CLASS_OF_LABEL.get(label, OTHER_CLASS) for label in labels]
    return [name for name in names if other_class or name != OTHER_CLASS]


def _wanted_rows(
    rows: Sequence[Row], spec: IemocapSpec
) -> tuple[list[Row], dict[str, Any]]:
    """Returns the rows with a class by the raters that are asked for, and counts."""
    counts: dict[str, Any] = dict.fromkeys(
        (
            "ratings_of_other_raters",
            "ratings_without_labels",  # dimensions only
            "ratings_with_empty_set",
            "ratings_with_other_only",
            "other_labels_dropped",
            "dimension_values_out_of_range",
        ),
        0,
    )
    kept = []
    for row in rows:
        kind = "observers" if grammar.is_observer(row.rater) else "self"
        if spec.raters not in ("all", kind):
            counts["ratings_of_other_raters"] += 1
        elif row.labels is None:
            counts["ratings_without_labels"] += 1
        elif not row.labels:
            counts["ratings_with_empty_set"] += 1
        else:
            names = class_labels(row.labels, spec.other_class)
            counts["other_labels_dropped"] += len(row.labels) - len(names)
            counts["ratings_with_other_only"] += not names
            kept += [row._replace(labels=tuple(names))] if names else []
    low, high = grammar.SCALE_MIN, grammar.SCALE_MAX
    counts["dimension_values_out_of_range"] = sum(
        x < low or x > high for row in kept for x in row.values
    )
    return kept, counts


def _ratings(
    rows: Sequence[Row], names: Sequence[str], classes: Sequence[str]
) -> Ratings:
    """Encodes rows; a dimensional value off the scale counts as not rated."""
    targets = np.zeros((len(rows), len(classes)), np.float32)
    for target, row in zip(targets, rows, strict=True):
        target[[classes.index(label) for label in row.labels or ()]] = 1
    values = np.array([row.values for row in rows], np.float32)
    on_scale = (values >= grammar.SCALE_MIN) & (values <= grammar.SCALE_MAX)
    return Ratings(
        clip=np.array([row.clip for row in rows], np.int32),
        annotator=np.array([names.index(row.rater) for row in rows], np.int32),
        targets=targets,
        mask=np.ones(targets.shape, bool),
        dimensions=np.where(on_scale, values, np.float32(np.nan)),
    )


def _facts(
    files: tree.Tree,
    metadata: dict[str, Any],
    examples: Sequence[dict[str, Any]],
    corpus: Corpus,
) -> dict[str, Any]:
    """Returns what there is to say of the copy, in plain values."""
    matrix = published.matrix_from_dict(metadata["raters"])
    kinds = [example["kind"].decode() for example in examples]
    differences = list(metadata["published_differences"]) or ["all agree"]
    assert corpus.seconds is not None
    return {
        "source": files.root,
        "hours": float(corpus.seconds.sum()) / 3600,
        "dialogs": len({example["dialog"] for example in examples}),
        "utterances_evaluated": int(metadata["facts"]["blocks"]),
        "utterances_usable": len(examples),
        "utterances_by_kind": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "without_transcript": sum(not bool(x["has_transcript"]) for x in examples),
        "published_counts": differences,
        "derived_again": dict(metadata["derived"]),
        "raters": published.brief_raters(matrix),
        **{name: int(x) for name, x in metadata["facts"].items() if name != "blocks"},
    }


def rater_table(corpus: Corpus) -> str:
    """Returns, for the console, how often each listener gave each class in a session.

    Listeners are confounded with sessions and scripts: compare two of them on clips
    that both rated, never by their lines here alone.
    """
    ratings = corpus.ratings
    sessions = tuple(sorted(set(corpus.sessions.tolist())))
    session = np.searchsorted(sessions, corpus.sessions)[ratings.clip]
    shape = (len(corpus.annotators), len(sessions))
    counts = np.zeros((*shape, len(corpus.classes)), np.int64)
    rated = np.zeros(shape, np.int64)
    np.add.at(counts, (ratings.annotator, session), ratings.targets > 0)
    np.add.at(rated, (ratings.annotator, session), 1)
    return published.describe_raters(
        published.RaterMatrix(
            corpus.annotators, sessions, corpus.classes, counts, rated
        )
    )
