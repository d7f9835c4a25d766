"""The inner loop: gradient descent with one learned rate per tensor and step.

    phi_0 = theta
    phi_{s+1}[l] = phi_s[l] - alpha[l, s] * g_s[l],   g_s = grad L(phi_s; support)

Second order differentiates through g_s; first order holds it fixed, so that
dJ/dtheta = grad J(phi_n) and dJ/dalpha[l, s] = -<g_s[l], grad_l J(phi_n)>.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metaperser_jax import trees
from metaperser_jax.meta import learning_rates as rates_lib
from metaperser_jax.typing import AdaptInfo, Array, Data, Order, Params

LossFn = Callable[[Params, Data], jax.Array]


class InnerLoop(NamedTuple):
    """The static choices of an inner loop."""

    num_steps: int  # steps at meta-training time
    rate_bounds: tuple[float, float] | None = None  # clamp the rates when used
    proximal: float = 0.0  # pull towards theta: + proximal/2 * |phi - theta|^2
    remat: bool = False  # recompute each step in the backward pass


def inner_objective(
    loss_fn: LossFn, params: Params, support: Data, proximal: float
) -> Callable[[dict[str, Any]], jax.Array]:
    """Returns L(phi; support) as a function of the adapted tensors alone."""

    def objective(adapted: dict[str, Any]) -> jax.Array:
        loss = loss_fn(trees.replace(params, adapted), support)
        if not proximal:
            return loss
        drift = trees.subtract(adapted, trees.select(params, adapted))
        return loss + 0.5 * proximal * trees.squared_norm(drift)

    return objective


def run(
    loop: InnerLoop,
    loss_fn: LossFn,
    params: Params,
    learning_rates: Mapping[str, Any],
    support: Data,
    *,
    order: Order,
    num_steps: int | None = None,
    observe: Callable[[Params], Any] | None = None,
) -> tuple[Params, AdaptInfo, Any]:
    """Adapts `params` to the support set.

    Args:
      loop: static choices.
      loss_fn: (params, batch) -> [] loss.
      params: the starting point theta.
      learning_rates: path of an adapted tensor -> [steps] rates.
      support: the batch to adapt to; an empty one (all masked) changes nothing.
      order: 'first' holds the inner gradients fixed; 'second' differentiates them.
      num_steps: steps to take; beyond the learned ones the last rate is repeated.
      observe: called with the parameters after each step; its results are stacked.

    Returns:
      The adapted parameters, the support losses before each step [steps], and the
      stacked results of `observe` (None without it).
    """
    steps = loop.num_steps if num_steps is None else num_steps
    rates = rates_lib.at_steps(learning_rates, steps, loop.rate_bounds)
    objective = inner_objective(loss_fn, params, support, loop.proximal)

    def step(adapted: dict[str, Any], rate: dict[str, Any]) -> tuple[Any, Any]:
        loss, grads = jax.value_and_grad(objective)(adapted)
        if order == "first":
            grads = jax.lax.stop_gradient(grads)
        adapted = {p: adapted[p] - rate[p] * grads[p] for p in adapted}
        seen = observe(trees.replace(params, adapted)) if observe else None
        return adapted, (loss, seen)

    if loop.remat and order == "second":
        step = jax.checkpoint(step, prevent_cse=False)
    start = trees.select(params, learning_rates)
    adapted, (losses, seen) = jax.lax.scan(step, start, rates, length=steps)
    return trees.replace(params, adapted), AdaptInfo(losses), seen


def mean_over_tasks(
    fn: Callable[[Any, Any, Any], tuple[jax.Array, Any]],
    shared: Any,
    parts: Any,
    tasks: Any,
    chunk: int,
    weights: Array | None = None,
) -> tuple[jax.Array, jax.Array, Any]:
    """Returns the mean loss over tasks, taking its gradient chunk by chunk.

    Nothing but the gradients of a chunk outlives it, so that memory does not grow with
    the tasks. Only the mean can be differentiated, in reverse mode and once.

    Args:
      fn: (shared, part, task) -> [] loss, more results.
      shared: what all tasks read; differentiable.
      parts: what each task reads, [tasks, ...]; differentiable.
      tasks: the same, not differentiable.
      chunk: tasks at once.
      weights: [tasks] of a weighted sum in place of the mean; not differentiable.

    Returns:
      The mean [], the losses [tasks] and the other results [tasks, ...].
    """
    count = jax.tree.leaves(tasks)[0].shape[0]

    def total(shared: Any, part: Any, task: Any, weights: Any) -> tuple[jax.Array, Any]:
        losses, more = jax.vmap(functools.partial(fn, shared))(part, task)
        if weights is None:
            return losses.sum() / count, (losses, more)
        return (losses * weights.astype(losses.dtype)).sum(), (losses, more)

    @jax.custom_vjp
    def mean(
        shared: Any, parts: Any, tasks: Any, weights: Any
    ) -> tuple[jax.Array, jax.Array, Any]:
        losses, more = jax.lax.map(
            lambda each: fn(shared, *each), (parts, tasks), batch_size=chunk
        )
        return trees.average(losses, weights), losses, more

    def forward(shared: Any, parts: Any, tasks: Any, weights: Any) -> tuple[Any, Any]:
        def one(carry: tuple[Any, Any], each: Any) -> tuple[Any, Any]:
            (loss, results), (by_shared, by_parts) = jax.value_and_grad(
                total, argnums=(0, 1), has_aux=True
            )(shared, *each)
            return trees.add(carry, (loss, by_shared)), (results, by_parts)

        first = jax.tree.map(lambda x: x[:chunk], (parts, tasks, weights))
        loss, _ = jax.eval_shape(total, shared, *first)
        start = (jnp.zeros((), loss.dtype), jax.tree.map(jnp.zeros_like, shared))
        (loss, by_shared), (results, by_parts) = scan_chunks(
            one, start, (parts, tasks, weights), chunk
        )
        return (loss, *results), (by_shared, by_parts)

    def backward(gradients: tuple[Any, Any], cotangents: Any) -> tuple[Any, ...]:
        by_shared, by_parts = trees.scale(gradients, cotangents[0])
        return by_shared, by_parts, None, None

    mean.defvjp(forward, backward)
    loss, losses, more = mean(shared, parts, tasks, weights)
    return loss, *jax.lax.stop_gradient((losses, more))


def scan_chunks(step: Callable, carry: Any, tasks: Any, chunk: int) -> tuple[Any, Any]:
    """`lax.scan` over chunks of the leading axis; the last one may be smaller."""
    count = jax.tree.leaves(tasks)[0].shape[0]
    whole = count // chunk * chunk

    def fold(x: Any) -> Any:
        return x[:whole].reshape(-1, chunk, *x.shape[1:])

    carry, found = jax.lax.scan(step, carry, jax.tree.map(fold, tasks))
    found = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    if whole == count:
        return carry, found
    carry, rest = step(carry, jax.tree.map(lambda x: x[whole:], tasks))
    return carry, jax.tree.map(lambda *ends: jnp.concatenate(ends), found, rest)


def over_tasks(fn: Callable[[Any], Any], tasks: Any, task_chunk: int | None) -> Any:
    """Maps `fn` over the leading axis: all at once, or in chunks to bound memory."""
    if task_chunk is None:
        return jax.vmap(fn)(tasks)
    return jax.lax.map(fn, tasks, batch_size=task_chunk)
