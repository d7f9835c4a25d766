"""Rows indexed: order, best, marks, long form."""

import math

import pytest

from metaperser_jax.errors import InputError
from metaperser_jax.evaluation import paper_data, sheet
from metaperser_jax.evaluation.paper_data import Address, PaperSpec, Place, index_data

HERE = Address("logmel", "", "seen", 16, "macro_f1")


def cell_of(records, comparisons, method="full"):
    data = index_data(records, comparisons, PaperSpec(16))
    return paper_data.make_cell(data, HERE, method, with_sd=True)


def test_order_is_that_of_the_spec_then_that_of_the_titles(sweep):
    rows = sweep(encoders=("logmel", "mine"), groups=("all", "self", "observer"))
    spec = PaperSpec(16, encoders=("mine",), scenarios=("unseen",))
    data = index_data(*rows[:2], spec)
    assert data.values("encoder") == ["mine", "logmel"]
    assert data.values("scenario") == ["unseen", "seen"]
    assert data.values("group") == ["observer", "self", "all"]
    assert data.supports == [8, 16]
    assert data.metrics == ["macro_f1", "nll"]


def test_what_is_planned_and_not_there_is_void_or_missing(record):
    spec = PaperSpec(16, encoders=("later",), methods=("maml",), supports=(4,))
    data = index_data([record()], [], spec)
    assert data.places == [Place("logmel", "", "seen")]
    assert data.voids == [Place("later", "", "seen")]
    assert data.methods == ["full", "maml"]
    assert data.supports == [4, 16]
    rows = paper_data.long_rows(data, [HERE], data.methods)
    assert [row["status"] for row in rows] == ["measured", "missing"]


def test_two_rows_for_one_cell_are_refused(record, comparison):
    with pytest.raises(InputError, match="two rows for logmel, , seen, 16, macro_f1"):
        index_data([record(), record(mean=0.4)], [], PaperSpec(16))
    with pytest.raises(InputError, match="no_adaptation"):
        index_data([record()], [comparison(), comparison()], PaperSpec(16))


def test_observers_and_self_raters_may_share_all_else(record):
    rows = [record(group="observer"), record(group="self", mean=0.4)]
    assert len(index_data(rows, [], PaperSpec(16)).places) == 2


@pytest.mark.parametrize(
    ("difference", "p_holm", "metric", "mark"),
    [
        (0.1, 0.01, "macro_f1", "+"),
        (-0.1, 0.01, "macro_f1", "-"),
        (0.1, 0.01, "nll", "-"),
        (-0.1, 0.01, "nll", "+"),
        (0.1, 0.05, "macro_f1", ""),
        (0.1, None, "macro_f1", "?"),
        (math.nan, 0.01, "macro_f1", "?"),
    ],
)
def test_marks_know_the_direction_of_the_metric(
    comparison, difference, p_holm, metric, mark
):
    pair = comparison(difference=difference, p_holm=p_holm, metric=metric)
    assert paper_data.verdict_mark(pair) == mark


def test_without_a_comparison_a_method_is_untested_and_the_reference_is_not(record):
    rows = [record("full"), record("no_adaptation")]
    assert cell_of(rows, []).mark == sheet.UNTESTED
    assert cell_of(rows, [], "no_adaptation").mark == ""


def test_full_is_marked_against_no_adaptation_and_not_against_others(
    record, comparison
):
    pairs = [comparison(), comparison(reference="maml", difference=-0.1)]
    assert cell_of([record()], pairs).mark == sheet.BETTER


def test_methods_that_tie_as_displayed_are_both_best(record):
    rows = [
        record("full", mean=0.50004),
        record("maml", mean=0.49996),
        record("anil", mean=0.4),
        record("oracle", mean=0.9),
    ]
    best = [m for m in ("full", "maml", "anil", "oracle") if cell_of(rows, [], m).best]
    assert best == ["full", "maml"]


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_an_undefined_mean_is_a_dash_and_never_best(record, nothing):
    rows = [record(mean=nothing, low=nothing, high=nothing), record("maml")]
    cell = cell_of(rows, [])
    assert cell.mean == "\N{EN DASH}"
    assert not cell.best
    assert cell.interval == ""


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_one_listener_has_no_deviation(record, nothing):
    cell = cell_of([record(sd=nothing, num_listeners=1)], [])
    assert (cell.mean, cell.sd) == ("0.500", "")


def test_a_missing_cell_is_called_missing(record):
    assert cell_of([record("maml")], []) is sheet.MISSING


def test_long_rows_keep_raw_numbers_and_the_comparison(record, comparison):
    data = index_data([record(mean=1 / 3)], [comparison()], PaperSpec(16))
    (row,) = paper_data.long_rows(data, [HERE], ["full"])
    assert row["mean"] == 1 / 3
    assert row["sd"] == 0.0312345
    assert (row["compared"], row["reference"]) == ("full", "no_adaptation")
    assert (row["difference"], row["p_holm"], row["verdict"]) == (0.08, 0.004, "better")


def test_titles_of_places_leave_out_what_a_corpus_does_not_know():
    title = paper_data.place_title(encoder="microsoft/wavlm-large", group="self")
    assert title == "WavLM Large, Self-raters"
    assert paper_data.place_title(encoder="mine", group="") == "mine"
    assert paper_data.place_title(group="all", metric="nll") == "All listeners, NLL ↓"


def test_lead_metrics_are_the_first_and_the_nll():
    assert paper_data.lead_metrics(["uar", "nll", "ece"]) == ["uar", "nll"]
    assert paper_data.lead_metrics(["nll", "ece"]) == ["nll"]
    assert paper_data.lead_metrics([]) == []
