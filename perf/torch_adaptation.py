"""The same adaptation in PyTorch, as one writes it by hand: autograd in a loop."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from perf.workload import CLASSES, LEARNING_RATE, SMOOTHING, STEPS, Listeners


def apply_head(params: Mapping[str, torch.Tensor], inputs: torch.Tensor):
    """[samples, layers, width] -> logits [samples, classes]."""
    weights = torch.softmax(params["layers/weights"], 0)
    mixed = torch.einsum("l,slw->sw", weights, inputs)
    units = torch.addmm(params["projector/bias"], mixed, params["projector/kernel"])
    return torch.addmm(params["classifier/bias"], units, params["classifier/kernel"])


def loss_fn(params: Mapping[str, torch.Tensor], inputs, targets) -> torch.Tensor:
    y = targets / targets.sum(1, keepdim=True)
    y = (1 - SMOOTHING) * y + (1 - y) * SMOOTHING / (CLASSES - 1)
    return torch.nn.functional.cross_entropy(apply_head(params, inputs), y)


def adapt(params: Mapping[str, torch.Tensor], inputs, targets) -> dict:
    """Five gradient steps from shared parameters, which stay as they are."""
    params = dict(params)
    for _ in range(STEPS):
        params = {path: p.detach().requires_grad_() for path, p in params.items()}
        loss = loss_fn(params, inputs, targets)
        grads = torch.autograd.grad(loss, list(params.values()))
        with torch.no_grad():
            params = {
                path: p - LEARNING_RATE * grad
                for (path, p), grad in zip(params.items(), grads, strict=True)
            }
    return params


def one_listener(params: Mapping[str, np.ndarray], listeners: Listeners) -> Callable:
    """Returns a call that gives the first listener's adapted parameters."""
    tensors = as_tensors(params)
    inputs, targets = map(
        torch.from_numpy, (listeners.support[0], listeners.targets[0])
    )
    return lambda: adapt(tensors, inputs, targets)


def all_listeners(params: Mapping[str, np.ndarray], listeners: Listeners) -> Callable:
    """Returns a call that gives all listeners' logits [listeners, samples, classes]."""
    tensors = as_tensors(params)
    sets = tuple(map(torch.from_numpy, listeners[:3]))

    def call() -> np.ndarray:
        found = []
        for support, targets, query in zip(*sets, strict=True):
            adapted = adapt(tensors, support, targets)
            with torch.no_grad():
                found.append(apply_head(adapted, query))
        return torch.stack(found).numpy()

    return call


def as_tensors(params: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {path: torch.from_numpy(np.array(p)) for path, p in params.items()}
