"""The method once more in PyTorch, written from its equations: the oracle.

Parameters and rates are flat dicts, path -> tensor; batches are triples of tensors.
"""

import numpy as np
import torch
import torch.nn.functional as nnf

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": nnf.relu,
    "gelu": lambda x: nnf.gelu(x, approximate="tanh"),
}


def leaf(array):
    """A tensor that gathers gradients, of the array's own dtype."""
    return torch.tensor(np.asarray(array)).requires_grad_()


def leaves(flat):
    return {path: leaf(array) for path, array in flat.items()}


def head(params, pooled, activation="none"):
    """[samples, layers, width] -> logits [samples, classes]."""
    weights = torch.softmax(params["layers/weights"], 0)
    mixed = (weights[None, :, None] * pooled).sum(1)
    units = mixed @ params["projector/kernel"] + params["projector/bias"]
    if "listener/embedding" in params:
        embedding = params["listener/embedding"]
        units = units * (1 + embedding @ params["listener/scale"])
        units = units + embedding @ params["listener/shift"]
    units = ACTIVATIONS[activation](units)
    return units @ params["classifier/kernel"] + params["classifier/bias"]


def cross_entropy(logits, targets, mask, weights, smoothing):
    """EMO-SUPERB's loss, over the clips that carry a label."""
    given = targets * mask
    kept = given.sum(1) > 0
    y = given[kept] / given[kept].sum(1, keepdim=True)
    y = (1 - smoothing) * y + (1 - y) * smoothing / (logits.shape[1] - 1)
    losses = nnf.cross_entropy(logits[kept], y, reduction="none")
    return (losses * (y @ weights)).mean()


def bce(logits, targets, mask, weights, smoothing):
    """Binary cross-entropy over the answered cells."""
    y = (1 - smoothing) * targets + smoothing / 2
    losses = nnf.binary_cross_entropy_with_logits(
        logits, y, weight=weights, reduction="none"
    )
    return losses[mask].mean()


LOSSES = {"softmax": cross_entropy, "sigmoid": bce}


def adapt(loss, params, rates, support, order):
    """Gradient steps with a rate for each tensor and step; the losses before each."""
    losses = []
    for step in range(len(next(iter(rates.values())))):
        value = loss(params, support)
        grads = torch.autograd.grad(
            value, [params[path] for path in rates], create_graph=order == "second"
        )
        moved = {
            path: params[path] - rates[path][step] * grad
            for path, grad in zip(rates, grads, strict=True)
        }
        params = {**params, **moved}
        losses.append(value.item())
    return params, losses


def meta_loss(loss, params, rates, episodes, order):
    """The mean query loss of the adapted models, one task after the other."""
    queries = []
    for support, query in episodes:
        adapted, _ = adapt(loss, params, rates, support, order)
        queries.append(loss(adapted, query))
    return torch.stack(queries).mean(), [q.item() for q in queries]
