"""Many devices: what each holds whole, and what is split over them.

A mesh has two axes, `tasks` and `data`. Parameters, optimiser state and pools are whole
on every device; the leading axis of what is mapped (tasks, pairs, clips) is split over
both axes. Each device maps its own part, so that nothing waits for a neighbour before
the sums are taken. A leading axis that the devices do not divide is padded with copies
of its first entries, and the copies count nothing.

An encoder that is tuned may be too large to be whole: its tensors are split by `rule`,
and JAX moves the parts that a layer needs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metaperser_jax.errors import InputError

TASKS, DATA = AXES = ("tasks", "data")
WHOLE, SPLIT = PartitionSpec(), PartitionSpec(AXES)

SMALL = 2**12  # entries of a tensor that is whole on each device
MeanFn = Callable[[Any, Any, Any], Any]  # (whole, entries, weights) -> averages


def make_mesh(devices: Sequence[Any] | None = None, num_data: int = 1) -> Mesh:
    """Returns a mesh (tasks, data) over devices.

    Args:
      devices: None takes all there are, those of other processes too.
      num_data: length of the axis `data`; the axis `tasks` has the rest.

    Raises:
      InputError: `num_data` does not divide the devices.
    """
    found = np.array(jax.devices() if devices is None else list(devices))
    if num_data < 1 or len(found) % num_data:
        raise InputError(
            f"a mesh of {len(found)} device(s) has no axis of length {num_data}: "
            f"expected a divisor of {len(found)}."
        )
    return Mesh(found.reshape(-1, num_data), AXES)


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """Returns the tree whole on each device of a mesh.

    Several processes must give the same values; JAX raises where they do not.
    """
    if mesh is None or mesh.size == 1:
        return jax.tree.map(jnp.asarray, tree)
    return jax.device_put(tree, NamedSharding(mesh, WHOLE))


def split_columns(array: Any, mesh: Mesh | None) -> Any:
    """Returns [rows, columns] with the columns split over the devices of a mesh.

    Where the devices do not divide them, they are whole on each.
    """
    if mesh is None or mesh.size == 1:
        return jnp.asarray(array)
    divides = array.shape[1] % mesh.size == 0
    spec = PartitionSpec(None, AXES) if divides else WHOLE
    return jax.device_put(array, NamedSharding(mesh, spec))


def rule(shape: tuple[int, ...], num_devices: int) -> PartitionSpec:
    """Returns how the devices hold a tensor: its longest axis that they divide split.

    Small ones, and those with no such axis, are whole on each.
    """
    fitting = [n for n in shape if n % num_devices == 0]
    if math.prod(shape) < SMALL or not fitting:
        return WHOLE
    at = shape.index(max(fitting))
    return PartitionSpec(*[None] * at, AXES)


def shard(tree: Any, mesh: Mesh | None) -> Any:
    """Returns the tree with each tensor held as `rule` says; JAX moves the parts."""
    if mesh is None or mesh.size == 1:
        return jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(
        lambda leaf: jax.device_put(
            leaf, NamedSharding(mesh, rule(np.shape(leaf), mesh.size))
        ),
        tree,
    )


def split_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Returns arrays with the leading axis split over the devices, where they do."""
    if mesh is None or mesh.size == 1:
        return tree

    def place(leaf: Any) -> jax.Array:
        spec = SPLIT if np.shape(leaf)[0] % mesh.size == 0 else WHOLE
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, tree)


def pad_to(tree: Any, multiple: int) -> tuple[Any, int]:
    """Pads the leading axis to a multiple; returns the tree and how many are real.

    Padding repeats the first entries, so that it is finite where they are.
    """
    count = jax.tree.leaves(tree)[0].shape[0]
    index = np.arange(-(-count // multiple) * multiple) % count
    if len(index) == count:
        return tree, count
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], tree), count


def map_over(
    mesh: Mesh | None, fn: Callable[[Any, Any], Any], whole: Any, entries: Any
) -> Any:
    """Returns fn(whole, entries), which each device computes for its entries.

    Args:
      mesh: None is one device.
      fn: (whole, entries) -> results, entry by entry along the leading axis.
      whole: what every device holds.
      entries: arrays with a common leading axis, of any length.
    """
    if mesh is None or mesh.size == 1:
        return fn(whole, entries)
    padded, count = pad_to(entries, mesh.size)
    found = _shard_map(mesh, fn, (WHOLE, SPLIT), SPLIT)(whole, padded)
    gathered = jax.lax.with_sharding_constraint(found, NamedSharding(mesh, WHOLE))
    return jax.tree.map(lambda leaf: leaf[:count], gathered)


def mean_over(mesh: Mesh | None, fn: MeanFn, whole: Any, entries: Any) -> Any:
    """Returns averages over the entries, of which each device takes its own.

    Args:
      mesh: None is one device.
      fn: (whole, entries, weights) -> averages over the leading axis, as
        `trees.average` takes them: means where the weights are None.
      whole: what every device holds.
      entries: arrays with a common leading axis, of any length.
    """
    if mesh is None or mesh.size == 1:
        return fn(whole, entries, None)
    padded, count = pad_to(entries, mesh.size)
    length = jax.tree.leaves(padded)[0].shape[0]
    weights = np.where(np.arange(length) < count, 1 / count, 0).astype(np.float32)

    def part(whole: Any, entries: Any, weights: jax.Array) -> Any:
        return jax.lax.psum(fn(whole, entries, weights), AXES)

    return _shard_map(mesh, part, (WHOLE, SPLIT, SPLIT), WHOLE)(whole, padded, weights)


def _shard_map(mesh: Mesh, fn: Callable[..., Any], in_specs: Any, out_specs: Any):
    # What is replicated is not checked: scans begin with constants of no device.
    return jax.shard_map(
        fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
