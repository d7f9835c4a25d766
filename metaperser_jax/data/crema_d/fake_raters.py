"""Generated raters with habits of their own, and what they answer.

A rater has a prior over the labels, a sensitivity to what there is to hear, labels
that it confuses and its own use of the scale. What there is to perceive in a clip is
the enacted emotion, the more the stronger it is enacted, and a deviation of the clip;
voices alone tell the least. The strengths were set by trial so that the answers agree
with the enacted emotion about as often as the real ones (39, 57 and 63 % for voice,
face and both), with 'neutral' as the most frequent answer to voices.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metaperser_jax.data.crema_d.spec import CLASSES, MODALITIES

QUESTIONS = 30  # of each modality, for each rater
PARTIAL_SHARE = 0.02  # of the raters stop early, as in the corpus
FEWEST_ANSWERS = 37
NEUTRAL = CLASSES.index("neutral")
SESSION_BASE = 1000
_GAIN = np.array([1.2, 2.9, 3.8])  # how well each of MODALITIES tells
_LATE_SHARE = np.array([0.064, 0.021, 0.020])  # first click after ten seconds
_PRIOR = np.array([-0.1, -0.1, -0.25, -0.5, 1.4, -0.15])  # nats, CLASSES order
_TEMPTING = np.array([[1, 4], [0, 4], [5, 4], [4, 2], [5, 1], [4, 2]])  # heard for it


class Raters(NamedTuple):
    """Habits of a population."""

    prior: np.ndarray  # [raters, classes] nats
    sensitivity: np.ndarray  # [raters] factor on what there is to perceive
    confusion: np.ndarray  # [raters, classes, classes] row: meant, column: answered
    scale: np.ndarray  # [raters] points of the level for full intensity
    shift: np.ndarray  # [raters] points of the level at no intensity


class FakeAnswers(NamedTuple):
    """Answers before any quirk, rater by rater."""

    rater: np.ndarray  # [answers] int
    clip: np.ndarray  # [answers] int
    modality: np.ndarray  # [answers] int, index into MODALITIES
    question: np.ndarray  # [answers] int, from 1 in each modality
    label: np.ndarray  # [answers] int, index into CLASSES
    level: np.ndarray  # [answers] int, 1-100
    response_ms: np.ndarray  # [answers] int
    first_click_ms: np.ndarray  # [answers] int


def sample_raters(rng: np.random.Generator, num_raters: int) -> Raters:
    """Draws raters with habits that differ.

    Args:
      rng: source of randomness.
      num_raters: how many.
    """
    size = (num_raters, len(CLASSES))
    prior = _PRIOR + 0.5 * rng.standard_normal(size)
    prior[:, NEUTRAL] += 0.9 * rng.standard_normal(num_raters)
    confusion = np.tile(np.eye(len(CLASSES)), (num_raters, 1, 1))
    amount = 0.5 * rng.beta(1.0, 4.0, (*size, 2))  # [raters, classes, 2]
    for meant, others in enumerate(_TEMPTING):
        confusion[:, meant, others] = amount[:, meant]
        confusion[:, meant, meant] = 1.0 - amount[:, meant].sum(1)
    return Raters(
        prior=prior,
        sensitivity=np.exp(0.3 * rng.standard_normal(num_raters)),
        confusion=confusion,
        scale=45.0 * np.exp(0.3 * rng.standard_normal(num_raters)),
        shift=35.0 + 12.0 * rng.standard_normal(num_raters),
    )


def perceivable(
    rng: np.random.Generator,
    emotion: Int[np.ndarray, " clips"],
    intensity: Float[np.ndarray, " clips"],
) -> Float[np.ndarray, "clips modalities classes"]:
    """Returns what there is to perceive in each clip, in nats before any gain.

    Args:
      rng: source of the deviations of the clips.
      emotion: [clips] the enacted class.
      intensity: [clips] how strongly, 0-1.
    """
    strength = np.where(emotion == NEUTRAL, 1.0, 2.6 * intensity)
    base = strength[:, None] * np.eye(len(CLASSES))[emotion]  # [clips, classes]
    base[:, NEUTRAL] += 1.0 - intensity
    size = (len(emotion), len(MODALITIES), len(CLASSES))
    return base[:, None] + 0.45 * rng.standard_normal(size)


def deal_clips(
    rng: np.random.Generator, num_clips: int, num_raters: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decides who answers what.

    A rater meets no clip twice, and each clip is answered in each modality by equally
    many raters, give or take a few; a few raters stop early.

    Args:
      rng: source of randomness.
      num_clips: how many clips there are.
      num_raters: how many raters.

    Returns:
      rater, clip and modality [answers], in the order of the questions.
    """
    questions = min(QUESTIONS, num_clips // len(MODALITIES))
    counts = np.zeros((len(MODALITIES), num_clips))
    dealt = np.zeros((num_raters, len(MODALITIES), questions), int)
    for rater in range(num_raters):
        order = counts + 0.9 * rng.random(counts.shape)
        for modality in range(len(MODALITIES)):
            chosen = np.argpartition(order[modality], questions - 1)[:questions]
            dealt[rater, modality] = chosen = rng.permutation(chosen)
            order[:, chosen] = np.inf
            counts[modality, chosen] += 1
    asked = np.ones(dealt.shape, bool).reshape(num_raters, -1)
    fewest = min(FEWEST_ANSWERS, asked.shape[1])
    for rater in np.flatnonzero(rng.random(num_raters) < PARTIAL_SHARE):
        asked[rater, rng.integers(fewest, asked.shape[1] + 1) :] = False
    rater, modality, question = np.nonzero(asked.reshape(dealt.shape))
    return rater, dealt[rater, modality, question], modality


def answer_probabilities(
    raters: Raters,
    evidence: Float[np.ndarray, "clips modalities classes"],
    rater: Int[np.ndarray, " answers"],
    clip: Int[np.ndarray, " answers"],
    modality: Int[np.ndarray, " answers"],
) -> Float[np.ndarray, "answers classes"]:
    """P(label | rater, clip, modality): softmax of the utilities, then confusions."""
    gain = _GAIN[modality] * raters.sensitivity[rater]
    utility = gain[:, None] * evidence[clip, modality] + raters.prior[rater]
    meant = np.exp(utility - utility.max(1, keepdims=True))
    meant /= meant.sum(1, keepdims=True)
    return np.einsum("ac,acd->ad", meant, raters.confusion[rater])


def simulate_answers(
    rng: np.random.Generator,
    raters: Raters,
    emotion: Int[np.ndarray, " clips"],
    intensity: Float[np.ndarray, " clips"],
) -> FakeAnswers:
    """Draws all answers.

    Args:
      rng: source of randomness.
      raters: their habits.
      emotion: [clips] the enacted class.
      intensity: [clips] how strongly, 0-1.
    """
    evidence = perceivable(rng, emotion, intensity)
    rater, clip, modality = deal_clips(rng, len(emotion), len(raters.scale))
    shares = answer_probabilities(raters, evidence, rater, clip, modality)
    drawn = rng.random((len(rater), 1))
    label = np.minimum((shares.cumsum(1) < drawn).sum(1), len(CLASSES) - 1)
    level = raters.shift[rater] + raters.scale[rater] * intensity[clip]
    level = level + 12.0 * rng.standard_normal(len(rater))
    late = rng.random(len(rater)) < _LATE_SHARE[modality]
    click = np.exp(np.log(2500) + 0.35 * rng.standard_normal(len(rater)))
    click = np.where(late, 10_001 + 4 * click, np.minimum(click, 10_000))
    return FakeAnswers(
        rater=rater,
        clip=clip,
        modality=modality,
        question=_question_numbers(rater, modality),
        label=label,
        level=np.clip(np.round(level), 1, 100).astype(int),
        response_ms=(click + rng.uniform(800, 6000, len(rater))).astype(int),
        first_click_ms=click.astype(int),
    )


def _question_numbers(rater: np.ndarray, modality: np.ndarray) -> np.ndarray:
    """Counts the questions of each rater in each modality from 1."""
    key = rater * len(MODALITIES) + modality  # ascending
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    lengths = np.diff(starts, append=len(key))
    return np.arange(len(key)) - np.repeat(starts, lengths) + 1
