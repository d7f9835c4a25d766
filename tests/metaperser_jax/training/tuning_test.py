"""Steps of an encoder and a head: several batches count as one, bad ones not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metaperser_jax import features, losses
from metaperser_jax.training import state, tuning
from metaperser_jax.typing import MetaParams

CLIPS, LAYERS, WIDTH, CLASSES = 4, 2, 3, 3
WEIGHTS = np.array([0.5, 1.0, 1.5], np.float32)


def encode_fn(frozen, trained, waveforms, lengths, key):
    """Means of waveform times kernel, and their squares; the key counts nothing."""
    inside = jnp.arange(waveforms.shape[1])[None] < lengths[:, None]
    mean = jnp.where(inside, waveforms, 0).sum(1) / jnp.maximum(lengths, 1)
    units = jnp.tanh(mean[:, None] * trained["kernel"][:, 0][None] + frozen[None])
    return jnp.stack([units, units**2], 1)


def logits_fn(head, pooled):
    return pooled.sum(1) @ head["kernel"] + head["bias"][None]


def make_params(seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return {
        "encoder": {"kernel": draw(WIDTH, 1)},
        "head": {"kernel": draw(WIDTH, CLASSES), "bias": draw(CLASSES)},
    }


def make_fixed():
    rng = np.random.default_rng(1)
    mean, scale = rng.random((2, LAYERS, WIDTH)).astype(np.float32)
    return tuning.Fixed(
        rng.normal(size=WIDTH).astype(np.float32),
        mean,
        scale + 0.5,
        np.float32(tuning.LIMIT),
        WEIGHTS,
    )


def make_batch(clips, seed=0, samples=10, pairs=12):
    """`clips` clips with three labels each, the rest is padding."""
    rng = np.random.default_rng(seed)
    waveforms = rng.normal(size=(CLIPS, samples)).astype(np.float32)
    lengths = np.where(np.arange(CLIPS) < clips, samples, 0).astype(np.int32)
    clip = np.repeat(np.arange(CLIPS), pairs // CLIPS).astype(np.int32)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, pairs)]
    targets = np.maximum(targets, rng.integers(0, 2, targets.shape)).astype(np.float32)
    mask = (rng.random((pairs, CLASSES)) < 0.8) | (targets > 0)
    return tuning.ClipBatch(
        waveforms, lengths, clip, targets, mask & (clip < clips)[:, None]
    )


def joined(a, b):
    """Returns two batches of one length as one."""
    parts = zip(a, b._replace(clip=b.clip + CLIPS), strict=True)
    return tuning.ClipBatch(*map(np.concatenate, parts))


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-5, 1e-6), a, b)


FAMILIES = ("softmax", "sigmoid")
KEY = jax.random.key(0)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def gradient(family):
    return tuning.make_gradient(encode_fn, logits_fn, family, 0.05)


class TestGradient:
    def test_it_is_that_of_the_mean_over_all_pairs(self, gradient, family):
        """The loss of each pair alone, with its clip encoded anew."""
        params, fixed, batch = make_params(), make_fixed(), make_batch(3)

        def plain(params):
            terms = []
            for pair in range(len(batch.clip)):
                clip = batch.clip[pair : pair + 1]
                pooled = encode_fn(
                    fixed.frozen, params["encoder"], batch.waveforms[clip],
                    batch.lengths[clip], KEY,
                )  # fmt: skip
                inputs = (pooled - fixed.mean[None]) / fixed.scale[None]
                answers = batch.targets[pair][None], batch.mask[pair][None]
                loss = losses.LOSSES[family](
                    logits_fn(params["head"], inputs), *answers, WEIGHTS, 0.05
                )
                cells = 1 if family == "softmax" else batch.mask[pair].sum()
                terms.append(loss * cells if batch.mask[pair].any() else 0.0)
            return sum(terms)

        found = gradient(params, fixed, batch, KEY)
        loss, grads = jax.value_and_grad(plain)(params)
        cells = int(batch.mask.sum())
        assert int(found.count) == (9 if family == "softmax" else cells)
        assert_close((found.loss, found.grads), (loss, grads))

    def test_two_batches_count_as_one(self, gradient):
        params, fixed = make_params(), make_fixed()
        first, second = make_batch(4, 0), make_batch(2, 1)
        found = tuning.add_sums(
            gradient(params, fixed, first, KEY), gradient(params, fixed, second, KEY)
        )
        assert_close(found, gradient(params, fixed, joined(first, second), KEY))

    def test_an_empty_batch_adds_nothing(self, gradient):
        found = gradient(make_params(), make_fixed(), make_batch(0), KEY)
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(found))


class TestStandardise:
    POOLED = np.random.default_rng(2).normal(0, 9, (6, LAYERS, WIDTH)).astype("f4")

    def test_the_head_sees_what_it_sees_of_features(self):
        fixed = make_fixed()
        scaler = features.Scaler(fixed.mean, fixed.scale)
        expected = features.standardise(scaler, self.POOLED)
        assert (np.abs(expected) == fixed.limit).any()
        found = tuning.standardise(self.POOLED, fixed)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)

    def test_the_gradient_reaches_what_is_clipped(self):
        fixed = make_fixed()
        grads = jax.grad(lambda x: tuning.standardise(x, fixed).sum())(self.POOLED)
        expected = np.broadcast_to(1 / fixed.scale, grads.shape)
        np.testing.assert_allclose(grads, expected, rtol=1e-6)

    def test_without_a_limit_nothing_is_clipped(self):
        fixed = make_fixed()._replace(limit=np.float32(np.inf))
        found = tuning.standardise(self.POOLED, fixed)
        expected = (self.POOLED - fixed.mean) / fixed.scale
        np.testing.assert_allclose(found, expected, rtol=1e-5)


class TestStep:
    def begin(self, **settings):
        tx = tuning.tuning_optimizer(0.1, 0.2, 10, **settings)
        begun = state.init_state(MetaParams(make_params(), {}), tx)
        return tuning.make_tuning_step(tx), begun

    def sums(self, loss=6.0, poison=False):
        grads = jax.tree.map(jnp.ones_like, make_params())
        if poison:
            grads["head"]["bias"] = grads["head"]["bias"] * jnp.nan
        return tuning.Sums(jnp.float32(loss), jnp.float32(3), grads)

    def test_the_loss_is_the_mean(self):
        step, begun = self.begin()
        _, loss = step(begun, self.sums())
        assert float(loss) == 2.0

    @pytest.mark.parametrize("fault", [{"poison": True}, {"loss": np.inf}])
    def test_what_is_not_finite_is_skipped_and_counted(self, fault):
        step, begun = self.begin()
        current, _ = step(begun, self.sums(**fault))
        jax.tree.map(
            np.testing.assert_array_equal, current.meta_params.params, make_params()
        )
        assert [int(n) for n in current[2:]] == [1, 1, 1]
        current, _ = step(current, self.sums())
        assert [int(n) for n in current[2:]] == [2, 1, 0]

    def test_each_group_has_its_rate_and_only_kernels_decay(self):
        step, begun = self.begin(warmup=0.0, weight_decay=0.5)
        current, _ = step(begun, self.sums())
        moved = jax.tree.map(
            lambda a, b: np.asarray(a - b), current.meta_params.params, make_params()
        )
        start = make_params()  # Adam's first step is the rate, whatever the gradient
        expected = {
            "encoder": {"kernel": -0.1 * (1 + 0.5 * start["encoder"]["kernel"])},
            "head": {
                "kernel": -0.2 * (1 + 0.5 * start["head"]["kernel"]),
                "bias": jnp.full(CLASSES, -0.2),
            },
        }
        assert_close(moved, jax.tree.map(np.asarray, expected))

    def test_the_gradient_of_both_is_clipped_together(self):
        tx = tuning.tuning_optimizer(1.0, 1.0, 10, clip_norm=1.0)
        grads = MetaParams(jax.tree.map(jnp.ones_like, make_params()), {})
        params = MetaParams(make_params(), {})
        _, opt_state = tx.update(grads, tx.init(params), params)
        first_moments = optax.tree_utils.tree_get_all_with_path(opt_state, "mu")
        size = sum(leaf.size for leaf in jax.tree.leaves(make_params()))
        values = [leaf for _, mu in first_moments for leaf in jax.tree.leaves(mu)]
        assert len(values) == 3
        for leaf in values:
            np.testing.assert_allclose(leaf, 0.1 / np.sqrt(size), rtol=1e-5)


@pytest.mark.parametrize(
    ("num_steps", "warmup", "expected"),
    [
        (10, 0.2, [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]),
        (4, 0.0, [1, 1, 2 / 3, 1 / 3, 0]),
        (1, 0.1, [1, 0]),
    ],
)
def test_rates_rise_and_fall(num_steps, warmup, expected):
    schedule = tuning.rise_and_fall(3.0, num_steps, warmup)
    found = [schedule(jnp.asarray(step)) for step in range(num_steps + 1)]
    np.testing.assert_allclose(found, 3.0 * np.array(expected), rtol=1e-6)
