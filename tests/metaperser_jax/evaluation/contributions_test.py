"""What each part adds: direction-aware, ties and losses said as plainly as wins."""

import pytest

from metaperser_jax.evaluation import contributions
from metaperser_jax.evaluation.contributions import Tally
from metaperser_jax.evaluation.paper_data import Address, PaperSpec, index_data

NLL = Address("logmel", "", "seen", 16, "nll")


def data_of(record, comparison, pairs, **place):
    """Indexes comparisons given as {ablation: (difference, Holm p)}."""
    rows = [
        comparison(
            reference=ablation,
            metric="nll",
            difference=difference,
            low=difference - 0.01,
            high=difference + 0.01,
            p_holm=p_holm,
            **place,
        )
        for ablation, (difference, p_holm) in pairs.items()
    ]
    return index_data([record(metric="nll", **place)], rows, PaperSpec(16))


def test_sentence_names_gain_cost_tie_and_what_was_not_tested(record, comparison):
    pairs = {"minus_lslr": (-0.045, 0.0004), "minus_da": (0.01, 0.04)}
    data = data_of(record, comparison, pairs)
    assert contributions.sentence(data, NLL) == (
        "Log-mel (no weights), Seen utterances, NLL ↓: "
        "LSLR contributes -0.045 [-0.055, -0.035] (p < 0.001); "
        "DA costs +0.010 [+0.000, +0.020] (p = 0.040); CSMT was not tested."
    )


def test_parts_without_a_difference_share_a_clause(record, comparison):
    pairs = dict.fromkeys(contributions.PARTS, (-0.01, 0.05))
    text = contributions.sentence(data_of(record, comparison, pairs), NLL)
    assert text.endswith("CSMT, DA and LSLR make no measurable difference.")


@pytest.mark.parametrize(
    ("metric", "difference", "tally"),
    [
        ("macro_f1", 0.1, Tally(1, 0, 0, 0)),
        ("macro_f1", -0.1, Tally(0, 0, 1, 0)),
        ("nll", -0.1, Tally(1, 0, 0, 0)),
        ("nll", 0.1, Tally(0, 0, 1, 0)),
        ("nll", None, Tally(0, 0, 0, 1)),
    ],
)
def test_tally_knows_the_direction(record, comparison, metric, difference, tally):
    pair = comparison(reference="minus_da", metric=metric, difference=difference)
    data = index_data([record(metric=metric)], [pair], PaperSpec(16))
    address = NLL._replace(metric=metric)
    assert contributions.tally(data, [address], "minus_da") == tally


def test_tally_sentence_counts_wins_ties_losses_and_the_untested(sweep):
    records, comparisons, _ = sweep()
    data = index_data(records, comparisons, PaperSpec(16))
    addresses = [Address(*place, 16, "nll") for place in data.places]
    assert contributions.tally_sentence(data, "nll", addresses) == (
        "NLL (lower is better), 4 conditions (encoder, kind of listeners, scenario): "
        "CSMT 4 wins, 0 ties, 0 losses; DA 4 wins, 0 ties, 0 losses; "
        "LSLR 4 wins, 0 ties, 0 losses."
    )


def test_all_listeners_together_are_not_counted_again(sweep):
    records, comparisons, _ = sweep(groups=("observer", "all"))
    data = index_data(records, comparisons, PaperSpec(16))
    addresses = [Address(*place, 16, "nll") for place in data.places]
    assert "2 conditions" in contributions.tally_sentence(data, "nll", addresses)
    alone = [address for address in addresses if address.group == "all"]
    assert "2 conditions" in contributions.tally_sentence(data, "nll", alone)


def test_section_has_difference_interval_p_and_mark(record, comparison):
    data = data_of(record, comparison, {"minus_lslr": (-0.045, 0.0004)})
    section = contributions.section(data, [NLL])
    assert [row.label for row in section.rows] == ["CSMT", "DA", "LSLR"]
    assert [row.cells[0].mean for row in section.rows] == ["missing"] * 2 + ["-0.045"]
    cell = section.rows[2].cells[0]
    assert cell.interval == "[-0.055, -0.035]"
    assert (cell.p_value, cell.mark) == ("<0.001", "+")
