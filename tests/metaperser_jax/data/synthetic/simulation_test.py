"""From a specification to ratings and their truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.data.synthetic import listeners, simulation
from metaperser_jax.errors import InputError

SMALL = simulation.SyntheticSpec(
    num_clips=60, num_speakers=6, num_listeners=20, clips_per_listener=30
)


@pytest.fixture(scope="module")
def plan():
    return simulation.plan_clips(SMALL)


@pytest.fixture(scope="module")
def ratings(plan):
    return simulation.simulate_ratings(SMALL, plan)


@pytest.fixture(scope="module")
def shuffled(plan):
    return simulation.simulate_ratings(SMALL._replace(shuffle_listeners=True), plan)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"num_speakers": 0}, "num_speakers"),
        ({"num_clips": 5}, "num_clips"),
        ({"num_listeners": 0}, "num_listeners"),
        ({"clips_per_listener": 61}, "clips_per_listener"),
        ({"clips_per_listener": 2}, "clips_per_listener"),
    ],
)
def test_impossible_specs_are_refused_by_name(changes, field):
    simulation.check_spec(SMALL)
    with pytest.raises(InputError, match=rf"{field} = -?\d+: expected"):
        simulation.check_spec(SMALL._replace(**changes))


def test_every_field_of_the_spec_changes_its_hash():
    hashes = {simulation.spec_hash(SMALL)}
    for field in SMALL._fields:
        value = getattr(SMALL, field)
        changed = not value if isinstance(value, bool) else value + 1
        hashes.add(simulation.spec_hash(SMALL._replace(**{field: changed})))
    assert len(hashes) == 1 + len(SMALL._fields)


def test_the_hash_tells_generator_versions_apart(monkeypatch):
    before = simulation.spec_hash(SMALL)
    monkeypatch.setattr(simulation, "GENERATOR_VERSION", "999.0.0")
    assert simulation.spec_hash(SMALL) != before


def test_sessions_are_groups_of_speakers(plan):
    assert set(plan.session) == {0, 1}
    assert set(plan.speaker[plan.session == 0]) == {0, 1, 2, 3}
    assert set(plan.speaker[plan.session == 1]) == {4, 5}
    np.testing.assert_array_equal(np.bincount(plan.speaker), 10)


def test_a_clip_is_the_same_in_a_larger_corpus(plan):
    larger = SMALL._replace(num_clips=72, num_listeners=50)
    more = simulation.plan_clips(larger)
    assert plan.controls == more.controls[:60]
    np.testing.assert_array_equal(plan.perception.latent, more.perception.latent[:60])
    ours = simulation.render_clip(SMALL, plan, 5)
    assert ours.tobytes() == simulation.render_clip(larger, more, 5).tobytes()


def test_cues_are_about_standard_normal():
    cues = simulation.plan_clips(simulation.SyntheticSpec()).perception.cues
    assert np.abs(cues.mean(0)).max() < 0.5
    assert np.all((cues.std(0) > 0.7) & (cues.std(0) < 1.4))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(1, 25),
    st.floats(0, 1),
    st.data(),
)
def test_every_listener_hears_every_session(speakers, per, people, share, data):
    spec = simulation.SyntheticSpec(
        num_clips=speakers * per + data.draw(st.integers(0, speakers - 1)),
        num_speakers=speakers,
        num_listeners=people,
    )
    session = (np.arange(spec.num_clips) % speakers // 4).astype(np.int32)
    sizes = np.bincount(session)
    least = int(np.ceil(spec.num_clips / sizes.min()))
    count = round(least + share * (spec.num_clips - least))
    spec = spec._replace(clips_per_listener=count)
    simulation.check_spec(spec)
    heard = simulation.assign_clips(np.random.default_rng(0), session, spec)
    np.testing.assert_array_equal(heard.sum(1), count)
    for s in range(len(sizes)):
        members = heard[:, session == s]
        assert members.sum(1).min() >= 1
        assert np.ptp(members.sum(0)) <= 1  # every clip is heard equally often
        assert np.all(np.abs(members.sum(1) - count * sizes[s] / spec.num_clips) <= 1)


def test_ratings_are_sorted_and_complete(ratings):
    assert len(ratings.clip) == 20 * 30
    pairs = ratings.annotator * 1000 + ratings.clip
    assert np.all(np.diff(pairs) > 0)
    np.testing.assert_array_equal(np.bincount(ratings.annotator), 30)
    np.testing.assert_array_equal(np.bincount(ratings.clip), 10)


def test_answers_follow_the_ground_truth(ratings):
    truth, targets = ratings.ground_truth, ratings.targets
    spread = np.sqrt((truth * (1 - truth)).sum(0))
    assert np.all(np.abs(targets.sum(0) - truth.sum(0)) < 5 * spread)
    log_score = np.log(np.where(targets > 0, truth, 1 - truth)).sum()
    entropy = np.log(2) * listeners.binary_entropy(truth).sum()
    assert -log_score == pytest.approx(entropy, rel=0.1)


def test_shuffling_deals_each_clips_answers_among_its_listeners(ratings, shuffled):
    np.testing.assert_array_equal(ratings.clip, shuffled.clip)
    np.testing.assert_array_equal(ratings.annotator, shuffled.annotator)
    assert not np.array_equal(ratings.targets, shuffled.targets)
    for clip in range(60):
        rows = ratings.clip == clip
        before, after = (
            sorted(np.hstack([r.targets[rows], r.dimensions[rows]]).tolist())
            for r in (ratings, shuffled)
        )
        assert before == after


def test_shuffled_truth_is_the_mean_over_the_clips_listeners(ratings, shuffled):
    for clip in range(60):
        rows = ratings.clip == clip
        mean = ratings.ground_truth[rows].mean(0)
        np.testing.assert_allclose(
            shuffled.ground_truth[rows], np.tile(mean, (10, 1)), rtol=1e-12
        )


def test_only_unshuffled_listeners_carry_information(ratings, shuffled):
    real, none = ratings.information, shuffled.information
    assert real["label_listener_given_clip"] > 0.05
    assert real["set_listener_given_clip"] > 0.4
    assert real["label_listener"] > 0.03
    assert none["label_listener_given_clip"] == pytest.approx(0.0, abs=1e-12)
    assert none["set_listener_given_clip"] == pytest.approx(0.0, abs=1e-12)
    assert none["label_listener"] < 0.2 * real["label_listener"]


def test_label_information_equals_a_plain_loop(ratings):
    total = 0.0
    for clip in range(60):
        for p in ratings.ground_truth[ratings.clip == clip].T:
            table = np.stack([p, 1 - p], axis=1) / len(p)
            marginal = table.sum(0) / len(p)
            total += (table * np.log2(table / marginal)).sum()
    assert ratings.information["label_listener_given_clip"] == pytest.approx(
        total / (60 * len(listeners.CLASSES)), rel=1e-9
    )


def test_summary_counts_what_is_there(plan, ratings):
    summary = simulation.summarize(SMALL, plan, ratings)
    neutral = [ratings.targets[ratings.annotator == a, 0].mean() for a in range(20)]
    labels = [ratings.targets[ratings.annotator == a].sum(1).mean() for a in range(20)]
    assert summary["ratings"] == 600
    assert summary["sessions"] == 2
    assert summary["ratings_per_clip"] == {"min": 10, "median": 10, "max": 10}
    assert summary["neutral_rate"]["max"] == pytest.approx(max(neutral))
    assert summary["labels_per_clip"]["min"] == pytest.approx(min(labels))
    assert sum(summary["enacted"].values()) == 60
