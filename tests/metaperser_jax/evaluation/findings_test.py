"""The finding in words: wins, ties, losses and doubts."""

import math

import pytest

from metaperser_jax.evaluation import findings
from tests.metaperser_jax.evaluation import result_rows


def record(method="full", mean=0.5, metric="macro_f1", **changes):
    return result_rows.record(method, metric, mean, **changes)


def comparison(reference="no_adaptation", difference=0.08, p_holm=0.004, **changes):
    interval = {"low": difference - 0.02, "high": difference + 0.02}
    tested = {"difference": difference, "p_value": p_holm / 2, "p_holm": p_holm}
    return result_rows.comparison(reference, **(interval | tested | changes))


def find(comparisons, records=None):
    records = [record()] if records is None else records
    return findings.scenario_findings(records, comparisons, "seen", 16, "macro_f1")


def only(found, words):
    (finding,) = (f for f in found if words in f.text)
    return finding


def test_a_gain_is_said_with_interval_p_and_the_share_made_worse():
    found = find([comparison()])
    assert found[0] == findings.Finding(
        "good",
        "Personalisation helps: with K = 16 labelled utterances, macro-F1 changes by "
        "+0.080 [+0.060, +0.100] against no adaptation (p = 0.004 after Holm's "
        "correction); 25 % of the listeners are made worse.",
    )


@pytest.mark.parametrize(
    ("changes", "tone", "words"),
    [
        ({"difference": -0.08}, "bad", "Personalisation hurts"),
        ({"p_holm": 0.3}, "bad", "No significant effect of personalisation"),
        ({"p_holm": math.nan}, "bad", "The effect of personalisation was not tested"),
        ({"difference": math.nan}, "bad", "whether personalisation helps is not shown"),
        ({"p_holm": 1e-5}, "good", "(p < 0.001 after"),
    ],
)
def test_losses_and_ties_are_said_first(changes, tone, words):
    found = find([comparison(**changes)])
    assert found[0].tone == tone
    assert words in found[0].text


def test_a_run_without_the_comparison_claims_nothing():
    assert "is not shown" in find([])[0].text


def test_the_metric_direction_counts():
    row = comparison(difference=-0.1, metric="nll")
    found = findings.scenario_findings([record(metric="nll")], [row], "seen", 16, "nll")
    assert found[0].text.startswith("Personalisation helps")


@pytest.mark.parametrize(
    ("other", "tone", "words"),
    [
        (0.4, "good", "the best of the methods that could be deployed"),
        (0.5, "good", "the best (with Reptile) of the methods"),
        (0.6, "bad", "the best deployable mean is that of Reptile"),
    ],
)
def test_a_better_mean_of_another_method_is_said(other, tone, words):
    found = find([comparison()], [record(), record("reptile", other)])
    finding = only(found, "has a mean")
    assert finding.tone == tone
    assert "0.500 [0.480, 0.520]" in finding.text
    assert words in finding.text


def test_the_oracle_does_not_count_as_a_rival():
    found = find([comparison()], [record(), record("oracle", 0.9)])
    assert only(found, "has a mean").tone == "good"


def test_baselines_are_named_by_verdict():
    found = find(
        [
            comparison("fine_tune"),
            comparison("maml", p_holm=0.4),
            comparison("anil", p_holm=0.4),
            comparison("reptile", -0.1),
            comparison("scratch", p_holm=math.nan),
            comparison("oracle", -0.1),
        ]
    )
    assert only(found, "better than Fine-tuning on K.").tone == "good"
    tie = only(found, "does not differ significantly from")
    assert tie == findings.Finding(
        "bad",
        "It does not differ significantly from MAML (one fixed rate) and ANIL (last "
        "layer only).",
    )
    assert only(found, "significantly worse than Reptile.").tone == "bad"
    assert only(found, "No p value is given against From scratch on K.")
    assert not any("Oracle" in finding.text for finding in found)


def test_parts_that_add_nothing_significant_are_said():
    found = find([comparison("minus_da", p_holm=0.5), comparison("minus_csmt")])
    assert only(found, "Full without DA: what the part adds is not shown").tone == "bad"
    assert only(found, "Full without CSMT: the part helps").tone == "good"


def test_a_gain_no_larger_than_the_label_prior_is_doubted():
    found = find([comparison(), comparison("prior_calibration", p_holm=0.2)])
    assert only(found, "label frequencies").tone == "bad"
    found = find([comparison(), comparison("prior_calibration")])
    assert not any("label frequencies" in finding.text for finding in found)


def test_a_gain_that_is_not_personal_is_doubted():
    found = find([comparison(), comparison("wrong_listener", p_holm=0.2)])
    assert only(found, "not shown to be personal").tone == "bad"
    found = find([comparison(), comparison("wrong_listener")])
    assert only(found, "the gain is personal").tone == "good"


def test_gains_and_losses_in_other_metrics_are_said():
    found = find(
        [
            comparison(),
            comparison(metric="ece", difference=0.05),
            comparison(metric="nll", difference=-0.05),
        ]
    )
    assert only(found, "makes ECE (+0.050) significantly worse").tone == "bad"
    assert only(found, "makes NLL (-0.050) significantly better").tone == "good"


@pytest.mark.parametrize(("count", "said"), [(1, True), (5, True), (6, False)])
def test_few_listeners_are_a_reason_for_caution(count, said):
    found = find([comparison()], [record(num_listeners=count)])
    assert any(f"Only {count} listener" in f.text for f in found) == said


def test_a_run_without_the_method_says_so():
    found = find([], [record("maml", 0.4), record("anil", 0.3)])
    assert [f.text for f in found] == [
        "Meta-PerSER (full) was not evaluated here.",
        "The best mean macro-F1 is that of MAML (one fixed rate).",
    ]


def test_a_method_without_a_value_says_so():
    found = find([comparison()], [record(mean=math.nan)])
    assert only(found, "no value of the headline metric").tone == "bad"


@pytest.mark.parametrize(
    ("supports", "expected"),
    [
        ({"seen": [4, 8, 16, 32]}, 16),
        ({"seen": [4, 8]}, 8),
        ({"seen": [12, 20]}, 12),
        ({"seen": [4, 16], "unseen": [4]}, 4),
        ({"seen": [4], "unseen": [18]}, 18),
        ({}, None),
    ],
)
def test_the_headline_k_is_sixteen_or_the_nearest_that_all_scenarios_have(
    supports, expected
):
    rows = [
        record(scenario=scenario, num_support=k)
        for scenario, ks in supports.items()
        for k in ks
    ]
    assert findings.headline_support(rows) == expected


def test_the_headline_metric_is_macro_f1_or_the_next_present():
    assert findings.headline_metric([record(metric="nll"), record()]) == "macro_f1"
    assert findings.headline_metric([record(metric="nll")]) == "nll"
    assert findings.headline_metric([]) is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_sentence_list(words, expected):
    assert findings.sentence_list(words) == expected
