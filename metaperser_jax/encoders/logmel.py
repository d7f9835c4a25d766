"""The encoder without weights: log-mel spectrum, its movement, loudness and pitch.

It is made for mean pooling over frames: whatever carries emotion is a channel whose
*mean* tells it. Spread and movement therefore have channels of their own (squares
and absolute slopes), and pitch is a soft histogram, whose mean over the frames is the
distribution of pitch over the clip. All channels are scaled to order one.

Level: a microphone's gain and distance shift all log powers alike. The bands are
given relative to the clip's own mean power, so that they carry timbre only, and so
are the loudness contour and its movement; the absolute level is one channel.

Edges: a frame is valid if its 25 ms window lies inside the clip (`frames_fn`); a
shorter clip is padded with silence to one frame. Slopes at the ends repeat the first
and the last valid frame. The pitch window, longer than the frame and centred on it,
sees silence beyond the clip. So nothing depends on the padding or on batch mates.
"""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Integer

from metaperser_jax.encoders.config import LogMelConfig
from metaperser_jax.encoders.encoder import Encoder, fingerprint, pool
from metaperser_jax.typing import Array, EncoderOutput, Params

_LOG_SCALE = 4.0  # nats of log power that become one unit
_TYPICAL_LEVEL = -17.0  # log band power of speech at about -20 dB of full scale
_DEFAULT = LogMelConfig()
_SILENCE = 1e-10  # mean square, about the noise of 16-bit audio


class Pitch(NamedTuple):
    """Periodicity of each frame."""

    voicing: Array  # [batch, frames] 0 (noise, silence) to 1 (periodic)
    hertz: Array  # [batch, frames] within the search range, also where unvoiced


def logmel(config: LogMelConfig = _DEFAULT) -> Encoder:
    """Makes the encoder; its params are an empty dict.

    Args:
      config: the settings.

    Returns:
      The encoder: one layer, `width` channels in the order of `channel_names`.
    """
    settings = {"name": "logmel", **config._asdict()}
    return Encoder(
        name="logmel",
        apply_fn=functools.partial(_apply, config),
        pooled_fn=lambda *inputs: pool(_apply(config, *inputs)),
        frames_fn=functools.partial(num_frames, config=config),
        config=settings,
        fingerprint=fingerprint(settings, {}),
        num_layers=1,
        width=len(channel_names(config)),
    )


def num_frames(
    lengths: Integer[Array, "*batch"], config: LogMelConfig
) -> Integer[Array, "*batch"]:
    """Valid frames of clips of `lengths` samples: at least one, none if empty."""
    whole = (lengths - config.window) // config.hop + 1
    return jnp.where(lengths > 0, jnp.maximum(whole, 1), 0)


def channel_names(config: LogMelConfig) -> tuple[str, ...]:
    """Names of the hidden states' channels, in order."""
    bands = range(config.num_bands)
    return (
        *(f"band{i}" for i in bands),
        *(f"band{i}_squared" for i in bands),
        *(f"band{i}_slope" for i in bands),
        *(f"band{i}_movement" for i in bands),
        "level",
        "loudness",
        "loudness_squared",
        "loudness_slope",
        "loudness_movement",
        "voicing",
        "voicing_squared",
        "voiced_pitch",
        "voiced_pitch_squared",
        "voiced_pitch_movement",
        *(f"pitch{i}" for i in range(config.num_pitch_bands)),
    )


def _apply(
    config: LogMelConfig,
    params: Params,
    waveforms: Float[Array, "batch samples"],
    lengths: Integer[Array, " batch"],
) -> EncoderOutput:
    del params  # there are none
    clips = _clear_padding(waveforms, lengths, config.window)
    counts = num_frames(lengths, config)
    frames = frame(_pre_emphasize(clips, lengths, config), config.window, config.hop)
    mask = jnp.arange(frames.shape[1])[None] < counts[:, None]  # [batch, frames]
    power = mel_power(frames, config)  # [batch, frames, bands]
    channels = jnp.concatenate(
        [
            _band_channels(power, mask, config),
            _loudness_channels(power, mask, config),
            _pitch_channels(clips, mask, config),
        ],
        axis=-1,
    )  # [batch, frames, width]
    return EncoderOutput(jnp.where(mask[:, :, None], channels, 0.0)[:, None], mask)


def _clear_padding(waveforms, lengths, min_samples: int):
    """Zeroes the padding and each clip's offset; pads to one frame at least."""
    lack = max(0, min_samples - waveforms.shape[1])
    padded = jnp.pad(jnp.asarray(waveforms, jnp.float32), ((0, 0), (0, lack)))
    inside = jnp.arange(padded.shape[1])[None] < lengths[:, None]
    total = _stable_sum(jnp.where(inside, padded, 0.0))  # [batch, 1]
    mean = total / jnp.maximum(lengths, 1).astype(jnp.float32)[:, None]
    return jnp.where(inside, padded - mean, 0.0)


def _stable_sum(values):
    """Sums over axis 1 by adding neighbours, [batch, n, ...] -> [batch, 1, ...].

    Zeros at the end change no bit of the result: a compiled sum adds in an order that
    depends on the padded length.
    """
    while values.shape[1] > 1:
        odd = values.shape[1] % 2
        values = jnp.pad(values, [(0, 0), (0, odd), *[(0, 0)] * (values.ndim - 2)])
        values = values[:, 0::2] + values[:, 1::2]
    return values


def _pre_emphasize(clips, lengths, config: LogMelConfig):
    """First difference y[n] = x[n] - a x[n-1], with x[-1] = x[0]."""
    before = jnp.concatenate([clips[:, :1], clips[:, :-1]], axis=1)
    inside = jnp.arange(clips.shape[1])[None] < lengths[:, None]
    return jnp.where(inside, clips - config.pre_emphasis * before, 0.0)


def frame(
    clips: Float[Array, "batch samples"], window: int, hop: int
) -> Float[Array, "batch frames window"]:
    """Cuts overlapping frames, the first at sample 0, all within the array.

    Reshapes and slices, no gather: whole blocks are copied.

    Args:
      clips: [batch, samples].
      window: samples of a frame, at most `samples`.
      hop: samples between frames.

    Returns:
      [batch, (samples - window) // hop + 1, window].
    """
    block = math.gcd(window, hop)
    per_frame, step = window // block, hop // block
    count = (clips.shape[1] - window) // hop + 1
    num_blocks = (count - 1) * step + per_frame
    blocks = clips[:, : num_blocks * block].reshape(len(clips), num_blocks, block)
    last = (count - 1) * step + 1
    return jnp.concatenate(
        [blocks[:, k : k + last : step] for k in range(per_frame)], axis=-1
    )


def _hann(size: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def mel_filters(config: LogMelConfig) -> Float[np.ndarray, "bins bands"]:
    """Triangular filters on Slaney's mel scale, each of unit area over Hz.

    Linear below 1 kHz, logarithmic above (Slaney, Auditory Toolbox, 1998).

    Args:
      config: the settings.

    Returns:
      [bins, bands] for spectra of `window` samples.
    """
    log_step = np.log(6.4) / 27.0  # 27 bands from 1 to 6.4 kHz
    half = config.sample_rate / 2
    top = 15.0 + np.log(half / 1000.0) / log_step  # mel of half the sample rate
    mels = np.linspace(0.0, top, config.num_bands + 2)
    edges = np.where(
        mels < 15.0, mels * 200.0 / 3, 1000.0 * np.exp(log_step * (mels - 15.0))
    )
    hertz = np.fft.rfftfreq(config.window, 1 / config.sample_rate)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
    return np.maximum(0.0, np.minimum(rise, fall)) * 2.0 / (high - low)


def mel_power(
    frames: Float[Array, "batch frames window"], config: LogMelConfig
) -> Float[Array, "batch frames bands"]:
    """Mel band powers of Hann-windowed frames.

    Args:
      frames: [batch, frames, window].
      config: the settings.

    Returns:
      [batch, frames, bands], |FFT|^2 weighted by `mel_filters`.
    """
    window = jnp.asarray(_hann(config.window), jnp.float32)
    spectrum = jnp.fft.rfft(frames * window[None, None])  # [batch, frames, bins]
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return power @ jnp.asarray(mel_filters(config), jnp.float32)


def slope(
    values: Float[Array, "batch frames channels"],
    mask: Bool[Array, "batch frames"],
    width: int,
) -> Float[Array, "batch frames channels"]:
    """Least-squares slope over `width` frames; the clip's ends are repeated.

    Args:
      values: [batch, frames, channels].
      mask: [batch, frames], the valid frames come first.
      width: frames of the regression, odd.

    Returns:
      [batch, frames, channels] change a frame.
    """
    half = width // 2
    last = jnp.maximum(mask.sum(axis=1) - 1, 0)[:, None, None]
    end = jnp.take_along_axis(values, last, axis=1)  # [batch, 1, channels]
    held = jnp.where(mask[:, :, None], values, end)
    held = jnp.pad(held, ((0, 0), (half, half), (0, 0)), mode="edge")
    count = values.shape[1]
    terms = [
        k
        * (held[:, half + k : half + k + count] - held[:, half - k : half - k + count])
        for k in range(1, half + 1)
    ]
    total = functools.reduce(jnp.add, terms)
    return total / (2.0 * sum(k * k for k in range(1, half + 1)))


def _clip_mean(values, mask):
    """Mean over the valid frames, [batch, frames, channels] -> [batch, 1, channels]."""
    count = jnp.maximum(mask.sum(axis=1), 1).astype(jnp.float32)
    total = _stable_sum(jnp.where(mask[:, :, None], values, 0.0))
    return total / count[:, None, None]


def _relative_log(power, mask, config: LogMelConfig):
    """Log power relative to the clip's mean, and the log of that mean.

    The floor moves with the clip's level, so that gain cancels.
    """
    # a full-scale sine has power one quarter
    power = power / float(_hann(config.window).sum() ** 2)
    mean = _clip_mean(power, mask).mean(axis=-1, keepdims=True)  # [batch, 1, 1]
    floor = config.relative_floor * mean + config.absolute_floor
    reference = mean + config.absolute_floor
    return jnp.log((power + floor) / reference), jnp.log(reference)


def _movements(values, mask, config: LogMelConfig):
    """Centred squares, slopes and absolute slopes a tenth of a second."""
    squared = jnp.square(values - _clip_mean(values, mask))
    per_frame = slope(values, mask, config.delta_width)
    slopes = per_frame * (0.1 * config.sample_rate / config.hop)
    return [values, squared, slopes, jnp.abs(slopes)]


def _band_channels(power, mask, config: LogMelConfig):
    bands, _ = _relative_log(power, mask, config)
    return jnp.concatenate(_movements(bands / _LOG_SCALE, mask, config), axis=-1)


def _loudness_channels(power, mask, config: LogMelConfig):
    loudness, mean = _relative_log(power.mean(axis=-1, keepdims=True), mask, config)
    level = (loudness + mean - _TYPICAL_LEVEL) / _LOG_SCALE
    parts = [level, *_movements(loudness / _LOG_SCALE, mask, config)]
    return jnp.concatenate(parts, axis=-1)  # [batch, frames, 5]


def track_pitch(
    clips: Float[Array, "batch samples"],
    mask: Bool[Array, "batch frames"],
    config: LogMelConfig,
) -> Pitch:
    """Pitch by the normalised cross-correlation of low-passed frames.

    Both stretches that are compared have their own energy as the norm, so that a
    rise or fall of loudness does not count as a longer period (Talkin, 1995, A robust
    algorithm for pitch tracking). A longer period must beat a shorter one by
    `octave_cost` an octave (Boersma, 1993, Proc. IFA 17). Soft gate: frames 30 dB
    below the clip's mean lose their voicing.

    Args:
      clips: [batch, samples], silent beyond each clip.
      mask: [batch, frames] of the 25 ms frames on which the pitch frames are centred.
      config: the settings.

    Returns:
      Voicing and pitch, [batch, frames] each.
    """
    reach = config.pitch_smoothing // 2
    lead = (config.pitch_window - config.window) // 2 + reach
    needed = (mask.shape[1] - 1) * config.hop + config.pitch_window + 2 * reach
    tail = max(0, needed - lead - clips.shape[1])
    padded = jnp.pad(clips, ((0, 0), (lead, tail)))[:, :needed]
    padded = _low_pass(padded, config.pitch_smoothing)
    frames = frame(padded, config.pitch_window, config.hop)
    correlation, power = _cross_correlate(frames, config)  # [.., lags], [.., 1]
    strength, lag = _best_lag(correlation, config)  # [batch, frames]
    gate = power / (power + 1e-3 * _clip_mean(power, mask) + _SILENCE)
    voicing = (strength - config.voicing_floor) / (1.0 - config.voicing_floor)
    return Pitch(
        voicing=jnp.clip(voicing, 0.0, 1.0) * gate[..., 0],
        hertz=config.sample_rate / lag,
    )


def _low_pass(clips, taps: int):
    """Smooths with a Hann window; taps - 1 samples fewer come out."""
    weights = _hann(taps + 1)[1:]
    weights = weights / weights.sum()
    count = clips.shape[1] - taps + 1
    terms = [float(w) * clips[:, k : k + count] for k, w in enumerate(weights)]
    return functools.reduce(jnp.add, terms)


def _lags(config: LogMelConfig) -> np.ndarray:
    """Lags searched, with one more at either side to recognise a peak."""
    shortest = math.floor(config.sample_rate / config.pitch_max)
    longest = math.ceil(config.sample_rate / config.pitch_min)
    return np.arange(shortest - 1, longest + 2)


def _cross_correlate(frames, config: LogMelConfig):
    """Returns [.., lags] from -1 to 1 and the frames' mean power [.., 1]."""
    lags, window = _lags(config), config.pitch_window
    size = 2 ** math.ceil(math.log2(window + lags[-1]))
    spectrum = jnp.fft.rfft(frames, size)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    products = jnp.fft.irfft(power, size)[..., lags[0] : lags[-1] + 1]
    squares = jnp.square(frames)
    first = _leading_energy(squares, lags)  # of the earlier stretch
    second = _leading_energy(squares[..., ::-1], lags)  # of the later one
    norm = jnp.sqrt(first * second) + _SILENCE * window
    return products / norm, squares.mean(axis=-1, keepdims=True)


def _leading_energy(squares, lags: np.ndarray):
    """Sums all but the last `lag` samples of each frame, [.., window] -> [.., lags]."""
    shared = squares.shape[-1] - int(lags[-1])  # samples that all lags have
    sums = squares[..., :shared].sum(axis=-1, keepdims=True)
    rest = squares[..., shared : shared + len(lags) - 1]
    sums = jnp.concatenate([sums, sums + jnp.cumsum(rest, axis=-1)], axis=-1)
    return sums[..., ::-1]


def _best_lag(correlation, config: LogMelConfig):
    """Returns the strength and the interpolated lag of the best peak."""
    lags = _lags(config)
    left, here, right = (
        correlation[..., :-2],
        correlation[..., 1:-1],
        correlation[..., 2:],
    )
    cost = config.octave_cost * np.log2(lags[1:-1] / lags[1])
    is_peak = (here >= left) & (here > right)
    score = jnp.where(is_peak, here - jnp.asarray(cost, jnp.float32)[None, None], -1.0)
    best = jnp.argmax(score, axis=-1, keepdims=True)  # [batch, frames, 1]
    a, b, c, peak = (
        jnp.take_along_axis(x, best, axis=-1)[..., 0]
        for x in (left, here, right, is_peak)
    )
    curvature = jnp.maximum(2 * b - a - c, 1e-6)
    shift = jnp.clip(0.5 * (c - a) / curvature, -0.5, 0.5)  # of a parabola's top
    lag = lags[1] + best[..., 0].astype(jnp.float32) + shift
    return jnp.where(peak, b, 0.0), lag


def _pitch_channels(clips, mask, config: LogMelConfig):
    voicing, hertz = track_pitch(clips, mask, config)
    low, high = math.log2(config.pitch_min), math.log2(config.pitch_max)
    octaves = jnp.log2(hertz) - (low + high) / 2  # around the middle of the range
    step = jnp.abs(jnp.diff(octaves, axis=1, prepend=octaves[:, :1]))
    both = jnp.minimum(voicing, jnp.pad(voicing[:, :-1], ((0, 0), (1, 0))))
    movement = both * jnp.minimum(10.0 * step, 1.0)  # a jump is no glide
    centres = np.linspace(low, high, config.num_pitch_bands) - (low + high) / 2
    spacing = (high - low) / (config.num_pitch_bands - 1)
    away = jnp.abs(octaves[..., None] - jnp.asarray(centres, jnp.float32)[None, None])
    histogram = voicing[..., None] * jnp.maximum(0.0, 1.0 - away / spacing)
    single = [
        voicing,
        jnp.square(voicing),
        voicing * octaves,
        voicing * jnp.square(octaves),
        movement,
    ]
    return jnp.concatenate([jnp.stack(single, axis=-1), histogram], axis=-1)
