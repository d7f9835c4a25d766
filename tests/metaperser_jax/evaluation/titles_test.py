"""Names, order and number formats."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaperser_jax.evaluation import titles


def test_every_method_has_a_short_title_without_a_comma():
    assert len(titles.METHOD_TITLES) == 19
    for title in titles.METHOD_TITLES.values():
        assert len(title) <= 26
        assert "," not in title  # they are listed in sentences


def test_titles_are_distinct():
    assert len(set(titles.METHOD_TITLES.values())) == len(titles.METHOD_TITLES)


def test_methods_are_grouped_in_table_order_with_unknown_ones_last():
    groups = titles.group_methods(["oracle", "mine", "maml", "full", "maml"])
    assert groups == [
        ("The method", ["full"]),
        ("Baselines", ["maml"]),
        ("Controls and bounds", ["oracle"]),
        ("Other methods", ["mine"]),
    ]


def test_metrics_and_scenarios_are_sorted_with_unknown_ones_last():
    assert titles.sort_metrics(["zeta", "nll", "macro_f1"]) == [
        "macro_f1",
        "nll",
        "zeta",
    ]
    assert titles.sort_scenarios(["x", "unseen", "seen"]) == ["seen", "unseen", "x"]


@pytest.mark.parametrize("metric", ["nll", "ece", "brier"])
def test_losses_are_lower_is_better(metric):
    assert titles.metric_info(metric).lower_is_better


def test_labels_carry_units_and_unknown_metrics_keep_their_names():
    assert titles.metric_label("nll") == "NLL (nats)"
    assert titles.metric_label("my_metric") == "my metric"
    assert titles.method_title("my_method") == "my_method"
    assert titles.scenario_title("wild") == "wild"


def test_a_metric_of_one_dimension_is_shown_as_that_of_all():
    assert titles.metric_label("rmse") == "RMSE (SD)"
    assert titles.metric_label("rmse_self_esteem") == "RMSE, self esteem (SD)"
    assert titles.metric_info("mae_valence").lower_is_better
    assert not titles.metric_info("ccc_valence").lower_is_better


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (titles.format_number, 0.12345, "0.123"),
        (titles.format_number, np.float32(0.5), "0.500"),
        (titles.format_number, 2, "2.000"),
        (titles.format_number, math.nan, titles.NONE),
        (titles.format_number, math.inf, titles.NONE),
        (titles.format_number, None, titles.NONE),
        (titles.format_signed, 0.02, "+0.020"),
        (titles.format_signed, -0.02, "-0.020"),
        (titles.format_p, 0.0004, "<0.001"),
        (titles.format_p, 0.04, "0.040"),
        (titles.format_p, math.nan, titles.NONE),
        (titles.format_share, 0.25, "25 %"),
        (titles.format_share, None, titles.NONE),
    ],
)
def test_numbers_are_formatted(write, value, expected):
    assert write(value) == expected


def test_text_is_not_a_number():
    assert not titles.is_number("0.5")


@pytest.mark.parametrize("hidden", ["\x1b[31m", "a\rb", "\u202etxt", "\ud800"])
def test_characters_that_hide_or_break_are_replaced(hidden):
    assert "\N{REPLACEMENT CHARACTER}" in titles.clean_text(hidden)


@given(st.text())
def test_cleaned_text_keeps_its_length_and_can_be_encoded(text):
    cleaned = titles.clean_text(text)
    assert len(cleaned) == len(text)
    cleaned.encode("utf-8")
    assert titles.clean_text(cleaned) == cleaned


def test_kinds_of_listeners_and_encoders_keep_their_names_where_unknown():
    assert titles.group_title("self") == "Self-raters"
    assert titles.group_title("expert\x1b") == "expert\N{REPLACEMENT CHARACTER}"
    assert titles.encoder_title("microsoft/wavlm-large") == "WavLM Large"
    assert titles.encoder_title("mine") == "mine"


def test_kinds_and_encoders_are_sorted_with_unknown_ones_last():
    assert titles.sort_groups(["x", "all", "self", "observer", ""]) == [
        "",
        "observer",
        "self",
        "all",
        "x",
    ]
    assert titles.sort_encoders(["mine", "microsoft/wavlm-large", "logmel"]) == [
        "logmel",
        "microsoft/wavlm-large",
        "mine",
    ]
