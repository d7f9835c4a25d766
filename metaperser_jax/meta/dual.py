"""The inner loop in dual form: no listener's copy of the first kernel is ever made.

Let X [K, D] be the inputs of a dense layer for the K support clips, W_0 [D, H] its
shared kernel and G_s [K, H] the gradient of the support loss by the layer's outputs
after s steps. Gradient descent with one rate per step keeps the kernel in the span of
the inputs:

    W_s = W_0 - X^T A_s,    A_0 = 0,    A_{s+1} = A_s + alpha_s (G_s - p A_s),

p the weight of the proximal term. So for any rows R, with gram = X X^T,

    R W_s = R W_0 - (R X^T) A_s,    |W_s - W_0|^2 = <A_s, gram A_s>.

R W_0 is one product for all listeners; a step costs K x K x H instead of K x D x H.
This is exact, and so are its derivatives. Where the layer's inputs change too (adapted
layer weights), X_s is kept for each step:

    W_s = W_0 - sum_t X_t^T A_{t,s}.

See docs/inner_loop.md.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metaperser_jax import kernels, trees
from metaperser_jax.kernels import FixedDense
from metaperser_jax.meta import learning_rates as rates_lib
from metaperser_jax.meta.inner_loop import InnerLoop, LossFn, inner_objective
from metaperser_jax.typing import (
    AdaptInfo,
    Array,
    Batch,
    Episode,
    MetaParams,
    Order,
    Params,
)

Leaves = dict[str, Any]  # path -> tensor


class Prepared(NamedTuple):
    """What the recursion reads of fixed inputs: X of the support, R of the query."""

    units: jax.Array  # [support, units] X W_0
    gram: jax.Array | None  # [support, support] X X^T; None: the kernel stays W_0
    asked: jax.Array | None  # [query, units] R W_0; None: there is no query
    cross: jax.Array | None  # [query, support] R X^T


class State(NamedTuple):
    """The adapted kernel W_0 - X^T A."""

    coefficients: jax.Array  # A [support, units]


class MovingState(NamedTuple):
    """The same where X changes: W_0 - sum_t X_t^T A_t."""

    coefficients: jax.Array  # A [steps, support, units]
    rows: jax.Array  # X [steps, support, width]


AnyState = Any  # State or MovingState


class Form(NamedTuple):
    """What differs between fixed inputs and inputs that adaptation moves."""

    start: AnyState
    kernel: Callable[[AnyState], Any]  # the kernel, for the support rows
    add: Callable[
        [AnyState, jax.Array, Leaves, Any], AnyState
    ]  # state, alpha_s G_s, the
    #   other adapted tensors, s -> the state after the step
    penalty: Callable[[AnyState], jax.Array]  # |W - W_0|^2, [] float
    result: Callable[[Leaves, AnyState], Params]  # the adapted parameters


Carry = tuple[Leaves, AnyState]


def applies(
    layer: FixedDense | None,
    learning_rates: Mapping[str, Any],
    support: Batch,
    always: bool = False,
) -> bool:
    """Returns whether there is a dual form, and (or `always`) a smaller one.

    It is smaller where fewer rows are kept than the kernel has: those of the support
    set, once for each step where adaptation moves the inputs.
    """
    if layer is None:
        return False
    fixed = has_fixed_inputs(layer, learning_rates)
    if layer.kernel not in learning_rates:
        return fixed
    steps = 1 if fixed else jnp.shape(learning_rates[layer.kernel])[0]
    num_rows = support.mask.shape[-2] * steps
    return always or num_rows <= support.inputs.shape[-1]


def has_fixed_inputs(layer: FixedDense, learning_rates: Mapping[str, Any]) -> bool:
    """Returns whether adaptation leaves the inputs of the layer as they are."""
    return not any(path in learning_rates for path in layer.reads)


def hold(gradients: Any, order: Order) -> Any:
    """Returns inner gradients, held fixed in first order."""
    return jax.lax.stop_gradient(gradients) if order == "first" else gradients


def prepare(
    layer: FixedDense,
    params: Params,
    learning_rates: Mapping[str, Any],
    support: Batch,
    query: Batch | None,
    order: Order,
    units: tuple[Array, Array] | None = None,
) -> Prepared:
    """Returns all products with the shared kernel, of the support and query rows.

    Args:
      layer: the dense layer on the model's inputs.
      params: the shared parameters.
      learning_rates: path of an adapted tensor -> [steps] rates.
      support: the batch to adapt to.
      query: what the adapted parameters are for; None asks for all their entries.
      order: 'first' or 'second'.
      units: [support, units] and [query, units], the products of the rows with the
        kernel, where they are known: see `known_units`.
    """
    kernel = trees.flatten(params)[layer.kernel]
    rows = layer.inputs_fn(params, support.inputs)  # [support, width]
    more = None if query is None else layer.inputs_fn(params, query.inputs)
    known = units or (rows @ kernel, None if more is None else more @ kernel)
    return _products(rows, more, known, layer.kernel in learning_rates, order)


def _products(
    rows: Array,
    more: Array | None,
    units: tuple[Any, Any],
    moves: bool,
    order: Order,
) -> Prepared:
    seen = hold(rows, order)  # a part of the inner gradients
    known = Prepared(units[0], rows @ seen.T if moves else None, None, None)
    if more is None:
        return known
    return known._replace(asked=units[1], cross=more @ seen.T if moves else None)


def prepare_all(
    layer: FixedDense,
    params: Params,
    learning_rates: Mapping[str, Any],
    episodes: Episode,
    order: Order,
) -> Prepared:
    """Returns the same of many tasks [tasks, ...].

    The rows of all tasks are one matrix: mapped over tasks, the gradient of the product
    would be taken from a transposed copy.
    """
    kernel = trees.flatten(params)[layer.kernel]
    moves = layer.kernel in learning_rates

    def rows_of(inputs: Array) -> jax.Array:
        return jnp.asarray(layer.inputs_fn(params, inputs))

    rows, more = (jax.vmap(rows_of)(part.inputs) for part in episodes)

    def product(part: jax.Array) -> jax.Array:  # [tasks, samples, width]
        flat = part.reshape(-1, part.shape[-1]) @ kernel
        return flat.reshape(*part.shape[:-1], -1)

    def one(rows: Array, more: Array, units: tuple[Any, Any]) -> Prepared:
        return _products(rows, more, units, moves, order)

    return jax.vmap(one)(rows, more, (product(rows), product(more)))


def known_units(layer: FixedDense, params: Params, inputs: Array) -> jax.Array:
    """Returns X W_0 [rows, units] of a whole pool, which its listeners gather from.

    Where listeners rated the same clips, that is less than a product for each.
    """
    return layer.inputs_fn(params, inputs) @ trees.flatten(params)[layer.kernel]


def shared_part(layer: FixedDense, meta_params: MetaParams) -> MetaParams:
    """Returns what the recursion itself reads of the shared parameters: no kernel."""
    kernel = trees.flatten(meta_params.params)[layer.kernel]
    stub = {layer.kernel: kernel[:0]}
    return meta_params._replace(params=trees.replace(meta_params.params, stub))


def split_learned(
    layer: FixedDense, prepared: Prepared
) -> tuple[Prepared, tuple[Any, Any]]:
    """Returns the products that depend on parameters, and those that do not."""
    if layer.reads:
        return prepared, (None, None)
    fixed = (prepared.gram, prepared.cross)
    return prepared._replace(gram=None, cross=None), fixed


def join(learned: Prepared, fixed: tuple[Any, Any]) -> Prepared:
    """Undoes `split_learned`."""
    gram, cross = fixed
    return learned if gram is None else learned._replace(gram=gram, cross=cross)


def run(
    loop: InnerLoop,
    loss_fn: LossFn,
    layer: FixedDense,
    params: Params,
    learning_rates: Mapping[str, Any],
    support: Batch,
    query: Batch | None,
    *,
    order: Order,
    num_steps: int | None = None,
    observe: Callable[[Params], Any] | None = None,
    prepared: Prepared | None = None,
) -> tuple[Params, AdaptInfo, Any]:
    """Adapts `params`, as `inner_loop.run` does, without copies of the first kernel.

    Args:
      loop: static choices.
      loss_fn: (params, batch) -> [] loss, whose `layer` is a `kernels.dense`.
      layer: the dense layer on the model's inputs.
      params: the starting point theta.
      learning_rates: path of an adapted tensor -> [steps] rates.
      support: the batch to adapt to.
      query: what the adapted parameters are for; None asks for all their entries.
      order: 'first' or 'second'.
      num_steps: steps to take; beyond the learned ones the last rate is repeated.
      observe: called with the parameters (for `query`) after each step.
      prepared: the products, where they were computed for many tasks at once.

    Returns:
      The adapted parameters, good for the inputs of `query` alone (for all, without
      `query`), the support losses before each step [steps], and the stacked results
      of `observe`.
    """
    steps = loop.num_steps if num_steps is None else num_steps
    rates = rates_lib.at_steps(learning_rates, steps, loop.rate_bounds)
    if has_fixed_inputs(layer, learning_rates):
        if prepared is None:
            prepared = prepare(layer, params, learning_rates, support, query, order)
        form = _fixed_form(layer, params, prepared, support, query)
    else:
        form = _moving_form(layer, params, steps, support, query, order)
    take_step = _make_step(loop, loss_fn, layer, params, support, form, order)

    def step(carry: Carry, at: Any) -> tuple[Carry, tuple[jax.Array, Any]]:
        carry, loss = take_step(carry, at)
        return carry, (loss, observe(result(*carry)) if observe else None)

    def result(turned: Leaves, state: AnyState) -> Params:
        return form.result(turn(turned), state)

    if loop.remat and order == "second":
        step = jax.checkpoint(step, prevent_cse=False)
    others = [path for path in learning_rates if path != layer.kernel]
    start = (turn(trees.select(params, others)), form.start)
    numbers = jnp.arange(steps)
    last, (losses, seen) = jax.lax.scan(step, start, (numbers, rates), length=steps)
    return result(*last), AdaptInfo(losses), seen


def turn(leaves: Leaves) -> Leaves:
    """Returns the leaves with matrices transposed.

    So the loop holds a classifier [classes, units]: the products of its gradient then
    run along the units, which is faster on a CPU.
    """
    return {path: leaf.T if leaf.ndim == 2 else leaf for path, leaf in leaves.items()}


def _make_step(
    loop: InnerLoop,
    loss_fn: LossFn,
    layer: FixedDense,
    params: Params,
    support: Batch,
    form: Form,
    order: Order,
) -> Callable[[Carry, tuple[jax.Array, Leaves]], tuple[Carry, jax.Array]]:
    """Returns one inner step: ((turned, state), (s, rates)) -> (the same, loss).

    The other adapted tensors are carried as `turn` gives them.
    """
    kernel = trees.flatten(params)[layer.kernel]
    units = (jnp.shape(support.mask)[-2], kernel.shape[-1])

    def objective(turned: Leaves, shift: jax.Array, state: AnyState) -> jax.Array:
        probed = kernels.Probed(form.kernel(state), shift)
        shared = trees.replace(params, {layer.kernel: probed})
        return inner_objective(loss_fn, shared, support, loop.proximal)(turn(turned))

    def step(carry: Carry, at: tuple[jax.Array, Leaves]) -> tuple[Carry, jax.Array]:
        (turned, state), (number, rate) = carry, at
        loss, grads = jax.value_and_grad(objective, argnums=(0, 1))(
            turned, jnp.zeros(units, kernel.dtype), state
        )
        by_turned, by_units = hold(grads, order)  # by_units is G_s
        moved = {path: turned[path] - rate[path] * by_turned[path] for path in turned}
        if layer.kernel not in rate:
            return (moved, state), loss
        alpha = rate[layer.kernel]
        if loop.proximal:
            loss = loss + 0.5 * loop.proximal * form.penalty(state)
            pull = loop.proximal * hold(state.coefficients, order)
            state = state._replace(coefficients=state.coefficients - alpha * pull)
        added = form.add(state, alpha * by_units, turn(turned), number)
        return (moved, added), loss

    return step


def _fixed_form(
    layer: FixedDense,
    params: Params,
    prepared: Prepared,
    support: Batch,
    query: Batch | None,
) -> Form:
    """A is [support, units]; the recursion reads products computed before."""

    def less(units: Any, gram: jax.Array | None, state: State) -> kernels.Products:
        if gram is None:
            return kernels.Products(units)
        return kernels.Products(units - gram @ state.coefficients)

    def add(state: State, moved: jax.Array, _others: Leaves, _number: Any) -> State:
        return state._replace(coefficients=state.coefficients + moved)

    def penalty(state: State) -> jax.Array:
        assert prepared.gram is not None
        return jnp.sum(state.coefficients * (prepared.gram @ state.coefficients))

    def result(others: Leaves, state: State) -> Params:
        adapted = trees.replace(params, others)
        if query is not None:
            asked = less(prepared.asked, prepared.cross, state)
            return trees.replace(adapted, {layer.kernel: asked})
        if prepared.gram is None:
            return adapted
        rows = layer.inputs_fn(params, support.inputs)
        return _with_entries(layer, adapted, rows, state.coefficients)

    start = State(jnp.zeros_like(prepared.units))
    return Form(
        start,
        lambda state: less(prepared.units, prepared.gram, state),
        add,
        penalty,
        result,
    )


def _moving_form(
    layer: FixedDense,
    params: Params,
    steps: int,
    support: Batch,
    query: Batch | None,
    order: Order,
) -> Form:
    """A is [steps, support, units]: the inputs of each step are kept."""
    kernel = trees.flatten(params)[layer.kernel]
    rows = jax.eval_shape(layer.inputs_fn, params, support.inputs)
    start = MovingState(
        jnp.zeros((steps, rows.shape[0], kernel.shape[-1]), kernel.dtype),
        jnp.zeros((steps, *rows.shape), rows.dtype),
    )

    def updated(state: MovingState) -> kernels.Updated:
        seen = state.rows.reshape(-1, state.rows.shape[-1])
        coefficients = state.coefficients.reshape(-1, state.coefficients.shape[-1])
        return kernels.Updated(kernel, seen, coefficients)

    def add(
        state: MovingState, moved: jax.Array, others: Leaves, number: Any
    ) -> MovingState:
        now = layer.inputs_fn(trees.replace(params, others), support.inputs)  # X_s
        return MovingState(
            state.coefficients.at[number].set(moved),
            state.rows.at[number].set(hold(now, order)),
        )

    def penalty(state: MovingState) -> jax.Array:
        _, seen, coefficients = updated(state)
        return jnp.sum(jnp.square(seen.T @ coefficients))

    def result(others: Leaves, state: MovingState) -> Params:
        adapted, form = trees.replace(params, others), updated(state)
        if query is None:
            return _with_entries(layer, adapted, form.rows, form.coefficients)
        return trees.replace(adapted, {layer.kernel: form})

    return Form(start, updated, add, penalty, result)


def _with_entries(
    layer: FixedDense, adapted: Params, rows: Array, coefficients: Array
) -> Params:
    """Returns the parameters with the entries of W_0 - rows^T coefficients."""
    kernel = trees.flatten(adapted)[layer.kernel]
    return trees.replace(adapted, {layer.kernel: kernel - rows.T @ coefficients})
