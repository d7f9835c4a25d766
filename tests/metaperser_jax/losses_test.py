"""Losses against loops written from their definitions, and against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax import losses
from metaperser_jax.typing import Batch

LOSSES = {
    name: jax.jit(fn, static_argnames="smoothing") for name, fn in losses.LOSSES.items()
}
GRADS = {
    name: jax.jit(jax.value_and_grad(fn), static_argnums=4)
    for name, fn in losses.LOSSES.items()
}
cross_entropy, bce = LOSSES["softmax"], LOSSES["sigmoid"]

# EMO-SUPERB's published weights for IEMOCAP, fold 3, in its class order: frustrated,
# angry, sad, disgust, excited, fear, neutral, surprise, happy.
EMO_SUPERB = np.array([0.214, 0.344, 0.467, 3.374, 0.334, 2.245, 0.240, 1.393, 0.390])
FOLD_3_CLIPS = 6092  # of IEMOCAP's sessions 1, 4 and 5


def shares_behind(weights):
    """Recovers the shares of the labels from weights by effective number.

    The counts behind the published weights are not published. Up to 1/N the weights
    are w_c = k / (1 - exp(-f_c)), f_c = n_c / N; k is the one that lets the shares
    sum to 1. So the tests below say that the published table is one our formula gives,
    which inverse frequencies, for one, would not; the counts they use are recovered.
    """
    low, high = 0.0, weights.min()
    for _ in range(80):
        k = (low + high) / 2
        low, high = (low, k) if -np.log1p(-k / weights).sum() > 1 else (k, high)
    return -np.log1p(-low / weights)


class TestEffectiveNumberWeights:
    @pytest.mark.parametrize("counts", [[10, 20, 70], [1, 1], [5, 5, 5, 5], [1, 99999]])
    def test_equal_the_formula(self, counts):
        total = sum(counts)
        beta = (total - 1) / total
        raw = [(1 - beta) / (1 - beta**n) for n in counts]
        expected = [w * len(counts) / sum(raw) for w in raw]
        weights = losses.effective_number_weights(np.array(counts))
        np.testing.assert_allclose(weights, expected, rtol=1e-6)
        assert weights.dtype == np.float32

    def test_are_those_published_for_iemocap(self):
        shares = shares_behind(EMO_SUPERB)
        quoted = [23150, 13761, 9949, 1319, 14203, 1990, 20367, 3226, 12036]
        np.testing.assert_allclose(shares * 1e5, quoted, atol=0.6)
        weights = losses.effective_number_weights(shares * FOLD_3_CLIPS)
        np.testing.assert_allclose(weights, EMO_SUPERB, rtol=0, atol=5e-4)

    def test_of_whole_clips_are_within_half_a_percent_of_those(self):
        counts = np.round(shares_behind(EMO_SUPERB) * FOLD_3_CLIPS)
        assert counts.tolist() == [1410, 838, 606, 80, 865, 121, 1241, 197, 733]
        weights = losses.effective_number_weights(counts)
        np.testing.assert_allclose(weights, EMO_SUPERB, rtol=5e-3)

    def test_are_not_inverse_frequencies(self):
        inverse = 1 / shares_behind(EMO_SUPERB)
        inverse *= len(inverse) / inverse.sum()
        off = np.abs(inverse / EMO_SUPERB - 1)
        assert off.max() > 0.05
        assert np.abs(inverse - EMO_SUPERB).max() > 0.05

    def test_a_class_never_seen_weighs_as_one_seen_once(self):
        np.testing.assert_array_equal(
            losses.effective_number_weights(np.array([0, 50, 50])),
            losses.effective_number_weights(np.array([1, 50, 50])),
        )

    @pytest.mark.parametrize("counts", [[1], [0, 0, 0], [7]])
    def test_nothing_to_tell_apart_weighs_one(self, counts):
        weights = losses.effective_number_weights(np.array(counts))
        np.testing.assert_allclose(weights, np.ones(len(counts)), rtol=1e-6)


def random_batch(rng, samples=12, classes=5):
    targets = (rng.random((samples, classes)) < 0.4).astype(np.float32)
    mask = rng.random((samples, classes)) < 0.8
    mask[2] = False  # a clip without an answer
    targets[3] = 0.0  # a clip with answers, none of them yes
    mask[3] = True
    logits = rng.normal(size=(samples, classes)).astype(np.float32) * 2
    return logits, targets, mask


def all_answered(samples, classes):
    return np.ones((samples, classes), bool)


def loop_cross_entropy(logits, targets, mask, weights, e):
    clips = []
    for z, t, m in zip(logits.astype(np.float64), targets, mask, strict=True):
        chosen = [c for c in range(len(z)) if m[c] and t[c] > 0]
        if not chosen:
            continue
        y = [(c in chosen) / len(chosen) for c in range(len(z))]
        y = [(1 - e) * v + (1 - v) * e / (len(z) - 1) for v in y]
        log_sum = math.log(sum(math.exp(v) for v in z))
        entropy = -sum(v * (score - log_sum) for v, score in zip(y, z, strict=True))
        clips.append(sum(w * v for w, v in zip(weights, y, strict=True)) * entropy)
    return sum(clips) / len(clips) if clips else 0.0


def loop_bce(logits, targets, mask, weights, e):
    cells = []
    for index in np.argwhere(mask):
        z, t = float(logits[tuple(index)]), float(targets[tuple(index)])
        y = t * (1 - e) + e / 2
        p = 1 / (1 + math.exp(-z))
        loss = -y * math.log(p) - (1 - y) * math.log(1 - p)
        cells.append(weights[index[1]] * loss)
    return sum(cells) / len(cells) if cells else 0.0


LOOPS = {"softmax": loop_cross_entropy, "sigmoid": loop_bce}


@pytest.mark.parametrize("family", LOSSES)
class TestBothFamilies:
    @pytest.mark.parametrize(
        ("smoothing", "weighted"), [(0.0, False), (0.05, False), (0.05, True)]
    )
    def test_equal_a_loop_over_clips_and_classes(
        self, rng, family, smoothing, weighted
    ):
        logits, targets, mask = random_batch(rng)
        weights = rng.uniform(0.2, 3, 5).astype(np.float32) if weighted else None
        loss = LOSSES[family](logits, targets, mask, weights, smoothing)
        used = weights if weighted else np.ones(5)
        expected = LOOPS[family](logits, targets, mask, used, smoothing)
        np.testing.assert_allclose(loss, expected, rtol=2e-6)

    def test_masked_cells_and_padding_rows_do_not_matter(self, rng, family):
        logits, targets, mask = random_batch(rng)
        loss_fn = LOSSES[family]
        loss = loss_fn(logits, targets, mask, smoothing=0.05)
        relabelled = np.where(mask, targets, 1 - targets)
        np.testing.assert_array_equal(
            loss_fn(logits, relabelled, mask, smoothing=0.05), loss
        )
        padding = [(0, 7), (0, 0)]
        padded = loss_fn(
            np.pad(logits, padding, constant_values=9.0),
            np.pad(targets, padding, constant_values=1.0),
            np.pad(mask, padding),
            smoothing=0.05,
        )
        np.testing.assert_allclose(padded, loss, rtol=1e-6)

    @pytest.mark.parametrize("samples", [0, 4])
    def test_a_set_without_answers_has_loss_zero_and_gradient_zero(
        self, rng, family, samples
    ):
        logits = rng.normal(size=(samples, 3)).astype(np.float32)
        targets, mask = np.ones((samples, 3), np.float32), np.zeros((samples, 3), bool)
        loss, grads = GRADS[family](logits, targets, mask, np.ones(3, np.float32), 0.05)
        assert loss == 0
        np.testing.assert_array_equal(grads, np.zeros((samples, 3)))

    @pytest.mark.parametrize("size", [1e3, 1e6, 1e30])
    def test_extreme_logits_give_finite_losses_and_gradients(self, family, size):
        logits = np.array([[size, -size, 0], [-size, size, size]], np.float32)
        targets = np.array([[1, 0, 0], [1, 0, 0]], np.float32)
        mask = np.ones((2, 3), bool)
        loss, grads = GRADS[family](logits, targets, mask, None, 0.05)
        assert np.isfinite(loss)
        assert np.isfinite(grads).all()

    def test_gradient_is_the_numerical_one(self, rng, family):
        with jax.enable_x64(True):
            logits, targets, mask = random_batch(rng, samples=4, classes=3)
            logits, weights = logits.astype(np.float64), np.array([0.5, 1.0, 1.5])

            def loss(z):
                return losses.LOSSES[family](z, targets, mask, weights, 0.05)

            grads = jax.jit(jax.grad(loss))(logits)
            steps = 1e-6 * np.eye(12).reshape(12, 4, 3)
            both = jax.jit(jax.vmap(loss))(
                np.concatenate([logits + steps, logits - steps])
            )
            slopes = (both[:12] - both[12:]) / 2e-6
            np.testing.assert_allclose(grads.reshape(12), slopes, atol=1e-8)

    def test_link_then_predict_gives_the_rates_back(self, rng, family):
        rates = rng.dirichlet(np.ones(6), size=10).astype(np.float32)
        found = losses.predict(losses.link(rates, family), family)
        np.testing.assert_allclose(found, rates, rtol=1e-5)

    def test_predict_then_link_gives_the_logits_back_up_to_a_constant(
        self, rng, family
    ):
        logits = rng.normal(size=(10, 6)).astype(np.float32)
        found = losses.link(losses.predict(logits, family), family)
        shift = (found - logits) * (family == "softmax")
        np.testing.assert_allclose(
            found - shift.mean(1, keepdims=True), logits, atol=2e-6
        )

    def test_rates_of_zero_and_one_link_to_finite_logits(self, family):
        logits = losses.link(np.array([0.0, 1.0], np.float32), family)
        assert np.isfinite(logits).all()
        found = losses.predict(logits, family)
        np.testing.assert_allclose(found, [0.0, 1.0], atol=1e-6)

    def test_make_loss_fn_is_the_loss_of_the_models_logits(self, rng, family):
        _, targets, mask = random_batch(rng)
        inputs = rng.normal(size=(12, 4)).astype(np.float32)
        kernel = rng.normal(size=(4, 5)).astype(np.float32)
        weights = rng.uniform(0.2, 3, 5).astype(np.float32)
        loss_fn = losses.make_loss_fn(
            lambda params, inputs: inputs @ params["kernel"], family, True, 0.05
        )
        batch = Batch(inputs, targets, mask, np.broadcast_to(weights, targets.shape))
        loss = jax.jit(loss_fn)({"kernel": kernel}, batch)
        expected = LOOPS[family](inputs @ kernel, targets, mask, weights, 0.05)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


class TestCrossEntropy:
    def test_uniform_logits_cost_log_classes(self):
        loss = cross_entropy(
            np.zeros((3, 9), np.float32),
            np.eye(3, 9, dtype=np.float32),
            all_answered(3, 9),
        )
        np.testing.assert_allclose(loss, math.log(9), rtol=1e-6)

    def test_the_truth_costs_the_entropy_of_the_label_set(self):
        """Two labels of four: predicting half for each costs log 2."""
        targets = np.array([[1, 1, 0, 0]], np.float32)
        logits = np.array([[0, 0, -100, -100]], np.float32)
        loss = cross_entropy(logits, targets, all_answered(1, 4))
        np.testing.assert_allclose(loss, math.log(2), rtol=1e-6)

    def test_smoothed_targets_are_a_distribution_and_their_own_best_prediction(self):
        e, targets = 0.05, np.array([[1, 0, 0]], np.float32)
        y = np.array([[1 - e, e / 2, e / 2]], np.float32)

        def loss(logits):
            return cross_entropy(logits, targets, all_answered(1, 3), None, e)

        np.testing.assert_allclose(loss(jnp.log(y)), -(y * np.log(y)).sum(), rtol=1e-6)
        np.testing.assert_allclose(jax.grad(loss)(jnp.log(y)), 0 * y, atol=1e-7)

    def test_weights_multiply_the_clip_by_the_mean_weight_of_its_labels(self, rng):
        logits = rng.normal(size=(1, 3)).astype(np.float32)
        targets = np.array([[1, 0, 1]], np.float32)
        weights = np.array([2.0, 7.0, 4.0], np.float32)
        plain = cross_entropy(logits, targets, all_answered(1, 3))
        found = cross_entropy(logits, targets, all_answered(1, 3), weights)
        np.testing.assert_allclose(found, 3.0 * plain, rtol=1e-6)

    def test_is_that_of_a_single_label_classifier_when_each_clip_has_one(self, rng):
        logits = rng.normal(size=(20, 4)).astype(np.float32)
        labels = rng.integers(0, 4, 20)
        loss = cross_entropy(
            logits, np.eye(4, dtype=np.float32)[labels], all_answered(20, 4)
        )
        chosen = jax.nn.log_softmax(logits)[np.arange(20), labels]
        np.testing.assert_allclose(loss, -chosen.mean(), rtol=1e-6)


class TestBinaryCrossEntropy:
    def test_a_logit_of_zero_costs_log_two_a_cell(self, rng):
        _, targets, mask = random_batch(rng)
        loss = bce(np.zeros((12, 5), np.float32), targets, mask)
        np.testing.assert_allclose(loss, math.log(2), rtol=1e-6)

    @pytest.mark.parametrize("logit", [-200.0, -20.0, 3.0, 200.0])
    def test_one_cell_costs_the_softplus_of_its_margin(self, logit):
        logits, mask = np.array([[logit]], np.float32), all_answered(1, 1)
        yes = bce(logits, np.ones((1, 1), np.float32), mask)
        no = bce(logits, np.zeros((1, 1), np.float32), mask)
        softplus = max(logit, 0.0) + math.log1p(math.exp(-abs(logit)))
        np.testing.assert_allclose(no, softplus, rtol=1e-6, atol=1e-30)
        np.testing.assert_allclose(yes, softplus - logit, rtol=1e-6, atol=2e-6)

    def test_smoothing_draws_the_best_prediction_towards_one_half(self):
        e = 0.1
        best = losses.link(np.array([[1 - e / 2, e / 2]], np.float32), "sigmoid")
        _, grads = GRADS["sigmoid"](
            best, np.array([[1, 0]], np.float32), all_answered(1, 2), None, e
        )
        np.testing.assert_allclose(grads, np.zeros((1, 2)), atol=1e-7)


class TestNormaliseTargets:
    def test_divides_by_the_number_of_answered_labels(self):
        targets = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]], np.float32)
        mask = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 1]], bool)
        found = losses.normalise_targets(targets, mask)
        np.testing.assert_array_equal(found, [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]])

    def test_takes_leading_axes(self, rng):
        _, targets, mask = random_batch(rng)
        found = losses.normalise_targets(targets[None], mask[None])
        np.testing.assert_array_equal(found[0], losses.normalise_targets(targets, mask))


class TestMaskedMean:
    def test_never_reads_what_is_masked(self):
        values = np.array([1.0, np.nan, 3.0, np.inf], np.float32)
        mask = np.array([True, False, True, False])
        assert losses.masked_mean(values, mask) == 2.0

    def test_of_nothing_is_zero(self):
        assert (
            losses.masked_mean(np.full(3, np.nan, np.float32), np.zeros(3, bool)) == 0
        )


def random_ratings(rng, samples=12, dimensions=3):
    values = rng.normal(size=(samples, dimensions)).astype(np.float32)
    targets = (0.5 * values + rng.normal(size=values.shape) + 0.3).astype(np.float32)
    mask = rng.random(values.shape) < 0.8
    mask[2] = False
    return values, targets, mask


def loop_concordance(values, targets, mask):
    found = []
    for x, y, m in zip(values.T, targets.T, mask.T, strict=True):
        x, y = x[m].astype(np.float64), y[m].astype(np.float64)
        if len(x) < 2:
            continue
        covariance = np.mean((x - x.mean()) * (y - y.mean()))
        spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
        found.append(1 - 2 * covariance / (spread + 1e-6))
    return np.mean(found) if found else 0.0


def loop_squared_error(values, targets, mask):
    rated = [column for column in range(mask.shape[1]) if mask[:, column].any()]
    errors = (values - targets).astype(np.float64) ** 2
    return np.mean([errors[mask[:, c], c].mean() for c in rated]) if rated else 0.0


def loop_huber(values, targets, mask):
    found = []
    for column in range(mask.shape[1]):
        rated = mask[:, column]
        errors = np.abs(values - targets).astype(np.float64)[rated, column]
        if errors.size:
            found.append(
                np.mean([e * e / 2 if e <= 1 else e - 0.5 for e in errors.tolist()])
            )
    return np.mean(found) if found else 0.0


RATING_LOOPS = {
    "ccc": loop_concordance,
    "mse": loop_squared_error,
    "huber": loop_huber,
}
RATING_LOSSES = {
    name: jax.jit(jax.value_and_grad(fn))
    for name, fn in losses.DIMENSION_LOSSES.items()
}


def second_derivative(fn):
    """Of the loss after a gradient step on itself, as the outer loop takes it."""

    def after_a_step(values, targets, mask):
        stepped = values - 0.5 * jax.grad(fn)(values, targets, mask)
        return fn(stepped, targets, mask)

    return jax.jit(jax.value_and_grad(after_a_step))


AFTER_A_STEP = {
    name: second_derivative(fn) for name, fn in losses.DIMENSION_LOSSES.items()
}


@pytest.mark.parametrize("name", RATING_LOSSES)
class TestDimensionLosses:
    def test_equal_a_loop_over_dimensions(self, rng, name):
        data = random_ratings(rng)
        loss, _ = RATING_LOSSES[name](*data)
        np.testing.assert_allclose(loss, RATING_LOOPS[name](*data), rtol=1e-5)

    def test_cells_that_are_not_rated_and_padding_do_not_matter(self, rng, name):
        values, targets, mask = random_ratings(rng)
        loss, grads = RATING_LOSSES[name](values, targets, mask)
        hidden = np.where(mask, values, np.nan), np.where(mask, targets, np.inf)
        padded = [np.pad(x, [(0, 5), (0, 0)], constant_values=9) for x in hidden]
        same, padded_grads = RATING_LOSSES[name](
            *padded, np.pad(mask, [(0, 5), (0, 0)])
        )
        np.testing.assert_allclose(same, loss, rtol=1e-6)
        np.testing.assert_allclose(padded_grads[:12], grads, rtol=1e-5, atol=1e-7)
        assert not padded_grads[12:].any()
        assert not grads[~mask].any()

    def test_a_dimension_that_is_not_rated_does_not_count(self, rng, name):
        values, targets, mask = random_ratings(rng)
        mask[:, 1] = False
        loss, _ = RATING_LOSSES[name](values, targets, mask)
        others = [x[:, [0, 2]] for x in (values, targets, mask)]
        np.testing.assert_allclose(loss, RATING_LOSSES[name](*others)[0], rtol=1e-6)

    @pytest.mark.parametrize("through_a_step", [False, True])
    def test_gradient_is_the_numerical_one(self, rng, name, through_a_step):
        """In float64, also of the loss after an inner step."""
        with jax.enable_x64(True):
            fn = (AFTER_A_STEP if through_a_step else RATING_LOSSES)[name]
            values, targets, mask = random_ratings(rng, samples=4)
            values = values.astype(np.float64)
            _, grads = fn(values, targets, mask)
            for index in np.ndindex(values.shape):
                step = np.zeros_like(values)
                step[index] = 1e-6
                above, below = (
                    fn(values + sign * step, targets, mask)[0] for sign in (1, -1)
                )
                slope = (above - below) / 2e-6
                np.testing.assert_allclose(grads[index], slope, atol=1e-8)

    @pytest.mark.parametrize(
        "case", ["nothing", "one rating", "equal ratings", "equal values", "all equal"]
    )
    def test_where_little_is_known_all_derivatives_are_finite(self, rng, name, case):
        values, targets, mask = random_ratings(rng, samples=6)
        mask = np.ones_like(mask)
        if case == "nothing":
            mask[:] = False
        if case == "one rating":
            mask[1:] = False
        if case in ("equal ratings", "all equal"):
            targets[:] = 0.7
        if case in ("equal values", "all equal"):
            values[:] = 0.7
        for fn in (RATING_LOSSES[name], AFTER_A_STEP[name]):
            loss, grads = fn(values, targets, mask)
            assert np.isfinite(loss)
            assert np.isfinite(grads).all()

    @pytest.mark.parametrize("samples", [0, 4])
    def test_without_a_rating_loss_and_gradient_are_zero(self, name, samples):
        values = np.full((samples, 2), 0.3, np.float32)
        loss, grads = RATING_LOSSES[name](values, values + 1, values > 9)
        assert loss == 0
        assert not grads.any()


class TestConcordanceLoss:
    def test_of_a_perfect_model_is_zero_and_of_an_opposite_one_two(self):
        y = np.array([[-1.0], [0.0], [1.0]], np.float32)
        mask = np.ones_like(y, bool)
        assert losses.concordance_loss(y, y, mask) < 1e-6
        np.testing.assert_allclose(losses.concordance_loss(-y, y, mask), 2, atol=1e-6)

    def test_asks_for_location_and_scale(self):
        """(x + c): 2 v / (2 v + c^2); (a x): 2 a v / (v + a^2 v); v = 2/3."""
        y = np.array([[-1.0], [0.0], [1.0]], np.float32)
        mask, v = np.ones_like(y, bool), 2 / 3
        shifted = losses.concordance_loss(y + 1, y, mask)
        np.testing.assert_allclose(shifted, 1 - 2 * v / (2 * v + 1), rtol=1e-5)
        scaled = losses.concordance_loss(3 * y, y, mask)
        np.testing.assert_allclose(scaled, 1 - 6 * v / (v + 9 * v), rtol=1e-5)

    @pytest.mark.parametrize(("rated", "expected"), [(1, 0.0), (6, 1.0)])
    def test_equal_ratings_teach_nothing_and_a_single_one_does_not_count(
        self, rng, rated, expected
    ):
        values = rng.normal(size=(6, 1)).astype(np.float32)
        mask = np.arange(6)[:, None] < rated
        loss, grads = RATING_LOSSES["ccc"](values, np.full_like(values, 0.5), mask)
        np.testing.assert_allclose(loss, expected, atol=1e-6)
        np.testing.assert_allclose(grads, 0, atol=1e-7)


class TestClassesAndDimensions:
    """The two losses of one batch, and what each adds."""

    def batch(self, rng):
        logits, labels, answered = random_batch(rng, classes=4)
        values, targets, rated = random_ratings(rng)
        outputs = np.concatenate([logits, values], 1)
        batch = Batch(
            outputs,
            np.concatenate([labels, targets], 1),
            np.concatenate([answered, rated], 1),
        )
        return batch, (logits, labels, answered), (values, targets, rated)

    @pytest.mark.parametrize("family", LOSSES)
    @pytest.mark.parametrize("name", RATING_LOOPS)
    def test_the_loss_is_the_weighted_sum(self, rng, family, name):
        batch, of_classes, of_dimensions = self.batch(rng)
        loss_fn = losses.make_loss_fn(
            lambda _, inputs: inputs, family, False, 0.05, 3, name, 0.7
        )
        expected = LOOPS[family](*of_classes, np.ones(4), 0.05)
        expected += 0.7 * RATING_LOOPS[name](*of_dimensions)
        np.testing.assert_allclose(jax.jit(loss_fn)({}, batch), expected, rtol=1e-5)

    def test_there_may_be_no_classes(self, rng):
        values, targets, rated = random_ratings(rng)
        loss_fn = losses.make_loss_fn(lambda _, x: x, num_dimensions=3)
        np.testing.assert_allclose(
            loss_fn({}, Batch(values, targets, rated)),
            loop_concordance(values, targets, rated),
            rtol=1e-5,
        )

    @pytest.mark.parametrize("num_dimensions", [0, 2, 5])
    def test_on_classes_leaves_dimensions_as_they_are(self, rng, num_dimensions):
        columns = rng.normal(size=(2, 3, 5)).astype(np.float32)
        found = losses.on_classes(jax.nn.softmax, columns, num_dimensions)
        classes = 5 - num_dimensions
        np.testing.assert_array_equal(found[..., classes:], columns[..., classes:])
        if classes:
            np.testing.assert_allclose(found[..., :classes].sum(-1), 1, rtol=1e-6)


class TestDimensionScale:
    RAW = np.array([[1, np.nan, 4, 3], [3, np.nan, 4, np.nan], [5, np.nan, 4, 7.0]])

    def test_is_that_of_what_was_rated(self):
        scale = losses.fit_dimension_scale(self.RAW)
        np.testing.assert_allclose(scale.mean, [3, 0, 4, 5])
        np.testing.assert_allclose(scale.deviation, [np.sqrt(8 / 3), 1, 1, 2])

    def test_joined_ratings_are_standardised_and_go_back(self, rng):
        raw = np.where(rng.random((50, 2)) < 0.8, rng.normal(40, 9, (50, 2)), np.nan)
        scale = losses.fit_dimension_scale(raw)
        labels = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 50)]
        targets, mask = losses.join_targets(labels, labels > 0, raw, scale)
        assert targets.dtype == np.float32
        np.testing.assert_array_equal(targets[:, :3], labels)
        np.testing.assert_array_equal(mask[:, :3], labels > 0)
        np.testing.assert_array_equal(mask[:, 3:], ~np.isnan(raw))
        assert not targets[~mask].any()
        z = np.where(mask, targets, np.nan)[:, 3:]
        np.testing.assert_allclose(np.nanmean(z, 0), 0, atol=1e-5)
        np.testing.assert_allclose(np.nanstd(z, 0), 1, rtol=1e-5)
        np.testing.assert_allclose(z * scale.deviation + scale.mean, raw, rtol=1e-5)

    def test_there_may_be_no_classes(self):
        scale = losses.fit_dimension_scale(self.RAW)
        none = np.zeros((3, 0), np.float32)
        targets, mask = losses.join_targets(none, none > 0, self.RAW, scale)
        assert targets.shape == mask.shape == (3, 4)
