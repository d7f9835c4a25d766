"""The inner loop against a loop in plain Python, and what padding must not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from metaperser_jax import trees
from metaperser_jax.meta import inner_loop
from metaperser_jax.meta.inner_loop import InnerLoop
from metaperser_jax.typing import Batch

CLASSES, WIDTH = 3, 4


def loss_fn(params, batch):
    """A net whose parameters lie three containers deep."""
    first, second = params["net"]["layers"]
    hidden = jnp.tanh(batch.inputs[:, 0] @ first["kernel"]) * params["scale"]
    logits = hidden @ second["kernel"] + second["bias"][None, :]
    losses = -(batch.targets * jax.nn.log_softmax(logits)).sum(-1)
    kept = batch.mask.any(-1)
    total = jnp.where(kept, losses, 0.0).sum()
    return total / jnp.maximum(kept.sum(), 1).astype(total.dtype)


def make_params(rng, dtype=np.float32):
    return {
        "net": {
            "layers": [
                {"kernel": rng.normal(size=(WIDTH, 5)).astype(dtype)},
                {
                    "kernel": rng.normal(size=(5, CLASSES)).astype(dtype),
                    "bias": rng.normal(size=CLASSES).astype(dtype),
                },
            ]
        },
        "scale": np.ones((), dtype),
    }


def make_rates(rng, params, steps, dtype=np.float32):
    return {
        p: rng.uniform(0.1, 0.5, steps).astype(dtype) for p in trees.flatten(params)
    }


def make_batch(rng, samples=6, dtype=np.float32):
    return Batch(
        rng.normal(size=(samples, 1, WIDTH)).astype(dtype),
        np.eye(CLASSES, dtype=dtype)[rng.integers(0, CLASSES, samples)],
        np.broadcast_to(rng.random((samples, 1)) < 0.8, (samples, CLASSES)).copy(),
    )


# All that is not an array is static: equal settings share one compilation.
@functools.partial(jax.jit, static_argnames=("loop", "order", "num_steps", "observe"))
def run(loop, params, rates, support, order="first", num_steps=None, observe=None):
    return inner_loop.run(
        loop,
        loss_fn,
        params,
        rates,
        support,
        order=order,
        num_steps=num_steps,
        observe=observe,
    )


value_and_grad = jax.jit(jax.value_and_grad(loss_fn))


def assert_close(a, b, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
    )


def python_loop(params, rates, support, proximal=0.0):
    """phi <- phi - alpha * g, written out; returns every phi and every loss."""
    theta, points, losses = trees.flatten(params), [], []
    for step in range(len(next(iter(rates.values())))):
        loss, grads = value_and_grad(params, support)
        leaves, grads = trees.flatten(params), trees.flatten(grads)
        drift = {path: leaves[path] - theta[path] for path in rates}
        new = {
            path: leaves[path]
            - rates[path][step] * (np.asarray(grads[path]) + proximal * drift[path])
            for path in rates
        }
        pull = sum(np.square(d).sum() for d in drift.values())
        losses.append(loss + 0.5 * proximal * pull)
        params = trees.replace(params, new)
        points.append(params)
    return points, np.array(losses)


class TestRun:
    @pytest.mark.parametrize("proximal", [0.0, 0.7])
    @pytest.mark.parametrize("adapted", [".*", ".*/1/.*"])
    def test_is_the_loop_of_the_equations(self, rng, proximal, adapted):
        params, support = make_params(rng), make_batch(rng)
        rates = trees.select(make_rates(rng, params, 4), trees.match(params, adapted))
        points, losses = python_loop(params, rates, support, proximal)
        found, info, seen = run(InnerLoop(4, proximal=proximal), params, rates, support)
        assert_close(found, points[-1])
        np.testing.assert_allclose(info.support_losses, losses, rtol=1e-5)
        assert seen is None

    def test_stacks_what_is_observed_after_each_step(self, rng):
        params, support = make_params(rng), make_batch(rng)
        rates = make_rates(rng, params, 4)
        points, _ = python_loop(params, rates, support)
        _, _, seen = run(
            InnerLoop(4), params, rates, support, observe=lambda phi: phi["net"]
        )
        assert_close(seen, jax.tree.map(lambda *x: np.stack(x), *points)["net"])

    def test_never_touches_tensors_without_rates(self, rng):
        params, support = make_params(rng), make_batch(rng)
        rates = {"scale": np.full(3, 0.2, np.float32)}
        found, _, _ = run(InnerLoop(3), params, rates, support)
        np.testing.assert_array_equal(found["net"]["layers"][0]["kernel"],
                                      params["net"]["layers"][0]["kernel"])  # fmt: skip
        assert found["scale"] != params["scale"]

    @pytest.mark.parametrize("num_steps", [0, 1, 6])
    def test_takes_as_many_steps_as_asked(self, rng, num_steps):
        params, support = make_params(rng), make_batch(rng)
        rates = make_rates(rng, params, 3)
        index = np.minimum(np.arange(num_steps), 2)
        expected = params
        if num_steps:
            extended = {path: rate[index] for path, rate in rates.items()}
            expected = python_loop(params, extended, support)[0][-1]
        found, info, _ = run(InnerLoop(3), params, rates, support, num_steps=num_steps)
        assert_close(found, expected)
        assert info.support_losses.shape == (num_steps,)

    def test_clamps_the_rates_it_uses(self, rng):
        params, support = make_params(rng), make_batch(rng)
        rates = {path: rate - 0.3 for path, rate in make_rates(rng, params, 3).items()}
        clamped = {path: np.clip(rate, 0.0, 0.1) for path, rate in rates.items()}
        found, _, _ = run(InnerLoop(3, (0.0, 0.1)), params, rates, support)
        assert_close(found, python_loop(params, clamped, support)[0][-1])

    def test_without_rates_observes_the_shared_parameters(self, rng):
        params, support = make_params(rng), make_batch(rng)
        found, info, _ = run(InnerLoop(2), params, {}, support)
        assert_close(found, params, rtol=0, atol=0)
        loss = value_and_grad(params, support)[0]
        np.testing.assert_allclose(info.support_losses, [loss, loss], rtol=1e-6)


class TestDtypes:
    @pytest.mark.parametrize("proximal", [0.0, 0.5])
    @pytest.mark.parametrize("wide", [False, True])
    def test_single_precision_stays_single_and_strong(self, rng, proximal, wide):
        """Also where double precision is switched on, as in the oracles' tests."""
        with jax.enable_x64(wide):
            params, support = make_params(rng), make_batch(rng)
            loop = InnerLoop(3, (0.0, 1.0), proximal)
            found, info, _ = run(loop, params, make_rates(rng, params, 3), support)
            for leaf in [*jax.tree.leaves(found), info.support_losses]:
                assert leaf.dtype == jnp.float32
                assert not leaf.weak_type

    def test_the_adapted_tensors_have_the_types_of_the_shared_ones(self, rng):
        """So that what takes either compiles once."""
        params, support = make_params(rng), make_batch(rng)
        compiled = jax.jit(loss_fn)
        found, _, _ = run(InnerLoop(3), params, make_rates(rng, params, 3), support)
        compiled(jax.tree.map(jnp.asarray, params), support)
        compiled(found, support)
        assert compiled._cache_size() == 1


@functools.partial(jax.jit, static_argnames="order")
def meta_grads(order, params, rates, support, query):
    def outer(params, rates):
        loop = InnerLoop(3)
        phi, _, _ = inner_loop.run(loop, loss_fn, params, rates, support, order=order)
        return loss_fn(phi, query)

    return jax.value_and_grad(outer, argnums=(0, 1))(params, rates)


class TestOrders:
    """Meta-gradients of nested trees, by differences in double precision."""

    @pytest.fixture(autouse=True)
    def float64(self):
        with jax.enable_x64(True):
            yield

    def draw(self, rng):
        params = make_params(rng, np.float64)
        rates = make_rates(rng, params, 3, np.float64)
        support, query = (make_batch(rng, dtype=np.float64) for _ in range(2))
        return params, rates, support, query

    def test_second_order_is_the_slope_of_the_outer_loss(self, rng):
        params, rates, support, query = self.draw(rng)
        grads = meta_grads("second", params, rates, support, query)[1]
        point, rebuild = ravel_pytree((params, rates))
        for _ in range(3):
            direction = rng.normal(size=point.size)
            ahead, behind = (
                meta_grads("second", *rebuild(point + h * direction), support, query)[0]
                for h in (1e-5, -1e-5)
            )
            slope = np.vdot(ravel_pytree(grads)[0], direction)
            np.testing.assert_allclose((ahead - behind) / 2e-5, slope, rtol=1e-7)

    def test_first_order_holds_the_inner_gradients_fixed(self, rng):
        """dJ/dtheta = grad J(phi_n); dJ/dalpha[l, s] = -<g_s[l], grad_l J(phi_n)>."""
        params, rates, support, query = self.draw(rng)
        _, (dparams, drates) = meta_grads("first", params, rates, support, query)
        points, _ = python_loop(params, rates, support)
        outer = value_and_grad(points[-1], query)[1]
        assert_close(dparams, outer, rtol=1e-10, atol=1e-14)
        outer = trees.flatten(outer)
        for step, point in enumerate([params, *points[:-1]]):
            inner = trees.flatten(value_and_grad(point, support)[1])
            for path, rate in drates.items():
                expected = -np.vdot(inner[path], outer[path])
                np.testing.assert_allclose(rate[step], expected, rtol=1e-9, atol=1e-14)

    def test_they_differ_in_every_tensor_and_every_rate_but_the_last(self, rng):
        _, first = meta_grads("first", *(arguments := self.draw(rng)))
        _, second = meta_grads("second", *arguments)
        for a, b in zip(*map(jax.tree.leaves, (first[0], second[0])), strict=True):
            assert np.abs(a - b).max() > 1e-3 * np.abs(b).max()
        for path, rate in first[1].items():
            other = second[1][path]
            assert (np.abs(rate - other)[:-1] > 1e-6 * np.abs(other)[:-1]).all(), path
            np.testing.assert_allclose(rate[-1], other[-1], rtol=1e-9)


SIZE = 8  # rows of a padded batch: one compilation for all examples


@settings(max_examples=25, deadline=None)
@given(
    kept=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE),
    filling=st.sampled_from([0.0, 1.0, -3.0, 1e4]),
    seed=st.integers(0, 2**16),
)
def test_rows_that_nobody_answered_never_matter(kept, filling, seed):
    """Whatever they hold, wherever they stand, and however many they are."""
    rng = np.random.default_rng(seed)
    params = make_params(rng)
    rates = make_rates(rng, params, 3)
    batch = make_batch(rng, SIZE)
    batch = batch._replace(mask=np.repeat(np.array(kept)[:, None], CLASSES, axis=1))
    rows = np.array(kept)[:, None]
    filled = Batch(
        np.where(rows[..., None], batch.inputs, np.float32(filling)),
        np.where(rows, batch.targets, np.float32(filling)),
        batch.mask,
    )
    order = np.argsort(~np.array(kept), kind="stable")
    moved = jax.tree.map(lambda leaf: leaf[order], filled)
    found, info, _ = run(InnerLoop(3, proximal=0.1), params, rates, batch)
    for other in (filled, moved):
        adapted, losses, _ = run(InnerLoop(3, proximal=0.1), params, rates, other)
        assert_close(adapted, found, rtol=1e-4, atol=1e-5)
        assert_close(losses, info, rtol=1e-4, atol=1e-5)
    if not any(kept):
        assert_close(found, params, rtol=0, atol=0)


class TestOverTasks:
    @pytest.mark.parametrize("chunk", [None, 1, 2, 4, 7])
    def test_maps_over_the_first_axis_of_a_tree(self, rng, chunk):
        tasks = {"a": rng.normal(size=(5, 3)), "b": rng.normal(size=5)}
        found = jax.jit(
            lambda t: inner_loop.over_tasks(lambda x: x["a"].sum() * x["b"], t, chunk)
        )(tasks)
        np.testing.assert_allclose(found, tasks["a"].sum(1) * tasks["b"], rtol=1e-5)


class TestMeanOverTasks:
    """A loss (shared * part * task)^2, whose gradients are known."""

    TASKS = 5

    def given(self, rng):
        return 0.7, rng.normal(size=self.TASKS), rng.normal(size=self.TASKS)

    def mean(self, chunk, weights):
        def fn(shared, part, task):
            return (shared * part * task) ** 2, part

        def loss_fn(shared, parts, tasks):
            loss, *rest = inner_loop.mean_over_tasks(
                fn, shared, parts, tasks, chunk, weights
            )
            return loss, rest

        return loss_fn

    @pytest.mark.parametrize("chunk", [1, 2, 5, 8])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_value_and_gradients(self, rng, chunk, weighted):
        shared, parts, tasks = self.given(rng)
        some = np.array([0.5, 0.25, 0.0, 0.25, 0.0], np.float32)
        used = some if weighted else np.full(self.TASKS, 1 / self.TASKS)
        loss_fn = self.mean(chunk, jnp.asarray(some) if weighted else None)
        with jax.enable_x64(True):
            arguments = [jnp.asarray(x) for x in (shared, parts, tasks)]
            (loss, rest), grads = jax.value_and_grad(loss_fn, (0, 1), has_aux=True)(
                *arguments
            )
            alone, _ = loss_fn(*arguments)
        losses = (shared * parts * tasks) ** 2
        np.testing.assert_allclose(loss, used @ losses, rtol=1e-12)
        np.testing.assert_allclose(alone, loss, rtol=1e-12)
        np.testing.assert_allclose(grads[0], 2 * used @ losses / shared, rtol=1e-12)
        np.testing.assert_allclose(grads[1], 2 * used * losses / parts, rtol=1e-12)
        np.testing.assert_allclose(rest[0], losses, rtol=1e-12)
        np.testing.assert_array_equal(rest[1], parts)
