"""From a specification to clips, listeners, ratings and their ground truth."""

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int16, Int32

from metaperser_jax.data.synthetic import listeners as listeners_lib
from metaperser_jax.data.synthetic import synthesizer
from metaperser_jax.errors import InputError

GENERATOR_VERSION = "1.0.0"  # raise when the same spec gives another corpus
SPEAKERS_PER_SESSION = 4
# Share of the clips that enact each class (CLASSES order): uneven, as in the wild.
EMOTION_SHARES = np.array([0.24, 0.14, 0.13, 0.14, 0.08, 0.09, 0.07, 0.11])

# Streams of randomness: what one of them draws leaves the others as they are.
# (Stream 2 belongs to the listeners' traits.)
_SPEAKERS, _PLAN, _AUDIO, _DESIGN, _ANSWERS, _SHUFFLE = 0, 1, 3, 4, 5, 6


class SyntheticSpec(NamedTuple):
    """What fixes a synthetic corpus, byte for byte."""

    seed: int = 0
    num_clips: int = 480
    num_speakers: int = 12  # every four make a session
    num_listeners: int = 72
    clips_per_listener: int = 160
    shuffle_listeners: bool = False  # the negative control, see `simulate_ratings`


class ClipPlan(NamedTuple):
    """Who says what and how, before any sound."""

    speakers: tuple[synthesizer.Speaker, ...]
    speaker: np.ndarray  # [clips] int32
    session: np.ndarray  # [clips] int32
    sentence: np.ndarray  # [clips] int32
    controls: tuple[synthesizer.Controls, ...]  # [clips]
    perception: listeners_lib.Perception


class SimulatedRatings(NamedTuple):
    """Who answered what, and the probabilities the answers were drawn from."""

    clip: np.ndarray  # [ratings] int32
    annotator: np.ndarray  # [ratings] int32, ascending
    targets: np.ndarray  # [ratings, classes] float32 multi-hot
    dimensions: np.ndarray  # [ratings, 3] float32, 1-7
    ground_truth: np.ndarray  # [ratings, classes] P(class in the set | clip, listener)
    information: dict[str, float]  # mutual information, bits


def check_spec(spec: SyntheticSpec) -> None:
    """Refuses a specification that cannot be met.

    Args:
      spec: the specification.

    Raises:
      InputError: naming the field, its value and the limit.
    """
    sizes = np.bincount(_session_of_clips(spec)) if spec.num_speakers > 0 else [0]
    limits = {
        "seed": (spec.seed, 0, 2**32 - 1),
        "num_speakers": (spec.num_speakers, 1, 10_000),
        "num_clips": (spec.num_clips, max(1, spec.num_speakers), 1_000_000),
        "num_listeners": (spec.num_listeners, 1, 1_000_000),
        "clips_per_listener": (
            spec.clips_per_listener,
            int(np.ceil(spec.num_clips / max(1, min(sizes)))),
            spec.num_clips,
        ),
    }
    for field, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise InputError(
                f"synthetic corpus, {field} = {value}: expected {low} to {high} "
                "(each speaker needs a clip, each listener hears every session); "
                "change it in the data section of the config."
            )


def spec_hash(spec: SyntheticSpec) -> str:
    """Eight hexadecimal digits of the specification and the generator's version."""
    text = json.dumps([GENERATOR_VERSION, spec._asdict()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _session_of_clips(spec: SyntheticSpec) -> np.ndarray:
    return np.arange(spec.num_clips) % spec.num_speakers // SPEAKERS_PER_SESSION


def plan_clips(spec: SyntheticSpec) -> ClipPlan:
    """Draws speakers, emotions, sentences and deliveries.

    Args:
      spec: the specification.

    Returns:
      The plan; clip i depends on the seed, i and `num_speakers` only.
    """
    speakers = tuple(
        synthesizer.sample_speaker(
            np.random.default_rng([spec.seed, _SPEAKERS, index]), bool(index % 2)
        )
        for index in range(spec.num_speakers)
    )
    speaker = (np.arange(spec.num_clips) % spec.num_speakers).astype(np.int32)
    rows = [_plan_clip(spec.seed, i, speakers[s]) for i, s in enumerate(speaker)]
    emotion, intensity, latent, sentence, controls, cues = zip(*rows, strict=True)
    return ClipPlan(
        speakers=speakers,
        speaker=speaker,
        session=_session_of_clips(spec).astype(np.int32),
        sentence=np.array(sentence, np.int32),
        controls=controls,
        perception=listeners_lib.Perception(
            latent=np.array(latent),
            cues=np.array(cues),
            emotion=np.array(emotion, np.int32),
            intensity=np.array(intensity),
        ),
    )


def _plan_clip(seed: int, index: int, speaker: synthesizer.Speaker):
    rng = np.random.default_rng([seed, _PLAN, index])
    emotion = int(rng.choice(len(EMOTION_SHARES), p=EMOTION_SHARES))
    intensity = rng.beta(4.0, 1.5)
    latent = intensity * listeners_lib.PROTOTYPES[emotion]
    latent = latent + 0.15 * rng.standard_normal(3)
    sentence = int(rng.integers(len(synthesizer.SENTENCES)))
    controls = synthesizer.plan_controls(rng, speaker, latent, emotion, intensity)
    return emotion, intensity, latent, sentence, controls, _cues(speaker, controls)


def _cues(speaker: synthesizer.Speaker, controls: synthesizer.Controls) -> np.ndarray:
    """Pitch, loudness, rate and breathiness, each about standard normal."""
    semitones = 12 * np.log2(speaker.f0_hz / 150.0) + controls.f0_shift
    return np.array(
        [
            semitones / 6.0,
            (speaker.gain_db + controls.level_db) / 5.0,
            np.log(controls.rate / 5.2) / 0.23,
            (controls.breathiness - 0.10) / 0.10,
        ]
    )


def render_clip(
    spec: SyntheticSpec, plan: ClipPlan, index: int
) -> Int16[np.ndarray, " samples"]:
    """Renders clip `index` of the plan, 16 kHz."""
    return synthesizer.synthesize(
        np.random.default_rng([spec.seed, _AUDIO, index]),
        plan.speakers[plan.speaker[index]],
        plan.controls[index],
        synthesizer.SENTENCES[plan.sentence[index]],
    )


def assign_clips(
    rng: np.random.Generator, session: Int32[np.ndarray, " clips"], spec: SyntheticSpec
) -> Bool[np.ndarray, "listeners clips"]:
    """Decides who hears what.

    Every listener hears every session, in proportion to its size, and every clip of a
    session is heard by the same number of listeners, give or take one.

    Args:
      rng: source of randomness.
      session: [clips] the session of each clip.
      spec: the specification.

    Returns:
      [listeners, clips] True = this listener rates this clip.
    """
    sizes = np.bincount(session)
    exact = spec.clips_per_listener * sizes / spec.num_clips
    quota = np.floor(exact).astype(int)
    by_remainder = np.argsort(quota - exact, kind="stable")
    heard = np.zeros((spec.num_listeners, spec.num_clips), bool)
    for listener in range(spec.num_listeners):
        # equal remainders: take turns, so that no session is favoured
        rest = spec.clips_per_listener - quota.sum()
        turn = (
            np.roll(by_remainder, -listener) if _equal(exact - quota) else by_remainder
        )
        for s in range(len(sizes)):
            members = np.flatnonzero(session == s)
            counts = heard[:, members].sum(0) + rng.random(len(members))
            take = quota[s] + (s in turn[:rest])
            heard[listener, members[np.argsort(counts)[:take]]] = True
    return heard


def _equal(values: np.ndarray) -> bool:
    return bool(np.ptp(values) < 1e-9)


def simulate_ratings(spec: SyntheticSpec, plan: ClipPlan) -> SimulatedRatings:
    """Draws all answers.

    With `shuffle_listeners` each clip's answers are dealt out anew among the listeners
    who rated it: the labels of a clip stay what they were, but who gave them says
    nothing any more. The ground truth is then the mean over the clip's listeners.

    Args:
      spec: the specification.
      plan: the clips.

    Returns:
      The ratings, sorted by listener, then clip.
    """
    people = listeners_lib.sample_listeners(spec.seed, spec.num_listeners)
    utility = listeners_lib.utilities(people, plan.perception)
    habits = listeners_lib.calibrate(people, utility)
    first, extra = listeners_lib.first_and_extra(people, habits, utility)
    design = np.random.default_rng([spec.seed, _DESIGN])
    who, what = np.nonzero(assign_clips(design, plan.session, spec))
    first, extra = first[who, what], extra[who, what]  # [ratings, classes]
    heard = listeners_lib.perceive(people, plan.perception)[who, what]
    rng = np.random.default_rng([spec.seed, _ANSWERS])
    targets = listeners_lib.sample_sets(rng, first, extra)
    dimensions = listeners_lib.sample_dimensions(rng, people, who, heard)
    truth = listeners_lib.label_probabilities(first, extra)
    sets = listeners_lib.set_probabilities(first, extra)
    if spec.shuffle_listeners:
        dealt = _shuffle_within(np.random.default_rng([spec.seed, _SHUFFLE]), what)
        targets, dimensions = targets[dealt], dimensions[dealt]
        truth, sets = _mean_within(truth, what), _mean_within(sets, what)
    return SimulatedRatings(
        clip=what.astype(np.int32),
        annotator=who.astype(np.int32),
        targets=targets,
        dimensions=dimensions,
        ground_truth=truth,
        information=_information(truth, sets, who, what),
    )


def _shuffle_within(rng: np.random.Generator, group: np.ndarray) -> np.ndarray:
    """Returns [rows] a permutation that keeps every row in its group."""
    dealt = np.empty(len(group), int)
    dealt[np.argsort(group, kind="stable")] = np.lexsort(
        (rng.random(len(group)), group)
    )
    return dealt


def _mean_within(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Replaces each row by the mean of its group, the same to the last bit."""
    sums = np.zeros((group.max() + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return (sums / np.bincount(group)[:, None])[group]


def _information(
    truth: Float[np.ndarray, "ratings classes"],
    sets: Float[np.ndarray, "ratings sets"],
    who: np.ndarray,
    what: np.ndarray,
) -> dict[str, float]:
    """Mutual information with the listener, exact, in bits; see docs/synthetic.md."""
    binary, whole = listeners_lib.binary_entropy, listeners_lib.set_entropy
    given_clip = listeners_lib.group_information
    order = np.argsort(who, kind="stable")
    starts = np.flatnonzero(np.diff(who[order], prepend=-1))
    counts = np.diff(starts, append=len(who))[:, None]
    habit = np.add.reduceat(truth[order], starts) / counts  # [listeners, classes]
    everyone = np.zeros(len(habit), int)
    return {
        "label_listener_given_clip": float(given_clip(truth, what, binary).mean()),
        "set_listener_given_clip": float(given_clip(sets, what, whole).mean()),
        "label_listener": float(given_clip(habit, everyone, binary).mean()),
    }


def summarize(
    spec: SyntheticSpec, plan: ClipPlan, ratings: SimulatedRatings
) -> dict[str, Any]:
    """Counts and spreads for the console and the report.

    Args:
      spec: the specification.
      plan: the clips.
      ratings: the answers.

    Returns:
      A dict that JSON can hold. Neutral rates and labels a clip are means over a
      listener's ratings; the mutual information is in bits.
    """
    count = np.bincount(ratings.annotator)
    neutral = np.bincount(ratings.annotator, ratings.targets[:, 0]) / count
    labels = np.bincount(ratings.annotator, ratings.targets.sum(1)) / count
    emotions = np.bincount(plan.perception.emotion, minlength=len(EMOTION_SHARES))
    return {
        "spec": spec._asdict(),
        "clips": spec.num_clips,
        "speakers": spec.num_speakers,
        "sessions": int(plan.session.max()) + 1,
        "listeners": spec.num_listeners,
        "ratings": len(ratings.clip),
        "ratings_per_clip": _spread(
            np.bincount(ratings.clip, minlength=spec.num_clips)
        ),
        "neutral_rate": _spread(neutral),
        "labels_per_clip": _spread(labels),
        "label_rates": dict(
            zip(listeners_lib.CLASSES, ratings.targets.mean(0).tolist(), strict=True)
        ),
        "enacted": dict(zip(listeners_lib.CLASSES, emotions.tolist(), strict=True)),
        "information_bits": ratings.information,
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }
