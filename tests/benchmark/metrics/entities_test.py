"""Entities and when they are said: SLUE's measures against loops."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics import entities
from benchmark.metrics.entities import time_spans
from benchmark.metrics.pairs import f1

LABELS, PHRASES = ["PLACE", "ORG", "WHEN"], ["europe", "the eu", "today"]
LISTS = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(PHRASES)), max_size=5
)


def written(pairs):
    return ", ".join(f"{label}: {phrase}" for label, phrase in pairs)


def by_loop(references, hypotheses):
    """Removes each found entity from the reference as it is found."""
    true = false = missed = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        left = list(reference)
        for entity in hypothesis:
            if entity in left:
                left.remove(entity)
                true += 1
            else:
                false += 1
        missed += len(left)
    total = 2 * true + false + missed
    return 2 * true / total if total else np.nan


@settings(max_examples=80, deadline=None)
@given(lists=st.lists(st.tuples(LISTS, LISTS), min_size=1, max_size=4))
def test_f1_and_label_f1_agree_with_a_loop(lists):
    sides = list(zip(*lists, strict=True))
    texts = [[written(pairs) for pairs in side] for side in sides]
    found = f1(entities.entity_statistics(*texts).sum(axis=0))
    assert found == pytest.approx(by_loop(*sides), nan_ok=True)
    labels = [[[label for label, _ in pairs] for pairs in side] for side in sides]
    found = f1(entities.label_statistics(*texts).sum(axis=0))
    assert found == pytest.approx(by_loop(*labels), nan_ok=True)


@pytest.mark.parametrize(
    "hypothesis",
    [
        "PLACE: europe, ORG: the EU.",
        "europe: place, the eu: org",
        "europe (GPE), the eu (Organization)",
        "[('LOC', 'Europe'), ('ORG', 'the EU')]",
        "ORG FILL the eu SEP PLACE FILL europe SEP",
        '[{"text": "europe", "label": "GPE"}, {"entity": "the eu", "type": "ORG"}]',
    ],
)
def test_forms_labels_and_order_do_not_matter(hypothesis):
    rows = entities.entity_statistics(["PLACE: europe, ORG: the eu"], [hypothesis])
    assert rows[0].tolist() == [2, 0, 0, 0, 0, 0]


def test_a_wrong_phrase_has_the_right_label():
    sides = ["PLACE: europe"], ["PLACE: asia"]
    assert entities.entity_statistics(*sides)[0, :3].tolist() == [0, 1, 1]
    assert entities.label_statistics(*sides)[0, :3].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("europe:0.52-1.10", [(52, 110)]),
        ("(europe, 0.52, 1.10)", [(52, 110)]),
        ("(2019, 0.52, 1.10) ('covid 19', 2, 3)", [(52, 110), (200, 300)]),
        ("[0.5,1.2],[2.0,3.1]", [(50, 120), (200, 310)]),
        ("from 0.52 s to 1.10 s", [(52, 110)]),
        ("0.5s \u2013 1.2 seconds", [(50, 120)]),
        ("00:01.5 - 01:02.0", [(150, 6200)]),
        ('{"start_time": 0.5, "end_time": 1.2}', [(50, 120)]),
        ("start: 0.5, end: 1.2; start: 3, end: 4", [(50, 120), (300, 400)]),
        ("between 1 and 2 and between 3 and 4", [(100, 200), (300, 400)]),
        ("0.29 0.57", [(29, 57)]),
        ("0.28999999999999998-0.56999999999999995", [(29, 57)]),
        ("1.10", []),
        ("00:01.5", []),
        ("500 million euro", []),
        ("2-1", []),
        ("0-999", []),
        ("1e309 to 2", []),
        ("", []),
    ],
)
def test_times_are_read_in_many_forms(text, expected):
    assert time_spans(text).spans == tuple(expected)


@settings(max_examples=60, deadline=None)
@given(
    sides=st.lists(
        st.lists(st.tuples(st.integers(0, 80), st.integers(1, 40)), max_size=4),
        min_size=2,
        max_size=2,
    )
)
def test_frame_f1_agrees_with_scikit_learn(sides):
    frames, texts = np.zeros((2, 130), bool), []
    for row, side in zip(frames, sides, strict=True):
        for start, length in side:
            row[start : start + length] = True
        spans = (f"{start / 100}-{(start + length) / 100}" for start, length in side)
        texts.append(["x: " + ", x: ".join(spans)])
    rows = entities.frame_statistics(*texts)
    if frames.any():
        assert f1(rows.sum(axis=0)) == pytest.approx(sklearn.metrics.f1_score(*frames))
    else:
        assert np.isnan(f1(rows.sum(axis=0)))


@pytest.mark.parametrize(
    ("hypothesis", "unreadable"),
    [("none", 0), ("", 0), ("europe", 1), ("5-1", 1), ("1-2", 0)],
)
def test_answers_without_a_time_are_counted(hypothesis, unreadable):
    rows = entities.frame_statistics(["1-2"], [hypothesis])
    assert rows[0, -2] == unreadable
