"""The speaker groups and folds of EMO-SUPERB."""

import itertools

import pytest

from metaperser_jax.data.crema_d import EMO_SUPERB_FOLDS, SPEAKER_GROUPS
from metaperser_jax.data.crema_d.folds import group_of, speaker_of

ACTORS = [str(number) for number in range(1001, 1092)]


def test_the_groups_divide_the_91_actors():
    assert list(itertools.chain(*SPEAKER_GROUPS.values())) == ACTORS
    assert [len(actors) for actors in SPEAKER_GROUPS.values()] == [18, 18, 18, 18, 19]


@pytest.mark.parametrize("fold", EMO_SUPERB_FOLDS)
def test_a_fold_divides_the_groups(fold):
    assert sorted(itertools.chain(*fold)) == sorted(SPEAKER_GROUPS)
    assert [len(part) for part in fold] == [3, 1, 1]


@pytest.mark.parametrize("part", [1, 2])
def test_each_group_is_developed_on_once_and_tested_on_once(part):
    assert sorted(fold[part][0] for fold in EMO_SUPERB_FOLDS) == sorted(SPEAKER_GROUPS)


# Rows of the published partition files: fold, actor, part
PUBLISHED = [
    *((1, actor, 0) for actor in ("1037", "1054", "1055", "1072", "1073", "1091")),
    *((1, actor, 1) for actor in ("1019", "1036")),
    *((2, actor, 1) for actor in ("1037", "1054")),
    *((2, actor, 2) for actor in ("1019", "1036")),
    *((3, actor, 1) for actor in ("1055", "1072")),
    *((4, actor, 1) for actor in ("1073", "1091")),
    *((4, actor, 2) for actor in ("1055", "1072")),
    *((5, actor, 1) for actor in ("1001", "1018")),
]


@pytest.mark.parametrize(("fold", "actor", "part"), PUBLISHED)
def test_published_rows_are_where_the_table_says(fold, actor, part):
    assert group_of(f"{actor}_IEO_SAD_LO") in EMO_SUPERB_FOLDS[fold - 1][part]


def test_a_clip_names_its_actor():
    assert speaker_of("1001_DFA_ANG_XX") == "1001"
    assert group_of("1099_DFA_ANG_XX") == ""
