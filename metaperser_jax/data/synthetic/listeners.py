"""Simulated listeners who differ as real ones do, with their exact probabilities.

A listener perceives a clip's valence, arousal and dominance through its own
sensitivities, biases and acoustic cues, compares what it perceives with its own idea
of each emotion, and answers with one label and, by habit, some more. Every
probability is known in closed form (`label_probabilities`), so that the best
attainable score can be computed.

The population copies what real listeners look like, not what a method needs. In the
WHiSER listening test (Naini et al., Interspeech 2024; the 24 listeners with 30 votes
or more) the share of 'neutral' as the primary label runs from 5 % to 95 % with
quartiles near 22, 51 and 75 %; a listener gives 1.1 to 3.5 labels a clip (one: 5.1),
by habit; two listeners give a clip the same primary label in 38 % of pairs; the
listener explains 9-16 % of the variance of the dimensional ratings, the clip 40-45 %
(of which much is chance, with 3.5 listeners a clip).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metaperser_jax.data.synthetic import synthesizer

CLASSES = synthesizer.EMOTIONS
DIMENSIONS = ("valence", "arousal", "dominance")
CUES = ("pitch", "loudness", "rate", "breathiness")
SCALE_MIN, SCALE_MAX = 1, 7  # of the dimensional ratings

# Valence, arousal, dominance of each class (CLASSES order), after the norms of
# Mehrabian (1996, Current Psychology 14(4)), rounded.
PROTOTYPES = np.array(
    [
        (0.0, -0.1, 0.0),
        (0.8, 0.5, 0.4),
        (-0.6, -0.5, -0.5),
        (-0.6, 0.7, 0.6),
        (-0.6, 0.6, -0.6),
        (0.3, 0.8, -0.1),
        (-0.6, 0.2, 0.3),
        (0.5, -0.6, 0.1),
    ]
)
PROTOTYPE_WIDTH = 0.45  # distance at which an emotion has lost half a nat
SECOND_THOUGHT = 2.0  # extra labels are drawn at this multiple of the temperature
NEUTRAL_RANGE = (0.03, 0.94)  # primary label
LABELS_RANGE = (1.0, 2.5)  # mean number of labels a clip

# Which emotion tends to be taken for which (row: meant, column: heard), non-neutral.
_CONFUSION_PAIRS = {
    "happy": ("surprise", "calm"),
    "sad": ("calm", "fear"),
    "angry": ("disgust", "surprise"),
    "fear": ("sad", "surprise"),
    "surprise": ("happy", "fear"),
    "disgust": ("angry", "sad"),
    "calm": ("sad", "happy"),
}


class Style(NamedTuple):
    """The mean of one kind of listener; individuals scatter around it."""

    share: float  # of the population
    neutral_logit: float  # of the share of 'neutral' as the primary label
    extra_labels: float  # mean number of labels beyond the first
    sensitivity: tuple[
        float, float, float
    ]  # log factors on valence, arousal, dominance
    bias: tuple[float, float, float]  # shift of the perceived dimensions
    preferences: tuple[float, ...]  # nats per class, CLASSES order


STYLES = {
    "reserved": Style(
        0.34, 1.2, 0.25, (-0.1, -0.2, 0.0), (0, -0.1, 0), (0, 0, 0, 0, 0, 0, 0, 0)
    ),
    "balanced": Style(0.26, 0.0, 0.55, (0, 0, 0), (0, 0, 0), (0, 0, 0, 0, 0, 0, 0, 0)),
    "expressive": Style(
        0.18, -1.9, 0.9, (0.1, 0.25, 0.1), (0, 0.1, 0), (0, 0, 0, 0, 0, 0.2, 0, -0.2)
    ),
    "bright": Style(
        0.11,
        -0.4,
        0.6,
        (0, 0, 0),
        (0.2, 0, 0.05),
        (0, 0.5, -0.3, -0.4, -0.3, 0.3, -0.3, 0.5),
    ),
    "dark": Style(
        0.11,
        -0.6,
        0.6,
        (0, 0, 0),
        (-0.2, 0.05, 0),
        (0, -0.4, 0.4, 0.5, 0.2, -0.2, 0.5, -0.3),
    ),
}


class Listeners(NamedTuple):
    """Traits of a population of listeners."""

    style: np.ndarray  # [listeners] int, index into STYLES
    neutral_rate: np.ndarray  # [listeners] share of 'neutral' as the primary label
    mean_labels: np.ndarray  # [listeners] labels a clip
    sensitivity: np.ndarray  # [listeners, 3] factors on the latent dimensions
    bias: np.ndarray  # [listeners, 3] shift of the perceived dimensions
    cue_weights: np.ndarray  # [listeners, 3, cues] how voice colours perception
    prototypes: np.ndarray  # [listeners, classes, 3] own idea of each emotion
    preferences: np.ndarray  # [listeners, classes] nats, 0 for neutral
    evidence: np.ndarray  # [listeners] nats from the category's own cues
    confusion: np.ndarray  # [listeners, classes, classes] row: meant, column: heard
    temperature: np.ndarray  # [listeners]
    rating_scale: np.ndarray  # [listeners, 3] scale points a unit of the dimension
    rating_shift: np.ndarray  # [listeners, 3] scale points
    rating_noise: np.ndarray  # [listeners] standard deviation, scale points


class Habits(NamedTuple):
    """Traits that only a set of clips fixes; see `calibrate`."""

    neutral_bias: np.ndarray  # [listeners] nats
    persistence: np.ndarray  # [listeners] second thoughts, 0 = always one label


class Perception(NamedTuple):
    """What the listeners can perceive of each clip."""

    latent: np.ndarray  # [clips, 3] valence, arousal, dominance
    cues: np.ndarray  # [clips, cues] standardised acoustic cues
    emotion: np.ndarray  # [clips] int, index into CLASSES
    intensity: np.ndarray  # [clips] how fully the category is enacted, 0-1


def sample_listeners(seed: int, num_listeners: int) -> Listeners:
    """Draws listeners from the hierarchical population: style, then individual.

    Listener i is the same whatever `num_listeners` is.

    Args:
      seed: the corpus seed.
      num_listeners: how many.

    Returns:
      Their traits.
    """
    rows = [_sample_listener(seed, index) for index in range(num_listeners)]
    return Listeners(*(np.array(column) for column in zip(*rows, strict=True)))


def _sample_listener(seed: int, index: int) -> Listeners:
    rng = np.random.default_rng([seed, 2, index])
    names = list(STYLES)
    which = int(rng.choice(len(names), p=[STYLES[name].share for name in names]))
    style = STYLES[names[which]]
    logit = style.neutral_logit + 0.8 * rng.standard_normal()
    extra = rng.gamma(1.6, style.extra_labels / 1.6)
    own = rng.standard_normal  # individual deviations
    prototypes = PROTOTYPES + 0.12 * own(PROTOTYPES.shape)
    preferences = np.array(style.preferences) + 0.45 * own(len(CLASSES))
    preferences[0] = 0.0
    return Listeners(
        style=np.array(which, np.int32),
        neutral_rate=np.clip(1 / (1 + np.exp(-logit)), *NEUTRAL_RANGE),
        mean_labels=np.clip(1.0 + extra, *LABELS_RANGE),
        sensitivity=np.exp(np.array(style.sensitivity) + 0.20 * own(3)),
        bias=np.array(style.bias) + 0.12 * own(3),
        cue_weights=_CUE_MEANS + 0.07 * own(_CUE_MEANS.shape),
        prototypes=prototypes,
        preferences=preferences,
        evidence=1.5 * np.exp(0.30 * own()),
        confusion=_sample_confusion(rng),
        temperature=np.exp(0.25 * own()),
        rating_scale=1.6 * np.exp(0.25 * own(3)),
        rating_shift=0.45 * own(3),
        rating_noise=0.8 * np.exp(0.2 * own()),
    )


# Loud, high, fast voices sound more aroused to everyone; breathy ones less dominant.
_CUE_MEANS = np.array(
    [(0.03, 0.0, 0.02, 0.0), (0.06, 0.08, 0.05, -0.02), (-0.05, 0.05, 0.0, -0.04)]
)  # [dimensions, cues]


def _sample_confusion(rng: np.random.Generator) -> Float[np.ndarray, "classes classes"]:
    matrix = np.eye(len(CLASSES))
    for meant, heard in _CONFUSION_PAIRS.items():
        row = CLASSES.index(meant)
        amount = 0.5 * rng.beta(1.2, 5.0, size=len(heard))
        matrix[row, [CLASSES.index(name) for name in heard]] = amount
        matrix[row, row] = 1.0 - amount.sum()
    return matrix


def perceive(
    listeners: Listeners, clips: Perception
) -> Float[np.ndarray, "listeners clips 3"]:
    """Valence, arousal and dominance as each listener hears them.

    Args:
      listeners: their traits.
      clips: what there is to perceive.

    Returns:
      [listeners, clips, 3] `sensitivity * latent + bias + cue_weights . cues`.
    """
    scaled = listeners.sensitivity[:, None] * clips.latent[None]
    coloured = np.einsum("ldk,nk->lnd", listeners.cue_weights, clips.cues)
    return scaled + listeners.bias[:, None] + coloured


def utilities(
    listeners: Listeners, clips: Perception
) -> Float[np.ndarray, "listeners clips classes"]:
    """How well each class fits, without the listener's bias for neutral.

    Args:
      listeners: their traits.
      clips: what there is to perceive.

    Returns:
      [listeners, clips, classes] nats: preference - squared distance to the own
      prototype / (2 width^2) + evidence of the enacted category.
    """
    heard = perceive(listeners, clips)[:, :, None]  # [listeners, clips, 1, 3]
    squared = np.square(heard - listeners.prototypes[:, None]).sum(-1)
    enacted = clips.intensity[:, None] * np.eye(len(CLASSES))[clips.emotion]
    return (
        listeners.preferences[:, None]
        - squared / (2 * PROTOTYPE_WIDTH**2)
        + listeners.evidence[:, None, None] * enacted[None]
    )


def _choices(
    listeners: Listeners, utility: np.ndarray, neutral_bias: np.ndarray, heat: float
) -> Float[np.ndarray, "listeners clips classes"]:
    """Categorical distribution: softmax, then the listener's confusions."""
    scores = utility.copy()
    scores[:, :, 0] += neutral_bias[:, None]
    scores /= heat * listeners.temperature[:, None, None]
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    meant = scores / scores.sum(-1, keepdims=True)
    return meant @ listeners.confusion


def first_and_extra(
    listeners: Listeners, habits: Habits, utility: np.ndarray
) -> tuple[
    Float[np.ndarray, "listeners clips classes"],
    Float[np.ndarray, "listeners clips classes"],
]:
    """The two parts of the answer model.

    Args:
      listeners: their traits.
      habits: see `calibrate`.
      utility: [listeners, clips, classes] from `utilities`.

    Returns:
      [listeners, clips, classes] pi, the distribution of the first label; and, same
      shape, e: each other class is added independently with probability
      `e = 1 - (1 - q)^persistence`, q being pi at a higher temperature.
    """
    first = _choices(listeners, utility, habits.neutral_bias, 1.0)
    later = _choices(listeners, utility, habits.neutral_bias, SECOND_THOUGHT)
    return first, 1.0 - (1.0 - later) ** habits.persistence[:, None, None]


def label_probabilities(
    first: Float[np.ndarray, "*batch classes"],
    extra: Float[np.ndarray, "*batch classes"],
) -> Float[np.ndarray, "*batch classes"]:
    """P(class in the label set), exact.

    A class is in the set if it is the first label, or else if it is added:
    `P = pi + (1 - pi) e`. The set is never empty.

    Args:
      first: [..., classes] pi.
      extra: [..., classes] e.

    Returns:
      [..., classes] probabilities.
    """
    return first + (1.0 - first) * extra


def set_probabilities(
    first: Float[np.ndarray, "*batch classes"],
    extra: Float[np.ndarray, "*batch classes"],
) -> Float[np.ndarray, "*batch sets"]:
    """P(label set), exact, for all 2^classes sets.

    Args:
      first: [..., classes] pi.
      extra: [..., classes] e.

    Returns:
      [..., 2^classes]; bit c of the index says whether class c is in the set.
      `P(S) = sum_{p in S} pi_p prod_{c in S, c != p} e_c prod_{c not in S} (1 - e_c)`,
      built class by class; the empty set has probability 0.
    """
    without = np.ones((*first.shape[:-1], 1))  # [..., sets], no first label yet
    chosen = np.zeros_like(without)  # the first label is among the classes seen
    for c in range(first.shape[-1]):
        pi, e = first[..., c, None], extra[..., c, None]
        chosen = np.concatenate([chosen * (1 - e), chosen * e + without * pi], axis=-1)
        without = np.concatenate([without * (1 - e), without * e], axis=-1)
    return chosen


def calibrate(listeners: Listeners, utility: np.ndarray) -> Habits:
    """Finds the bias and persistence that give each listener its habits.

    By bisection, so that over the clips the mean probability of 'neutral' as the
    first label is `neutral_rate` and the mean number of labels is `mean_labels`.

    Args:
      listeners: their traits.
      utility: [listeners, clips, classes] from `utilities`.

    Returns:
      The habits.
    """

    def neutral_rate(bias):
        return _choices(listeners, utility, bias, 1.0)[:, :, 0].mean(1)

    bias = _bisect(neutral_rate, listeners.neutral_rate, -40.0, 40.0)
    first = _choices(listeners, utility, bias, 1.0)
    later = _choices(listeners, utility, bias, SECOND_THOUGHT)
    log_rest = np.log1p(-np.minimum(later, 1.0 - 1e-12))

    def mean_labels(log_persistence):
        power = np.exp(log_persistence)[:, None, None]
        extra = -np.expm1(power * log_rest)
        return 1.0 + ((1.0 - first) * extra).sum(-1).mean(1)

    log_persistence = _bisect(mean_labels, listeners.mean_labels, -12.0, 12.0)
    return Habits(neutral_bias=bias, persistence=np.exp(log_persistence))


def _bisect(increasing_fn, target: np.ndarray, low: float, high: float) -> np.ndarray:
    lower, upper = np.full_like(target, low), np.full_like(target, high)
    for _ in range(40):
        middle = (lower + upper) / 2
        below = increasing_fn(middle) < target
        lower, upper = np.where(below, middle, lower), np.where(below, upper, middle)
    return (lower + upper) / 2


def sample_sets(
    rng: np.random.Generator,
    first: Float[np.ndarray, "ratings classes"],
    extra: Float[np.ndarray, "ratings classes"],
) -> Float[np.ndarray, "ratings classes"]:
    """Draws one label set for each row.

    Args:
      rng: source of randomness.
      first: [ratings, classes] pi.
      extra: [ratings, classes] e.

    Returns:
      [ratings, classes] float32 multi-hot, at least one label a row.
    """
    num_ratings, num_classes = first.shape
    uniform = rng.random((num_ratings, 1)) * first.sum(1, keepdims=True)
    chosen = (uniform >= np.cumsum(first, axis=1)).sum(1)
    chosen = np.minimum(chosen, num_classes - 1)
    added = rng.random(first.shape) < extra
    added[np.arange(num_ratings), chosen] = True
    return added.astype(np.float32)


def sample_dimensions(
    rng: np.random.Generator,
    listeners: Listeners,
    who: Int[np.ndarray, " ratings"],
    heard: Float[np.ndarray, "ratings 3"],
) -> Float[np.ndarray, "ratings 3"]:
    """Draws valence, arousal and dominance ratings.

    Args:
      rng: source of randomness.
      listeners: their traits.
      who: [ratings] the listener of each row.
      heard: [ratings, 3] perceived dimensions of each row.

    Returns:
      [ratings, 3] float32, whole numbers from `SCALE_MIN` to `SCALE_MAX`.
    """
    noise = listeners.rating_noise[who, None] * rng.standard_normal(heard.shape)
    middle = (SCALE_MIN + SCALE_MAX) / 2
    points = middle + listeners.rating_scale[who] * heard + listeners.rating_shift[who]
    return np.clip(np.round(points + noise), SCALE_MIN, SCALE_MAX).astype(np.float32)


def binary_entropy(p: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Entropy of a yes-no answer, in bits."""
    q = np.clip(p, 1e-300, 1.0)
    r = np.clip(1.0 - p, 1e-300, 1.0)
    return -(p * np.log2(q) + (1.0 - p) * np.log2(r))


def set_entropy(p: Float[np.ndarray, "*batch sets"]) -> Float[np.ndarray, "*batch"]:
    """Entropy of a label set, in bits, along the last axis."""
    return -(p * np.log2(np.clip(p, 1e-300, 1.0))).sum(-1)


def group_information(
    p: Float[np.ndarray, "rows outcomes"],
    group: Int[np.ndarray, " rows"],
    entropy_fn,
) -> np.ndarray:
    """Exact mutual information between an answer and which row of a group it is.

    With the row drawn evenly within a group (a clip's listeners), the information is
    `H(mean_rows p) - mean_rows H(p)`.

    Args:
      p: [rows, outcomes] answer probabilities.
      group: [rows] the group of each row.
      entropy_fn: `binary_entropy` (each outcome is a yes-no answer of its own) or
        `set_entropy` (the outcomes exclude one another).

    Returns:
      [groups, outcomes] or [groups] bits, for groups that occur.
    """
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    counts = np.diff(starts, append=len(group))

    def mean(rows):  # [rows, ...] -> [groups, ...]
        totals = np.add.reduceat(rows[order], starts, axis=0)
        return totals / counts.reshape(-1, *[1] * (rows.ndim - 1))

    return np.maximum(entropy_fn(mean(p)) - mean(entropy_fn(p)), 0.0)
