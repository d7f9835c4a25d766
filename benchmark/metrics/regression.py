"""Agreement and error of dimensional ratings; conventions in `base`.

Here `probs` are predicted values, and the columns dimensions (valence, arousal, ...)
instead of classes. All metrics of a dimension are functions of the same ten sums and
twenty counts, so they are mergeable and take weights as the others do.

Precision: variances are differences of sums of squares. In float32 their relative
error is about 1e-6 (1 + (mean / SD)^2), so give values whose mean is within some 30
SDs of zero: standardised ones. The concordance and the correlation do not change when
predictions and ratings are shifted and scaled together; the errors scale.

A value is undefined, NaN, where nothing was rated; agreement also where the ratings
do not vary, as with a single one. Ratings vary when they fall in different cells of a
grid of 1/64: cells are counted, not measured, so that no rounding of sums and no
weight above 0 decides what is defined. (Cells 16 apart count as one.)
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from benchmark.metrics.base import Array, Metric, answered_cells, ratio

GRID = 64  # cells to a unit
BITS = 10  # of a cell's number that are told apart
FLAT = 64  # variances below this many roundings of the mean square count as 0


class RatingSums(NamedTuple):
    """State of all metrics of dimensional ratings; x predicted, y rated."""

    count: jax.Array  # [*samples, dimensions] 1 where rated; NaN if an input is
    x: jax.Array  # [*samples, dimensions], as are the next six
    y: jax.Array
    xx: jax.Array
    yy: jax.Array
    xy: jax.Array
    absolute: jax.Array  # |x - y|
    squared: jax.Array  # (x - y)^2
    ones: jax.Array  # [*samples, dimensions, bits] the bit of y's cell is set
    zeros: jax.Array  # [*samples, dimensions, bits] it is rated and not set


class Moments(NamedTuple):
    """Population moments of predictions x and ratings y."""

    mean_x: jax.Array  # [dimensions], as are the others
    mean_y: jax.Array
    var_x: jax.Array
    var_y: jax.Array
    covariance: jax.Array


@functools.cache
def ccc(dimension: int | None = None, name: str = "ccc") -> Metric:
    """Concordance correlation coefficient (Lin, 1989, Biometrics 45, 255-268).

    2 cov(x, y) / (var x + var y + (mean x - mean y)^2), population moments. Constant
    predictions have a concordance of 0. NaN where the ratings do not vary.

    Args:
      dimension: column; None is the mean over the dimensions where it is defined.
      name: of the metric.
    """

    def value(sums: RatingSums) -> jax.Array:
        found = moments(sums)
        gap = jnp.square(found.mean_x - found.mean_y)
        spread = found.var_x + found.var_y + gap
        return _share(2 * found.covariance, spread)

    return Metric(name, rating_sums, _compute(value, varies, dimension))


@functools.cache
def pearson(dimension: int | None = None, name: str = "pearson") -> Metric:
    """Pearson correlation; 0 for constant predictions, NaN for constant ratings.

    Args:
      dimension: column; None is the mean over the dimensions where it is defined.
      name: of the metric.
    """

    def value(sums: RatingSums) -> jax.Array:
        found = moments(sums)
        return _share(found.covariance, jnp.sqrt(found.var_x) * jnp.sqrt(found.var_y))

    return Metric(name, rating_sums, _compute(value, varies, dimension))


@functools.cache
def rmse(dimension: int | None = None, name: str = "rmse") -> Metric:
    """Root of the mean squared error, in the unit of the ratings.

    Args:
      dimension: column; None is the mean of the dimensions' roots.
      name: of the metric.
    """

    def value(sums: RatingSums) -> jax.Array:
        return jnp.sqrt(ratio(sums.squared, sums.count))

    return Metric(name, rating_sums, _compute(value, _rated, dimension))


@functools.cache
def mae(dimension: int | None = None, name: str = "mae") -> Metric:
    """Mean absolute error, in the unit of the ratings.

    Args:
      dimension: column; None is the mean over the dimensions.
      name: of the metric.
    """

    def value(sums: RatingSums) -> jax.Array:
        return ratio(sums.absolute, sums.count)

    return Metric(name, rating_sums, _compute(value, _rated, dimension))


@functools.cache
def regression_metrics(dimensions: tuple[str, ...]) -> tuple[Metric, ...]:
    """Returns the metrics of every report on dimensional ratings.

    Args:
      dimensions: names of the columns.

    Returns:
      ccc, pearson, rmse, mae: means over the dimensions; then, where there are
      several, each for each dimension, named for example 'ccc_valence'.

    Raises:
      ValueError: there is no dimension, or a name occurs twice.
    """
    if not dimensions or len(set(dimensions)) != len(dimensions):
        raise ValueError(f"expected distinct names of dimensions, found {dimensions}")
    makers = (ccc, pearson, rmse, mae)
    means = tuple(make() for make in makers)
    if len(dimensions) == 1:
        return means
    apart = (
        make(column, f"{make.__name__}_{name}")
        for make in makers
        for column, name in enumerate(dimensions)
    )
    return (*means, *apart)


def rating_sums(
    probs: Float[Array, "*samples dimensions"],
    targets: Float[Array, "*samples dimensions"],
    mask: Bool[Array, "*samples dimensions"],
) -> RatingSums:
    """Returns the statistics of each sample, the `update` of all metrics here.

    Args:
      probs: [*samples, dimensions] predicted values.
      targets: [*samples, dimensions] ratings.
      mask: [*samples, dimensions] True where rated.
    """
    cells = answered_cells(probs, targets, mask)
    x, y, error = cells.probs, cells.targets, cells.probs - cells.targets
    count = cells.mask * jnp.sign(cells.answered)[..., None]  # 1, 0, or NaN
    cell = jnp.round(y * GRID).astype(jnp.int32)
    set_bits = jnp.stack([(cell >> bit) & 1 for bit in range(BITS)], axis=-1)
    ones = count[..., None] * set_bits.astype(count.dtype)
    zeros = count[..., None] - ones
    return RatingSums(
        count, x, y, x * x, y * y, x * y, jnp.abs(error), error * error, ones, zeros
    )


def moments(sums: RatingSums) -> Moments:
    """Returns the population moments of summed statistics; 0 where nothing counted.

    A variance within rounding of 0 is 0 (an SD below 0.3 % of the root mean square, in
    float32), and so is a covariance with what is constant.
    """
    number = jnp.where(sums.count > 0, sums.count, 1)
    x, y, xx, yy, xy = (leaf / number for leaf in sums[1:6])
    var_x, var_y = _variance(x, xx), _variance(y, yy)
    vary = (var_x > 0) & (var_y > 0)
    return Moments(x, y, var_x, var_y, jnp.where(vary, xy - x * y, 0))


def varies(sums: RatingSums) -> Bool[jax.Array, " dimensions"]:
    """Returns whether two of the ratings of a dimension differ."""
    return jnp.any((sums.ones > 0) & (sums.zeros > 0), axis=-1)


def _rated(sums: RatingSums) -> jax.Array:
    return sums.count > 0


def _variance(mean: jax.Array, mean_square: jax.Array) -> jax.Array:
    variance = mean_square - mean * mean
    rounding = FLAT * jnp.finfo(variance.dtype).eps * mean_square
    return jnp.where(variance <= rounding, 0, variance)


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Returns part / whole in [-1, 1], 0 where both are 0."""
    return jnp.clip(part / jnp.where(whole > 0, whole, 1), -1, 1)


def _compute(
    value: Callable[[RatingSums], jax.Array],
    defined: Callable[[RatingSums], jax.Array],
    dimension: int | None,
) -> Callable[[RatingSums], jax.Array]:
    """Returns the `compute` of one dimension, or of the mean over the defined ones."""

    def compute(sums: RatingSums) -> jax.Array:
        known = defined(sums)
        values = jnp.where(known, value(sums), jnp.nan)
        if dimension is not None:
            return values[dimension]
        total = jnp.sum(jnp.where(known, values, 0))
        mean = ratio(total, jnp.sum(known, dtype=values.dtype))
        return jnp.where(jnp.any(jnp.isnan(sums.count)), jnp.nan, mean)

    return compute
