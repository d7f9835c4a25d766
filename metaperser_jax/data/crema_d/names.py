"""The names of the 7,442 clips: actor, sentence, emotion, level.

Each actor speaks the first sentence with five emotions at three levels and neutrally,
the eleven others with six emotions at an unspecified level: 91 x 82 = 7,462 names, of
which twenty were never recorded. Checked against `summaryTable.csv` of the corpus.
"""

from metaperser_jax.data.crema_d.folds import SPEAKER_GROUPS

SENTENCES = (
    *("IEO", "TIE", "IOM", "IWW", "TAI", "MTI"),
    *("IWL", "ITH", "DFA", "ITS", "TSI", "WSI"),
)
EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")  # in the order of the classes
LEVELS = ("LO", "MD", "HI")
NO_LEVEL = "XX"
NEVER_RECORDED = (
    *("1002_TIE_NEU_XX", "1076_ITS_NEU_XX"),
    *(f"1008_WSI_{emotion}_XX" for emotion in EMOTIONS),
    *(f"1009_MTI_{emotion}_XX" for emotion in EMOTIONS),
    *(f"1019_ITH_{emotion}_XX" for emotion in EMOTIONS),
)


def clip_names() -> tuple[str, ...]:
    """Returns the names of all clips, sorted."""
    actors = (actor for group in SPEAKER_GROUPS.values() for actor in group)
    names = {
        f"{actor}_{sentence}_{emotion}_{level}"
        for actor in actors
        for sentence in SENTENCES
        for emotion in EMOTIONS
        for level in _levels(sentence, emotion)
    }
    return tuple(sorted(names - set(NEVER_RECORDED)))


def _levels(sentence: str, emotion: str) -> tuple[str, ...]:
    graded = sentence == SENTENCES[0] and emotion != "NEU"
    return LEVELS if graded else (NO_LEVEL,)
