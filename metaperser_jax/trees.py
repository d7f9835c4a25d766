"""Path strings, regex selection and arithmetic over parameter trees."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from metaperser_jax.errors import InputError, did_you_mean


def _name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def flatten(tree: Any) -> dict[str, Any]:
    """Returns {'projector/kernel': leaf, ...} in the tree's own order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(map(_name, path)): leaf for path, leaf in leaves}


def match(tree: Any, pattern: str) -> tuple[str, ...]:
    """Returns the paths that `pattern` matches in full.

    Raises:
      InputError: the pattern is no regular expression or matches no tensor.
    """
    paths = tuple(flatten(tree))
    try:
        chosen = tuple(path for path in paths if re.fullmatch(pattern, path))
    except re.error as error:
        message = f"adapt={pattern!r} is not a regular expression: {error}."
        raise InputError(message) from error
    if not chosen:
        hint = did_you_mean(pattern, paths)
        raise InputError(
            f"adapt={pattern!r} matches no parameter (the whole path must match)."
            f"{hint} There are: {', '.join(paths[:10])}."
        )
    return chosen


def select(tree: Any, paths: Any) -> dict[str, Any]:
    """Returns the leaves at `paths` as a flat dict."""
    leaves = flatten(tree)
    return {path: leaves[path] for path in paths}


def replace(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """Returns the tree with the leaves at the given paths replaced."""
    flat = flatten(tree)
    if unknown := [path for path in leaves if path not in flat]:
        raise KeyError(f"no such parameter: {unknown[0]!r} among {list(flat)[:10]}")
    structure = jax.tree.structure(tree)
    return jax.tree.unflatten(structure, list({**flat, **leaves}.values()))


def add(a: Any, b: Any) -> Any:
    """Returns a + b, leaf by leaf."""
    return jax.tree.map(jnp.add, a, b)


def subtract(a: Any, b: Any) -> Any:
    """Returns a - b, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)


def scale(tree: Any, factor: Any) -> Any:
    """Returns factor * tree, leaf by leaf."""
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def average(tree: Any, weights: Any = None) -> Any:
    """Returns means over the leading axis, or sums with `weights` [entries]."""

    def one(leaf: Any) -> jax.Array:
        if weights is None:
            return jnp.mean(leaf, 0)
        return jnp.tensordot(weights.astype(leaf.dtype), leaf, 1)

    return jax.tree.map(one, tree)


def squared_norm(tree: Any) -> jax.Array:
    """Returns the sum of squares over all leaves, [] float."""
    leaves = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.add, leaves) if leaves else jnp.zeros(())


def all_finite(tree: Any) -> jax.Array:
    """Returns whether each number of the tree is finite, [] bool."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all() if leaves else jnp.asarray(True)


def stack(trees: list[Any]) -> Any:
    """Stacks trees of the same structure along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def take(tree: Any, index: Any) -> Any:
    """Returns entry `index` of the first axis of each leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
