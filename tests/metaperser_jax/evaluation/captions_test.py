"""Captions: counts, signs, gaps."""

import pytest

from metaperser_jax.evaluation import captions
from metaperser_jax.evaluation.paper_data import PaperSpec, Place
from metaperser_jax.evaluation.sheet import Block, Cell, Row, Section


def row(status="measured", method="full", compared="full", num_listeners=12):
    return {
        "status": status,
        "method": method,
        "compared": compared,
        "num_listeners": num_listeners,
    }


def test_counts_name_ranges_and_single_things():
    rows = [
        {"num_listeners": 1, "num_draws": 20, "num_seeds": 1, "num_folds": 5},
        {"num_listeners": 6, "num_draws": 20, "num_seeds": 1, "num_folds": None},
    ]
    text = captions.count_text(rows)
    assert text == "1 to 6 listeners, 20 draws, 1 seed, 5 folds"
    assert captions.count_text([]) == ""


def test_averages_say_what_over_what():
    text = captions.averages([row()], 0.9)
    assert "mean over the draws, folds and seeds of each listener, then" in text
    assert "± standard deviation over listeners" in text
    assert "[90\N{NO-BREAK SPACE}% bootstrap interval] over listeners and clips" in text
    assert "±" not in captions.averages([row()], 0.9, with_sd=False)


@pytest.mark.parametrize(("mark", "said"), [("?", True), ("+", False), ("", False)])
def test_the_sign_of_untested_is_explained_where_it_stands(mark, said):
    block = Block("", "", [], [Section("", [Row("", [Cell("0.5", mark=mark)])])])
    assert ("?: not tested" in captions.signs([row()], [block])) == said


@pytest.mark.parametrize(
    ("rows", "start"),
    [
        ([row(num_listeners=5), row(num_listeners=5)], "All tests"),
        ([row(num_listeners=5), row()], "1 of 2 tests"),
        ([row(), row(num_listeners=5, compared=None)], ""),
    ],
)
def test_tests_on_few_listeners_are_counted(rows, start):
    text = captions.few_listeners(rows)
    assert text.startswith(start)
    assert bool(text) == bool(start)


def test_completeness_counts_methods_numbers_and_cells():
    rows = [row(), row("missing", "maml"), row("undefined", "anil"), row("missing")]
    spec = PaperSpec(16, cells={"a": (5, 6), "b": (5, 6)})
    assert captions.completeness(rows, spec) == (
        "2 of 3 methods; 2 of 4 numbers missing; 1 not defined (\N{EN DASH}); "
        "sweep 83 % complete (10 of 12 cells)."
    )


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (None, "1 of 1 method."),
        ({"a": (6, 6)}, "1 of 1 method; sweep complete."),
        ({"a": (9999, 10000)}, "1 of 1 method; sweep 99 % complete"),
    ],
)
def test_only_a_whole_sweep_is_complete(cells, said):
    text = captions.completeness([row()], PaperSpec(16, cells=cells))
    assert text.startswith(said)


def test_conditions_without_results_are_named_then_counted():
    voids = [Place("mine", "", f"s{i}") for i in range(6)]
    text = captions.completeness([row()], PaperSpec(16), voids)
    assert "No results at all: mine, s0; mine, s1" in text
    assert "2 more conditions." in text
