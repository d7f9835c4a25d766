"""Edits are counted exactly, with the declared tie rule, in text and in arrays."""

import jax
import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from benchmark.metrics import sequence
from benchmark.metrics.edit_distance import edit_distance
from benchmark.metrics.sequence import count_edits, error_rate

TOKENS = st.lists(st.sampled_from("abc"), max_size=7)


def by_table(reference, hypothesis):
    """Fills the whole table with (edits, substitutions, deletions, insertions)."""
    table = {(0, 0): (0, 0, 0, 0)}
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            ways = [table[0, 0]] if i == j == 0 else []
            if i:
                edits, s, d, n = table[i - 1, j]
                ways.append((edits + 1, s, d + 1, n))
            if j:
                edits, s, d, n = table[i, j - 1]
                ways.append((edits + 1, s, d, n + 1))
            if i and j:
                wrong = int(reference[i - 1] != hypothesis[j - 1])
                edits, s, d, n = table[i - 1, j - 1]
                ways.append((edits + wrong, s + wrong, d, n))
            table[i, j] = min(ways)
    return [*table[len(reference), len(hypothesis)][1:], len(reference)]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", [0, 0, 0, 3]),
        ("a b c", "a x c", [1, 0, 0, 3]),
        ("a b c", "a c", [0, 1, 0, 3]),
        ("a b c", "a b b c", [0, 0, 1, 3]),
        ("a b", "b c", [0, 1, 1, 2]),  # not two substitutions
        ("", "a b", [0, 0, 2, 0]),
        ("a b", "", [0, 2, 0, 2]),
        ("", "", [0, 0, 0, 0]),
        ("x", "\ud800", [1, 0, 0, 1]),
    ],
)
def test_closed_forms(reference, hypothesis, expected):
    assert count_edits([reference.split()], [hypothesis.split()]).tolist() == [expected]


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=5))
def test_counts_agree_with_the_whole_table(pairs):
    references, hypotheses = map(list, zip(*pairs, strict=True))
    expected = [by_table(*pair) for pair in pairs]
    assert count_edits(references, hypotheses).tolist() == expected


def test_edits_agree_with_rapidfuzz_on_texts(rng):
    texts = [
        "".join(rng.choice(list("abcde "), rng.integers(0, 80))) for _ in range(200)
    ]
    found = count_edits(texts[:100], texts[100:])
    pairs = zip(texts[:100], texts[100:], strict=True)
    edits = [Levenshtein.distance(a, b) for a, b in pairs]
    assert found[:, :3].sum(axis=1).tolist() == edits
    assert (found >= 0).all()


def test_no_pairs():
    assert count_edits([], []).shape == (0, 4)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(TOKENS, TOKENS), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
def test_the_jitted_counts_agree_wherever_the_padding_is(pairs, seed):
    rng = np.random.default_rng(seed)
    arrays = []
    for side in zip(*pairs, strict=True):
        ids, mask = rng.integers(0, 3, (3, 9)), np.zeros((3, 9), bool)
        for row, tokens in enumerate(side):
            places = np.sort(rng.permutation(9)[: len(tokens)])
            ids[row, places] = [ord(token) - ord("a") for token in tokens]
            mask[row, places] = True
        arrays.append((ids, mask))
    (references, reference_mask), (hypotheses, hypothesis_mask) = arrays
    found = edit_distance(references, hypotheses, reference_mask, hypothesis_mask)
    expected = np.array([by_table(*pair) for pair in pairs])
    np.testing.assert_array_equal(np.stack(found, axis=1), expected)


@pytest.mark.parametrize("lengths", [(0, 0), (0, 4), (5, 0), (1, 1), (40, 3)])
def test_jitted_shapes_of_any_size(lengths, rng):
    sides = [rng.integers(0, 3, (2, length)) for length in lengths]
    found = edit_distance(*sides, *(np.ones(side.shape, bool) for side in sides))
    texts = [[[str(token) for token in row] for row in side] for side in sides]
    np.testing.assert_array_equal(np.stack(found, axis=1), count_edits(*texts))


def test_jitted_counts_under_vmap(rng):
    ids = rng.integers(0, 4, (2, 3, 2, 6))
    mask = rng.random((2, 3, 2, 6)) < 0.7
    batched = jax.vmap(edit_distance)(ids[0], ids[1], mask[0], mask[1])
    single = edit_distance(ids[0, 1], ids[1, 1], mask[0, 1], mask[1, 1])
    for of_all, of_one in zip(batched, single, strict=True):
        np.testing.assert_array_equal(of_all[1], of_one)


def test_sequences_too_long_for_32_bits_are_refused():
    ids, mask = np.zeros((1, 30_000), int), np.ones((1, 30_000), bool)
    with pytest.raises(ValueError, match="too long"):
        edit_distance(ids, ids, mask, mask)


def statistics(references, hypotheses, **options):
    return sequence.error_statistics(references, hypotheses, sequence.words, **options)


def test_corpus_rates_agree_with_jiwer(rng):
    vocabulary = ["a", "b", "bb", "c'est", "été", "你好"]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(1, 12))) for _ in range(400)]
    references, hypotheses = texts[:200], [*texts[200:399], ""]
    words = statistics(references, hypotheses).sum(axis=0)
    assert error_rate(words) == pytest.approx(jiwer.wer(references, hypotheses))
    cut = sequence.characters
    letters = sequence.error_statistics(references, hypotheses, cut).sum(axis=0)
    assert error_rate(letters) == pytest.approx(jiwer.cer(references, hypotheses))


def test_blocks_change_nothing(monkeypatch):
    references, hypotheses = ["a b", "c", "", "d e f"], ["a", "c c", "x", "e f"]
    whole = statistics(references, hypotheses)
    monkeypatch.setattr(sequence, "_BLOCK", 3)
    np.testing.assert_array_equal(statistics(references, hypotheses), whole)


def test_a_runaway_hypothesis_is_cut_and_counted():
    rows = statistics(["a", "b " * 30], ["a " * 50_000, "b " * 59], max_tokens=20)
    assert rows[:, 2].tolist() == [19, 29]  # twice the reference is allowed
    assert rows[:, -1].tolist() == [1, 0]


def test_rates_of_many_sets_at_once():
    sums = np.array([[1, 0, 1, 4], [0, 0, 3, 0], [0, 0, 0, 5.0]])
    np.testing.assert_array_equal(error_rate(sums), [0.5, np.nan, 0])
