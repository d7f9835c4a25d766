"""The dual form gives what the general inner loop gives, in all it is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax import heads, losses, trees
from metaperser_jax.errors import InputError
from metaperser_jax.meta import dual, learners
from metaperser_jax.typing import Batch, Episode, MetaParams

CLASSES, STEPS = 3, 3
ALL, LINEAR = ".*", "(projector|classifier)/.*"


def make_head(activation="none", listener_width=0, dtype=np.float64, layers=1, width=9):
    head = heads.make_head(CLASSES, 5, activation, listener_width)
    params = heads.init_head(head, jax.random.key(0), layers, width)
    rng = np.random.default_rng(1)
    return head, jax.tree.map(
        lambda leaf: (leaf + 0.1 * rng.normal(size=leaf.shape)).astype(dtype), params
    )


def make_batch(rng, tasks, samples, layers, width, dtype):
    """Labels of which some are missing, and a clip that nobody answered."""
    targets = (rng.random((tasks, samples, CLASSES)) < 0.4).astype(dtype)
    mask = np.broadcast_to(rng.random((tasks, samples, 1)) < 0.8, targets.shape)
    inputs = rng.normal(size=(tasks, samples, layers, width)).astype(dtype)
    return Batch(inputs, targets, mask.copy())


def make_episodes(
    rng, tasks=2, support=4, query=3, layers=1, width=9, dtype=np.float64
):
    shape = (layers, width, dtype)
    return Episode(
        make_batch(rng, tasks, support, *shape), make_batch(rng, tasks, query, *shape)
    )


def results(inner, head, params, episodes, order="second", rate=0.3, **options):
    """All that a learner is asked for: losses, gradients, parameters, predictions."""
    layer = heads.first_layer(episodes.support.inputs.shape[-2])

    def loss_fn(params, batch):
        logits = heads.apply_head(head, params, batch.inputs)
        return losses.multilabel_cross_entropy(
            logits, batch.targets, batch.mask, smoothing=0.05
        )

    learner = learners.maml(loss_fn, STEPS, layer=layer, inner=inner, **options)
    rates = learner.init(params).learning_rates
    rates = {
        path: rate * (1 + 0.1 * np.arange(STEPS, dtype=value.dtype) + 0.05 * number)
        for number, (path, value) in enumerate(rates.items())
    }
    meta_params = MetaParams(params, rates)

    @jax.jit
    def compute(meta_params, episodes):
        def meta_loss(meta_params):
            return learner.meta_loss(meta_params, episodes, order=order)

        (loss, info), grads = jax.value_and_grad(meta_loss, has_aux=True)(meta_params)
        support, query = jax.tree.map(lambda leaf: leaf[0], episodes)
        adapted, _ = learner.adapt(meta_params, support)
        answering, _, seen = learner.adapt_for(
            meta_params, support, query, observe=lambda p: loss_fn(p, query)
        )
        logits = heads.apply_head(head, answering, query.inputs)
        return loss, info, grads, adapted, logits, seen

    return compute(meta_params, jax.tree.map(jnp.asarray, episodes))


def assert_same(general, other, tolerance):
    assert jax.tree.structure(general) == jax.tree.structure(other)
    for (path, a), b in zip(
        trees.flatten(general).items(), jax.tree.leaves(other), strict=True
    ):
        size = max(np.abs(a).max(), 1e-3)
        np.testing.assert_allclose(b / size, a / size, atol=tolerance, err_msg=path)


@pytest.mark.parametrize(
    ("adapt", "layers", "activation", "order", "options"),
    [
        (ALL, 1, "none", "second", {}),
        (ALL, 1, "gelu", "first", {}),
        (ALL, 1, "gelu", "second", {"proximal": 0.3}),
        (ALL, 3, "gelu", "second", {"proximal": 0.3}),  # the inputs move
        (ALL, 3, "none", "first", {"proximal": 0.3}),
        (LINEAR, 3, "none", "first", {}),  # weights of layers are learned, not adapted
        (LINEAR, 3, "gelu", "second", {"multi_step_weights": (0.2, 0.3, 0.5)}),
        ("projector/kernel", 1, "gelu", "second", {"rate_bounds": (0.0, 0.32)}),
        ("classifier/.*", 3, "gelu", "second", {}),  # ANIL
        (ALL, 1, "gelu", "second", {"remat": True, "task_chunk": 1}),
    ],
)
def test_in_float64(rng, adapt, layers, activation, order, options):
    with jax.enable_x64(True):
        head, params = make_head(activation, layers=layers)
        episodes = make_episodes(rng, layers=layers)
        given = {"adapt": adapt, "order": order, **options}
        general = results("general", head, params, episodes, **given)
        assert_same(general, results("dual", head, params, episodes, **given), 1e-10)


def test_in_float32(rng):
    head, params = make_head("gelu", dtype=np.float32, width=64)
    episodes = make_episodes(rng, 3, 16, 16, 1, 64, np.float32)
    general = results("general", head, params, episodes)
    assert_same(general, results("dual", head, params, episodes), 1e-5)


def test_an_embedding_behind_the_layer(rng):
    with jax.enable_x64(True):
        head, params = make_head("gelu", listener_width=2)
        episodes = make_episodes(rng)
        given = {"adapt": "listener/embedding"}
        general = results("general", head, params, episodes, **given)
        assert_same(general, results("dual", head, params, episodes, **given), 1e-10)


@given(
    tasks=st.integers(1, 3),
    support=st.integers(1, 6),
    query=st.integers(1, 5),
    layers=st.integers(1, 2),
    width=st.integers(1, 8),
    seed=st.integers(0, 99),
)
@settings(max_examples=2)
def test_any_shape(tasks, support, query, layers, width, seed):
    with jax.enable_x64(True):
        head, params = make_head("gelu", layers=layers, width=width)
        rng = np.random.default_rng(seed)
        episodes = make_episodes(rng, tasks, support, query, layers, width)
        general = results("general", head, params, episodes)
        assert_same(general, results("dual", head, params, episodes), 1e-10)


def rates_for(*paths, steps=STEPS):
    return {path: jnp.ones(steps) for path in paths}


@pytest.mark.parametrize(
    ("layers", "paths", "support", "always", "expected"),
    [
        (1, ("projector/kernel",), 9, False, True),
        (1, ("projector/kernel",), 10, False, False),  # more rows than the kernel has
        (1, ("projector/kernel",), 10, True, True),
        (2, ("projector/kernel", "layers/weights"), 3, False, True),
        (2, ("projector/kernel", "layers/weights"), 4, False, False),  # 3 x 4 rows
        (1, ("layers/weights",), 9, False, True),  # one weight: nothing moves
        (2, ("layers/weights",), 9, True, False),  # the kernel stays, its inputs move
        (2, ("classifier/kernel",), 99, False, True),
    ],
)
def test_where_it_is_chosen(layers, paths, support, always, expected):
    batch = Batch(np.zeros((support, layers, 9)), None, np.ones((support, 3), bool))
    layer = heads.first_layer(layers)
    assert dual.applies(layer, rates_for(*paths), batch, always) == expected


def test_without_a_layer_there_is_none():
    assert not dual.applies(None, {}, Batch(None, None, None), True)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("fast", "inner='fast': expected one of auto, general, dual"),
        ("dual", "needs `layer`"),
    ],
)
def test_choices_that_cannot_be(inner, message):
    with pytest.raises(InputError, match=message):
        learners._check_maml(5, None, None, None, inner)


def test_no_copy_of_the_kernel_is_made_for_a_listener(rng):
    """256 listeners would need 256 kernels; all temporary memory is less than that."""
    head, params = make_head(dtype=np.float32, width=512)
    episodes = make_episodes(rng, 256, 4, 4, width=512, dtype=np.float32)
    learner = learners.maml(
        lambda p, b: losses.multilabel_cross_entropy(
            heads.apply_head(head, p, b.inputs), b.targets, b.mask
        ),
        layer=heads.first_layer(1),
    )

    def meta_loss(meta_params):
        return learner.meta_loss(meta_params, episodes, order="second")[0]

    compiled = jax.jit(jax.grad(meta_loss)).lower(learner.init(params)).compile()
    kernels = 256 * params["projector"]["kernel"].nbytes
    assert compiled.memory_analysis().temp_size_in_bytes < kernels
