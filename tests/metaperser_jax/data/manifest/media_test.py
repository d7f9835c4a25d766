"""Which recording or feature row belongs to a clip."""

import os
import unicodedata

import numpy as np
import pytest
import soundfile

from benchmark.headers import AudioError
from metaperser_jax.data.manifest import ManifestSpec
from metaperser_jax.data.manifest.features import FeatureRows
from metaperser_jax.data.manifest.media import (
    find_media,
    find_recording,
    index_audio,
)
from metaperser_jax.errors import InputError, Problems


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def write_tone(path, hertz=440, rate=16_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(rate // 10) / rate)
    soundfile.write(path, tone, rate)


def media(root, clips, problems=None, rows=None, **options):
    spec = ManifestSpec(root, **options)
    places = [f"t.csv:{row + 2}" for row in range(len(clips))]
    counts = [row + 1 for row in range(len(clips))]
    problems = problems or Problems(strict=True)
    return find_media(clips, places, counts, rows, spec, problems)


class TestFindRecording:
    @pytest.mark.parametrize(
        ("clip", "expected"),
        [
            ("a.wav", "a.wav"),
            ("./a.wav", "a.wav"),
            ("a", "a.wav"),
            ("b", "sub/b.flac"),
            ("b.flac", "sub/b.flac"),
            ("sub/b", "sub/b.flac"),
            ("sub/deep/c.x", "sub/deep/c.x.mp3"),
            ("c.x", "sub/deep/c.x.mp3"),
            ("same", "same.wav"),  # the shorter path wins over sub/same.wav
            ("with space", "with space.wav"),
            ("d.bin", "d.bin"),  # named in full, whatever it is
        ],
    )
    def test_names_with_and_without_folder_and_extension(
        self, tmp_path, clip, expected
    ):
        touch(tmp_path, "a.wav", "sub/b.flac", "sub/deep/c.x.mp3", "with space.wav")
        touch(tmp_path, "same.wav", "sub/same.wav", "d.bin", "a/folder.wav")
        found = find_recording(index_audio(str(tmp_path)), clip)
        assert os.path.normpath(found) == str(tmp_path / expected)

    def test_absolute_paths_are_taken(self, tmp_path):
        touch(tmp_path, "elsewhere/a.wav", "audio/b.wav")
        path = str(tmp_path / "elsewhere" / "a.wav")
        assert find_recording(index_audio(str(tmp_path / "audio")), path) == path

    def test_composed_and_decomposed_unicode_are_one_name(self, tmp_path):
        touch(tmp_path, unicodedata.normalize("NFD", "schön.wav"))
        index = index_audio(str(tmp_path))
        for form in ("NFC", "NFD"):
            assert find_recording(index, unicodedata.normalize(form, "schön"))

    def test_side_files_and_hidden_folders_are_left_out(self, tmp_path):
        touch(tmp_path, "._a.wav", ".DS_Store", ".cache/b.wav", "notes.txt", "c.wav")
        assert set(index_audio(str(tmp_path)).loose) == {"c.wav", "c"}

    @pytest.mark.parametrize("clip", ["a", "x"])
    def test_two_of_one_name_are_ambiguous(self, tmp_path, clip):
        touch(tmp_path, "a.wav", "a.flac", "one/x.wav", "two/x.wav")
        with pytest.raises(AudioError, match="2 recordings have that name") as caught:
            find_recording(index_audio(str(tmp_path)), clip)
        assert caught.value.kind == "ambiguous_audio"

    @pytest.mark.parametrize("clip", ["clip_12", "nul\0", "n" * 5_000, "../a/b"])
    def test_a_missing_one_is_named(self, tmp_path, clip):
        touch(tmp_path, "clip_1.wav")
        with pytest.raises(AudioError) as caught:
            find_recording(index_audio(str(tmp_path)), clip)
        assert caught.value.kind == "missing_audio"
        assert ("Did you mean 'clip_1'?" in str(caught.value)) == (clip == "clip_12")


class TestFindMedia:
    @pytest.mark.parametrize("folder", ["audio", "wav", "."])
    def test_folders_that_are_looked_for(self, tmp_path, folder):
        write_tone(tmp_path / folder / "a.wav")
        found = media(tmp_path, ["a"])
        assert found.clips == ("a",)
        assert found.seconds == {"a": 0.1}
        assert found.read_audio(0).shape == (1_600,)
        assert len(found.content_hashes[0]) == 64

    def test_a_named_folder_comes_first(self, tmp_path):
        write_tone(tmp_path / "audio" / "a.wav", hertz=100)
        write_tone(tmp_path / "voice" / "a.wav", hertz=200)
        auto, named = (media(tmp_path, ["a"], audio=x) for x in ("auto", "voice"))
        assert auto.content_hashes != named.content_hashes

    def test_a_named_folder_that_is_missing_is_an_error(self, tmp_path):
        (tmp_path / "voice").mkdir()
        with pytest.raises(InputError, match=r"voices: no such.*Did you mean 'voice'"):
            media(tmp_path, ["a"], audio="voices")

    def test_a_folder_without_recordings_is_a_corpus_of_labels(self, tmp_path):
        found = media(tmp_path, ["a", "b"])
        assert found.clips == ("a", "b")
        assert (found.read_audio, found.features) == (None, None)
        assert len(set(found.content_hashes)) == 2

    def test_recordings_of_other_names_are_an_error(self, tmp_path):
        write_tone(tmp_path / "wav" / "other.wav")
        with pytest.raises(
            InputError, match=r"none of its recordings \(other .*audio="
        ):
            media(tmp_path, ["a", "b"])
        assert media(tmp_path, ["a", "b"], audio=None).read_audio is None

    def test_bad_recordings_are_error_rows_that_count_their_ratings(self, tmp_path):
        write_tone(tmp_path / "wav" / "a.wav")
        (tmp_path / "wav" / "b.wav").write_bytes(b"")
        (tmp_path / "wav" / "c.wav").write_bytes(b"<html>")
        problems = Problems()
        found = media(tmp_path, ["a", "b", "c", "d"], problems)
        assert found.clips == ("a",)
        assert [(p.severity, p.kind, p.where) for p in problems.rows] == [
            ("error", "empty_audio", "t.csv:3"),
            ("error", "not_audio", "t.csv:4"),
            ("error", "missing_audio", "t.csv:5"),
        ]
        message = problems.rows[0].message
        assert message.startswith(f"clip 'b': {tmp_path / 'wav' / 'b.wav'}: 0 bytes")
        assert message.endswith("; its 2 ratings are skipped")

    def test_doubtful_sound_is_warned_about_when_it_is_read(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.zeros(1_600), 8_000)
        problems = Problems()
        found = media(tmp_path, ["a"], problems, max_seconds=0.1)
        assert not problems.rows
        assert found.read_audio(0).shape == (1_600,)
        assert set(problems.counts()) == {"warning silent_audio", "warning long_audio"}

    def test_features_stand_for_recordings(self, tmp_path):
        write_tone(tmp_path / "wav" / "a.wav")
        values = np.arange(4, dtype=np.float32).reshape(2, 1, 2)
        rows = FeatureRows("f.csv", {"b": 0, "a": 1}, values)
        problems = Problems()
        options = {"features": "f.csv"}
        found = media(tmp_path, ["a", "b", "c"], problems, rows, **options)
        assert found.clips == ("a", "b")
        np.testing.assert_array_equal(found.features, values[::-1])
        assert found.read_audio is None
        assert problems.rows[0][:3] == ("error", "missing_features", "t.csv:4")
        both = media(tmp_path, ["a"], None, rows, audio="wav", **options)
        assert both.read_audio is not None
        assert both.features is not None
