"""The protocol's numbers: from predictions to records, comparisons and summaries."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.metrics import (
    base,
    bootstrap,
    calibration,
    classification,
    paired,
    regression,
)

REFERENCE = "no_adaptation"
OF_DIMENSIONS = ("ccc", "pearson", "rmse", "mae")  # means over the dimensions


class Predictions(NamedTuple):
    """What the query sets of one scenario hold, the same for all methods and K."""

    annotators: np.ndarray  # [listeners] int, index into the corpus
    clip: np.ndarray  # [listeners, draws, query] int, -1 padding
    targets: np.ndarray  # [listeners, draws, query, classes]
    mask: np.ndarray  # [listeners, draws, query, classes] bool
    probs: dict[tuple[str, int], np.ndarray]  # (method, K) -> [..., query, classes]


class Outputs(NamedTuple):
    """What the columns of targets and predictions stand for; hashable."""

    family: base.Family
    num_classes: int  # the first columns
    dimensions: tuple[str, ...] = ()  # the others


class Scores(NamedTuple):
    """One method at one K."""

    estimate: dict[str, float]  # metric -> mean over draws, then listeners
    values: dict[str, np.ndarray]  # metric -> [listeners]
    replicates: dict[str, np.ndarray]  # metric -> [resamples]


def concatenate(parts: list[Predictions]) -> Predictions:
    """Joins folds (or seeds): a listener met several times gets all its draws.

    Listeners come in the order of their first part. Query sets are padded to the
    longest, listeners with fewer draws with empty ones, which no metric counts.
    """
    longest = max(part.clip.shape[2] for part in parts)
    places: dict[int, list[tuple[int, int]]] = {}
    for number, part in enumerate(parts):
        for row, annotator in enumerate(part.annotators.tolist()):
            places.setdefault(annotator, []).append((number, row))
    most = max(
        sum(parts[number].clip.shape[1] for number, _ in found)
        for found in places.values()
    )

    def join(arrays: list[np.ndarray], fill: Any) -> np.ndarray:
        shape = (len(places), most, longest, *arrays[0].shape[3:])
        joined = np.full(shape, fill, arrays[0].dtype)
        for listener, found in enumerate(places.values()):
            draw = 0
            for number, row in found:
                piece = arrays[number][row]
                joined[listener, draw : draw + len(piece), : piece.shape[1]] = piece
                draw += len(piece)
        return joined

    return Predictions(
        np.array(list(places), parts[0].annotators.dtype),
        join([part.clip for part in parts], -1),
        join([part.targets for part in parts], 0),
        join([part.mask for part in parts], False),
        {key: join([part.probs[key] for part in parts], 0.5) for key in parts[0].probs},
    )


def join_methods(parts: list[Predictions]) -> Predictions:
    """Joins the methods of one fold and scenario, which share their query sets."""
    probs = {key: value for part in parts for key, value in part.probs.items()}
    return parts[0]._replace(probs=probs)


def select_listeners(predictions: Predictions, keep: np.ndarray) -> Predictions:
    """Keeps the listeners of a mask or of indices."""
    return Predictions(
        predictions.annotators[keep],
        predictions.clip[keep],
        predictions.targets[keep],
        predictions.mask[keep],
        {key: value[keep] for key, value in predictions.probs.items()},
    )


@functools.cache
def standard_metrics(outputs: Outputs) -> tuple[base.Metric, ...]:
    """Returns the metrics of every report: of the classes, then of the dimensions."""
    classes, total = outputs.num_classes, outputs.num_classes + len(outputs.dimensions)
    metrics: tuple[base.Metric, ...] = ()
    if classes:
        found = classification.standard_metrics(outputs.family)
        metrics += base.on_columns(found, 0, classes)
    if outputs.dimensions:
        found = regression.regression_metrics(outputs.dimensions)
        metrics += base.on_columns(found, classes, total)
    return metrics


def headline_metrics(wanted: Sequence[str], outputs: Outputs) -> list[str]:
    """Returns those of the wanted metrics that there are, and the dimensions' means."""
    known = {metric.name for metric in standard_metrics(outputs)}
    kept = [name for name in wanted if name in known]
    means = OF_DIMENSIONS if outputs.dimensions else ()
    return [*kept, *(name for name in means if name not in kept)]


@functools.cache
def collected_metrics(outputs: Outputs) -> base.Metric:
    """Returns them as one metric; the same object for the same outputs."""
    return base.collection(standard_metrics(outputs))


_each_draw = jax.jit(base.per_listener, static_argnums=0)


def estimates(
    predictions: Predictions, outputs: Outputs
) -> dict[tuple[str, int], dict[str, float]]:
    """Returns each (method, K)'s metrics: mean over draws, then listeners."""
    found = {}
    for key, probs in predictions.probs.items():
        values = _each_draw(
            standard_metrics(outputs), probs, predictions.targets, predictions.mask
        )
        found[key] = {
            name: float(nan_mean(nan_mean(np.asarray(value), 1), 0))
            for name, value in values.items()
        }
    return found


def nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Returns the mean of what is not NaN, NaN where nothing else is there."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis)
    return np.where(known.any(axis), total / np.maximum(known.sum(axis), 1), np.nan)


def score_all(
    predictions: Predictions, outputs: Outputs, num_resamples: int, seed: int
) -> dict[tuple[str, int], Scores]:
    """Returns the scores of each (method, K), bootstrapped with the same weights."""
    metric = collected_metrics(outputs)
    known = predictions.clip >= 0
    clips, dense = np.unique(predictions.clip[known], return_inverse=True)
    clip_ids = np.full(predictions.clip.shape, -1, np.int32)
    clip_ids[known] = dense
    key = jax.random.key(seed)
    update = jax.jit(metric.update)
    scores = {}
    for name, probs in predictions.probs.items():
        state = update(probs, predictions.targets, predictions.mask)
        result = bootstrap.bootstrap(
            metric, state, clip_ids, len(clips), key, num_resamples
        )
        result = jax.tree.map(np.asarray, result)
        estimate = {m: float(v) for m, v in result.estimate.items()}
        scores[name] = Scores(estimate, result.values, result.replicates)
    return scores


def records(
    scores: dict[tuple[str, int], Scores], corpus: str, scenario: str, num_draws: int
) -> Iterator[dict[str, Any]]:
    """Yields one record for each (method, K, metric)."""
    for (method, num_support), score in scores.items():
        for metric, mean in score.estimate.items():
            low, high = bootstrap.interval(
                jnp.asarray(score.replicates[metric]), estimate=jnp.asarray(mean)
            )
            yield {
                "corpus": corpus,
                "scenario": scenario,
                "num_support": num_support,
                "method": method,
                "metric": metric,
                "mean": _number(mean),
                "sd": deviation(score.values[metric]),
                "low": _number(low),
                "high": _number(high),
                "num_listeners": int(np.isfinite(score.values[metric]).sum()),
                "num_draws": num_draws,
            }


def deviation(values: np.ndarray) -> float | None:
    """Returns the standard deviation over listeners, None where there is one alone."""
    heard = values[np.isfinite(values)]
    return _number(heard.std(ddof=1)) if heard.size > 1 else None


def comparisons(
    scores: dict[tuple[str, int], Scores], scenario: str
) -> list[dict[str, Any]]:
    """Returns paired differences: full against each method, each against unadapted.

    Intervals are the bootstrap's, over listeners and clips; p-values come from
    sign-flips of the listeners' differences (exact up to 16 listeners), corrected
    after Holm over the methods compared in one (scenario, K, metric, side).
    """
    rows = []
    for num_support in sorted({k for _, k in scores}):
        at_k = {m: s for (m, k), s in scores.items() if k == num_support}
        against = [("full", other) for other in at_k if other != "full"]
        versus = [(m, REFERENCE) for m in at_k if m not in ("full", REFERENCE)]
        for pairs in (against, versus):
            known = [(a, b) for a, b in pairs if a in at_k and b in at_k]
            for metric in next(iter(at_k.values())).estimate if known else ():
                rows += _family(at_k, known, scenario, num_support, metric)
    return rows


def _family(
    at_k: dict[str, Scores],
    pairs: list[tuple[str, str]],
    scenario: str,
    num_support: int,
    metric: str,
) -> Iterator[dict[str, Any]]:
    better = base.higher_is_better(metric)
    found = []
    for a, b in pairs:
        found.append(
            paired.paired_difference(
                at_k[a].values[metric],
                at_k[b].values[metric],
                at_k[a].replicates[metric],
                at_k[b].replicates[metric],
                higher_is_better=better,
            )
        )
    corrected = paired.holm(jnp.stack([d.p_permutation for d in found]))
    for (a, b), difference, p_holm in zip(pairs, found, corrected, strict=True):
        yield {
            "scenario": scenario,
            "num_support": num_support,
            "method": a,
            "reference": b,
            "metric": metric,
            "difference": _number(difference.mean),
            "low": _number(difference.low),
            "high": _number(difference.high),
            "p_value": _number(difference.p_permutation),
            "p_bootstrap": _number(difference.p_bootstrap),
            "p_holm": _number(p_holm),
            "share_worse": _number(difference.share_worse),
            "num_listeners": int(difference.num_listeners),
        }


def per_listener(
    scores: dict[tuple[str, int], Scores], scenario: str, names: list[str]
) -> Iterator[dict[str, Any]]:
    """Yields each listener's value of each (method, K, metric)."""
    for (method, num_support), score in scores.items():
        for metric, values in score.values.items():
            for annotator, value in zip(names, values, strict=True):
                yield {
                    "scenario": scenario,
                    "num_support": num_support,
                    "method": method,
                    "metric": metric,
                    "annotator": annotator,
                    "value": _number(value),
                }


def reliability(
    predictions: Predictions, method: str, num_support: int, outputs: Outputs
) -> dict[str, list[float | None]]:
    """Returns the bins of a reliability diagram over all (clip, class) cells.

    In the softmax family a prediction stands for a share of the label set.
    """
    probs, targets, mask = _flat(predictions, method, num_support, outputs)
    if outputs.family == "softmax":
        kept = jnp.where(mask, targets, 0.0)
        targets = kept / jnp.maximum(kept.sum(-1, keepdims=True), 1.0)
    bins = calibration.reliability_bins(probs, targets, mask)
    return {
        "confidence": _numbers(bins.confidence),
        "frequency": _numbers(bins.frequency),
        "count": _numbers(bins.count),
    }


def cooccurrence(
    predictions: Predictions, method: str, num_support: int, outputs: Outputs
) -> list[list[float | None]]:
    """Returns [classes][classes]: given a true label (row), how often each is said."""
    metric = classification.co_occurrence(classification.DecisionRule(outputs.family))
    matrix = base.evaluate(metric, *_flat(predictions, method, num_support, outputs))
    return [_numbers(row) for row in np.asarray(matrix)]


def _flat(predictions: Predictions, method: str, num_support: int, outputs: Outputs):
    """Returns probabilities, targets and mask [samples, classes] of the classes."""
    probs = predictions.probs[method, num_support]
    arrays = (probs, predictions.targets, predictions.mask)
    classes = slice(outputs.num_classes)
    return tuple(jnp.asarray(a.reshape(-1, a.shape[-1])[:, classes]) for a in arrays)


def _number(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def _numbers(values: Any) -> list[float | None]:
    return [_number(v) for v in np.asarray(values)]
