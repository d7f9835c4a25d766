"""The five groups of actors, and the folds that EMO-SUPERB makes of them.

Source: the public partition files of EMO-SUPERB (Wu, Chou, Chang, Goncalves, Du, Jang,
Lee and Lee, 2024, arXiv:2402.13018; repository EMOsuperb/EMO-SUPERB-submission,
data/CREMA-D/Primary/labels_consensus_1.csv to _5.csv). Verified there: all five
development sets; the training set of fold 1; the test sets of folds 2 and 4; and for
each fold that the length of its file, to the byte, is what these sets and the 1463,
1470, 1476, 1476 and 1557 clips of the groups give. The test sets of folds 1, 3 and 5
follow: fold k tests on group k and is developed on the next one.
"""


def _actors(first: int, last: int) -> tuple[str, ...]:
    return tuple(str(actor) for actor in range(first, last + 1))


SPEAKER_GROUPS: dict[str, tuple[str, ...]] = {
    "set1": _actors(1001, 1018),
    "set2": _actors(1019, 1036),
    "set3": _actors(1037, 1054),
    "set4": _actors(1055, 1072),
    "set5": _actors(1073, 1091),
}

# Groups for training, development and test; fold 1 comes first.
EMO_SUPERB_FOLDS = (
    (("set3", "set4", "set5"), ("set2",), ("set1",)),
    (("set1", "set4", "set5"), ("set3",), ("set2",)),
    (("set1", "set2", "set5"), ("set4",), ("set3",)),
    (("set1", "set2", "set3"), ("set5",), ("set4",)),
    (("set2", "set3", "set4"), ("set1",), ("set5",)),
)

_GROUP_OF_ACTOR = {
    actor: group for group, actors in SPEAKER_GROUPS.items() for actor in actors
}


def speaker_of(clip: str) -> str:
    """Returns the actor of a clip: the digits before the first underscore."""
    return clip.partition("_")[0]


def group_of(clip: str) -> str:
    """Returns the speaker group of a clip, '' for an actor of none."""
    return _GROUP_OF_ACTOR.get(speaker_of(clip), "")
