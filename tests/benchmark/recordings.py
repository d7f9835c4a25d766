"""Recordings made in memory."""

import io

import numpy as np
import soundfile


def tone(hertz=440.0, seconds=0.1, rate=16_000):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def encoded(hertz=440.0, kind="WAV", rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, tone(hertz, rate=rate), rate, format=kind)
    return file.getvalue()
