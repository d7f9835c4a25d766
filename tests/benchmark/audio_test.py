"""Waveforms: what `load` gives for any recording, and how batches are padded."""

import shutil

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile

from benchmark import audio
from benchmark.audio import (
    as_waveform,
    content_hash,
    load,
    pad_batch,
)
from benchmark.errors import InputError, Problems
from benchmark.headers import AudioError


def tone(rate=16_000, seconds=0.5, hertz=440.0, amplitude=0.3):
    times = np.arange(round(rate * seconds)) / rate
    return (amplitude * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def loaded(path, samples, rate=16_000, problems=None, options=None, **kwargs):
    soundfile.write(path, samples, rate, **(options or {}))
    return load(path, problems=problems, **kwargs)


def warnings_of(problems):
    assert all(problem.severity == "warning" for problem in problems.rows)
    return [problem.kind for problem in problems.rows]


def test_a_16_khz_mono_recording_is_read_as_it_is(tmp_path):
    samples = tone()
    problems = Problems()
    result = loaded(tmp_path / "a.wav", samples, options={"subtype": "FLOAT"})
    np.testing.assert_array_equal(result, samples)
    assert result.dtype == np.float32
    assert not problems.rows


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path, rate):
    result = loaded(tmp_path / "a.wav", tone(rate), rate, options={"subtype": "FLOAT"})
    expected = tone()
    assert result.shape == expected.shape
    middle = slice(400, -400)  # the filter rings at the ends
    np.testing.assert_allclose(result[middle], expected[middle], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "DOUBLE", 1e-7),
        ("a.wav", "ULAW", 0.02),
        ("a.wav", "PCM_U8", 2**-7),
        ("a.flac", "PCM_24", 2**-23),
        ("a.aiff", "PCM_16", 2**-15),
        ("a.ogg", "VORBIS", 0.05),
        ("a.mp3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_formats_give_the_same_waveform(tmp_path, name, subtype, tolerance):
    result = loaded(tmp_path / name, tone(), options={"subtype": subtype})
    assert abs(len(result) - 8_000) <= 1_152
    overlap = slice(1_000, 7_000)
    np.testing.assert_allclose(result[overlap], tone()[overlap], atol=tolerance)


def test_channels_are_averaged(tmp_path):
    left, right = tone(), tone(hertz=700)
    both = np.stack([left, right], axis=1)
    result = loaded(tmp_path / "a.wav", both, options={"subtype": "FLOAT"})
    np.testing.assert_allclose(result, (left + right) / 2, atol=1e-7)


def test_other_formats_are_decoded_by_ffmpeg(tmp_path, fake_ffmpeg):
    fake_ffmpeg()
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    result = load(tmp_path / "a.m4a", sample_rate=8_000, max_seconds=1.5)
    ramp = np.arange(8_000, dtype=np.float32) / 2**15
    np.testing.assert_array_equal(result, np.tile(ramp, 2)[:12_000])


def test_long_recordings_are_read_up_to_the_limit_only(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "_BLOCK_SAMPLES", 1_000)
    read = soundfile.SoundFile.read
    frames = []

    def counted(self, count, **kwargs):
        frames.append(count)
        return read(self, count, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    problems, samples = Problems(), np.repeat(tone(seconds=3)[:, None], 2, axis=1)
    result = loaded(tmp_path / "a.wav", samples, problems=problems, max_seconds=0.5)
    assert result.shape == (8_000,)
    assert warnings_of(problems) == ["long_audio"]
    assert "3.0 s, cut to 0.5 s" in problems.rows[0].message
    assert sum(frames) == 8_000
    assert max(frames) * 2 <= 1_000  # both channels of a block


def test_a_recording_of_just_the_limit_is_not_cut(tmp_path):
    problems = Problems()
    assert loaded(tmp_path / "a.wav", tone(), problems=problems, max_seconds=0.5).any()
    assert not problems.rows


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_samples_are_an_error(tmp_path, bad):
    samples = np.stack([tone(), tone()], axis=1)
    samples[100, 1] = bad
    with pytest.raises(InputError, match=r"a\.wav: holds NaN or infinite samples"):
        loaded(tmp_path / "a.wav", samples, options={"subtype": "FLOAT"})


@pytest.mark.parametrize(
    ("samples", "kinds"),
    [
        (np.zeros(8_000), ["silent_audio"]),
        (tone(amplitude=1e-5), ["silent_audio"]),
        (tone(amplitude=1e-3), []),
        (np.clip(tone(amplitude=1.5), -1, 1), ["clipped_audio"]),
        (tone() + 0.1, ["dc_offset_audio"]),
        (tone() + 0.01, []),
        (np.full(8_000, 0.5), ["silent_audio", "dc_offset_audio"]),
        (tone(seconds=0.01), ["short_audio"]),
        (tone() * 32_768, ["unscaled_audio"]),
        (tone(amplitude=1.2), ["clipped_audio"]),
    ],
)
def test_doubtful_sound_is_flagged_and_used(tmp_path, samples, kinds):
    problems = Problems()
    options = {"subtype": "FLOAT"}
    result = loaded(tmp_path / "a.wav", samples, problems=problems, options=options)
    assert warnings_of(problems) == kinds
    np.testing.assert_allclose(result[: len(samples)], samples, rtol=1e-6)


def test_a_recording_shorter_than_a_frame_is_padded(tmp_path):
    result = loaded(tmp_path / "a.wav", tone(seconds=1 / 160))
    assert result.shape == (400,)
    assert result[1:100].all()
    assert not result[100:].any()


def test_data_that_end_before_the_header_says_are_an_error(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(seconds=4), 16_000)
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match="truncated") as caught:
        load(tmp_path / "a.mp3")
    assert caught.value.kind == "truncated_audio"


def test_a_cut_flac_is_an_error(tmp_path, rng):
    noise = rng.uniform(-0.5, 0.5, 64_000)
    soundfile.write(tmp_path / "a.flac", noise, 16_000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError) as caught:
        load(tmp_path / "a.flac")
    kinds = {"truncated_audio", "undecodable_audio", "not_audio"}
    assert caught.value.kind in kinds


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
    kind=st.sampled_from(["wav", "flac", "aiff", "ogg"]),
    where=st.floats(0, 1),
    value=st.integers(0, 255),
    cut=st.floats(0, 1),
)
def test_damaged_files_raise_input_error_or_load(
    tmp_path_factory, kind, where, value, cut
):
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / f"a.{kind}"
    soundfile.write(path, tone(seconds=0.05), 16_000)
    content = bytearray(path.read_bytes())
    content[min(int(where * 120), len(content) - 1)] = value  # mostly in the header
    path.write_bytes(content[: max(1, int(cut * 2 * len(content)))])
    try:
        result = load(path, max_seconds=1.0)
    except InputError:
        pass
    else:
        assert 400 <= len(result) <= 16_000
        assert np.isfinite(result).all()
    shutil.rmtree(folder)


class TestAsWaveform:
    @pytest.mark.parametrize(
        ("dtype", "scale"), [("int16", 2**15), ("int32", 2**31), ("int8", 2**7)]
    )
    def test_integers_are_scaled(self, dtype, scale):
        array = np.array([-scale, -scale // 2, 0, scale // 2], dtype)
        result = as_waveform(np.resize(array, 400), 16_000)
        np.testing.assert_array_equal(result[:4], [-1, -0.5, 0, 0.5])

    def test_uint8_is_offset_binary(self):
        array = np.resize(np.array([0, 64, 128, 192], np.uint8), 400)
        result = as_waveform(array, 16_000)
        np.testing.assert_array_equal(result[:4], [-1, -0.5, 0, 0.5])

    def test_gives_what_load_gives(self, tmp_path):
        samples = np.stack([tone(44_100), tone(44_100, hertz=600)], axis=1)
        path = tmp_path / "a.wav"
        soundfile.write(path, samples, 44_100, subtype="FLOAT")
        np.testing.assert_array_equal(as_waveform(samples, 44_100), load(path))

    def test_int16_passed_as_float_is_warned_about(self):
        problems = Problems()
        array = (tone() * 32_767).astype(np.int16).astype(np.float64)
        as_waveform(array, 16_000, problems=problems, where="clip 3")
        assert warnings_of(problems) == ["unscaled_audio"]
        assert problems.rows[0].where == "clip 3"
        assert "32768" in problems.rows[0].message

    def test_long_arrays_are_cut(self):
        problems = Problems()
        result = as_waveform(
            tone(seconds=2), 16_000, max_seconds=1.0, problems=problems
        )
        assert result.shape == (16_000,)
        assert warnings_of(problems) == ["long_audio"]

    @pytest.mark.parametrize(
        ("array", "rate", "word"),
        [
            (np.zeros(0), 16_000, "no samples"),
            (np.zeros((0, 2)), 16_000, "no samples"),
            (np.zeros((2, 16_000)), 16_000, "transpose"),
            (np.zeros((2, 2, 2)), 16_000, "shape"),
            (np.zeros(400, complex), 16_000, "complex128"),
            (np.zeros(400, bool), 16_000, "bool"),
            (np.zeros(400, np.int64), 16_000, "int64"),
            (np.full(400, np.nan), 16_000, "NaN"),
            (np.zeros(400), 0, "0 Hz"),
            (np.zeros(400), 44, "44 Hz"),
        ],
    )
    def test_what_is_no_sound_is_refused(self, array, rate, word):
        with pytest.raises(InputError, match=f"clip 3: .*{word}"):
            as_waveform(array, rate, where="clip 3")


class TestContentHash:
    def test_the_same_file_under_two_names_has_one_hash(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", tone(), 16_000)
        shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
        soundfile.write(tmp_path / "c.wav", tone(hertz=441), 16_000)
        hashes = [content_hash(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav")]
        assert hashes[0] == hashes[1] != hashes[2]

    def test_it_is_the_sha256_of_the_bytes(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abc")
        expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert content_hash(tmp_path / "a") == expected

    def test_arrays_differ_by_value_shape_and_type_not_by_layout(self):
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        same = [array.copy(), np.asfortranarray(array), array.astype(">f4")]
        assert {content_hash(other) for other in same} == {content_hash(array)}
        others = [array + 1, array.reshape(3, 2), array.astype(np.float64)]
        assert content_hash(array) not in map(content_hash, others)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"missing\.wav"):
            content_hash(tmp_path / "missing.wav")


class TestPadBatch:
    def test_waveforms_are_padded_with_zeros_at_the_end(self):
        batch, lengths = pad_batch([np.ones(2, np.float32), np.full(3, 2.0)], 4)
        np.testing.assert_array_equal(batch, [[1, 1, 0, 0], [2, 2, 2, 0]])
        np.testing.assert_array_equal(lengths, [2, 3])
        assert (batch.dtype, lengths.dtype) == (np.float32, np.int32)

    def test_nothing_is_cut(self):
        with pytest.raises(ValueError, match="5 samples in 4"):
            pad_batch([np.ones(5)], 4)

    def test_no_waveforms_give_an_empty_batch(self):
        assert pad_batch([], 4)[0].shape == (0, 4)


@pytest.mark.parametrize(
    "name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.w64"]
)
def test_a_recording_in_memory_is_that_of_the_file(tmp_path, name):
    path = tmp_path / name
    soundfile.write(path, np.stack([tone(22_050), -tone(22_050) / 3], axis=1), 22_050)
    problems = Problems()
    result = audio.load_bytes(
        path.read_bytes(), name, max_seconds=0.3, problems=problems
    )
    np.testing.assert_array_equal(result, load(path, max_seconds=0.3))
    assert warnings_of(problems) == ["long_audio"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty_audio"),
        (b"<html>", "not_audio"),
        (b"nothing that is known", "not_audio"),
        (b"\0\0\0\x20ftypM4A ", "undecodable_audio"),
        (b"RIFF\x04\0\0\0WAVE", "empty_audio"),
    ],
)
def test_what_is_no_recording_in_memory(data, kind):
    with pytest.raises(AudioError, match="row 3") as caught:
        audio.load_bytes(data, "row 3")
    assert caught.value.kind == kind


EDITS = st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=4)


@hypothesis.given(EDITS, st.integers(0, 2_000), st.sampled_from(["wav", "flac"]))
@hypothesis.settings(deadline=None, max_examples=150)
def test_damage_in_memory_is_that_in_a_file(tmp_path_factory, edits, length, kind):
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    soundfile.write(path, tone(seconds=0.05), 16_000)
    data = bytearray(path.read_bytes()[: length + 40])
    for place, byte in edits:
        data[place % len(data)] = byte
    path.write_bytes(data)

    def outcome(read):
        try:
            return read().tobytes()
        except AudioError as error:
            return error.kind

    in_memory = outcome(lambda: audio.load_bytes(bytes(data), "row"))
    assert in_memory == outcome(lambda: load(path))
