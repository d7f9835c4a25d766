"""Normalisers: what they fold, what they leave, and that nothing breaks them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.normalisers import NORMALISERS, normaliser_for, strip_preamble
from benchmark.typing import Task

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)  # lone surrogates too

CASES = [
    ("none_v1", " A,  b ", " A,  b "),
    ("basic_v1", "Straße,  L\u2019ÉTÉ!", "straße l'été"),
    (
        "basic_v1",
        "soft\u00adhyphen zero\u200bwidth \ufeffmark",
        "softhyphen zerowidth mark",
    ),
    ("basic_v1", "e\u200d\u0301", "é"),
    ("basic_v1", "ﬁne ① \uff46\uff55\uff4c\uff4c", "fine 1 full"),
    ("basic_v1", "दिल्ली में", "दिल्ली में"),
    ("english_v1", "It\u2019s 'quoted', rock-n-roll & 5%", "it's quoted rock n roll 5"),
    ("english_v1", "NAÏVE Café", "naive cafe"),
    ("english_v1", "five 5 gonna um", "five 5 gonna um"),
    ("english_v1", "a\x00b\ud800c\nd", "a b c d"),
    ("english_v1", "", ""),
    ("english_v1", "...", ""),
    ("arabic_v1", "مُحَمَّدٌ ـــ", "محمد"),
    ("arabic_v1", "أحمد، احمد", "أحمد احمد"),
    ("chinese_v1", "你好\uff0c世 界。 OK's!", "你好世界oks"),
    ("chinese_v1", "臺灣 台湾", "臺灣台湾"),
    ("japanese_v1", "ｱｲｽｺｰﾋｰ、です。", "アイスコーヒーです"),
    ("mixed_v1", "我们go to学校\uff0cdon't!", "我 们 go to 学 校 don't"),
    ("mixed_v1", "𠀀々はABC", "𠀀 々 は abc"),
    ("phonemes_v1", "hh ah0, l ow1 / W-ER0-L-D", "HH AH L OW W ER L D"),
    ("phonemes_v1", "AA10 1 SIL", "AA10 1 SIL"),
]


@pytest.mark.parametrize(("name", "text", "expected"), CASES)
def test_each_folds_what_it_says(name, text, expected):
    assert NORMALISERS[name](text) == expected


@pytest.mark.parametrize("name", NORMALISERS)
@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
def test_once_is_enough(name, text):
    once = NORMALISERS[name](text)
    assert NORMALISERS[name](once) == once


@pytest.mark.parametrize("name", sorted(set(NORMALISERS) - {"none_v1"}))
@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
def test_spaces_are_single_and_inside(name, text):
    found = NORMALISERS[name](text)
    assert found == " ".join(found.split())


def test_names_carry_a_version():
    assert all(name.rpartition("_v")[2].isdecimal() for name in NORMALISERS)


def task(metric, language=""):
    return Task("T", "sequence_generation", metric, language=language)


@pytest.mark.parametrize(
    ("metric", "language", "expected"),
    [
        ("word_error_rate", "", "english_v1"),
        ("word_error_rate", "en-GB", "english_v1"),
        ("word_error_rate", "de", "basic_v1"),
        ("word_error_rate", "pt_BR", "basic_v1"),
        ("word_error_rate", "ar", "arabic_v1"),
        ("word_error_rate", "zh-TW", "mixed_v1"),
        ("character_error_rate", "zh-CN", "chinese_v1"),
        ("character_error_rate", "ja", "japanese_v1"),
        ("character_error_rate", "", "english_v1"),
        ("mix_error_rate", "zh", "mixed_v1"),
        ("phoneme_error_rate", "en", "phonemes_v1"),
        ("sacre_bleu", "de", "none_v1"),
    ],
)
def test_the_metric_and_the_language_choose(metric, language, expected):
    assert normaliser_for(task(metric, language)).__name__ == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The transcription is: 'hello it's me'", "hello it's me"),
        ('Sure! Here is the transcription:\n"Hello there."', "Hello there."),
        ("Sure, here's the translation: Guten Tag", "Guten Tag"),
        ("Here are the lyrics of the song: la la", "la la"),
        ('The speaker says "I am here". Anything else?', "I am here"),
        ("The audio says as follows: hi", "hi"),
        ("The transcription of the audio is “so it is”.", "so it is"),
        ("**Transcription:** foo bar", "foo bar"),
        ("The part-of-speech tags are: PRON VERB", "PRON VERB"),
    ],
)
def test_preambles_are_taken_off(text, expected):
    assert strip_preamble(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello there",
        "He said: go home",
        "the transcription is late again",
        "here is the thing: nobody knows",
        "The speaker says he is tired",
        "'tis the season",
        '"Quoted" she said',
        "The transcription is:",
        "I cannot transcribe the audio: it is silent.",
        "city: new york, date: today",
        "a" * 500 + " The transcription is: b",
    ],
)
def test_what_may_be_an_answer_stays(text):
    assert strip_preamble(text) == text


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT, quote=st.sampled_from(["", '"', "'", "“", "`"]))
def test_stripping_never_raises_and_never_empties(text, quote):
    for answer in (text, f"The transcription is: {quote}{text}"):
        assert bool(strip_preamble(answer)) == bool(answer)
