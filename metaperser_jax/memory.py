"""What a function takes at most, known before it runs, and what the machine has."""

import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core

MEMINFO = pathlib.Path("/proc/meminfo")
VIEWS = ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "slice")


def peak_bytes(fn: Callable[..., Any], *args: Any) -> int:
    """Estimates what a function takes at most beside its arguments, results included.

    Adds up what is alive at each operation of the traced function, without running or
    compiling it. XLA fuses operations and shares buffers: it mostly takes less, see
    docs/memory.md.

    Args:
      fn: the function.
      *args: its arguments, arrays or their shapes.
    """
    return _peak(jax.make_jaxpr(fn)(*args).jaxpr)


def _peak(jaxpr: core.Jaxpr) -> int:
    """Most bytes alive at once of what the operations return, one after the other."""
    last_use = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in _variables(eqn)}
    last_use |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if isinstance(v, core.Var)}
    alive, most = {}, 0
    for i, eqn in enumerate(jaxpr.eqns):
        made = {v: _num_bytes(v) for v in eqn.outvars}
        if _is_matrix_transpose(eqn):
            last = last_use.get(eqn.outvars[0], -1)
            if 0 <= last < len(jaxpr.eqns) and _is_product(jaxpr.eqns[last]):
                made = dict.fromkeys(made, 0)  # the product reads its operand crosswise
        if _is_view(eqn):  # a buffer goes on under another name, or under two
            (seen,) = _variables(eqn)[:1]
            if last_use[seen] == i:
                alive.pop(seen, None)
            else:
                last_use[seen] = max(last_use[seen], last_use.get(eqn.outvars[0], i))
                made = dict.fromkeys(made, 0)
        most = max(most, sum(alive.values()) + _during(eqn, sum(made.values())))
        alive |= made
        for v in {*made, *_variables(eqn)}:
            if last_use.get(v, -1) <= i:
                alive.pop(v, None)
    return most


def _during(eqn: core.JaxprEqn, made: int) -> int:
    """Bytes of one operation: its results, and what the functions in it hold.

    The results of a loop grow while it runs, beside the slices that a turn reads.
    """
    inside = max((_peak(inner) for inner in _inner(eqn)), default=0)
    if eqn.primitive.name != "scan" or eqn.params["length"] == 1:
        return max(inside, made)
    body = eqn.params["jaxpr"].jaxpr
    slices = body.invars[eqn.params["num_consts"] + eqn.params["num_carry"] :]
    return made + inside + sum(map(_num_bytes, slices))


def _is_product(eqn: core.JaxprEqn) -> bool:
    return eqn.primitive.name == "dot_general"


def _is_matrix_transpose(eqn: core.JaxprEqn) -> bool:
    if eqn.primitive.name != "transpose":
        return False
    order = eqn.params["permutation"]
    *others, a, b = range(len(order))
    return order == (*others, b, a)


def _is_view(eqn: core.JaxprEqn) -> bool:
    """Returns whether the result is its operand, in the same order."""
    if eqn.primitive.name not in VIEWS or not _variables(eqn):
        return False
    return _num_bytes(eqn.invars[0]) == _num_bytes(eqn.outvars[0])


def _variables(eqn: core.JaxprEqn) -> list[core.Var]:
    return [v for v in eqn.invars if isinstance(v, core.Var)]


def _num_bytes(variable: Any) -> int:
    shape = getattr(variable.aval, "shape", ())
    dtype = getattr(variable.aval, "dtype", np.dtype(np.float32))
    return math.prod(shape) * getattr(dtype, "itemsize", 4)


def _inner(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """Yields the functions that an operation calls."""
    for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.ClosedJaxpr | core.Jaxpr)


def available_bytes() -> int | None:
    """Returns what the first device can still hold, None where that is not told.

    Of a CPU it is what the system can give without swapping.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if not MEMINFO.exists():
        return None
    fields = (line.split() for line in MEMINFO.read_text().splitlines())
    kilobytes = {words[0]: int(words[1]) for words in fields if len(words) > 1}
    found = kilobytes.get("MemAvailable:")
    return None if found is None else found * 1024
