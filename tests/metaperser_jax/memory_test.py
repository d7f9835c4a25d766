"""Estimates of memory, and the formulas of docs/memory.md, against what XLA takes."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from metaperser_jax import heads, maml, memory
from metaperser_jax.data.pools import DevicePool, take_rows
from metaperser_jax.meta.inner_loop import over_tasks
from metaperser_jax.personal import default_loss_fn
from metaperser_jax.training import steps
from metaperser_jax.typing import EpisodeRows

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "memory.md"
ROWS = 500
CASES = [
    {"T": 64, "K": 16, "Q": 16, "S": 5, "D": 768, "H": 256, "C": 10, "c": 4},
    {"T": 64, "K": 8, "Q": 32, "S": 10, "D": 256, "H": 64, "C": 6, "c": 4},
    {"T": 256, "K": 16, "Q": 16, "S": 5, "D": 768, "H": 256, "C": 10, "c": 16},
    {"T": 512, "K": 32, "Q": 8, "S": 3, "D": 768, "H": 128, "C": 8, "c": 16},
]


@functools.cache
def formulas():
    """Returns the functions that the page prints."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.M)
    names = {}
    exec(code, names)
    return names


def shapes(T, K, Q, D, C):
    shape = jax.ShapeDtypeStruct
    pool = DevicePool(
        shape((ROWS, 1, D), jnp.float32),
        shape((ROWS,), jnp.int32),
        shape((ROWS, C), jnp.float32),
        shape((ROWS, C), jnp.bool_),
    )
    return EpisodeRows(shape((T, K), jnp.int32), shape((T, Q), jnp.int32)), pool


def traced(what, inner, T, K, Q, S, D, H, C, c):
    """Returns a function of meta-parameters, rows and a pool, and their shapes."""
    head = heads.make_head(C, H)
    learner = maml(
        default_loss_fn, S, layer=heads.first_layer(1), inner=inner, task_chunk=c
    )

    def meta_step(meta_params, rows, pool):
        return steps.meta_gradient(learner, meta_params, rows, pool, "second")

    def adaptation(meta_params, rows, pool):
        def one(own):
            support, query = (take_rows(pool, r) for r in own)
            params, *_ = learner.adapt_for(meta_params, support, query)
            return heads.apply_head(head, params, query.inputs)

        return over_tasks(one, rows, c)

    meta_params = jax.eval_shape(
        lambda: learner.init(heads.init_head(head, jax.random.key(0), 1, D))
    )
    function = meta_step if what == "meta_step" else adaptation
    return function, (meta_params, *shapes(T, K, Q, D, C))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"T{c['T']}-S{c['S']}")
@pytest.mark.parametrize("inner", ["general", "dual"])
def test_the_formulas_hold_within_a_fifth_of_the_estimate(inner, case):
    fn, args = traced("meta_step", inner, **case)
    said = formulas()[f"meta_step_{inner}"](**case)
    assert said == pytest.approx(memory.peak_bytes(fn, *args), rel=0.2)


@pytest.mark.parametrize(
    ("what", "inner", "number"),
    [
        ("meta_step", "general", 0),
        ("meta_step", "dual", 0),
        ("meta_step", "dual", 3),
        ("adaptation", "general", 0),
        ("adaptation", "general", 1),
        ("adaptation", "dual", 2),
        ("adaptation", "dual", 3),
    ],
)
def test_formula_and_estimate_against_what_xla_takes(what, inner, number):
    case = CASES[number]
    fn, args = traced(what, inner, **case)
    compiled = jax.jit(fn).lower(*args).compile().memory_analysis()
    taken = compiled.temp_size_in_bytes
    if what == "adaptation":  # predictions are results; gradients are made in place
        taken += compiled.output_size_in_bytes
    assert formulas()[f"{what}_{inner}"](**case) == pytest.approx(taken, rel=0.2)
    estimate, most = memory.peak_bytes(fn, *args), 1.2 if what == "meta_step" else 2.2
    assert 0.9 * taken <= estimate <= most * taken


class TestPeak:
    """Of functions whose peak is known."""

    def test_what_is_dead_is_not_counted(self):
        def fn(x):
            for _ in range(10):
                x = jnp.sin(x)
            return x

        assert memory.peak_bytes(fn, jnp.zeros(1000)) == 2 * 4000

    def test_a_loop_holds_its_results_beside_its_slices(self):
        def fn(x):
            return jax.lax.scan(lambda carry, row: (carry, jnp.sin(row)), 0.0, x)[1]

        held = memory.peak_bytes(fn, jnp.zeros((10, 1000)))
        assert held == 10 * 4000 + 4000 + 4000  # results, a row in, a row out

    def test_one_turn_is_no_loop(self):
        def fn(x):
            return jax.lax.scan(lambda carry, row: (carry, jnp.sin(row)), 0.0, x)[1]

        assert memory.peak_bytes(fn, jnp.zeros((1, 1000))) == 4000


class TestAvailable:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("MemTotal: 9 kB\nMemAvailable:   123 kB\n", 123 * 1024),
            ("MemTotal: 9 kB\n", None),
        ],
    )
    def test_the_system_tells_it(self, monkeypatch, tmp_path, text, found):
        (tmp_path / "meminfo").write_text(text)
        monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
        assert memory.available_bytes() == found

    def test_elsewhere_it_is_not_known(self, monkeypatch, tmp_path):
        monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
        assert memory.available_bytes() is None
