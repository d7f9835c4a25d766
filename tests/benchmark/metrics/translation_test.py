"""Corpus BLEU and its tokenisers agree with sacrebleu."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_char import TokenizerChar
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

from benchmark.metrics.translation import TOKENISERS, bleu, bleu_statistics

ORACLES = {"13a": Tokenizer13a(), "zh": TokenizerZh(), "char": TokenizerChar()}
# fmt: off
PIECES = [
    "the", "cat", "3.5", "a-b", "5-6", "it's", "&quot;hi&quot;", "end.", "1,000", "x,y",
    "(ok)", "<skipped>", "你好", "\uff0c", "full。", "$5", "...", ".5", "5.", "é",
    "-\n", "&amp;lt;", "a\u2014b", "か", "\uff21\uff22",
]
# fmt: on
SENTENCES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map(" ".join)


def score(references, hypotheses, tokeniser):
    return bleu(bleu_statistics(references, hypotheses, TOKENISERS[tokeniser]).sum(0))


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_tokenisers_agree_on_every_character(tokeniser):
    codes = set(range(0x10000)) - set(range(0xD800, 0xE000)) | {0x20000, 0x1F600}
    text = " ".join(f"a{chr(code)}5{chr(code)}b" for code in sorted(codes))
    assert TOKENISERS[tokeniser](text) == ORACLES[tokeniser](text).split()


@pytest.mark.parametrize("tokeniser", TOKENISERS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("a5 .,-'&;<\n$你。é"), max_size=12))
def test_tokenisers_agree_on_marks_in_any_context(tokeniser, text):
    assert TOKENISERS[tokeniser](text) == ORACLES[tokeniser](text.rstrip()).split()


@pytest.mark.parametrize("tokeniser", TOKENISERS)
@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(SENTENCES, SENTENCES | st.just(""), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
def test_corpus_bleu_agrees(tokeniser, pairs):
    references = [reference for reference, _, _ in pairs]
    hypotheses = [a + " " + b if near else b for a, b, near in pairs]
    expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokeniser)
    if expected.ref_len:
        assert score(references, hypotheses, tokeniser) == pytest.approx(expected.score)


def test_perfect_empty_and_undefined():
    assert score(["a b c d e"], ["a b c d e"], "13a") == pytest.approx(100)
    assert score(["a b c d e"], [""], "13a") == 0
    assert np.isnan(score(["", ""], ["a", ""], "13a"))


def test_an_empty_reference_is_counted_and_costs_precision():
    rows = bleu_statistics(["a b c d e", ""], ["a b c d e", "x y"], TOKENISERS["13a"])
    assert rows[:, -3].tolist() == [0, 1]
    assert bleu(rows.sum(0)) < bleu(rows[0])


def test_a_runaway_is_cut_and_counted():
    tokenise = TOKENISERS["13a"]
    rows = bleu_statistics(["a"], ["b " * 500], tokenise, max_tokens=100)
    assert (rows[0, 0], rows[0, -1]) == (100, 1)


def test_values_of_weighted_sums_come_all_at_once(rng):
    references = ["the cat sat on a mat", "a dog ran far away now"]
    hypotheses = ["the cat sat on the mat", "dog ran far away"]
    rows = bleu_statistics(references, hypotheses, TOKENISERS["13a"])
    sums = rng.exponential(size=(4, 2)) @ rows
    expected = [float(bleu(one)) for one in sums]
    np.testing.assert_allclose(bleu(sums), expected)
