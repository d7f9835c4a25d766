"""What may be declared, and what is refused at once."""

import math

import pytest

from metaperser_jax.data.iemocap import EMO_SUPERB_FOLDS, IemocapSpec, check_spec
from metaperser_jax.data.iemocap.grammar import LABELS
from metaperser_jax.data.iemocap.spec import CLASS_OF_LABEL, class_names
from metaperser_jax.errors import InputError


@pytest.mark.parametrize("spec", [IemocapSpec("somewhere"), IemocapSpec(fake=True)])
def test_a_copy_or_an_invented_tree(spec):
    check_spec(spec)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"root": ""}, "root is empty: name your copy"),
        ({"fake": True}, "choose one of them"),
        ({"root": 3}, "root is 3, expected a folder"),
        ({"raters": "observer"}, "Did you mean 'observers'?"),
        ({"other_class": "yes"}, "other_class is 'yes'"),
        ({"min_ratings": 0}, "min_ratings is 0, expected a whole number, at least 1"),
        ({"min_ratings": 1.5}, "min_ratings is 1.5"),
        ({"min_ratings": True}, "min_ratings is True"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0"),
        ({"max_seconds": math.nan}, "max_seconds is nan"),
        ({"fake_dialogs": 1}, "fake_dialogs is 1, expected a whole number, 2 to 99"),
        ({"fake_utterances": 7}, "fake_utterances is 7"),
        ({"fake_seed": -1}, "fake_seed is -1"),
    ],
)
def test_faults_are_named(changes, said):
    with pytest.raises(InputError) as caught:
        check_spec(IemocapSpec("somewhere")._replace(**changes))
    assert said in str(caught.value)


def test_all_faults_are_named_at_once():
    with pytest.raises(InputError) as caught:
        check_spec(IemocapSpec(raters="x", min_ratings=0))  # pyright: ignore
    assert str(caught.value).count(";") == 2


def test_the_classes_are_those_of_emo_superb_in_its_order():
    nine = "frustrated angry sad disgust excited fear neutral surprise happy"
    assert " ".join(class_names(IemocapSpec())) == nine
    assert " ".join(class_names(IemocapSpec(other_class=True))) == f"{nine} other"
    assert {*CLASS_OF_LABEL, "Other"} == set(LABELS)


def test_the_folds_are_those_of_emo_superb():
    digits = [
        "/".join("".join(name[-1] for name in part) for part in fold)
        for fold in EMO_SUPERB_FOLDS
    ]
    assert digits == ["123/5/4", "125/4/3", "145/3/2", "345/2/1", "234/1/5"]
    for fold in EMO_SUPERB_FOLDS:
        assert len({name for part in fold for name in part}) == 5
    assert {fold[2] for fold in EMO_SUPERB_FOLDS} == {
        (f"Ses0{number}",) for number in range(1, 6)
    }
