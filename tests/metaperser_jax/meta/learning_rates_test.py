"""One learned rate for each tensor and step: made, repeated, clamped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax.errors import InputError
from metaperser_jax.meta import learning_rates

PARAMS = {
    "projector": {"kernel": np.ones((2, 3), np.float32)},
    "classifier": {"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, "f2")},
}


class TestInit:
    def test_gives_each_matching_tensor_one_rate_a_step_and_no_more(self):
        rates = learning_rates.init(PARAMS, "classifier/.*", 5, 0.01)
        assert set(rates) == {"classifier/kernel", "classifier/bias"}
        for rate in rates.values():
            np.testing.assert_allclose(rate, np.full(5, 0.01), rtol=1e-3)

    def test_gives_them_the_dtype_of_their_tensor_and_no_weak_type(self):
        rates = learning_rates.init(PARAMS, ".*", 3, 0.01)
        dtypes = {path: rate.dtype for path, rate in rates.items()}
        assert dtypes == {
            "classifier/bias": np.float16,
            "classifier/kernel": np.float32,
            "projector/kernel": np.float32,
        }
        assert not any(rate.weak_type for rate in rates.values())

    def test_of_no_steps_are_empty(self):
        rates = learning_rates.init(PARAMS, ".*", 0, 0.01)
        assert {rate.shape for rate in rates.values()} == {(0,)}

    def test_starts_from_the_value_asked(self):
        """Not from a default of its own."""
        for value in (0.01, 0.1, -2.0):
            rates = learning_rates.init(PARAMS, "projector/kernel", 2, value)
            assert rates["projector/kernel"].tolist() == [np.float32(value)] * 2

    @pytest.mark.parametrize(
        ("pattern", "steps", "message"),
        [(".*", -1, "num_steps=-1"), ("projector", 2, "matches no parameter")],
    )
    def test_what_cannot_be_is_named(self, pattern, steps, message):
        with pytest.raises(InputError) as error:
            learning_rates.init(PARAMS, pattern, steps, 0.1)
        assert message in str(error.value)


RATES = {"a": np.array([0.1, 0.2, 0.3], np.float32), "b": np.array([0.5], np.float32)}


class TestAtSteps:
    @pytest.mark.parametrize(
        ("steps", "a", "b"),
        [
            (0, [], []),
            (1, [0.1], [0.5]),
            (2, [0.1, 0.2], [0.5, 0.5]),
            (3, [0.1, 0.2, 0.3], [0.5] * 3),
            (6, [0.1, 0.2, 0.3, 0.3, 0.3, 0.3], [0.5] * 6),
        ],
    )
    def test_repeats_the_last_rate_beyond_the_learned_ones(self, steps, a, b):
        found = learning_rates.at_steps(RATES, steps, None)
        np.testing.assert_array_equal(found["a"], np.array(a, np.float32))
        np.testing.assert_array_equal(found["b"], np.array(b, np.float32))

    def test_sends_the_gradient_of_repeated_steps_to_the_last_rate(self):
        grads = jax.grad(lambda r: learning_rates.at_steps(r, 5, None)["a"].sum())(
            RATES
        )
        np.testing.assert_array_equal(grads["a"], [1, 1, 3])

    def test_clamps_the_values_when_bounded(self):
        found = learning_rates.at_steps(RATES, 3, (0.15, 0.25))
        np.testing.assert_allclose(found["a"], [0.15, 0.2, 0.25], rtol=1e-6)

    @pytest.mark.parametrize("bounds", [(0.0, 0.05), (0.9, 1.0), (0.15, 0.25)])
    def test_lets_the_gradient_through_the_clamp(self, bounds):
        def loss(rates):
            found = learning_rates.at_steps(rates, 3, bounds)
            return jnp.square(found["a"]).sum()

        grads = jax.grad(loss)(RATES)
        clamped = np.clip(RATES["a"], *bounds)
        np.testing.assert_allclose(grads["a"], 2 * clamped, rtol=1e-6)

    @pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_keeps_the_dtype(self, dtype, bounds):
        rates = {"a": np.array([0.1, 0.2], dtype)}
        found = learning_rates.at_steps(rates, 4, bounds)["a"]
        assert found.dtype == dtype
        assert not found.weak_type

    def test_steps_of_a_learner_trained_with_none_are_refused(self):
        with pytest.raises(InputError, match="no learning rate to repeat"):
            learning_rates.at_steps({"a": np.zeros(0, np.float32)}, 2, None)

    def test_no_steps_of_it_are_fine(self):
        found = learning_rates.at_steps({"a": np.zeros(0, np.float32)}, 0, (0.0, 1.0))
        assert found["a"].shape == (0,)
