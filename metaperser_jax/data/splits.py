"""Splits along two independent axes: listener in / out, clip in / out.

A fold holds listeners out (to test on, and to choose checkpoints on) and holds clips
out, whole speakers or sessions at a time. *Seen* queries of a held-out listener are
clips of the training pool, labelled there by others; *unseen* ones are held-out clips.
"""

from typing import Literal, NamedTuple

import numpy as np

from metaperser_jax.errors import InputError
from metaperser_jax.typing import Corpus, Pool

GroupBy = Literal["session", "speaker", "clip"]
SCENARIOS = ("seen", "unseen")
NOBODY = -1  # annotator of a rating outside a split


class SplitSpec(NamedTuple):
    """How a corpus is divided."""

    num_test_listeners: int = 1  # per fold
    num_dev_listeners: int = 1  # 0: training listeners on development clips
    num_folds: int = 0  # 0: as many as it takes to test each listener once
    group_by: GroupBy = "clip"  # what is held out whole
    unseen_fraction: float = 0.25  # of the groups, for the unseen scenario
    dev_fraction: float = 0.15  # of the groups, used when there is no dev listener
    seed: int = 0


class Fold(NamedTuple):
    """Who and what is on which side."""

    index: int
    train_listeners: np.ndarray  # [train] int
    dev_listeners: np.ndarray  # [dev] int, the training listeners where none is out
    test_listeners: np.ndarray  # [test] int
    train_clips: np.ndarray  # [clips] bool
    dev_clips: np.ndarray  # [clips] bool
    unseen_clips: np.ndarray  # [clips] bool


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

    Raises:
      InputError: the listeners do not suffice.
    """
    rng = np.random.default_rng(spec.seed)
    listeners = rng.permutation(len(corpus.annotators))
    _check_sizes(len(listeners), spec)
    most = -(-len(listeners) // spec.num_test_listeners)
    count = min(spec.num_folds or most, most)
    groups = clip_groups(corpus, spec.group_by)
    _check_groups(len(np.unique(groups)), spec)
    order = rng.permutation(groups.max() + 1)
    folds = [_fold(i, listeners, groups, order, spec) for i in range(count)]
    for fold in folds:
        check_leakage(fold, corpus, spec.group_by)
    return folds


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


def _fold(
    index: int,
    listeners: np.ndarray,
    groups: np.ndarray,
    order: np.ndarray,
    spec: SplitSpec,
) -> Fold:
    """Rotates the listeners and the clip groups, so that folds differ in both."""
    first = index * spec.num_test_listeners
    test = listeners[first : first + spec.num_test_listeners]
    rest = np.concatenate([listeners[first + len(test) :], listeners[:first]])
    dev, train = np.split(rest, [spec.num_dev_listeners])
    num_unseen = _share(spec.unseen_fraction, len(order))
    num_dev = 0 if len(dev) else _share(spec.dev_fraction, len(order))
    turned = np.roll(order, -index * max(num_unseen, 1))
    unseen = np.isin(groups, turned[:num_unseen])
    dev_clips = np.isin(groups, turned[num_unseen : num_unseen + num_dev])
    train_clips = ~unseen & ~dev_clips
    if not len(dev):
        dev = train
    else:
        dev_clips = train_clips
    return Fold(
        index, np.sort(train), np.sort(dev), np.sort(test), train_clips, dev_clips,
        unseen,
    )  # fmt: skip


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
    corpus: Corpus, inputs: np.ndarray, row: np.ndarray, keep: np.ndarray
) -> Pool:
    """Returns the ratings with their inputs; those not kept lose their annotator.

    Args:
      corpus: the corpus.
      inputs: [rows, layers, width] hidden states.
      row: [ratings] index of each rating's input.
      keep: [ratings] bool.
    """
    ratings = corpus.ratings
    return Pool(
        inputs,
        row.astype(np.int32),
        ratings.clip,
        np.where(keep, ratings.annotator, NOBODY).astype(np.int32),
        ratings.targets,
        ratings.mask,
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
