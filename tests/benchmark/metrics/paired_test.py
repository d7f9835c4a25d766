"""Paired comparisons agree with scipy, with loops and with published examples."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from benchmark.metrics import paired
from benchmark.metrics.paired import (
    bootstrap_p_value,
    holm,
    paired_difference,
    sign_flip_p_value,
)


def f32(values):
    return np.asarray(values, np.float32)


def permutation_p(differences, **options):
    return scipy.stats.permutation_test(
        (differences, np.zeros_like(differences)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        **options,
    ).pvalue


@pytest.mark.parametrize("number", [2, 7, 10])
@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_up_to_16_listeners_the_sign_flip_test_is_exact(number, shift, rng):
    differences = rng.normal(shift, size=number)
    expected = permutation_p(differences, n_resamples=np.inf)
    assert sign_flip_p_value(f32(differences)) == pytest.approx(expected, rel=1e-5)


def test_ties_are_counted_in_spite_of_rounding():
    differences = f32([0.1, 0.2, 0.3, -0.1, 0.2, 0.1])
    expected = permutation_p(np.array([1, 2, 3, -1, 2, 1.0]), n_resamples=np.inf)
    assert sign_flip_p_value(differences) == pytest.approx(expected, rel=1e-6)


def test_more_listeners_are_flipped_at_random(rng):
    differences = f32(rng.normal(0.3, size=40))
    key = jax.random.key(1)
    drawn = sign_flip_p_value(differences, key, 4000)
    # the sum of many random signs is nearly normal
    z = abs(differences.sum()) / np.sqrt(np.sum(differences**2))
    assert drawn == pytest.approx(2 * scipy.stats.norm.sf(z), rel=0.25)
    assert drawn == sign_flip_p_value(differences, key, 4000)
    assert sign_flip_p_value(differences + 9, key, 99) == pytest.approx(1 / 100)


def test_under_the_null_p_values_keep_the_level(rng):
    differences = f32(rng.normal(size=(400, 20)))
    p_values = jax.vmap(lambda d: sign_flip_p_value(d, None, 199))(differences)
    assert 0.02 <= np.mean(p_values <= 0.05) <= 0.08


def test_undefined_listeners_do_not_change_the_test(rng):
    differences = f32(rng.normal(0.5, size=8))
    padded = f32([*differences, np.nan, np.nan])
    np.testing.assert_allclose(
        sign_flip_p_value(padded), sign_flip_p_value(differences), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("replicates", "expected"),
    [
        (np.arange(1, 100), 2 / 100),
        (-np.arange(1, 100), 2 / 100),
        (np.arange(-9, 90), 2 * 11 / 100),
        (np.arange(-49, 50), 1.0),
        (np.zeros(99), 1.0),
        ([*np.arange(1, 99), np.nan], np.nan),
    ],
)
def test_the_bootstrap_p_value_is_twice_the_smaller_tail(replicates, expected):
    actual = bootstrap_p_value(f32(replicates))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_a_difference_is_described_in_the_metrics_own_sign(rng):
    a, b = f32([0.5, 0.6, 0.7, np.nan, 0.4]), f32([0.4, 0.6, 0.8, 0.9, 0.1])
    replicates_a = f32(rng.normal(0.55, 0.05, 999))
    replicates_b = replicates_a - f32(rng.normal(0.075, 0.01, 999))
    result = paired_difference(a, b, replicates_a, replicates_b)
    difference = replicates_a - replicates_b
    bounds = np.quantile(difference - difference.mean() + 0.075, [0.025, 0.975])
    np.testing.assert_allclose(result.mean, 0.075, rtol=1e-5)
    np.testing.assert_allclose([result.low, result.high], bounds, rtol=1e-4)
    assert result.num_listeners == 4
    assert result.p_bootstrap == pytest.approx(2 / 1000)
    assert result.p_permutation == sign_flip_p_value(a - b)


@pytest.mark.parametrize(
    ("higher_is_better", "tolerance", "expected"),
    [(True, 0.0, 1 / 4), (True, 0.2, 0.0), (False, 0.0, 2 / 4), (False, 0.2, 1 / 4)],
)
def test_the_share_made_worse_knows_direction_and_tolerance(
    higher_is_better, tolerance, expected
):
    a, b = f32([0.5, 0.6, 0.7, np.nan, 0.4]), f32([0.4, 0.6, 0.8, 0.9, 0.1])
    result = paired_difference(
        a, b, a[:2], b[:2], higher_is_better=higher_is_better, tolerance=tolerance
    )
    assert result.share_worse == pytest.approx(expected)


def test_a_method_does_not_differ_from_itself(rng):
    values, replicates = f32(rng.random(6)), f32(rng.random(99))
    result = paired_difference(values, values, replicates, replicates)
    assert result.mean == result.low == result.high == result.share_worse == 0
    assert result.p_bootstrap == result.p_permutation == 1


def test_many_comparisons_are_made_at_once(rng):
    values, replicates = f32(rng.random((3, 6))), f32(rng.random((3, 99)))
    compare = jax.vmap(paired_difference, in_axes=(0, None, 0, None))
    together = compare(values, values[0], replicates, replicates[0])
    alone = paired_difference(values[2], values[0], replicates[2], replicates[0])
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(many[2], one, rtol=1e-5)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
    ],
)
def test_holm_gives_these_adjusted_p_values(p_values, expected):
    np.testing.assert_allclose(holm(f32(p_values)), expected, rtol=1e-6)


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    hnp.arrays(np.float32, 6, elements=st.floats(0, 1, width=32)),
    st.floats(0.001, 0.5),
)
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, level):
    rejected = np.zeros(6, bool)
    for step, i in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[i] * np.float32(6 - step) > level:
            break
        rejected[i] = True
    np.testing.assert_array_equal(np.asarray(holm(p_values)) <= level, rejected)


def test_exact_and_random_flips_agree_where_both_apply(rng, monkeypatch):
    differences = f32(rng.normal(0.4, size=12))
    exact = sign_flip_p_value(differences)
    monkeypatch.setattr(paired, "EXACT_LIMIT", 0)
    drawn = sign_flip_p_value(jnp.asarray(differences), None, 4000)
    assert drawn == pytest.approx(float(exact), abs=0.02)
