"""The meta-step in PyTorch: MAML with one rate per tensor and step, as published.

`by_autograd` is the algorithm of the learn2learn library (Arnold et al. 2020): task by
task the tensors are cloned, gradients are taken with `create_graph`, and `backward`
adds up the meta-gradient. `by_functions` maps one task's loss over all tasks with
`torch.func`; `by_higher` leaves the inner loop to the `higher` library.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from perf.workload import CLASSES, SMOOTHING, Listeners

PATHS = ("projector/kernel", "projector/bias", "classifier/kernel", "classifier/bias")
Tensors = dict[str, torch.Tensor]
Gradients = dict[str, np.ndarray]  # of the tensors, then 'rate/' + path [steps]


def apply_head(params: Mapping[str, torch.Tensor], inputs: torch.Tensor):
    """[samples, width] -> logits [samples, classes]."""
    units = torch.addmm(params["projector/bias"], inputs, params["projector/kernel"])
    return torch.addmm(params["classifier/bias"], units, params["classifier/kernel"])


def loss_fn(params: Mapping[str, torch.Tensor], inputs, targets) -> torch.Tensor:
    """Cross-entropy with smoothed distributions `targets` [samples, classes]."""
    return functional.cross_entropy(apply_head(params, inputs), targets)


def smoothed(targets: np.ndarray) -> torch.Tensor:
    y = torch.from_numpy(targets)
    y = y / y.sum(-1, keepdim=True)
    return (1 - SMOOTHING) * y + (1 - y) * SMOOTHING / (CLASSES - 1)


def as_tasks(listeners: Listeners) -> tuple[torch.Tensor, ...]:
    """Returns inputs and targets of support and query sets, [tasks, samples, ...]."""
    return (
        torch.from_numpy(listeners.support[:, :, 0]),
        smoothed(listeners.targets),
        torch.from_numpy(listeners.query[:, :, 0]),
        smoothed(listeners.query_targets),
    )


def as_leaves(params: Mapping[str, np.ndarray], rate: float, steps: int):
    """Returns parameters and rates [steps] that ask for gradients."""
    tensors = {p: torch.from_numpy(np.array(params[p])).requires_grad_() for p in PATHS}
    rates = {p: torch.full((steps,), rate, requires_grad=True) for p in PATHS}
    return tensors, rates


def adapt(params: Tensors, rates: Tensors, steps: int, order: str, inputs, targets):
    """Gradient steps of one task from `params`, differentiable in second order."""
    params = {path: p.clone() for path, p in params.items()}
    second = order == "second"
    for step in range(steps):
        loss = loss_fn(params, inputs, targets)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=second)
        params = {
            path: p - rates[path][step] * grad
            for (path, p), grad in zip(params.items(), grads, strict=True)
        }
    return params


def by_autograd(
    params: Mapping[str, np.ndarray],
    listeners: Listeners,
    steps: int,
    rate: float,
    order: str = "second",
) -> Callable[[], Gradients]:
    """Returns a call that gives the meta-gradient, task by task."""
    tensors, rates = as_leaves(params, rate, steps)
    tasks = as_tasks(listeners)
    count = len(tasks[0])

    def call() -> Gradients:
        clear(tensors, rates)
        for inputs, targets, query, query_targets in zip(*tasks, strict=True):
            adapted = adapt(tensors, rates, steps, order, inputs, targets)
            (loss_fn(adapted, query, query_targets) / count).backward()
        return gradients(tensors, rates)

    return call


def by_functions(
    params: Mapping[str, np.ndarray],
    listeners: Listeners,
    steps: int,
    rate: float,
    order: str = "second",
) -> Callable[[], Gradients]:
    """The same with `torch.func`: grad of a vmap over tasks of steps by grad."""
    tensors, rates = as_leaves(params, rate, steps)
    tensors, rates = ({p: t.detach() for p, t in d.items()} for d in (tensors, rates))
    tasks = as_tasks(listeners)

    def task_loss(shared, rates, inputs, targets, query, query_targets):
        params = shared
        for step in range(steps):
            grads = torch.func.grad(loss_fn)(params, inputs, targets)
            if order == "first":
                grads = {path: g.detach() for path, g in grads.items()}
            params = {p: params[p] - rates[p][step] * grads[p] for p in params}
        return loss_fn(params, query, query_targets)

    def meta_loss(shared, rates) -> torch.Tensor:
        mapped = torch.func.vmap(task_loss, in_dims=(None, None, 0, 0, 0, 0))
        return mapped(shared, rates, *tasks).mean()

    meta_grad = torch.func.grad(meta_loss, argnums=(0, 1))

    def call() -> Gradients:
        by_params, by_rates = meta_grad(tensors, rates)
        return as_arrays(by_params, by_rates)

    return call


def by_higher(
    params: Mapping[str, np.ndarray],
    listeners: Listeners,
    steps: int,
    rate: float,
    order: str = "second",
) -> Callable[[], Gradients]:
    """The same with `higher` (Grefenstette et al. 2019): a differentiable optimiser."""
    import higher

    tensors, rates = as_leaves(params, rate, steps)
    tasks = as_tasks(listeners)
    model = Head(tensors)
    # one group a tensor: each has a rate of its own
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=rate)
    count, second = len(tasks[0]), order == "second"

    def call() -> Gradients:
        clear(tensors, rates)
        for inputs, targets, query, query_targets in zip(*tasks, strict=True):
            with higher.innerloop_ctx(
                model, optimizer, copy_initial_weights=False, track_higher_grads=second
            ) as (adapted, steps_fn):
                for step in range(steps):
                    loss = functional.cross_entropy(adapted(inputs), targets)
                    now = {"lr": [rates[path][step] for path in PATHS]}
                    steps_fn.step(loss, override=now)
                loss = functional.cross_entropy(adapted(query), query_targets)
                (loss / count).backward()
        found = dict(zip(PATHS, model.parameters(), strict=True))
        return gradients(found, rates, clear_after=True)

    return call


class Head(torch.nn.Module):
    """The head as a module, which `higher` asks for."""

    def __init__(self, tensors: Tensors):
        super().__init__()
        for path in PATHS:
            value = torch.nn.Parameter(tensors[path].detach().clone())
            self.register_parameter(path.replace("/", "_"), value)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        named = {path: getattr(self, path.replace("/", "_")) for path in PATHS}
        return apply_head(named, inputs)


def clear(*groups: Mapping[str, torch.Tensor]) -> None:
    for group in groups:
        for tensor in group.values():
            tensor.grad = None


def gradients(params: Any, rates: Any, clear_after: bool = False) -> Gradients:
    """Returns copies of the accumulated gradients."""
    found = as_arrays(*({p: t.grad for p, t in d.items()} for d in (params, rates)))
    if clear_after:
        found = {path: np.array(value) for path, value in found.items()}
        clear(params, rates)
    return found


def as_arrays(by_params: Tensors, by_rates: Tensors) -> Gradients:
    found = {path: by_params[path].numpy() for path in PATHS}
    return found | {f"rate/{path}": by_rates[path].numpy() for path in PATHS}
