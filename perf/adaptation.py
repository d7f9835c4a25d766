"""Adapting to new listeners: beside PyTorch on one core, by row for very many."""

import functools
import importlib.util
import resource
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import Batch, MetaParams, heads, maml, meta_adapt, trees
from metaperser_jax.data.pools import DevicePool, are_reread
from metaperser_jax.meta.inner_loop import over_tasks
from metaperser_jax.meta.learners import DUAL_CHUNK, MetaLearner
from metaperser_jax.personal import default_loss_fn
from perf import tables, workload
from perf.workload import (
    CLASSES,
    HIDDEN,
    LEARNING_RATE,
    QUERY,
    STEPS,
    SUPPORT,
    WIDTH,
    Listeners,
)

MANY = 1000
IN_A_ROW = 20  # calls for one listener, before the other has its turn
COUNTS = (1_000, 10_000, 100_000)
POOL = 7_442  # clips that the listeners of `COUNTS` rated some of
TOLERANCE = 1e-5
TARGET_ONE, TARGET_MANY = 3e-4, 1.5  # seconds for one listener, for 10,000


class Row(NamedTuple):
    """One task: seconds of each competitor, None where it is not installed."""

    task: str
    ours: list[float]
    torch: list[float] | None
    error: float | None  # relative difference of the results


class Many(NamedTuple):
    """Listeners adapted to in one call, and the most memory that took."""

    count: int
    seconds: list[float]
    peak_bytes: int  # of the process


class Rated(NamedTuple):
    """What each listener rated: rows of a pool, and labels of the support clips."""

    support: jax.Array  # [listeners, samples] int32
    targets: jax.Array  # [listeners, samples, classes]
    query: jax.Array  # [listeners, samples] int32


def measure(quick: bool) -> dict[str, Any]:
    """Beside PyTorch, on one core."""
    repeats = (10, 2) if quick else (200, 5)
    many = 20 if quick else MANY
    rows = [measure_adapted(repeats[0]), measure_one(repeats[0])]
    return {"rows": [r._asdict() for r in (*rows, measure_all(many, repeats[1]))]}


def measure_many(quick: bool) -> dict[str, Any]:
    """Thousands of listeners, on all cores that the process has."""
    counts = (100, 1_000) if quick else COUNTS
    return {"rows": [measure_count(count)._asdict() for count in counts]}


def make_learner(steps: int = STEPS) -> MetaLearner:
    return maml(
        default_loss_fn,
        steps,
        init_learning_rate=LEARNING_RATE,
        layer=heads.first_layer(1),
    )


def make_meta_params(
    steps: int = STEPS, width: int = WIDTH, classes: int = CLASSES
) -> MetaParams:
    head = heads.make_head(classes, HIDDEN)
    params = heads.init_head(head, jax.random.key(0), layers=1, width=width)
    return make_learner(steps).init(params)


def adapt_and_predict(
    meta_params: MetaParams, support: Batch, inputs: jax.Array, **known: Any
) -> jax.Array:
    """Returns the adapted model's logits [samples, classes] of the query clips."""
    rates = next(iter(meta_params.learning_rates.values()))
    classes = support.targets.shape[-1]
    query = Batch(
        inputs, *(jnp.zeros((len(inputs), classes), t) for t in (float, bool))
    )
    learner = make_learner(len(rates))
    params, _, _ = learner.adapt_for(meta_params, support, query, **known)
    return heads.apply_head(heads.make_head(classes, HIDDEN), params, inputs)


def adapt_and_predict_all(
    meta_params: MetaParams, support: Batch, query: jax.Array, chunk: int = DUAL_CHUNK
) -> jax.Array:
    """The same for [listeners, ...], `chunk` listeners at a time."""
    return over_tasks(
        lambda task: adapt_and_predict(meta_params, *task), (support, query), chunk
    )


@functools.partial(jax.jit, static_argnames="chunk")
def predict_by_row(
    meta_params: MetaParams, clips: jax.Array, rated: Rated, chunk: int = DUAL_CHUNK
) -> jax.Array:
    """Returns all listeners' logits [listeners, samples, classes].

    Args:
      meta_params: the shared starting point and its rates.
      clips: [clips, 1, width] the pool, which is read chunk by chunk.
      rated: what each listener rated.
      chunk: listeners at a time.
    """
    units = None
    if are_reread(clips, rated.support, rated.query):
        units = make_learner().units_fn(meta_params, clips)

    def one(own: Rated) -> jax.Array:
        mask = jnp.ones(own.targets.shape, bool)
        support = Batch(clips[own.support], own.targets, mask)
        known = None if units is None else (units[own.support], units[own.query])
        return adapt_and_predict(meta_params, support, clips[own.query], units=known)

    return over_tasks(one, rated, chunk)


def measure_adapted(repeats: int) -> Row:
    """All entries of one listener's parameters."""
    listeners, torch_side = workload.make_listeners(1), peers()
    meta_params = make_meta_params()
    support = jax.tree.map(lambda x: x[0], as_batch(listeners))
    adapt = jax.jit(meta_adapt)

    def error(found: Any, wanted: Any) -> float:
        found, paths = trees.flatten(found), sorted(wanted)
        return workload.relative_error(
            np.concatenate([np.ravel(found[path]) for path in paths]),
            np.concatenate([wanted[path].numpy().ravel() for path in paths]),
        )

    ours = lambda: jax.block_until_ready(adapt(meta_params, support))  # noqa: E731
    theirs = torch_side and torch_side.one_listener(shared_params(), listeners)
    return compare(
        "one listener, adapted parameters", ours, theirs, repeats, error, IN_A_ROW
    )


def measure_one(repeats: int) -> Row:
    """One listener's predictions."""
    listeners, torch_side = workload.make_listeners(1), peers()
    meta_params = make_meta_params()
    support = jax.tree.map(lambda x: x[0], as_batch(listeners))
    query = jnp.asarray(listeners.query[0])
    predict = jax.jit(adapt_and_predict)
    return compare(
        f"one listener, predictions for {QUERY} clips",
        lambda: np.asarray(predict(meta_params, support, query))[None],
        torch_side and torch_side.all_listeners(shared_params(), listeners),
        repeats,
        workload.relative_error,
        IN_A_ROW,
    )


def measure_all(count: int, repeats: int) -> Row:
    """The predictions of many."""
    listeners, torch_side = workload.make_listeners(count), peers()
    meta_params = make_meta_params()
    support, query = as_batch(listeners), jnp.asarray(listeners.query)
    predict = jax.jit(adapt_and_predict_all)
    return compare(
        f"{count:,} listeners, predictions for {QUERY} clips each",
        lambda: np.asarray(predict(meta_params, support, query)),
        torch_side and torch_side.all_listeners(shared_params(), listeners),
        repeats,
        workload.relative_error,
    )


def measure_count(count: int) -> Many:
    meta_params, clips = make_meta_params(), make_clips(POOL)
    rated = make_rated(count, POOL)

    def call() -> None:
        np.asarray(predict_by_row(meta_params, clips, rated))

    call()
    repeats = workload.visits(workload.timed(call), 10.0, fewest=2, most=7)
    (seconds,) = workload.alternate([call], repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Many(count, seconds, peak)


def make_clips(count: int, width: int = WIDTH) -> jax.Array:
    """Returns features [clips, 1, width]."""
    return jax.random.normal(jax.random.key(1), (count, 1, width))


def make_rated(count: int, num_clips: int, classes: int = CLASSES) -> Rated:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, num_clips, (count, SUPPORT + QUERY), dtype=np.int32)
    targets = workload.make_targets(rng, (count, SUPPORT, classes))
    return Rated(*map(jnp.asarray, (rows[:, :SUPPORT], targets, rows[:, SUPPORT:])))


def as_pool(clips: jax.Array, targets: jax.Array) -> DevicePool:
    """Returns a pool with one rating of each clip."""
    rows = jnp.arange(len(clips), dtype=jnp.int32)
    return DevicePool(clips, rows, targets, jnp.ones(targets.shape, bool))


def peers() -> Any | None:
    """Returns the PyTorch side, None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    from perf import torch_adaptation

    torch.set_num_threads(1)
    return torch_adaptation


def compare(
    task: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any] | None,
    repeats: int,
    error: Callable[[Any, Any], float],
    in_a_row: int = 1,
) -> Row:
    """Warms both up, compares their results and takes their times in turns."""
    found = ours()
    if theirs is None:
        (seconds,) = workload.alternate([ours], repeats, in_a_row)
        return Row(task, seconds, None, None)
    difference = error(found, theirs())
    mine, other = workload.alternate([ours, theirs], repeats, in_a_row)
    return Row(task, mine, other, difference)


def shared_params() -> dict[str, np.ndarray]:
    flat = trees.flatten(make_meta_params().params)
    return {path: np.asarray(value) for path, value in flat.items()}


def as_batch(listeners: Listeners) -> Batch:
    mask = np.ones(listeners.targets.shape, bool)
    return jax.tree.map(jnp.asarray, Batch(listeners.support, listeners.targets, mask))


def wrong(found: dict[str, Any]) -> list[str]:
    """Returns the tasks whose results differ; NaN differs from everything."""
    rows = [Row(**row) for row in found["rows"]]
    return [
        f"{row.task}: {row.error:.1e}"
        for row in rows
        if row.error is not None and not row.error <= TOLERANCE
    ]


def section(found: dict[str, Any]) -> list[str]:
    """Returns the page's section on one core."""
    rows = [Row(**row) for row in found["rows"]]
    one = statistics.median(rows[1].ours)
    lines = [
        "## Adaptation, beside PyTorch",
        "",
        f"K = {SUPPORT} labelled clips, {STEPS} steps on all tensors of the head "
        f"({WIDTH} features, {HIDDEN} hidden units, {CLASSES} classes), float32, "
        "compiled and warm, one core. Adapted parameters are those of `meta_adapt`; "
        "predictions come from `adapt_for`, which forms no adapted kernel. Many "
        f"listeners are one compiled call, in chunks of {DUAL_CHUNK}; in PyTorch they "
        "are a loop over the same function, written by hand with autograd. The two "
        f"take turns, for one listener of {IN_A_ROW} calls, and their results are "
        "compared.",
        "",
        *tables.table(
            ["task", "this library", "PyTorch", "ratio", "repeats",
             "largest difference"],
            [table_row(row) for row in rows],
        ),
        "",
        tables.verdict(
            f"one listener within {tables.in_ms(TARGET_ONE)}",
            f"{tables.in_ms(one)}, the fastest {tables.in_ms(min(rows[1].ours))}",
            one <= TARGET_ONE,
        ),
    ]  # fmt: skip
    if rows[0].torch is None:
        lines += ["", "PyTorch was not installed: there is nothing to compare with."]
    return lines


def table_row(row: Row) -> list[str]:
    ratio = row.torch and statistics.median(row.torch) / statistics.median(row.ours)
    return [
        row.task,
        tables.milliseconds(row.ours),
        tables.milliseconds(row.torch),
        tables.number(ratio, "{:.2f}"),
        str(len(row.ours)),
        tables.number(row.error, "{:.0e}"),
    ]


def section_many(found: dict[str, Any]) -> list[str]:
    """Returns the page's section on thousands of listeners."""
    rows = [Many(**row) for row in found["rows"]]
    seconds = {row.count: statistics.median(row.seconds) for row in rows}
    lines = [
        "## Adaptation, thousands of listeners",
        "",
        f"The same, all cores: each listener's clips are rows of a pool of {POOL:,} "
        "clips on the device, gathered chunk by chunk, and the products of the pool "
        "with the shared kernel are computed once where clips are read again "
        "(`units_fn`); predictions for "
        f"{QUERY} clips of each listener end as one array on the host.",
        "",
        *tables.table(
            ["listeners", "time", "a listener", "repeats", "peak memory"],
            [
                [
                    f"{row.count:,}",
                    f"{seconds[row.count]:.3f} s",
                    tables.in_ms(seconds[row.count] / row.count),
                    str(len(row.seconds)),
                    f"{row.peak_bytes / 1e9:.2f} GB",
                ]
                for row in rows
            ],
        ),
    ]
    if 10_000 in seconds:
        took = seconds[10_000]
        wanted = f"10,000 listeners within {TARGET_MANY} s on two cores"
        lines += ["", tables.verdict(wanted, f"{took:.2f} s", took <= TARGET_MANY)]
    return lines
