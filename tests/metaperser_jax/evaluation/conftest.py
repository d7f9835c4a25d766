"""Rows of a sweep for the tests of the paper's tables."""

import pytest

from metaperser_jax.evaluation import titles
from tests.metaperser_jax.evaluation import result_rows

METHODS = ("full", "minus_csmt", "minus_da", "minus_lslr", "no_adaptation", "oracle")


PLACE = {"encoder": "logmel", "group": ""}


def one_record(method="full", metric="macro_f1", mean=0.5, **changes):
    counts = {"sd": 0.0312345, "num_seeds": 3, "num_folds": 5}
    return result_rows.record(method, metric, mean, **(PLACE | counts | changes))


def one_comparison(method="full", reference="no_adaptation", **changes):
    return result_rows.comparison(reference, **(PLACE | {"method": method} | changes))


def one_value(annotator="E1", method="full", value=0.5, **changes):
    return result_rows.listener_value(annotator, method, value, **(PLACE | changes))


def whole_sweep(
    encoders=("logmel",),
    groups=("observer", "self"),
    scenarios=("seen", "unseen"),
    supports=(8, 16),
    methods=METHODS,
    metrics=("macro_f1", "nll"),
    listeners=("E1", "E2", "E10"),
):
    """Returns records, comparisons and per-listener rows of all combinations."""
    found = ([], [], [])
    for encoder in encoders:
        for group in groups:
            for scenario in scenarios:
                for k in supports:
                    place = {
                        "encoder": encoder,
                        "group": group,
                        "scenario": scenario,
                        "num_support": k,
                    }
                    for part, rows in zip(
                        found, _rows(place, methods, metrics, listeners), strict=True
                    ):
                        part.extend(rows)
    return found


def _rows(place, methods, metrics, listeners):
    sign = {m: -1 if titles.metric_info(m).lower_is_better else 1 for m in metrics}
    records, comparisons, values = [], [], []
    for i, method in enumerate(methods):
        for metric in metrics:
            mean = 0.5 - 0.01 * i * sign[metric]
            here = place | {"metric": metric}
            records.append(one_record(method, mean=mean, **here))
            if method != "full":
                pair = {"difference": 0.01 * i * sign[metric], "p_holm": 0.004 * i}
                comparisons.append(one_comparison("full", method, **here, **pair))
            if method not in ("full", "no_adaptation"):
                pair = {"difference": -0.01 * sign[metric], "p_holm": 0.5}
                comparisons.append(one_comparison(method, **here, **pair))
            values += [one_value(name, method, mean, **here) for name in listeners]
    return records, comparisons, values


@pytest.fixture
def record():
    return one_record


@pytest.fixture
def comparison():
    return one_comparison


@pytest.fixture
def value():
    return one_value


@pytest.fixture
def sweep():
    return whole_sweep
