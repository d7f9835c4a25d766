"""Jitted, mergeable, masked metrics: the public names.

They are imported when they are first used: who scores texts does not wait for jax.
The function `bootstrap.bootstrap` keeps to its module, whose name it would hide.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.metrics.base import (
        DecisionRule,
        Metric,
        check_predictions,
        collection,
        evaluate,
        higher_is_better,
        merge,
        on_columns,
        per_listener,
        predict_set,
        reduce,
    )
    from benchmark.metrics.bootstrap import Bootstrap, Interval, interval
    from benchmark.metrics.calibration import adaptive_ece, ece, reliability_bins
    from benchmark.metrics.classification import (
        accuracy,
        brier,
        co_occurrence,
        exact_match,
        macro_f1,
        micro_f1,
        nll,
        standard_metrics,
        uar,
    )
    from benchmark.metrics.paired import PairedDifference, holm, paired_difference
    from benchmark.metrics.regression import ccc, mae, pearson, regression_metrics, rmse

_ROOMS = ("base", "bootstrap", "calibration", "classification", "paired", "regression")
__all__ = [
    "Bootstrap",
    "DecisionRule",
    "Interval",
    "Metric",
    "PairedDifference",
    "accuracy",
    "adaptive_ece",
    "brier",
    "ccc",
    "check_predictions",
    "co_occurrence",
    "collection",
    "ece",
    "evaluate",
    "exact_match",
    "higher_is_better",
    "holm",
    "interval",
    "macro_f1",
    "mae",
    "merge",
    "micro_f1",
    "nll",
    "on_columns",
    "paired_difference",
    "pearson",
    "per_listener",
    "predict_set",
    "reduce",
    "regression_metrics",
    "reliability_bins",
    "rmse",
    "standard_metrics",
    "uar",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in _ROOMS:
            module = importlib.import_module(f"{__name__}.{room}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
