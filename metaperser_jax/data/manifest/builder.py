"""From a folder with ratings and recordings or features to a `Corpus`."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metaperser_jax.data.corpora import (
    drop_small_annotators,
    summarise,
    validate_corpus,
)
from metaperser_jax.data.manifest.answers import (
    Answers,
    read_answers,
    read_dimensions,
)
from metaperser_jax.data.manifest.features import FeatureRows, read_features
from metaperser_jax.data.manifest.media import Media, find_media
from metaperser_jax.data.manifest.spec import ManifestSpec, check_spec
from metaperser_jax.data.manifest.tables import (
    READERS,
    Table,
    read_table,
    require_columns,
)
from metaperser_jax.errors import InputError, Problems, did_you_mean
from metaperser_jax.typing import Corpus, Ratings

RATINGS_NAMES = ("ratings", "votes", "labels")
ITEMS_NAMES = ("items.csv", "items.jsonl", "items.parquet")


class _Source(NamedTuple):
    """What was declared and what was read."""

    spec: ManifestSpec
    problems: Problems
    ratings: Table
    items: Table | None
    item_row: dict[str, int]  # clip -> row of `items`


class _Rows(NamedTuple):
    """Rows of the ratings, in their order."""

    index: np.ndarray  # [rows] row of the table
    clips: list[str]  # [rows] clip id
    annotators: list[str]  # [rows] listener id


def load_manifest(spec: ManifestSpec, problems: Problems) -> Corpus:
    """Loads a folder of ratings with its recordings or features.

    Args:
      spec: where things are and how to read them.
      problems: collects what is skipped or doubtful; warnings about the sound of a
        recording are added when `read_audio` reads it.

    Returns:
      The corpus: clips in the order of the ratings, listeners sorted. `read_audio` and
      `features` may both be None (labels only): inputs then come from
      `ratings.other_raters_inputs`. Its summary counts what was left out.

    Raises:
      InputError: a fault of the specification, a file or a column, or nothing is left.
    """
    check_spec(spec)
    source = _read_source(spec, problems)
    features = _read_features(spec, problems)
    wanted = _wanted_rows(source)
    named = _rows_with_ids(source, wanted)
    answers = read_answers(source.ratings, named, spec, problems)
    rows = _rows(source, answers.keep)
    media = _find_media(source, rows, features)
    corpus, used = _assemble(source, rows, answers, media)
    valid = validate_corpus(
        corpus, problems, where=lambda row: source.ratings.place(int(used[row]))
    )
    corpus = drop_small_annotators(valid, spec.min_ratings)
    if not corpus.clips:
        raise InputError(
            f"{source.ratings.path}: no listener has {spec.min_ratings} ratings "
            "(min_ratings): lower it"
        )
    left_out = {
        **answers.counts,
        "rows_read": len(source.ratings.lines) + source.ratings.num_bad,
        "rows_not_wanted": int((~wanted).sum()),
        "clips_skipped": len(set(rows.clips)) - len(media.clips),
        "ratings_of_skipped_clips": len(rows.clips) - len(used),
        "listeners_below_min_ratings": len(valid.annotators) - len(corpus.annotators),
        "ratings_of_those": len(valid.ratings.clip) - len(corpus.ratings.clip),
    }
    return _with_summary(corpus, source, media, left_out)


def _with_summary(
    corpus: Corpus, source: _Source, media: Media, left_out: dict[str, Any]
) -> Corpus:
    seconds = [media.seconds[clip] for clip in corpus.clips if media.seconds]
    used = left_out["rows_not_wanted"] + len(corpus.ratings.clip)
    facts = {
        "source": source.ratings.path,
        **({"hours": float(np.nansum(seconds)) / 3600} if seconds else {}),
        **left_out,
        "rows_skipped": left_out["rows_read"] - used,
    }
    return corpus._replace(summary=summarise(corpus._replace(summary=facts)))


def _read_source(spec: ManifestSpec, problems: Problems) -> _Source:
    """Reads the ratings and the items, and checks that their columns exist."""
    root = os.fspath(spec.root)
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such folder, expected one with a ratings table")
    items_path = _items_path(root, spec)
    ratings_path = _ratings_path(root, spec, items_path)
    ratings = read_table(ratings_path, problems, spec.delimiter)
    answer_columns = spec.graded_columns or spec.label_columns
    needed = [spec.clip_column, spec.annotator_column, *answer_columns]
    require_columns(ratings, [*needed, *spec.dimension_columns])
    if items_path is None:
        return _Source(spec, problems, ratings, None, {})
    items = read_table(items_path, problems, spec.delimiter)
    require_columns(items, [spec.clip_column])
    rows: dict[str, int] = {}
    for row, clip in enumerate(items.texts(spec.clip_column)):
        if rows.setdefault(clip, row) != row:
            message = f"clip {clip!r} is listed before, line {items.lines[rows[clip]]}"
            problems.error("duplicate_item", items.place(row), message)
    return _Source(spec, problems, ratings, items, rows)


def _items_path(root: str, spec: ManifestSpec) -> str | None:
    if spec.items is None:
        return None
    if spec.items != "auto":
        return os.path.join(root, spec.items)
    paths = (os.path.join(root, name) for name in ITEMS_NAMES)
    return next(filter(os.path.isfile, paths), None)


def _ratings_path(root: str, spec: ManifestSpec, items_path: str | None) -> str:
    """Finds the table of ratings, by its name or as the only JSONL or Parquet file."""
    if spec.ratings != "auto":
        return os.path.join(root, spec.ratings)
    others = {items_path, os.path.join(root, spec.features or "")}
    tables = [
        name
        for name in sorted(os.listdir(root))
        if os.path.splitext(name)[1].lower() in READERS
        and not name.startswith(".")
        and os.path.join(root, name) not in others
    ]
    stems = {name: os.path.splitext(name)[0].lower() for name in tables}
    found = [name for name in tables if stems[name] in RATINGS_NAMES] or [
        name for name in tables if not name.lower().endswith((".csv", ".tsv", ".txt"))
    ]
    if len(found) == 1:
        return os.path.join(root, found[0])
    raise InputError(
        f"{root}: which table holds the ratings? Expected one of ratings.csv, "
        "votes.csv, labels.csv, *.jsonl or *.parquet; tables found: "
        f"{', '.join(found or tables) or 'none'}. Name it with `ratings`"
    )


def _read_features(spec: ManifestSpec, problems: Problems) -> FeatureRows | None:
    if spec.features is None:
        return None
    path = os.path.join(spec.root, spec.features)
    return read_features(path, spec.features_clip_column, problems, spec.delimiter)


def _by_rating(source: _Source, name: str) -> list[str]:
    """Returns a column of either table for each row of the ratings, '' = unknown."""
    ratings, items = source.ratings, source.items
    if name in ratings.columns:
        return ratings.texts(name)
    if items is not None and name in items.columns:
        texts = items.texts(name)
        rows = map(source.item_row.get, ratings.texts(source.spec.clip_column))
        return ["" if row is None else texts[row] for row in rows]
    files = ratings.path + (f" or {items.path}" if items else "")
    known = [*ratings.columns, *(items.columns if items else ())]
    raise InputError(
        f"{files}: no column {name!r}; found {', '.join(map(repr, known))}."
        f"{did_you_mean(name, known)}"
    )


def _wanted_rows(source: _Source) -> np.ndarray:
    """Returns [rows] bool, the rows that `keep_rows` asks for."""
    keep = np.ones(len(source.ratings.lines), bool)
    for name, values in source.spec.keep_rows:
        texts = _by_rating(source, name)
        keep &= np.array([text in values for text in texts], bool)
        if not keep.any():
            found = ", ".join(map(repr, sorted(set(texts))[:10]))
            raise InputError(
                f"{source.ratings.path}: keep_rows leaves no row: {name!r} is never "
                f"{' or '.join(map(repr, values))}; found {found}"
            )
    return keep


def _rows_with_ids(source: _Source, keep: np.ndarray) -> np.ndarray:
    """Returns [rows] bool, those kept that name a clip and a listener."""
    keep, table = keep.copy(), source.ratings
    for name in (source.spec.clip_column, source.spec.annotator_column):
        missing = keep & np.array([text == "" for text in table.texts(name)], bool)
        for row in np.flatnonzero(missing).tolist():
            message = f"column {name!r} is empty"
            source.problems.error("no_id", table.place(row), message)
        keep &= ~missing
    return keep


def _rows(source: _Source, keep: np.ndarray) -> _Rows:
    table, index = source.ratings, np.flatnonzero(keep)
    clips = table.texts(source.spec.clip_column)
    names = table.texts(source.spec.annotator_column)
    return _Rows(index, [clips[i] for i in index], [names[i] for i in index])


def _find_media(source: _Source, rows: _Rows, features: FeatureRows | None) -> Media:
    """Finds the inputs of the distinct clips of some rows."""
    first: dict[str, int] = {}
    counts: dict[str, int] = {}
    for row, clip in zip(rows.index.tolist(), rows.clips, strict=True):
        first.setdefault(clip, row)
        counts[clip] = counts.get(clip, 0) + 1
    clips = list(first)
    media = Media((), (), {}, None, None)
    if clips:
        places = [source.ratings.place(first[clip]) for clip in clips]
        sizes = [counts[clip] for clip in clips]
        media = find_media(clips, places, sizes, features, source.spec, source.problems)
    if not media.clips:
        raise InputError(
            f"{source.ratings.path}: no row can be used.\n{source.problems.summary()}"
        )
    return media


def _assemble(
    source: _Source, rows: _Rows, answers: Answers, media: Media
) -> tuple[Corpus, np.ndarray]:
    """Builds the corpus of the usable clips, and [ratings] its rows in the table."""
    spec = source.spec
    clip_index = {clip: i for i, clip in enumerate(media.clips)}
    known = [clip in clip_index for clip in rows.clips]
    used = rows.index[known]
    clips = [clip for clip in rows.clips if clip in clip_index]
    heard = [name for name, there in zip(rows.annotators, known, strict=True) if there]
    annotators = tuple(sorted(set(heard)))
    keep = np.zeros(len(answers.keep), bool)
    keep[used] = True
    dimensions = read_dimensions(source.ratings, keep, spec, source.problems)
    corpus = Corpus(
        name=spec.name or os.path.basename(os.path.abspath(spec.root)),
        clips=media.clips,
        annotators=annotators,
        classes=answers.classes,
        dimensions=tuple(spec.dimension_columns),
        speakers=_attribute(source, spec.speaker_column, "speaker", clips, used),
        sessions=_attribute(source, spec.session_column, "session", clips, used),
        ratings=Ratings(
            clip=_index_of(clips, media.clips),
            annotator=_index_of(heard, annotators),
            targets=answers.targets[used],
            mask=answers.mask[used],
            dimensions=dimensions[used],
        ),
        content_hashes=media.content_hashes,
        read_audio=media.read_audio,
        features=media.features,
        ground_truth=None,
        summary={},
    )
    return corpus, used


def _index_of(names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    position = {name: i for i, name in enumerate(known)}
    return np.array([position[name] for name in names], np.int32)


def _attribute(
    source: _Source,
    column: str | None,
    default: str,
    clips: Sequence[str],
    used: np.ndarray,
) -> np.ndarray:
    """Returns [clips] str: the first value of a column for each clip, '' = unknown.

    Clips count in the order of their first rating, which is that of the corpus.
    """
    if column == "auto":
        tables = [source.ratings, *([source.items] if source.items else [])]
        column = default if any(default in x.columns for x in tables) else None
    if column is None:
        return np.array([""] * len(set(clips)))
    values = _by_rating(source, column)
    first: dict[str, str] = {}
    for clip, row in zip(clips, used.tolist(), strict=True):
        known = first.setdefault(clip, values[row])
        if known != values[row]:
            place = source.ratings.place(row)
            message = f"{column} {values[row]!r}, {known!r} before: the first is kept"
            source.problems.warning("conflicting_attribute", place, message)
    unknown = [clip for clip, value in first.items() if not value]
    if unknown:
        message = f"{len(unknown)} clips have no {column}, for example {unknown[0]!r}"
        place = (source.items or source.ratings).path
        source.problems.warning("unknown_attribute", place, message)
    return np.array(list(first.values()))
