"""Builds IEMOCAP once from the user's copy and reads it from disk ever after."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data import builds
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
from metaperser_jax.errors import InputError, Problem, Problems
from metaperser_jax.typing import Corpus, Ratings

MAX_EXAMPLES = 5


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
    only if no build of just these files is in `data_dir`. Builds are whole or absent,
    see `builds.prepare`. Audio stays on disk: `read_audio` reads one example at a time
    and checks its digest.

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
    source = builds.Source(_prepare(spec, files, data_dir), clip="utterance")
    _replay(found.rows, source, files, problems)
    differences = source.fact("published_differences")
    if differences and not spec.fake:
        message = "; ".join(differences)
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
        **_facts(files, source, examples, corpus),
        **({"published_counts": ["an invented tree"]} if spec.fake else {}),
        **left_out,
        "listeners_below_min_ratings": len(valid.annotators) - len(corpus.annotators),
        "ratings_of_those": len(valid.ratings.clip) - len(corpus.ratings.clip),
    }
    return corpus._replace(summary=summarise(corpus._replace(summary=facts)))


def _replay(
    found: Sequence[Problem],
    source: builds.Source,
    files: tree.Tree,
    problems: Problems,
) -> None:
    """Records what was found now, and at the build, where the copy may have lain."""
    for problem in found:
        problems.add(*problem)
    root = source.fact("root")
    for severity, kind, where, message in source.fact("problems"):
        if where.startswith(root):
            where = files.root + where.removeprefix(root)
        problems.add(severity, kind, where, message)


def _fake_root(spec: IemocapSpec, data_dir: pathlib.Path) -> pathlib.Path:
    """Returns the invented tree, made if it is not there."""
    size = (spec.fake_dialogs, spec.fake_utterances, spec.fake_seed)
    name = "_".join(map(str, size))
    folder = data_dir / "iemocap_fake" / f"v{fake.GENERATOR_VERSION}_{name}"
    with builds.writing(folder, "the invented corpus"):
        return fake.make_once(folder, *size)


def _prepare(spec: IemocapSpec, files: tree.Tree, data_dir: pathlib.Path):
    """Returns the prepared builder."""
    from metaperser_jax.data.iemocap import builder as tfds_package  # slow import

    name = tfds_package.config_name(tree.fingerprint(files), float(spec.max_seconds))
    config = tfds_package.IemocapConfig(
        name=name, files=files, max_seconds=float(spec.max_seconds)
    )
    room = "1.5 GB for the whole corpus"
    return builds.prepare(
        tfds_package.IemocapUtterances, config, data_dir, "IEMOCAP", room
    )


def _assemble(
    spec: IemocapSpec,
    source: builds.Source,
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
        clips=builds.texts(examples, "utterance"),
        annotators=names,
        classes=class_names(spec),
        dimensions=DIMENSIONS,
        speakers=np.array(builds.texts(examples, "speaker")),
        sessions=np.array(builds.texts(examples, "session")),
        ratings=_ratings(kept, names, class_names(spec)),
        content_hashes=builds.texts(examples, "sha256"),
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
    source: builds.Source,
    examples: Sequence[dict[str, Any]],
    corpus: Corpus,
) -> dict[str, Any]:
    """Returns what there is to say of the copy, in plain values."""
    matrix = published.matrix_from_dict(source.fact("raters"))
    kinds = [example["kind"].decode() for example in examples]
    differences = list(source.fact("published_differences")) or ["all agree"]
    counts = dict(source.fact("facts"))
    num_blocks = int(counts.pop("blocks"))
    assert corpus.seconds is not None
    return {
        "source": files.root,
        "hours": float(corpus.seconds.sum()) / 3600,
        "dialogs": len({example["dialog"] for example in examples}),
        "utterances_evaluated": num_blocks,
        "utterances_usable": len(examples),
        "utterances_by_kind": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "without_transcript": sum(not bool(x["has_transcript"]) for x in examples),
        "published_counts": differences,
        "derived_again": dict(source.fact("derived")),
        "raters": published.brief_raters(matrix),
        **{name: int(count) for name, count in counts.items()},
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
