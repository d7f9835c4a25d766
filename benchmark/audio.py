"""Recordings as mono float32 waveforms at 16 kHz, and padded batches of them.

`load` believes a file only after `read_header` has checked it, and decodes it block
by block, so that no recording ever takes more memory than `max_seconds` of it.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence

import numpy as np
import soundfile
import soxr
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from benchmark.errors import Problems
from benchmark.headers import (
    MAX_CHANNELS,
    AudioError,
    AudioHeader,
    check_rate_and_channels,
    open_audioread,
    open_bytes,
    read_header,
    read_header_bytes,
)

SAMPLE_RATE = 16_000  # Hz, what the encoders were trained on
MAX_SECONDS = 60.0
MIN_SAMPLES = 400  # the receptive field of one frame of the encoders
SILENCE_RMS = 1e-4  # -80 dB of full scale, after the mean is taken off
CLIPPED_LEVEL = 0.999  # of full scale
CLIPPED_SHARE = 1e-3  # more samples than this at full scale: clipped
DC_OFFSET = 0.02  # of full scale
UNSCALED_PEAK = 16.0  # floats beyond it are integers that were never scaled
SHORTFALL = 0.02  # a decoder may give this share less than the header announced

_BLOCK_SAMPLES = 1 << 18


def load(
    path: str | os.PathLike,
    sample_rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    problems: Problems | None = None,
) -> Float[np.ndarray, " samples"]:
    """Loads a recording as a mono waveform.

    Channels are averaged, other rates resampled by soxr (HQ). At most `max_seconds`
    are read, whatever the header announces.

    Args:
      path: file to read.
      sample_rate: Hz of the result.
      max_seconds: what is longer is cut, with a warning.
      problems: collects warnings: cut, silent, clipped, offset, short, unscaled.

    Returns:
      [samples] float32, full scale 1, at least `MIN_SAMPLES` samples (zero-padded).

    Raises:
      AudioError: (an `InputError`) see `read_header`; also for NaN or infinite
        samples and for data that end before the header's length.
    """
    where = os.fspath(path)
    header = read_header(where)
    return _decode(where, where, header, sample_rate, max_seconds, problems)


def load_bytes(
    data: bytes,
    where: str,
    sample_rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    problems: Problems | None = None,
) -> Float[np.ndarray, " samples"]:
    """Loads a recording in memory as a mono waveform, as `load` does a file.

    Args:
      data: an encoded file, of any format that libsndfile reads.
      where: name of the recording in messages.
      sample_rate: Hz of the result.
      max_seconds: what is longer is cut, with a warning.
      problems: collects warnings.

    Returns:
      [samples] float32, full scale 1, at least `MIN_SAMPLES` samples (zero-padded).

    Raises:
      AudioError: (an `InputError`) see `load` and `read_header_bytes`.
    """
    header = read_header_bytes(data, where)
    source = io.BytesIO(data)
    return _decode(source, where, header, sample_rate, max_seconds, problems)


def as_waveform(
    array: ArrayLike,
    sample_rate: int,
    target_rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    problems: Problems | None = None,
    where: str = "waveform",
) -> Float[np.ndarray, " samples"]:
    """Turns samples in memory into the waveform that `load` would give.

    Args:
      array: [samples] or [samples, channels]; integers are scaled by their full
        scale (uint8 is taken as offset binary, as in WAV), floats are taken as they
        are, with a warning where their peak shows that they are unscaled integers.
      sample_rate: Hz of the array.
      target_rate: Hz of the result.
      max_seconds: what is longer is cut, with a warning.
      problems: collects the warnings.
      where: name of the clip in messages.

    Returns:
      [samples] float32, at least `MIN_SAMPLES` samples.

    Raises:
      AudioError: (an `InputError`) no samples, NaN or infinite ones, a shape or a
        rate that is not audio.
    """
    samples = _scaled(np.asarray(array), where)
    channels = samples.shape[1] if samples.ndim == 2 else 1
    check_rate_and_channels(sample_rate, channels, where)
    if samples.size == 0:
        raise AudioError("empty_audio", where, "the array holds no samples")
    wanted = int(max_seconds * sample_rate)
    if len(samples) > wanted:
        message = f"{len(samples) / sample_rate:.1f} s, cut to {max_seconds:g} s"
        _warn(problems, "long_audio", where, message)
    mono = _to_mono(samples[:wanted].reshape(-1, channels), where)
    return _finish(mono, sample_rate, target_rate, where, problems)


def content_hash(source: str | os.PathLike | ArrayLike) -> str:
    """Returns the sha256 hex digest of a file's bytes or of an array.

    The same recording (or feature row) under two names has the same digest; a copy
    in another format or rate has not.

    Args:
      source: path of a file, or an array (its dtype and shape count too).

    Raises:
      AudioError: (an `InputError`) the file cannot be read.
    """
    digest = hashlib.sha256()
    if isinstance(source, str | os.PathLike):
        with open_bytes(os.fspath(source)) as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    array = np.ascontiguousarray(source)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()


def pad_batch(
    waveforms: Sequence[np.ndarray], length: int
) -> tuple[Float[np.ndarray, "batch samples"], Int[np.ndarray, " batch"]]:
    """Stacks waveforms, zero-padded at the end.

    Args:
      waveforms: arrays [samples], none longer than `length`.
      length: samples of the result.

    Returns:
      [batch, length] float32, and [batch] int32 the samples that are not padding.

    Raises:
      ValueError: a waveform is longer than `length`.
    """
    lengths = np.array([len(waveform) for waveform in waveforms], np.int32)
    if lengths.size and lengths.max() > length:
        raise ValueError(f"a waveform of {lengths.max()} samples in {length}")
    batch = np.zeros((len(waveforms), length), np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return batch, lengths


def _decode(
    source: str | io.BytesIO,
    where: str,
    header: AudioHeader,
    sample_rate: int,
    max_seconds: float,
    problems: Problems | None,
) -> np.ndarray:
    wanted = int(max_seconds * header.sample_rate)
    blocks = list(_mono_blocks(source, where, header, wanted))
    mono = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    _check_complete(mono.size, min(header.frames, wanted), where)
    if header.frames > wanted or (header.frames < 0 and mono.size >= wanted):
        length = f"{header.seconds:.1f} s" if header.frames > 0 else "unknown length"
        _warn(problems, "long_audio", where, f"{length}, cut to {max_seconds:g} s")
    return _finish(mono, header.sample_rate, sample_rate, where, problems)


def _mono_blocks(
    source: str | io.BytesIO, where: str, header: AudioHeader, wanted: int
) -> Iterator[np.ndarray]:
    """Yields mono float32 blocks, `wanted` samples in all at most."""
    if header.decoder == "audioread":
        blocks = _audioread_blocks(where, header.channels)
    else:
        blocks = soundfile_blocks(source, where, header.channels)
    for block in blocks:
        yield _to_mono(block[:wanted], where)
        wanted -= len(block)
        if wanted <= 0:
            return


def soundfile_blocks(
    source: str | io.BytesIO, where: str, channels: int
) -> Iterator[Float[np.ndarray, "frames channels"]]:
    """Yields a recording in blocks at its own rate, with all its channels.

    Args:
      source: path, or an open file; its header has been checked.
      where: name of the recording in messages.
      channels: that the header names.

    Raises:
      AudioError: (an `InputError`) the data are damaged.
    """
    size = max(1, _BLOCK_SAMPLES // channels)
    try:
        with soundfile.SoundFile(source) as file:
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                yield block
    except soundfile.SoundFileError as error:
        message = f"damaged: decoding stopped ({error}); copy it again"
        raise AudioError("undecodable_audio", where, message) from error


def _audioread_blocks(where: str, channels: int) -> Iterator[np.ndarray]:
    with open_audioread(where, channels) as file:
        for block in file:  # little-endian int16, channels interleaved
            whole = len(block) - len(block) % (2 * channels)
            samples = np.frombuffer(block[:whole], "<i2").reshape(-1, channels)
            yield samples / np.float32(2**15)


def _to_mono(block: np.ndarray, where: str) -> np.ndarray:
    """Averages the channels of [samples, channels]."""
    if not np.isfinite(block).all():
        raise AudioError("nan_audio", where, "holds NaN or infinite samples")
    return block.mean(axis=1, dtype=np.float64).astype(np.float32)


def _check_complete(found: int, announced: int, where: str) -> None:
    if found == 0:
        raise AudioError("empty_audio", where, "no sample could be decoded")
    if found < (1 - SHORTFALL) * announced:
        message = (
            f"truncated: {announced} samples announced, {found} decoded; copy it again"
        )
        raise AudioError("truncated_audio", where, message)


def _scaled(array: np.ndarray, where: str) -> np.ndarray:
    """Brings an array of samples to float with full scale 1."""
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
        message = (
            f"an array of shape {array.shape} and type {array.dtype}; expected "
            "[samples] or [samples, channels], integer or float"
        )
        raise AudioError("bad_audio_header", where, message)
    if array.ndim == 2 and array.shape[1] > MAX_CHANNELS >= array.shape[0]:
        message = f"shape {array.shape}: expected [samples, channels], transpose it"
        raise AudioError("bad_audio_header", where, message)
    if array.dtype.kind == "f":
        return array
    if array.dtype.itemsize > 4:
        message = (
            f"{array.dtype} samples, whose full scale is anyone's guess: pass int16, "
            "or floats with full scale 1"
        )
        raise AudioError("bad_audio_header", where, message)
    full_scale = 2.0 ** (8 * array.dtype.itemsize - 1)
    offset = full_scale if array.dtype.kind == "u" else 0.0
    return ((array - offset) / full_scale).astype(np.float32)


def _finish(
    mono: np.ndarray, rate: int, target: int, where: str, problems: Problems | None
) -> np.ndarray:
    """Flags what is doubtful, resamples, and pads to one frame of the encoder."""
    _flag(mono.astype(np.float64), where, problems)
    if rate != target:
        mono = soxr.resample(mono, rate, target)
    if mono.size < MIN_SAMPLES:
        message = f"{mono.size} samples at {target} Hz, padded to {MIN_SAMPLES}"
        _warn(problems, "short_audio", where, message)
        mono = np.pad(mono, (0, MIN_SAMPLES - mono.size))
    return np.ascontiguousarray(mono, np.float32)


def _flag(mono: np.ndarray, where: str, problems: Problems | None) -> None:
    """Records silence, clipping, an offset, or integers that were never scaled."""
    mean, deviation = float(mono.mean()), float(mono.std())
    size = np.abs(mono)
    if size.max() > UNSCALED_PEAK:
        message = (
            f"floats with a peak of {size.max():.0f} where full scale is 1: integers "
            "that were not scaled? Divide by 32768, or pass int16"
        )
        _warn(problems, "unscaled_audio", where, message)
    elif (share := float((size >= CLIPPED_LEVEL).mean())) > CLIPPED_SHARE:
        message = f"{share:.1%} of the samples at full scale: clipped"
        _warn(problems, "clipped_audio", where, message)
    if deviation < SILENCE_RMS:
        message = f"silent: standard deviation {deviation:.1e} of full scale"
        _warn(problems, "silent_audio", where, message)
    if abs(mean) > DC_OFFSET:
        message = f"a constant offset of {mean:+.3f} of full scale"
        _warn(problems, "dc_offset_audio", where, message)


def _warn(problems: Problems | None, kind: str, where: str, message: str) -> None:
    if problems is not None:
        problems.warning(kind, where, message)
