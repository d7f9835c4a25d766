"""Number tasks: scores as functions of sums, and answers without a number beside."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmark.metrics import counts
from benchmark.metrics import text as text_metrics
from benchmark.typing import Task

NAMES = sorted(counts.NUMBER_METRICS)


def score(name, references, answers, **fields):
    metric = counts.NUMBER_BUILDERS[name](
        Task(name, "regression", name, **fields), "strict"
    )
    return text_metrics.score(metric, references, answers)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [0.0, 3.0, 1000.0])
def test_the_correlation_is_that_of_scipy(seed, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 50)).round(4) + shift
    y = (y + 0.5 * x).round(4)
    answers = [f"The score is {value}." for value in x]
    for name in ("pearson_correlation_coefficient", "singing_mos"):
        found = score(name, list(map(str, y)), answers)
        expected = stats.pearsonr(x.round(8), y).statistic
        assert found.value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_errors_are_the_means_of_the_answers_with_a_number(seed):
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, 20, (2, 30))
    answers = [*map(str, x[:20]), *["many"] * 5, *[None] * 5]
    gaps = (x - y)[:20]
    expected = {
        "phone_segment_counting": np.mean(gaps**2),
        "code_switching_count": np.mean(np.abs(gaps)),
        "audio_duration_prediction": np.mean(np.abs(gaps)),
        "audio_spatial_distance": np.mean(gaps**2),
        "speaker_count": np.mean(gaps == 0),
    }
    for name, value in expected.items():
        found = score(name, list(map(str, y)), answers)
        assert found.value == pytest.approx(value)
        assert (found.num_unreadable, found.num_missing) == (10, 5)
        sums = np.array(list(found.sums.values()))
        assert counts.na_rate(sums) == pytest.approx(1 / 3)


def test_units_are_those_of_the_task():
    found = score("audio_duration_prediction", ["2.5"], ["2000 ms"])
    assert found.value == pytest.approx(0.5)
    found = score("audio_duration_prediction", ["2.5"], ["2 min"], unit="min")
    assert found.value == pytest.approx(0.5)
    found = score("audio_spatial_distance", ["1.5"], ["50 cm"])
    assert found.value == pytest.approx(1.0)
    assert counts.NUMBER_METRICS["audio_spatial_distance"].unit == "m^2"


def test_values_are_clipped_to_the_range_of_the_task():
    found = score("code_switching_count", ["4"], ["50"], value_range=(0.0, 10.0))
    assert found.value == 6
    found = score("code_switching_count", ["4"], ["50"], value_range=(0.0, math.inf))
    assert found.value == 46


@pytest.mark.parametrize(
    ("references", "answers"),
    [([], []), (["3"], ["3"]), (["3", "3"], ["1", "2"]), (["1", "2"], ["3", "3"])],
)
def test_a_correlation_may_be_undefined(references, answers):
    assert math.isnan(score("singing_mos", references, answers).value)


def test_a_reference_without_a_number_is_left_out():
    found = score("speaker_count", ["two", "?"], ["2", "2"])
    assert (found.value, found.num_empty_references) == (1.0, 1)


@pytest.mark.parametrize(
    ("reference", "answer", "error"),
    [
        ("10", "350 degrees", 20),
        ("-170", "170", 20),
        ("90", "90", 0),
        ("0", "3.14159265358979 rad", 180),
        ("(1.0, 2.0, 2.0)", "(0, 0, 0)", 3),
        ("1.0, 2.0, 2.0", "x = 1, y = 2, z = 0", 2),
        ("[1, 2]", "It is at [1, 4] in room 3.", 2),
        ("[0.10000000000000001, 2]", "(0.10000000000000001, 4.5)", 2.5),
        ("[1, 2]", "3", None),
        ("[1, 2]", "left", None),
        ("10", "left", None),
    ],
)
def test_a_position_is_a_direction_or_a_place(reference, answer, error):
    found = score("sound_position", [reference], [answer])
    if error is None:
        assert math.isnan(found.value)
        assert found.num_unreadable == 1
    else:
        assert found.value == pytest.approx(error, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "rate", "direction", "expected"),
    [
        (0.8, 0.25, "higher", 0.6),
        (0.6, 0.25, "lower", 0.8),
        (0.8, 0.0, "higher", 0.8),
        (0.8, 0.0, "lower", 0.8),
        (math.nan, 1.0, "higher", 0.0),
        (math.nan, 1.0, "lower", math.inf),
    ],
)
def test_the_published_adjustment_for_answers_without_number(
    value, rate, direction, expected
):
    assert counts.domain_adjusted(value, rate, direction) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_functions_of_sums(name):
    metric = counts.NUMBER_METRICS[name]
    references, answers = ["1", "2", "4", "7"], ["1", "3", "x", "6"]
    rows = text_metrics.examples(metric, references, answers)
    whole = float(metric.compute(rows.sum(axis=0)))
    halves = rows[::2].sum(axis=0) + rows[1::2].sum(axis=0)
    assert metric.compute(halves) == pytest.approx(whole)
    twice = metric.compute(np.full((3, 4), 2.0) @ rows)
    assert twice.tolist() == pytest.approx([whole] * 3)


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.none(),
        st.text(max_size=60),
        st.floats().map(repr),
        st.sampled_from(["1e309", "-1e300", "9" * 400, "1e14", "(1, 2, 1e99)", "1/0"]),
    ),
    st.sampled_from(["3", "(1, 2, 3)", "", "nan", "1e308", "-1e15"]),
    st.sampled_from(NAMES),
)
def test_no_text_breaks_a_metric(answer, reference, name):
    metric = counts.NUMBER_METRICS[name]
    row = metric.statistics(reference, answer)
    assert np.isfinite(row).all()
    metric.compute(row)
