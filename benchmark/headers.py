"""Headers of recordings, checked before anything is decoded.

A few hundred bytes are enough to refuse what would fail, mislead or fill the memory
later: empty and truncated files, pages saved as recordings, rates of 1 Hz.
"""

import contextlib
import errno
import io
import os
import pathlib
import stat
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import soundfile

from benchmark.errors import InputError

RATE_LIMITS = (4_000, 192_000)  # Hz, a header outside them is not believed
MAX_CHANNELS = 64
FALLBACK_SECONDS = 900.0  # audioread buffers what it decodes: longer is refused

EXTENSIONS = frozenset(
    {
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
        *(".au", ".snd", ".caf", ".w64", ".rf64", ".sph"),
        *(".m4a", ".mp4", ".aac", ".wma", ".webm", ".mka", ".amr", ".3gp"),
    }
)
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's "I do not know"
_STREAMED_SIZES = {0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000}  # written to a pipe
_WAV_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_FALLBACK_MAGIC = {  # what soundfile cannot open and ffmpeg can: (offset, bytes)
    "M4A/MP4": (4, b"ftyp"),
    "WebM/Matroska": (0, b"\x1a\x45\xdf\xa3"),
    "WMA/ASF": (0, b"\x30\x26\xb2\x75"),
    "AAC": (0, b"\xff\xf1"),
    "AAC (MPEG-2)": (0, b"\xff\xf9"),
    "AMR": (0, b"#!AMR"),
}


class AudioError(InputError):
    """A recording that cannot be used; `kind` is a short stable name of the fault."""

    def __init__(self, kind: str, where: str, message: str):
        super().__init__(kind, where, message)
        self.kind, self.where, self.message = kind, where, message

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class AudioHeader(NamedTuple):
    """What a recording says about itself, checked against the bytes that are there."""

    frames: int  # samples a channel, -1 = the header does not say
    sample_rate: int  # Hz
    channels: int
    seconds: float  # NaN where `frames` is -1
    format: str  # for example 'WAV'
    subtype: str  # for example 'PCM_16'
    num_bytes: int  # size of the file
    decoder: str  # 'soundfile' or 'audioread'


class _WavChunks(NamedTuple):
    channels: int
    sample_rate: int
    data_bytes: int  # as declared
    data_start: int  # offset of the first sample


def read_header(path: str | os.PathLike) -> AudioHeader:
    """Reads and checks the header of a recording without decoding it.

    Args:
      path: file of any format that libsndfile reads, or that ffmpeg reads.

    Returns:
      The header, believed: it has samples, 1 to `MAX_CHANNELS` channels and a rate
      within `RATE_LIMITS`, and a WAV or AIFF file holds all the bytes it declares.

    Raises:
      AudioError: (an `InputError`) the file cannot be used; says why and what to do.
    """
    where = os.fspath(path)
    num_bytes = _check_file(where)
    with open_bytes(where) as file:
        head = file.read(64)
        _check_text(head, where)
        _check_container(file, head, num_bytes, where)
    if _fallback_format(head):
        header = _audioread_header(where, _fallback_format(head), num_bytes)
    else:
        header = _soundfile_header(where, where, head, num_bytes)
    return _believed(header, where)


def read_header_bytes(data: bytes, where: str) -> AudioHeader:
    """Reads and checks the header of a recording in memory without decoding it.

    Args:
      data: an encoded file, of any format that libsndfile reads.
      where: name of the recording in messages.

    Returns:
      The header, believed: see `read_header`.

    Raises:
      AudioError: (an `InputError`) it cannot be used; says why and what to do.
    """
    if not data:
        raise AudioError("empty_audio", where, "0 bytes: there is no recording")
    head = data[:64]
    _check_text(head, where)
    _check_container(io.BytesIO(data), head, len(data), where)
    if name := _fallback_format(head):
        message = f"{name} inside another file: convert it to WAV or FLAC"
        raise AudioError("undecodable_audio", where, message)
    return _believed(_soundfile_header(io.BytesIO(data), where, head, len(data)), where)


def _believed(header: AudioHeader, where: str) -> AudioHeader:
    check_rate_and_channels(header.sample_rate, header.channels, where)
    if header.frames == 0:
        raise AudioError("empty_audio", where, "holds a header and no samples")
    return header


def is_audio_name(name: str) -> bool:
    """True for a visible file name with the extension of a recording."""
    return not name.startswith(".") and (
        pathlib.PurePath(name).suffix.lower() in EXTENSIONS
    )


def _check_file(where: str) -> int:
    """Returns the size of a regular, visible, non-empty file."""
    name = os.path.basename(where)
    if name.startswith("._") or name == ".DS_Store":
        raise AudioError("not_audio", where, "a macOS side file, no recording")
    try:
        info = os.stat(where)
    except FileNotFoundError:
        message = "no such file: check the name and the audio folder"
        raise AudioError("missing_audio", where, message) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unreadable(error, where) from error
    if stat.S_ISDIR(info.st_mode):
        raise AudioError("not_audio", where, "a folder, a recording was expected")
    if not stat.S_ISREG(info.st_mode):
        raise AudioError("not_audio", where, "not a regular file")
    if info.st_size == 0:
        message = "0 bytes: the copy or download failed, fetch it again"
        raise AudioError("empty_audio", where, message)
    return info.st_size


def _unreadable(error: Exception, where: str) -> AudioError:
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return AudioError("unreadable_audio", where, "a loop of symbolic links")
    reason = getattr(error, "strerror", None) or str(error)
    message = f"cannot be read ({reason}): check its name and permissions"
    return AudioError("unreadable_audio", where, message)


@contextlib.contextmanager
def open_bytes(where: str) -> Iterator[BinaryIO]:
    """Opens a file to read its bytes; what goes wrong then is an `AudioError`."""
    try:
        with open(where, "rb") as file:
            yield file
    except (OSError, ValueError) as error:
        raise _unreadable(error, where) from error


def _check_text(head: bytes, where: str) -> None:
    """Refuses pages and pointers that were saved under a recording's name."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<"):
        message = "an HTML or XML page: the download was a login or error page"
        raise AudioError("not_audio", where, message)
    if start.startswith(b"version https://git-lfs"):
        message = "a Git LFS pointer: run `git lfs pull`"
        raise AudioError("not_audio", where, message)


def _check_container(
    file: BinaryIO | io.BytesIO, head: bytes, num_bytes: int, where: str
) -> None:
    """Compares the sizes that a WAV or AIFF file declares with the bytes there."""
    if head[:4] in _WAV_MAGIC and head[8:12] == b"WAVE":
        wav = _read_wav_chunks(file, where)
        check_rate_and_channels(wav.sample_rate, wav.channels, where)
        present = num_bytes - wav.data_start
        if wav.data_bytes == 0 or present <= 0:
            message = "a WAV header and no samples: export or copy it again"
            raise AudioError("empty_audio", where, message)
        if present < wav.data_bytes and wav.data_bytes not in _STREAMED_SIZES:
            _raise_truncated(wav.data_bytes, present, where)
    if head[:4] == b"FORM" and len(head) >= 8:
        declared = struct.unpack(">I", head[4:8])[0]
        if num_bytes - 8 < declared:
            _raise_truncated(declared, num_bytes - 8, where)


def _raise_truncated(declared: int, present: int, where: str) -> None:
    message = (
        f"truncated: the header declares {declared} bytes of samples, "
        f"{present} are there; copy it again"
    )
    raise AudioError("truncated_audio", where, message)


def _read_wav_chunks(file: BinaryIO | io.BytesIO, where: str) -> _WavChunks:
    """Walks the chunks of a RIFF, RIFX or RF64 file up to its samples."""
    file.seek(0)
    order = ">" if file.read(12)[:4] == b"RIFX" else "<"
    channels = sample_rate = long_size = None
    for _ in range(1_000):  # a damaged file may hold millions of tiny chunks
        header = file.read(8)
        if len(header) < 8:
            break
        name, size = struct.unpack(order + "4sI", header)
        if name == b"data":
            if channels is None or sample_rate is None:
                break
            if long_size is not None and size == 0xFFFFFFFF:
                size = long_size
            return _WavChunks(channels, sample_rate, size, file.tell())
        body = file.read(min(size, 40))
        if name == b"fmt " and len(body) >= 16:
            channels, sample_rate = struct.unpack(order + "HI", body[2:8])
        if name == b"ds64" and len(body) >= 16:
            long_size = struct.unpack("<Q", body[8:16])[0]
        file.seek(size - len(body) + size % 2, os.SEEK_CUR)
    message = "a WAV header without a format or data chunk: export or copy it again"
    raise AudioError("empty_audio", where, message)


def check_rate_and_channels(sample_rate: int, channels: int, where: str) -> None:
    """Raises `AudioError` outside `RATE_LIMITS` (Hz) and 1 to `MAX_CHANNELS`."""
    low, high = RATE_LIMITS
    if not low <= sample_rate <= high:
        message = f"sample rate {sample_rate} Hz, expected {low} to {high} Hz"
        raise AudioError("bad_audio_header", where, message)
    if not 1 <= channels <= MAX_CHANNELS:
        message = f"{channels} channels, expected 1 to {MAX_CHANNELS}"
        raise AudioError("bad_audio_header", where, message)


def _fallback_format(head: bytes) -> str:
    """Returns the name of a format that only ffmpeg reads, or ''."""
    for name, (offset, magic) in _FALLBACK_MAGIC.items():
        if head[offset : offset + len(magic)] == magic:
            return name
    return ""


def _soundfile_header(
    source: str | io.BytesIO, where: str, head: bytes, num_bytes: int
) -> AudioHeader:
    try:
        with soundfile.SoundFile(source) as file:
            frames = file.frames if file.frames < _UNKNOWN_FRAMES else -1
            rate, channels = file.samplerate, file.channels
            names = file.format, file.subtype
    except (soundfile.SoundFileError, TypeError) as error:
        # TypeError: a name in .raw, for which soundfile wants rate and channels.
        message = (
            f"no audio that libsndfile reads ({error}); it begins with {head[:8]!r}. "
            "Convert it to WAV or FLAC"
        )
        raise AudioError("not_audio", where, message) from error
    seconds = frames / rate if frames >= 0 and rate else float("nan")
    return AudioHeader(frames, rate, channels, seconds, *names, num_bytes, "soundfile")


@contextlib.contextmanager
def open_audioread(where: str, channels: int = 1) -> Iterator[Any]:
    """Opens a file with audioread's ffmpeg reader, in blocks of whole samples."""
    from audioread import ffdec  # librosa's fallback; rarely needed

    try:
        with ffdec.FFmpegAudioFile(where, block_size=2 * channels * 4_096) as file:
            yield file
    except ffdec.NotInstalledError:
        message = "this format needs ffmpeg: install it, or convert to WAV or FLAC"
        raise AudioError("undecodable_audio", where, message) from None
    except ffdec.FFmpegError as error:
        message = f"ffmpeg could not decode it ({error!r}): convert to WAV or FLAC"
        raise AudioError("undecodable_audio", where, message) from error


def _audioread_header(where: str, name: str, num_bytes: int) -> AudioHeader:
    with open_audioread(where) as file:
        rate, channels, seconds = file.samplerate, file.channels, file.duration
    if seconds > FALLBACK_SECONDS:
        message = (
            f"{seconds:.0f} s of {name}, at most {FALLBACK_SECONDS:.0f} s are read "
            "in this format: convert it to WAV or FLAC"
        )
        raise AudioError("undecodable_audio", where, message)
    frames = round(seconds * rate) if seconds else -1
    seconds = seconds or float("nan")
    return AudioHeader(
        frames, rate, channels, seconds, name, "", num_bytes, "audioread"
    )
