"""A small classifier of recordings: log-spectral statistics, logistic regression.

It is what the demonstration evaluates, and an example of how a classifier of one's own
enters the harness: a function of a waveform that returns a posterior for each label.
"""

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from benchmark.audio import SAMPLE_RATE
from benchmark.errors import InputError
from benchmark.metrics.base import Array

PLACE = "BENCHMARK_DEMO_CLASSIFIER"  # environment variable: the trained classifier
NUM_BANDS = 40
WINDOW, HOP = 512, 160  # samples: 32 ms every 10 ms
LAGS = (40, 200)  # samples of a pitch period: 400 to 80 Hz
_BUCKET = 2 * SAMPLE_RATE  # lengths are padded to multiples, or each would compile
_FLOOR = 1e-8
_STEPS, _RATE, _DECAY = 300, 0.05, 3e-3


class Classifier(NamedTuple):
    """A trained classifier; arrays, so that it is saved as they are."""

    labels: tuple[str, ...]
    mean: np.ndarray  # [features]
    scale: np.ndarray  # [features]
    kernel: np.ndarray  # [features, labels]
    bias: np.ndarray  # [labels]


def features(wave: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " features"]:
    """Returns statistics of a waveform at 16 kHz over time.

    Mean, spread and roughness of 40 log-mel bands, their change from half to half, the
    share of each band's quiet frames, and mean and spread of pitch and loudness.
    """
    wave = np.asarray(wave, np.float32)
    size = -(-max(len(wave), WINDOW) // _BUCKET) * _BUCKET
    padded = np.pad(wave, (0, size - len(wave)))
    return np.asarray(_features(padded, len(wave)))


def train(
    waves: Sequence[Float[np.ndarray, "_"]], answers: Sequence[str]
) -> Classifier:
    """Trains a classifier by logistic regression with weight decay.

    Args:
      waves: recordings at 16 kHz.
      answers: the label of each.
    """
    labels = tuple(sorted(set(answers)))
    targets = np.array([labels.index(answer) for answer in answers])
    inputs = np.stack([features(wave) for wave in waves])  # [examples, features]
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-3
    kernel, bias = _fit((inputs - mean) / scale, targets, len(labels))
    return Classifier(labels, mean, scale, np.asarray(kernel), np.asarray(bias))


def posteriors(
    classifier: Classifier, wave: Float[np.ndarray, " samples"]
) -> dict[str, float]:
    """Returns a probability for each label."""
    return _posteriors(classifier, features(wave))


def label_of(task: str, label: str) -> str:
    """Returns the classifier's name for a label; several tasks have a 'yes'."""
    return f"{task}: {label}"


def labels_for(posterior: Mapping[str, float], task: str) -> dict[str, float]:
    """Returns the posterior of one task by its own labels."""
    start = label_of(task, "")
    return {
        name.removeprefix(start): mass
        for name, mass in posterior.items()
        if name.startswith(start)
    }


def classify(wave: Float[np.ndarray, " samples"], sample_rate: int) -> dict[str, float]:
    """Returns the posteriors of all tasks; the classifier that `PLACE` names answers.

    Args:
      wave: [samples] at 16 kHz.
      sample_rate: Hz.

    Raises:
      InputError: another rate, or there is no trained classifier.
    """
    if sample_rate != SAMPLE_RATE:
        raise InputError(f"the classifier hears {SAMPLE_RATE} Hz, not {sample_rate}")
    place = os.environ.get(PLACE, "")
    if not place:
        raise InputError(f"{PLACE}: not set; it names the classifier that `demo` wrote")
    heads, inputs = _load(place), features(wave)
    return {
        label_of(task, label): share
        for task, head in heads.items()
        for label, share in _posteriors(head, inputs).items()
    }


def save(heads: Mapping[str, Classifier], path: pathlib.Path) -> None:
    """Writes the classifiers of several tasks as one .npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{task}/{name}": np.asarray(value)
        for task, head in heads.items()
        for name, value in head._asdict().items()
    }
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    part.replace(path)


def load(path: pathlib.Path) -> dict[str, Classifier]:
    """Reads what `save` wrote.

    Raises:
      InputError: no such file, or another one.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            tasks = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
            fields = {
                task: {name: arrays[f"{task}/{name}"] for name in Classifier._fields}
                for task in tasks
            }
    except (OSError, ValueError, KeyError) as error:
        message = f"{path}: no classifier of the demonstration ({error})"
        raise InputError(message) from error
    return {
        task: Classifier(**{**head, "labels": tuple(map(str, head["labels"]))})
        for task, head in fields.items()
    }


@functools.lru_cache(maxsize=1)
def _load(place: str) -> dict[str, Classifier]:
    return load(pathlib.Path(place))


def _posteriors(classifier: Classifier, found: np.ndarray) -> dict[str, float]:
    inputs = (found - classifier.mean) / classifier.scale
    logits = inputs @ classifier.kernel + classifier.bias
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return dict(zip(classifier.labels, map(float, shares), strict=True))


@jax.jit
def _features(wave: Array, length: Int[Array, ""] | int) -> jax.Array:
    starts = jnp.arange((wave.size - WINDOW) // HOP + 1) * HOP
    frames = wave[starts[:, None] + jnp.arange(WINDOW)[None]]  # [frames, window]
    mask = starts + WINDOW <= jnp.maximum(length, WINDOW)
    power = jnp.abs(jnp.fft.rfft(frames * jnp.hanning(WINDOW)[None])) ** 2
    bands = jnp.log(power @ _filters() + _FLOOR)  # [frames, bands]
    level = jnp.log(jnp.mean(frames**2, axis=1, keepdims=True) + _FLOOR)
    pitch, voiced = _pitch(frames)
    spoken = mask & voiced & (level[:, 0] > _mean(level, mask)[0])
    place = jnp.cumsum(mask) / jnp.sum(mask)
    halves = [_mean(bands, mask & half) for half in (place <= 0.5, place > 0.5)]
    steps = jnp.abs(jnp.diff(bands, axis=0, prepend=bands[:1]))
    quiet = bands < _mean(bands, mask)[None] - 2.0
    parts = (
        *_moments(bands, mask), _mean(steps, mask), jnp.abs(halves[0] - halves[1]),
        _mean(quiet, mask), *_moments(level, mask), *_moments(pitch[:, None], spoken),
        jnp.min(bands, axis=0, where=mask[:, None], initial=20.0),
    )  # fmt: skip
    return jnp.concatenate(parts)


def _pitch(frames: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the log pitch of each frame and whether it has one, by autocorrelation.

    Lags are looked at in windowed frames, each relative to lag 0.
    """
    spectrum = jnp.abs(jnp.fft.rfft(frames, 2 * WINDOW)) ** 2
    similar = jnp.fft.irfft(spectrum)[:, : LAGS[1]]  # [frames, lags]
    similar = similar / (similar[:, :1] + _FLOOR)
    lags = similar[:, LAGS[0] :]
    best = LAGS[0] + jnp.argmax(lags, axis=1)
    return jnp.log(SAMPLE_RATE / best), jnp.max(lags, axis=1) > 0.4


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean over the frames of the mask, 0 without any."""
    total = jnp.sum(jnp.where(mask[:, None], values, 0), axis=0)
    return total / jnp.maximum(jnp.sum(mask), 1)


def _moments(values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = _mean(values, mask)
    return mean, jnp.sqrt(_mean((values - mean[None]) ** 2, mask) + _FLOOR)


@functools.cache
def _filters() -> np.ndarray:
    """Returns triangular mel filters, [bins, bands] (O'Shaughnessy, 1987)."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, NUM_BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)[:, None]
    low, mid, high = edges[None, :-2], edges[None, 1:-1], edges[None, 2:]
    rising, falling = (bins - low) / (mid - low), (high - bins) / (high - mid)
    filters = np.maximum(0, np.minimum(rising, falling))
    return (filters / np.maximum(filters.sum(axis=0, keepdims=True), 1e-6)).astype(
        np.float32
    )


@functools.partial(jax.jit, static_argnames=("num_labels",))
def _fit(
    inputs: Float[Array, "examples features"],
    targets: Int[Array, " examples"],
    num_labels: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns kernel and bias after gradient steps with Adam's scaling."""
    import optax

    tx = optax.adamw(_RATE, weight_decay=_DECAY / _RATE)
    params = (jnp.zeros((inputs.shape[1], num_labels)), jnp.zeros(num_labels))

    def loss_fn(params):
        logits = inputs @ params[0] + params[1][None]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return jnp.mean(losses) + 1e-2 * jnp.sum(params[0] ** 2)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
        return (jax.tree.map(jnp.add, params, updates), state), None

    start = (params, tx.init(params))
    ((kernel, bias), _), _ = jax.lax.scan(step, start, length=_STEPS)
    return kernel, bias
