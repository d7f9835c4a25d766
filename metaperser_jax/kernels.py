"""The kernel of a dense layer: its entries, or what stands for them.

During adaptation a kernel W changes by a combination of the inputs that it saw. Where
only a few rows are ever multiplied with it, their products, or the update in factors,
are far smaller than W; `dense` takes each of these forms.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from metaperser_jax.typing import Array, Params


class Products(NamedTuple):
    """A kernel of which only the products with one batch of rows are known."""

    units: Array  # [rows, units]


class Updated(NamedTuple):
    """kernel - rows^T coefficients, kept in factors."""

    kernel: Array  # [width, units]
    rows: Array  # [seen, width]
    coefficients: Array  # [seen, units]


class Probed(NamedTuple):
    """A kernel whose products are shifted: the gradient by the shift is theirs."""

    kernel: Any
    shift: Array  # [rows, units]


class FixedDense(NamedTuple):
    """A dense layer of a model that reads the model's inputs, not trained units."""

    kernel: str  # path of its kernel [width, units]
    inputs_fn: Callable[[Params, Array], Array]  # (params, inputs) -> [samples, width]
    reads: tuple[str, ...] = ()  # paths of the parameters that `inputs_fn` reads


def dense(rows: Array, kernel: Any) -> Array:
    """[..., width] rows -> [..., units]: rows @ kernel, in whatever form it is given.

    Of `Products` the rows themselves are not read.
    """
    if isinstance(kernel, Products):
        return kernel.units
    if isinstance(kernel, Probed):
        return dense(rows, kernel.kernel) + kernel.shift
    if isinstance(kernel, Updated):
        known = rows @ kernel.rows.T  # [..., seen]
        return rows @ kernel.kernel - known @ kernel.coefficients
    return rows @ kernel
