import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from benchmark import aggregate
from benchmark.typing import Score, Task


def score(task="t", value=0.5, model="m", **fields):
    known = {"num_examples": 10, "num_answered": 10, **fields}
    return Score(task, "", model, "accuracy", value, **known)


def task(name, kind="classification", domain="Speech", subdomain="A"):
    return Task(name, kind, "metric", domain, subdomain)


@pytest.mark.parametrize(
    ("value", "chance", "expected"),
    [(0.5, 0.5, 0.0), (1.0, 0.25, 1.0), (0.25, 0.5, -0.5), (0.7, 0.0, 0.7)],
)
def test_chance_is_0_and_perfection_1(value, chance, expected):
    found = aggregate.chance_corrected(score(value=value, chance=chance))
    assert found.value == pytest.approx(expected)
    assert (found.low, found.high) == (None, None)


def test_an_interval_is_corrected_like_the_value():
    found = aggregate.chance_corrected(score(value=0.75, chance=0.5, low=0.6, high=0.9))
    assert found == pytest.approx((0.5, 0.2, 0.8))


@pytest.mark.parametrize(
    "changes",
    [{"chance": None}, {"value": None}, {"direction": "lower"}, {"chance": 1.0}],
)
def test_no_chance_level_no_correction(changes):
    assert aggregate.chance_corrected(score(**{"chance": 0.5, **changes})) is None


@pytest.mark.parametrize(
    ("value", "baseline", "direction", "expected"),
    [
        (0.6, 0.4, "higher", 0.5),
        (0.2, 0.4, "higher", -0.5),
        (0.2, 0.4, "lower", 0.5),
        (0.8, 0.4, "lower", -1.0),
        (0.5, 0.0, "higher", None),
    ],
)
def test_the_relative_gain_is_as_published(value, baseline, direction, expected):
    found = aggregate.relative_gain(value, baseline, direction)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("kind", "direction", "expected"),
    [
        ("regression", "higher", 0.5 * 0.8),
        ("regression", "lower", 0.5 / 0.8),
        ("classification", "higher", 0.5),
    ],
)
def test_a_regression_pays_for_what_was_no_number(kind, direction, expected):
    one = score(direction=direction, num_answered=9, num_unreadable=1)
    assert aggregate.unreadable_rate(one) == pytest.approx(0.2)
    assert aggregate.adjusted_value(one, task("t", kind)) == pytest.approx(expected)


def test_nothing_read_is_no_value():
    assert aggregate.adjusted_value(score(num_answered=0), task("t")) is None
    assert aggregate.unreadable_rate(score(num_examples=0)) == 0


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=8))
def test_ranks_are_those_of_scipy(values):
    assert aggregate.ranks(values, "lower") == list(scipy.stats.rankdata(values))
    flipped = scipy.stats.rankdata([-value for value in values])
    assert aggregate.ranks(values, "higher") == list(flipped)


TASKS = {
    t.name: t
    for t in (
        task("a1"),
        task("a2"),
        task("b1", "regression", subdomain="B"),
        task("m1", domain="Music", subdomain="C"),
        task("never", domain="Music", subdomain="D"),
    )
}


def groups_of(scores, baseline=()):
    found = aggregate.aggregate(scores, TASKS, baseline)
    return {(g.model, g.domain, g.subdomain): g for g in found}


def test_groups_go_from_the_whole_to_the_parts_with_their_coverage():
    scores = [score("a1", chance=0.0), score("m1", 0.9, chance=0.5)]
    found = groups_of(scores)
    assert next(iter(found)) == ("m", "", "")
    whole = found["m", "", ""]
    assert (whole.num_scored, whole.num_tasks) == (2, 5)
    assert whole.corrected == pytest.approx((0.5 + 0.8) / 2)
    assert found["m", "Speech", ""].num_tasks == 3
    assert ("m", "Music", "D") not in found
    assert ("m", "Speech", "B") not in found


def test_the_mean_rank_is_over_what_all_models_were_scored_on():
    scores = [
        score("a1", 0.9, "x"), score("a1", 0.5, "y"), score("a2", 0.9, "x"),
        score("b1", 3.0, "x", direction="lower"),
        score("b1", 2.0, "y", direction="lower"), score("m1", None, "x"),
        score("m1", 0.1, "y"),
    ]  # fmt: skip
    found = groups_of(scores)
    assert (found["x", "", ""].mean_rank, found["x", "", ""].num_ranked) == (5 / 3, 3)
    assert found["y", "Speech", "A"].mean_rank == 2
    assert found["x", "Music", ""].mean_rank == 2  # no value


def test_the_domain_score_leaves_out_zero_baselines_and_what_was_never_read():
    scores = [
        score("a1", 0.6), score("a2", 0.5), score("b1", None, num_answered=0),
        score("m1", 0.3),
    ]  # fmt: skip
    baseline = [score("a1", 0.4), score("a2", 0.0), score("b1", 1.0)]
    found = groups_of(scores, baseline)["m", "", ""]
    assert found.relative_gain == pytest.approx(0.5)
    assert found.num_gains == 1
    assert found.left_out == (
        "a2: the baseline is zero",
        "b1: no answer could be read",
        "m1: the baseline has no value",
    )


def test_a_negative_baseline_has_no_gain_that_means_anything():
    found = groups_of([score("a1", 0.6)], [score("a1", -0.1)])["m", "", ""]
    assert (found.relative_gain, found.num_gains) == (None, 0)
    message = "a1: the baseline is negative: the gain would change its sign"
    assert found.left_out == (message,)


def test_the_baseline_against_itself_gains_nothing():
    scores = [score("a1", 0.6), score("b1", 2.0, direction="lower")]
    assert groups_of(scores, scores)["m", "", ""].relative_gain == 0
    assert groups_of(scores)["m", "", ""].relative_gain is None


@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_gain_is_above_0_where_the_model_is_better(value, baseline):
    higher = aggregate.relative_gain(value, baseline, "higher")
    lower = aggregate.relative_gain(value, baseline, "lower")
    assert higher == pytest.approx(-lower)
    assert math.copysign(1, higher) == math.copysign(1, value - baseline)
