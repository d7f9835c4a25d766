"""Simulated listeners: exact probabilities, and a population like the real one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metaperser_jax.data.synthetic import listeners

NUM_CLASSES = len(listeners.CLASSES)


@pytest.fixture(scope="module")
def people():
    return listeners.sample_listeners(seed=7, num_listeners=40)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(1)
    emotion = rng.integers(0, NUM_CLASSES, 60)
    intensity = rng.uniform(0.3, 1.0, 60)
    latent = intensity[:, None] * listeners.PROTOTYPES[emotion]
    return listeners.Perception(
        latent=latent + 0.15 * rng.standard_normal((60, 3)),
        cues=rng.standard_normal((60, len(listeners.CUES))),
        emotion=emotion,
        intensity=intensity,
    )


@pytest.fixture(scope="module")
def answers(people, clips):
    utility = listeners.utilities(people, clips)
    habits = listeners.calibrate(people, utility)
    return listeners.first_and_extra(people, habits, utility)


def brute_force_sets(first, extra):
    """P(set) from its definition, one set at a time."""
    num_classes = len(first)
    result = np.zeros(2**num_classes)
    for bits in itertools.product([0, 1], repeat=num_classes):
        index = sum(bit << c for c, bit in enumerate(bits))
        for p in np.flatnonzero(bits):
            rest = [
                extra[c] if bits[c] else 1 - extra[c]
                for c in range(num_classes)
                if c != p
            ]
            result[index] += first[p] * np.prod(rest)
    return result


unit = st.floats(0.0, 1.0)


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(float, 5, elements=st.floats(0.01, 1.0)),
    hnp.arrays(float, 5, elements=unit),
)
def test_set_probabilities_equal_the_definition(weights, extra):
    first = weights / weights.sum()
    sets = listeners.set_probabilities(first, extra)
    np.testing.assert_allclose(sets, brute_force_sets(first, extra), atol=1e-12)
    assert sets.sum() == pytest.approx(1.0, abs=1e-12)
    assert sets[0] == 0.0


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(float, 5, elements=st.floats(0.01, 1.0)),
    hnp.arrays(float, 5, elements=unit),
)
def test_label_probabilities_are_the_marginals_of_the_sets(weights, extra):
    first = weights / weights.sum()
    sets = listeners.set_probabilities(first, extra)
    member = np.arange(32)[:, None] >> np.arange(5) & 1  # [sets, classes]
    np.testing.assert_allclose(
        listeners.label_probabilities(first, extra), sets @ member, atol=1e-12
    )


def test_sampled_sets_follow_the_probabilities(answers):
    first, extra = (part[3, :2] for part in answers)
    draws = 100_000
    rng = np.random.default_rng(0)
    for row in range(2):
        tiled = [np.tile(part[row], (draws, 1)) for part in (first, extra)]
        sets = listeners.sample_sets(rng, *tiled)
        assert sets.sum(1).min() >= 1
        index = (sets.astype(int) << np.arange(NUM_CLASSES)).sum(1)
        seen = np.bincount(index, minlength=2**NUM_CLASSES) / draws
        p = listeners.set_probabilities(first[row], extra[row])
        assert np.all(np.abs(seen - p) < 6 * np.sqrt(p * (1 - p) / draws) + 1e-4)


def test_utilities_and_choices_equal_the_equations(people, clips, answers):
    who, n = 5, 11
    heard = (
        people.sensitivity[who] * clips.latent[n]
        + people.bias[who]
        + people.cue_weights[who] @ clips.cues[n]
    )
    utility = np.empty(NUM_CLASSES)
    for c in range(NUM_CLASSES):
        squared = np.sum((heard - people.prototypes[who, c]) ** 2)
        utility[c] = people.preferences[who, c]
        utility[c] -= squared / (2 * listeners.PROTOTYPE_WIDTH**2)
        utility[c] += (
            people.evidence[who] * clips.intensity[n] * (clips.emotion[n] == c)
        )
    actual = listeners.utilities(people, clips)
    np.testing.assert_allclose(actual[who, n], utility, rtol=1e-12)
    habits = listeners.calibrate(people, actual)
    utility[0] += habits.neutral_bias[who]

    def choice(heat):
        powers = np.exp(utility / (heat * people.temperature[who]))
        return powers / powers.sum() @ people.confusion[who]

    later = choice(listeners.SECOND_THOUGHT)
    np.testing.assert_allclose(answers[0][who, n], choice(1.0), rtol=1e-9)
    np.testing.assert_allclose(
        answers[1][who, n], 1 - (1 - later) ** habits.persistence[who], rtol=1e-9
    )


def test_calibration_gives_each_listener_its_habits(people, answers):
    first, extra = answers
    labels = listeners.label_probabilities(first, extra).sum(-1).mean(1)
    np.testing.assert_allclose(first[:, :, 0].mean(1), people.neutral_rate, atol=1e-6)
    np.testing.assert_allclose(labels, people.mean_labels, atol=1e-4)


def test_population_spreads_like_real_listeners():
    people = listeners.sample_listeners(seed=0, num_listeners=400)
    rates, labels = people.neutral_rate, people.mean_labels
    assert listeners.NEUTRAL_RANGE[0] <= rates.min() < 0.06
    assert 0.90 < rates.max() <= listeners.NEUTRAL_RANGE[1]
    # WHiSER: quartiles .22 .50 .75
    np.testing.assert_allclose(
        np.quantile(rates, [0.25, 0.5, 0.75]), [0.22, 0.5, 0.75], atol=0.12
    )
    assert listeners.LABELS_RANGE[0] <= labels.min() < 1.05
    assert 2.3 < labels.max() <= listeners.LABELS_RANGE[1]
    assert set(people.style) == set(range(len(listeners.STYLES)))


def test_listeners_of_a_style_resemble_each_other_but_differ():
    people = listeners.sample_listeners(seed=0, num_listeners=400)
    names = list(listeners.STYLES)

    def mean_bias(name):
        return people.bias[people.style == names.index(name), 0].mean()

    assert mean_bias("bright") > 0.1 > -0.1 > mean_bias("dark")
    assert len(np.unique(people.neutral_rate)) > 380
    assert len(np.unique(people.bias, axis=0)) == 400


def test_a_listener_is_the_same_in_a_larger_population(people):
    more = listeners.sample_listeners(seed=7, num_listeners=45)
    for few, many in zip(people, more, strict=True):
        np.testing.assert_array_equal(few, many[:40])
    other = listeners.sample_listeners(seed=8, num_listeners=40)
    assert not np.array_equal(people.bias, other.bias)


def test_confusions_are_distributions_and_leave_neutral_alone(people):
    np.testing.assert_allclose(people.confusion.sum(-1), 1.0, atol=1e-12)
    assert people.confusion.min() >= 0.0
    np.testing.assert_array_equal(
        people.confusion[:, 0], np.tile(np.eye(NUM_CLASSES)[0], (40, 1))
    )
    assert np.all(people.confusion[:, 1:, 0] == 0.0)


def test_style_shares_sum_to_one():
    assert sum(style.share for style in listeners.STYLES.values()) == pytest.approx(1)


def test_dimensions_are_scale_points_that_follow_what_is_heard(people):
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(40), 500)
    heard = rng.uniform(-1, 1, (len(who), 3))
    rated = listeners.sample_dimensions(rng, people, who, heard)
    assert set(np.unique(rated)) == {1, 2, 3, 4, 5, 6, 7}
    for d in range(3):
        assert np.corrcoef(heard[:, d], rated[:, d])[0, 1] > 0.5
        mean = np.bincount(who, rated[:, d]) / 500
        assert np.corrcoef(mean, people.rating_shift[:, d])[0, 1] > 0.9


def mutual_information(p):
    """From the joint table of (row, outcome), rows equally likely, in bits."""
    joint = p / len(p)
    independent = joint.sum(0, keepdims=True) * joint.sum(1, keepdims=True)
    keep = joint > 0
    return (joint[keep] * np.log2(joint[keep] / independent[keep])).sum()


def test_information_equals_the_joint_table(rng):
    group = np.array([4, 1, 4, 1, 4, 9])
    sets = rng.dirichlet(np.ones(6), size=6)
    actual = listeners.group_information(sets, group, listeners.set_entropy)
    expected = [mutual_information(sets[group == g]) for g in (1, 4, 9)]
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    yes = rng.random((6, 2))
    actual = listeners.group_information(yes, group, listeners.binary_entropy)
    for c in range(2):
        table = np.stack([yes[:, c], 1 - yes[:, c]], axis=1)
        expected = [mutual_information(table[group == g]) for g in (1, 4, 9)]
        np.testing.assert_allclose(actual[:, c], expected, atol=1e-12)


def test_information_of_certain_answers():
    group = np.zeros(4, int)
    apart = np.array([[0.0], [1.0], [0.0], [1.0]])
    same = np.ones((4, 1))
    information = listeners.group_information(apart, group, listeners.binary_entropy)
    assert information.item() == pytest.approx(1.0)
    information = listeners.group_information(same, group, listeners.binary_entropy)
    assert information.item() == 0.0
