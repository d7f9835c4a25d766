"""Quadratic tasks, whose inner loop and meta-gradients have closed forms.

L(phi; H, c) = (phi - c)' H (phi - c) / 2 over phi = (a, b), a of size 3, b of size 2.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

SIZES = {"a": 3, "b": 2}


class Quadratic(NamedTuple):
    H: np.ndarray  # [5, 5] positive definite
    c: np.ndarray  # [5]


def loss_fn(params, batch):
    drift = jnp.concatenate([params["a"], params["b"]]) - batch.c
    return 0.5 * drift @ batch.H @ drift


def make_task(rng):
    A = rng.normal(size=(5, 5))
    return Quadratic(A @ A.T / 5 + 0.1 * np.eye(5), rng.normal(size=5))


def make_params(rng):
    return {name: rng.normal(size=size) for name, size in SIZES.items()}


def make_rates(rng, num_steps):
    return {name: rng.uniform(0.05, 0.3, num_steps) for name in SIZES}


def flat(tree):
    return np.concatenate([np.asarray(tree["a"]), np.asarray(tree["b"])])


def step_matrices(rates, num_steps):
    """A_s = diag(alpha[., s])."""
    return [
        np.diag(np.repeat([rates["a"][s], rates["b"][s]], [3, 2]))
        for s in range(num_steps)
    ]


def adapted_point(task, params, rates, num_steps):
    """phi_n = c + prod_s (I - A_s H) (theta - c)."""
    drift = flat(params) - task.c
    for A in step_matrices(rates, num_steps):
        drift = (np.eye(5) - A @ task.H) @ drift
    return task.c + drift


def meta_gradients(support, query, params, rates, num_steps, order):
    """(dJ/dtheta [5], dJ/dalpha {name: [steps]}) by the spec's recursion."""
    A = step_matrices(rates, num_steps)
    points = [flat(params)]
    for s in range(num_steps):
        points.append(points[-1] - A[s] @ support.H @ (points[-1] - support.c))
    adjoint = query.H @ (points[-1] - query.c)  # lambda_n
    rate_grads = {name: np.zeros(num_steps) for name in SIZES}
    for s in reversed(range(num_steps)):
        g = support.H @ (points[s] - support.c)
        rate_grads["a"][s] = -(g * adjoint)[:3].sum()
        rate_grads["b"][s] = -(g * adjoint)[3:].sum()
        if order == "second":
            adjoint = adjoint - support.H @ A[s] @ adjoint
    return adjoint, rate_grads
