"""Extraction: by content, resumable to the bit, overlapping, bounded, never trusted."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from metaperser_jax import features
from metaperser_jax.errors import InputError, MachineError, Problems
from metaperser_jax.features import batching, extraction
from metaperser_jax.features.extraction import Effort, describe, part_of

_path = pathlib.Path(__file__).with_name("toys.py")
_spec = importlib.util.spec_from_file_location("toys", _path)
toys = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toys)

HOP, Tape, expected, shards = toys.HOP, toys.Tape, toys.expected, toys.shards
HALF = {"rtol": 2**-11, "atol": 1e-7}  # what half precision keeps


def extract(tape, folder, problems=None, encoder=None, batch_size=4, **changes):
    encoder, params = encoder or toys.toy_encoder()
    problems = problems if problems is not None else Problems()
    return features.extract(
        tape.corpus(**changes), encoder, params, folder, problems, batch_size=batch_size
    )


def fill(tape, folder, shard=(1, 1), encoder=None, problems=None):
    encoder, params = encoder or toys.toy_encoder()
    problems = problems if problems is not None else Problems()
    cache = features.open_cache(encoder, folder, problems)
    return features.fill(
        cache, tape.corpus(), encoder, params, problems, batch_size=4, shard=shard
    )


def run_script(code, *arguments, **environment):
    """Starts Python on code that finds `toys` and the package."""
    code = f"import sys; sys.path.insert(0, {str(_path.parent)!r})\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=pathlib.Path(__file__).parents[3],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(process, timeout=120):
    out, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


class TestExtraction:
    def test_every_clip_gets_its_own_features(self, tmp_path):
        values = np.linspace(0.1, 0.9, 11).tolist()
        found = extract(Tape(values), tmp_path)
        np.testing.assert_allclose(found.values, expected(values), **HALF)
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
        assert second.effort == Effort()
        np.testing.assert_array_equal(first.values, second.values)

    def test_only_new_clips_are_read(self, tmp_path):
        extract(Tape([0.1, 0.2]), tmp_path)
        tape = Tape([0.3, 0.2, 0.1, 0.4])
        found = extract(tape, tmp_path)
        assert sorted(tape.reads) == [0, 3]
        assert found.num_cached == 2
        np.testing.assert_allclose(found.values, expected([0.3, 0.2, 0.1, 0.4]), **HALF)

    def test_the_same_content_is_encoded_once(self, tmp_path):
        tape = Tape([0.5, 0.25, 0.5, 0.5, 0.25], lengths=[HOP] * 5)
        found = extract(tape, tmp_path)
        assert sorted(tape.reads) == [0, 1]
        assert found.effort.num_clips == 2
        np.testing.assert_array_equal(found.values, expected(tape.values))

    def test_a_renamed_clip_is_found_by_its_content(self, tmp_path):
        extract(Tape([0.1, 0.2]), tmp_path)
        tape = Tape([0.2, 0.1])
        found = extract(tape, tmp_path, clips=("new name", "other name"))
        assert tape.reads == []
        np.testing.assert_allclose(found.values, expected([0.2, 0.1]), **HALF)

    def test_another_encoder_never_mixes_in(self, tmp_path):
        extract(Tape([0.1, 0.2]), tmp_path)
        tape = Tape([0.1, 0.2])
        found = extract(tape, tmp_path, encoder=toys.toy_encoder(2.0))
        assert sorted(tape.reads) == [0, 1]
        np.testing.assert_allclose(
            found.values, expected([0.1, 0.2], scale=2.0), **HALF
        )
        assert len(list(tmp_path.iterdir())) == 2

    def test_features_do_not_depend_on_who_shares_the_batch(self, tmp_path):
        values = np.linspace(-0.9, 0.9, 9).tolist()
        together = extract(Tape(values), tmp_path / "together").values
        for clip, value in enumerate(values):
            tape = Tape([value], lengths=[HOP * (1 + clip % 3)])
            alone = extract(tape, tmp_path / f"alone {clip}").values
            np.testing.assert_array_equal(alone[0], together[clip])

    def test_what_is_fixed_is_computed_once(self, tmp_path):
        encoder, params = toys.toy_encoder()
        prepared = []

        def prepare_fn(params):
            prepared.append(True)
            return {"scale": params["scale"] * 2}  # to see that it is used

        encoder = encoder._replace(prepare_fn=prepare_fn)
        found = extract(Tape([0.25, 0.5] * 9), tmp_path, encoder=(encoder, params))
        assert prepared == [True]
        np.testing.assert_array_equal(found.values, 2 * expected([0.25, 0.5] * 9))

    def test_the_corpus_takes_one_file(self, tmp_path):
        extract(Tape(np.linspace(0.1, 0.9, 50).tolist()), tmp_path)
        assert len(shards(tmp_path)) == 1


class TestStages:
    def test_clips_are_read_side_by_side_and_not_too_many(self, tmp_path):
        tape = Tape(np.linspace(0, 1, 30).tolist(), delays=[0.01] * 30)
        extract(tape, tmp_path)
        assert 1 < tape.most_reading <= extraction.NUM_READERS

    def test_reading_goes_on_while_a_batch_is_encoded(self, tmp_path):
        tape = Tape(np.linspace(0, 1, 8).tolist(), lengths=[HOP] * 8)
        encoder, params = toys.toy_encoder()
        seen = []

        def pooled_fn(params, waveforms, lengths):
            seen.append(threading.current_thread().name)
            deadline = time.monotonic() + 20
            while len(tape.reads) < 8 and time.monotonic() < deadline:
                time.sleep(0.001)
            seen.append(len(tape.reads))
            return encoder.pooled_fn(params, waveforms, lengths)

        extract(tape, tmp_path, encoder=(encoder._replace(pooled_fn=pooled_fn), params))
        assert seen[0].startswith("compiling")  # traced, so called, there
        assert seen[1] == 8

    @pytest.mark.parametrize("most", [1, 3])
    def test_waveforms_held_do_not_grow_with_the_clips(self, tmp_path, most):
        held = {}
        for count in (100, 400):
            lengths = [HOP * (1 + 20 * (i % most)) for i in range(count)]
            tape = Tape(np.linspace(0, 1, count).tolist(), lengths)
            extract(tape, tmp_path / str(count))
            held[count] = tape.most_held
            assert tape.now_held == 0
        window = extraction.READ_AHEAD + 1 + 2 * 4 + 4 * most
        assert held[100] <= window
        assert held[400] <= window

    @pytest.mark.parametrize(("many", "ratio"), [(120, 1.125), (121, 1.25)])
    def test_each_shape_is_compiled_once(self, tmp_path, monkeypatch, many, ratio):
        monkeypatch.setattr(extraction, "MANY_CLIPS", many)
        traces = []
        lengths = [HOP * (1 + 7 * i % 100) for i in range(120)]
        tape = Tape(np.linspace(0, 1, 120).tolist(), lengths)
        found = extract(tape, tmp_path, encoder=toys.toy_encoder(traces=traces))
        shapes = {(4, batching.padded_length(n, ratio)) for n in lengths}
        assert len(traces) == len(set(traces)) == found.effort.num_compilations
        assert set(traces) <= shapes
        assert found.effort.num_compilations <= 15

    def test_one_batch_size_for_each_length_where_memory_decides(self, tmp_path):
        traces = []
        lengths = [HOP * (1 + 7 * i % 100) for i in range(120)]
        tape = Tape(np.linspace(0, 1, 120).tolist(), lengths)
        encoder, params = toys.toy_encoder(traces=traces)
        found = features.extract(
            tape.corpus(), encoder, params, tmp_path, Problems(), memory_gb=1e-3
        )
        np.testing.assert_allclose(found.values, expected(tape.values), **HALF)
        shapes = traces[-found.effort.num_compilations :]  # before: what they take
        assert len({length for _, length in shapes}) == len(shapes)
        taken = [rows * length * 4 for rows, length in shapes]
        assert 1e6 / 8 < max(taken) < 1e6
        assert min(shapes)[1] > max(shapes)[1]  # fewer of the longer ones


class TestEffort:
    def test_it_is_counted(self, tmp_path):
        lengths = [8000] * 9 + [4000]
        tape = Tape(np.linspace(0.1, 1, 10).tolist(), lengths)
        effort = extract(tape, tmp_path).effort
        assert effort.num_clips == 10
        assert effort.num_batches == 3
        assert effort.num_compilations == 1
        assert effort.samples == 9 * 8000 + 4000
        assert effort.padded_samples == 3 * 4 * 8000
        assert effort.encoder_seconds > 0
        assert effort.compile_seconds > 0
        total = effort.encoder_seconds + effort.compile_seconds
        assert total <= effort.wall_seconds

    def test_it_is_told_in_one_line(self):
        effort = Effort(40, 6, 3, 40 * 16000, 50 * 16000, 12.0, 9.0, 2.0)
        assert describe(effort) == (
            "40 encoded, 40 s of audio in 12.0 s (3.3 times real time), "
            "3 compilations, 2.0 s waited for them, the encoder 90% of the rest, "
            "20% padding"
        )


class TestInterruptions:
    def stop_at(self, tape, clip, error):
        def read(wanted):
            if wanted == clip:
                raise error
            return tape.read(wanted)

        return read

    def test_after_an_error_what_was_begun_is_kept(self, tmp_path):
        tape = Tape(np.linspace(0.1, 0.9, 20).tolist())
        read = self.stop_at(tape, 10, RuntimeError("the reader failed"))
        with pytest.raises(RuntimeError, match="the reader failed"):
            extract(tape, tmp_path, read_audio=read)
        tape.reads.clear()
        resumed = extract(tape, tmp_path)
        assert sorted(tape.reads) == list(range(8, 20))  # two batches were there
        assert resumed.num_cached == 8

    @pytest.mark.parametrize("stop", [11, 25, 39])
    def test_a_stopped_and_resumed_run_gives_the_same_bits(self, tmp_path, rng, stop):
        lengths = [HOP * (1 + 20 * i) for i in rng.integers(0, 3, 40)]
        values, encoder = np.linspace(0, 1, 40).tolist(), toys.touchy_encoder()
        tape = Tape(values, lengths, broken=[5, 8, 30])
        whole = extract(tape, tmp_path / "whole", encoder=encoder)
        read = self.stop_at(tape, stop, RuntimeError("stop"))
        with pytest.raises(RuntimeError, match="stop"):
            extract(tape, tmp_path / "parts", encoder=encoder, read_audio=read)
        resumed = extract(tape, tmp_path / "parts", encoder=encoder)
        assert 0 < resumed.num_cached < 37
        np.testing.assert_array_equal(whole.values, resumed.values)
        np.testing.assert_array_equal(whole.valid, resumed.valid)

    def test_a_damaged_shard_is_told_and_rebuilt(self, tmp_path):
        tape = Tape(np.linspace(0.1, 0.9, 12).tolist())
        before = extract(tape, tmp_path)
        (first,) = shards(tmp_path)
        first.write_bytes(first.read_bytes()[:-1])
        problems = Problems()
        after = extract(tape, tmp_path, problems)
        np.testing.assert_array_equal(before.values, after.values)
        assert problems.counts() == {"warning damaged_cache": 1}

    def test_a_full_disk_keeps_what_was_written(self, tmp_path, monkeypatch):
        tape = Tape(np.linspace(0.1, 0.9, 12).tolist())
        write = pathlib.Path.write_bytes

        def full(path, data):
            if list(path.parent.glob("*.safetensors")):
                write(path, data[:10])
                raise OSError(28, "No space left on device")
            return write(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "write_bytes", full)
            with pytest.raises(MachineError, match=r"No space left.*what was written"):
                extract(tape, tmp_path)
        assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [
            ".safetensors"
        ]
        assert extract(tape, tmp_path).num_cached == 4

    def test_no_thread_is_left_behind(self, tmp_path):
        before = threading.active_count()
        extract(Tape([0.1, 0.2]), tmp_path)
        with pytest.raises(InputError):
            extract(Tape([0.3], broken=[0]), tmp_path)
        assert threading.active_count() <= before


EXTRACT_SLOWLY = """
import json, os, pathlib, toys
import numpy as np
from metaperser_jax import features
from metaperser_jax.errors import Problems

tape = toys.Tape(np.linspace(0, 1, 60).tolist())
seconds = float(sys.argv[2])
tell = (lambda: print("encoding", flush=True)) if seconds > 1 else lambda: None
encoder, params = toys.slow_encoder(seconds, tell)
print("started", flush=True)
try:
    found = features.extract(
        tape.corpus(), encoder, params, pathlib.Path(sys.argv[1]), Problems(),
        batch_size=4,
    )
except KeyboardInterrupt:
    print("interrupted", flush=True)
    os._exit(130)
print(json.dumps([found.num_cached, len(tape.reads), found.values.tolist()]))
"""


def wait_for_shards(folder, count, process):
    deadline = time.monotonic() + 60
    while len(shards(folder)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def num_kept(folder):
    """Clips in the cache."""
    encoder, _ = toys.toy_encoder()
    return len(features.open_cache(encoder, folder, Problems()).samples)


class TestBeingKilled:
    def test_killed_at_any_time_at_most_the_batches_in_flight_are_lost(self, tmp_path):
        rng = np.random.default_rng(0)
        kept = 0
        for num_shards in (2, 5):
            process = run_script(EXTRACT_SLOWLY, tmp_path, 0.05)
            wait_for_shards(tmp_path, len(shards(tmp_path)) + num_shards, process)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            now = num_kept(tmp_path)
            assert now >= kept + 4 * num_shards
            kept = now
        whole = output_of(run_script(EXTRACT_SLOWLY, tmp_path / "whole", 0))
        resumed = output_of(run_script(EXTRACT_SLOWLY, tmp_path, 0))
        assert resumed[0] == kept
        assert resumed[1] == 60 - kept  # nothing is read, or encoded, again
        assert resumed[2] == whole[2]

    def test_interrupted_it_ends_at_once_and_keeps_what_is_finished(self, tmp_path):
        process = run_script(EXTRACT_SLOWLY, tmp_path, 0.05)
        wait_for_shards(tmp_path, 3, process)
        process.kill()
        process.communicate()
        kept = num_kept(tmp_path)
        process = run_script(EXTRACT_SLOWLY, tmp_path, 60)
        assert process.stdout.readline() == "started\n"
        assert process.stdout.readline() == "encoding\n"  # for a minute
        time.sleep(0.5)  # the next batch waits
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=50)
        assert time.monotonic() - begun < 5
        assert (process.returncode, out) == (130, "interrupted\n"), errors
        assert num_kept(tmp_path) == kept >= 12


class TestBadClips:
    def test_an_unreadable_clip_is_counted_and_not_valid(self, tmp_path):
        problems = Problems()
        found = extract(Tape([0.1, 0.2, 0.3], broken=[1]), tmp_path, problems)
        assert found.valid.tolist() == [True, False, True]
        assert problems.counts() == {"error unreadable_clip": 1}
        assert problems.rows[0].where == "clip 1"
        assert "not audio" in problems.rows[0].message
        np.testing.assert_array_equal(found.values[1], 0)

    def test_each_clip_with_unreadable_content_is_told(self, tmp_path):
        problems = Problems()
        tape = Tape([0.1, 0.2, 0.1], broken=[0, 2])
        assert extract(tape, tmp_path, problems).valid.tolist() == [False, True, False]
        assert [row.where for row in problems.rows] == ["clip 0", "clip 2"]

    def test_an_unreadable_clip_is_told_again_the_next_time(self, tmp_path):
        extract(Tape([0.1, 0.2], broken=[1]), tmp_path)
        problems = Problems()
        extract(Tape([0.1, 0.2], broken=[1]), tmp_path, problems)
        assert problems.counts() == {"error unreadable_clip": 1}

    def test_what_threads_report_comes_in_the_same_order_always(self, tmp_path, rng):
        orders = []
        for turn in range(3):
            delays = rng.uniform(0, 0.01, 20).tolist()
            tape = Tape([-2.0 - i for i in range(20)], broken=[3, 11], delays=delays)
            extract(tape, tmp_path / str(turn), tape.problems)
            orders.append(tape.problems.rows)
        assert orders[0] == orders[1] == orders[2]
        assert len(orders[0]) == 20

    def test_an_unreadable_clip_stops_a_strict_run(self, tmp_path):
        with pytest.raises(InputError, match="clip 1: clip 1: not audio"):
            extract(
                Tape([0.1, 0.2, 0.3], broken=[1, 2]), tmp_path, Problems(strict=True)
            )

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

    def test_features_beyond_half_precision_are_kept(self, tmp_path):
        found = extract(Tape([300.0, 2.0]), tmp_path)
        np.testing.assert_array_equal(found.values, expected([300.0, 2.0]))
        assert found.valid.all()

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
        found = extract(Tape([0.5, 0.25], lengths=[0, 1]), tmp_path)
        np.testing.assert_array_equal(found.values, 0)


class TestShards:
    def test_parts_together_are_the_whole(self, tmp_path):
        tape = Tape(np.linspace(0.1, 0.9, 30).tolist())
        counts = [fill(tape, tmp_path, (i, 3)).num_clips for i in (1, 2, 3)]
        assert sum(counts) == 30
        assert min(counts) > 3
        tape.reads.clear()
        found = extract(tape, tmp_path)
        assert tape.reads == []
        assert found.num_cached == 30
        np.testing.assert_allclose(found.values, expected(tape.values), **HALF)

    def test_the_part_follows_from_the_content(self, tmp_path):
        values = np.linspace(0.1, 0.9, 30).tolist()
        fill(Tape(values), tmp_path, (1, 3))
        assert fill(Tape(values[::-1]), tmp_path, (1, 3)).num_clips == 0

    def test_parts_are_of_like_size(self):
        parts = [part_of(f"{i:064x}", 7) for i in range(7000)]
        counts = np.bincount(parts, minlength=8)
        assert counts[0] == 0
        assert 900 < counts[1:].min() <= counts[1:].max() < 1100

    def test_a_part_may_be_empty_or_unreadable(self, tmp_path):
        values = [0.5]
        number = part_of("hash of 0.5", 9)
        assert fill(Tape(values), tmp_path, (number % 9 + 1, 9)).num_clips == 0
        problems = Problems()
        broken = Tape(values, broken=[0])
        assert fill(broken, tmp_path, (number, 9), problems=problems).num_clips == 0
        assert problems.counts() == {"error unreadable_clip": 1}

    def test_processes_fill_one_folder_at_the_same_time(self, tmp_path):
        tape = Tape(np.linspace(0.1, 0.9, 60).tolist())
        threads = [
            threading.Thread(target=fill, args=(tape, tmp_path, (i, 3)))
            for i in (1, 2, 3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = extract(tape, tmp_path)
        assert found.num_cached == 60
        np.testing.assert_allclose(found.values, expected(tape.values), **HALF)


ON_DEVICES = """
import json, pathlib, jax, toys
import numpy as np
from metaperser_jax import features
from metaperser_jax.errors import Problems
from metaperser_jax.features.extraction import Device

encoder, params = toys.speech(
    num_hidden_layers=2, conv_dim=(32,) * 7, model_type="wavlm"
)
rng = np.random.default_rng(0)
waveforms = rng.normal(0, 0.1, (8, 8000)).astype(np.float32)
device = Device(encoder, params)
pooled = device.encode(waveforms, np.array([8000, 5000] * 4, np.int32))

tape = toys.Tape(np.linspace(0, 1, 21).tolist())
toy, toy_params = toys.toy_encoder()
found = features.extract(
    tape.corpus(), toy, toy_params, pathlib.Path(sys.argv[1]), Problems(), batch_size=6
)
print(json.dumps([
    len(jax.devices()), pooled.tolist(), found.values.tolist(),
    found.effort.num_batches, found.effort.padded_samples,
]))
"""


class TestDevices:
    def test_four_devices_give_what_one_gives(self, tmp_path):
        flags = {
            n: {"XLA_FLAGS": f"--xla_force_host_platform_device_count={n}"}
            for n in (1, 4)
        }
        processes = [
            run_script(ON_DEVICES, tmp_path / str(n), **flags[n]) for n in flags
        ]
        one, four = map(output_of, processes)
        assert (one[0], four[0]) == (1, 4)
        np.testing.assert_allclose(four[1], one[1], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(four[2], one[2], rtol=1e-6, atol=1e-6)
        assert (one[3], four[3]) == (4, 3)  # 21 clips, 6 or 8 at a time
        assert four[4] == 3 * 8 * 8000


WITHIN_MEMORY = """
import json, pathlib, jax, toys
import numpy as np
from metaperser_jax import features
from metaperser_jax.errors import Problems

def peak():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

encoder, params = toys.speech(num_hidden_layers=1, conv_dim=(512, *[32] * 6))

def extract(count, seconds, folder, memory):
    tape = toys.Tape(np.linspace(0.1, 0.9, count).tolist(), [16000 * seconds] * count)
    encoded = features.extract(
        tape.corpus(), encoder, params, pathlib.Path(sys.argv[1]) / folder, Problems(),
        memory_gb=memory,
    )
    return encoded.effort

extract(1, 1, "warm", 0.1)
before = peak()
effort = extract(8, 10, "measured", 0.7)
print(json.dumps([peak() - before, effort.num_batches]))
"""


def test_memory_stays_within_the_budget(tmp_path):
    taken, num_batches = output_of(run_script(WITHIN_MEMORY, tmp_path))
    assert num_batches == 4  # two clips of ten seconds at a time
    assert 0.2e9 < taken < 0.7e9
