"""The published counts, and codes and triples derived from the raters' rows."""

import collections
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaperser_jax.data.iemocap import grammar, published
from metaperser_jax.data.iemocap.grammar import Block, Dimensions, Labels
from metaperser_jax.errors import Problems


def block(*sets, name="Ses01F_impro01_F000", code="xxx", triple=None, values=()):
    labels = tuple(Labels(f"E{k}", tuple(x)) for k, x in enumerate(sets, start=1))
    rows = tuple(Dimensions(f"E{k}", *x) for k, x in enumerate(values, start=1))
    return Block(name, 0.0, 1.0, code, triple, labels, rows)


def test_the_published_counts_agree_with_one_another():
    assert sum(published.UTTERANCES.values()) == 10_039
    assert sum(published.CONSENSUS.values()) == 10_039
    assert sum(published.DIALOGS.values()) == 151


def complete_release() -> list[Block]:
    """Blocks without raters, as many as published."""
    codes = [code for code, count in published.CONSENSUS.items() for _ in range(count)]
    blocks = []
    for session, count in published.UTTERANCES.items():
        for k in range(count):
            dialog = f"{session}F_made{k % published.DIALOGS[session]:02d}"
            name = f"{dialog}_F{k:04d}"
            blocks.append(block(name=name, code=codes[len(blocks)]))
    return blocks


def test_a_complete_copy_differs_in_nothing():
    assert published.compare(complete_release()) == []


def test_what_differs_is_said():
    blocks = complete_release()
    first = blocks[0]._replace(code="bor", utterance="Ses06F_made00_F000")
    assert published.compare([first, *blocks[1:]]) == [
        "utterances Ses01: 1818, published 1819",
        "utterances Ses06: 1, published 0",
        "dialogs Ses06: 1, published 0",
        "code neu: 1707, published 1708",
        "code bor: 1, published 0",
    ]


@pytest.mark.parametrize(
    ("sets", "code"),
    [
        ((["Anger"], ["Anger"], ["Sadness"]), "ang"),
        ((["Anger"], ["Fear"], ["Sadness"]), "xxx"),
        ((["Anger", "Fear"], ["Anger"], ["Fear", "Anger"]), "ang"),
        ((["Anger", "Fear"], ["Anger", "Fear"], ["Sadness"]), "xxx"),
        ((["Anger"], ["Anger"], []), "ang"),
        ((["Anger"], ["Sadness"], []), "xxx"),
        ((["Anger"], [], []), "ang"),
        (([], [], []), "xxx"),
        ((), "xxx"),
        ((["Other"], ["Other"], ["Fear"]), "oth"),
        ((["Anger"], ["Anger"], ["Sadness"], ["Fear"]), "xxx"),
        ((["Anger"], ["Anger"], ["Sadness"], ["Anger"]), "ang"),
    ],
)
def test_a_consensus_needs_more_than_half_and_no_tie(sets, code):
    assert published.derive_code(block(*sets)) == code


def test_actors_have_no_vote():
    own = Labels("F1", ("Anger",))
    rows = block(["Anger"], ["Sadness"], ["Fear"])
    assert published.derive_code(rows._replace(labels=(*rows.labels, own))) == "xxx"


@given(st.lists(st.sets(st.sampled_from(grammar.LABELS), max_size=3), max_size=3))
def test_with_three_observers_it_is_the_most_votes_if_unique(sets):
    votes = collections.Counter(label for labels in sets for label in labels)
    most = [label for label in votes if votes[label] == max(votes.values())]
    codes = dict(zip(grammar.LABELS, grammar.CODES, strict=True))
    expected = codes[most[0]] if len(most) == 1 else "xxx"
    assert published.derive_code(block(*sets)) == expected


def test_a_triple_is_the_mean_of_the_observers():
    rows = block(values=[(3.0, 2.0, 2.0), (2.0, None, 3.0), (2.0, 4.0, 5.0)])
    own = Dimensions("F1", 5.0, 5.0, 5.0)
    rows = rows._replace(dimensions=(*rows.dimensions, own))
    assert published.derive_triple(rows) == pytest.approx((7 / 3, 3.0, 10 / 3))
    assert all(map(math.isnan, published.derive_triple(block())))


def test_mismatches_are_counted_and_shown():
    triple = (2.3333, 3.0, 3.0)
    values = [(3.0, 2.0, 3.0), (2.0, 3.0, 3.0), (2.0, 4.0, 3.0)]
    good = block(["Fear"], code="fea", triple=triple, values=values)
    wrong = [
        good._replace(
            utterance=f"Ses01F_impro01_F{k:03d}", code="ang", triple=(2.3, 3.0, 3.0)
        )
        for k in range(1, 9)
    ]
    problems = Problems()
    found = published.check_derived([good, *wrong], "here", problems)
    assert found["consensus"].text == found["triple"].text == "8 of 9 differ"
    assert [(x.severity, x.kind, x.where) for x in problems.rows] == [
        ("warning", "consensus_mismatch", "here"),
        ("warning", "triple_mismatch", "here"),
    ]
    assert "F001 has ang, its raters give fea; Ses" in problems.rows[0].message
    assert "has [2.3000, 3.0000, 3.0000], its raters give [2.3333," in (
        problems.rows[1].message
    )
    assert problems.rows[0].message.count("Ses01F") == published.MAX_EXAMPLES


def test_triples_are_compared_where_there_is_something_to_compare():
    unrated = block(triple=(1.0, 1.0, 1.0))
    missing = block(values=[(1.0, 1.0, 1.0)])
    assert published.rederive_triples([unrated, missing]) == (0, ())


def test_the_matrix_counts_raters_sessions_and_labels():
    blocks = [
        block(["Anger", "Fear"], []),
        block(["Anger"], ["Neutral"], name="Ses02F_impro01_F000"),
    ]
    own = Labels("F1", ("Anger",))
    blocks[0] = blocks[0]._replace(labels=(own, *blocks[0].labels))
    matrix = published.count_labels(blocks)
    assert matrix.raters == ("E1", "E2", "F1")
    assert matrix.sessions == ("Ses01", "Ses02")
    assert matrix.rated.tolist() == [[1, 1], [0, 1], [1, 0]]
    anger = grammar.LABELS.index("Anger")
    assert matrix.counts[:, :, anger].tolist() == [[1, 1], [0, 0], [1, 0]]
    assert matrix.counts.sum() == 5
    again = published.matrix_from_dict(published.matrix_as_dict(matrix))
    for mine, other in zip(matrix, again, strict=True):
        np.testing.assert_array_equal(mine, other)
    lines = published.describe_raters(matrix).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split() for line in lines[:4]] == [
        ["rater", "session", "clips", *grammar.CODES],
        ["E1", "Ses01", *["1", "0", "0", "0", "1", "0", "1", "0", "0", "0", "0"]],
        ["E1", "Ses02", *["1", "0", "0", "0", "1", "0", "0", "0", "0", "0", "0"]],
        ["E1", "all", *["2", "0", "0", "0", "2", "0", "1", "0", "0", "0", "0"]],
    ]
    assert published.brief_raters(matrix) == {
        "E1": "observer; Ses01 1, Ses02 1; ang 67%, fea 33%",
        "E2": "observer; Ses02 1; neu 100%",
        "F1": "self; Ses01 1; ang 100%",
    }


def test_nobody_gives_an_empty_matrix():
    matrix = published.count_labels([])
    assert matrix.counts.shape == (0, 0, 10)
    assert published.describe_raters(matrix).count("\n") == 0
