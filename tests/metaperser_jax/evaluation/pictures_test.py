"""Which pictures a report holds, and what is said of them."""

import math

import pytest

from metaperser_jax.evaluation import pictures
from tests.metaperser_jax.evaluation import result_rows


def record(method, num_support, mean):
    return result_rows.record(method, mean=mean, num_support=num_support)


def records(*methods):
    return [record(m, k, 0.4 + k / 100) for m in methods for k in (4, 16)]


def per_listener(gains, scenario="seen"):
    named = {f"E{i}": gain for i, gain in enumerate(gains)}
    return result_rows.before_and_after(named, scenario=scenario)


def test_curves_say_where_each_method_begins_and_ends():
    (picture,) = pictures.curve_pictures(records("full", "maml"), ["macro_f1"], 0.9)
    assert picture.name == "k_curves_macro_f1"
    assert picture.uri.startswith("data:image/svg+xml;base64,")
    assert picture.png.startswith(b"\x89PNG")
    assert picture.alt == (
        "Line chart of macro-F1 against K. Seen utterances: Meta-PerSER (full) 0.440 "
        "at K = 4 to 0.560 at K = 16; MAML (one fixed rate) 0.440 at K = 4 to 0.560 "
        "at K = 16."
    )
    assert "90% intervals" in picture.caption


def test_ablations_get_a_picture_of_their_own():
    rows = records("full", "minus_da")
    made = pictures.curve_pictures(rows, ["macro_f1"], 0.95)
    assert [picture.name for picture in made] == [
        "k_curves_macro_f1",
        "k_curves_macro_f1_ablations",
    ]


@pytest.mark.parametrize(
    "rows",
    [[], [record("full", 16, 0.5)], [record("full", k, math.nan) for k in (4, 8)]],
)
def test_no_curve_without_two_points(rows):
    assert pictures.curve_pictures(rows, ["macro_f1"], 0.95) == []


def test_listeners_get_a_picture_for_each_scenario():
    rows = per_listener([0.1, -0.1, 0.2]) + per_listener([0.1], "../unseen")
    first, second = pictures.listener_pictures(rows, "macro_f1", 16)
    assert first.name == "listeners_seen"
    assert second.name == "listeners____unseen"  # a name cannot leave the folder
    assert "2 of 3 listeners better, 1 worse" in first.alt
    assert "gains from -0.100 to +0.200, median +0.100" in first.alt
    assert pictures.listener_pictures(rows, "nll", 16) == []
    assert pictures.listener_pictures(rows, "macro_f1", 8) == []


def test_rates_name_their_extremes_and_count_the_negative_ones():
    rates = {"head/a/kernel": [0.01, -0.02], "head/a/bias": [0.5, math.nan]}
    (picture,) = pictures.rate_pictures(rates)
    assert "2 tensors over 2 inner steps" in picture.alt
    assert "smallest -0.02 (head/a/kernel, step 2)" in picture.alt
    assert "largest 0.5 (head/a/bias, step 1)" in picture.alt
    assert "1 of 3 are negative" in picture.caption
    (plain,) = pictures.rate_pictures({"head/a/kernel": [0.01]})
    assert "negative" not in plain.caption
    assert pictures.rate_pictures({}) == pictures.rate_pictures({"a": []}) == []


def test_reliability_says_the_error_of_each_method():
    bins = {"confidence": [0.2, 0.7], "frequency": [0.1, 0.9], "count": [1, 3]}
    empty = {"confidence": [math.nan], "frequency": [math.nan], "count": [0]}
    (picture,) = pictures.reliability_pictures({"full": bins, "maml": empty})
    assert "Expected calibration error: Meta-PerSER (full) 0.175." in picture.alt
    assert pictures.reliability_pictures({"maml": empty}) == []
    assert pictures.reliability_pictures({}) == []


def test_cooccurrence_says_how_much_lies_on_the_diagonal():
    matrix = [[3.0, 1.0], [1.0, 1.0]]
    (picture,) = pictures.cooccurrence_pictures({"full": matrix}, ["yes", "no"])
    assert "Meta-PerSER (full) 62 %" in picture.alt
    for classes in ([], ["one"], ["a", "b", "c"]):
        assert pictures.cooccurrence_pictures({"full": matrix}, classes) == []


def test_training_says_the_last_development_loss():
    rows = [
        {"method": "full", "stage": "meta", "step": s, "name": "dev_loss", "value": v}
        for s, v in ((10, 1.0), (0, 2.0), (20, math.nan))
    ]
    (picture,) = pictures.training_pictures(rows)
    assert "Meta-PerSER (full) 1.000 (Meta-training, step 10)" in picture.alt
    assert pictures.training_pictures([]) == []
