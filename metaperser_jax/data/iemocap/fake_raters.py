"""Invented raters of an invented IEMOCAP: who answers what, by simple habits.

Each rater has its own taste for each label, its own ear for valence, activation and
dominance, its own number of labels and its own use of the scale, so that there is
something to personalise. The form of the model is that of the synthetic corpus
(`data/synthetic/listeners.py`); nothing in it was fitted to IEMOCAP.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from metaperser_jax.data.iemocap.grammar import LABELS, SCALE_MAX, SCALE_MIN

OBSERVERS = ("E1", "E2", "E3", "E4", "E5", "E6")
SELF_RATERS = ("F1", "M1", "F2", "F3", "M3", "M5")
ENACTED = LABELS[:-1]  # nobody enacts 'Other'
SHARES = np.array([0.2, 0.1, 0.13, 0.14, 0.06, 0.05, 0.04, 0.17, 0.11])  # of ENACTED

# Valence, activation, dominance of each label (LABELS order), each about -1 to 1.
PROTOTYPES = np.array(
    [
        (0.0, -0.1, 0.0),
        (0.8, 0.4, 0.4),
        (-0.6, -0.5, -0.5),
        (-0.6, 0.7, 0.6),
        (0.3, 0.8, -0.1),
        (-0.6, 0.6, -0.6),
        (-0.6, 0.2, 0.3),
        (-0.5, 0.2, 0.0),
        (0.7, 0.9, 0.3),
        (0.0, 0.0, 0.0),
    ]
)
WIDTH = 0.45  # distance at which a label has lost half a nat
OTHER_TASTE = -1.5  # nats: 'Other' is a last resort
NEUTRAL_TASTES = (-2.0, -1.2, -0.4, 0.4, 1.2, 2.0)  # nats, dealt among the raters
COMMENTS = ("", "", "", "", "made-up", "unsure", "mixed, made-up", "polite (a bit)")


class Rater(NamedTuple):
    """The habits of one rater."""

    taste: np.ndarray  # [labels] nats
    sensitivity: np.ndarray  # [3] factors on the dimensions heard
    shift: np.ndarray  # [3] of the dimensions heard
    temperature: float
    persistence: float  # second thoughts, 0 = always one label
    evidence: float  # nats from knowing what was enacted
    scale: np.ndarray  # [3] scale points a unit
    offset: np.ndarray  # [3] scale points
    noise: float  # scale points


class Answer(NamedTuple):
    """What a rater answers."""

    labels: tuple[str, ...]
    values: tuple[float, float, float]  # valence, activation, dominance, 1-5
    comment: str


def sample_raters(seed: int) -> dict[str, Rater]:
    """Draws the six observers and the six self-raters; see the module."""
    tastes = np.random.default_rng([seed, 0])
    raters = {}
    for group in (OBSERVERS, SELF_RATERS):
        neutral = tastes.permutation(NEUTRAL_TASTES).tolist()
        for index, name in enumerate(group):
            rng = np.random.default_rng([seed, 1, group is SELF_RATERS, index])
            raters[name] = _sample_rater(rng, neutral[index], group is SELF_RATERS)
    return raters


def _sample_rater(rng: np.random.Generator, neutral: float, own: bool) -> Rater:
    taste = 0.6 * rng.standard_normal(len(LABELS))
    taste[0] = neutral
    taste[-1] = OTHER_TASTE + 0.5 * rng.standard_normal()
    return Rater(
        taste=taste,
        sensitivity=np.exp(0.25 * rng.standard_normal(3)),
        shift=0.15 * rng.standard_normal(3),
        temperature=float(np.exp(0.2 * rng.standard_normal())),
        persistence=float(rng.gamma(1.5, 0.4)),
        evidence=2.5 if own else 1.5,
        scale=1.4 * np.exp(0.25 * rng.standard_normal(3)),
        offset=0.4 * rng.standard_normal(3),
        noise=0.5,
    )


def answer(
    rng: np.random.Generator,
    rater: Rater,
    latent: Float[np.ndarray, "3"],
    enacted: int,
    intensity: float,
) -> Answer:
    """Draws a rater's answer to a clip.

    A label's utility is `taste - |heard - prototype|^2 / (2 width^2)`, with evidence
    for the enacted one; the first label is drawn from their softmax, each other one is
    added with probability `1 - (1 - q)^persistence`, q at twice the temperature.

    Args:
      rng: source of chance.
      rater: who answers.
      latent: [3] valence, activation, dominance of the clip.
      enacted: index into `ENACTED`.
      intensity: how fully it is enacted, 0-1.
    """
    heard = rater.sensitivity * latent + rater.shift
    utility = rater.taste - np.square(heard - PROTOTYPES).sum(axis=1) / (2 * WIDTH**2)
    utility[enacted] += rater.evidence * intensity
    first = int(rng.choice(len(LABELS), p=_softmax(utility / rater.temperature)))
    later = _softmax(utility / (2 * rater.temperature))
    added = rng.random(len(LABELS)) < 1 - (1 - later) ** rater.persistence
    added[first] = False
    labels = (LABELS[first], *(LABELS[i] for i in np.flatnonzero(added)))
    noise = rater.noise * rng.standard_normal(3)
    points = 3 + rater.scale * heard + rater.offset + noise
    valence, activation, dominance = np.clip(
        np.round(points), SCALE_MIN, SCALE_MAX
    ).tolist()
    comment = str(rng.choice(COMMENTS))
    return Answer(labels, (valence, activation, dominance), comment)


def _softmax(values: np.ndarray) -> np.ndarray:
    shares = np.exp(values - values.max())
    return shares / shares.sum()
