"""Lists of (type, value) are read from every form that models write."""

import collections

import numpy as np
import pytest
import sklearn.metrics

from benchmark.metrics.pairs import Pairs, f1, overlap, read_pairs, released_pairs

CITY = (("city", "new york"), ("date", "today"))
READ = [
    ("city: new york, date: today", CITY),
    ("city:new york;date:today", CITY),
    ("- **city**: new york\n- date: today", CITY),
    ("city: new york\ndate: today\n", CITY),
    ("B-city new york E-city B-date today E-date", CITY),
    ("please B-city(new york) then B-date(today)", CITY),
    ("B-city(new york", CITY[:1]),
    ("B-city", (("city", ""),)),
    ("E-city new york", ()),
    ("city FILL new york SEP date FILL today SEP", CITY),
    ("city FILL new york SEP date FILL today", CITY),
    ("FILL", ()),
    ("[('city', 'new york'), (\"date\", \"today\")]", CITY),
    ("('name', \"it's\")", (("name", "it's"),)),
    ('{"city": "new york", "date": "today"}', CITY),
    ('```json\n[{"type": "city", "value": "new york"}]\n```', CITY[:1]),
    ('[["city", "new york"], ["date", "today"]]', CITY),
    ('{"city": ["new york", 5, null, [1], {"a": 1}]}', None),
    ("new york (city), today [date]", CITY),
    ("playlist: rock, pop, and soul", (("playlist", "rock, pop, and soul"),)),
    ("time: 5:30", (("time", "5:30"),)),
    ("city:", (("city", ""),)),
    (": new york", ()),
    ("new york", ()),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_forms(text, expected):
    if expected is None:
        values = ("new york", "5", "null", "", "")
        expected = tuple(("city", value) for value in values)
    assert read_pairs(text).pairs == expected


@pytest.mark.parametrize(
    "text", ["", " ", "none", "None.", "N/A", "[]", "{}", "No entities found.", "null"]
)
def test_nothing_is_a_list_without_pairs(text):
    assert read_pairs(text) == Pairs((), 0)


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("I cannot hear any, sorry", 2),
        ("[" * 5000, 1),
        ("[" * 5000 + "]" * 5000, 1),
        ("x\ud800", 1),
    ],
)
def test_pieces_that_are_no_pair_are_counted(text, unread):
    assert read_pairs(text).num_unread == unread


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1_000_000,
        "('a', " * 200_000,
        "B-a " * 250_000,
        "a: b, " * 150_000,
        "x FILL " * 150_000,
        '{"a":' * 200_000,
        "a, " * 300_000,
        " " * 1_000_000,
        "'" * 1_000_000,
    ],
)
def test_a_million_characters_take_little_time(text):
    assert len(read_pairs(text).pairs) <= 100_000


@pytest.mark.parametrize(
    ("text", "pairs", "unread"),
    [
        ("city: new york, date: today", CITY, 0),
        ("city:new york, date: today", CITY[1:], 1),
        ("a: b: c, date: today", CITY[1:], 1),
        ("rock, pop", (), 2),
        ("", (), 1),
    ],
)
def test_the_released_form(text, pairs, unread):
    assert released_pairs(text) == Pairs(pairs, unread)


def test_f1_agrees_with_scikit_learn(rng):
    truth, found = rng.random((2, 40, 6)) < 0.4
    sums = np.zeros(3)
    for row, other in zip(truth, found, strict=True):
        sides = (collections.Counter(np.flatnonzero(x).tolist()) for x in (row, other))
        sums += overlap(*sides)
    expected = sklearn.metrics.f1_score(truth, found, average="micro")
    assert f1(sums) == pytest.approx(expected)


def test_f1_without_anything_is_undefined():
    np.testing.assert_array_equal(f1(np.array([[0, 0, 0], [0, 1, 0.0]])), [np.nan, 0])


def test_repetitions_must_be_found_as_often():
    reference, hypothesis = map(collections.Counter, ("aab", "abbc"))
    assert overlap(reference, hypothesis) == (2, 2, 1)
