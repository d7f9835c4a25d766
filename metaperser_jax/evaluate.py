"""Evaluation: every method on the same draws, with intervals, table and report."""

import hashlib
import json
import logging
import pathlib
import zipfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from metaperser_jax import methods
from metaperser_jax.checkpoints import load_meta_params
from metaperser_jax.data.episodes import (
    EvaluationPlan,
    fit_width,
    listeners_of,
    pad_rows,
    plan_evaluation,
    rows_of,
    stack_rows,
)
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluation import evaluators, protocol
from metaperser_jax.evaluation.protocol import Predictions
from metaperser_jax.experiment import (
    Experiment,
    FoldData,
    plan_dev,
    prepare_fold,
    selection_loss,
    stage_folder,
)
from metaperser_jax.tune import each_fold
from metaperser_jax.typing import MetaParams, Pool

log = logging.getLogger(__name__)

TUNING_DRAWS = 4
TUNING_SEED, TEST_SEED, BANK_SEED, WRONG_SEED = 201, 202, 203, 204
SAME_AT_ALL_SIZES = ("no_adaptation", "oracle")  # what K is does not matter
ORACLE = "oracle"  # adapts to all of the listener's data outside the query set


class Start(NamedTuple):
    """What a method adapts from."""

    learner: Any
    spec: methods.ModelSpec
    meta_params: MetaParams


def evaluate(experiment: Experiment) -> dict[str, Predictions]:
    """Returns the predictions of every method, for each scenario, over all folds.

    A fold's predictions are kept on disk until the results are written, so that a
    killed evaluation goes on with the next fold.
    """
    parts: dict[str, list[Predictions]] = {}
    for seen, fold in each_fold(experiment, training=False):
        for scenario, part in evaluate_fold(seen, fold).items():
            parts.setdefault(scenario, []).append(part)
    if not parts:
        raise InputError(
            "no held-out listener has enough rated clips in any scenario: lower "
            "evaluation.num_support or evaluation.min_query."
        )
    return {name: protocol.concatenate(found) for name, found in parts.items()}


def evaluate_fold(experiment: Experiment, fold: Any) -> dict[str, Predictions]:
    """Returns a fold's predictions, from disk if they are there."""
    settings = experiment.settings
    data = prepare_fold(experiment, fold)
    folder = experiment.workdir / f"fold_{fold.index:02d}"
    cell = folder / f"predictions_{evaluation_hash(experiment)}.npz"
    plans = plan_scenarios(experiment, data)
    kept = kept_predictions(cell, experiment.problems)
    if kept is not None:
        return kept
    starts = {
        method: load_start(experiment, data, method)
        for method in settings.evaluation.methods
        if method != "ground_truth" or experiment.corpus.ground_truth is not None
    }
    tuned = tune_all(experiment, data, starts)
    (folder / "tuned.json").write_text(json.dumps(describe_tuned(tuned), indent=1))
    width = max((plan.query.shape[-1] for plan in plans.values()), default=0)
    found = {
        name: predict_scenario(experiment, data, name, plan, width, starts, tuned)
        for name, plan in plans.items()
    }
    save_predictions(cell, found)
    return found


def load_start(experiment: Experiment, data: FoldData, method: str) -> Start | None:
    """Returns what a method adapts from; None for the simulator's own answers."""
    if method == "ground_truth":
        return None
    settings = experiment.settings
    spec = methods.spec_for(method, data.spec)
    learner = methods.make_learner(
        methods.learner_of(method),
        spec,
        settings.meta,
        data.prior if method == "base_rate" else (),
    )
    source = methods.DERIVED.get(method, method)
    if source == "random":
        key = jax.random.fold_in(jax.random.key(settings.seed), data.fold.index)
        return Start(learner, spec, learner.init(methods.make_model(spec).init_fn(key)))
    found = load_meta_params(stage_folder(experiment.workdir, data.fold.index, source))
    if method in methods.RECIPES or method == "wrong_listener":
        return Start(learner, spec, jax.tree.map(jnp.asarray, found))
    return Start(learner, spec, learner.init(jax.tree.map(jnp.asarray, found.params)))


def tune_all(
    experiment: Experiment, data: FoldData, starts: dict[str, Start | None]
) -> dict[tuple[str, int], MetaParams]:
    """Chooses each method's rates for each K on development listeners, by NLL."""
    settings = experiment.settings
    sizes = settings.evaluation.num_support
    plan = plan_dev(
        data, settings, max(sizes), TUNING_DRAWS, settings.seed * 1000 + TUNING_SEED
    )
    pool = evaluators.to_device(data.dev)
    rows = rest_of(data.dev, plan)
    tuned: dict[tuple[str, int], MetaParams] = {}
    for method, start in starts.items():
        if start is None or method == "wrong_listener":
            continue
        if method == "nearest_listener":
            bank = build_bank(experiment, data, start, pool, rows, plan)
            tuned |= {(method, k): bank for k in sizes}
        elif method == ORACLE:
            best = tune(method, start, pool, rows, plan.query)
            tuned |= {(method, k): best for k in sizes}
        else:
            for k in sizes:
                support = fit_width(plan.support[..., :k], max(sizes))
                tuned[method, k] = tune(method, start, pool, support, plan.query)
    if source := starts.get("wrong_listener"):
        for k in sizes:
            support = fit_width(plan.support[..., :k], max(sizes))
            tuned["wrong_listener", k] = tuned.get(("full", k)) or tune(
                "full", source, pool, support, plan.query
            )
    return tuned


def tune(
    method: str,
    start: Start,
    pool: evaluators.DevicePool,
    support: np.ndarray,
    query: np.ndarray,
) -> MetaParams:
    """Returns the start with the rates that serve development listeners best.

    Args:
      method: decides what there is to choose from.
      start: what the method adapts from.
      pool: of the development listeners.
      support: [listeners, draws, support] rows.
      query: [listeners, draws, query] rows.
    """
    options = methods.candidates(method, start.meta_params)
    by_step = methods.learner_of(method) == "fine_tune"
    if len(options) == 1 and not by_step:
        return MetaParams(start.meta_params.params, options[0])
    scores = np.asarray(
        evaluators.candidate_scores(
            start.learner.adapt,
            selection_loss(start.spec),
            start.meta_params.params,
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *options),
            pool,
            jnp.asarray(support.reshape(-1, support.shape[-1]), jnp.int32),
            jnp.asarray(query.reshape(-1, query.shape[-1]), jnp.int32),
            len(options),
            every_step=by_step,
        )
    )  # [candidates, steps]
    which, steps = np.unravel_index(np.argmin(scores), scores.shape)
    rates = options[int(which)]
    if by_step:
        rates = methods.first_steps(rates, int(steps))
    return MetaParams(start.meta_params.params, rates)


def rest_of(pool: Pool, plan: EvaluationPlan) -> np.ndarray:
    """Returns [listeners, draws, rows] all of a listener's rows outside the query."""
    rows = [
        [np.setdiff1d(rows_of(pool, a), query) for query in queries]
        for a, queries in zip(plan.annotators, plan.query, strict=True)
    ]
    flat = stack_rows([r for per in rows for r in per])
    return flat.reshape(*plan.query.shape[:2], -1)


def build_bank(
    experiment: Experiment,
    data: FoldData,
    start: Start,
    dev_pool: evaluators.DevicePool,
    dev_rows: np.ndarray,
    plan: EvaluationPlan,
) -> MetaParams:
    """Returns the models of known listeners, the shared model first.

    Each is the pretrained head fine-tuned on all that listener's training data, with
    the setting that serves development listeners best on as much data.
    """
    settings = experiment.settings
    learner = methods.make_learner("fine_tune", start.spec, settings.meta)
    tuner = Start(learner, start.spec, learner.init(start.meta_params.params))
    best = tune("fine_tune", tuner, dev_pool, dev_rows, plan.query)
    rows, num_left_out = listener_rows(data, settings.evaluation.max_bank, BANK_SEED)
    if num_left_out:
        experiment.problems.warning(
            "bank_capped",
            f"fold {data.fold.index}",
            f"nearest_listener knows {len(rows)} listeners, {num_left_out} were left "
            "out (evaluation.max_bank)",
        )
    models = evaluators.adapt_all(
        learner.adapt, best, evaluators.to_device(data.train), jnp.asarray(rows)
    )
    shared = jax.tree.map(lambda leaf: leaf[None], start.meta_params.params)
    bank = jax.tree.map(lambda *parts: jnp.concatenate(parts), shared, models)
    return MetaParams(bank, {})


def listener_rows(data: FoldData, most: int, seed: int) -> tuple[np.ndarray, int]:
    """Returns [listeners, rows] of up to `most` known listeners, and how many more."""
    known = listeners_of(data.train)
    kept = known
    if len(known) > most:
        kept = np.random.default_rng(seed).choice(known, most, replace=False)
    rows = [rows_of(data.train, a) for a in np.sort(kept)]
    return stack_rows(rows), len(known) - len(kept)


def plan_scenarios(experiment: Experiment, data: FoldData) -> dict[str, EvaluationPlan]:
    """Returns the draws of each scenario in which a listener has enough clips."""
    chosen, pool = experiment.settings.evaluation, data.test
    plans = {}
    for scenario in chosen.scenarios:
        plan = plan_evaluation(
            pool._replace(
                annotator=np.where(data.scenario[scenario], pool.annotator, -1)
            ),
            data.fold.test_listeners,
            max(chosen.num_support),
            chosen.num_draws,
            chosen.min_query,
            experiment.settings.seed * 1000 + TEST_SEED,
            chosen.max_query or None,
        )
        note_plan(plan, scenario, data, chosen, experiment.problems)
        if len(plan.annotators):
            plans[scenario] = plan
    return plans


def predict_scenario(
    experiment: Experiment,
    data: FoldData,
    scenario: str,
    plan: EvaluationPlan,
    query_width: int,
    starts: dict[str, Start | None],
    tuned: dict[tuple[str, int], MetaParams],
) -> Predictions:
    """Returns all methods' predictions on one scenario's query sets.

    Support sets are padded to the largest K and query sets to `query_width`, so that
    each learner compiles once.
    """
    settings, pool = experiment.settings, data.test
    sizes = settings.evaluation.num_support
    device_pool = evaluators.to_device(pool)
    rows = rest_of(pool, plan)
    wrong = wrong_support(
        data, plan, data.scenario[scenario], settings.seed * 1000 + WRONG_SEED
    )
    query = fit_width(plan.query, query_width)
    probs: dict[tuple[str, int], np.ndarray] = {}
    jobs = [(m, k) for m in starts for k in sizes]
    for method, k in tqdm(jobs, desc=f"evaluate {scenario}", disable=None, leave=False):
        start = starts[method]
        if start is None:
            probs[method, k] = true_probabilities(experiment, data, plan)
        elif (method, k) in tuned and k > min(sizes) and method in SAME_AT_ALL_SIZES:
            probs[method, k] = probs[method, min(sizes)]
        else:
            support = support_of(method, plan, rows, wrong, k)
            width = rows.shape[-1] if method == ORACLE else max(sizes)
            found = predict_method(
                start, tuned[method, k], device_pool, fit_width(support, width), query
            )
            probs[method, k] = found[:, :, : plan.query.shape[-1]]
    safe = np.where(plan.query >= 0, plan.query, 0)
    padding = plan.query < 0
    return Predictions(
        plan.annotators,
        np.where(padding, -1, pool.clip[safe]).astype(np.int32),
        pool.targets[safe] * ~padding[..., None],
        pool.mask[safe] & ~padding[..., None],
        probs,
    )


def note_plan(
    plan: EvaluationPlan, scenario: str, data: FoldData, chosen: Any, problems: Problems
) -> None:
    """Counts listeners left out or short of clips."""
    where = f"fold {data.fold.index}, {scenario}"
    if plan.num_left_out:
        problems.warning(
            "listener_left_out",
            where,
            f"{plan.num_left_out} listener(s) have no more than "
            f"{chosen.min_query} rated clips there and are not evaluated",
        )
    if plan.num_short:
        problems.warning(
            "short_support",
            where,
            f"{plan.num_short} listener(s) have too few clips for "
            f"K={max(chosen.num_support)}: all but {chosen.min_query} are taken",
        )


def support_of(
    method: str,
    plan: EvaluationPlan,
    rows: np.ndarray,
    wrong: np.ndarray,
    num_support: int,
) -> np.ndarray:
    """Returns [listeners, draws, support] the rows a method may adapt to."""
    if method == ORACLE:
        return rows
    source = wrong if method == "wrong_listener" else plan.support
    return source[..., :num_support]


def wrong_support(
    data: FoldData, plan: EvaluationPlan, eligible: np.ndarray, seed: int
) -> np.ndarray:
    """Returns [listeners, draws, most] rows of another listener, the control.

    The donor is another held-out listener, or a training listener where only one is
    held out; none of its rows is on a clip of the query set.
    """
    pool, most = data.test, plan.support.shape[-1]
    donors = data.fold.test_listeners
    if len(donors) < 2:
        donors = data.fold.train_listeners
    usable = {a: rows_of(pool, a)[eligible[rows_of(pool, a)]] for a in donors}

    def draw(annotator: int, number: int, query: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng((seed, annotator, number))
        others = [a for a in donors if a != annotator and len(usable[a])]
        if not others:
            return np.full(most, -1)
        rows = usable[rng.choice(others)]
        asked = pool.clip[query[query >= 0]]
        return pad_rows(rng.permutation(rows[~np.isin(pool.clip[rows], asked)]), most)

    return np.array(
        [
            [draw(int(a), d, query) for d, query in enumerate(queries)]
            for a, queries in zip(plan.annotators, plan.query, strict=True)
        ]
    )


def predict_method(
    start: Start,
    meta_params: MetaParams,
    pool: evaluators.DevicePool,
    support: np.ndarray,
    query: np.ndarray,
) -> np.ndarray:
    """Returns [listeners, draws, query, classes] probabilities after adaptation."""
    flat = [
        jnp.asarray(a.reshape(-1, a.shape[-1]), jnp.int32) for a in (support, query)
    ]
    model = methods.make_model(start.spec)
    probs = evaluators.adapt_and_predict(
        start.learner.adapt, model.predict_fn, meta_params, pool, *flat
    )
    return np.asarray(probs).reshape(*query.shape, -1)


def true_probabilities(
    experiment: Experiment, data: FoldData, plan: EvaluationPlan
) -> np.ndarray:
    """Returns the simulator's own P(label | clip, listener) on the query sets."""
    truth = experiment.corpus.ground_truth
    assert truth is not None
    found = truth[np.where(plan.query >= 0, plan.query, 0)]
    if experiment.settings.loss.family == "softmax":
        found = found / found.sum(-1, keepdims=True)
    return found.astype(np.float32)


def evaluation_hash(experiment: Experiment) -> str:
    """Returns what the cached predictions depend on, as 12 hex digits."""
    text = json.dumps([str(experiment.settings), experiment.hashes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def save_predictions(path: pathlib.Path, found: dict[str, Predictions]) -> None:
    """Writes a fold's predictions, complete or not at all."""
    arrays: dict[str, np.ndarray] = {}
    for scenario, part in found.items():
        for name in ("annotators", "clip", "targets", "mask"):
            arrays[f"{scenario}|{name}"] = getattr(part, name)
        for (method, k), probs in part.probs.items():
            arrays[f"{scenario}|probs|{method}|{k}"] = probs
    scratch = path.with_name(f".{path.name}")
    with scratch.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    scratch.replace(path)


def kept_predictions(
    path: pathlib.Path, problems: Problems
) -> dict[str, Predictions] | None:
    """Returns a fold's predictions, None if there are none or they are damaged."""
    if not path.exists():
        return None
    try:
        return load_predictions(path)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        message = f"cannot be read ({type(error).__name__}): made anew"
        problems.warning("damaged_predictions", str(path), message)
        return None


def load_predictions(path: pathlib.Path) -> dict[str, Predictions]:
    """Reads what `save_predictions` wrote."""
    parts: dict[str, dict[str, Any]] = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            scenario, kind, *key = name.split("|")
            part = parts.setdefault(scenario, {"probs": {}})
            if kind == "probs":
                part["probs"][key[0], int(key[1])] = arrays[name]
            else:
                part[kind] = arrays[name]
    return {scenario: Predictions(**part) for scenario, part in parts.items()}


def describe_tuned(tuned: dict[tuple[str, int], MetaParams]) -> dict[str, Any]:
    """Returns what was chosen on development listeners, for the record."""
    return {
        f"{method} K={k}": {
            path: np.round(np.asarray(rate, np.float64), 6).tolist()
            for path, rate in meta_params.learning_rates.items()
        }
        for (method, k), meta_params in tuned.items()
    }
