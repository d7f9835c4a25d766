"""The invented raters differ from one another as they should."""

import numpy as np

from metaperser_jax.data.iemocap import fake_raters
from metaperser_jax.data.iemocap.grammar import LABELS


def answers(rater, count=400, enacted=0, intensity=0.7):
    rng = np.random.default_rng(1)
    latent = intensity * fake_raters.PROTOTYPES[enacted]
    return [
        fake_raters.answer(rng, rater, latent, enacted, intensity) for _ in range(count)
    ]


def test_there_are_six_observers_and_six_actors():
    raters = fake_raters.sample_raters(0)
    assert tuple(raters) == (*fake_raters.OBSERVERS, *fake_raters.SELF_RATERS)
    assert len({rater.taste.tobytes() for rater in raters.values()}) == 12
    again = fake_raters.sample_raters(0)
    assert all(
        np.array_equal(x, y)
        for name in raters
        for x, y in zip(raters[name], again[name], strict=True)
    )
    other = fake_raters.sample_raters(1)["E1"]
    assert not np.array_equal(other.taste, raters["E1"].taste)


def test_answers_are_well_formed_and_follow_the_emotion():
    rater = fake_raters.sample_raters(0)["E1"]
    for enacted, label in enumerate(fake_raters.ENACTED):
        said = answers(rater, 300, enacted, 1.0)
        assert all(0 < len(set(x.labels)) == len(x.labels) for x in said)
        assert all(set(x.labels) <= set(LABELS) for x in said)
        assert {y for x in said for y in x.values} <= {1.0, 2.0, 3.0, 4.0, 5.0}
        share = np.mean([label in x.labels for x in said])
        rest = np.mean([label in x.labels for x in answers(rater, 300, 0, 0.0)])
        assert share > rest or label == "Neutral"


def test_observers_differ_in_labels_and_in_their_number():
    raters = fake_raters.sample_raters(0)
    said = {name: answers(raters[name]) for name in fake_raters.OBSERVERS}
    neutral = [np.mean(["Neutral" in x.labels for x in rows]) for rows in said.values()]
    number = [np.mean([len(x.labels) for x in rows]) for rows in said.values()]
    assert max(neutral) - min(neutral) > 0.4
    assert max(number) - min(number) > 0.3


def test_values_use_the_scale_in_each_raters_way():
    raters = fake_raters.sample_raters(0)
    means = [
        np.mean([x.values for x in answers(raters[name])], axis=0)
        for name in fake_raters.OBSERVERS
    ]
    assert (np.ptp(means, axis=0) > 0.3).all()
