"""Tuning: each fold trains an encoder of its own, on its training listeners alone.

What comes after it in a fold (pretraining, meta-training, evaluation) reads the
features that the fold's encoder gives.
"""

import functools
import logging
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.audio import pad_batch
from metaperser_jax import features, heads, methods, trees
from metaperser_jax import mesh as meshes
from metaperser_jax.checkpoints import load_meta_params, load_origin, refuse_origin
from metaperser_jax.data import pools
from metaperser_jax.data.episodes import round_up
from metaperser_jax.data.splits import Fold
from metaperser_jax.encoders.encoder import Encoder, encode_pooled, encode_training
from metaperser_jax.encoders.tuning import (
    Leaves,
    Tuning,
    merge,
    num_parameters,
    trainable,
    tuned_encoder,
)
from metaperser_jax.errors import Problems
from metaperser_jax.experiment import (
    Experiment,
    FoldData,
    cache_dir,
    choose_tuning,
    how_read,
    open_encoder,
    prepare_fold,
    stage_folder,
)
from metaperser_jax.features.batching import padded_length
from metaperser_jax.settings import Settings
from metaperser_jax.stages import (
    Stage,
    dev_draws,
    dev_score_fn,
    initial_params,
    run_stage,
)
from metaperser_jax.training import tuning as tuning_steps
from metaperser_jax.training.state import TrainState, init_state
from metaperser_jax.training.tuning import ENCODER, HEAD, ClipBatch, Fixed
from metaperser_jax.typing import Corpus, MetaParams, Pool

log = logging.getLogger(__name__)

STAGE = "tune"
TUNE_SEED = 104
CLIP_NORM = 1.0
LORA_RATE, OTHER_RATE = 1e-4, 1e-5
REMEDY = (
    "Lower encoder.learning_rate or pretrain.learning_rate, or raise encoder.warmup."
)

Planned = list[tuple[np.ndarray, int]]  # clips of each batch, and its padded samples


class Base(NamedTuple):
    """The encoder that every fold begins with, and functions that folds share."""

    encoder: Encoder
    tuning: Tuning
    frozen: Leaves
    trained: Leaves  # before training
    samples: np.ndarray  # [clips] padded length of each clip of the corpus
    gradient_fn: Callable[..., tuning_steps.Sums]
    pooled_fn: Callable[..., jax.Array]  # frozen, trained, waveforms, lengths
    origin: dict[str, Any]  # what its checkpoints build on


def each_fold(
    experiment: Experiment, training: bool, folds: Sequence[Fold] | None = None
) -> Iterator[tuple[Experiment, Fold]]:
    """Yields each fold with the experiment as that fold sees it.

    Without tuning that is the experiment itself; else its features come from the fold's
    own encoder, which is trained first where `training` is set.

    Args:
      experiment: corpus, features and folds.
      training: train the encoders that are not trained yet.
      folds: which, None for all.

    Raises:
      InputError: an encoder is missing, or was trained from another one.
    """
    base = None
    if experiment.settings.encoder.tuning != "frozen":
        base = open_base(experiment)
    for fold in experiment.folds if folds is None else folds:
        if base is None:
            yield experiment, fold
            continue
        if training:
            tune(experiment, prepare_fold(experiment, fold), base)
        yield with_tuned_features(experiment, fold, base), fold


def open_base(experiment: Experiment) -> Base:
    """Loads the encoder and divides its parameters.

    Raises:
      InputError: it has no weights, or not what the settings want to train.
    """
    settings = experiment.settings
    encoder, params = open_encoder(settings)
    tuning = choose_tuning(settings, encoder, params)
    trained, frozen = trainable(params, tuning, settings.seed)
    gradient_fn, pooled_fn = make_functions(
        encoder, tuning, settings, len(experiment.corpus.classes)
    )
    origin = {
        "base": encoder.fingerprint,
        "tuning": tuning._asdict(),
        "num_trained": num_parameters(trained),
        "num_parameters": num_parameters(params),
    }
    return Base(
        encoder,
        tuning,
        meshes.shard(frozen, meshes.make_mesh()),
        trained,
        padded_samples(experiment, encoder),
        gradient_fn,
        pooled_fn,
        origin,
    )


def make_functions(
    encoder: Encoder, tuning: Tuning, settings: Settings, num_classes: int
) -> tuple[Callable[..., tuning_steps.Sums], Callable[..., jax.Array]]:
    """Returns the gradient of a batch, and the encoding of clips without noise."""
    head = heads.make_head(num_classes, settings.head.hidden, settings.head.activation)

    def encode_fn(frozen, trained, waveforms, lengths, key):
        params = merge(frozen, trained, tuning)
        return encode_training(
            encoder, params, waveforms, lengths, key, remat=settings.encoder.remat
        )

    @jax.jit
    def pooled_fn(frozen, trained, waveforms, lengths):
        params = merge(frozen, trained, tuning)
        return encode_pooled(encoder, params, waveforms, lengths)

    gradient_fn = tuning_steps.make_gradient(
        encode_fn,
        functools.partial(heads.apply_head, head),
        settings.loss.family,
        settings.loss.smoothing,
    )
    return gradient_fn, pooled_fn


def padded_samples(experiment: Experiment, encoder: Encoder) -> np.ndarray:
    """Returns [clips] padded lengths, 0 for clips that could not be read.

    The features of the encoder were computed when the experiment was opened, and their
    cache knows how long each clip is.
    """
    settings = experiment.settings
    place = cache_dir(settings, experiment.workdir) / "features"
    kept = features.open_cache(encoder, place, Problems(), how_read(settings))
    found = [kept.samples.get(h, 0) for h in experiment.corpus.content_hashes]
    return np.array([padded_length(n) if n else 0 for n in found])


def tune(experiment: Experiment, data: FoldData, base: Base) -> None:
    """Trains encoder and head on all (clip, listener label) pairs of a fold.

    What is best on the development listeners is left in the stage's folder.
    """
    settings = experiment.settings
    clips = np.unique(data.train.clip[data.train.annotator >= 0])
    batches_fn = functools.partial(
        plan_epoch,
        clips,
        base.samples[clips],
        settings.encoder.batch_size,
        settings.encoder.accumulate,
    )
    every = len(batches_fn(seed=0))
    total = every * settings.encoder.epochs
    tx = make_optimizer(settings, total)
    start = {
        ENCODER: base.trained,
        HEAD: initial_params(experiment, data, "pretrain"),
    }
    fixed = make_fixed(data, base, settings.features.standardise)
    log.info(
        "fold %02d %s: %s trains %s of %s parameters of %s, on %d clips",
        data.fold.index, STAGE, base.tuning.mode, f"{base.origin['num_trained']:,}",
        f"{base.origin['num_parameters']:,}", base.encoder.name, len(clips),
    )  # fmt: skip
    stage = Stage(
        STAGE,
        stage_folder(experiment.workdir, data.fold.index, STAGE),
        total,
        every,
        make_advance(experiment, data, base, fixed, batches_fn, every, tx),
        make_dev_loss(experiment, data, base, fixed),
        origin=base.origin,
        remedy=REMEDY,
        place=functools.partial(meshes.shard, mesh=meshes.make_mesh()),
    )
    run_stage(experiment, stage, stage.place(init_state(MetaParams(start, {}), tx)))


# Folds of one size share optimiser and compiled step.
_optimizer = functools.lru_cache(maxsize=8)(tuning_steps.tuning_optimizer)
_tuning_step = functools.lru_cache(maxsize=8)(tuning_steps.make_tuning_step)


def make_optimizer(settings: Settings, total: int) -> Any:
    """Returns the optimiser of encoder and head for a stage of `total` steps."""
    chosen, head = settings.encoder, settings.pretrain
    usual = LORA_RATE if chosen.tuning == "lora" else OTHER_RATE
    return _optimizer(
        chosen.learning_rate or usual,
        head.learning_rate,
        total,
        warmup=chosen.warmup,
        weight_decay=head.weight_decay,
        clip_norm=CLIP_NORM,
    )


def make_fixed(data: FoldData, base: Base, standardise: bool) -> Fixed:
    """Returns what all steps of a fold read.

    The head sees what it would see of the frozen encoder: its features, standardised
    as they are on the fold's training clips.
    """
    mean, scale = np.zeros_like(data.scaler.mean), np.ones_like(data.scaler.scale)
    limit = np.inf
    if standardise:
        (mean, scale), limit = data.scaler, tuning_steps.LIMIT
    weights = data.train.class_weights
    if weights is None:
        weights = np.ones(data.spec.num_classes)
    return Fixed(
        base.frozen,
        jnp.asarray(mean, jnp.float32),
        jnp.asarray(scale, jnp.float32),
        jnp.float32(limit),
        jnp.asarray(weights, jnp.float32),
    )


def plan_epoch(
    clips: np.ndarray,
    samples: np.ndarray,
    batch_size: int,
    accumulate: int,
    seed: Any,
) -> list[Planned]:
    """Returns the batches of each step of an epoch.

    Clips of like length share a batch, in an order and company that the seed decides;
    each clip is there once. The number of steps does not depend on the seed.

    Args:
      clips: [clips] their numbers in the corpus.
      samples: [clips] padded lengths.
      batch_size: clips of a batch; the one with the shortest clips may have fewer.
      accumulate: batches of a step, the last one may have fewer.
      seed: of `numpy.random.default_rng`.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(clips))
    order = order[np.argsort(-samples[order], kind="stable")]
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    mixed = [groups[i] for i in rng.permutation(len(groups))]
    batches = [(clips[group], int(samples[group].max())) for group in mixed]
    return [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]


def make_advance(
    experiment: Experiment,
    data: FoldData,
    base: Base,
    fixed: Fixed,
    batches_fn: Callable[..., list[Planned]],
    steps_per_epoch: int,
    tx: Any,
) -> Callable[[TrainState, range], tuple[TrainState, dict[str, Any]]]:
    """Returns (state, one step) -> state, scalars."""
    settings, corpus = experiment.settings, experiment.corpus
    seeds = (settings.seed, TUNE_SEED, data.fold.index)
    key = jax.random.key(settings.seed, impl=tuning_steps.KEY_IMPLEMENTATION)
    key = jax.random.fold_in(jax.random.fold_in(key, TUNE_SEED), data.fold.index)
    epoch_fn = functools.lru_cache(1)(lambda n: batches_fn(seed=(*seeds, n)))
    step_fn = _tuning_step(tx)
    rows = rows_of_clips(data.train)
    width = round_up(max(map(len, rows.values())))
    size, mesh = settings.encoder.batch_size, meshes.make_mesh()

    def advance(current: TrainState, steps: range) -> tuple[TrainState, dict[str, Any]]:
        (step,) = steps
        epoch, place = divmod(step, steps_per_epoch)
        sums = None
        for number, (clips, length) in enumerate(epoch_fn(epoch)[place]):
            batch = make_batch(corpus, data.train, rows, clips, length, size, width)
            batch = meshes.split_rows(batch, mesh)
            noise = jax.random.fold_in(jax.random.fold_in(key, step), number)
            found = base.gradient_fn(current.meta_params.params, fixed, batch, noise)
            sums = found if sums is None else tuning_steps.add_sums(sums, found)
        assert sums is not None
        current, loss = step_fn(current, sums)
        return current, {"train_loss": loss}

    return advance


def rows_of_clips(pool: Pool) -> dict[int, np.ndarray]:
    """Returns clip -> the rows of its labels in a pool."""
    rows = np.flatnonzero(pool.annotator >= 0)
    rows = rows[np.argsort(pool.clip[rows], kind="stable")]
    clips, first = np.unique(pool.clip[rows], return_index=True)
    parts = np.split(rows, first[1:])
    return dict(zip(clips.tolist(), parts, strict=True))


def make_batch(
    corpus: Corpus,
    pool: Pool,
    rows: dict[int, np.ndarray],
    clips: np.ndarray,
    length: int,
    size: int,
    width: int,
) -> ClipBatch:
    """Reads clips and gathers all that training listeners said of them.

    Args:
      corpus: of the recordings.
      pool: of the labels.
      rows: of each clip's labels in the pool.
      clips: numbers of the clips, `size` at most.
      length: padded samples.
      size: clips of the batch, some of them empty.
      width: labels of a clip, some of them empty.
    """
    waveforms, lengths = read_clips(corpus, clips, length, size)
    index = np.full((size, width), -1)
    for place, clip in enumerate(clips.tolist()):
        index[place, : len(rows[clip])] = rows[clip]
    flat = index.reshape(-1)  # [pairs]
    kept, safe = flat >= 0, np.where(flat >= 0, flat, 0)
    return ClipBatch(
        waveforms,
        lengths,
        np.repeat(np.arange(size, dtype=np.int32), width),
        np.where(kept[:, None], pool.targets[safe], 0).astype(np.float32),
        pool.mask[safe] & kept[:, None],
    )


def read_clips(
    corpus: Corpus, clips: np.ndarray, length: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns waveforms [size, length] and their lengths [size], 0 = no clip."""
    assert corpus.read_audio is not None
    found = [corpus.read_audio(clip) for clip in clips.tolist()]
    waveforms, lengths = pad_batch(found, length)
    empty = size - len(found)
    return np.pad(waveforms, ((0, empty), (0, 0))), np.pad(lengths, (0, empty))


def make_dev_loss(
    experiment: Experiment, data: FoldData, base: Base, fixed: Fixed
) -> Callable[[MetaParams], float]:
    """Returns meta_params -> mean loss of development listeners, without adaptation."""
    learner = methods.make_learner("no_adaptation", data.spec, experiment.settings.meta)
    score_fn = dev_score_fn(experiment, data, learner, data.spec)
    query = dev_draws(experiment, data).query
    clips = np.unique(data.dev.clip[query[query >= 0]])
    row = np.minimum(np.searchsorted(clips, data.dev.clip), len(clips) - 1)
    pool = data.dev._replace(row=row.astype(np.int32))

    def dev_loss(meta_params: MetaParams) -> float:
        trained, head = (meta_params.params[name] for name in (ENCODER, HEAD))
        pooled = encode_clips(experiment, base, trained, clips)
        inputs = np.asarray(tuning_steps.standardise(pooled, fixed))
        device_pool = pools.to_device(pool._replace(inputs=inputs), meshes.make_mesh())
        return score_fn(MetaParams(head, {}), device_pool)

    return dev_loss


def encode_clips(
    experiment: Experiment, base: Base, trained: Leaves, clips: np.ndarray
) -> np.ndarray:
    """Returns [clips, layers, width] hidden states without noise, not standardised."""
    size = experiment.settings.encoder.batch_size
    values = np.zeros((len(clips), base.encoder.num_layers, base.encoder.width), "f4")
    for (batch, length), *_ in plan_epoch(clips, base.samples[clips], size, 1, seed=0):
        inputs = read_clips(experiment.corpus, batch, length, size)
        inputs = meshes.split_rows(inputs, meshes.make_mesh())
        pooled = base.pooled_fn(base.frozen, trained, *inputs)
        values[np.searchsorted(clips, batch)] = pooled[: len(batch)]
    return values


def with_tuned_features(experiment: Experiment, fold: Fold, base: Base) -> Experiment:
    """Returns the experiment with the features of a fold's own encoder.

    Raises:
      InputError: that encoder was not trained yet, or from another one.
    """
    settings, corpus = experiment.settings, experiment.corpus
    trained = load_trained(stage_folder(experiment.workdir, fold.index, STAGE), base)
    encoder = tuned_encoder(base.encoder, base.tuning, trained)
    problems = Problems()
    found = features.extract(
        corpus,
        encoder,
        merge(base.frozen, trained, base.tuning),
        cache_dir(settings, experiment.workdir) / "features",
        problems,
        batch_size=settings.features.batch_size,
        memory_gb=settings.features.memory_gb,
        reading=how_read(settings),
    )
    log.info(
        "fold %02d features: %d clips, %d from the cache",
        fold.index, len(corpus.clips), found.num_cached,
    )  # fmt: skip
    known = set(experiment.problems.rows)  # the same clips cannot be read again
    for row in problems.rows:
        if row not in known:
            experiment.problems.add(*row)
    return experiment._replace(
        values=found.values,
        valid=experiment.valid & found.valid,
        hashes={**experiment.hashes, "inputs": encoder.fingerprint},
    )


def load_trained(folder: pathlib.Path, base: Base) -> Leaves:
    """Returns what tuning left in a stage's folder.

    Raises:
      InputError: nothing, or it builds on another encoder.
    """
    refuse_origin(load_origin(folder), base.origin, str(folder))
    found = load_meta_params(folder).params[ENCODER]
    return {path: jnp.asarray(leaf) for path, leaf in trees.flatten(found).items()}
