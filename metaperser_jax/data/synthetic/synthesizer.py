"""Speech-like audio from a source-filter model, steered by emotion.

A glottal pulse train and noise pass through formant filters that glide along a
sentence of syllables; pitch, loudness, rate, pauses and voice quality follow the
latent valence, arousal, dominance and emotion category. It is no speech: it carries
the acoustic cues that listeners use, with known strengths, so that a method can be
judged against the truth.

Sources: source-filter synthesis and phone targets after Klatt (1980, JASA 67(3)) and
Peterson & Barney (1952, JASA 24(2)); glottal pulse of Klatt & Klatt (1990, JASA
87(2)); directions of the emotional cues after Juslin & Laukka (2003, Psychological
Bulletin 129(5), table 11) and Scherer (1986, Psychological Bulletin 99(2)).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Int16

SAMPLE_RATE = 16_000
HOP = 128  # samples between control frames, 8 ms
FFT_SIZE = 512
MIN_SECONDS, MAX_SECONDS = 1.0, 2.2
MARGIN_SECONDS = 0.06  # silence before and after the sentence
ROOM_NOISE_DB = -70.0  # level of the room noise, dB re full scale

EMOTIONS = (
    "neutral",
    "happy",
    "sad",
    "angry",
    "fear",
    "surprise",
    "disgust",
    "calm",
)

# Phone -> F1 F2 F3 [Hz], voicing, frication, frication centre and half width [Hz],
# duration relative to a vowel. Adult male values; speakers scale them.
PHONES = {
    "a": (730, 1090, 2440, 1.0, 0, 3000, 1000, 1.0),
    "e": (530, 1840, 2480, 1.0, 0, 3000, 1000, 1.0),
    "i": (270, 2290, 3010, 0.9, 0, 3000, 1000, 0.9),
    "o": (570, 840, 2410, 1.0, 0, 3000, 1000, 1.0),
    "u": (300, 870, 2240, 0.9, 0, 3000, 1000, 0.9),
    "@": (500, 1500, 2500, 0.8, 0, 3000, 1000, 0.6),
    "m": (270, 1000, 2200, 0.35, 0, 3000, 1000, 0.6),
    "n": (270, 1500, 2500, 0.35, 0, 3000, 1000, 0.6),
    "l": (360, 1200, 2700, 0.55, 0, 3000, 1000, 0.5),
    "r": (330, 1150, 1600, 0.55, 0, 3000, 1000, 0.5),
    "w": (300, 650, 2200, 0.5, 0, 3000, 1000, 0.5),
    "s": (320, 1400, 2550, 0.0, 0.35, 5800, 1400, 0.8),
    "S": (300, 1800, 2600, 0.0, 0.35, 3200, 900, 0.8),
    "f": (340, 1100, 2100, 0.0, 0.15, 6000, 3000, 0.7),
    "h": (500, 1500, 2500, 0.0, 0.15, 1500, 1200, 0.5),
    "p": (400, 1100, 2150, 0.0, 0.2, 1200, 900, 0.3),
    "t": (400, 1700, 2600, 0.0, 0.4, 4500, 1500, 0.3),
    "k": (350, 1900, 2500, 0.0, 0.35, 2300, 800, 0.3),
    "b": (250, 1000, 2150, 0.25, 0.08, 1000, 800, 0.4),
    "d": (250, 1700, 2600, 0.25, 0.15, 4000, 1500, 0.4),
    "g": (250, 1900, 2400, 0.25, 0.12, 2200, 800, 0.4),
    "_": (500, 1500, 2500, 0.0, 0, 3000, 1000, 0.3),  # closure of a plosive
    " ": (500, 1500, 2500, 0.0, 0, 3000, 1000, 1.0),  # pause between words
}
SENTENCES = (
    "ba lomi sada ne",
    "u tari ne molo",
    "Si kena do wilu",
    "mano fe sitaru",
    "e regu lami to",
    "so niwa k@ defu",
    "ta memo Salu ri",
    "li pado @ne suka",
    "ro hami S@ tenu",
    "wa bilo nu gare",
)
_VOWELS = "aeiou@"
_PLOSIVES = "ptkbdg"


class Speaker(NamedTuple):
    """What stays the same over a speaker's clips."""

    f0_hz: float  # habitual pitch
    formant_scale: float  # 1 = adult male vocal tract, larger = shorter tract
    breathiness: float  # share of aspiration noise in the voiced source, 0-1
    open_quotient: float  # open share of the glottal period
    rate: float  # factor on the speaking rate
    expressiveness: float  # factor on all emotional deviations
    gain_db: float  # microphone and habit


class Controls(NamedTuple):
    """One clip's delivery; the fields after `rate` deviate from the speaker's own."""

    rate: float  # syllables a second
    f0_shift: float  # semitones
    f0_range: float  # standard deviation of the accents, semitones
    f0_final: float  # movement over the last third of the sentence, semitones
    tremor: float  # depth of a 6 Hz modulation, semitones
    level_db: float  # dB
    accent_db: float  # standard deviation of syllable level, dB
    tilt: float  # pole of the source's low-pass, 0 (bright) - 0.95 (dull)
    breathiness: float  # share of aspiration noise, 0-1
    open_quotient: float  # open share of the glottal period
    jitter: float  # cycle-to-cycle timing perturbation, share of a period
    shimmer: float  # cycle-to-cycle amplitude perturbation, log units
    smile: float  # log factor on the formants
    pause: float  # seconds at a word boundary


class Score(NamedTuple):
    """A sentence as phone targets."""

    targets: np.ndarray  # [phones, 7] formants, voicing, frication, centre, width
    seconds: np.ndarray  # [phones] durations
    syllable: np.ndarray  # [phones] int, which syllable a phone belongs to


# Directions are those of the literature; the common strength was set by trial so that
# a linear readout tells the categories about as well as in acted speech.
# Rows: what one unit of valence, arousal and dominance adds, then what the category
# adds on top at full intensity (EMOTIONS order; neutral adds nothing by definition).
_LATENT_EFFECTS = {
    "rate": (0.064, 0.32, 0),  # log
    "f0_shift": (0.48, 6.4, -1.9),
    "f0_range": (0.32, 0.72, 0.08),  # log
    "f0_final": (0.96, 0.48, -0.96),
    "tremor": (0, 0, 0),
    "level_db": (0.48, 8, 3.2),
    "accent_db": (0.08, 0.4, 0.24),  # log
    "tilt": (0.032, -0.27, -0.096),
    "breathiness": (-0.016, -0.08, -0.064),
    "open_quotient": (0.016, -0.096, -0.096),
    "jitter": (-0.48, 0.16, 0),  # log
    "shimmer": (-0.4, 0.08, 0),  # log
    "smile": (0.04, 0.016, -0.016),
    "pause": (-0.08, -0.72, 0),  # log
}
_CATEGORY_EFFECTS = {
    # neutral happy sad angry fear surprise disgust calm
    "rate": (0, 0.11, -0.22, 0.066, 0.33, -0.11, -0.4, -0.18),
    "f0_shift": (0, 1.1, -0.66, -1.8, 2.2, 3.5, -3.5, -0.44),
    "f0_range": (0, 0.66, -0.33, 0.11, -0.99, 0.77, -0.11, -0.55),
    "f0_final": (0, 1.1, -3.3, -4.4, 1.1, 11, -2.6, -0.88),
    "tremor": (0, 0, 0.22, 0, 1.2, 0, 0, 0),
    "level_db": (0, 0.66, -1.3, 4.4, -3.3, 1.1, -1.8, -1.1),
    "accent_db": (0, 0.11, -0.33, 0.77, 0, 0.33, 0.22, -0.44),
    "tilt": (0, 0, 0.11, -0.18, 0.044, 0, 0.13, 0.066),
    "breathiness": (0, -0.022, 0.18, -0.088, 0.22, 0.066, 0, 0.11),
    "open_quotient": (0, 0, 0.066, -0.15, 0.066, 0, -0.11, 0.088),
    "jitter": (0, 0, 0.44, 0.55, 0.77, 0, 1.7, -0.66),
    "shimmer": (0, 0, 0.44, 0.55, 0.55, 0, 1.4, -0.66),
    "smile": (0, 0.066, -0.033, 0, 0, 0.022, -0.077, 0.011),
    "pause": (0, -0.22, 0.77, -0.44, -0.22, 0.22, 0.44, 0.33),
}
# Neutral value, spread from clip to clip, lower and upper limit.
_NEUTRAL = {
    "rate": (5.2, 0.07, 3.2, 7.5),
    "f0_shift": (0.0, 0.8, -8.0, 14.0),
    "f0_range": (1.7, 0.20, 0.4, 6.0),
    "f0_final": (-1.5, 0.9, -8.0, 9.0),
    "tremor": (0.0, 0.05, 0.0, 1.2),
    "level_db": (0.0, 1.2, -14.0, 10.0),
    "accent_db": (1.8, 0.20, 0.5, 6.0),
    "tilt": (0.50, 0.04, 0.05, 0.93),
    "breathiness": (0.0, 0.02, 0.0, 0.6),
    "open_quotient": (0.0, 0.02, 0.35, 0.9),
    "jitter": (0.008, 0.25, 0.001, 0.05),
    "shimmer": (0.05, 0.25, 0.005, 0.4),
    "smile": (0.0, 0.012, -0.12, 0.12),
    "pause": (0.07, 0.30, 0.0, 0.3),
}
_LOG_CONTROLS = frozenset(
    {"rate", "f0_range", "accent_db", "jitter", "shimmer", "pause"}
)


def sample_speaker(rng: np.random.Generator, high_voice: bool) -> Speaker:
    """Draws one speaker.

    Args:
      rng: source of randomness.
      high_voice: a shorter vocal tract and a habitual pitch near 195 Hz, else 115 Hz.

    Returns:
      The speaker's fixed traits.
    """
    return Speaker(
        f0_hz=(195.0 if high_voice else 115.0) * np.exp(0.10 * rng.standard_normal()),
        formant_scale=(1.16 if high_voice else 1.0)
        * np.exp(0.03 * rng.standard_normal()),
        breathiness=float(np.clip(0.10 + 0.04 * rng.standard_normal(), 0.02, 0.25)),
        open_quotient=float(np.clip(0.60 + 0.04 * rng.standard_normal(), 0.45, 0.75)),
        rate=float(np.exp(0.06 * rng.standard_normal())),
        expressiveness=float(np.exp(0.15 * rng.standard_normal())),
        gain_db=float(2.0 * rng.standard_normal()),
    )


def plan_controls(
    rng: np.random.Generator,
    speaker: Speaker,
    latent: Float[np.ndarray, "3"],
    emotion: int,
    intensity: float,
) -> Controls:
    """Turns a clip's latent emotion into a delivery.

    Each control is `neutral + expressiveness * (effect . latent + intensity *
    category effect) + clip noise`, in log units for rates, spreads and
    perturbations, then clipped to what a voice can do.

    Args:
      rng: source of the variation from clip to clip.
      speaker: who speaks.
      latent: [3] valence, arousal, dominance, each about -1 to 1.
      emotion: index into `EMOTIONS`.
      intensity: how fully the category is enacted, 0-1.

    Returns:
      The delivery.
    """
    own = {
        "rate": speaker.rate,
        "breathiness": speaker.breathiness,
        "open_quotient": speaker.open_quotient,
    }
    values = {}
    for name, (neutral, spread, low, high) in _NEUTRAL.items():
        effect = float(np.dot(_LATENT_EFFECTS[name], latent))
        effect += intensity * _CATEGORY_EFFECTS[name][emotion]
        deviation = speaker.expressiveness * effect + spread * rng.standard_normal()
        if name in _LOG_CONTROLS:
            value = neutral * own.get(name, 1.0) * np.exp(deviation)
        else:
            value = neutral + own.get(name, 0.0) + deviation
        values[name] = float(np.clip(value, low, high))
    return Controls(**values)


def compose(sentence: str, controls: Controls) -> Score:
    """Lays out a sentence's phones in time.

    Args:
      sentence: one character a phone (keys of `PHONES`), a blank between words.
      controls: the delivery; its rate and pause set the durations, which are then
        scaled so that the clip lasts `MIN_SECONDS` to `MAX_SECONDS`.

    Returns:
      The score.
    """
    phones, syllable, count = [], [], 0
    for phone in sentence:
        phones += ["_", phone] if phone in _PLOSIVES else [phone]
        syllable += [count] * (len(phones) - len(syllable))
        count += phone in _VOWELS
    table = np.array([PHONES[phone] for phone in phones], float)  # [phones, 8]
    seconds = table[:, 7] / table[:, 7].sum() * count / controls.rate
    seconds[[phone == " " for phone in phones]] = controls.pause
    spoken = np.clip(
        seconds.sum(),
        MIN_SECONDS - 2 * MARGIN_SECONDS,
        MAX_SECONDS - 2 * MARGIN_SECONDS,
    )
    return Score(
        targets=table[:, :7],
        seconds=seconds * spoken / seconds.sum(),
        syllable=np.minimum(syllable, count - 1),
    )


def synthesize(
    rng: np.random.Generator, speaker: Speaker, controls: Controls, sentence: str
) -> Int16[np.ndarray, " samples"]:
    """Renders one clip.

    Args:
      rng: source of accents, perturbations and noise.
      speaker: who speaks.
      controls: the delivery.
      sentence: phones, see `compose`.

    Returns:
      [samples] 16 kHz audio of `MIN_SECONDS` to `MAX_SECONDS`.
    """
    score = compose(sentence, controls)
    ends = MARGIN_SECONDS + np.cumsum(score.seconds)
    num_frames = int(np.ceil((ends[-1] + MARGIN_SECONDS) * SAMPLE_RATE / HOP))
    num_frames = min(num_frames, int(MAX_SECONDS * SAMPLE_RATE) // HOP)
    times = np.arange(num_frames) * HOP / SAMPLE_RATE
    tracks = _phone_tracks(score, ends, times)  # [frames, 7]
    f0 = _pitch_track(rng, speaker, controls, score, ends, times)  # [frames]
    gain = _syllable_gain(rng, controls, score, ends, times)  # [frames]
    voiced = _voiced_source(rng, controls, f0, tracks[:, 3] * gain)
    hiss = rng.standard_normal(num_frames * HOP) * _to_samples(tracks[:, 4] * gain)
    formants = tracks[:, :3] * speaker.formant_scale * np.exp(controls.smile)
    audio = _filter_frames(voiced, _vocal_tract(formants, speaker, controls.tilt))
    audio += _filter_frames(hiss, _frication(tracks[:, 5:7], speaker))
    return _master(rng, audio, speaker.gain_db + controls.level_db)


def _phone_tracks(score: Score, ends: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Glides between phone targets: each is held over its middle half."""
    starts = ends - score.seconds
    quarter = score.seconds / 4
    knots = np.stack([starts + quarter, ends - quarter], axis=1).ravel()
    tracks = np.stack(
        [np.interp(times, knots, np.repeat(column, 2)) for column in score.targets.T],
        axis=1,
    )
    sounding = (times >= starts[0]) & (times <= ends[-1])
    tracks[:, 3:5] *= sounding[:, None]
    return tracks  # [frames, 7]


def _syllable_centres(score: Score, ends: np.ndarray) -> np.ndarray:
    middles = ends - score.seconds / 2
    counts = np.bincount(score.syllable)
    return np.bincount(score.syllable, weights=middles) / counts


def _pitch_track(rng, speaker, controls, score, ends, times) -> np.ndarray:
    """Returns F0 [frames] in Hz: level, declination, accents, end, tremor."""
    centres = _syllable_centres(score, ends)
    place = (times - MARGIN_SECONDS) / (ends[-1] - MARGIN_SECONDS)
    accents = controls.f0_range * rng.standard_normal(len(centres))
    semitones = controls.f0_shift + np.interp(times, centres, accents)
    semitones -= 0.5 * controls.f0_range * (2 * place - 1)  # declination
    semitones += controls.f0_final * np.clip(3 * place - 2, 0.0, 1.0)
    phase = rng.uniform(0, 2 * np.pi)
    semitones += controls.tremor * np.sin(2 * np.pi * 6.0 * times + phase)
    return np.clip(speaker.f0_hz * 2 ** (semitones / 12), 62.0, 480.0)


def _syllable_gain(rng, controls, score, ends, times) -> np.ndarray:
    centres = _syllable_centres(score, ends)
    accents = controls.accent_db * rng.standard_normal(len(centres))
    return 10 ** (np.interp(times, centres, accents) / 20)


def _to_samples(track: np.ndarray) -> np.ndarray:
    """Interpolates a control track linearly, [frames] -> [frames * HOP]."""
    steps = np.arange(HOP) / HOP
    change = np.diff(track, append=track[-1])
    return (track[:, None] + change[:, None] * steps).ravel()


def _voiced_source(rng, controls: Controls, f0, amplitude) -> np.ndarray:
    """Returns glottal flow derivative with jitter, shimmer and aspiration."""
    cycles = np.cumsum(_to_samples(f0 / SAMPLE_RATE))
    index = cycles.astype(np.int64)
    count = int(index[-1]) + 1
    late = rng.uniform(0.0, 2 * controls.jitter, count)  # share of a period
    loud = np.exp(controls.shimmer * rng.standard_normal(count))
    place = (cycles - index - late[index]) / controls.open_quotient
    is_open = (place > 0.0) & (place < 1.0)
    pulse = np.where(is_open, place * (2.0 - 3.0 * place), 0.0)
    pulse *= loud[index]
    breath = rng.standard_normal(len(cycles)) * (0.15 + 0.85 * is_open)
    share = controls.breathiness
    return ((1 - share) * pulse + 0.3 * share * breath) * _to_samples(amplitude)


def _vocal_tract(
    formants: Float[np.ndarray, "frames 3"], speaker: Speaker, tilt: float
) -> Complex[np.ndarray, "frames bins"]:
    """Cascade of five resonators and the source's spectral tilt, per frame."""
    upper = np.array([3500.0, 4500.0]) * speaker.formant_scale
    upper = np.broadcast_to(np.minimum(upper, 7400.0), (len(formants), 2))
    centres = np.concatenate([formants, upper], axis=1)  # [frames, 5]
    widths = np.array([70.0, 90.0, 130.0, 200.0, 280.0]) * (1 + speaker.breathiness)
    radius = np.exp(-np.pi * widths / SAMPLE_RATE)
    b = (2 * radius * np.cos(2 * np.pi * centres / SAMPLE_RATE)).astype(np.float32)
    c = (radius**2).astype(np.float32)
    z1, z2 = _DELAYS
    response = np.broadcast_to((1 - tilt) / (1 - tilt * z1), (len(formants), len(z1)))
    for k in range(5):
        unit_gain = (1 - b[:, k] + c[k])[:, None]
        response = response * (
            unit_gain / (1 - b[:, k, None] * z1[None] + c[k] * z2[None])
        )
    return response


def _frication(
    shape: Float[np.ndarray, "frames 2"], speaker: Speaker
) -> Float[np.ndarray, "frames bins"]:
    """Noise spectrum of a consonant: one broad peak, per frame."""
    centres = np.minimum(shape[:, :1] * speaker.formant_scale, 7000.0)
    hertz = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLE_RATE)[None]
    return (1 / (1 + ((hertz - centres) / shape[:, 1:]) ** 2)).astype(np.float32)


def _delays() -> tuple[np.ndarray, np.ndarray]:
    omega = 2 * np.pi * np.fft.rfftfreq(FFT_SIZE)
    return (
        np.exp(-1j * omega).astype(np.complex64),
        np.exp(-2j * omega).astype(np.complex64),
    )


_DELAYS = _delays()
_WINDOW = np.hanning(2 * HOP + 1)[:-1].astype(np.float32)  # sums to 1 at this hop


def _filter_frames(
    source: Float[np.ndarray, " samples"],
    response: Complex[np.ndarray, "frames bins"] | Float[np.ndarray, "frames bins"],
) -> Float[np.ndarray, " samples"]:
    """Filters by overlap-add with one response a frame of HOP samples."""
    num_frames = len(response)
    blocks = np.concatenate([np.zeros(HOP), source]).astype(np.float32)
    blocks = blocks.reshape(num_frames + 1, HOP)
    frames = np.concatenate([blocks[:-1], blocks[1:]], axis=1) * _WINDOW
    spectra = np.fft.rfft(frames, FFT_SIZE, axis=1) * response
    filtered = np.fft.irfft(spectra, FFT_SIZE, axis=1)  # [frames, FFT_SIZE]
    pieces = filtered.reshape(num_frames, FFT_SIZE // HOP, HOP)
    total = np.zeros((num_frames + FFT_SIZE // HOP - 1, HOP))
    for k in range(FFT_SIZE // HOP):
        total[k : k + num_frames] += pieces[:, k]
    return total[1 : num_frames + 1].ravel()


def _master(rng, audio: np.ndarray, level_db: float) -> Int16[np.ndarray, " samples"]:
    """Sets the level, adds room noise, never clips, rounds to 16 bits."""
    rms = np.sqrt(np.mean(audio**2))
    audio = audio * (10 ** ((-27.0 + level_db) / 20) / rms)
    audio += 10 ** (ROOM_NOISE_DB / 20) * rng.standard_normal(len(audio))
    audio *= min(1.0, 0.98 / np.abs(audio).max())
    return np.round(audio * 32767).astype(np.int16)
