"""From settings to corpus, features and folds: what training and evaluation share."""

import functools
import hashlib
import json
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import features, losses, methods, processes
from metaperser_jax.data import corpora, episodes, ratings, splits
from metaperser_jax.data.crema_d import CremaDSpec, load_crema_d
from metaperser_jax.data.iemocap import IemocapSpec, load_iemocap
from metaperser_jax.data.manifest import ManifestSpec, load_manifest
from metaperser_jax.data.splits import Fold
from metaperser_jax.data.synthetic import SyntheticSpec, load_synthetic
from metaperser_jax.encoders.encoder import Encoder
from metaperser_jax.encoders.pretrained import load_encoder
from metaperser_jax.encoders.tuning import Tuning, trainable
from metaperser_jax.errors import InputError, Problems
from metaperser_jax.evaluation.protocol import Outputs
from metaperser_jax.features import Scaler
from metaperser_jax.settings import LossSettings, Settings
from metaperser_jax.typing import Batch, Corpus, Params, Pool, Ratings

log = logging.getLogger(__name__)

Shard = tuple[int, int]  # (number, count) of a part of the clips


class Experiment(NamedTuple):
    """A corpus with its inputs, and how it is divided."""

    settings: Settings
    workdir: pathlib.Path
    corpus: Corpus
    summary: dict[str, Any]  # of the corpus
    values: np.ndarray | None  # [clips, layers, width]; None: made from the votes
    valid: np.ndarray  # [clips] bool, False = unreadable
    folds: list[Fold]
    hashes: dict[str, str]  # what the results depend on
    problems: Problems


class FoldData(NamedTuple):
    """The pools of one fold; they share their inputs."""

    fold: Fold
    train: Pool
    dev: Pool
    test: Pool  # held-out listeners; where it is one alone, training listeners too,
    #   as donors of the wrong-listener control
    scenario: dict[str, np.ndarray]  # name -> [ratings] bool, on one of its clips
    scaler: Scaler
    spec: methods.ModelSpec
    prior: tuple[float, ...]  # [classes] rates of the training listeners
    scale: losses.DimensionScale | None = None  # of the dimensions that are learned


def open_experiment(
    settings: Settings, workdir: pathlib.Path, problems: Problems
) -> Experiment:
    """Loads the corpus and its features and divides it.

    Raises:
      InputError: nothing usable is left; every reason is in `problems`.
    """
    cache = cache_dir(settings, workdir)
    corpus = processes.leader_first(
        "the corpus is read", lambda: load_corpus(settings, cache, problems)
    )
    corpus = corpora.validate_corpus(corpus, problems)
    folds = splits.make_folds(corpus, settings.split)  # may refuse: features cost time
    if few := splits.untested(corpus, settings.split):
        message = f"{few} listener(s) have fewer ratings: they train, nobody tests them"
        problems.warning("listener_not_tested", "split.min_test_ratings", message)
    values, valid, fingerprint = load_features(settings, corpus, cache, problems)
    hashes = {"corpus": corpora.corpus_hash(corpus), "inputs": fingerprint}
    return Experiment(
        settings, workdir, corpus, corpora.summarise(corpus), values, valid, folds,
        hashes, problems,
    )  # fmt: skip


def cache_dir(settings: Settings, workdir: pathlib.Path) -> pathlib.Path:
    """Returns the folder for corpora and features, shared by runs side by side."""
    chosen = settings.features.cache_dir
    return pathlib.Path(chosen) if chosen else workdir.parent / "cache"


def load_corpus(settings: Settings, cache: pathlib.Path, problems: Problems) -> Corpus:
    """Returns the configured corpus."""
    spec, folder = settings.data, cache / "corpora"
    if isinstance(spec, SyntheticSpec):
        return load_synthetic(spec, folder)
    if isinstance(spec, IemocapSpec):
        return load_iemocap(spec, folder, problems)
    if isinstance(spec, CremaDSpec):
        return load_crema_d(spec, folder, problems)
    return load_manifest(spec, problems)


def load_features(
    settings: Settings, corpus: Corpus, cache: pathlib.Path, problems: Problems
) -> tuple[np.ndarray | None, np.ndarray, str]:
    """Returns inputs [clips, layers, width], which are valid, and their fingerprint."""
    wanted = settings.features
    everything = np.ones(len(corpus.clips), bool)
    if wanted.inputs == "other_raters":
        return None, everything, "other_raters"
    if wanted.inputs == "precomputed":
        if corpus.features is None:
            raise InputError(
                f"{corpus.name}: features.inputs='precomputed' but the corpus brings "
                "none: name the table with data.features, or use 'audio'."
            )
        digest = hashlib.sha256(corpus.features.tobytes()).hexdigest()
        return corpus.features, everything, digest
    encoder, params = open_encoder(settings)
    if encoder.random_weights:
        message = "its weights were drawn and never trained: the numbers mean nothing"
        problems.warning("random_weights", f"encoder {encoder.name}", message)
    how = {"batch_size": wanted.batch_size, "memory_gb": wanted.memory_gb}
    folder, reading = cache / "features", how_read(settings)
    if part := processes.part():  # what cannot be read is told below, of all clips
        kept = features.open_cache(encoder, folder, Problems(), reading)
        effort = features.fill(
            kept, corpus, encoder, params, Problems(), shard=part, **how
        )
        log.info("features: part %d of %d%s", *part, _told(effort))
        processes.meet("all clips are encoded")
    found = features.extract(
        corpus, encoder, params, folder, problems, reading=reading, **how
    )
    done = f"{len(corpus.clips)} clips, {found.num_cached} from the cache"
    log.info("features: %s%s", done, _told(found.effort))
    return found.values, found.valid, encoder.fingerprint


def extract_shard(
    settings: Settings, workdir: pathlib.Path, problems: Problems, shard: Shard
) -> None:
    """Encodes one part of the clips into the cache, beside other processes.

    Args:
      settings: what `open_experiment` would get.
      workdir: where the cache is looked for, see `cache_dir`.
      problems: collects skipped clips.
      shard: (number, count), 1 <= number <= count.

    Raises:
      InputError: the inputs are not audio, or the corpus cannot be used.
    """
    wanted = settings.features
    if wanted.inputs != "audio":
        raise InputError(
            f"features.inputs={wanted.inputs!r}: nothing is encoded, so there are no "
            "parts of it: leave --shard out."
        )
    cache = cache_dir(settings, workdir)
    corpus = load_corpus(settings, cache, problems)
    corpus = corpora.validate_corpus(corpus, problems)
    encoder, params = open_encoder(settings)
    kept = features.open_cache(
        encoder, cache / "features", problems, how_read(settings)
    )
    effort = features.fill(
        kept,
        corpus,
        encoder,
        params,
        problems,
        batch_size=wanted.batch_size,
        memory_gb=wanted.memory_gb,
        shard=shard,
    )
    part = f"part {shard[0]} of {shard[1]} of {len(corpus.clips)} clips"
    log.info("features: %s%s", part, _told(effort))


def _told(effort: features.Effort) -> str:
    return f"; {features.describe(effort)}" if effort.num_clips else ""


def open_encoder(settings: Settings) -> tuple[Encoder, Params]:
    """Returns the configured encoder and its params.

    Raises:
      InputError: there is none, or nothing of it that `encoder.tuning` could train.
    """
    chosen = settings.encoder
    encoder, params = load_encoder(
        chosen.name, chosen.revision or None, dtype=chosen.dtype
    )
    choose_tuning(settings, encoder, params)  # may refuse: features cost time
    return encoder, params


def choose_tuning(settings: Settings, encoder: Encoder, params: Params) -> Tuning:
    """Returns what of an encoder is trained.

    Raises:
      InputError: it has no weights, or not what the settings want to train.
    """
    chosen = settings.encoder
    tuning = Tuning(
        chosen.tuning,
        chosen.num_tuned_layers,
        chosen.lora_rank,
        chosen.lora_alpha,
        chosen.lora_pattern,
        chosen.tune_front_end,
        bool(encoder.config.get("do_stable_layer_norm")),
    )
    if tuning.mode != "frozen" and encoder.train_fn is None:
        raise InputError(
            f"encoder.tuning={tuning.mode!r}: encoder {encoder.name!r} has no weights "
            "to train; expected 'frozen', or another encoder.name."
        )
    jax.eval_shape(functools.partial(trainable, tuning=tuning), params)
    return tuning


def how_read(settings: Settings) -> str:
    """Returns what decides how a recording becomes a waveform."""
    if isinstance(settings.data, ManifestSpec):
        return f"{settings.data.sample_rate} Hz, {settings.data.max_seconds} s"
    return ""


def fold_inputs(
    experiment: Experiment, fold: Fold
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns inputs [rows, layers, width], row [ratings] and valid [ratings]."""
    corpus = experiment.corpus
    if experiment.values is not None:
        clip = corpus.ratings.clip
        return experiment.values, clip, experiment.valid[clip]
    inputs, valid = ratings.other_raters_inputs(corpus.ratings, fold.test_listeners)
    return inputs, np.arange(len(valid)), valid


def prepare_fold(experiment: Experiment, fold: Fold) -> FoldData:
    """Returns a fold's pools, standardised on its training ratings alone."""
    corpus, settings = experiment.corpus, experiment.settings
    inputs, row, valid = fold_inputs(experiment, fold)
    usable = valid & has_answer(corpus, settings.loss)

    def rated(listeners: np.ndarray, clips: np.ndarray) -> np.ndarray:
        return splits.rated_by(corpus, listeners, clips) & usable

    train = rated(fold.train_listeners, fold.train_clips)
    if not train.any():
        raise InputError(f"{corpus.name}: fold {fold.index} has no training ratings.")
    scaler = features.fit_scaler(inputs[np.unique(row[train])])
    if settings.features.standardise:
        inputs = features.standardise(scaler, inputs)
    everywhere = np.ones(len(corpus.clips), bool)
    alone = len(fold.test_listeners) < 2
    donors = fold.train_listeners if alone else fold.test_listeners
    chosen = {
        "train": train,
        "dev": rated(fold.dev_listeners, fold.dev_clips),
        "test": rated(np.union1d(fold.test_listeners, donors), everywhere),
    }
    clips = {
        "seen": splits.seen_clips(fold, corpus),
        "unseen": fold.unseen_clips,
    }
    columns, scale = learned_columns(corpus, settings.loss, train)
    counted, answered = (
        x[train] for x in (corpus.ratings.targets, corpus.ratings.mask)
    )
    weights = losses.effective_number_weights((counted * answered).sum(0))
    weights = weights if settings.loss.class_balanced else None
    num_classes, dimensions = learned_outputs(corpus, settings.loss)
    pools = {
        name: splits.make_pool(columns, inputs, row, keep, weights)
        for name, keep in chosen.items()
    }
    layers, width = inputs.shape[1:]
    return FoldData(
        fold,
        **pools,
        scenario={name: kept[corpus.ratings.clip] for name, kept in clips.items()},
        scaler=scaler,
        spec=methods.model_spec(settings, layers, width, num_classes, len(dimensions)),
        prior=label_rates(counted, answered, settings.loss.family)
        if num_classes
        else (),
        scale=scale,
    )


def learned_outputs(corpus: Corpus, loss: LossSettings) -> tuple[int, tuple[str, ...]]:
    """Returns how many classes are learned, and which dimensions.

    Raises:
      InputError: dimensions are to be learned and the corpus has none.
    """
    if loss.outputs == "categories":
        return len(corpus.classes), ()
    if not corpus.dimensions:
        raise InputError(
            f"{corpus.name}: loss.outputs={loss.outputs!r}, but the corpus has no "
            "dimensional ratings: name their columns (data.dimension_columns), or set "
            "loss.outputs='categories'."
        )
    alone = loss.outputs == "dimensions"
    return 0 if alone else len(corpus.classes), corpus.dimensions


def outputs_of(experiment: Experiment) -> Outputs:
    """Returns what the columns of targets and predictions stand for."""
    loss = experiment.settings.loss
    return Outputs(loss.family, *learned_outputs(experiment.corpus, loss))


def learned_columns(
    corpus: Corpus, loss: LossSettings, train: np.ndarray
) -> tuple[Ratings, losses.DimensionScale | None]:
    """Returns the ratings with the targets that are learned, and the dimensions' scale.

    Args:
      corpus: the corpus.
      loss: says what is learned.
      train: [ratings] bool, those that dimensions are standardised on.
    """
    ratings = corpus.ratings
    num_classes, dimensions = learned_outputs(corpus, loss)
    if not dimensions:
        return ratings, None
    scale = losses.fit_dimension_scale(ratings.dimensions[train])
    targets, mask = losses.join_targets(
        ratings.targets[:, :num_classes],
        ratings.mask[:, :num_classes],
        ratings.dimensions,
        scale,
    )
    return ratings._replace(targets=targets, mask=mask), scale


def has_answer(corpus: Corpus, loss: LossSettings) -> np.ndarray:
    """Returns [ratings] bool: something that is learned is there.

    Of the classes that is a label (softmax) or any answer (sigmoid).
    """
    num_classes, dimensions = learned_outputs(corpus, loss)
    given = corpus.ratings.mask
    if loss.family == "softmax":
        given = given & (corpus.ratings.targets > 0)
    graded = ~np.isnan(corpus.ratings.dimensions)
    parts = [given] * bool(num_classes) + [graded] * bool(dimensions)
    return np.asarray(np.concatenate(parts, axis=1).any(1))


def label_rates(
    targets: np.ndarray, mask: np.ndarray, family: str
) -> tuple[float, ...]:
    """Returns [classes] rates of all labels, smoothed by one clip."""
    kept = np.where(mask, targets, 0.0)
    classes = kept.shape[1]
    if family == "softmax":
        y = kept / np.maximum(kept.sum(1, keepdims=True), 1e-9)
        rates = (y.sum(0) + 1 / classes) / (len(y) + 1)
    else:
        rates = (kept.sum(0) + 0.5) / (mask.sum(0) + 1)
    return tuple(float(rate) for rate in rates)


def plan_dev(
    data: FoldData, settings: Settings, num_support: int, num_draws: int, seed: int
) -> episodes.EvaluationPlan:
    """Returns the draws on development listeners that choices are made on."""
    annotators = episodes.listeners_of(data.dev)
    plan = episodes.plan_evaluation(
        data.dev,
        annotators,
        num_support,
        num_draws,
        settings.evaluation.min_query,
        seed,
    )
    if not len(plan.annotators):
        raise InputError(
            f"fold {data.fold.index}: no development listener has more than "
            f"{settings.evaluation.min_query} rated clips: lower "
            "evaluation.min_query, or set split.num_dev_listeners=0."
        )
    return plan


@functools.lru_cache(maxsize=64)
def selection_loss(spec: methods.ModelSpec) -> Callable[[Params, Batch], jax.Array]:
    """Returns what choices are made on: NLL without weights and smoothing, and MSE.

    Both are proper scores; concordance alone would not see values that run away.
    """
    plain = spec._replace(class_balanced=False, smoothing=0.0, dimension_loss="mse")
    return methods.make_model(plain).loss_fn


def flat_pairs(
    plan: episodes.EvaluationPlan, num_support: int
) -> tuple[jax.Array, jax.Array]:
    """Returns support [pairs, K] and query [pairs, query] of all (listener, draw)s."""
    support = plan.support[..., :num_support]
    return (
        jnp.asarray(support.reshape(-1, support.shape[-1]), jnp.int32),
        jnp.asarray(plan.query.reshape(-1, plan.query.shape[-1]), jnp.int32),
    )


def stage_folder(workdir: pathlib.Path, fold: int, stage: str) -> pathlib.Path:
    """Returns the folder of one stage ('pretrain' or a method) of one fold."""
    return workdir / f"fold_{fold:02d}" / stage


def trained_methods(settings: Settings) -> Iterator[str]:
    """Yields the methods that need meta-training, 'full' wherever one builds on it."""
    wanted = set(settings.evaluation.methods)
    if wanted & {m for m, start in methods.DERIVED.items() if start == "full"}:
        wanted.add("full")
    yield from (method for method in methods.RECIPES if method in wanted)


def settings_hash(settings: Settings) -> str:
    """Returns a hash of all that training depends on.

    Of the evaluation that is how development listeners are asked; where the cache is
    and how many clips are encoded at once do not count.
    """
    parts = {
        name: value
        for name, value in settings._asdict().items()
        if name not in ("evaluation", "sweep", "strict", "tensorboard")
    }
    parts["features"] = settings.features._replace(
        cache_dir="", batch_size=0, memory_gb=0.0
    )
    chosen = settings.evaluation
    parts["development"] = (chosen.headline_support, chosen.min_query)
    text = json.dumps(jax.tree.map(str, parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
