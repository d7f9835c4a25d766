"""How cost grows: with listeners, clips, inner steps and classes."""

import itertools
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from metaperser_jax import heads, maml
from metaperser_jax.data.pools import DevicePool, read_episode, take_rows
from metaperser_jax.evaluation import drawing
from metaperser_jax.personal import default_loss_fn
from metaperser_jax.training import state, steps
from metaperser_jax.typing import EpisodeRows
from perf import adaptation, tables, workload
from perf.workload import CLASSES, HIDDEN, LEARNING_RATE, QUERY, STEPS, SUPPORT, WIDTH

PICTURE = pathlib.Path("docs") / "images" / "growth.png"
LISTENERS = (16, 64, 256, 1_024, 4_096, 16_384, 100_000)
CLIPS = (1_000, 10_000, 100_000, 1_000_000)
STEPS_GRID = (1, 2, 5, 10, 20, 50)
CLASSES_GRID = (4, 10, 32, 100, 316, 1_000)
NARROW = 128  # features of the curves over clips: 1e6 clips are 0.5 GB
RATERS = 1_024  # listeners of the curves over clips
OTHERS = 256  # listeners of the curves over steps and classes
LARGEST_STEP = 1_024  # listeners of a meta-step
BATCH = 256  # clips of a step of pretraining
FLAT = 1.2  # of one size over any smaller one, from 64 listeners on


class Curve(NamedTuple):
    """Seconds, per listener or per clip, over a size."""

    over: str  # 'listeners', 'clips', 'inner steps' or 'classes'
    what: str  # 'adapt and predict', 'meta-step' or 'pretraining epoch'
    sizes: list[int]
    seconds: list[float]  # medians, per listener (pretraining: per clip)


class Style(NamedTuple):
    """What is measured is told by colour, marker and line alike."""

    colour: str
    marker: str
    line: str


STYLES = {
    "adapt and predict": Style(drawing.BLUE, "o", "-"),
    "meta-step": Style(drawing.VERMILLION, "s", "--"),
    "pretraining epoch": Style(drawing.GREEN, "^", ":"),
}


def measure(quick: bool) -> dict[str, Any]:
    """All curves, one core."""
    cut = slice(2) if quick else slice(None)
    curves = [
        over("listeners", LISTENERS[cut], adapting),
        over("listeners", LISTENERS[cut], meta_stepping, LARGEST_STEP),
        over("clips", CLIPS[cut], adapting_from),
        over("clips", CLIPS[cut], pretraining),
        *(
            over(
                name, grid[cut], lambda n, make=make, key=key: make(OTHERS, **{key: n})
            )
            for name, grid, key in (
                ("inner steps", STEPS_GRID, "num_steps"),
                ("classes", CLASSES_GRID, "classes"),
            )
            for make in (adapting, meta_stepping)
        ),
    ]
    return {"curves": [curve._asdict() for curve in curves]}


class Work(NamedTuple):
    """A call and how many listeners (or clips) it serves."""

    what: str
    call: Callable[[], Any]
    count: int


def over(
    name: str,
    sizes: Sequence[int],
    make: Callable[[int], Work],
    largest: int | None = None,
) -> Curve:
    """Measures one size after the other; nothing is kept between them."""
    taken = [size for size in sizes if largest is None or size <= largest]
    seconds, what = [], ""
    for size in taken:
        work = make(size)
        work.call()
        repeats = workload.visits(workload.timed(work.call), 3.0, fewest=2, most=30)
        (times,) = workload.alternate([work.call], repeats)
        seconds.append(statistics.median(times) / work.count)
        what = work.what
        del work
    return Curve(name, what, taken, seconds)


def adapting(
    listeners: int,
    num_steps: int = STEPS,
    classes: int = CLASSES,
    clips: int = adaptation.POOL,
    width: int = WIDTH,
) -> Work:
    """Adapts to listeners and predicts, as `adaptation.predict_by_row` does."""
    meta_params = adaptation.make_meta_params(num_steps, width, classes)
    pool = adaptation.make_clips(clips, width)
    rated = adaptation.make_rated(listeners, clips, classes)

    def call() -> Any:
        found = adaptation.predict_by_row(meta_params, pool, rated)
        return jax.block_until_ready(found)

    return Work("adapt and predict", call, listeners)


def adapting_from(clips: int) -> Work:
    """The same over the clips of the pool."""
    return adapting(RATERS, clips=clips, width=NARROW)


def meta_stepping(
    listeners: int, num_steps: int = STEPS, classes: int = CLASSES
) -> Work:
    """A second-order meta-step by row; rates small enough for 50 steps."""
    learner = maml(
        default_loss_fn, num_steps, init_learning_rate=LEARNING_RATE,
        layer=heads.first_layer(1),
    )  # fmt: skip
    head = heads.make_head(classes, HIDDEN)
    meta_params = learner.init(heads.init_head(head, jax.random.key(0), 1, WIDTH))
    pool = make_pool(adaptation.POOL, WIDTH, classes)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, adaptation.POOL, (listeners, SUPPORT + QUERY), np.int32)
    episodes = EpisodeRows(
        jnp.asarray(rows[:, :SUPPORT]), jnp.asarray(rows[:, SUPPORT:])
    )

    @jax.jit
    def step(meta_params: Any, episodes: EpisodeRows, pool: DevicePool) -> Any:
        def loss(meta_params: Any) -> jax.Array:
            def read(rows: EpisodeRows) -> Any:
                return read_episode(pool, rows)

            return learner.meta_loss(meta_params, episodes, order="second", read=read)[
                0
            ]

        return jax.value_and_grad(loss)(meta_params)

    def call() -> Any:
        return jax.block_until_ready(step(meta_params, episodes, pool))

    return Work("meta-step", call, listeners)


def pretraining(clips: int) -> Work:
    """An epoch of the head over all clips."""
    data = take_rows(make_pool(clips, NARROW, CLASSES), jnp.arange(clips))
    tx = optax.adamw(1e-3)
    epoch_fn = steps.make_pretrain_epoch(default_loss_fn, tx)
    meta_params = adaptation.make_meta_params(0, NARROW)._replace(learning_rates={})
    count = max(clips // BATCH, 1)
    index = jnp.asarray(np.resize(np.arange(clips, dtype=np.int32), (count, BATCH)))
    start = state.init_state(meta_params, tx)

    def call() -> Any:
        nonlocal start
        start, _ = epoch_fn(start, data, index)
        return jax.block_until_ready(start)

    return Work("pretraining epoch", call, clips)


def make_pool(clips: int, width: int, classes: int) -> DevicePool:
    targets = workload.make_targets(np.random.default_rng(0), (clips, classes))
    return adaptation.as_pool(adaptation.make_clips(clips, width), jnp.asarray(targets))


def exponent(curve: Curve) -> float:
    """Returns b of cost = a size^b, by least squares of the logarithms."""
    return float(np.polyfit(np.log(curve.sizes), np.log(curve.seconds), 1)[0])


def curves_of(found: dict[str, Any]) -> list[Curve]:
    return [Curve(**curve) for curve in found["curves"]]


@drawing.styled
def draw(curves: Sequence[Curve]) -> Figure:
    """One panel for each size, both axes logarithmic."""
    names = list(dict.fromkeys(curve.over for curve in curves))
    fig = drawing.new_figure(5.6)
    panels = fig.subplots(2, 2, squeeze=False).ravel()
    for ax, name in zip(panels, names, strict=True):
        for curve in (c for c in curves if c.over == name):
            style = STYLES[curve.what]
            ax.loglog(
                curve.sizes,
                [1e3 * s for s in curve.seconds],
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                label=f"{curve.what}, exponent {exponent(curve):+.2f}",
            )
        low, high = ax.get_ylim()
        middle = (low * high) ** 0.5  # flat curves shall look flat
        ax.set_ylim(min(low, middle / 10), max(high, middle * 30))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: in_full(value))
            axis.set_minor_formatter(lambda *_: "")
        ax.set_xlabel(name)
        ax.set_ylabel("ms for one (listener, clip)")
        ax.grid(visible=True, which="major")
        ax.legend(loc="upper left")
    return fig


def in_full(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def section(found: dict[str, Any]) -> list[str]:
    """Returns the page's section; the picture is written apart."""
    curves = curves_of(found)
    return [
        "## Growth",
        "",
        "Cost of one listener (of one clip, for an epoch of pretraining) where one "
        "size grows and the others stay: one core, this library alone. Adapting reads "
        f"rows of a pool of {adaptation.POOL:,} clips; over clips it is {RATERS:,} "
        f"listeners and {NARROW} features, over steps and classes {OTHERS} listeners. "
        "The exponent b of cost = a size^b is fitted to all points; 0 is flat, that "
        "is, linear in all. It is below 0 over listeners, who share the products of "
        "the pool once there are enough of them.",
        "",
        f"![Cost over listeners, clips, inner steps, classes](images/{PICTURE.name})",
        "",
        *tables.table(
            ["over", "what", "from", "to", "cost at the first", "cost at the last",
             "exponent"],
            [
                [
                    curve.over, curve.what,
                    f"{curve.sizes[0]:,}", f"{curve.sizes[-1]:,}",
                    in_us(curve.seconds[0]), in_us(curve.seconds[-1]),
                    f"{exponent(curve):+.2f}",
                ]
                for curve in curves
            ],
        ),
        "",
        *verdicts(curves),
    ]  # fmt: skip


def verdicts(curves: Sequence[Curve]) -> list[str]:
    """Says of each target whether it is met."""
    named = {(curve.over, curve.what): curve for curve in curves}
    said = []
    curve = named.get(("listeners", "adapt and predict"))
    if curve and curve.sizes[-1] >= 100_000:
        ratio = rise(curve, 64)
        wanted = (
            "cost of a listener rises by no more than 20 % from 64 to 100,000 listeners"
        )
        told = f"at most {ratio:.2f} times that of fewer listeners"
        said.append(tables.verdict(wanted, told, ratio <= FLAT))
    for what, wanted, most in (
        ("pretraining epoch", "pretraining linear in clips (exponent below 0.1)", 0.1),
        ("adapt and predict", "cost of a listener, clips in the pool (below 0.1)", 0.1),
    ):
        if curve := named.get(("clips", what)):
            value = exponent(curve)
            said.append(tables.verdict(wanted, f"{value:+.2f}", value <= most))
    for what in ("adapt and predict", "meta-step"):
        if curve := named.get(("inner steps", what)):
            value = exponent(curve)
            wanted = f"{what} sub-linear in inner steps"
            said.append(tables.verdict(wanted, f"exponent {value:.2f}", value < 1))
    return said


def rise(curve: Curve, least: int) -> float:
    """Returns the most that a cost is of that of a smaller size, from a size on."""
    found = [s for n, s in zip(curve.sizes, curve.seconds, strict=True) if n >= least]
    return max(b / a for a, b in itertools.combinations(found, 2))


def in_us(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f} µs"
