"""Tags, sandhi and digits: what is read, and what counts as right."""

import numpy as np
import pytest

from benchmark.metrics import answers
from benchmark.metrics.pairs import f1
from benchmark.metrics.sequence import error_rate, error_statistics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PRON VERB NOUN", "PRON VERB NOUN"),
        ("pron verb noun", "PRON VERB NOUN"),
        ("PRON, VERB, NOUN.", "PRON VERB NOUN"),
        ("I/PRON saw/VERB birds/NOUN", "PRON VERB NOUN"),
        ("I saw. / PRON VERB", "i saw PRON VERB"),
        ("and/or / CCONJ", "and or CCONJ"),
        ("/ PRON", "PRON"),
        ("hello", "HELLO"),
        ("", ""),
    ],
)
def test_tags_and_words(text, expected):
    assert answers.tag_tokens(text) == expected.split()


def test_words_and_tags_both_count():
    sides = ["I saw it / PRON VERB PRON"], ["I was it / PRON AUX PRON"]
    rows = error_statistics(*sides, tokenise=answers.tag_tokens)
    assert error_rate(rows.sum(axis=0)) == pytest.approx(2 / 6)


def test_a_word_never_equals_a_tag():
    rows = error_statistics(["noun / NOUN"], ["NOUN"], tokenise=answers.tag_tokens)
    assert rows[0, :4].tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("text", "digit"),
    [
        ("7", 7),
        ("seven", 7),
        ("The digit is Seven.", 7),
        ("7 (seven)", 7),
        ("007", 7),
        ("７", 7),  # noqa: RUF001
        ("17", None),
        ("7 or 9", None),
        ("7 17", None),
        ("3.5", None),
        ("9" * 10_000, None),
        ("none", None),
        ("", None),
    ],
)
def test_one_digit_or_none(text, digit):
    assert answers.spoken_digit(text) == digit


def accuracy(rows):
    examples = len(rows)  # the statistic that follows those of the reading
    return answers.accuracy(np.append(rows.sum(axis=0), examples))


def test_digits_named():
    references = ["7", "three", "0", "5", "no digit"]
    hypotheses = ["It is seven", "3", "", "5 or 6", "5"]
    rows = answers.digit_statistics(references, hypotheses)
    assert rows[:, 0].tolist() == [1, 1, 0, 0, 0]
    assert rows[:, 1].tolist() == [0, 0, 0, 0, 1]
    assert rows[:, 2].tolist() == [0, 0, 0, 1, 0]
    assert accuracy(rows) == pytest.approx(2 / 4)


def test_sandhi_answers_are_exact_or_share_syllables():
    references, hypotheses = ["總統, 老闆", "你好"], ["總統 老闆。", "你"]
    assert accuracy(answers.exact_statistics(references, hypotheses)) == 0.5
    rows = answers.syllable_statistics(references, hypotheses)
    assert f1(rows.sum(axis=0)) == pytest.approx(2 * 5 / (2 * 5 + 1))


def test_the_released_comparison_is_of_raw_text():
    rows = answers.released_statistics(["Seven", "7"], [" seven\n", "It is 7"])
    assert rows[:, 0].tolist() == [1, 0]
