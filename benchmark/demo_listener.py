"""A model of the demonstration that measures what can be measured in a recording.

It answers in words what the classifier has no labels for: how long, how often, which
number was dialled, which emotions in which order, one speaker or two.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from benchmark import demo_audio
from benchmark.audio import SAMPLE_RATE
from benchmark.demo_classifier import features, labels_for
from benchmark.models.base import Model, load_waveform, predict
from benchmark.typing import Example, Prediction

Classify = Callable[[np.ndarray, int], Mapping[str, float]]

FRAME = 160  # samples: 10 ms
PAUSE = 0.3  # s of silence that part two segments
_SILENCE = 1e-4  # RMS; what is joined is parted by zeros
_TONE_FRAME = 640  # samples: 40 ms
_PURITY = 0.6  # share of a frame's power in two frequencies that makes it a tone


def make_listener(classify: Classify, classifier: Model) -> Model:
    """Returns a model that measures where it can, and else lets a classifier answer.

    Args:
      classify: waveform and rate -> label of a task -> posterior, for emotions.
      classifier: answers closed questions; gives its name.
    """

    def answer(example: Example) -> Prediction | None:
        task = example.instance.removesuffix("_Demo")
        if task not in measures:
            return classifier.answer(example)
        waves = [load_waveform(audio) for audio in example.audios]
        return predict(classifier.name, example, measures[task](waves))

    def order(waves: list[np.ndarray]) -> str:
        return " ".join(_emotion(classify, part) for part in segments(waves[0]))

    measures: dict[str, Callable[[list[np.ndarray]], str]] = {
        "AudioDurationPrediction": lambda waves: (
            f"The recording lasts {len(waves[0]) / SAMPLE_RATE:.1f} seconds."
        ),
        "RepeatedSegmentCounting": lambda waves: (
            f"It occurs {len(segments(waves[0]))} times."
        ),
        "DialledNumberRecognition": lambda waves: " ".join(dialled(waves[0])),
        "SpeakerVerification": lambda waves: (
            "Yes, the same speaker." if similar(*waves[:2]) else "No."
        ),
        "EmotionOrder": order,
    }
    return classifier._replace(answer=answer)


def segments(wave: Float[np.ndarray, " samples"]) -> list[np.ndarray]:
    """Returns what stands between pauses of at least `PAUSE` seconds of silence."""
    loud = _levels(wave, FRAME) > _SILENCE
    runs = "".join("x" if one else "." for one in loud)
    gap = "." * int(PAUSE * SAMPLE_RATE / FRAME)
    parts = re.finditer(rf"x(?:(?!{re.escape(gap)}).)*", runs)
    return [wave[part.start() * FRAME : part.end() * FRAME] for part in parts]


def dialled(wave: Float[np.ndarray, " samples"]) -> list[str]:
    """Returns the keys whose pairs of tones a recording holds, in order."""
    frames = wave[: len(wave) // _TONE_FRAME * _TONE_FRAME].reshape(-1, _TONE_FRAME)
    keys = [_key(frame) for frame in frames]
    runs = [
        key for key, before in zip(keys, ["", *keys], strict=False) if key != before
    ]
    return [key for key in runs if key]


def similar(a: Float[np.ndarray, "_"], b: Float[np.ndarray, "_"]) -> bool:
    """Tells whether two mean spectra are near each other, loudness aside."""
    spectra = [features(wave)[:40] for wave in (a, b)]
    shapes = [spectrum - spectrum.mean() for spectrum in spectra]
    return bool(np.sqrt(np.mean((shapes[0] - shapes[1]) ** 2)) < 0.8)


def _emotion(classify: Classify, wave: np.ndarray) -> str:
    posterior = classify(wave, SAMPLE_RATE)
    own = labels_for(posterior, "EmotionRecognition_Demo")
    return max(own, key=lambda label: own[label])


def _levels(wave: np.ndarray, size: int) -> np.ndarray:
    """Returns the RMS of frames, [frames]."""
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    return np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))


def _key(frame: np.ndarray) -> str:
    """Returns the key whose two frequencies hold most of a frame's power, or ''."""
    power = float(np.mean(np.square(frame, dtype=np.float64)))
    if power < _SILENCE**2:
        return ""
    time = np.arange(len(frame)) / SAMPLE_RATE
    tones = demo_audio.key_tones()
    shares = {}
    for key, pair in tones.items():
        waves = [np.exp(-2j * np.pi * f * time) for f in pair]
        shares[key] = sum(2 * np.abs(np.mean(frame * w)) ** 2 for w in waves) / power
    best = max(shares, key=lambda key: shares[key])
    return best if shares[best] > _PURITY else ""
