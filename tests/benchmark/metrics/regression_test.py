"""Agreement and error of ratings against SciPy, scikit-learn and Lin's formula."""

import functools
import inspect

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from benchmark.metrics import base, bootstrap, classification, regression

SAMPLES, DIMENSIONS = 14, 3
NAMES = ("valence", "arousal", "dominance")
METRICS = base.collection(regression.regression_metrics(NAMES))
AGREEMENT, ERROR = ("ccc", "pearson"), ("rmse", "mae")


def ratings(rng, samples=SAMPLES, shape=()):
    """Ratings on a five-point scale, standardised, and predictions of them."""
    grades = rng.integers(1, 6, (*shape, samples, DIMENSIONS))
    targets = (grades - 2.8) / 1.1
    values = 0.6 * targets + 0.3 + rng.normal(size=targets.shape)
    mask = rng.random(targets.shape) < 0.8
    return values.astype(np.float32), targets.astype(np.float32), mask


def everything(array):
    return np.ones(array.shape, bool)


def evaluate(values, targets, mask, weights=None):
    found = base.evaluate(METRICS, values, targets, mask, weights)
    return {name: float(value) for name, value in found.items()}


def lin(x, y, w=None):
    """Lin's coefficient from its definition, in float64."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
    covariance = np.average((x - mean_x) * (y - mean_y), weights=w)
    squares = (x - mean_x) ** 2 + (y - mean_y) ** 2
    return 2 * covariance / (np.average(squares, weights=w) + (mean_x - mean_y) ** 2)


def correlation(x, y, w=None):
    if w is None:
        return scipy.stats.pearsonr(x.astype(np.float64), y.astype(np.float64))[0]
    covariance = np.cov(x.astype(np.float64), y, aweights=w, ddof=0)
    return covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])


def squared(x, y, w=None):
    return sklearn.metrics.root_mean_squared_error(y, x, sample_weight=w)


def absolute(x, y, w=None):
    return sklearn.metrics.mean_absolute_error(y, x, sample_weight=w)


ORACLES = {"ccc": lin, "pearson": correlation, "rmse": squared, "mae": absolute}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ORACLES)
def test_each_dimension_and_their_mean_agree_with_the_oracle(name, weighted, rng):
    values, targets, mask = ratings(rng, 60)
    weights = rng.exponential(size=60).astype(np.float32) if weighted else None
    found = evaluate(values, targets, mask, weights)
    expected = []
    for column, dimension in enumerate(NAMES):
        kept = mask[:, column]
        rated = values[kept, column], targets[kept, column]
        used = weights[kept] if weighted else None
        expected.append(ORACLES[name](*rated, used))
        np.testing.assert_allclose(
            found[f"{name}_{dimension}"], expected[-1], rtol=1e-5
        )
    np.testing.assert_allclose(found[name], np.mean(expected), rtol=1e-5)


def test_concordance_is_the_share_of_the_squared_distance_from_the_diagonal(rng):
    """Lin's first form: 1 - E(x - y)^2 / E(x - y)^2 of independent pairs."""
    x, y = rng.normal(size=25), 0.4 * rng.normal(size=25) + 1
    paired = np.mean((x - y) ** 2)
    independent = np.mean((x[:, None] - y[None, :]) ** 2)
    found = base.evaluate(
        regression.ccc(),
        *(a[:, None].astype(np.float32) for a in (x, y)),
        everything(x[:, None]),
    )
    np.testing.assert_allclose(found, 1 - paired / independent, rtol=1e-5)


@functools.cache
def jitted_parts():
    def values(probs, targets, mask, part):
        state = METRICS.update(probs, targets, mask)
        weights = (part[None] == jnp.arange(4)[:, None]).astype(jnp.float32)
        parts = [base.reduce(state, weight) for weight in weights]
        return METRICS.compute(base.reduce(state)), METRICS.compute(
            functools.reduce(base.merge, parts)
        )

    return jax.jit(values)


def close(actual, expected, rtol=1e-5, atol=1e-5):
    for name, value in expected.items():
        np.testing.assert_allclose(
            actual[name], value, rtol=rtol, atol=atol, err_msg=name
        )


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    part=hnp.arrays(np.int32, SAMPLES, elements=st.integers(0, 3)),
    seed=st.integers(0, 1000),
)
def test_any_split_merges_to_the_value_of_the_whole(part, seed):
    whole, merged = jitted_parts()(*ratings(np.random.default_rng(seed)), part)
    close(merged, whole)


def test_the_merger_of_separately_updated_parts_is_the_whole(rng):
    data = ratings(rng)
    update = jax.jit(METRICS.update)
    halves = [update(*(x[i] for x in data)) for i in (slice(6), slice(6, None))]
    merged = base.merge(*(base.reduce(half) for half in halves))
    close(METRICS.compute(merged), evaluate(*data))


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(
    copies=hnp.arrays(np.int32, SAMPLES, elements=st.integers(0, 3)),
    seed=st.integers(0, 1000),
)
def test_a_weight_is_a_number_of_copies(copies, seed):
    data = ratings(np.random.default_rng(seed))
    rows = np.repeat(np.arange(SAMPLES), copies)
    padded = np.concatenate([rows, np.zeros(3 * SAMPLES - len(rows), int)])
    values, targets, mask = (x[padded] for x in data)
    mask = mask & (np.arange(3 * SAMPLES) < len(rows))[:, None]
    weighted = evaluate(*data, copies.astype(np.float32))
    close(weighted, evaluate(values, targets, mask))


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(
    kept=hnp.arrays(bool, (SAMPLES, DIMENSIONS)), seed=st.integers(0, 1000)
)
def test_a_cell_that_does_not_count_is_as_good_as_removed(kept, seed):
    values, targets, _ = ratings(np.random.default_rng(seed))
    hidden = np.where(kept, values, np.nan), np.where(kept, targets, np.inf)
    found = evaluate(*hidden, kept)
    for column, name in enumerate(NAMES):
        x, y = values[kept[:, column], column], targets[kept[:, column], column]
        for metric, oracle in ORACLES.items():
            agreement = metric in AGREEMENT
            defined = len(set(y.tolist())) > 1 if agreement else len(y) > 0
            expected = oracle(x, y) if defined else np.nan
            np.testing.assert_allclose(
                found[f"{metric}_{name}"], expected, rtol=1e-4, atol=1e-5
            )


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 1000), scale=st.floats(0.25, 4), shift=st.floats(-2, 2)
)
def test_what_a_change_of_unit_does(seed, scale, shift):
    values, targets, mask = ratings(np.random.default_rng(seed), 40)
    before = evaluate(values, targets, mask)

    def moved(x):
        return np.float32(scale) * x + np.float32(shift)

    both = evaluate(moved(values), moved(targets), mask)
    for name in AGREEMENT:
        np.testing.assert_allclose(both[name], before[name], atol=1e-4)
    for name in ERROR:
        np.testing.assert_allclose(both[name], scale * before[name], rtol=1e-4)
    one = evaluate(moved(values), targets, mask)
    np.testing.assert_allclose(one["pearson"], before["pearson"], atol=1e-4)
    for dimension in NAMES:  # concordance asks for location and scale as well
        agreement = one[f"ccc_{dimension}"]
        assert abs(agreement) <= abs(one[f"pearson_{dimension}"]) + 1e-5
    swapped = evaluate(targets, values, mask)
    np.testing.assert_allclose(swapped["ccc"], before["ccc"], atol=1e-5)


@pytest.mark.parametrize(
    ("predict", "ccc", "pearson"),
    [
        (lambda y: y, 1, 1),
        (lambda y: -y, -1, -1),  # the ratings of this test have mean 0
        (lambda y: 0 * y, 0, 0),
        (lambda y: 0 * y + 1.7, 0, 0),
        (lambda y: 3 * y, 2 * 3 / (1 + 9), 1),
    ],
    ids=["perfect", "opposite", "constant 0", "constant 1.7", "three-fold"],
)
def test_known_values(predict, ccc, pearson):
    targets = np.tile(np.array([-1.5, -0.5, 0.5, 1.5], np.float32), 9)[:, None]
    data = predict(targets), targets, everything(targets)
    for metric, expected in ((regression.ccc(), ccc), (regression.pearson(), pearson)):
        np.testing.assert_allclose(base.evaluate(metric, *data), expected, atol=1e-6)


@pytest.mark.parametrize("samples", [2, 15, 300, 3000])
def test_constant_predictions_have_no_agreement_however_they_are_weighted(samples, rng):
    _, targets, mask = ratings(rng, samples)
    mask[:2], targets[:2] = True, [[-1.0] * 3, [1.0] * 3]
    for constant in (0.1, 1 / 3, -7.7):
        values = np.full_like(targets, constant)
        for weights in (None, rng.exponential(size=samples).astype(np.float32)):
            found = evaluate(values, targets, mask, weights)
            assert found["ccc"] == found["pearson"] == 0


class TestWhatIsDefined:
    def test_agreement_needs_ratings_that_differ_and_error_one_rating(self, rng):
        values, targets, _ = ratings(rng)
        mask = np.zeros_like(everything(values))
        mask[0, 0] = True  # valence: a single rating
        mask[:4, 1], targets[:, 1] = True, 1 / 3  # arousal: the same one each time
        found = evaluate(values, targets, mask)
        for name in AGREEMENT:
            assert np.isnan(found[name])
            assert all(np.isnan(found[f"{name}_{d}"]) for d in NAMES)
        for name in ERROR:
            assert np.isnan(found[f"{name}_dominance"])
            known = [found[f"{name}_{d}"] for d in ("valence", "arousal")]
            np.testing.assert_allclose(found[name], np.mean(known), rtol=1e-6)

    def test_it_does_not_depend_on_the_predictions(self, rng):
        values, targets, mask = ratings(rng)
        targets[:, 2] = 0.7
        shown = [
            {
                name
                for name, value in evaluate(x, targets, mask).items()
                if value == value
            }
            for x in (values, 0 * values, targets)
        ]
        assert shown[0] == shown[1] == shown[2]
        assert "ccc_arousal" in shown[0]
        assert "ccc_dominance" not in shown[0]

    @hypothesis.settings(max_examples=30, deadline=None)
    @hypothesis.given(
        first=st.integers(-500, 500),
        step=st.integers(-500, 500),
        seed=st.integers(0, 1000),
    )
    def test_a_single_rating_that_differs_is_enough(self, first, step, seed):
        """On a grid of 1/64; the clip's weight may be as small as 1e-30."""
        rng = np.random.default_rng(seed)
        targets = np.full((SAMPLES, 1), first / 64, np.float32)
        targets[3] += step / 64
        weights = rng.exponential(size=SAMPLES).astype(np.float32)
        weights[3] = 1e-30
        values = rng.normal(size=targets.shape).astype(np.float32)
        found = base.evaluate(
            regression.ccc(), values, targets, everything(values), weights
        )
        assert np.isnan(found) == (step == 0)

    @pytest.mark.parametrize("fault", [0, 1])
    def test_nan_in_a_rated_cell_does_not_pass_unseen(self, rng, fault):
        data = ratings(rng)
        data[2][3, 1] = True
        data[fault][3, 1] = np.nan
        assert all(np.isnan(value) for value in evaluate(*data).values())

    def test_nothing_rated_is_undefined(self, rng):
        values, targets, mask = ratings(rng)
        found = evaluate(values, targets, mask & False)
        assert all(np.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    ("offset", "error"), [(0, 1e-5), (3, 1e-4), (30, 5e-3)], ids=str
)
def test_precision_falls_with_the_square_of_the_offset(offset, error, rng):
    values, targets, mask = ratings(rng, 60)
    expected = evaluate(values, targets, mask)
    shifted = values + np.float32(offset), targets + np.float32(offset)
    found = evaluate(*shifted, mask)
    for name in (*AGREEMENT, *ERROR):
        np.testing.assert_allclose(found[name], expected[name], atol=error)


def test_a_mean_of_a_thousand_deviations_is_too_far_for_single_precision(rng):
    """Errors survive, agreement does not: hence standardised values, or float64."""
    values, targets, mask = ratings(rng, 60)
    expected = evaluate(values, targets, mask)
    shifted = values + np.float32(1000), targets + np.float32(1000)
    found = evaluate(*shifted, mask)
    assert found["ccc"] == 0  # the variance is within rounding of 0
    np.testing.assert_allclose(found["rmse"], expected["rmse"], rtol=1e-4)
    with jax.enable_x64(True):
        wide = evaluate(*(x.astype(np.float64) for x in shifted), mask)
    np.testing.assert_allclose(wide["ccc"], expected["ccc"], atol=1e-4)


def test_bootstrap_replicates_are_defined_where_the_estimate_is(rng):
    """Also for a listener who gave one rating that differs."""
    values, targets, mask = ratings(rng, 10, (4, 2))
    targets[0], mask[0] = 2.0, True
    targets[0, :, 4] = 1.0
    targets[3, :, :, 0] = 0.5  # never varies: left out
    ids = np.tile(rng.permutation(10), (4, 2, 1))
    state = jax.jit(METRICS.update)(values, targets, mask)
    found = bootstrap.bootstrap(METRICS, state, ids, 10, jax.random.key(0), 200)
    per_listener = base.per_listener(
        regression.regression_metrics(NAMES), values, targets, mask
    )
    for name, value in per_listener.items():
        assert np.isfinite(found.replicates[name]).all(), name
        np.testing.assert_allclose(
            found.values[name], value.mean(1), rtol=1e-4, atol=1e-5
        )
    assert np.isnan(found.values["ccc_valence"][3])
    assert found.replicates["ccc"].std() > 0.01


def test_classes_and_dimensions_stand_side_by_side(rng):
    probs = rng.dirichlet(np.ones(4), SAMPLES).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.integers(0, 4, SAMPLES)]
    values, targets, mask = ratings(rng)
    both = [
        np.concatenate(pair, axis=1)
        for pair in ((probs, values), (labels, targets), (everything(probs), mask))
    ]
    classes = classification.standard_metrics("softmax")
    dimensions = regression.regression_metrics(NAMES)
    joint = base.collection(
        (*base.on_columns(classes, 0, 4), *base.on_columns(dimensions, 4, 7))
    )
    found = base.evaluate(joint, *both)
    alone = base.collection(classes)
    close(found, base.evaluate(alone, probs, labels, everything(probs)))
    close(found, evaluate(values, targets, mask))
    assert base.on_columns(classes, 0, 4) is base.on_columns(classes, 0, 4)
    # what the classes share, and one state for all of the dimensions
    assert len(joint.update(*both)) == len(alone.update(*both)) + 1


def test_the_metrics_of_one_dimension_have_no_parts():
    names = [m.name for m in regression.regression_metrics(("valence",))]
    assert names == ["ccc", "pearson", "rmse", "mae"]
    several = [m.name for m in regression.regression_metrics(NAMES)]
    assert several[:5] == [*names, "ccc_valence"]
    assert len(several) == 16


@pytest.mark.parametrize("names", [(), ("valence", "valence")])
def test_dimensions_without_distinct_names_are_refused(names):
    with pytest.raises(ValueError, match="distinct names"):
        inspect.unwrap(regression.regression_metrics)(names)


def test_every_metric_has_a_direction():
    for metric in regression.regression_metrics(NAMES):
        expected = metric.name.startswith(AGREEMENT)
        assert base.higher_is_better(metric.name) == expected
    for unknown in ("ccc_", "f1_valence", "cccvalence"):
        with pytest.raises(ValueError, match="has no known direction"):
            base.higher_is_better(unknown)
