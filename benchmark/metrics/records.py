"""Builds text metrics from what one answer says about one reference."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float

from benchmark.metrics import text as text_metrics
from benchmark.metrics.pairs import MAX_CHARACTERS
from benchmark.metrics.text import FLAGS, TextMetric

Sums = Float[np.ndarray, "*sets stats"]
Values = Float[np.ndarray, "*sets"] | np.floating


class Row(NamedTuple):
    """Statistics of one example, to be summed over examples."""

    stats: Sequence[float]
    empty: bool = False  # the reference holds nothing that can be scored
    unreadable: bool = False  # the answer does not


def record(
    name: str,
    doc: str,
    stats: tuple[str, ...],
    measure: Callable[[str, str], Row],
    compute: Callable[[Sums], Values],
    **fields: Any,
) -> TextMetric:
    """Returns a metric whose statistics are those of `measure` for each example.

    Args:
      name: of the released metric, or 'name:part'.
      doc: one line for a reader of the report.
      stats: names of the statistics.
      measure: reference, answer -> their row; called with at most `MAX_CHARACTERS`.
      compute: [*sets, stats and flags] -> [*sets].
      **fields: others of `TextMetric`, for example direction.
    """

    def batch(
        references: Sequence[str], hypotheses: Sequence[str]
    ) -> Float[np.ndarray, "examples _"]:
        rows = []
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            row = measure(reference, hypothesis[:MAX_CHARACTERS])
            cut = len(hypothesis) > MAX_CHARACTERS
            rows.append([*row.stats, row.empty, row.unreadable, cut])
        return np.array(rows, np.float64).reshape(-1, len(stats) + 3)

    def statistics(reference: str, hypothesis: str | None) -> Float[np.ndarray, " _"]:
        return text_metrics.examples(metric, [reference], [hypothesis])[0]

    settings: dict[str, Any] = {
        "direction": "higher", "unit": "", "version": "1", "reconstructed": False,
    }  # fmt: skip
    metric = TextMetric(
        name=name,
        statistics=statistics,
        compute=cast(Any, compute),
        doc=doc,
        stats=(*stats, *FLAGS),
        batch=batch,
        **(settings | fields),
    )
    return metric
