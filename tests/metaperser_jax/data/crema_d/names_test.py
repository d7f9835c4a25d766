"""The names of the corpus' clips."""

import collections

from metaperser_jax.data.crema_d import names
from metaperser_jax.data.crema_d.answers import CLIP_NAME
from metaperser_jax.data.crema_d.folds import group_of

CLIPS = names.clip_names()


def test_there_are_as_many_as_published():
    assert len(set(CLIPS)) == 7442
    assert len({clip[:4] for clip in CLIPS}) == 91
    assert all(CLIP_NAME.fullmatch(clip) for clip in CLIPS)


def test_the_groups_hold_the_clips_that_the_partition_files_list():
    counts = collections.Counter(map(group_of, CLIPS))
    assert sorted(counts.values()) == [1463, 1470, 1476, 1476, 1557]
    assert counts["set5"] == 1557
    assert counts["set1"] == 1463


def test_what_was_never_recorded_is_well_formed():
    assert not set(names.NEVER_RECORDED) & set(CLIPS)
    assert len(set(names.NEVER_RECORDED)) == 20
    assert all(CLIP_NAME.fullmatch(clip) for clip in names.NEVER_RECORDED)
