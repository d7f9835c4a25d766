"""Slot filling: worked examples, the released roles, malformed answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from benchmark.metrics import slots
from benchmark.metrics.pairs import f1
from benchmark.metrics.sequence import error_rate

TYPES, VALUES = ["city", "date", "name"], ["york", "new york", "today", "now"]
LISTS = st.lists(
    st.tuples(st.sampled_from(TYPES), st.sampled_from(VALUES)), min_size=1, max_size=4
)


def written(pairs):
    return ", ".join(f"{kind}: {value}" for kind, value in pairs)


def test_strict_types_count_over_the_corpus():
    references = ["city: york, date: today", "name: bob, name: jim"]
    hypotheses = ["City: york, name: x", "name: bob"]
    rows = slots.type_statistics(references, hypotheses)
    assert rows[:, :3].tolist() == [[1, 1, 1], [1, 0, 1]]
    assert f1(rows.sum(axis=0)) == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))


def test_strict_values_are_used_once_nearest_first():
    rows = slots.value_statistics(
        ["city: york, city: new york"], ["city: new york, city: york!"]
    )
    assert rows[0, :4].tolist() == [0, 0, 0, 12]
    rows = slots.value_statistics(["city: york, city: york"], ["city: york"])
    assert rows[0, :4].tolist() == [0, 4, 0, 8]


def test_a_missing_slot_is_deleted_and_a_spurious_one_is_left_to_f1():
    rows = slots.value_statistics(["city: york"], ["date: now, name: bob"])
    assert rows[0, :4].tolist() == [0, 4, 0, 4]


@settings(max_examples=80, deadline=None)
@given(lists=st.lists(st.tuples(LISTS, LISTS), min_size=1, max_size=4))
def test_the_released_mean_f1_agrees_with_a_loop(lists):
    values = []
    for reference, hypothesis in lists:
        wanted, found = {k for k, _ in reference}, {k for k, _ in hypothesis}
        precision = len(wanted & found) / len(found)
        recall = len(wanted & found) / len(wanted)
        both = precision + recall
        values.append(2 * precision * recall / both if both else 0)
    sides = [[written(pairs) for pairs in side] for side in zip(*lists, strict=True)]
    rows = slots.released_type_statistics(*sides)
    sums = np.append(rows.sum(axis=0), len(rows))
    assert slots.mean_f1(sums) == pytest.approx(np.mean(values))


@settings(max_examples=80, deadline=None)
@given(lists=st.lists(st.tuples(LISTS, LISTS), min_size=1, max_size=4))
def test_the_released_values_measure_the_prediction(lists):
    edits = length = 0
    for reference, hypothesis in lists:
        for kind, value in hypothesis:
            offered = [v for k, v in reference if k == kind] or [""]
            edits += min(Levenshtein.distance(value, other) for other in offered)
            length += len(value)
    sides = [[written(pairs) for pairs in side] for side in zip(*lists, strict=True)]
    sums = slots.released_value_statistics(*sides).sum(axis=0)
    assert error_rate(sums) == pytest.approx(edits / length)


def test_the_exchange_of_roles_is_the_difference_between_the_profiles():
    reference, hypothesis = ["city: york"], ["city: york, date: today"]
    assert slots.value_statistics(reference, hypothesis)[0, :4].sum() == 4
    assert slots.released_value_statistics(reference, hypothesis)[0, 1] == 5


@pytest.mark.parametrize(
    ("hypothesis", "strict", "released"),
    [
        ("city: york", 0, 0),
        ("city york", 1, 1),  # the released script raises here
        ("B-city(york", 0, 1),
        ("", 0, 0),
        ("city: york, sorry", 0, 1),
    ],
)
def test_malformed_answers_are_counted(hypothesis, strict, released):
    found = slots.type_statistics(["city: york"], [hypothesis])
    assert found[0, -2] == strict
    found = slots.released_type_statistics(["city: york"], [hypothesis])
    assert found[0, -2] == released


def test_an_empty_reference_is_counted_and_costs():
    rows = slots.type_statistics([""], ["city: york"])
    assert rows[0].tolist() == [0, 1, 0, 1, 0, 0]
    assert slots.released_type_statistics(["none"], ["none"])[0, 0] == 1
