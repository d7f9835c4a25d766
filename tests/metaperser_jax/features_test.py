"""The features cache: by content, resumable, never trusted; and the scaler."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax import features
from metaperser_jax.encoders.encoder import Encoder, fingerprint, pool
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.typing import Corpus, EncoderOutput, Ratings

HOP = 400  # samples a frame of the toy encoder
RATINGS = Ratings(*[np.zeros((0, 1))] * 5)


def toy_encoder(scale=1.0):
    """Two layers of one unit: the mean of a frame, and its square, times a scale."""

    def apply_fn(params, waveforms, lengths):
        frames = waveforms.reshape(waveforms.shape[0], -1, HOP).mean(-1)
        mask = jnp.arange(frames.shape[1])[None] < (lengths[:, None] // HOP)
        states = jnp.stack([frames, frames**2], 1)[..., None] * params["scale"]
        return EncoderOutput(states, mask)

    params = {"scale": np.float32(scale)}
    config = {"hop": HOP}
    encoder = Encoder(
        name="toy",
        apply_fn=apply_fn,
        pooled_fn=lambda *inputs: pool(apply_fn(*inputs)),
        frames_fn=lambda n: n,
        config=config,
        fingerprint=fingerprint(config, params),
        num_layers=2,
        width=1,
    )
    return encoder, params


class Tape:
    """Clips whose samples are all `values[clip]`, and a record of what was read."""

    def __init__(self, values, lengths=None, broken=()):
        self.values = values
        self.lengths = lengths or [HOP * (1 + i % 3) for i in range(len(values))]
        self.broken = set(broken)
        self.reads = []

    def read(self, clip):
        self.reads.append(clip)
        if clip in self.broken:
            raise InputError(f"clip {clip}: not audio")
        return np.full(self.lengths[clip], self.values[clip], np.float32)

    def corpus(self, names=None):
        count = len(self.values)
        return Corpus(
            "toy",
            tuple(names or (f"clip {i}" for i in range(count))),
            (), (), (), np.array([""] * count), np.array([""] * count),
            RATINGS,
            tuple(f"hash of {value}" for value in self.values),
            self.read, None, None, {},
        )  # fmt: skip


def extract(tape, folder, problems=None, scale=1.0, **changes):
    encoder, params = toy_encoder(scale)
    corpus = tape.corpus()._replace(**changes)
    problems = problems if problems is not None else Problems()
    return features.extract(corpus, encoder, params, folder, problems, batch_size=4)


def expected(values, scale=1.0):
    values = np.array(values, np.float32)
    return scale * np.stack([values, values**2], 1)[..., None]


def shards(folder):
    return sorted(folder.rglob("*.safetensors"))


@pytest.fixture
def small_chunks(monkeypatch):
    """Six clips a shard."""
    monkeypatch.setattr(features, "CHUNK_CLIPS", 6)


class TestExtraction:
    def test_every_clip_gets_its_own_features(self, tmp_path):
        values = np.linspace(0.1, 0.9, 11).tolist()
        found = extract(Tape(values), tmp_path)
        np.testing.assert_allclose(found.values, expected(values), rtol=1e-5)
        assert found.values.dtype == np.float32
        assert found.valid.all()
        assert found.num_cached == 0

    def test_the_second_time_nothing_is_read(self, tmp_path):
        tape = Tape([0.1, 0.2, 0.3])
        first = extract(tape, tmp_path)
        tape.reads.clear()
        second = extract(tape, tmp_path)
        assert tape.reads == []
        assert second.num_cached == 3
        np.testing.assert_array_equal(first.values, second.values)

    def test_only_new_clips_are_read(self, tmp_path):
        extract(Tape([0.1, 0.2]), tmp_path)
        tape = Tape([0.3, 0.2, 0.1, 0.4])
        found = extract(tape, tmp_path)
        assert sorted(tape.reads) == [0, 3]
        assert found.num_cached == 2
        np.testing.assert_allclose(
            found.values, expected([0.3, 0.2, 0.1, 0.4]), rtol=1e-5
        )

    def test_a_renamed_clip_is_found_by_its_content(self, tmp_path):
        extract(Tape([0.1, 0.2]), tmp_path)
        tape = Tape([0.2, 0.1])
        found = extract(tape, tmp_path, clips=("new name", "other name"))
        assert tape.reads == []
        np.testing.assert_allclose(found.values, expected([0.2, 0.1]), rtol=1e-5)

    def test_another_encoder_never_mixes_in(self, tmp_path):
        extract(Tape([0.1, 0.2]), tmp_path)
        tape = Tape([0.1, 0.2])
        found = extract(tape, tmp_path, scale=2.0)
        assert tape.reads == [0, 1]
        np.testing.assert_allclose(
            found.values, expected([0.1, 0.2], scale=2.0), rtol=1e-5
        )
        assert len(list(tmp_path.iterdir())) == 2

    def test_features_do_not_depend_on_who_shares_the_batch(self, tmp_path):
        values = np.linspace(-0.9, 0.9, 9).tolist()
        together = extract(Tape(values), tmp_path / "together").values
        for clip, value in enumerate(values):
            tape = Tape([value], lengths=[HOP * (1 + clip % 3)])
            alone = extract(tape, tmp_path / f"alone {clip}").values
            np.testing.assert_array_equal(alone[0], together[clip])


class TestInterruptions:
    def test_a_killed_extraction_goes_on_where_it_was(self, tmp_path, small_chunks):
        values = np.linspace(0.1, 0.9, 20).tolist()
        tape = Tape(values)

        def stop_at_ten(clip, read=tape.read):
            if clip == 10:
                raise KeyboardInterrupt
            return read(clip)

        with pytest.raises(KeyboardInterrupt):
            extract(tape, tmp_path, read_audio=stop_at_ten)
        assert len(shards(tmp_path)) == 1  # the first six clips
        tape.reads.clear()
        resumed = extract(tape, tmp_path)
        assert tape.reads == list(range(6, 20))
        assert resumed.num_cached == 6
        whole = extract(Tape(values), tmp_path / "whole")
        np.testing.assert_array_equal(resumed.values, whole.values)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[:-1],
            lambda data: b"",
            lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
            lambda data: b"<html>" + data,
        ],
        ids=["cut", "empty", "one bit", "another file"],
    )
    def test_a_damaged_shard_is_reported_and_rebuilt(
        self, tmp_path, small_chunks, damage
    ):
        values = np.linspace(0.1, 0.9, 12).tolist()
        before = extract(Tape(values), tmp_path)
        first = shards(tmp_path)[0]
        whole = first.read_bytes()
        first.write_bytes(damage(whole))
        tape, problems = Tape(values), Problems()
        after = extract(tape, tmp_path, problems)
        np.testing.assert_array_equal(before.values, after.values)
        assert len(tape.reads) == 6
        assert problems.counts() == {"warning damaged_cache": 1}
        assert problems.rows[0].where == str(first)
        assert first.read_bytes() == whole

    def test_a_damaged_shard_stops_a_strict_run(self, tmp_path):
        extract(Tape([0.1]), tmp_path)
        shards(tmp_path)[0].write_bytes(b"")
        with pytest.raises(InputError, match="checksum differs"):
            extract(Tape([0.1]), tmp_path, Problems(strict=True))

    def test_what_a_killed_write_left_is_ignored(self, tmp_path):
        extract(Tape([0.1]), tmp_path)
        folder = shards(tmp_path)[0].parent
        (folder / ".half.1234").write_bytes(b"half a shard")
        problems = Problems()
        assert extract(Tape([0.1]), tmp_path, problems).num_cached == 1
        assert problems.rows == []

    def test_a_full_disk_keeps_what_was_written(
        self, tmp_path, small_chunks, monkeypatch
    ):
        values = np.linspace(0.1, 0.9, 12).tolist()
        write = type(tmp_path).write_bytes

        def full(path, data):
            if list(path.parent.glob("*.safetensors")):
                write(path, data[:10])
                raise OSError(28, "No space left on device")
            return write(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(type(tmp_path), "write_bytes", full)
            with pytest.raises(MachineError, match=r"No space left.*what was written"):
                extract(Tape(values), tmp_path)
        assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [
            ".safetensors"
        ]
        assert extract(Tape(values), tmp_path).num_cached == 6

    def test_a_cache_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(MachineError, match=r"features\.cache_dir"):
            extract(Tape([0.1]), tmp_path / "file")


class TestBadClips:
    def test_an_unreadable_clip_is_counted_and_not_valid(self, tmp_path):
        problems = Problems()
        found = extract(Tape([0.1, 0.2, 0.3], broken=[1]), tmp_path, problems)
        assert found.valid.tolist() == [True, False, True]
        assert problems.counts() == {"error unreadable_clip": 1}
        assert problems.rows[0].where == "clip 1"
        assert "not audio" in problems.rows[0].message
        np.testing.assert_array_equal(found.values[1], 0)

    def test_an_unreadable_clip_is_told_again_the_next_time(self, tmp_path):
        extract(Tape([0.1, 0.2], broken=[1]), tmp_path)
        problems = Problems()
        extract(Tape([0.1, 0.2], broken=[1]), tmp_path, problems)
        assert problems.counts() == {"error unreadable_clip": 1}

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_features_that_are_not_finite_are_told_from_encoder_and_cache(
        self, tmp_path, value
    ):
        for _ in range(2):
            problems = Problems()
            found = extract(Tape([0.1, value]), tmp_path, problems)
            assert found.valid.tolist() == [True, False]
            assert np.isfinite(found.values).all()
            assert problems.counts() == {"error not_finite_features": 1}
            assert problems.rows[0].where == "clip 1"

    def test_no_clip_can_be_read(self, tmp_path):
        with pytest.raises(InputError, match="none of its 2 clips can be read"):
            extract(Tape([0.1, 0.2], broken=[0, 1]), tmp_path)

    def test_a_corpus_without_audio(self, tmp_path):
        with pytest.raises(InputError, match="'toy' needs audio"):
            extract(Tape([0.1]), tmp_path, read_audio=None)

    def test_a_clip_without_content_hash_would_be_mistaken_for_another(self, tmp_path):
        with pytest.raises(InputError, match="'clip 1' has no content hash"):
            extract(Tape([0.1, 0.2]), tmp_path, content_hashes=("a", ""))

    def test_an_empty_clip_and_a_very_short_one(self, tmp_path):
        found = extract(Tape([0.5, 0.5], lengths=[0, 1]), tmp_path)
        np.testing.assert_array_equal(found.values, 0)


class TestPaddedLength:
    @given(st.integers(0, 2_000_000))
    @settings(deadline=None)
    def test_holds_the_clip_with_at_most_a_fifth_of_padding(self, length):
        padded = features.padded_length(length)
        assert padded >= length
        if length > 8000:
            assert padded - length <= 0.2 * padded + HOP

    def test_there_are_few_lengths(self):
        lengths = {features.padded_length(n) for n in range(0, 60 * 16000, 50)}
        assert len(lengths) < 30
        assert all(length % HOP == 0 for length in lengths)

    def test_it_grows_with_the_clip(self):
        lengths = [features.padded_length(n) for n in range(0, 300_000, 97)]
        assert lengths == sorted(lengths)

    @pytest.mark.parametrize(
        ("length", "padded"), [(0, 8000), (8000, 8000), (8001, 10000), (10000, 10000)]
    )
    def test_on_the_edge(self, length, padded):
        assert features.padded_length(length) == padded

    def test_batches_group_like_lengths_and_lose_nobody(self):
        lengths = [100, 9000, 200, 30000, 8001, 300, 400, 500]
        waveforms = {i: np.zeros(n, np.float32) for i, n in enumerate(lengths)}
        batches = list(features._batches(waveforms, 3))
        assert sorted(clip for batch, _ in batches for clip in batch) == list(range(8))
        for batch, length in batches:
            assert len(batch) <= 3
            assert {features.padded_length(lengths[i]) for i in batch} == {length}


class TestScaler:
    def test_standardises_to_mean_zero_and_deviation_one(self, rng):
        values = rng.normal(3.0, 5.0, (500, 2, 4)).astype(np.float32)
        scaler = features.fit_scaler(values)
        scaled = features.standardise(scaler, values)
        np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-5)
        np.testing.assert_allclose(scaler.mean, values.astype(float).mean(0), rtol=1e-5)
        assert scaled.dtype == scaler.scale.dtype == np.float32

    @pytest.mark.parametrize("constant", [0.0, 1e-12, 0.1, -1000.1, 1e6])
    def test_a_constant_feature_becomes_zero_not_nan(self, constant):
        values = np.full((50, 1, 1), constant, np.float32)
        scaler = features.fit_scaler(values)
        assert scaler.scale[0, 0] == 1
        scaled = features.standardise(scaler, values)
        np.testing.assert_allclose(scaled, 0, atol=1e-6 * max(abs(constant), 1))

    def test_one_sample(self):
        scaler = features.fit_scaler(np.full((1, 1, 2), 7.0, np.float32))
        assert (scaler.scale == 1).all()

    def test_it_is_kept_for_the_trained_models(self, rng, tmp_path):
        scaler = features.fit_scaler(rng.normal(size=(9, 2, 3)).astype(np.float32))
        features.save_scaler(tmp_path, scaler)
        found = features.load_scaler(tmp_path)
        for a, b in zip(scaler, found, strict=True):
            np.testing.assert_array_equal(a, b)
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(
        "data", [None, b"", b"no scaler", b"\x02" + bytes(7) + b"{}"]
    )
    def test_a_scaler_that_cannot_be_read(self, tmp_path, data):
        if data is not None:
            (tmp_path / features.SCALER_FILE).write_bytes(data)
        with pytest.raises(InputError, match="Train first"):
            features.load_scaler(tmp_path)

    def test_an_outlier_is_clipped(self, rng):
        scaler = features.fit_scaler(rng.normal(size=(100, 1, 1)).astype(np.float32))
        far = np.array([[[1e9]], [[-1e9]]], np.float32)
        np.testing.assert_array_equal(
            features.standardise(scaler, far)[:, 0, 0], [10, -10]
        )


def test_a_scaler_survives_its_file(tmp_path, rng):
    scaler = features.fit_scaler(rng.normal(size=(20, 2, 3)).astype(np.float32))
    features.save_scaler(tmp_path, scaler)
    for found, saved in zip(features.load_scaler(tmp_path), scaler, strict=True):
        np.testing.assert_array_equal(found, saved)


@pytest.mark.parametrize("content", [None, b"", b"not a tensor file"])
def test_a_missing_or_damaged_scaler_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / features.SCALER_FILE).write_bytes(content)
    with pytest.raises(InputError, match=features.SCALER_FILE):
        features.load_scaler(tmp_path)
