"""One meta-step, loss and gradients by parameters and rates, beside PyTorch."""

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import heads, maml, trees
from metaperser_jax.personal import default_loss_fn
from metaperser_jax.typing import Batch, Episode, Inner, MetaParams
from perf import tables, workload
from perf.workload import LEARNING_RATE, STEPS, Listeners

GENERAL_CHUNK = 4  # listeners at once: more leave the caches of a core
TOLERANCE = 1e-5
MANY = 256  # listeners, where temporary memory is looked at
MEMORY = 100e6  # bytes, the target there
BUDGET = 4.0  # seconds for the repeats of one row
PEERS = {"learn2learn": "by_autograd", "torch.func": "by_functions",
         "higher": "by_higher"}  # fmt: skip


class Case(NamedTuple):
    """One row of the table."""

    tasks: int
    steps: int
    order: str
    all_peers: bool  # the slow ones as well


class Row(NamedTuple):
    """What was measured of a case; seconds of each competitor, in turns."""

    tasks: int
    steps: int
    order: str
    seconds: dict[str, list[float]]
    errors: dict[str, float]  # of the meta-gradient, against the dual form's


def cases(quick: bool = False) -> Iterator[Case]:
    """The grid; the slow peers are asked where they need seconds, not minutes."""
    for tasks in (1, 4) if quick else (1, 4, 16, 64, 256):
        for steps in (1, 5) if quick else (1, 5, 10):
            asked = (tasks in (4, 64) and steps < 10) or (tasks, steps) == (MANY, STEPS)
            yield Case(tasks, steps, "second", asked)
    for tasks in (4,) if quick else (4, 64, 256):
        yield Case(tasks, STEPS, "first", False)


def measure(quick: bool) -> dict[str, Any]:
    rows = [
        measure_case(case, BUDGET / 8 if quick else BUDGET) for case in cases(quick)
    ]
    return {
        "rows": [row._asdict() for row in rows],
        "temp_bytes": {form: temp_bytes(form) for form in ("auto", "general")},
    }


def measure_case(case: Case, budget: float) -> Row:
    """Compares the meta-gradients of all competitors, then takes their times."""
    listeners = workload.make_listeners(case.tasks)
    calls = dict(competitors(case, listeners))
    found, first = {}, 0.0
    for name, call in calls.items():
        found[name] = call()  # compiles
        first += workload.timed(call)
    errors = {name: worst_error(found[name], found["dual form"]) for name in calls}
    seconds = workload.alternate(
        list(calls.values()), workload.visits(first, budget, fewest=5)
    )
    times = dict(zip(calls, seconds, strict=True))
    return Row(case.tasks, case.steps, case.order, times, errors)


def competitors(
    case: Case, listeners: Listeners
) -> Iterator[tuple[str, Callable[[], dict[str, np.ndarray]]]]:
    yield "dual form", ours("auto", case, listeners)
    yield "general form", ours("general", case, listeners)
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    from perf import torch_meta_step

    torch.set_num_threads(1)
    params = {p: np.asarray(v) for p, v in trees.flatten(shared_params()).items()}
    for name, function in PEERS.items():
        absent = name == "higher" and importlib.util.find_spec("higher") is None
        if (name == "learn2learn" or case.all_peers) and not absent:
            make = getattr(torch_meta_step, function)
            yield name, make(params, listeners, case.steps, LEARNING_RATE, case.order)


def ours(
    inner: Inner, case: Case, listeners: Listeners
) -> Callable[[], dict[str, np.ndarray]]:
    """Returns a call that gives the meta-gradient as flat numpy arrays."""
    step_fn, meta_params = make_step(inner, case.steps, case.order)
    step_fn = jax.jit(step_fn)
    episodes = as_episodes(listeners)

    def call() -> dict[str, np.ndarray]:
        _, grads = jax.block_until_ready(step_fn(meta_params, episodes))
        found = {path: np.asarray(g) for path, g in trees.flatten(grads.params).items()}
        rates = grads.learning_rates
        return found | {f"rate/{path}": np.asarray(g) for path, g in rates.items()}

    return call


def make_step(
    inner: Inner, steps: int, order: str, task_chunk: int | None = None
) -> tuple[Callable[[MetaParams, Episode], Any], MetaParams]:
    """Returns (meta_params, episodes) -> loss and gradients, and where it starts."""
    chunk = GENERAL_CHUNK if inner == "general" and task_chunk is None else task_chunk
    learner = maml(
        default_loss_fn,
        steps,
        init_learning_rate=LEARNING_RATE,
        task_chunk=chunk,
        layer=heads.first_layer(1),
        inner=inner,
    )

    def loss(meta_params: MetaParams, episodes: Episode) -> jax.Array:
        return learner.meta_loss(meta_params, episodes, order=order)[0]

    return jax.value_and_grad(loss), learner.init(shared_params())


def shared_params() -> Any:
    head = heads.make_head(workload.CLASSES, workload.HIDDEN)
    return heads.init_head(head, jax.random.key(0), layers=1, width=workload.WIDTH)


def as_episodes(listeners: Listeners) -> Episode:
    def batch(inputs: np.ndarray, targets: np.ndarray) -> Batch:
        return Batch(inputs, targets, np.ones(targets.shape, bool))

    episode = Episode(
        batch(listeners.support, listeners.targets),
        batch(listeners.query, listeners.query_targets),
    )
    return jax.tree.map(jnp.asarray, episode)


def worst_error(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """Returns the larger relative error of parameters and of rates.

    The weights of a single layer, which PyTorch's heads do without, have no gradient.
    """
    paths = [path for path in wanted if not path.endswith("layers/weights")]
    groups = [[p for p in paths if p.startswith("rate/") == r] for r in (False, True)]

    def flat(gradient: dict[str, np.ndarray], group: list[str]) -> np.ndarray:
        return np.concatenate([gradient[path].ravel() for path in group])

    return max(
        workload.relative_error(flat(found, group), flat(wanted, group))
        for group in groups
    )


def temp_bytes(inner: Inner, tasks: int = MANY, steps: int = STEPS) -> int:
    """Returns what XLA sets aside for a step beside its arguments and results."""
    step_fn, meta_params = make_step(inner, steps, "second")
    episodes = jax.eval_shape(lambda: as_episodes(workload.make_listeners(tasks)))
    compiled = jax.jit(step_fn).lower(meta_params, episodes).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def wrong(found: dict[str, Any]) -> list[str]:
    """Returns the cases whose meta-gradients differ; NaN differs from everything."""
    return [
        f"meta-step, {row.tasks} listeners, {row.steps} steps, {row.order} order: "
        f"{name} differs by {error:.1e}"
        for row in rows_of(found)
        for name, error in row.errors.items()
        if not error <= TOLERANCE
    ]


def rows_of(found: dict[str, Any]) -> list[Row]:
    return [Row(**row) for row in found["rows"]]


TARGETS = (  # (tasks, steps, least ratio to learn2learn)
    (64, 5, 14.0),
    (256, 5, 12.0),
    (64, 1, 6.0),
    (256, 1, 6.0),
)


def section(found: dict[str, Any]) -> list[str]:
    """Returns the page's section."""
    rows = rows_of(found)
    names = ["dual form", "general form", *PEERS]
    return [
        "## Meta-step",
        "",
        "Loss and gradients by parameters and rates (one rate for each tensor and "
        f"step), a head {workload.WIDTH}-{workload.HIDDEN}-{workload.CLASSES}, "
        f"{workload.SUPPORT} support and {workload.QUERY} query clips, float32, one "
        f"thread. The general form adapts {GENERAL_CHUNK} listeners at once. PyTorch "
        "is written by hand after the algorithm of learn2learn (a loop over tasks, "
        "`create_graph=True`), with `torch.func`, and with `higher`. Medians; all "
        f"meta-gradients agree to {TOLERANCE:.0e} of their largest value or the run "
        "fails.",
        "",
        *tables.table(
            ["listeners", "steps", "order", *names, "learn2learn / dual", "repeats"],
            [table_row(row, names) for row in rows],
        ),
        "",
        f"Largest difference of the meta-gradients: {largest(rows):.0e}."
        + "".join(f" `{name}` was not installed." for name in missing(rows)),
        "",
        *verdicts(found),
    ]


def table_row(row: Row, names: list[str]) -> list[str]:
    return [
        str(row.tasks),
        str(row.steps),
        row.order,
        *(tables.milliseconds(row.seconds.get(name)) for name in names),
        tables.number(ratio(row), "{:.1f}"),
        str(len(row.seconds["dual form"])),
    ]


def ratio(row: Row, peer: str = "learn2learn") -> float | None:
    if peer not in row.seconds:
        return None
    median = statistics.median
    return median(row.seconds[peer]) / median(row.seconds["dual form"])


def largest(rows: list[Row]) -> float:
    return max(error for row in rows for error in row.errors.values())


def missing(rows: list[Row]) -> list[str]:
    """Returns the peers that no row has."""
    return [name for name in PEERS if not any(name in row.seconds for row in rows)]


def verdicts(found: dict[str, Any]) -> list[str]:
    """Says of each target whether it is met; without PyTorch there is no ratio."""
    rows = {(r.tasks, r.steps): r for r in rows_of(found) if r.order == "second"}
    said = [
        tables.verdict(
            f"{tasks} listeners, {steps} steps: {least:.0f} times learn2learn",
            f"{ratio(rows[tasks, steps]):.1f}",
            ratio(rows[tasks, steps]) >= least,
        )
        for tasks, steps, least in TARGETS
        if (tasks, steps) in rows and ratio(rows[tasks, steps]) is not None
    ]
    known = {key: r for key, row in rows.items() if (r := fastest_peer(row))}
    if known:
        worst = min(known, key=lambda key: known[key])
        said.append(
            tables.verdict(
                "never slower than PyTorch",
                f"{known[worst]:.1f} times at {worst[0]} listeners, {worst[1]} steps",
                known[worst] >= 1,
            )
        )
    dual, general = (found["temp_bytes"][form] / 1e6 for form in ("auto", "general"))
    told = f"{dual:.0f} MB, {general:.0f} MB in the general form"
    wanted = f"temporary memory below {MEMORY / 1e6:.0f} MB at {MANY} listeners"
    return [*said, tables.verdict(wanted, told, dual * 1e6 < MEMORY)]


def fastest_peer(row: Row) -> float | None:
    """Returns how many times longer the fastest peer takes."""
    return min((r for name in PEERS if (r := ratio(row, name))), default=None)
