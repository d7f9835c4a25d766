"""Metrics are functions of sums: they merge, they take weights, they obey the mask."""

import functools
import inspect

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmark.metrics import base, classification
from benchmark.metrics.base import DecisionRule

SAMPLES, CLASSES = 12, 4


def all_metrics(family):
    """All metrics of a family in one, to compile once."""
    rule = DecisionRule(family)
    extra = (classification.macro_f1(rule, "fixed"), classification.co_occurrence(rule))
    return base.collection((*classification.standard_metrics(family), *extra))


every_metric = pytest.mark.parametrize(
    "metric",
    [all_metrics("softmax"), all_metrics("sigmoid")],
    ids=["softmax", "sigmoid"],
)


def predictions(rng, shape=(SAMPLES, CLASSES), family="softmax"):
    probs = rng.random(shape)
    if family == "softmax":
        probs = probs / probs.sum(-1, keepdims=True)
    targets = (rng.random(shape) < 0.4).astype(np.float32)
    return probs.astype(np.float32), targets, rng.random(shape) < 0.8


def close(actual, expected, rtol=1e-5, atol=1e-6):
    def compare(path, a, b):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)

    jax.tree_util.tree_map_with_path(compare, actual, expected)


@functools.cache
def jitted_parts(metric):
    """Value of a set, and value of the merger of its four parts."""

    def values(probs, targets, mask, part):
        state = metric.update(probs, targets, mask)
        weights = (part[None] == jnp.arange(4)[:, None]).astype(jnp.float32)
        parts = [base.reduce(state, weight) for weight in weights]
        return metric.compute(base.reduce(state)), metric.compute(
            functools.reduce(base.merge, parts)
        )

    return jax.jit(values)


@every_metric
@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(
    part=hnp.arrays(np.int32, SAMPLES, elements=st.integers(0, 3)),
    seed=st.integers(0, 1000),
)
def test_any_split_merges_to_the_value_of_the_whole(metric, part, seed):
    data = predictions(np.random.default_rng(seed))
    whole, merged = jitted_parts(metric)(*data, part)
    close(merged, whole)


@every_metric
def test_the_merger_of_separately_updated_parts_is_the_whole(metric, rng):
    data = predictions(rng)
    update = jax.jit(metric.update)
    halves = [update(*(x[i] for x in data)) for i in (slice(6), slice(6, None))]
    merged = base.merge(*(base.reduce(half) for half in halves))
    close(metric.compute(merged), base.evaluate(metric, *data))


@every_metric
def test_padding_rows_change_nothing(metric, rng):
    probs, targets, mask = predictions(rng)
    padded = (
        np.concatenate([probs, np.full((5, CLASSES), np.nan, np.float32)]),
        np.concatenate([targets, np.full((5, CLASSES), np.inf, np.float32)]),
        np.concatenate([mask, np.zeros((5, CLASSES), bool)]),
    )
    close(base.evaluate(metric, *padded), base.evaluate(metric, probs, targets, mask))


@every_metric
def test_cells_that_are_not_answered_change_nothing(metric, rng):
    probs, targets, mask = predictions(rng)
    flipped = np.where(mask, probs, np.nan), np.where(mask, targets, 1 - targets)
    expected = base.evaluate(metric, probs, targets, mask)
    close(base.evaluate(metric, *flipped, mask), expected, rtol=0, atol=0)


@every_metric
def test_a_weight_is_a_number_of_copies(metric, rng):
    data = predictions(rng)
    copies = rng.integers(0, 4, SAMPLES)
    repeated = (np.repeat(x, copies, axis=0) for x in data)
    weighted = base.evaluate(metric, *data, copies.astype(np.float32))
    close(weighted, base.evaluate(metric, *repeated))


@every_metric
def test_a_set_without_answers_is_undefined(metric, rng):
    probs, targets, mask = predictions(rng)
    for name, value in base.evaluate(metric, probs, targets, mask & False).items():
        assert np.isnan(value).all(), name


@every_metric
@pytest.mark.parametrize("fault", ["probability", "target"])
def test_nan_in_an_answered_cell_does_not_pass_unseen(metric, fault, rng):
    probs, targets, mask = predictions(rng)
    mask[3, 2] = targets[3, 0] = mask[3, 0] = True
    (probs if fault == "probability" else targets)[3, 2] = np.nan
    for name, value in base.evaluate(metric, probs, targets, mask).items():
        assert np.isnan(value).any(), name


@every_metric
def test_whether_a_value_is_defined_does_not_depend_on_the_predictions(metric, rng):
    _, targets, mask = predictions(rng)
    for labels in (targets, targets * 0):
        values = [
            base.evaluate(metric, probs, labels, mask)
            for probs in (predictions(rng)[0], targets * 0, targets * 0 + 1)
        ]
        defined = [jax.tree.map(np.isnan, value) for value in values]
        close(defined[1], defined[0])
        close(defined[2], defined[0])


def test_macro_f1_of_a_set_is_not_the_mean_over_its_batches(rng):
    probs, targets, mask = predictions(rng, (64, CLASSES))
    metric = classification.macro_f1(DecisionRule("softmax"))
    whole = base.evaluate(metric, probs, targets, mask)
    batches = [slice(i, i + 8) for i in range(0, 64, 8)]
    scores = [base.evaluate(metric, probs[b], targets[b], mask[b]) for b in batches]
    states = [
        base.reduce(metric.update(probs[b], targets[b], mask[b])) for b in batches
    ]
    assert abs(np.mean(scores) - whole) > 0.01
    close(metric.compute(functools.reduce(base.merge, states)), whole)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_counts_are_exact(dtype):
    ones = jnp.ones((5001, 1), dtype)
    metric = classification.accuracy(DecisionRule("sigmoid"))
    state = base.reduce(metric.update(ones, ones, jnp.ones((5001, 1), bool)))
    assert state.cells == state.true_positives[0] == 5001


def test_weighted_counts_are_exact_up_to_two_to_the_24():
    state = base.Mean(jnp.ones(16), jnp.ones(16))
    weights = jnp.full(16, 2.0**20).at[0].add(-1)
    assert int(base.reduce(state, weights).count) == 2**24 - 1
    assert int(base.merge(jnp.float32(2**24 - 1), jnp.float32(1))) == 2**24


def test_per_listener_scores_every_query_set(rng):
    probs, targets, mask = predictions(rng, (3, 2, 10, CLASSES))
    mask[2, 1] = False
    metrics = classification.standard_metrics("softmax")
    values = base.per_listener(metrics, probs, targets, mask)
    assert sorted(values) == sorted(metric.name for metric in metrics)
    assert all(value.shape == (3, 2) for value in values.values())
    assert all(np.isnan(value[2, 1]) for value in values.values())
    for i, j in ((0, 0), (1, 1), (2, 0)):
        one_set = probs[i, j], targets[i, j], mask[i, j]
        alone = base.evaluate(base.collection(metrics), *one_set)
        close({name: value[i, j] for name, value in values.items()}, alone)


def test_a_collection_keeps_shared_statistics_once(rng):
    metrics = classification.standard_metrics("sigmoid")
    state = base.collection(metrics).update(*predictions(rng))
    # label counts, exact match, NLL, calibration gaps, Brier score
    assert len(state) == 5
    with pytest.raises(ValueError, match="names must differ"):
        base.collection(metrics[:1] * 2)


@pytest.mark.parametrize(
    ("rule", "probs", "expected"),
    [
        (DecisionRule("softmax"), [0.5, 0.3, 0.2], [1, 0, 0]),
        (DecisionRule("softmax"), [0.4, 0.4, 0.2], [1, 1, 0]),
        (DecisionRule("softmax"), [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]),
        (DecisionRule("softmax", empty="argmax"), [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]),
        (DecisionRule("sigmoid"), [0.5, 0.6, 0.9], [0, 1, 1]),
        (DecisionRule("sigmoid"), [0.1, 0.4, 0.2], [0, 0, 0]),
        (DecisionRule("sigmoid", empty="argmax"), [0.1, 0.4, 0.2], [0, 1, 0]),
        (DecisionRule("sigmoid", 0.15), [0.1, 0.4, 0.2], [0, 1, 1]),
        (DecisionRule("sigmoid", (0.05, 0.5, 0.2)), [0.1, 0.4, 0.2], [1, 0, 0]),
    ],
)
def test_a_decision_rule_predicts_these_sets(rule, probs, expected):
    chosen = base.predict_set(np.array([probs], np.float32), rule)
    np.testing.assert_array_equal(chosen, np.array([expected], bool))


def test_classes_that_are_not_answered_are_never_predicted():
    probs = np.array([[0.1, 0.4, 0.2], [0.9, 0.9, 0.9]], np.float32)
    mask = np.array([[True, False, True], [False, False, False]])
    chosen = base.predict_set(probs, DecisionRule("sigmoid", empty="argmax"), mask)
    np.testing.assert_array_equal(chosen, [[False, False, True], [False] * 3])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (DecisionRule("tanh"), "family must be"),
        (DecisionRule("sigmoid", (0.1, 0.2)), "each of the 3 classes, found 2"),
        (DecisionRule("sigmoid", empty="drop"), "empty must be"),
    ],
)
def test_a_wrong_decision_rule_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(base.predict_set)(np.ones((2, 3), np.float32), rule)


@pytest.mark.parametrize(
    ("family", "probs", "targets", "message"),
    [
        (
            "sigmoid",
            [[0.1, 1.2]],
            [[0, 1]],
            r"probability outside .* 1.2\d* at index \[0, 1\]",
        ),
        ("sigmoid", [[0.1, np.nan]], [[0, 1]], "probability .* nan"),
        ("sigmoid", [[0.1, 0.2]], [[0, np.nan]], "target outside"),
        ("sigmoid", [[0.1, 0.2]], [[2, -1]], r"target .* \(and 1 more\)"),
        ("softmax", [[0.5, 0.5], [0.5, 0.4]], [[0, 1]] * 2, r"sum: 0.9.* index \[1\]"),
    ],
)
def test_faulty_predictions_are_named(family, probs, targets, message):
    probs, targets = np.array(probs), np.array(targets, np.float32)
    with pytest.raises(ValueError, match=message):
        base.check_predictions(probs, targets, np.ones(probs.shape, bool), family)


def test_faults_in_cells_that_are_not_answered_are_no_faults():
    probs = np.array([[0.5, 0.5], [np.nan, 2.0]])
    mask = np.array([[True, True], [False, False]])
    base.check_predictions(probs, probs, mask, "softmax")


def test_every_standard_metric_has_a_direction():
    metrics = classification.standard_metrics("softmax")
    lower = {m.name for m in metrics if not base.higher_is_better(m.name)}
    assert lower == {"nll", "brier", "ece"}
    with pytest.raises(ValueError, match="'macro-f1' has no known direction"):
        base.higher_is_better("macro-f1")
