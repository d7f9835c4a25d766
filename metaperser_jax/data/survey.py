"""A corpus before any training: its listeners, what is odd in it, and a verdict.

The verdict says whether listeners differ in how they label the same clips, which is
what personalisation can learn. Its thresholds are below, its numbers are given.
"""

import collections
import math
from typing import Any, Literal, NamedTuple

import numpy as np

from metaperser_jax.data import agreement
from metaperser_jax.data.agreement import Differences, Kappas, Null
from metaperser_jax.data.ratings import NEUTRAL, annotator_summary
from metaperser_jax.errors import Problems
from metaperser_jax.typing import Corpus

Grade = Literal["unknown", "barely", "somewhat", "a lot"]

SIGNIFICANCE = 0.01  # a larger p value, in both tests: listeners barely differ
BARELY = 0.01  # a smaller strength as well
A_LOT = 0.10  # strength from here on
MIN_SHARED = 10  # ratings of clips that others rated as well; fewer tell nothing
RARE = 10  # a class given in fewer clips is rare
SHORT, LONG = 0.5, 30.0  # seconds; clips beyond are counted
MAX_NAMES = 3  # examples within a line


class Finding(NamedTuple):
    """One thing that was looked at."""

    doubtful: bool
    text: str
    fix: str = ""  # what to do about it


class Habits(NamedTuple):
    """What each listener does; the index is that of `Corpus.annotators`."""

    ratings: np.ndarray  # [listeners] int
    rates: np.ndarray  # [listeners, classes] share of the answers, NaN = never asked
    labels_per_clip: np.ndarray  # [listeners]
    label_counts: np.ndarray  # [listeners, most + 1] share of clips with so many labels
    kappa: np.ndarray  # [listeners] mean over the others shown, NaN = unknown
    classes_used: np.ndarray  # [listeners] int


class Spread(NamedTuple):
    """How the rate of one class varies over listeners with enough ratings."""

    name: str  # the neutral class, or the most common one
    low: float
    median: float
    high: float
    deviation: float  # of the rates, sampling taken off; NaN = too few ratings


class Verdict(NamedTuple):
    """Whether there is something to personalise to."""

    grade: Grade
    title: str
    text: str
    strength: float  # share of the label's uncertainty that is the listener's own


class Survey(NamedTuple):
    """All that was found."""

    corpus: Corpus
    differences: Differences
    kappas: Kappas
    habits: Habits
    spread: Spread
    classes: list[dict[str, Any]]  # name, ratings, share, clips, alpha, unused_by
    findings: list[Finding]
    verdict: Verdict


def survey_corpus(
    corpus: Corpus,
    problems: Problems,
    min_clips: int = 0,
    group_by: str = "clip",
    num_permutations: int = 199,
) -> Survey:
    """Looks at a corpus that was validated.

    Args:
      corpus: with one rating for a clip and listener.
      problems: what was found when it was read.
      min_clips: that a listener needs: the smallest support set and a query set.
      group_by: what is held out whole, see `splits.SplitSpec`.
      num_permutations: of each null.
    """
    size = len(corpus.annotators)
    differences = agreement.measure_differences(corpus.ratings, size, num_permutations)
    kappas = agreement.pairwise_kappa(corpus.ratings, size)
    habits = _habits(corpus, kappas)
    classes = _class_rows(corpus, habits, differences)
    return Survey(
        corpus,
        differences,
        kappas,
        habits,
        _spread(corpus, habits),
        classes,
        [
            *_clip_findings(corpus, problems),
            *_group_findings(corpus, group_by),
            *_listener_findings(corpus, habits, min_clips),
            *_class_findings(classes),
        ],
        judge(differences, shared_ratings(corpus)),
    )


def shared_ratings(corpus: Corpus) -> np.ndarray:
    """Returns [listeners] how many of their ratings are of clips with other raters."""
    ratings = corpus.ratings
    shared = np.bincount(ratings.clip, minlength=len(corpus.clips))[ratings.clip] > 1
    return np.bincount(ratings.annotator[shared], minlength=len(corpus.annotators))


def judge(differences: Differences, shared: np.ndarray) -> Verdict:
    """Grades how much listeners differ on the same clips.

    The strength is the larger of two shares, both above their null of labels permuted
    within clips: of the cost of a label, what the listener's own rates save; and of
    the entropy of a label, what the listener tells once it is known what most others
    said. Listeners differ a lot from `A_LOT` on. They barely differ below `BARELY`, or
    where neither mutual information has p <= `SIGNIFICANCE`. With fewer than two
    listeners of `MIN_SHARED` shared ratings it cannot be told.

    Args:
      differences: what was measured.
      shared: [listeners] from `shared_ratings`.
    """
    d = differences
    strength = max(
        d.gain_null.excess / max(d.gain.pooled, 1e-9),
        d.given_others.excess / max(d.entropy, 1e-9),
    )
    p_value = min(d.same_clips.p_value, d.given_others.p_value)
    able = int((shared >= MIN_SHARED).sum())
    if able < 2:
        grade: Grade = "unknown"
    elif p_value > SIGNIFICANCE or strength < BARELY:
        grade = "barely"
    else:
        grade = "a lot" if strength >= A_LOT else "somewhat"
    title, advice = _WORDS[grade]
    if grade == "unknown":
        numbers = (
            f"{able} listener(s) have {MIN_SHARED} ratings of clips that others rated "
            "as well; at least two are needed."
        )
    else:
        numbers = _numbers(d, strength)
    return Verdict(grade, title, f"{numbers} {advice}", strength)


_WORDS: dict[Grade, tuple[str, str]] = {
    "unknown": (
        "it cannot be told whether listeners differ",
        "Several listeners have to rate more of the same clips.",
    ),
    "barely": (
        "listeners barely differ",
        "Personalisation has next to nothing to learn here: expect no gain over one "
        "model for all, and see that it does no harm.",
    ),
    "somewhat": (
        "listeners differ somewhat",
        "Personalisation can help a little: judge it by its gain over no adaptation "
        "and over the base rate, with intervals.",
    ),
    "a lot": (
        "listeners differ a lot",
        "Personalisation has much to learn. Part of it is how often a listener gives "
        "each label: compare with the base rate and with label-prior calibration.",
    ),
}


def _numbers(d: Differences, strength: float) -> str:
    of = "label" if d.single else "class, mean"
    return (
        f"On the same clips I({of}; listener) is {d.same_clips.observed:.3f} bits, "
        f"{d.same_clips.mean:.3f} with labels permuted within clips (p = "
        f"{d.same_clips.p_value:.3f}); once it is known what most others said it is "
        f"{d.given_others.observed:.3f}, permuted {d.given_others.mean:.3f} (p = "
        f"{d.given_others.p_value:.3f}). A listener's own label rates save "
        f"{d.gain.mean:.2f} of {d.gain.pooled:.2f} bits a rating, permuted "
        f"{max(d.gain_null.mean, 0):.2f}. Share of the uncertainty that is the "
        f"listener's own: {max(strength, 0):.1%} (barely: below {BARELY:.0%}, a lot: "
        f"from {A_LOT:.0%})."
    )


def nulls(differences: Differences) -> list[tuple[str, Null]]:
    """Returns the title and the null of each measure, the headline first."""
    label = "label" if differences.single else "class"
    return [
        (f"I({label}; listener), same clips", differences.same_clips),
        (f"I({label}; listener | others), same clips", differences.given_others),
        (f"I({label}; listener), any clip", differences.anywhere),
        ("saved by own label rates, same clips", differences.gain_null),
    ]


def _habits(corpus: Corpus, kappas: Kappas) -> Habits:
    ratings, size = corpus.ratings, len(corpus.annotators)
    summary = list(annotator_summary(corpus).values())
    rates = [
        [math.nan if rate is None else rate for rate in row["label_rates"].values()]
        for row in summary
    ]
    given = (ratings.targets > 0) & ratings.mask
    number = given.sum(axis=1)  # [ratings] labels
    most = int(number.max(initial=0))
    cells = ratings.annotator * (most + 1) + number
    counts = np.bincount(cells, minlength=size * (most + 1)).reshape(size, -1)
    used = np.zeros((size, len(corpus.classes)))
    np.add.at(used, ratings.annotator, given)
    known = ~np.isnan(kappas.kappa)
    mean = np.full(size, np.nan)
    sums = np.where(known, kappas.kappa, 0).sum(axis=1)
    mean[kappas.listeners] = np.where(
        known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), np.nan
    )
    return Habits(
        ratings=np.array([row["clips"] for row in summary]),
        rates=np.array(rates, float).reshape(size, -1),
        labels_per_clip=np.array([row["labels_per_clip"] for row in summary]),
        label_counts=counts / np.maximum(counts.sum(axis=1, keepdims=True), 1),
        kappa=mean,
        classes_used=(used > 0).sum(axis=1),
    )


def headline_class(corpus: Corpus) -> int:
    """Returns the index of the neutral class, or of the one most often given."""
    for index, name in enumerate(corpus.classes):
        if name.lower() in NEUTRAL:
            return index
    ratings = corpus.ratings
    return int(np.where(ratings.mask, ratings.targets, 0).sum(axis=0).argmax())


def _spread(corpus: Corpus, habits: Habits) -> Spread:
    index = headline_class(corpus)
    rates, count = habits.rates[:, index], habits.ratings
    known = ~np.isnan(rates) & (count >= MIN_SHARED)
    sure = int(known.sum()) > 1
    if not sure:
        known = ~np.isnan(rates)
    rates, count = rates[known], count[known]
    variance = math.nan
    if sure:
        sampling = (rates * (1 - rates) / (count - 1)).mean()
        variance = max(float(rates.var(ddof=1) - sampling), 0.0)
    low, median, high = map(float, np.quantile(rates, [0, 0.5, 1]))
    return Spread(corpus.classes[index], low, median, high, math.sqrt(variance))


def _class_rows(
    corpus: Corpus, habits: Habits, differences: Differences
) -> list[dict[str, Any]]:
    ratings = corpus.ratings
    given = (ratings.targets > 0) & ratings.mask
    enough = habits.ratings >= MIN_SHARED
    rows = []
    for index, name in enumerate(corpus.classes):
        asked = int(ratings.mask[:, index].sum())
        rows.append(
            {
                "name": name,
                "ratings": int(given[:, index].sum()),
                "share": float(given[:, index].sum() / max(asked, 1)),
                "clips": int(np.unique(ratings.clip[given[:, index]]).size),
                "alpha": float(differences.class_alphas[index]),
                "unused_by": int((habits.rates[enough, index] == 0).sum()),
                "listeners": int(enough.sum()),
            }
        )
    return rows


# What is odd


def _named(names: Any) -> str:
    """Joins up to `MAX_NAMES` names."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(str, names[:MAX_NAMES])) + more


def _clip_findings(corpus: Corpus, problems: Problems) -> list[Finding]:
    raters = np.bincount(corpus.ratings.clip, minlength=len(corpus.clips))
    alone = int((raters == 1).sum())
    text = (
        f"raters of a clip: {raters.min()} to {raters.max()}, mean "
        f"{raters.mean():.1f}; {alone} of {len(raters)} clips have one"
    )
    fix = "clips with one rater do not tell whether listeners differ: add raters"
    found = [Finding(alone > len(raters) / 2, text, fix * (alone > len(raters) / 2))]
    copies = sum(row.kind == "duplicate_clip" for row in problems.rows)
    found.append(
        Finding(
            copies > 0,
            f"{copies} clip(s) had the content of another; they count as one"
            if copies
            else _unlike(corpus),
            "look for wrong copies among the recordings" * (copies > 0),
        )
    )
    return [*found, _lengths(corpus)]


def _unlike(corpus: Corpus) -> str:
    known = sum(map(bool, corpus.content_hashes))
    if known < len(corpus.content_hashes):
        return f"equal clips: looked for among the {known} clips of known content"
    return "no two clips have the same content"


def _lengths(corpus: Corpus) -> Finding:
    seconds = corpus.seconds
    if seconds is None or not np.isfinite(seconds).any():
        hours = corpus.summary.get("hours")
        if hours is None:
            return Finding(False, "lengths of the clips: unknown")
        mean = 3600 * float(hours) / len(corpus.clips)
        return Finding(
            False,
            f"clips last {float(hours):.2f} hours in all, {mean:.1f} s on average",
        )
    known = seconds[np.isfinite(seconds)]
    low, middle, high = np.quantile(known, [0, 0.5, 1])
    short, long = int((known < SHORT).sum()), int((known > LONG).sum())
    text = (
        f"clips last {low:.2f} to {high:.2f} s, median {middle:.2f} s, "
        f"{known.sum() / 3600:.2f} hours in all; {short} below {SHORT} s, "
        f"{long} above {LONG:.0f} s"
    )
    fix = "listen to the shortest and longest: cut wrongly, or without speech?"
    return Finding(short + long > 0, text, fix * (short + long > 0))


def _group_findings(corpus: Corpus, group_by: str) -> list[Finding]:
    speakers = set(corpus.speakers.tolist()) - {""}
    sessions = set(corpus.sessions.tolist()) - {""}
    found = []
    text = f"{len(speakers)} speakers, {len(sessions)} sessions are named"
    if not speakers:
        fix = "give a speaker column: clips of one speaker on both sides make results "
        found.append(Finding(True, text, fix + "look better than they are"))
    elif group_by == "clip" and len(speakers) < len(corpus.clips):
        text += "; split.group_by='clip' puts a speaker's clips on both sides"
        fix = "split.group_by='speaker' (or 'session') holds speakers out whole"
        found.append(Finding(True, text, fix))
    else:
        found.append(Finding(False, text))
    if len(sessions) > 1:
        found += _session_findings(corpus, group_by)
    return found


def _session_findings(corpus: Corpus, group_by: str) -> list[Finding]:
    """Speakers who return, and listeners who heard one session alone."""
    where = collections.defaultdict(set)
    for speaker, session in zip(
        corpus.speakers.tolist(), corpus.sessions.tolist(), strict=True
    ):
        where[speaker].add(session)
    several = sorted(s for s, heard in where.items() if s and len(heard - {""}) > 1)
    found = []
    if several:
        text = f"{len(several)} speaker(s) are in several sessions: {_named(several)}"
        fix = "split.group_by='speaker': sessions held out would share their speakers"
        doubtful = group_by == "session"
        found.append(Finding(doubtful, text, fix * doubtful))
    sessions = corpus.sessions[corpus.ratings.clip]
    pairs = set(zip(corpus.ratings.annotator.tolist(), sessions.tolist(), strict=True))
    heard = collections.Counter(listener for listener, session in pairs if session)
    one = sum(count == 1 for count in heard.values())
    text = f"{one} of {len(heard)} listeners rated one session only"
    doubtful = one > len(heard) / 2
    fix = (
        "listener and session are confounded: differences between listeners may be "
        "differences between clips; go by the numbers on the same clips"
    )
    return [*found, Finding(doubtful, text, fix * doubtful)]


def _listener_findings(corpus: Corpus, habits: Habits, min_clips: int) -> list[Finding]:
    names, found = np.array(corpus.annotators), []
    few = names[habits.ratings < min_clips]
    text = (
        f"{len(few)} of {len(names)} listeners have fewer than {min_clips} clips "
        "(smallest K + evaluation.min_query)"
    )
    if len(few):
        text += f": {_named(few)}"
    fix = "they cannot be tested: more ratings, a smaller K or min_query, or leave "
    fix += "them out with data.min_ratings"
    found.append(Finding(len(few) > 0, text, fix * (len(few) > 0)))
    empty = habits.label_counts[:, 0] if habits.label_counts.size else np.zeros(0)
    fixed = names[
        (habits.ratings >= MIN_SHARED) & (habits.classes_used == 1) & (empty == 0)
    ]
    if len(fixed) and len(corpus.classes) > 1:
        text = f"{len(fixed)} listener(s) always gave the same label: {_named(fixed)}"
        found.append(Finding(True, text, "did they listen? Leave them out if not"))
    return found


def _class_findings(classes: list[dict[str, Any]]) -> list[Finding]:
    rare = [row for row in classes if row["clips"] < RARE]
    found = []
    if rare:
        names = _named(f"{row['name']} ({row['clips']})" for row in rare)
        text = f"{len(rare)} class(es) were given in fewer than {RARE} clips: {names}"
        fix = "merge them or leave them out with data.classes: macro-F1 and UAR are "
        found.append(Finding(True, text, fix + "decided by them"))
    unused = [row for row in classes if row["unused_by"]]
    if unused:
        worst = sorted(unused, key=lambda row: -row["unused_by"])
        names = _named(f"{row['name']} ({row['unused_by']})" for row in worst)
        text = (
            f"{len(unused)} class(es) were never given by some of the "
            f"{unused[0]['listeners']} listeners with {MIN_SHARED} or more clips: "
            f"{names}"
        )
        found.append(Finding(False, text))
    return found
