"""What every corpus goes through: checks, selections, a summary and a hash.

All functions return new corpora; arrays are never changed in place.
"""

import collections
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from benchmark.audio import content_hash
from metaperser_jax.data.ratings import count_classes, listener_information
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.typing import Corpus, Ratings


def validate_corpus(
    corpus: Corpus,
    problems: Problems,
    where: Callable[[int], str] | None = None,
) -> Corpus:
    """Checks a corpus and returns it without the rows that cannot be used.

    Clips with equal content hashes become one clip under the first name, since the
    same sound in training and test would leak (warning `duplicate_clip`). Ratings
    whose counted targets are NaN (`nan_label`), that answer nothing (`no_label`), or
    whose listener rated the clip before (`duplicate_rating`, the first is kept) are
    error rows. Listeners and clips without ratings are left out.

    Args:
      corpus: as a builder made it; a content hash of '' is unknown and never equal.
      problems: collects the rows.
      where: names the place (file and line) of a rating for messages.

    Returns:
      The corpus, with equal or fewer clips, listeners and ratings.

    Raises:
      InputError: arrays do not fit together or no rating is left.
    """
    _check_structure(corpus)
    place = where or functools.partial(_rating_place, corpus)
    corpus = _merge_equal_clips(corpus, problems)
    usable = _usable_rows(corpus.ratings, problems, place)
    usable = _first_of_pair(corpus, usable, problems, place)
    if not usable.any():
        raise InputError(
            f"{corpus.name}: no rating can be used.\n{problems.summary()}".rstrip()
        )
    targets = np.where(corpus.ratings.mask, corpus.ratings.targets, np.float32(0))
    corpus = corpus._replace(ratings=corpus.ratings._replace(targets=targets))
    return drop_unrated(select_ratings(corpus, usable))


def select_ratings(
    corpus: Corpus, rows: Bool[np.ndarray, " ratings"] | Int[np.ndarray, " rows"]
) -> Corpus:
    """Keeps some ratings (mask or indices); clips and listeners stay as they are."""
    truth = corpus.ground_truth
    return corpus._replace(
        ratings=Ratings(*(field[rows] for field in corpus.ratings)),
        ground_truth=None if truth is None else truth[rows],
    )


def select_clips(corpus: Corpus, clips: Sequence[int] | np.ndarray) -> Corpus:
    """Keeps some clips, in the order given, and the ratings of those."""
    keep = np.array(list(clips), np.int32)
    if np.array_equal(keep, np.arange(len(corpus.clips))):
        return corpus  # features may be large: no copy without need
    corpus = select_ratings(corpus, np.isin(corpus.ratings.clip, keep))
    read, features = corpus.read_audio, corpus.features
    seconds = corpus.seconds
    return corpus._replace(
        clips=tuple(corpus.clips[i] for i in keep),
        speakers=corpus.speakers[keep],
        sessions=corpus.sessions[keep],
        content_hashes=tuple(corpus.content_hashes[i] for i in keep),
        read_audio=None if read is None else functools.partial(_read_kept, read, keep),
        features=None if features is None else features[keep],
        seconds=None if seconds is None else seconds[keep],
        ratings=corpus.ratings._replace(
            clip=_new_index(keep, len(corpus.clips))[corpus.ratings.clip]
        ),
    )


def select_annotators(corpus: Corpus, annotators: Sequence[int] | np.ndarray) -> Corpus:
    """Keeps some listeners, in the order given, and their ratings."""
    keep = np.array(list(annotators), np.int32)
    corpus = select_ratings(corpus, np.isin(corpus.ratings.annotator, keep))
    return corpus._replace(
        annotators=tuple(corpus.annotators[i] for i in keep),
        groups=tuple(corpus.groups[i] for i in keep) if corpus.groups else (),
        ratings=corpus.ratings._replace(
            annotator=_new_index(keep, len(corpus.annotators))[corpus.ratings.annotator]
        ),
    )


def drop_unrated(corpus: Corpus) -> Corpus:
    """Leaves out listeners and clips that have no rating."""
    corpus = select_clips(corpus, np.unique(corpus.ratings.clip))
    return select_annotators(corpus, np.unique(corpus.ratings.annotator))


def drop_small_annotators(corpus: Corpus, min_ratings: int) -> Corpus:
    """Leaves out listeners with fewer than `min_ratings` ratings, then empty clips."""
    counts = np.bincount(corpus.ratings.annotator, minlength=len(corpus.annotators))
    keep = np.flatnonzero(counts >= min_ratings)
    return drop_unrated(select_annotators(corpus, keep))


def summarise(corpus: Corpus) -> dict[str, Any]:
    """Describes a corpus in plain, JSON-ready values.

    Returns:
      Counts of clips, listeners, ratings, speakers and sessions, the ratings of each
      class, labels per rating, what the inputs are, and how much the listener tells
      about the label (bits); other keys of `corpus.summary`, which the builder found
      (for example `hours`), are kept after them.
    """
    ratings = corpus.ratings
    per_listener = np.bincount(ratings.annotator, minlength=len(corpus.annotators))
    labels = np.where(ratings.mask, ratings.targets, 0).sum(axis=1)
    counts = count_classes(ratings)
    facts = {
        "name": corpus.name,
        "clips": len(corpus.clips),
        "listeners": len(corpus.annotators),
        "ratings": len(ratings.clip),
        "ratings_per_listener": _spread(per_listener),
        "ratings_per_clip": len(ratings.clip) / max(len(corpus.clips), 1),
        "labels_per_rating": float(labels.mean()) if labels.size else 0.0,
        "ratings_without_label": int((labels == 0).sum()),
        "classes": {
            name: round(float(count), 3)
            for name, count in zip(corpus.classes, counts, strict=True)
        },
        "dimensions": list(corpus.dimensions),
        "speakers": len(set(corpus.speakers.tolist()) - {""}),
        "sessions": len(set(corpus.sessions.tolist()) - {""}),
        "inputs": _input_kind(corpus),
        "listener_information_bits": listener_information(ratings),
    }
    return {**facts, **corpus.summary, **facts}


def describe(summary: dict[str, Any]) -> str:
    """Formats a summary for the console, one fact a line."""
    lines = []
    for key, value in summary.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {_short(item)}" for name, item in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(_short, value))  # they hold commas
        lines.append(f"  {key.replace('_', ' ')}: {_short(value) or '-'}")
    return "\n".join(lines)


def corpus_hash(corpus: Corpus) -> str:
    """Returns a sha256 hex digest of the clips' content and of all ratings.

    Results carry it: equal digests mean the same data in the same order. Paths and
    the corpus' name do not count.
    """
    names = [corpus.content_hashes, corpus.clips, corpus.annotators]
    names += [corpus.classes, corpus.dimensions]
    names += [corpus.speakers.tolist(), corpus.sessions.tolist()]
    arrays = [content_hash(array) for array in corpus.ratings]
    text = json.dumps([names, arrays])
    return hashlib.sha256(text.encode()).hexdigest()


def _read_kept(
    read: Callable[[int], np.ndarray], keep: np.ndarray, index: int
) -> np.ndarray:
    return read(int(keep[index]))


def _new_index(keep: np.ndarray, size: int) -> np.ndarray:
    """Returns [size] int32, the new index of each kept old one."""
    index = np.full(size, -1, np.int32)
    index[keep] = np.arange(keep.size, dtype=np.int32)
    return index


def _spread(counts: np.ndarray) -> dict[str, int | float]:
    if counts.size == 0:
        return {}
    low, middle, high = np.quantile(counts, [0, 0.5, 1])
    return {"min": int(low), "median": float(middle), "max": int(high)}


def _input_kind(corpus: Corpus) -> str:
    if corpus.features is not None:
        return "features, {} layers of width {}".format(*corpus.features.shape[1:])
    return "audio" if corpus.read_audio is not None else "other raters' votes"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_structure(corpus: Corpus) -> None:
    """Raises one `InputError` that names all arrays that do not fit together."""
    ratings = corpus.ratings
    num_clips, num_ratings = len(corpus.clips), len(ratings.clip)
    table = (num_ratings, len(corpus.classes))
    shapes = {
        "speakers": (corpus.speakers.shape, (num_clips,)),
        "sessions": (corpus.sessions.shape, (num_clips,)),
        "content_hashes": ((len(corpus.content_hashes),), (num_clips,)),
        "ratings.annotator": (ratings.annotator.shape, (num_ratings,)),
        "ratings.targets": (ratings.targets.shape, table),
        "ratings.mask": (ratings.mask.shape, table),
        "ratings.dimensions": (
            ratings.dimensions.shape,
            (num_ratings, len(corpus.dimensions)),
        ),
    }
    if corpus.groups:
        shapes["groups"] = ((len(corpus.groups),), (len(corpus.annotators),))
    if corpus.seconds is not None:
        shapes["seconds"] = (corpus.seconds.shape, (num_clips,))
    if corpus.features is not None:
        shapes["features"] = (corpus.features.shape[:1], (num_clips,))
    if corpus.ground_truth is not None:
        shapes["ground_truth"] = (corpus.ground_truth.shape, table)
    faults = [
        f"{name} has shape {found}, expected {expected}"
        for name, (found, expected) in shapes.items()
        if found != expected
    ]
    faults += _name_faults(corpus) + _index_faults(corpus)
    if faults:
        raise InputError(f"corpus {corpus.name}: " + "; ".join(faults))


def _name_faults(corpus: Corpus) -> list[str]:
    faults = []
    for field in ("clips", "annotators", "classes", "dimensions"):
        counts = collections.Counter(getattr(corpus, field))
        repeated = sorted(name for name, count in counts.items() if count > 1)
        if repeated:
            faults.append(f"{field} holds names twice: {', '.join(repeated[:3])}")
    return faults


def _index_faults(corpus: Corpus) -> list[str]:
    faults = []
    sizes = {"clip": len(corpus.clips), "annotator": len(corpus.annotators)}
    for field, size in sizes.items():
        index = getattr(corpus.ratings, field)
        if index.size and not 0 <= index.min() <= index.max() < size:
            found = f"{index.min()} to {index.max()}"
            faults.append(f"ratings.{field} holds {found}, expected 0 to {size - 1}")
    return faults


def _rating_place(corpus: Corpus, row: int) -> str:
    clip = corpus.clips[corpus.ratings.clip[row]]
    return f"clip {clip!r}, {_listener(corpus, row)}"


def _listener(corpus: Corpus, row: int) -> str:
    return f"listener {corpus.annotators[corpus.ratings.annotator[row]]!r}"


def _merge_equal_clips(corpus: Corpus, problems: Problems) -> Corpus:
    """Moves the ratings of a clip to the first clip with the same content."""
    first: dict[str, int] = {}
    canonical = list(range(len(corpus.clips)))
    counts = np.bincount(corpus.ratings.clip, minlength=len(corpus.clips))
    for index, digest in enumerate(corpus.content_hashes):
        canonical[index] = first.setdefault(digest, index) if digest else index
        if canonical[index] == index:
            continue
        kept = corpus.clips[canonical[index]]
        message = (
            f"the same content as clip {kept!r}: its {counts[index]} ratings count "
            f"for {kept!r}{_conflict(corpus, canonical[index], index)}"
        )
        problems.warning("duplicate_clip", f"clip {corpus.clips[index]!r}", message)
    clip = np.array(canonical, np.int32)[corpus.ratings.clip]
    moved = corpus._replace(ratings=corpus.ratings._replace(clip=clip))
    return select_clips(moved, sorted(set(canonical)))


def _conflict(corpus: Corpus, first: int, second: int) -> str:
    """Says where two clips of the same content differ in speaker or session."""
    different = [
        f"{field[:-1]} {str(names[first])!r} is kept, {str(names[second])!r} dropped"
        for field in ("speakers", "sessions")
        if (names := getattr(corpus, field))[first] != names[second]
    ]
    return "".join(f"; {text}" for text in different)


def _usable_rows(
    ratings: Ratings, problems: Problems, place: Callable[[int], str]
) -> np.ndarray:
    """Returns [ratings] bool, False for rows whose labels cannot be used."""
    bad = (~np.isfinite(ratings.targets) & ratings.mask).any(axis=1)
    empty = ~ratings.mask.any(axis=1) & ~bad
    for row in np.flatnonzero(bad).tolist():
        problems.error("nan_label", place(row), "a label is NaN or infinite")
    for row in np.flatnonzero(empty).tolist():
        problems.error("no_label", place(row), "no class is answered")
    return np.logical_not(bad | empty)


def _first_of_pair(
    corpus: Corpus,
    usable: np.ndarray,
    problems: Problems,
    place: Callable[[int], str],
) -> np.ndarray:
    """Returns [ratings] bool, False for later ratings of a clip by one listener."""
    ratings, keep, first = corpus.ratings, usable.copy(), {}
    pairs = zip(ratings.clip.tolist(), ratings.annotator.tolist(), strict=True)
    for row, pair in enumerate(pairs):
        if not usable[row] or first.setdefault(pair, row) == row:
            continue
        keep[row] = False
        same = np.array_equal(ratings.targets[row], ratings.targets[first[pair]])
        message = (
            f"{_listener(corpus, row)} rated clip {corpus.clips[pair[0]]!r} before "
            f"({place(first[pair])}) with {'the same' if same else 'another'} answer; "
            "the first is kept"
        )
        problems.error("duplicate_rating", place(row), message)
    return keep
