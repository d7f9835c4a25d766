"""What a recording must be before anything is decoded."""

import os
import struct

import numpy as np
import pytest
import soundfile

from benchmark import headers
from benchmark.errors import InputError
from benchmark.headers import AudioError, read_header


def write_tone(path, rate=16_000, seconds=0.1, channels=1, **kwargs):
    times = np.arange(round(rate * seconds)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * times)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, **kwargs)
    return path


def wav_bytes(channels=1, rate=16_000, declared=None, samples=100, order="<"):
    """A 16-bit WAV file by hand, whose header may lie."""
    data = np.zeros(samples, order + "i2").tobytes()
    declared = len(data) if declared is None else declared
    block = 2 * channels
    fmt = struct.pack(order + "HHIIHH", 1, channels, rate, rate * block, block, 16)
    chunks = b"fmt " + struct.pack(order + "I", len(fmt)) + fmt
    chunks += b"data" + struct.pack(order + "I", declared % 2**32) + data
    magic = b"RIFX" if order == ">" else b"RIFF"
    return magic + struct.pack(order + "I", 4 + len(chunks)) + b"WAVE" + chunks


def kind_of(path):
    with pytest.raises(AudioError) as caught:
        read_header(path)
    assert isinstance(caught.value, InputError)
    assert str(caught.value).startswith(os.fspath(path))
    return caught.value.kind


def test_header_tells_what_is_there(tmp_path):
    path = write_tone(tmp_path / "a.wav", rate=44_100, seconds=0.5, channels=2)
    header = read_header(path)
    assert header.frames == 22_050
    assert (header.sample_rate, header.channels) == (44_100, 2)
    assert header.seconds == 0.5
    assert (header.format, header.subtype) == ("WAV", "PCM_16")
    assert header.num_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("a.wav", {"subtype": s}) for s in ("PCM_24", "FLOAT", "ULAW", "IMA_ADPCM")),
        *(("a.wav", {"format": f}) for f in ("WAVEX", "RF64", "W64")),
        *((f"a.{kind}", {}) for kind in ("flac", "ogg", "mp3", "aiff", "au", "caf")),
    ],
)
def test_formats_are_opened(tmp_path, name, options):
    header = read_header(write_tone(tmp_path / name, seconds=1.0, **options))
    assert header.seconds == pytest.approx(1.0, abs=0.05)
    assert header.sample_rate == 16_000


@pytest.mark.parametrize(
    ("content", "kind", "word"),
    [
        (b"", "empty_audio", "0 bytes"),
        (wav_bytes(samples=0), "empty_audio", "no samples"),
        (wav_bytes()[:44], "empty_audio", "no samples"),
        (wav_bytes()[:36], "empty_audio", "without a format or data chunk"),
        (b"RIFF\x04\0\0\0WAVE" + b"junk\0\0\0\0" * 2_000, "empty_audio", "data chunk"),
        (b"<!DOCTYPE html><html>404", "not_audio", "HTML"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>", "not_audio", "HTML or XML"),
        (b"version https://git-lfs.github.com/spec/v1", "not_audio", "git lfs pull"),
        (b"clip,annotator\n" * 20, "not_audio", "no audio"),
        (bytes(range(256)) * 8, "not_audio", "no audio"),
        (wav_bytes(channels=0), "bad_audio_header", "0 channels"),
        (wav_bytes(channels=65), "bad_audio_header", "65 channels"),
        (wav_bytes(rate=0), "bad_audio_header", "0 Hz"),
        (wav_bytes(rate=1), "bad_audio_header", "1 Hz"),
        (wav_bytes(rate=3_999), "bad_audio_header", "3999 Hz"),
        (wav_bytes(rate=192_001), "bad_audio_header", "192001 Hz"),
        (wav_bytes(rate=3_000_000), "bad_audio_header", "4000 to 192000 Hz"),
        (wav_bytes(declared=202), "truncated_audio", "202 bytes of samples, 200"),
        (wav_bytes(declared=2**31), "truncated_audio", "truncated"),
        (wav_bytes(order=">", declared=202), "truncated_audio", "202 bytes"),
    ],
)
def test_bad_files_are_refused_before_decoding(
    tmp_path, monkeypatch, content, kind, word
):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    monkeypatch.setattr(soundfile.SoundFile, "read", None)  # decoding would fail
    assert kind_of(path) == kind
    with pytest.raises(InputError, match=word):
        read_header(path)


@pytest.mark.parametrize("rate", [4_000, 192_000])
def test_rates_at_the_limits_are_taken(tmp_path, rate):
    (tmp_path / "a.wav").write_bytes(wav_bytes(rate=rate))
    assert read_header(tmp_path / "a.wav").sample_rate == rate


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_is_no_truncated_one(tmp_path, declared):
    (tmp_path / "a.wav").write_bytes(wav_bytes(declared=declared))
    assert read_header(tmp_path / "a.wav").frames == 100


@pytest.mark.parametrize("options", [{"format": "RF64"}, {"subtype": "ULAW"}, {}])
@pytest.mark.parametrize("lost", [1, 100, 1_000])
def test_a_cut_wav_is_found_by_its_bytes(tmp_path, options, lost):
    path = write_tone(tmp_path / "a.wav", **options)
    path.write_bytes(path.read_bytes()[:-lost])
    assert kind_of(path) == "truncated_audio"


def test_a_cut_aiff_is_found_by_its_bytes(tmp_path):
    path = write_tone(tmp_path / "a.aiff")
    path.write_bytes(path.read_bytes()[:-100])
    assert kind_of(path) == "truncated_audio"


def test_chunks_before_and_after_the_samples_do_no_harm(tmp_path):
    plain = wav_bytes()
    odd = b"LIST" + struct.pack("<I", 5) + b"INFO!" + b"\0"  # padded to even length
    path = tmp_path / "a.wav"
    path.write_bytes(plain[:12] + odd + plain[12:] + odd)
    assert read_header(path).frames == 100


@pytest.mark.parametrize("name", ["._a.wav", ".DS_Store"])
def test_side_files_of_macos_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(wav_bytes())
    assert kind_of(tmp_path / name) == "not_audio"
    assert not headers.is_audio_name(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.wav", True),
        ("B.FLAC", True),
        ("a.m4a", True),
        ("a.csv", False),
        ("a", False),
    ],
)
def test_names_of_recordings_are_told_by_extension(name, expected):
    assert headers.is_audio_name(name) is expected


def test_files_that_cannot_be_opened_are_named(tmp_path, monkeypatch):
    assert kind_of(tmp_path / "missing.wav") == "missing_audio"
    (tmp_path / "folder.wav").mkdir()
    assert kind_of(tmp_path / "folder.wav") == "not_audio"
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would wait for ever
    assert kind_of(tmp_path / "pipe.wav") == "not_audio"
    (tmp_path / "x.wav").symlink_to(tmp_path / "y.wav")
    (tmp_path / "y.wav").symlink_to(tmp_path / "x.wav")
    with pytest.raises(AudioError, match="loop of symbolic links"):
        read_header(tmp_path / "x.wav")
    assert kind_of(f"{tmp_path}/nul\0.wav") == "unreadable_audio"
    assert kind_of(tmp_path / ("n" * 300 + ".wav")) == "unreadable_audio"


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    path = write_tone(tmp_path / "a.wav")

    def refuse(*args, **kwargs):  # the tests may run as a user who may read all
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(AudioError, match=r"Permission denied.*permissions"):
        read_header(path)


def test_headerless_samples_are_refused(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(1_000))
    assert kind_of(tmp_path / "a.raw") == "not_audio"


@pytest.mark.parametrize(
    "name",
    ["with space.wav", "schön 語 \u0301.wav", "a" * 200 + ".wav", "a'\"%s{}.wav"],
)
def test_names_are_free(tmp_path, name):
    folder = tmp_path / ("d" * 100) / ("e" * 100) / ("f" * 100)
    folder.mkdir(parents=True)
    assert read_header(write_tone(folder / name)).frames == 1_600


M4A = b"\0\0\0\x20ftypM4A " + bytes(100)


def test_other_formats_go_through_ffmpeg(tmp_path, fake_ffmpeg):
    fake_ffmpeg()
    (tmp_path / "a.m4a").write_bytes(M4A)
    header = read_header(tmp_path / "a.m4a")
    assert (header.sample_rate, header.channels, header.frames) == (8_000, 2, 16_000)
    assert (header.format, header.decoder) == ("M4A/MP4", "audioread")


def test_without_ffmpeg_the_message_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(M4A)
    with pytest.raises(AudioError, match="needs ffmpeg"):
        read_header(tmp_path / "a.m4a")


def test_hours_of_a_format_that_is_buffered_whole_are_refused(tmp_path, fake_ffmpeg):
    fake_ffmpeg(duration="01:00:00.00", blocks=0)
    (tmp_path / "a.m4a").write_bytes(M4A)
    with pytest.raises(AudioError, match="3600 s of M4A/MP4, at most 900 s"):
        read_header(tmp_path / "a.m4a")


def test_what_ffmpeg_cannot_decode_is_refused(tmp_path, fake_ffmpeg):
    fake_ffmpeg(stream="Invalid data found when processing input")
    (tmp_path / "a.m4a").write_bytes(M4A)
    with pytest.raises(AudioError, match="could not decode"):
        read_header(tmp_path / "a.m4a")
