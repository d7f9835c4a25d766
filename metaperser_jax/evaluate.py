"""Evaluation: every method on the same draws, with intervals, table and report."""

import hashlib
import json
import logging
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from metaperser_jax import mesh as meshes
from metaperser_jax import methods, processes
from metaperser_jax.checkpoints import load_meta_params
from metaperser_jax.data import pools
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
from metaperser_jax.evaluation.predictions import kept_predictions, save_predictions
from metaperser_jax.evaluation.protocol import Predictions
from metaperser_jax.experiment import (
    Experiment,
    FoldData,
    plan_dev,
    prepare_fold,
    selection_loss,
    settings_hash,
    stage_folder,
)
from metaperser_jax.results import write_json
from metaperser_jax.settings import Settings
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

    What a method predicts in a fold is kept on disk until the results are written, so
    that a killed evaluation goes on with the next method.
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
    """Returns all methods' predictions in a fold."""
    data = prepare_fold(experiment, fold)
    plans = plan_scenarios(experiment, data)
    found = [
        evaluate_method(experiment, data, plans, method)
        for method in tested_methods(experiment)
    ]
    return {
        scenario: protocol.join_methods([part[scenario] for part in found])
        for scenario in plans
    }


def tested_methods(experiment: Experiment) -> list[str]:
    """Returns the methods that the corpus allows to be evaluated."""
    has_truth = experiment.corpus.ground_truth is not None
    has_truth &= experiment.settings.loss.outputs == "categories"
    wanted = experiment.settings.evaluation.methods
    return [m for m in wanted if has_truth or m != "ground_truth"]


def evaluate_method(
    experiment: Experiment,
    data: FoldData,
    plans: dict[str, EvaluationPlan],
    method: str,
) -> dict[str, Predictions]:
    """Returns one method's predictions in a fold, from disk if they are there."""
    path = predictions_path(experiment, data.fold.index, method)
    kept = kept_predictions(path, experiment.problems)
    if kept is not None:
        return kept
    start = load_start(experiment, data, method)
    tuned = tune_method(experiment, data, method, start)
    if processes.leads():
        note_tuned(path.parent / "tuned.json", tuned)
    found = {
        name: predict_scenario(experiment, data, name, plans, method, start, tuned)
        for name in plans
    }
    processes.by_leader("a method is evaluated", lambda: save_predictions(path, found))
    return found


def predictions_path(experiment: Experiment, fold: int, method: str) -> pathlib.Path:
    """Returns where one method's predictions in one fold are kept."""
    name = f"predictions_{method}_{evaluation_hash(experiment)}.npz"
    return stage_folder(experiment.workdir, fold, name)


def note_tuned(path: pathlib.Path, tuned: dict[tuple[str, int], MetaParams]) -> None:
    """Adds what was chosen on development listeners to the fold's record."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    write_json(path, {**known, **describe_tuned(tuned)})


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


def tune_method(
    experiment: Experiment, data: FoldData, method: str, start: Start | None
) -> dict[tuple[str, int], MetaParams]:
    """Chooses a method's rates for each K on development listeners, by NLL."""
    if start is None:
        return {}
    settings = experiment.settings
    sizes = settings.evaluation.num_support
    plan = plan_dev(
        data, settings, max(sizes), TUNING_DRAWS, settings.seed * 1000 + TUNING_SEED
    )
    pool = pools.to_device(data.dev, meshes.make_mesh())
    rows = rest_of(data.dev, plan)
    if method == "nearest_listener":
        bank = build_bank(experiment, data, start, pool, rows, plan)
        return {(method, k): bank for k in sizes}
    if method == ORACLE:
        best = tune(method, start, pool, rows, plan.query)
        return {(method, k): best for k in sizes}
    chosen_as = "full" if method == "wrong_listener" else method
    tuned = {}
    for k in sizes:
        support = fit_width(plan.support[..., :k], max(sizes))
        tuned[method, k] = tune(chosen_as, start, pool, support, plan.query)
    return tuned


def tune(
    method: str,
    start: Start,
    pool: pools.DevicePool,
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
            start.learner.adapt_for,
            selection_loss(start.spec),
            start.meta_params.params,
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *options),
            pool,
            jnp.asarray(support.reshape(-1, support.shape[-1]), jnp.int32),
            jnp.asarray(query.reshape(-1, query.shape[-1]), jnp.int32),
            len(options),
            every_step=by_step,
            mesh=meshes.make_mesh(),
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
    dev_pool: pools.DevicePool,
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
    mesh = meshes.make_mesh()
    pool = pools.to_device(data.train, mesh)
    models = evaluators.adapt_all(learner.adapt, best, pool, jnp.asarray(rows), mesh)
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
    chosen = experiment.settings.evaluation
    plans = {}
    for scenario in chosen.scenarios:
        adapted_on = support_scenario(scenario, chosen.unseen_support)
        plan = plan_evaluation(
            scenario_pool(data, scenario),
            data.fold.test_listeners,
            max(chosen.num_support),
            chosen.num_draws,
            chosen.min_query,
            experiment.settings.seed * 1000 + TEST_SEED,
            chosen.max_query or None,
            None if adapted_on == scenario else scenario_pool(data, adapted_on),
        )
        note_plan(plan, scenario, data, chosen, experiment.problems)
        if len(plan.annotators):
            plans[scenario] = plan
    return plans


def support_scenario(scenario: str, unseen_support: str) -> str:
    """Returns which clips the support set of a scenario is drawn from."""
    return unseen_support if scenario == "unseen" else scenario


def scenario_pool(data: FoldData, scenario: str) -> Pool:
    """Returns the ratings of a scenario alone."""
    there = data.scenario[scenario]
    return data.test._replace(annotator=np.where(there, data.test.annotator, -1))


def predict_scenario(
    experiment: Experiment,
    data: FoldData,
    scenario: str,
    plans: dict[str, EvaluationPlan],
    method: str,
    start: Start | None,
    tuned: dict[tuple[str, int], MetaParams],
) -> Predictions:
    """Returns one method's predictions on one scenario's query sets.

    Support sets are padded to the largest K and query sets to the longest of all
    scenarios, so that each learner compiles once.
    """
    settings, pool, plan = experiment.settings, data.test, plans[scenario]
    sizes = settings.evaluation.num_support
    device_pool = pools.to_device(pool, meshes.make_mesh())
    rows = rest_of(pool, plan)
    adapted_on = support_scenario(scenario, settings.evaluation.unseen_support)
    wrong = wrong_support(
        data, plan, data.scenario[adapted_on], settings.seed * 1000 + WRONG_SEED
    )
    query = fit_width(plan.query, max(p.query.shape[-1] for p in plans.values()))
    probs: dict[tuple[str, int], np.ndarray] = {}
    bar = tqdm(sizes, desc=f"{method}, {scenario}", disable=None, leave=False)
    for k in bar:
        if start is None:
            probs[method, k] = true_probabilities(experiment, data, plan)
        elif k > min(sizes) and method in SAME_AT_ALL_SIZES:
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
    pool: pools.DevicePool,
    support: np.ndarray,
    query: np.ndarray,
) -> np.ndarray:
    """Returns [listeners, draws, query, classes] probabilities after adaptation."""
    flat = [
        jnp.asarray(a.reshape(-1, a.shape[-1]), jnp.int32) for a in (support, query)
    ]
    model = methods.make_model(start.spec)
    probs = evaluators.adapt_and_predict(
        start.learner.adapt_for,
        model.predict_fn,
        meta_params,
        pool,
        *flat,
        mesh=meshes.make_mesh(),
        units_fn=start.learner.units_fn,
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
    """Returns what one method's predictions depend on, as 12 hex digits."""
    return hash_of(experiment.settings, experiment.hashes)


def hash_of(settings: Settings, hashes: dict[str, str]) -> str:
    """Returns the same of the settings and of the hashes of corpus and inputs.

    Which other methods run beside it does not count, nor what is made of them later.
    """
    alone = settings.evaluation._replace(
        methods=(), headline_metrics=(), num_resamples=0
    )
    parts = [settings_hash(settings), str(alone), hashes]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def describe_tuned(tuned: dict[tuple[str, int], MetaParams]) -> dict[str, Any]:
    """Returns what was chosen on development listeners, for the record."""
    return {
        f"{method} K={k}": {
            path: np.round(np.asarray(rate, np.float64), 6).tolist()
            for path, rate in meta_params.learning_rates.items()
        }
        for (method, k), meta_params in tuned.items()
    }
