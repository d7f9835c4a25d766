"""What a run or a sweep will take: cells, time, memory and disk, before any of it.

Cells that are done with these settings tell what the others will cost. Without one,
times are counted in operations and divided by what this machine does in a product of
matrices: right within a factor of three or so, and said to be that.
"""

import json
import pathlib
import textwrap
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import cells, methods
from metaperser_jax.cells import Cell
from metaperser_jax.data import corpora, splits
from metaperser_jax.encoders.config import SpeechConfig, estimate_operations, from_json
from metaperser_jax.encoders.hub import is_path
from metaperser_jax.encoders.published import PUBLISHED
from metaperser_jax.errors import Problems
from metaperser_jax.evaluate import hash_of
from metaperser_jax.experiment import cache_dir, load_corpus, trained_methods
from metaperser_jax.results import read_json
from metaperser_jax.settings import Settings
from metaperser_jax.training import durations
from metaperser_jax.typing import Corpus

SAMPLE_RATE = 16_000  # Hz
LOGMEL_SHAPE = (4, 180)  # layers and width, about
LOGMEL_OPERATIONS = 1e8  # of a second of audio, about
TYPICAL_SECONDS = 4.0  # of a clip whose length nobody knows
PADDING = 1.12  # share of padded frames, as measured
HEAD_EFFICIENCY = 0.05  # of a product's speed: small matrices, gathers, metrics
ENCODER_EFFICIENCY = 0.6
CELL_SECONDS = 1.0  # checkpoints and files
COMPILE_SECONDS = 12.0  # of a method, once a process
PASSES = 3  # forward and backward, in forward passes
STATE_COPIES = 5  # parameters, two moments, two checkpoints


class Forecast(NamedTuple):
    """What is ahead."""

    variants: int
    folds: int
    listeners: int  # tested, over all folds of a variant
    methods: tuple[str, ...]
    cells: int
    done: int
    audio_hours: float
    encoder_seconds: dict[str, float]  # encoder -> features of all clips
    cell_seconds: float  # of all open cells, one process
    measured: int  # finished cells that the times come from
    memory_bytes: float
    disk_bytes: float


def forecast(
    settings: Settings, workdir: pathlib.Path, mode: str, problems: Problems
) -> Forecast:
    """Returns what a run ('all') or a sweep will take.

    The corpus is opened, nothing is encoded or trained.

    Raises:
      InputError: the corpus cannot be opened or divided.
    """
    corpus = load_corpus(settings, cache_dir(settings, workdir), problems)
    corpus = corpora.validate_corpus(corpus, problems)
    folds = splits.make_folds(corpus, settings.split)
    chosen = cells.variants(settings)
    if mode != "sweep":
        chosen = [cells.Variant(settings.encoder.name, settings.seed)]
    tested = [
        m
        for m in settings.evaluation.methods
        if m != "ground_truth" or corpus.ground_truth is not None
    ]
    wanted = [Cell(*v, f.index, m) for v in chosen for f in folds for m in tested]
    keys = {v: variant_key(settings, workdir, v, corpus) for v in chosen}
    lines = cells.read_cells(workdir, problems) if mode == "sweep" else {}
    known = {
        cell: row
        for (cell, key), row in lines.items()
        if key == keys.get(cells.Variant(*cell[:2]))
    }
    left = [cell for cell in wanted if cell not in known]
    seconds = float(corpus_seconds(corpus).sum())
    configs = {v.encoder: encoder_config(v.encoder) for v in chosen}
    speed = measure_speed()
    shape = max(map(shape_of, configs.values()), key=np.prod)
    work = Work(settings, corpus, folds, shape, speed)
    return Forecast(
        variants=len(chosen),
        folds=len(folds),
        listeners=sum(len(f.test_listeners) for f in folds),
        methods=tuple(tested),
        cells=len(wanted),
        done=len(wanted) - len(left),
        audio_hours=seconds / 3600,
        encoder_seconds={
            name: encoder_seconds(config, seconds, speed)
            for name, config in configs.items()
        },
        cell_seconds=float(sum(cell_times(left, known, work))),
        measured=len(known),
        memory_bytes=memory_of(work),
        disk_bytes=disk_of(work, len(left), len(configs)),
    )


def variant_key(
    settings: Settings, workdir: pathlib.Path, variant: cells.Variant, corpus: Corpus
) -> str | None:
    """Returns the hash that a variant's finished cells carry, None if it never ran.

    The encoder's fingerprint is the one noted then: no weights are read for it.
    """
    note = read_json(cells.variant_folder(workdir, variant) / "variant.json")
    if note is None:
        return None
    hashes = {"corpus": corpora.corpus_hash(corpus), "inputs": note["hashes"]["inputs"]}
    return hash_of(cells.variant_settings(settings, variant), hashes)


class Work(NamedTuple):
    """What the times of cells are counted from."""

    settings: Settings
    corpus: Corpus
    folds: list[splits.Fold]
    shape: tuple[int, int]  # layers and width of the features
    speed: float  # operations a second


def corpus_seconds(corpus: Corpus) -> np.ndarray:
    """Returns [clips] lengths, typical ones where the corpus does not know."""
    if corpus.read_audio is None:
        return np.zeros(len(corpus.clips))
    if corpus.seconds is not None:
        return corpus.seconds
    known = corpus.summary.get("hours")
    mean = known * 3600 / len(corpus.clips) if known else TYPICAL_SECONDS
    return np.full(len(corpus.clips), mean)


def encoder_config(name: str) -> SpeechConfig | None:
    """Returns an encoder's sizes without its weights, None where nobody knows."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    path = pathlib.Path(name) / "config.json"
    if is_path(name) and path.is_file():
        text = path.read_text(encoding="utf-8")
        return from_json(json.loads(text), None, name)
    return None


def shape_of(config: SpeechConfig | None) -> tuple[int, int]:
    """Returns layers and width of the features."""
    if config is None:
        return LOGMEL_SHAPE
    return config.num_hidden_layers + 1, config.hidden_size


def encoder_seconds(config: SpeechConfig | None, audio: float, speed: float) -> float:
    """Returns the time to encode `audio` seconds of clips."""
    operations = LOGMEL_OPERATIONS
    if config is not None:
        clip = int(TYPICAL_SECONDS * SAMPLE_RATE)
        operations = estimate_operations(config, clip) / TYPICAL_SECONDS
    return audio * PADDING * operations / (ENCODER_EFFICIENCY * speed)


def measure_speed(size: int = 768, visits: int = 5) -> float:
    """Returns the operations a second of a float32 product, the best of a few."""
    product = jax.jit(lambda a: a @ a)
    matrix = jnp.ones((size, size), jnp.float32)
    product(matrix).block_until_ready()
    times = []
    for _ in range(visits):
        begun = time.perf_counter()
        product(matrix).block_until_ready()
        times.append(time.perf_counter() - begun)
    return 2 * size**3 / min(times)


def cell_times(left: list[Cell], known: dict[Cell, Any], work: Work) -> Iterator[float]:
    """Yields the time of each open cell; as of finished ones of its method."""
    measured: dict[str, list[float]] = {}
    for cell, row in known.items():
        measured.setdefault(cell.method, []).append(row["seconds"])
    compiled: set[str] = set()
    for cell in left:
        if cell.method in measured:
            yield float(np.mean(measured[cell.method]))
            continue
        first = COMPILE_SECONDS * (cell.method not in compiled)
        compiled.add(cell.method)
        operations = cell_operations(cell.method, work)
        yield first + CELL_SECONDS + operations / (HEAD_EFFICIENCY * work.speed)


def cell_operations(method: str, work: Work) -> float:
    """Returns the operations of training and evaluating a method in one fold."""
    settings, fold = work.settings, work.folds[0]
    meta, asked = settings.meta, settings.evaluation
    sample = head_operations(work)
    training = 0.0
    if method == "no_adaptation":  # pays for the pretraining of all
        rated = splits.rated_by(work.corpus, fold.train_listeners, fold.train_clips)
        training = settings.pretrain.epochs * rated.sum() * PASSES * sample
    elif method in trained_methods(settings):
        tasks = min(meta.num_tasks, len(fold.train_listeners))
        epoch = -(-len(fold.train_listeners) // tasks)
        episode = meta.num_steps * meta.num_support[1] + meta.num_query
        steps = durations.to_steps(meta.duration, epoch)
        training = steps * tasks * episode * PASSES * sample * 1.5
    steps = methods.FINE_TUNE_STEPS if "tune" in method else meta.num_steps
    adapting = steps * max(asked.num_support) * PASSES * sample
    pairs = asked.num_draws * len(fold.test_listeners) * len(asked.num_support)
    predicting = query_size(work) * sample
    return training + pairs * len(asked.scenarios) * (adapting + predicting)


def head_operations(work: Work) -> float:
    """Returns the operations of one clip through the head."""
    (layers, width), hidden = work.shape, work.settings.head.hidden
    return 2.0 * (layers * width + width * hidden + hidden * len(work.corpus.classes))


def query_size(work: Work) -> float:
    """Returns how many clips a query set holds, at most."""
    counts = np.bincount(work.corpus.ratings.annotator)
    share = counts[work.folds[0].test_listeners].max(initial=1)
    most = work.settings.evaluation.max_query
    return min(share, most) if most else float(share)


def prediction_bytes(work: Work) -> float:
    """Returns the size of one cell's predictions."""
    asked, fold = work.settings.evaluation, work.folds[0]
    rows = len(fold.test_listeners) * asked.num_draws * query_size(work)
    columns = len(work.corpus.classes) * (len(asked.num_support) + 2) + 1
    return 4.0 * rows * columns


def memory_of(work: Work) -> float:
    """Returns the peak: features twice (host and device), predictions of a method."""
    layers, width = work.shape
    features = 4.0 * len(work.corpus.clips) * layers * width
    everyone = prediction_bytes(work) * len(work.folds) * 3
    return 6e8 + 2 * features + everyone


def disk_of(work: Work, num_cells: int, num_encoders: int) -> float:
    """Returns what cache, predictions and checkpoints take."""
    layers, width = work.shape
    features = 2.0 * len(work.corpus.clips) * layers * width * num_encoders
    hidden = work.settings.head.hidden
    head = 4.0 * (layers + width * hidden + hidden * len(work.corpus.classes))
    return features + num_cells * (prediction_bytes(work) + STATE_COPIES * head)


def describe(found: Forecast) -> str:
    """Returns the plan for the console."""
    encoding = sum(found.encoder_seconds.values())
    basis = (
        f"times of {found.measured} finished cells"
        if found.measured
        else "counted operations, right within a factor of three"
    )
    encoders = ", ".join(
        f"{name} {duration(s)}" for name, s in found.encoder_seconds.items()
    )
    lines = [
        f"variants    {found.variants} (encoder, seed)",
        f"folds       {found.folds}, with {found.listeners} listeners to test",
        f"methods     {len(found.methods)}: {', '.join(found.methods)}",
        f"cells       {found.cells}, {found.done} done",
        f"features    {found.audio_hours:.2f} h of audio, unless cached: {encoders}",
        f"cells' time {duration(found.cell_seconds)} in one process ({basis})",
        f"in all      {duration(encoding + found.cell_seconds)}",
        f"memory      about {found.memory_bytes / 1e9:.1f} GB a process",
        f"disk        about {found.disk_bytes / 1e9:.2g} GB",
    ]
    return "\n".join(
        textwrap.fill(line, 100, subsequent_indent=" " * 12) for line in lines
    )


def duration(seconds: float) -> str:
    """Formats a time: '40 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
