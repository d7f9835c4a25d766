"""The cache: what goes in comes out, whatever kills, damages or shares its folder."""

import json
import pathlib
import shutil

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open

from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.features import cache as cache_lib
from metaperser_jax.features.cache import Contents, FeatureCache

CONTENTS = Contents("toy", "f" * 64, "main", "16000 Hz")
LAYERS, WIDTH = 2, 3


def opened(folder, problems=None, contents=CONTENTS):
    return FeatureCache(folder, contents, problems or Problems())


def states(number):
    """Hidden states that float16 holds exactly."""
    return np.arange(LAYERS * WIDTH, dtype=np.float32).reshape(LAYERS, WIDTH) + number


def add(cache, *numbers):
    """Adds clips '7', '8', ... in one batch."""
    cache.add({str(n): states(n) for n in numbers}, {str(n): 100 * n for n in numbers})


def loaded(cache, *numbers):
    return cache.load([str(n) for n in numbers], LAYERS, WIDTH)


def shards(folder):
    return sorted(folder.rglob("*.safetensors"))


def assert_holds(cache, *numbers):
    values, found = loaded(cache, *numbers)
    assert found.all()
    np.testing.assert_array_equal(values, [states(n) for n in numbers])
    assert {str(n): 100 * n for n in numbers}.items() <= cache.samples.items()


class TestContent:
    def test_what_was_added_is_there_for_the_next(self, tmp_path):
        cache = opened(tmp_path)
        add(cache, 1, 2)
        add(cache, 3)
        assert_holds(cache, 3, 1, 2)
        assert_holds(opened(tmp_path), 3, 1, 2)

    def test_what_is_not_there_is_told_and_zero(self, tmp_path):
        cache = opened(tmp_path)
        add(cache, 1)
        values, found = loaded(cache, 5, 1, 1)
        assert found.tolist() == [False, True, True]
        np.testing.assert_array_equal(values, [0 * states(1), states(1), states(1)])
        assert values.dtype == np.float32

    @hypothesis.given(
        hnp.arrays(
            np.float32,
            (LAYERS, WIDTH),
            elements=st.floats(-6e4, 6e4, width=32),
        )
    )
    @hypothesis.settings(
        deadline=None,
        max_examples=50,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    )
    def test_values_are_rounded_to_half_precision(self, tmp_path, values):
        cache = opened(tmp_path)
        cache.add({"x": values}, {"x": 1})
        (found,), _ = cache.load(["x"], LAYERS, WIDTH)
        np.testing.assert_array_equal(found, values.astype(np.float16))
        np.testing.assert_allclose(found, values, rtol=2**-11, atol=2**-25)
        for path in shards(tmp_path):
            path.unlink()

    @pytest.mark.parametrize("large", [65520.0, -1e5, 3e38])
    def test_what_half_precision_cannot_hold_stays_as_it_is(self, tmp_path, large):
        wide = states(0) + np.float32(1e-4)
        wide[1, 1] = large
        cache = opened(tmp_path)
        cache.add({"wide": wide, "1": states(1)}, {"wide": 1, "1": 1})
        values, _ = opened(tmp_path).load(["wide", "1"], LAYERS, WIDTH)
        np.testing.assert_array_equal(values, [wide, states(1)])
        (shard,) = shards(tmp_path)
        with safe_open(shard, "np") as file:
            kept = [file.get_tensor(name).dtype.name for name in ("wide", "1")]
        assert kept == ["float32", "float16"]

    def test_what_is_not_finite_comes_back_as_it_was(self, tmp_path):
        odd = np.array([[np.nan, np.inf, 1], [-np.inf, 0, 1]], np.float32)
        cache = opened(tmp_path)
        cache.add({"odd": odd}, {"odd": 1})
        (values,), _ = cache.load(["odd"], LAYERS, WIDTH)
        np.testing.assert_array_equal(values, odd)

    def test_a_shard_tells_what_it_holds(self, tmp_path):
        add(opened(tmp_path), 1, 2)
        (path,) = shards(tmp_path)
        with safe_open(path, "np") as file:
            note = json.loads(file.metadata()["metaperser_jax"])
        assert note == {
            "format": 2,
            "version": "0.1.0",
            "encoder": "toy",
            "fingerprint": "f" * 64,
            "revision": "main",
            "reading": "16000 Hz",
            "samples": {"1": 100, "2": 200},
        }

    def test_the_same_clips_make_the_same_file(self, tmp_path):
        for side in ("a", "b"):
            add(opened(tmp_path / side), 1, 2)
        a, b = shards(tmp_path)
        assert a.relative_to(tmp_path / "a") == b.relative_to(tmp_path / "b")
        assert a.read_bytes() == b.read_bytes()

    @pytest.mark.parametrize("changed", [{"fingerprint": "g"}, {"reading": "8000 Hz"}])
    def test_another_encoder_has_another_folder(self, tmp_path, changed):
        add(opened(tmp_path), 1)
        other = opened(tmp_path, contents=CONTENTS._replace(**changed))
        assert other.samples == {}
        assert len(list(tmp_path.iterdir())) == 2


class TestMerging:
    def test_small_shards_become_few(self, tmp_path):
        cache = opened(tmp_path)
        for number in range(100):
            add(cache, number)
        assert len(shards(tmp_path)) < 2 * cache_lib.MAX_SMALL
        cache.merge()
        assert len(shards(tmp_path)) == 1
        assert_holds(cache, *range(100))
        assert_holds(opened(tmp_path), *range(100))

    def test_large_shards_are_left_alone(self, tmp_path, monkeypatch):
        cache = opened(tmp_path)
        add(cache, *range(10))
        (large,) = shards(tmp_path)
        monkeypatch.setattr(cache_lib, "SHARD_BYTES", large.stat().st_size)
        add(cache, 10)
        add(cache, 11)
        cache.merge()
        assert len(shards(tmp_path)) == 2
        assert large.exists()
        assert_holds(cache, *range(12))

    def test_merged_shards_are_of_bounded_size(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cache_lib, "SHARD_BYTES", 2000)
        cache = opened(tmp_path)
        for number in range(64):
            add(cache, number)
        cache.merge()
        sizes = [path.stat().st_size for path in shards(tmp_path)]
        assert max(sizes) < 2 * 2000
        assert len(sizes) > 3
        assert_holds(cache, *range(64))

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
    def test_stopped_before_the_small_ones_are_gone(self, tmp_path, monkeypatch, error):
        cache = opened(tmp_path)
        for number in range(5):
            add(cache, number)
        gone = []

        def unlink(path, missing_ok=False, unlink=pathlib.Path.unlink):
            if len(gone) == 2:
                raise error
            gone.append(path)
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "unlink", unlink)
            try:
                cache.merge()
            except KeyboardInterrupt:
                assert error is KeyboardInterrupt
        assert len(shards(tmp_path)) == 4  # three small ones, and all of them
        problems = Problems()
        again = opened(tmp_path, problems)
        assert_holds(again, *range(5))
        # What all of them make is one that is there already: it must not be removed.
        again.merge()
        assert len(shards(tmp_path)) == 1
        assert_holds(opened(tmp_path, problems), *range(5))
        assert problems.rows == []

    def test_no_room_to_merge_is_no_fault(self, tmp_path, monkeypatch):
        cache = opened(tmp_path)
        add(cache, 1)
        add(cache, 2)

        def full(path, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pathlib.Path, "write_bytes", full)
        cache.merge()
        assert len(list(shards(tmp_path)[0].parent.iterdir())) == 2
        assert_holds(cache, 1, 2)

    def test_a_damaged_shard_is_not_merged_into_others(self, tmp_path):
        cache = opened(tmp_path)
        for number in range(3):
            add(cache, number)
        shards(tmp_path)[1].write_bytes(b"damaged")
        cache.merge()
        assert len(shards(tmp_path)) == 2
        problems = Problems()
        assert len(opened(tmp_path, problems).samples) == 2
        assert problems.counts() == {"warning damaged_cache": 1}


class TestSeveralProcesses:
    def test_what_another_one_merges_is_still_read(self, tmp_path):
        ours, other = opened(tmp_path), opened(tmp_path)
        for number in range(4):
            add(ours, number)
        other.merge()
        assert_holds(ours, *range(4))
        add(ours, 4)
        ours.merge()
        assert_holds(opened(tmp_path), *range(5))

    @pytest.mark.parametrize("when", ["opening", "loading"])
    def test_a_shard_that_goes_while_others_are_read(self, tmp_path, monkeypatch, when):
        ours, other = opened(tmp_path), opened(tmp_path)
        add(ours, 1)
        add(ours, 2)
        read = cache_lib.read_shard
        merged = []

        def read_late(path, contents):
            if not merged:
                merged.append(True)
                other.merge()  # the list of shards has been made already
            return read(path, contents)

        monkeypatch.setattr(cache_lib, "read_shard", read_late)
        assert_holds(opened(tmp_path) if when == "opening" else ours, 1, 2)
        assert merged

    def test_both_merge_the_same_shards(self, tmp_path, monkeypatch):
        ours, other = opened(tmp_path), opened(tmp_path)
        for number in range(4):
            add(ours, number)
        write = FeatureCache._write
        turns = []

        def write_after_the_other(cache, shard):
            if cache is ours and not turns:
                turns.append(True)
                other.merge()
            return write(cache, shard)

        monkeypatch.setattr(FeatureCache, "_write", write_after_the_other)
        ours.merge()
        assert turns
        assert_holds(opened(tmp_path), *range(4))
        assert len(shards(tmp_path)) == 1

    def test_half_written_files_of_others_are_ignored(self, tmp_path):
        add(opened(tmp_path), 1)
        folder = shards(tmp_path)[0].parent
        (folder / ".half.1234.abcd").write_bytes(b"half a shard")
        problems = Problems()
        cache = opened(tmp_path, problems)
        cache.merge()
        assert list(cache.samples) == ["1"]
        assert problems.rows == []

    def test_scratch_files_have_names_of_their_own(self, tmp_path, monkeypatch):
        names = []

        def record(path, data, write=pathlib.Path.write_bytes):
            names.append(path.name)
            return write(path, data)

        monkeypatch.setattr(pathlib.Path, "write_bytes", record)
        for _ in range(2):
            add(opened(tmp_path), 1)
        assert len(set(names)) == 2
        assert all(name.startswith(".") for name in names)

    def test_features_that_vanish_are_told(self, tmp_path):
        cache = opened(tmp_path)
        add(cache, 1)
        shards(tmp_path)[0].unlink()
        with pytest.raises(MachineError, match="1 clips have vanished"):
            loaded(cache, 1)


class TestFaults:
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
    def test_a_damaged_shard_is_told_and_removed(self, tmp_path, damage):
        cache = opened(tmp_path)
        add(cache, 1)
        (first,) = shards(tmp_path)
        add(cache, 2)
        first.write_bytes(damage(first.read_bytes()))
        problems = Problems()
        again = opened(tmp_path, problems)
        assert list(again.samples) == ["2"]
        assert problems.counts() == {"warning damaged_cache": 1}
        assert problems.rows[0].where == str(first)
        assert not first.exists()

    def test_a_damaged_shard_stops_a_strict_run(self, tmp_path):
        add(opened(tmp_path), 1)
        shards(tmp_path)[0].write_bytes(b"")
        with pytest.raises(InputError, match="checksum differs"):
            opened(tmp_path, Problems(strict=True))

    @pytest.mark.parametrize("changed", [{"fingerprint": "g"}, {"reading": "8000 Hz"}])
    def test_a_shard_of_another_encoder_is_ignored_and_kept(self, tmp_path, changed):
        add(opened(tmp_path), 1)
        contents = CONTENTS._replace(**changed)
        other = opened(tmp_path, contents=contents)
        copy = other.folder / shards(tmp_path)[0].name
        shutil.copy(shards(tmp_path)[0], copy)
        problems = Problems()
        again = opened(tmp_path, problems, contents)
        assert again.samples == {}
        (row,) = problems.rows
        assert row.kind == "foreign_cache"
        assert next(iter(changed.values())) in row.message
        assert copy.exists()
        assert not loaded(again, 1)[1].any()

    def test_a_full_disk_keeps_what_was_written(self, tmp_path, monkeypatch):
        cache = opened(tmp_path)
        add(cache, 1)

        def full(path, data, write=pathlib.Path.write_bytes):
            write(path, data[:10])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "write_bytes", full)
            with pytest.raises(MachineError, match=r"No space left.*what was written"):
                add(cache, 2)
        assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [
            ".safetensors"
        ]
        assert list(cache.samples) == ["1"]
        assert_holds(opened(tmp_path), 1)

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(MachineError, match=r"features\.cache_dir"):
            opened(tmp_path / "file")
