"""Recordings for the demonstration: generated voices, and what is done to a recording.

A voice is pulses of a pitch contour through three resonances (source and filter; Fant,
1960). Speakers differ in pitch and in the length of the vocal tract, emotions in pitch,
range, tempo, loudness and brightness, about as acted emotions do (Banse and Scherer,
1996). It serves where no corpus is at hand; it is no substitute for one.
"""

import csv
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmark import audio
from benchmark.audio import SAMPLE_RATE
from benchmark.errors import InputError

Waveform = Float[np.ndarray, "_"]  # [samples], each of its own length

_COLUMNS = ("file", "speaker", "gender", "emotion")
_GENDERS = {"m": "male", "male": "male", "f": "female", "female": "female"}
_VOWELS = np.array(  # Hz of the first three formants of a man's /a e i o u/
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410],
     [300, 870, 2240]], float
)  # fmt: skip
_KEYS = "123 456 789 *0#"  # a telephone's rows
_ROWS, _COLS = (697, 770, 852, 941), (1209, 1336, 1477)  # Hz (ITU-T Q.23)


class Clip(NamedTuple):
    """One utterance, and what is known of it."""

    name: str
    speaker: str
    gender: str  # 'male', 'female'
    emotion: str
    load: Callable[[], Waveform]  # 16 kHz


class Style(NamedTuple):
    """How an emotion changes a voice, as factors of a speaker's own values."""

    pitch: float
    swing: float  # of the pitch contour, share of the pitch
    tempo: float
    loudness: float
    tilt: float  # of the source, 0 = bright, 1 = dull


STYLES = {
    "anger": Style(1.45, 0.25, 1.25, 1.0, 0.55),
    "happiness": Style(1.6, 0.45, 1.1, 0.7, 0.75),
    "neutral": Style(1.0, 0.12, 1.0, 0.5, 0.88),
    "sadness": Style(0.85, 0.05, 0.7, 0.3, 0.96),
}


def generated_clips(num_speakers: int = 10, per_emotion: int = 6) -> list[Clip]:
    """Returns clips of made voices, half of them men's, every emotion of `STYLES`.

    Args:
      num_speakers: number of voices.
      per_emotion: clips of a voice in each emotion.
    """

    def clip(speaker: int, emotion: str, take: int) -> Clip:
        gender = ("male", "female")[speaker % 2]
        name = f"voice{speaker:02d}_{emotion}_{take}"

        @functools.cache
        def load() -> Waveform:
            return utterance(speaker, gender, emotion, take)

        return Clip(name, f"voice{speaker:02d}", gender, emotion, load)

    return [
        clip(speaker, emotion, take)
        for speaker in range(num_speakers)
        for emotion in STYLES
        for take in range(per_emotion)
    ]


def utterance(speaker: int, gender: str, emotion: str, take: int) -> Waveform:
    """Returns a voice that says some syllables; same arguments, same samples.

    Args:
      speaker: number of the voice.
      gender: 'male' or 'female'.
      emotion: one of `STYLES`.
      take: number of the sentence.

    Returns:
      [samples] float32 at 16 kHz.
    """
    voice = np.random.default_rng([7, speaker])
    base = voice.uniform(95, 130) if gender == "male" else voice.uniform(180, 230)
    tract = voice.uniform(0.94, 1.04) * (1.0 if gender == "male" else 1.17)
    style = STYLES[emotion]
    rng = np.random.default_rng([11, speaker, list(STYLES).index(emotion), take])
    pieces = []
    for _ in range(rng.integers(6, 10)):
        seconds = rng.uniform(0.14, 0.24) / style.tempo
        pitch = base * style.pitch * (1 + style.swing * rng.uniform(-1, 1))
        formants = tract * _VOWELS[rng.integers(len(_VOWELS))]
        pieces += [_consonant(rng), _vowel(pitch, formants, seconds, style, rng)]
    wave = np.concatenate(pieces)
    wave = wave / np.abs(wave).max() * 0.8 * style.loudness
    return (wave + rng.normal(0, 1e-3, wave.size)).astype(np.float32)


def read_clips(folder: pathlib.Path) -> list[Clip]:
    """Returns the clips of a folder with `items.csv` and the recordings it names.

    `items.csv` has the columns file, speaker, gender (m / f) and emotion; recordings
    lie beside it or in `wav/`. Those that are not there are left out.

    Raises:
      InputError: no such table or columns, another gender, or no recording is there.
    """
    table = folder / "items.csv"
    if not table.is_file():
        raise InputError(
            f"{table}: no such file; --data names a folder with items.csv (columns "
            f"{', '.join(_COLUMNS)}) and its recordings"
        )
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = set(_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{table}: no column {', '.join(sorted(missing))}")
        clips = [_clip(row, folder, table, line) for line, row in enumerate(reader, 2)]
    found = [clip for clip in clips if clip is not None]
    if not found:
        raise InputError(f"{table}: none of its recordings lie in {folder} or its wav/")
    return found


def _clip(row: dict, folder: pathlib.Path, table: pathlib.Path, line: int):
    gender = _GENDERS.get((row["gender"] or "").strip().lower())
    if gender is None:
        found = row["gender"]
        raise InputError(f"{table}:{line}: gender {found!r}, expected m or f")
    name = pathlib.PurePath(row["file"]).name  # a table names no file elsewhere
    paths = [path for path in (folder / name, folder / "wav" / name) if path.is_file()]
    if not paths:
        return None
    load = functools.cache(functools.partial(audio.load, paths[0]))
    return Clip(name, row["speaker"], gender, row["emotion"], load)


def join(waves: Sequence[Waveform], pause: float = 0.15) -> Waveform:
    """Returns the waveforms one after the other, `pause` seconds apart."""
    gap = np.zeros(int(pause * SAMPLE_RATE), np.float32)
    parts = [part for wave in waves for part in (gap, wave)][1:]
    return np.concatenate(parts)


def add_noise(wave: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
    """Adds pink noise at a signal-to-noise ratio, the mean power of both in dB."""
    spectrum = np.fft.rfft(rng.normal(size=wave.size))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(1, spectrum.size + 1)), wave.size)
    ratio = np.mean(wave**2) / np.mean(noise**2) / 10 ** (snr_db / 10)
    mixed = wave + np.sqrt(ratio) * noise
    return (mixed / max(1.0, np.abs(mixed).max())).astype(np.float32)


def add_reverberation(
    wave: Waveform, seconds: float, rng: np.random.Generator
) -> Waveform:
    """Convolves with noise that falls by 60 dB in `seconds` (Moorer, 1979)."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.normal(size=time.size) * 10 ** (-3 * time / seconds)
    tail[0] = 0.5 * np.linalg.norm(tail[1:])
    size = wave.size + tail.size - 1
    wet = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(tail, size), size)
    peak = np.abs(wave).max() / max(np.abs(wet).max(), 1e-9)
    return (wet * peak).astype(np.float32)


def dial(digits: str, seconds: float = 0.18) -> Waveform:
    """Returns the digits as a telephone's tones, each a pair of sines.

    Raises:
      KeyError: a character that is no key.
    """
    tones = key_tones()
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)
    pairs = [tones[digit] for digit in digits]
    waves = [sum(np.sin(2 * np.pi * f * time) for f in pair) for pair in pairs]
    return join([(0.3 * fade * wave).astype(np.float32) for wave in waves], 0.08)


def key_tones() -> dict[str, tuple[int, int]]:
    """Returns the two frequencies (Hz) of each key of a telephone."""
    rows = _KEYS.split()
    return {
        key: (_ROWS[row], _COLS[column])
        for row, keys in enumerate(rows)
        for column, key in enumerate(keys)
    }


def _vowel(
    pitch: float,
    formants: np.ndarray,
    seconds: float,
    style: Style,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns pulses of a falling pitch through the resonances."""
    from scipy.signal import lfilter  # slow to import, needed for made voices alone

    size = int(seconds * SAMPLE_RATE)
    contour = pitch * np.linspace(1.05, 0.95, size) * (1 + rng.normal(0, 0.01))
    phase = np.cumsum(contour / SAMPLE_RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    wave = lfilter([1.0], [1.0, -style.tilt], pulses)
    for formant, width in zip(formants, (80, 100, 140), strict=True):
        radius = np.exp(-np.pi * width / SAMPLE_RATE)
        angle = 2 * np.pi * formant / SAMPLE_RATE
        wave = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], wave)
    wave = np.asarray(wave) / max(np.abs(wave).max(), 1e-9)
    return wave * np.sin(np.linspace(0, np.pi, size)) ** 0.5


def _consonant(rng: np.random.Generator) -> np.ndarray:
    size = int(rng.uniform(0.03, 0.07) * SAMPLE_RATE)
    hiss = np.diff(rng.normal(size=size + 1))
    return rng.choice([0.02, 0.08]) * hiss * np.hanning(size)
