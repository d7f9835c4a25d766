"""Pools on the device: inputs are moved there once, and read by row."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from metaperser_jax.mesh import replicate
from metaperser_jax.typing import Array, Batch, Episode, EpisodeRows, Pool


class DevicePool(NamedTuple):
    """A pool on the device, read by row; moved once, gathered there."""

    inputs: jax.Array  # [rows, layers, width]
    row: jax.Array  # [ratings] int32
    targets: jax.Array  # [ratings, classes]
    mask: jax.Array  # [ratings, classes] bool
    class_weights: jax.Array | None = None  # [classes]


def to_device(pool: Pool, mesh: Mesh | None = None) -> DevicePool:
    """Moves a pool to the device, or whole to each one of a mesh."""
    targets = np.asarray(pool.targets, np.float32)
    parts = (pool.inputs, pool.row, targets, pool.mask, pool.class_weights)
    return DevicePool(*replicate(parts, mesh))


def take_rows(pool: DevicePool, rows: Int[Array, " samples"]) -> Batch:
    """Returns the ratings at `rows` as a batch; -1 is padding."""
    kept = rows >= 0
    safe = jnp.where(kept, rows, 0)
    weights = pool.class_weights
    if weights is not None:
        weights = jnp.broadcast_to(weights, (*rows.shape, *weights.shape))
    return Batch(
        pool.inputs[pool.row[safe]],
        jnp.where(kept[:, None], pool.targets[safe], 0.0),
        pool.mask[safe] & kept[:, None],
        weights,
    )


def are_reread(pool_inputs: Array, *rows: Array) -> bool:
    """Whether reading these rows reads an input more than once on average."""
    return sum(part.size for part in rows) > len(pool_inputs)


def take_units(
    pool: DevicePool, units: Array, rows: Int[Array, " samples"]
) -> jax.Array:
    """Returns the units [samples, units] of the inputs of the ratings at `rows`."""
    return units[pool.row[jnp.where(rows >= 0, rows, 0)]]


def read_episode(pool: DevicePool, rows: EpisodeRows) -> Episode:
    """Returns the episode at the rows of its support and of its query set."""
    return Episode(take_rows(pool, rows.support), take_rows(pool, rows.query))
