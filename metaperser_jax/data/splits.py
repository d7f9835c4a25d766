"""Splits along two independent axes: listener in / out, clip in / out.

A fold holds listeners out (to test on, and to choose checkpoints on) and holds clips
out, whole speakers or sessions at a time. *Seen* queries of a held-out listener are
clips of the training pool, labelled there by others; *unseen* ones are held-out clips.

Which clips are held out is drawn (`SplitSpec.unseen_fraction`), or declared in
partitions, the published folds of a corpus: then each listener is tested once in each.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from metaperser_jax.errors import InputError, did_you_mean
from metaperser_jax.typing import Corpus, Pool, Ratings

GroupBy = Literal["session", "speaker", "clip"]
SCENARIOS = ("seen", "unseen")
NOBODY = -1  # annotator of a rating outside a split


Names = tuple[str, ...]


class SplitSpec(NamedTuple):
    """How a corpus is divided."""

    num_test_listeners: int = 1  # per fold
    num_dev_listeners: int = 1  # 0: training listeners on development clips
    num_folds: int = 0  # 0: as many as it takes to test each listener once
    group_by: GroupBy = "clip"  # what is held out whole
    unseen_fraction: float = 0.25  # of the groups, for the unseen scenario
    dev_fraction: float = 0.15  # of the groups, used when there is no dev listener
    seed: int = 0
    partitions: tuple[tuple[Names, Names, Names], ...] = ()  # train, dev and test
    #   sessions (or speakers) by name; with them the fractions are not used
    crossed: bool = True  # test each listener in every partition, or in one in turn
    min_test_ratings: int = 0  # listeners with fewer train, and are never tested
    test_kinds: Names = ()  # kinds of listeners that are tested, () = all


class Fold(NamedTuple):
    """Who and what is on which side."""

    index: int
    train_listeners: np.ndarray  # [train] int
    dev_listeners: np.ndarray  # [dev] int, the training listeners where none is out
    test_listeners: np.ndarray  # [test] int
    train_clips: np.ndarray  # [clips] bool
    dev_clips: np.ndarray  # [clips] bool
    unseen_clips: np.ndarray  # [clips] bool
    partition: int = 0  # index into SplitSpec.partitions


def clip_groups(corpus: Corpus, group_by: GroupBy) -> np.ndarray:
    """Returns [clips] int group ids; a clip of unknown speaker is its own group.

    Raises:
      InputError: the corpus names no speaker (or session) at all.
    """
    if group_by == "clip":
        return np.arange(len(corpus.clips))
    names = corpus.sessions if group_by == "session" else corpus.speakers
    if not any(names):
        raise InputError(
            f"{corpus.name}: split.group_by={group_by!r} but the corpus names no "
            f"{group_by}: give the {group_by} column, or group_by='clip'."
        )
    keys = [name or f"\0{clip}" for name, clip in zip(names, corpus.clips, strict=True)]
    return np.unique(keys, return_inverse=True)[1]


def make_folds(corpus: Corpus, spec: SplitSpec) -> list[Fold]:
    """Returns the folds, each checked for leakage.

    Each fold tests listeners of one kind, and takes its development listeners from
    that kind as far as it has any.

    Raises:
      InputError: the listeners do not suffice, or a partition cannot be had.
    """
    rng = np.random.default_rng(spec.seed)
    listeners = rng.permutation(len(corpus.annotators))
    _check_sizes(len(listeners), spec)
    if spec.partitions:
        folds = list(_partition_folds(corpus, listeners, spec))
    else:
        folds = _drawn_folds(corpus, listeners, rng, spec)
    for fold in folds:
        check_leakage(fold, corpus, spec.group_by)
    return folds


def held_out_sets(
    corpus: Corpus, listeners: np.ndarray, spec: SplitSpec
) -> list[np.ndarray]:
    """Returns the listeners held out together, in the order given, kind by kind.

    Raises:
      InputError: no listener may be tested.
    """
    count = np.bincount(corpus.ratings.annotator, minlength=len(corpus.annotators))
    kinds = np.array(corpus.groups or [""] * len(corpus.annotators))
    unknown = sorted(set(spec.test_kinds) - set(kinds.tolist()))
    if unknown:
        raise InputError(
            f"{corpus.name}: split.test_kinds names {unknown[0]!r}, its listeners are "
            f"{', '.join(sorted(set(kinds.tolist()))) or 'of one kind'}."
        )
    sets = []
    for kind in sorted(set(kinds.tolist())):
        if spec.test_kinds and kind not in spec.test_kinds:
            continue
        kept = (kinds[listeners] == kind) & (count[listeners] >= spec.min_test_ratings)
        chosen = listeners[kept]
        size = spec.num_test_listeners
        found = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        sets += found[: spec.num_folds or None]
    if not sets:
        raise InputError(
            f"{corpus.name}: no listener has {spec.min_test_ratings} ratings "
            "(split.min_test_ratings): lower it."
        )
    return sets


def untested(corpus: Corpus, spec: SplitSpec) -> int:
    """Returns how many listeners have too few ratings to be tested."""
    count = np.bincount(corpus.ratings.annotator, minlength=len(corpus.annotators))
    return int((count < spec.min_test_ratings).sum())


def _check_sizes(num_listeners: int, spec: SplitSpec) -> None:
    held_out = spec.num_test_listeners + spec.num_dev_listeners
    if spec.num_test_listeners < 1 or num_listeners - held_out < 1:
        raise InputError(
            f"{num_listeners} listeners cannot give {spec.num_test_listeners} test and "
            f"{spec.num_dev_listeners} development listeners and still train on one: "
            "lower split.num_test_listeners or split.num_dev_listeners (0 chooses on "
            "development clips of the training listeners)."
        )


def _check_groups(count: int, spec: SplitSpec) -> None:
    num_dev = 0 if spec.num_dev_listeners else _share(spec.dev_fraction, count)
    if not spec.num_dev_listeners and not num_dev:
        raise InputError(
            "there is neither a development listener nor a development clip to choose "
            "checkpoints on: raise split.num_dev_listeners or split.dev_fraction."
        )
    held_out = _share(spec.unseen_fraction, count) + num_dev
    if held_out >= count:
        raise InputError(
            f"{count} {spec.group_by}(s) cannot give {held_out} to the unseen and the "
            "development clips and still train on one: lower split.unseen_fraction or "
            "split.dev_fraction, or hold out smaller groups (split.group_by)."
        )


def _drawn_folds(
    corpus: Corpus, listeners: np.ndarray, rng: np.random.Generator, spec: SplitSpec
) -> list[Fold]:
    """Rotates the listeners and the clip groups, so that folds differ in both."""
    groups = clip_groups(corpus, spec.group_by)
    _check_groups(len(np.unique(groups)), spec)
    order = rng.permutation(groups.max() + 1)
    everything = np.ones(len(groups), bool)
    folds = []
    for index, test in enumerate(held_out_sets(corpus, listeners, spec)):
        num_unseen = _share(spec.unseen_fraction, len(order))
        num_dev = 0 if spec.num_dev_listeners else _share(spec.dev_fraction, len(order))
        turned = np.roll(order, -index * max(num_unseen, 1))
        unseen = np.isin(groups, turned[:num_unseen])
        held = np.isin(groups, turned[num_unseen : num_unseen + num_dev])
        clips = (~unseen & ~held, held, unseen)
        folds.append(_fold(index, corpus, listeners, test, clips, everything, spec))
    return folds


def _partition_folds(
    corpus: Corpus, listeners: np.ndarray, spec: SplitSpec
) -> Iterator[Fold]:
    """Yields a fold for each partition and each set of listeners to test."""
    sets, index = held_out_sets(corpus, listeners, spec), 0
    for number, partition in enumerate(spec.partitions):
        train, dev, test = partition_clips(corpus, partition, spec.group_by)
        turn = (
            slice(None) if spec.crossed else slice(number, None, len(spec.partitions))
        )
        for held_out in sets[turn]:
            clips = (train, dev, test)
            fold = _fold(
                index, corpus, listeners, held_out, clips, train | dev, spec, number
            )
            yield fold
            index += 1


def partition_clips(
    corpus: Corpus, partition: tuple[Names, Names, Names], group_by: GroupBy
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the clips of the train, dev and test groups, each [clips] bool.

    Raises:
      InputError: a group stands on two sides, or a side has no clip.
    """
    if group_by == "clip":
        raise InputError("split.partitions name sessions or speakers: set group_by.")
    values = corpus.sessions if group_by == "session" else corpus.speakers
    known = sorted(set(values.tolist()) - {""})
    names = [name for side in partition for name in side]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"leakage: split.partitions: {group_by} {', '.join(twice)} stands on two "
            "sides of one partition: training and test must not share it."
        )
    sides = [np.isin(values, list(side)) for side in partition]
    for title, side, clips in zip(
        ("train", "dev", "test"), partition, sides, strict=True
    ):
        if side and not clips.any():
            near = did_you_mean(side[0], known)
            raise InputError(
                f"{corpus.name}: split.partitions: no clip of {group_by} "
                f"{', '.join(side)} ({title}); there are {', '.join(known) or 'none'}."
                f"{near} Leave out the partition, or bring the clips."
            )
    return sides[0], sides[1], sides[2]


def _fold(
    index: int,
    corpus: Corpus,
    listeners: np.ndarray,
    test: np.ndarray,
    clips: tuple[np.ndarray, np.ndarray, np.ndarray],
    asked: np.ndarray,
    spec: SplitSpec,
    partition: int = 0,
) -> Fold:
    """Returns the fold that tests `test`.

    Args:
      index: its number.
      corpus: the corpus.
      listeners: all of them, in the order of their turn.
      test: those held out.
      clips: of training, development and the unseen scenario.
      asked: [clips] bool, those on which development listeners must have ratings.
      spec: how many development listeners.
      partition: its number.
    """
    train_clips, dev_clips, unseen = clips
    dev = _dev_listeners(corpus, listeners, test, asked & ~unseen, spec)
    held_out = np.concatenate([test, dev])
    train = listeners[~np.isin(listeners, held_out)]
    if len(dev):
        dev_clips = train_clips | dev_clips
    return Fold(
        index, np.sort(train), np.sort(dev) if len(dev) else np.sort(train),
        np.sort(test), train_clips, dev_clips, unseen, partition,
    )  # fmt: skip


def _dev_listeners(
    corpus: Corpus,
    listeners: np.ndarray,
    test: np.ndarray,
    asked: np.ndarray,
    spec: SplitSpec,
) -> np.ndarray:
    """Returns those who come after the tested ones; own kind and enough clips first."""
    if not spec.num_dev_listeners:
        return np.zeros(0, listeners.dtype)
    turn = np.roll(listeners, -int(np.flatnonzero(listeners == test[-1])[0]) - 1)
    turn = turn[~np.isin(turn, test)]
    rated = corpus.ratings.annotator[asked[corpus.ratings.clip]]
    count = np.bincount(rated, minlength=len(corpus.annotators))
    kinds = np.array(corpus.groups or [""] * len(corpus.annotators))
    other_kind = kinds[turn] != kinds[test[0]]
    too_few = count[turn] < max(spec.min_test_ratings, 1)
    order = np.lexsort((np.arange(len(turn)), other_kind, too_few))
    return turn[order[: spec.num_dev_listeners]]


def _share(fraction: float, count: int) -> int:
    """At least one group unless the fraction is 0; never all of them."""
    if not 0 <= fraction < 1:
        raise InputError(f"a split fraction of {fraction}: expected 0 <= fraction < 1.")
    return min(max(round(fraction * count), 1), count - 1) if fraction else 0


def check_leakage(fold: Fold, corpus: Corpus, group_by: GroupBy) -> None:
    """Refuses a fold in which a listener, clip, group or content is on both sides.

    Where whole sessions are held out, their speakers must be as well.

    Raises:
      InputError: with up to three examples.
    """
    _refuse(
        "listener",
        set(fold.test_listeners)
        & (set(fold.train_listeners) | set(fold.dev_listeners)),
        corpus.annotators,
    )
    inside = fold.train_clips | fold.dev_clips
    _refuse("clip", np.flatnonzero(fold.unseen_clips & inside), corpus.clips)
    names = {"content": np.asarray(corpus.content_hashes)}
    if group_by == "session":
        names["session"] = corpus.sessions
    if group_by != "clip":
        names["speaker"] = corpus.speakers
    for kind, values in names.items():
        shared = np.intersect1d(values[inside], values[fold.unseen_clips])
        _refuse(kind, shared[shared != ""])


def _refuse(kind: str, shared, names=None) -> None:
    if len(shared):
        examples = [str(names[i] if names else i) for i in list(shared)[:3]]
        raise InputError(
            f"leakage: {len(shared)} {kind}(s) on both sides of a split, for example "
            f"{', '.join(examples)}: training and test must not share them."
        )


def make_pool(
    ratings: Ratings,
    inputs: np.ndarray,
    row: np.ndarray,
    keep: np.ndarray,
    class_weights: np.ndarray | None = None,
) -> Pool:
    """Returns the ratings with their inputs; those not kept lose their annotator.

    Args:
      ratings: of the corpus.
      inputs: [rows, layers, width] hidden states.
      row: [ratings] index of each rating's input.
      keep: [ratings] bool.
      class_weights: [classes] of class-balanced losses, None for others.
    """
    return Pool(
        inputs,
        row.astype(np.int32),
        ratings.clip,
        np.where(keep, ratings.annotator, NOBODY).astype(np.int32),
        ratings.targets,
        ratings.mask,
        class_weights,
    )


def rated_by(corpus: Corpus, listeners: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Returns [ratings] bool: by one of `listeners`, on one of `clips` [clips] bool."""
    ratings = corpus.ratings
    return np.isin(ratings.annotator, listeners) & clips[ratings.clip]


def seen_clips(fold: Fold, corpus: Corpus) -> np.ndarray:
    """Returns [clips] bool: in training, and labelled there by a training listener."""
    in_training = rated_by(corpus, fold.train_listeners, fold.train_clips)
    seen = np.zeros(len(corpus.clips), bool)
    seen[corpus.ratings.clip[in_training]] = True
    return seen
