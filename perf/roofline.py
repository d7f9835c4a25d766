"""How near a meta-step comes to what this machine can do."""

import importlib.util
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perf import meta_step, tables, workload
from perf.workload import CLASSES, HIDDEN, QUERY, SUPPORT, WIDTH

TASKS, STEPS = 256, 5
COPIED = 256 << 20  # bytes: far beyond the caches
SHAPES = {
    "shared kernel": (TASKS * (SUPPORT + QUERY), WIDTH, HIDDEN),
    "square": (2048, 2048, 2048),
}


def measure(quick: bool) -> dict[str, Any]:
    """Peaks and the meta-step, in one thread, one after the other."""
    repeats = 2 if quick else 7
    tasks = 16 if quick else TASKS
    shapes = {name: (512, *shape[1:]) if quick else shape
              for name, shape in SHAPES.items()}  # fmt: skip
    case = meta_step.Case(tasks, STEPS, "second", False)
    step = meta_step.ours("auto", case, workload.make_listeners(tasks))
    return {
        "tasks": tasks,
        "gemm": {
            library: {
                name: best_rate(make(*shape), 2.0 * np.prod(shape), repeats)
                for name, shape in shapes.items()
            }
            for library, make in products().items()
        },
        "bandwidth": best_rate(copying(), 2.0 * COPIED, repeats),
        "seconds": median_time(step, repeats),
    }


def best_rate(call: Callable[[], Any], amount: float, repeats: int) -> float:
    """Returns the highest amount per second: a peak is what was reached once."""
    call()
    (seconds,) = workload.alternate([call], repeats)
    return amount / min(seconds)


def median_time(call: Callable[[], Any], repeats: int) -> float:
    call()
    (seconds,) = workload.alternate([call], repeats)
    return statistics.median(seconds)


def products() -> dict[str, Callable[..., Callable[[], Any]]]:
    made = {"JAX": jax_product}
    if importlib.util.find_spec("torch") is not None:
        made["PyTorch"] = torch_product
    return made


def jax_product(rows: int, inner: int, columns: int) -> Callable[[], Any]:
    left, right = operands(rows, inner, columns)
    multiply = jax.jit(jnp.matmul)
    a, b = jnp.asarray(left), jnp.asarray(right)
    return lambda: jax.block_until_ready(multiply(a, b))


def torch_product(rows: int, inner: int, columns: int) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(1)
    a, b = map(torch.from_numpy, operands(rows, inner, columns))
    out = torch.empty(rows, columns)
    return lambda: torch.matmul(a, b, out=out)


def operands(rows: int, inner: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((rows, inner), dtype=np.float32),
        rng.standard_normal((inner, columns), dtype=np.float32),
    )


def copying() -> Callable[[], Any]:
    source = np.ones(COPIED // 4, np.float32)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def operations(tasks: int, steps: int) -> float:
    """Returns the floating-point operations of a second-order step in dual form.

    The products alone: W_0 with all rows and its gradient, the Gram matrices, and for
    each step what the small layers take, three times over for the derivatives.
    """
    rows = SUPPORT + QUERY
    shared = 2 * (2 * rows * WIDTH * HIDDEN)
    gram = 2 * rows * SUPPORT * WIDTH
    small = 2 * SUPPORT * SUPPORT * HIDDEN + 3 * (2 * SUPPORT * HIDDEN * CLASSES)
    query = 2 * QUERY * SUPPORT * HIDDEN + 2 * QUERY * HIDDEN * CLASSES
    return float(tasks * (shared + gram + 3 * (steps * small + query)))


def traffic(tasks: int) -> float:
    """Returns the bytes that must move: all inputs, forward and backward."""
    return 2.0 * 4 * tasks * (SUPPORT + QUERY) * WIDTH


def section(found: dict[str, Any]) -> list[str]:
    """Returns the page's section."""
    peak = max(found["gemm"]["JAX"].values())
    reached = operations(found["tasks"], STEPS) / found["seconds"]
    moved = traffic(found["tasks"]) / found["seconds"]
    return [
        "## Roofline",
        "",
        "What one thread of this machine reaches at best, and what a second-order "
        f"meta-step with {found['tasks']} listeners and {STEPS} inner steps makes of "
        "it. Its operations are counted by hand, products only.",
        "",
        *tables.table(
            ["float32", *SHAPES],
            [
                [f"GEMM, {library}", *(in_gflops(rates[name]) for name in SHAPES)]
                for library, rates in found["gemm"].items()
            ],
        ),
        "",
        f"Copying {COPIED >> 20} MiB: {found['bandwidth'] / 1e9:.1f} GB/s, read and "
        "written bytes added. "
        f"The meta-step takes {tables.in_ms(found['seconds'])}: "
        f"{in_gflops(reached)}, {reached / peak:.0%} of JAX's best GEMM, and "
        f"{moved / 1e9:.1f} GB/s of inputs, {moved / found['bandwidth']:.0%} of that "
        "copy.",
    ]


def in_gflops(rate: float) -> str:
    return f"{rate / 1e9:,.1f} GFLOP/s"
