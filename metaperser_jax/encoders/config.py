"""Configurations of the encoders that carry no weights."""

from typing import NamedTuple


class LogMelConfig(NamedTuple):
    """Settings of the log-mel encoder; all are part of its fingerprint."""

    version: int = 1  # raise when the same settings give other features
    sample_rate: int = 16_000  # Hz
    window: int = 400  # samples of a frame, 25 ms
    hop: int = 160  # samples between frames, 10 ms
    pre_emphasis: float = 0.97
    num_bands: int = 40  # mel bands from 0 Hz to half the sample rate
    relative_floor: float = 1e-5  # of the clip's mean band power, -50 dB
    absolute_floor: float = 1e-18  # band power of digital silence, below 16-bit noise
    delta_width: int = 9  # frames of the regression slope, odd
    pitch_window: int = 640  # samples, 40 ms: two periods at 50 Hz
    pitch_min: float = 60.0  # Hz
    pitch_max: float = 500.0  # Hz
    pitch_smoothing: int = 17  # taps, odd; 17 keep about 0-700 Hz
    octave_cost: float = 0.02  # a period twice as long must be that much better
    voicing_floor: float = 0.35  # autocorrelation below it counts as unvoiced
    num_pitch_bands: int = 24  # about 1.5 semitones each
