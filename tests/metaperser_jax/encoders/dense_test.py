"""Linear maps and the feed-forward block against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from metaperser_jax.encoders import dense
from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.numerics import Numerics

WIDTH, INNER = 6, 15  # no multiple: the last units are fewer
CONFIG = SpeechConfig(
    hidden_size=WIDTH,
    intermediate_size=INNER,
    activation_dropout=0.0,
    hidden_dropout=0.0,
)
each_numerics = pytest.mark.parametrize(
    "numerics",
    [Numerics(d, k) for d in ("float32", "bfloat16") for k in ("cpu", "accelerator")],
    ids=lambda n: f"{n.dtype}-{n.layout}",
)


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def linear(rng, inputs, features):
    return {"kernel": draw(rng, inputs, features), "bias": draw(rng, features)}


def rounded(x, dtype):
    return np.asarray(jnp.asarray(x, dtype), np.float64)


@each_numerics
def test_dense_is_a_linear_map_of_rounded_operands(rng, numerics):
    params, x = linear(rng, 5, 3), jnp.asarray(draw(rng, 2, 4, 5))
    found = dense.Dense(5, 3, numerics).apply({"params": params}, x)
    assert found.dtype == jnp.float32
    operands = (rounded(a, numerics.dtype) for a in (x, params["kernel"]))
    expected = np.matmul(*operands) + params["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@each_numerics
@pytest.mark.parametrize("train", [False, True])
def test_feed_forward_is_its_equations(rng, numerics, train):
    params = {
        "intermediate_dense": linear(rng, WIDTH, INNER),
        "output_dense": linear(rng, INNER, WIDTH),
    }
    x = jnp.asarray(draw(rng, 2, 7, WIDTH))
    module = dense.FeedForward(CONFIG, numerics)
    rngs = {"dropout": jax.random.key(0)}
    found = module.apply({"params": params}, x, train, rngs=rngs)
    first, second = params["intermediate_dense"], params["output_dense"]
    units = np.asarray(x, np.float64) @ first["kernel"] + first["bias"]
    units = units * scipy.special.ndtr(units)
    expected = units @ second["kernel"] + second["bias"]
    error = 1e-5 if numerics.dtype == "float32" else 2e-2
    np.testing.assert_allclose(found, expected, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("where", ["activation_dropout", "hidden_dropout"])
def test_units_are_dropped_in_training_only(rng, where):
    params = {
        "intermediate_dense": linear(rng, WIDTH, INNER),
        "output_dense": linear(rng, INNER, WIDTH),
    }
    x = jnp.asarray(draw(rng, 1, 500, WIDTH))
    module = dense.FeedForward(CONFIG._replace(**{where: 0.4}), Numerics())
    without = module.apply({"params": params}, x, False)
    rngs = {"dropout": jax.random.key(1)}
    found = module.apply({"params": params}, x, True, rngs=rngs)
    dropped = found == 0.0
    if where == "hidden_dropout":
        assert dropped.mean() == pytest.approx(0.4, abs=0.03)
        expected = np.where(dropped, 0.0, without / 0.6)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    else:
        assert not dropped.any()
        assert (found != without).mean() > 0.99


def test_gradients_do_not_depend_on_how_units_are_divided(rng):
    params = {
        "intermediate_dense": linear(rng, WIDTH, INNER),
        "output_dense": linear(rng, INNER, WIDTH),
    }
    x = jnp.asarray(draw(rng, 2, 7, WIDTH))

    def gradients(layout):
        module = dense.FeedForward(CONFIG, Numerics("bfloat16", layout))

        def scalar(params):
            return jnp.sin(module.apply({"params": params}, x, False)).sum()

        return jax.jit(jax.grad(scalar))(params)

    for ours, theirs in zip(
        *(jax.tree.leaves(gradients(layout)) for layout in ("cpu", "accelerator")),
        strict=True,
    ):
        atol = 2e-2 * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, atol=atol)
